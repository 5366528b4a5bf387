//! Processes that run beside this one, and what processes used, as the kernel counts it.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use crate::redis_server::RedisServer;

/// The kernel's unit for times of processes on Linux, in microseconds.
const TICK_US: u64 = 10_000;

/// The processes of Redis servers, as these tell them.
pub(crate) async fn of(servers: &[RedisServer]) -> Vec<u32> {
    let mut processes = Vec::new();
    for server in servers {
        let info: String = server.run(&["INFO", "server"]).await;
        let told = info.lines().find_map(|line| line.strip_prefix("process_id:"));
        processes.extend(told.and_then(|id| id.trim().parse::<u32>().ok()));
    }
    processes
}

/// What the kernel tells of a process, from its state on.
fn stat(process: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before, in parentheses, may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Processor time that a process has used so far, in microseconds; 0 if that cannot be told.
pub(crate) fn used_us(process: u32) -> u64 {
    // User and system time are the 14th and 15th of all fields.
    let ticks = stat(process).unwrap_or_default().into_iter().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_US
}

/// A program with all that it starts itself: killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon(Child);

impl Daemon {
    /// Starts it, in silence, as the leader of a group of processes.
    pub(crate) fn start(command: &mut Command) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.process_group(0).spawn();
        let program = command.get_program().display();
        started.map(Self).map_err(|error| format!("{program} cannot be started: {error}"))
    }

    /// Itself and what it started.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let group = self.0.id().to_string();
        let Ok(entries) = std::fs::read_dir("/proc") else { return vec![self.0.id()] };
        let all = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        all.filter(|&process| stat(process).is_some_and(|stat| stat.get(2) == Some(&group)))
            .collect()
    }

    /// Fails if it has ended.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.0.try_wait() {
            Ok(Some(status)) => Err(format!("it ended: {status}")),
            _ => Ok(()),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

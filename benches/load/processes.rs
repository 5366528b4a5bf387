//! What processes used, as the kernel counts it.

use std::process::Command;

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

/// Processor time that a process has used so far, in microseconds; 0 if that cannot be told.
pub(crate) fn used_us(process: u32) -> u64 {
    let Ok(text) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return 0 };
    // The name, in parentheses, may hold anything; user and system time are the 14th and 15th.
    let Some((_, rest)) = text.rsplit_once(')') else { return 0 };
    let ticks = rest.split_whitespace().skip(11).take(2);
    ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * TICK_US
}

/// A program that runs beside this one and is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon(std::process::Child);

impl Daemon {
    pub(crate) fn start(program: &str, arguments: &[String]) -> Result<Self, String> {
        let null = std::process::Stdio::null;
        Command::new(program)
            .args(arguments)
            .stdin(null())
            .stdout(null())
            .stderr(null())
            .spawn()
            .map(Self)
            .map_err(|error| format!("{program} cannot be started: {error}"))
    }

    pub(crate) fn process(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

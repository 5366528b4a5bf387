//! The processes of workers, as seen from the run: started, told what to do, killed, started again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, watch};
use tokio::time::{sleep, timeout};

use super::worker::{Line, Order, SETTINGS, Settings};
use crate::oracles::Entry;

/// How long the last calls of workers may take.
const LAST_CALLS: Duration = Duration::from_secs(30);

/// A process of workers, over all its lives.
#[derive(Debug)]
pub(crate) struct Crew {
    settings: Settings,
    again: Vec<String>,
    level: String,
    logs: PathBuf,
    running: Mutex<Running>,
    said: watch::Sender<Said>,
}

#[derive(Debug, Default)]
struct Running {
    child: Option<(Child, ChildStdin)>,
    /// How often it was started.
    starts: u64,
    /// What it works on, by the queue of jobs.
    work: BTreeMap<String, Work>,
}

#[derive(Debug, Clone)]
struct Work {
    round: u64,
    events: String,
    logs: Vec<PathBuf>,
}

/// What processes have said, and how many of them were killed.
#[derive(Debug, Clone, Default)]
struct Said {
    ended: BTreeSet<String>,
    killed: u64,
}

impl Crew {
    pub(crate) async fn start(
        settings: Settings,
        again: &[String],
        level: &str,
        logs: &Path,
    ) -> Result<Self, String> {
        let crew = Self {
            settings,
            again: again.to_vec(),
            level: level.to_owned(),
            logs: logs.to_owned(),
            running: Mutex::default(),
            said: watch::Sender::default(),
        };
        crew.start_again(&mut *crew.running.lock().await).await?;
        Ok(crew)
    }

    async fn start_again(&self, running: &mut Running) -> Result<(), String> {
        let settings = Settings { start: running.starts, ..self.settings.clone() };
        running.starts += 1;
        let settings = serde_json::to_string(&settings).map_err(told)?;
        let log = self.logs.join(format!("workers-{}.log", self.settings.crew));
        let errors = OpenOptions::new().create(true).append(true).open(log).map_err(told)?;
        let mut command = Command::new(std::env::current_exe().map_err(told)?);
        command.args(&self.again).env(SETTINGS, settings).env("RUST_LOG", &self.level);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| format!("no workers: {error}"))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("workers without pipes".into());
        };
        tokio::spawn(listen(output, self.said.clone()));
        running.child = Some((child, input));
        let work: Vec<String> = running.work.keys().cloned().collect();
        for jobs in work {
            self.begin_now(running, &jobs).await?;
        }
        Ok(())
    }

    /// Has it claim from `jobs` and post to `events`.
    pub(crate) async fn begin(&self, round: u64, jobs: &str, events: &str) -> Result<(), String> {
        let mut running = self.running.lock().await;
        let work = Work { round, events: events.to_owned(), logs: Vec::new() };
        running.work.insert(jobs.to_owned(), work);
        self.begin_now(&mut running, jobs).await
    }

    async fn begin_now(&self, running: &mut Running, jobs: &str) -> Result<(), String> {
        let file = format!("{jobs}-workers-{}.{}.jsonl", self.settings.crew, running.starts - 1);
        let log = self.logs.join(file);
        let Some(work) = running.work.get_mut(jobs) else { return Ok(()) };
        work.logs.push(log.clone());
        let (round, events) = (work.round, work.events.clone());
        running.tell(&Order::Begin { round, jobs: jobs.to_owned(), events, log }).await
    }

    /// Ends its work on `jobs`; all that its processes asked there and were told.
    pub(crate) async fn end(
        &self,
        jobs: &str,
        now_ms: impl Fn() -> u64,
    ) -> Result<Vec<Entry>, String> {
        let mut running = self.running.lock().await;
        // Whoever is killed from now on does not begin with it again.
        let Some(work) = running.work.remove(jobs) else { return Ok(Vec::new()) };
        let mut said = self.said.subscribe();
        let killed = said.borrow().killed;
        running.tell(&Order::End { jobs: jobs.to_owned() }).await?;
        drop(running);
        let over = said.wait_for(|said| said.ended.contains(jobs) || said.killed > killed);
        let over = timeout(LAST_CALLS, over).await;
        over.map_err(|_| "workers do not end".to_owned())?.map_err(told)?;
        let now_ms = now_ms();
        let mut entries = Vec::new();
        for log in &work.logs {
            read(log, now_ms, &mut entries)?;
        }
        Ok(entries)
    }

    /// Killed (SIGKILL), and started again after a while.
    pub(crate) async fn kill(&self, down: Duration) -> Result<(), String> {
        let mut running = self.running.lock().await;
        if let Some((mut child, input)) = running.child.take() {
            child.kill().await.map_err(told)?;
            drop(input);
        }
        self.said.send_modify(|said| said.killed += 1);
        sleep(down).await;
        self.start_again(&mut running).await
    }
}

impl Running {
    async fn tell(&mut self, order: &Order) -> Result<(), String> {
        let Some((_, input)) = &mut self.child else { return Err("no workers".into()) };
        let line = serde_json::to_string(order).map_err(told)? + "\n";
        input.write_all(line.as_bytes()).await.map_err(|error| format!("workers ended: {error}"))
    }
}

async fn listen(output: ChildStdout, said: watch::Sender<Said>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(jobs)) = lines.next_line().await {
        said.send_modify(|said| {
            said.ended.insert(jobs);
        });
    }
}

/// Reads what a process wrote. What it asked last and never wrote an answer to may have happened.
fn read(log: &Path, now_ms: u64, entries: &mut Vec<Entry>) -> Result<(), String> {
    let shown = log.display();
    // Killed before it could begin.
    let Ok(text) = std::fs::read_to_string(log) else { return Ok(()) };
    let mut asked: BTreeMap<String, Entry> = BTreeMap::new();
    let (lines, cut_short) = text.rsplit_once('\n').unwrap_or_default();
    for line in lines.lines() {
        match serde_json::from_str(line).map_err(|error| format!("{shown}: {line:?}: {error}"))? {
            Line::Asks(entry) => {
                asked.insert(entry.by.clone(), entry);
            }
            Line::Told(entry) => {
                asked.remove(&entry.by);
                entries.push(entry);
            }
        }
    }
    if let Ok(Line::Asks(entry)) = serde_json::from_str(cut_short) {
        asked.insert(entry.by.clone(), entry);
    }
    entries.extend(asked.into_values().map(|entry| Entry { ended: now_ms, ..entry }));
    Ok(())
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

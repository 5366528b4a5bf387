//! The hazard of claims: eight workers in two processes empty a queue, while servers fail.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roundelay::{ListOptions, Metadata, NewMessage, Queue, Store};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::claim_checker::{Breach, check};
use super::events::{Origin, event};
use super::faults::Schedule;
use super::posting::{leave_faults, servers};
use super::stalls::{Stall, quiet, stalls};
use super::worker::{Answer, Entry, LIMIT, SETTINGS, Settings};
use super::{Hazard, Shared, queue};
use crate::redis_server::RedisServer;

const PROCESSES: u64 = 2;
const WORKERS: u64 = 4;
/// Messages of one post.
const BATCH: u64 = 100;
/// How long the queue may take to be empty when the faults are over, beyond a claim's ttl.
const TO_THE_END: Duration = Duration::from_secs(60);
/// How long after the end what is gone is looked for again.
const COMES_BACK: Duration = Duration::from_secs(3);
const LAST_WORDS: Duration = Duration::from_secs(20);

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Claiming {
    pub(crate) deleted: u64,
    pub(crate) claims: u64,
    /// Calls that failed, claims and deletes.
    pub(crate) failed: u64,
    /// How long no delete was acked.
    pub(crate) stalls: Vec<Stall>,
    pub(crate) quiet: Duration,
    pub(crate) breaches: Vec<Breach>,
}

/// Runs it. `again`: how this executable is started to be a process of workers.
pub(crate) async fn run(
    hazard: &Hazard,
    progress: &Shared,
    again: &[&str],
) -> Result<Claiming, String> {
    let servers = servers().await;
    let nodes: Vec<String> = servers.iter().map(RedisServer::url).collect();
    let witness = hazard.store(&nodes).await?;
    let posted = fill(hazard, &queue(&witness)).await?;
    std::fs::create_dir_all(&hazard.logs).map_err(|error| error.to_string())?;

    let schedule = Schedule::of(hazard);
    let pace = hazard.pace(PROCESSES * WORKERS, &schedule) * LIMIT as u32;
    let clock = roundelay::time::Clock::system();
    let (origin, origin_ms) = (Instant::now(), clock.now_ms());
    let mut processes = Vec::new();
    for number in 0..PROCESSES {
        processes.push(start(hazard, &nodes, number, pace, again)?);
    }
    let faults = schedule
        .carry_out(Arc::clone(&servers), witness.clone(), origin, Arc::clone(progress))
        .await?;
    leave_faults(hazard, &faults)?;
    let mut left: Vec<String> = emptied(hazard, &queue(&witness)).await.into_iter().collect();
    for process in processes {
        end(process).await?;
    }
    left.extend(still_there(&witness, "when all was deleted").await);
    sleep(COMES_BACK).await;
    left.extend(still_there(&witness, "seconds after all was deleted").await);
    let newcomer = hazard.store(&nodes).await?;
    left.extend(still_there(&newcomer, "for a newcomer").await);
    newcomer.close().await;
    witness.close().await;

    let entries = entries(hazard)?;
    let deletes: Vec<Duration> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Delete { ended, answer: Answer::Deleted, .. } => {
                Some(Duration::from_millis(ended.saturating_sub(origin_ms)))
            }
            _ => None,
        })
        .collect();
    progress.done.store(deletes.len() as u64, Ordering::Relaxed);
    let mut breaches = check(&posted, &entries);
    breaches.extend(left.into_iter().map(|what| Breach::Left { what }));
    let count = |which: fn(&Entry) -> bool| entries.iter().filter(|entry| which(entry)).count();
    Ok(Claiming {
        deleted: deletes.len() as u64,
        claims: count(|entry| matches!(entry, Entry::Granted { .. })) as u64,
        failed: count(|entry| {
            matches!(
                entry,
                Entry::Failed { .. }
                    | Entry::Delete { answer: Answer::Failed(_) | Answer::Unknown(_), .. }
            )
        }) as u64,
        stalls: stalls(&faults, &deletes),
        quiet: quiet(&faults, &deletes),
        breaches,
    })
}

async fn fill(hazard: &Hazard, queue: &Queue) -> Result<Vec<String>, String> {
    let failed = |error: roundelay::Error| format!("the queue could not be filled: {error:?}");
    queue.create(&Metadata::default()).await.map_err(failed)?;
    let mut ids = Vec::new();
    for first in (1..=hazard.messages).step_by(BATCH as usize) {
        let last = hazard.messages.min(first + BATCH - 1);
        let body = |seq| event(hazard.seed, Origin { producer: 0, seq });
        let messages: Result<Vec<NewMessage>, _> = (first..=last)
            .map(|seq| NewMessage::new(roundelay::ContentType::Json, body(seq)))
            .collect();
        let posted = queue.post(messages.map_err(failed)?, None).await.map_err(failed)?;
        ids.extend(posted.iter().map(ToString::to_string));
    }
    Ok(ids)
}

fn log_of(hazard: &Hazard, process: u64) -> PathBuf {
    hazard.logs.join(format!("workers-{process}.jsonl"))
}

fn start(
    hazard: &Hazard,
    nodes: &[String],
    process: u64,
    pace: Duration,
    again: &[&str],
) -> Result<Child, String> {
    let settings = Settings {
        nodes: nodes.to_vec(),
        copies: hazard.copies,
        copies_min: hazard.copies_min,
        workers: (process * WORKERS + 1, (process + 1) * WORKERS),
        ttl_ms: hazard.claim_ttl.as_millis() as u64,
        pace_ms: pace.as_millis() as u64,
        seed: hazard.seed,
        log: log_of(hazard, process),
    };
    let settings = serde_json::to_string(&settings).map_err(|error| error.to_string())?;
    let errors = std::fs::File::create(hazard.logs.join(format!("workers-{process}.log")));
    let errors = errors.map_err(|error| error.to_string())?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(this);
    command.args(again).env(SETTINGS, settings).env("RUST_LOG", &hazard.log).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(errors);
    command.spawn().map_err(|error| format!("no process of workers: {error}"))
}

async fn end(mut process: Child) -> Result<(), String> {
    drop(process.stdin.take());
    let ended = timeout(LAST_WORDS, process.wait()).await;
    match ended.map_err(|_| "a process of workers does not end".to_owned())? {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("a process of workers ended with {status}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Waits until nothing is left; says what was, if that takes too long.
async fn emptied(hazard: &Hazard, queue: &Queue) -> Option<String> {
    let within = hazard.claim_ttl + TO_THE_END;
    let deadline = Instant::now() + within;
    loop {
        let stats = queue.stats().await;
        match &stats {
            Ok(stats) if stats.total() == 0 => return None,
            _ if Instant::now() > deadline => {
                return Some(format!("not empty {within:?} after the last fault: {stats:?}"));
            }
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// What a reader finds in a queue that should be empty.
async fn still_there(store: &Store, when: &str) -> Option<String> {
    let queue = queue(store);
    let options = ListOptions {
        include_claimed: true,
        include_delayed: true,
        limit: 100,
        ..ListOptions::default()
    };
    match (queue.stats().await, queue.list(&options).await) {
        (Ok(stats), Ok(page)) if stats.total() == 0 && page.messages.is_empty() => None,
        (Ok(stats), Ok(page)) => Some(format!(
            "{when} there are {} by count, and these by list: {:?}",
            stats.total(),
            page.messages.iter().map(|message| message.id.to_string()).collect::<Vec<_>>()
        )),
        (Err(error), _) | (_, Err(error)) => Some(format!("{when} it cannot be read: {error:?}")),
    }
}

fn entries(hazard: &Hazard) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    for process in 0..PROCESSES {
        let path = log_of(hazard, process);
        let shown = path.display();
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
        for line in text.lines() {
            let entry = serde_json::from_str(line);
            entries.push(entry.map_err(|error| format!("{shown}: {line:?}: {error}"))?);
        }
    }
    Ok(entries)
}

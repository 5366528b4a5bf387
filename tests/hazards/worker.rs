//! A process of workers: each claims, does as if it worked, and deletes, and writes down when.
//!
//! It is this very executable, started again with [`SETTINGS`] in its environment. It ends when its
//! standard input does. All that it was told goes to a file, one JSON value a line.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use roundelay::time::Clock;
use roundelay::{Claim, ClaimOptions, ErrorKind, MessageId, Outcome, Queue, Store};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::queue;

/// The variable that makes a process one of workers.
pub(crate) const SETTINGS: &str = "ROUNDELAY_HAZARD_WORKERS";
/// Messages in one claim at most.
pub(crate) const LIMIT: usize = 10;
/// How long to wait when there is nothing to claim.
const NOTHING: Duration = Duration::from_millis(50);
/// One claim in so many is not worked on: it has to expire.
const FORGOTTEN: u32 = 50;

/// What a process of workers is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) nodes: Vec<String>,
    pub(crate) copies: usize,
    pub(crate) copies_min: usize,
    /// Numbers of its workers, first and last.
    pub(crate) workers: (u64, u64),
    pub(crate) ttl_ms: u64,
    /// From one claim to the next of a worker.
    pub(crate) pace_ms: u64,
    pub(crate) seed: u64,
    pub(crate) log: PathBuf,
}

/// What a worker was told; times in milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// A claim was asked for, and given.
    Granted { worker: u64, claim: String, asked: u64, given: u64, ttl: u64, ids: Vec<String> },
    /// A delete began and was answered.
    Delete { worker: u64, claim: String, id: String, began: u64, ended: u64, answer: Answer },
    /// A claim failed.
    Failed { worker: u64, at: u64, error: String },
}

/// What became of a delete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It was there, and is not any more.
    Deleted,
    /// It was not there.
    Absent,
    /// The claim does not hold it (any more).
    NotHeld,
    /// It failed, and had no effect.
    Failed(String),
    /// It failed, and nobody knows.
    Unknown(String),
}

struct Worker {
    number: u64,
    queue: Queue,
    clock: Clock,
    log: Arc<Mutex<File>>,
    options: ClaimOptions,
    pace: Duration,
    rng: Rng,
    over: watch::Receiver<bool>,
}

/// The settings, if this process is to be one of workers.
pub(crate) fn settings() -> Option<Settings> {
    let settings = std::env::var(SETTINGS).ok()?;
    Some(serde_json::from_str(&settings).expect("settings made by this program"))
}

/// Works until standard input ends.
pub(crate) async fn work(settings: Settings) -> Result<(), String> {
    let builder = Store::builder().copies(settings.copies).copies_min(settings.copies_min);
    let builder = settings.nodes.iter().fold(builder, |builder, url| builder.node(url));
    let store = builder.open().await.map_err(|error| format!("{error:?}"))?;
    let log = File::create(&settings.log).map_err(|error| error.to_string())?;
    let log = Arc::new(Mutex::new(log));
    let (finish, over) = watch::channel(false);
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        finish.send_replace(true);
    });
    let ttl = Duration::from_millis(settings.ttl_ms);
    let mut workers = tokio::task::JoinSet::new();
    for number in settings.workers.0..=settings.workers.1 {
        let worker = Worker {
            number,
            queue: queue(&store),
            clock: Clock::system(),
            log: Arc::clone(&log),
            options: ClaimOptions { ttl, grace: Duration::from_secs(60), limit: LIMIT },
            pace: Duration::from_millis(settings.pace_ms),
            rng: Rng::with_seed(settings.seed ^ (number << 32)),
            over: over.clone(),
        };
        workers.spawn(worker.work());
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|error| error.to_string())?;
    }
    store.close().await;
    Ok(())
}

impl Worker {
    async fn work(mut self) {
        let mut next = Instant::now();
        while !*self.over.borrow() {
            let asked = self.clock.now_ms();
            match self.queue.claim(&self.options).await {
                Ok(Some(claim)) => {
                    self.granted(asked, &claim);
                    // As if it worked, for up to half of its time.
                    sleep(self.pace.mul_f64(self.rng.f64() / 2.0)).await;
                    if self.rng.u32(..FORGOTTEN) != 0 {
                        let live_until = Instant::now() + self.options.ttl;
                        self.delete_all(&claim, live_until).await;
                    }
                }
                Ok(None) => sleep(NOTHING).await,
                Err(error) => {
                    let error = format!("{error:?}");
                    self.log(&Entry::Failed { worker: self.number, at: asked, error });
                    sleep(NOTHING).await;
                }
            }
            next += self.pace;
            // Behind schedule, it goes on at once until it has made up for it.
            sleep_until(next).await;
        }
    }

    fn granted(&self, asked: u64, claim: &Claim) {
        self.log(&Entry::Granted {
            worker: self.number,
            claim: claim.id.to_string(),
            asked,
            given: self.clock.now_ms(),
            ttl: self.options.ttl.as_millis() as u64,
            ids: claim.messages.iter().map(|message| message.id.to_string()).collect(),
        });
    }

    async fn delete_all(&self, claim: &Claim, live_until: Instant) {
        for message in &claim.messages {
            loop {
                let answer = self.delete(claim, &message.id).await;
                let failed = matches!(answer, Answer::Failed(_) | Answer::Unknown(_));
                if !failed || Instant::now() > live_until || *self.over.borrow() {
                    break;
                }
                sleep(NOTHING).await;
            }
        }
    }

    async fn delete(&self, claim: &Claim, id: &MessageId) -> Answer {
        let began = self.clock.now_ms();
        let answer = match self.queue.delete_message(id, Some(&claim.id)).await {
            Ok(true) => Answer::Deleted,
            Ok(false) => Answer::Absent,
            Err(error) => match (error.kind(), error.outcome()) {
                (
                    ErrorKind::MessageClaimed
                    | ErrorKind::MessageNotClaimed
                    | ErrorKind::ClaimNotFound,
                    _,
                ) => Answer::NotHeld,
                (_, Outcome::NotApplied) => Answer::Failed(format!("{error:?}")),
                (_, Outcome::Unknown) => Answer::Unknown(format!("{error:?}")),
            },
        };
        self.log(&Entry::Delete {
            worker: self.number,
            claim: claim.id.to_string(),
            id: id.to_string(),
            began,
            ended: self.clock.now_ms(),
            answer: answer.clone(),
        });
        answer
    }

    fn log(&self, entry: &Entry) {
        let mut line = serde_json::to_vec(entry).expect("an entry is plain");
        line.push(b'\n');
        let mut log = self.log.lock().expect("no worker panics with it");
        log.write_all(&line).expect("the log can be written");
    }
}

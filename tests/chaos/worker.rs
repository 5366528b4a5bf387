//! A process of workers: on the library, each claims, does as if it worked, and deletes, gives back,
//! takes longer or forgets; one more posts messages that live for a moment only.
//!
//! It is this very executable, started again with [`SETTINGS`] in its environment. On standard input
//! it is told on which queues to work; it ends when that does. Before each call, and after it, a line
//! goes to a file: it may be killed at any time, and what was asked for then is known all the same.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use roundelay::time::Clock;
use roundelay::{
    Claim, ClaimOptions, ContentType, Error, ErrorKind, MessageId, NewMessage, Outcome, Project,
    Queue, QueueName, Store,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::client::PROJECT;
use super::events::{Origin, event, recognise};
use super::round::name;
use crate::oracles::{Answer, Effect, Entry, Granted, Seen, What};

/// The variable that makes a process one of workers.
pub(crate) const SETTINGS: &str = "ROUNDELAY_CHAOS_WORKERS";
/// Workers of a process on one queue.
const WORKERS: u64 = 3;
/// Messages in one claim at most.
const LIMIT: usize = 8;
/// How long claims last, at least and at most, in milliseconds.
const CLAIM_MS: (u64, u64) = (1500, 4000);
const GRACE: Duration = Duration::from_secs(60);
/// How long messages live that end by themselves, in milliseconds.
const LIFE_MS: (u64, u64) = (800, 2500);
/// From one of them to the next.
const SHORT_LIVED_EVERY: Duration = Duration::from_millis(150);
/// When all that is short has ended: claims, lives and delays.
pub(crate) const ALL_OVER: Duration = Duration::from_millis(CLAIM_MS.1 + 1500);
/// How long to wait when there is nothing to claim.
const NOTHING: Duration = Duration::from_millis(100);
/// By how much this process's clock may differ from that of the run.
const CLOCKS_MS: u64 = 2;

/// What a process of workers is told at its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) nodes: Vec<String>,
    pub(crate) copies: usize,
    /// Which process it is, and how often it was started before.
    pub(crate) crew: u64,
    pub(crate) start: u64,
    pub(crate) seed: u64,
    /// The beginning of the run.
    pub(crate) epoch_ms: u64,
}

/// What it is told later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Claim from `jobs`, post to `events`, write to `log`.
    Begin { round: u64, jobs: String, events: String, log: PathBuf },
    /// No more from `jobs`; said again when all calls have ended.
    End { jobs: String },
}

/// One line of its file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// It is going to ask this; the answer is that there was none.
    Asks(Entry),
    Told(Entry),
}

/// The settings, if this process is to be one of workers.
pub(crate) fn settings() -> Option<Settings> {
    let settings = std::env::var(SETTINGS).ok()?;
    Some(serde_json::from_str(&settings).expect("settings made by this program"))
}

/// Works until standard input ends.
pub(crate) async fn work(settings: Settings) -> Result<(), String> {
    let builder = Store::builder().copies(settings.copies).copies_min(2);
    let builder = settings.nodes.iter().fold(builder, |builder, url| builder.node(url));
    let store = builder.open().await.map_err(|error| format!("{error:?}"))?;
    let (tell, mut orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let order: Order = serde_json::from_str(&line).expect("an order of this program");
            if tell.send(order).is_err() {
                return;
            }
        }
    });
    let mut jobs: BTreeMap<String, (watch::Sender<bool>, JoinSet<()>)> = BTreeMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Begin { round, jobs: queue, events, log } => {
                let begun = begin(&settings, &store, round, &queue, &events, log)?;
                jobs.insert(queue, begun);
            }
            Order::End { jobs: queue } => {
                if let Some((over, tasks)) = jobs.remove(&queue) {
                    over.send_replace(true);
                    tasks.join_all().await;
                }
                // On a line of its own, whatever a test runner has written before.
                println!("\n{queue}");
            }
        }
    }
    store.close().await;
    Ok(())
}

fn begin(
    settings: &Settings,
    store: &Store,
    round: u64,
    jobs: &str,
    events: &str,
    log: PathBuf,
) -> Result<(watch::Sender<bool>, JoinSet<()>), String> {
    let file = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let file = Arc::new(Mutex::new(file));
    let (over, is_over) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let Settings { crew, start, .. } = *settings;
    for number in 0..=WORKERS {
        let name = if number == 0 { events } else { jobs };
        let mixed = settings.seed ^ (round << 40) ^ (crew << 32) ^ (start << 8) ^ number;
        let worker = Worker {
            by: format!("worker {crew}.{start}.{number}"),
            queue: queue(store, name).map_err(|error| error.to_string())?,
            clock: Clock::system(),
            log: Arc::clone(&file),
            rng: Rng::with_seed(mixed),
            over: is_over.clone(),
            settings: settings.clone(),
        };
        if number == 0 {
            let producer = 1_000_000 + round * 10_000 + crew * 1000 + start;
            tasks.spawn(worker.post(producer));
        } else {
            tasks.spawn(worker.work());
        }
    }
    Ok((over, tasks))
}

/// A queue as the services name it.
pub(crate) fn queue(store: &Store, name: &str) -> Result<Queue, Error> {
    Ok(store.queue(&Project::new(PROJECT)?, &QueueName::new(name)?))
}

struct Worker {
    by: String,
    queue: Queue,
    clock: Clock,
    log: Arc<Mutex<File>>,
    rng: Rng,
    over: watch::Receiver<bool>,
    settings: Settings,
}

impl Worker {
    async fn work(mut self) {
        while !*self.over.borrow() {
            let ttl = self.rng.u64(CLAIM_MS.0..=CLAIM_MS.1);
            let limit = self.rng.usize(1..=LIMIT);
            let Some(claim) = self.claim(ttl, limit).await else {
                sleep(NOTHING).await;
                continue;
            };
            // As if it worked.
            let working = self.rng.u64(..ttl / 8);
            sleep(Duration::from_millis(working)).await;
            match self.rng.u32(..100) {
                0..2 => {}
                2..5 => self.release(&claim).await,
                5..9 => {
                    self.renew(&claim, ttl).await;
                    self.delete_all(&claim).await;
                }
                // So late that the claim may be over.
                9..11 => {
                    sleep(Duration::from_millis(ttl)).await;
                    self.delete_all(&claim).await;
                }
                _ => self.delete_all(&claim).await,
            }
        }
    }

    async fn claim(&self, ttl: u64, limit: usize) -> Option<Claim> {
        let options = ClaimOptions { ttl: Duration::from_millis(ttl), grace: GRACE, limit };
        let grace = GRACE.as_millis() as u64;
        let mut claim = None;
        let what = |answer| What::Claim { ttl, grace, answer };
        let asked = self.queue.claim(&options);
        self.call(what, asked, |granted| {
            claim.clone_from(&granted);
            Answer::Done(granted.map(|claim| self.granted(&claim)))
        })
        .await;
        claim
    }

    fn granted(&self, claim: &Claim) -> Granted {
        let seen = |message: &roundelay::Message| Seen {
            name: match recognise(self.settings.seed, &message.body) {
                Some((origin, true)) => name(origin),
                _ => format!("a stranger of {} bytes", message.body.len()),
            },
            id: message.id.to_string(),
            claimed: true,
        };
        let messages = claim.messages.iter().map(seen).collect();
        Granted { claim: claim.id.to_string(), messages }
    }

    async fn release(&self, claim: &Claim) {
        let what = |answer| What::Release { claim: claim.id.to_string(), answer };
        self.call(what, self.queue.release(&claim.id), Answer::Done).await;
    }

    async fn renew(&self, claim: &Claim, ttl: u64) {
        let (id, grace) = (claim.id.to_string(), GRACE.as_millis() as u64);
        let what = |answer| What::Renew { claim: id.clone(), ttl, grace, answer };
        let renewed = self.queue.renew(&claim.id, Duration::from_millis(ttl), GRACE);
        self.call(what, with_effect(async { renewed.await.map(|()| true) }), Answer::Done).await;
    }

    async fn delete_all(&self, claim: &Claim) {
        for message in &claim.messages {
            // What failed is asked for once more; somebody else will, later.
            for _ in 0..2 {
                if self.delete(claim, &message.id).await {
                    break;
                }
                sleep(NOTHING).await;
            }
        }
    }

    async fn delete(&self, claim: &Claim, id: &MessageId) -> bool {
        let what =
            |answer| What::Delete { id: id.to_string(), claim: Some(claim.id.to_string()), answer };
        let deleted = with_effect(self.queue.delete_message(id, Some(&claim.id)));
        self.call(what, deleted, Answer::Done).await
    }

    async fn post(mut self, producer: u64) {
        for seq in 1.. {
            if *self.over.borrow() {
                return;
            }
            let origin = Origin { producer, seq };
            let body = event(self.settings.seed, origin);
            let ttl = self.rng.u64(LIFE_MS.0..=LIFE_MS.1);
            let message = NewMessage::new(ContentType::Json, body)
                .and_then(|message| message.with_ttl(Duration::from_millis(ttl)));
            let what = |answer| What::Post {
                messages: vec![name(origin)],
                ttl,
                delay: 0,
                key: None,
                answer,
            };
            let posted = async { self.queue.post(vec![message?], None).await };
            let ids =
                |ids: Vec<MessageId>| Answer::Done(ids.iter().map(ToString::to_string).collect());
            self.call(what, posted, ids).await;
            sleep(SHORT_LIVED_EVERY).await;
        }
    }

    /// Makes a call and writes it down; whether it was answered.
    async fn call<T, A>(
        &self,
        what: impl Fn(Answer<A>) -> What,
        call: impl Future<Output = Result<T, Error>>,
        told: impl FnOnce(T) -> Answer<A>,
    ) -> bool {
        let now = || self.clock.now_ms().saturating_sub(self.settings.epoch_ms);
        let entry = |began, ended, answer| Entry {
            by: self.by.clone(),
            began,
            ended,
            queue: self.queue.name().to_owned(),
            what: what(answer),
        };
        let began = now().saturating_sub(CLOCKS_MS);
        self.write(&Line::Asks(entry(began, began, Answer::Unknown("it was killed".into()))));
        let answer = match call.await {
            Ok(done) => told(done),
            Err(error) if error.outcome() == Outcome::NotApplied => {
                Answer::NotApplied(error.to_string())
            }
            Err(error) => Answer::Unknown(error.to_string()),
        };
        let is_done = matches!(answer, Answer::Done(_));
        self.write(&Line::Told(entry(began, now() + CLOCKS_MS, answer)));
        is_done
    }

    fn write(&self, line: &Line) {
        let mut line = serde_json::to_vec(line).expect("a line is plain");
        line.push(b'\n');
        let mut log = self.log.lock().expect("no worker panics with it");
        log.write_all(&line).expect("the log can be written");
    }
}

/// What a call under a claim did, refusals included.
async fn with_effect(call: impl Future<Output = Result<bool, Error>>) -> Result<Effect, Error> {
    match call.await {
        Ok(true) => Ok(Effect::Done),
        Ok(false) => Ok(Effect::Absent),
        Err(error) => match error.kind() {
            ErrorKind::MessageClaimed => Ok(Effect::Claimed),
            ErrorKind::MessageNotClaimed | ErrorKind::ClaimNotFound => Ok(Effect::NotHeld),
            _ => Err(error),
        },
    }
}

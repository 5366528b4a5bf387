//! A round: two queues of its own, from their first message to the last walk of all that is left.
//! While one round is walked to its end and judged, the next one posts.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::deleters::{self, Errand};
use super::events::Origin;
use super::posters::{POSTERS, post};
use super::readers::{Walk, follow};
use super::run::Stage;
use super::worker::ALL_OVER;
use super::{Attended, Progress};
use crate::oracles::{self, Answer, Breach, Counts, Entry, History, What};

/// Readers that follow the events from the start.
const FOLLOWERS: u64 = 2;
/// Who walks a queue when all is quiet.
const LAST_WALKS: u64 = 2;
/// Who deletes, and one who looks again.
const DELETERS: usize = 2;
/// One message in so many is deleted, and one is looked for again.
const DELETED: u32 = 20;
const LOOKED_FOR: u32 = 20;
/// How long after its post a message is deleted, at most, in milliseconds.
const DELETED_WITHIN_MS: u64 = 1500;
/// How long it takes until a message is looked for again, at most.
const LOOKED_FOR_AFTER: Duration = Duration::from_secs(8);
/// How long jobs may take to be done when no more are posted.
const DONE_WITHIN: Duration = Duration::from_secs(20);
/// How long a call that must succeed is repeated.
const AT_LAST: Duration = Duration::from_secs(30);
/// By how much lives and claims may end too early, in milliseconds: all clocks are that of one machine,
/// told in whole milliseconds …
const EARLY_MS: u64 = 5;
/// … and too late: a request or a copy can be held back by a fault, and by its sender's own timeout.
const LATE_MS: u64 = 3000;

/// The name under which the oracles know a message.
pub(crate) fn name(origin: Origin) -> String {
    format!("{}.{}", origin.producer, origin.seq)
}

/// What was answered, if it was.
pub(super) fn done<T>(answer: &Answer<T>) -> Option<&T> {
    match answer {
        Answer::Done(done) => Some(done),
        Answer::Refused(_) | Answer::NotApplied(_) | Answer::Unknown(_) => None,
    }
}

/// One round.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) stage: Arc<Stage>,
    pub(super) number: usize,
    /// The queue that is read, and the one that is worked on.
    pub(super) events: String,
    pub(super) jobs: String,
    /// When posts began.
    from: OnceLock<Instant>,
    entries: Mutex<Vec<Entry>>,
    errands: Mutex<Vec<mpsc::UnboundedSender<Errand>>>,
}

/// What a round came to.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) round: usize,
    /// Calls that were judged, and messages that were acked and that readers were given.
    pub(crate) calls: u64,
    pub(crate) acked: u64,
    pub(crate) seen: u64,
    pub(crate) claims: u64,
    pub(crate) deletes: u64,
    pub(crate) breaches: Vec<Breach>,
}

impl Round {
    pub(super) fn new(stage: &Arc<Stage>, number: usize) -> Self {
        Self {
            stage: Arc::clone(stage),
            number,
            events: format!("events-{number}"),
            jobs: format!("jobs-{number}"),
            from: OnceLock::new(),
            entries: Mutex::default(),
            errands: Mutex::default(),
        }
    }

    pub(super) fn from(&self) -> Instant {
        *self.from.get_or_init(Instant::now)
    }

    /// What one of its clients draws from.
    pub(super) fn rng(&self, client: usize) -> Rng {
        let round = (self.number as u64) << 32;
        Rng::with_seed(self.stage.plan.seed ^ round ^ ((client as u64) << 16))
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down a call that has just ended.
    pub(super) fn note(&self, by: String, began: u64, queue: &str, what: What) {
        let entry = Entry { by, began, ended: self.stage.origin.ms(), queue: queue.into(), what };
        self.entries().push(entry);
    }

    /// Draws what becomes of a message that was stored.
    pub(super) fn is_stored(&self, id: &str, of_jobs: bool, rng: &mut Rng) {
        if of_jobs {
            return;
        }
        let now = Instant::now();
        let later = LOOKED_FOR_AFTER.min(self.stage.plan.round / 4);
        let look = || Errand::Look { id: id.to_owned(), at: now + later };
        let errands = self.errands.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((looker, deleters)) = errands.split_first() else { return };
        if rng.u32(..DELETED) == 0 {
            let at = now + Duration::from_millis(rng.u64(..DELETED_WITHIN_MS));
            let deleter = &deleters[rng.usize(..deleters.len())];
            deleter.send(Errand::Delete { id: id.to_owned(), at }).ok();
            looker.send(look()).ok();
        } else if rng.u32(..LOOKED_FOR) == 0 {
            looker.send(look()).ok();
        }
    }

    /// Runs it to its end.
    ///
    /// `posted` is told when the next round may begin to post.
    pub(super) async fn run(
        self: Arc<Self>,
        posted: oneshot::Sender<()>,
    ) -> Result<Judged, String> {
        let mut client = Client::new(&self.stage.services, self.number);
        for queue in [&self.events, &self.jobs] {
            let path = format!("/v2/queues/{queue}");
            let fine = [StatusCode::CREATED, StatusCode::NO_CONTENT];
            at_last(&mut client, Method::PUT, &path, &fine).await?;
        }
        for crew in &self.stage.crews {
            crew.begin(self.number as u64, &self.jobs, &self.events).await?;
        }
        let deleters = self.start_deleters();
        let (finish, over) = watch::channel(false);
        let followers: Vec<_> = (1..=FOLLOWERS)
            .map(|number| self.walk(number, &self.events, None, over.clone()))
            .collect();
        // Queues and readers are there before.
        self.from();
        let posters: Vec<_> =
            (0..POSTERS).map(|number| Attended::spawn(post(Arc::clone(&self), number))).collect();
        for poster in posters {
            poster.end().await?;
        }
        posted.send(()).ok();
        self.errands.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for deleter in deleters {
            deleter.end().await?;
        }
        self.jobs_done(&mut client).await;
        for crew in &self.stage.crews {
            let entries = crew.end(&self.jobs, || self.stage.origin.ms()).await?;
            self.entries().extend(entries);
        }
        sleep(ALL_OVER).await;
        finish.send_replace(true);
        let (mut markers, mut unfinished) = (vec![None], Vec::new());
        for follower in followers {
            match follower.end().await? {
                Ok(marker) => markers.push(marker),
                Err(why) => unfinished.push(why),
            }
        }
        self.note("run".into(), self.stage.origin.ms(), "", What::Quiet);
        unfinished.extend(self.look_at_the_rest(&mut client, markers, &over).await?);
        let mut judged = self.judge().await?;
        let unfinished = unfinished.into_iter();
        judged.breaches.extend(unfinished.map(|what| Breach {
            oracle: "unfinished",
            invariant: "Q10",
            what,
        }));
        for queue in [&self.events, &self.jobs] {
            let path = format!("/v2/queues/{queue}");
            at_last(&mut client, Method::DELETE, &path, &[StatusCode::NO_CONTENT]).await?;
        }
        Ok(judged)
    }

    fn start_deleters(self: &Arc<Self>) -> Vec<Attended<()>> {
        let mut errands = self.errands.lock().unwrap_or_else(PoisonError::into_inner);
        let start = |number| {
            let (send, receive) = mpsc::unbounded_channel();
            errands.push(send);
            Attended::spawn(deleters::run(Arc::clone(self), number, receive))
        };
        (0..=DELETERS).map(start).collect()
    }

    fn walk(
        self: &Arc<Self>,
        number: u64,
        queue: &str,
        marker: Option<String>,
        over: watch::Receiver<bool>,
    ) -> Attended<Result<Option<String>, String>> {
        let by = format!("reader {number}");
        let walk = Walk { number, by, queue: queue.to_owned(), marker };
        Attended::spawn(follow(Arc::clone(self), walk, over))
    }

    /// Waits until all jobs are done, for a while.
    async fn jobs_done(&self, client: &mut Client) {
        let deadline = Instant::now() + DONE_WITHIN;
        while Instant::now() < deadline {
            match self.stats(client, &self.jobs).await {
                Some(counts) if counts == Counts::default() => return,
                _ => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    async fn stats(&self, client: &mut Client, queue: &str) -> Option<Counts> {
        let path = format!("/v2/queues/{queue}/stats");
        let began = self.stage.origin.ms();
        let answer = client.ask(Method::GET, &path, None).await.expect(&[StatusCode::OK]);
        let answer = match answer {
            Ok((_, stats)) => {
                let count = |what: &str| stats["messages"][what].as_u64().unwrap_or_default();
                // The service counts what waits for its delay as free.
                let counts =
                    Counts { active: count("free"), claimed: count("claimed"), delayed: 0 };
                Answer::Done(counts)
            }
            Err(failure) => failure.into_answer(),
        };
        let counts = done(&answer).copied();
        self.note("run".into(), began, queue, What::Stats { answer });
        counts
    }

    /// Walks both queues, several times from the start and from markers that were met on the way; says
    /// which walks did not come to the end.
    async fn look_at_the_rest(
        self: &Arc<Self>,
        client: &mut Client,
        markers: Vec<Option<String>>,
        over: &watch::Receiver<bool>,
    ) -> Result<Vec<String>, String> {
        let mut number = FOLLOWERS;
        let mut walks = Vec::new();
        for (queue, from) in [(&self.events, markers), (&self.jobs, vec![None])] {
            let more = (1..LAST_WALKS).map(|_| None);
            for marker in from.into_iter().chain(more) {
                number += 1;
                walks.push(self.walk(number, queue, marker, over.clone()));
            }
        }
        let mut unfinished = Vec::new();
        for walk in walks {
            unfinished.extend(walk.end().await?.err());
        }
        for queue in [&self.events, &self.jobs] {
            self.stats(client, queue).await;
        }
        Ok(unfinished)
    }

    async fn judge(&self) -> Result<Judged, String> {
        let mut entries = std::mem::take(&mut *self.entries());
        entries.sort_by_key(|entry| entry.ended);
        let round = self.number;
        let logs = self.stage.plan.logs.clone();
        let judged = tokio::task::spawn_blocking(move || {
            let history = History {
                early: EARLY_MS,
                late: LATE_MS,
                stale: LATE_MS,
                patience: 0,
                settle: 0,
                entries,
            };
            let judged = judge(round, &history);
            if !judged.breaches.is_empty() {
                leave(&logs.join(format!("round-{round}.jsonl")), &history)?;
            }
            Ok::<_, String>(judged)
        });
        let judged = judged.await.map_err(|error| error.to_string())??;
        let Progress { judged: counter, .. } = &*self.stage.progress;
        counter.fetch_add(judged.calls, std::sync::atomic::Ordering::Relaxed);
        Ok(judged)
    }
}

fn judge(round: usize, history: &History) -> Judged {
    let mut judged = Judged { round, calls: history.entries.len() as u64, ..Judged::default() };
    for entry in &history.entries {
        match &entry.what {
            What::Post { answer: Answer::Done(ids), .. } => judged.acked += ids.len() as u64,
            What::List { answer: Answer::Done(seen), .. } => judged.seen += seen.len() as u64,
            What::Claim { answer: Answer::Done(Some(_)), .. } => judged.claims += 1,
            What::Delete { answer: Answer::Done(_), .. } => judged.deletes += 1,
            _ => {}
        }
    }
    judged.breaches = oracles::check(history);
    judged
}

/// Leaves what was seen behind, a line an entry.
fn leave(path: &std::path::Path, history: &History) -> Result<(), String> {
    let mut text = String::new();
    for entry in &history.entries {
        text += &serde_json::to_string(entry).map_err(|error| error.to_string())?;
        text.push('\n');
    }
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Repeats a request until it succeeds.
async fn at_last(
    client: &mut Client,
    method: Method,
    path: &str,
    fine: &[StatusCode],
) -> Result<Value, String> {
    let deadline = Instant::now() + AT_LAST;
    loop {
        match client.ask(method.clone(), path, None).await.expect(fine) {
            Ok((_, body)) => return Ok(body),
            Err(failure) if Instant::now() > deadline => {
                return Err(format!("{method} {path}: {}", failure.error));
            }
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

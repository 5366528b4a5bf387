//! The sender of one queue's posts: gathers them into blocks, keeps several in flight, and moves
//! on when a replica fails.
//!
//! It runs while there is something to send or to find out, and owns the sends: a caller that
//! goes away changes nothing. Messages keep their order: what a decided end left out goes to the
//! next segment before anything newer (Q4), and each message is in the log at most once (Q3).

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument;

use super::ask::{Failure, ask};
use super::load::{Load, fail, span_of, tell};
use super::post::{Ticket, load};
use super::requests::Requests;
use super::{Core, QueueState, locked};
use crate::block::MAX_MESSAGES;
use crate::encoded::EncodedBlock;
use crate::error::{Error, ErrorKind};
use crate::id::{Generation, ReplicaAt, SegmentNo};
use crate::node::{Append, Appended, Op, Refusal};
use crate::protocol::flight::Flight;
use crate::protocol::manifest::{Fate, Manifest};

/// Where a producer stands: the open segment it posts to.
#[derive(Debug, Clone)]
pub(crate) struct Here {
    generation: Generation,
    no: SegmentNo,
    replicas: Vec<ReplicaAt>,
    /// The last acked block.
    acked: u32,
    /// The last acked block that the replicas have been told of.
    noted: u32,
}

/// A block that is in the log, but not on enough full replicas yet.
#[derive(Debug)]
struct Thin {
    generation: Generation,
    no: SegmentNo,
    block: u32,
    load: Load,
}

#[derive(Debug)]
enum Event {
    Appended { no: SegmentNo, block: u32, replica: usize, answer: Result<Appended, Failure> },
    Noted,
}

/// What a failed attempt to go on means for those who wait.
const GIVE_UP_AFTER: Duration = Duration::from_secs(3);

/// How often a thin segment is looked at in the manifest that was kept …
const THIN_LOOK: Duration = Duration::from_millis(5);
/// … and which of these looks asks the keepers.
const THIN_READ: u32 = 25;

pub(crate) struct Sender {
    core: Arc<Core>,
    queue: Arc<QueueState>,
    here: Option<Here>,
    flight: Flight<Load>,
    /// The segment must be closed: it is full.
    closing: bool,
    /// What a decided end left out, in order.
    again: VecDeque<Load>,
    thin: Vec<Thin>,
    thin_at: Instant,
    thin_looks: u32,
    note_at: Instant,
    trouble: Option<String>,
    /// The last block held one post only.
    alone: bool,
    /// Attempts to go on that failed since the last one that did not.
    failures: u32,
    events: Requests<Event>,
    watch: Watch,
}

/// Lets the next post start another sender if this one dies, or never ran.
struct Watch {
    queue: Arc<QueueState>,
    has_ended: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.has_ended {
            locked(&self.queue.post).died();
        }
    }
}

impl Sender {
    pub(crate) fn new(core: Arc<Core>, queue: Arc<QueueState>, here: Option<Here>) -> Self {
        let flight =
            here.as_ref().map_or(Flight::after(0, 0), |h| Flight::after(h.acked, h.replicas.len()));
        let now = Instant::now();
        let watch = Watch { queue: Arc::clone(&queue), has_ended: false };
        Self {
            core,
            queue,
            watch,
            here,
            flight,
            closing: false,
            again: VecDeque::new(),
            thin: Vec::new(),
            thin_at: now,
            thin_looks: 0,
            note_at: now,
            trouble: None,
            alone: false,
            failures: 0,
            events: Requests::new(),
        }
    }

    pub(crate) async fn run(mut self) {
        let bell = Arc::clone(&locked(&self.queue.post).bell);
        let mut health = self.core.pool.watch();
        let mut note_timer = std::pin::pin!(tokio::time::sleep_until(self.note_at));
        loop {
            self.go_on().await;
            if self.is_done() && locked(&self.queue.post).end(&mut self.here) {
                self.watch.has_ended = true;
                return;
            }
            let note_due = self.note_due();
            tokio::select! {
                biased;
                Some(event) = self.events.next() => {
                    self.handle(event).await;
                }
                () = bell.notified() => {}
                changed = health.changed(), if !self.flight.is_empty() => {
                    if changed.is_ok() {
                        self.look_at_health();
                    }
                }
                // Acks move the time on; the timer follows only when it has passed.
                () = &mut note_timer, if note_due => {
                    if Instant::now() >= self.note_at {
                        self.note().await;
                    }
                    note_timer.as_mut().reset(self.note_at.max(Instant::now()));
                }
                () = tokio::time::sleep_until(self.thin_at), if !self.thin.is_empty() => {
                    self.look_at_thin().await;
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.flight.is_empty()
            && self.again.is_empty()
            && self.thin.is_empty()
            && self.events.is_empty()
            && self.trouble.is_none()
            && !self.closing
            && !self.note_due()
    }

    fn note_due(&self) -> bool {
        self.flight.is_empty() && self.here.as_ref().is_some_and(|here| here.noted < here.acked)
    }

    /// Does all that can be done without waiting for an answer.
    async fn go_on(&mut self) {
        loop {
            if self.closing && self.flight.is_empty() && self.trouble.is_none() {
                self.trouble = Some("it is full".into());
            }
            if let Some(why) = self.trouble.take() {
                self.move_on(&why).await;
                continue;
            }
            if !self.may_send() {
                return;
            }
            let plenty = {
                let config = self.core.pool.config();
                let half = (config.block_messages / 2, config.block_bytes / 2);
                locked(&self.queue.post).is_plenty(half.0, half.1)
            };
            let alone = self.alone && Arc::strong_count(&self.core.flying) == 1;
            if self.again.is_empty() && !plenty && !alone {
                // Others that are about to post go into the same block; or, of another queue, into
                // the same transaction.
                tokio::task::yield_now().await;
            }
            if self.flight.is_empty() {
                self.look_where_we_are();
            }
            if self.here.is_none() && !self.arrive().await {
                continue;
            }
            if let Some(here) = &self.here
                && let Some(at) = here.replicas.iter().find(|at| !self.core.pool.usable(at.cookie))
            {
                self.trouble = Some(format!("node {} is not usable", at.cookie.node));
                continue;
            }
            let Some(load) = self.next_load() else { return };
            self.send(load).await;
        }
    }

    /// Whether a block may take off: into an empty flight at once, beside another one if it is at
    /// least half as large, beside more if it is as large as blocks get. So blocks grow with the
    /// number of posts, and what a block costs is shared by more of them.
    fn may_send(&mut self) -> bool {
        if self.closing {
            return false;
        }
        let config = self.core.pool.config();
        let (in_flight, window) = (self.flight.len(), config.blocks_in_flight);
        if in_flight >= window {
            // An answer comes first.
            return false;
        }
        if !self.again.is_empty() {
            return true;
        }
        let mut messages = config.block_messages;
        if in_flight < 2 {
            let flying: usize = self.flight.loads().map(|load| load.messages()).sum();
            messages = messages.min(flying / 2 + 1);
        }
        let mut outbox = locked(&self.queue.post);
        let may = outbox.is_plenty(messages, config.block_bytes);
        if !may {
            outbox.ring_at(messages, config.block_bytes);
        }
        may
    }

    fn next_load(&mut self) -> Option<Load> {
        while let Some(load) = self.again.pop_front() {
            if load.is_awaited(&self.queue) {
                self.core.pool.counters().resent_blocks.add(1);
                return Some(load);
            }
        }
        let config = self.core.pool.config();
        let limit = config.block_messages.clamp(1, MAX_MESSAGES - 1);
        let parts = {
            let mut outbox = locked(&self.queue.post);
            let parts = outbox.gather(limit, config.block_bytes);
            if parts.is_empty() {
                outbox.ring_at(1, 1);
                return None;
            }
            parts
        };
        let (bytes, tickets) = load(parts);
        self.alone = tickets.len() == 1;
        Some(Load { bytes: bytes.into(), tickets, flying: None })
    }

    /// Leaves a segment that is known to be closed; nothing is in flight.
    fn look_where_we_are(&mut self) {
        let Some(known) = self.core.manifests.cached(&self.queue) else { return };
        let open = known.open_segment().map(|open| (known.generation, open.no));
        if self.here.as_ref().is_some_and(|here| Some((here.generation, here.no)) != open) {
            self.here = None;
            self.closing = false;
        }
    }

    /// Finds the open segment. `false`: there is none now; those who waited too long were told.
    async fn arrive(&mut self) -> bool {
        match self.core.with_open_segment(&self.queue).await {
            Ok(manifest) => match manifest.open_segment() {
                Some(open) => {
                    let pool = self.core.pool.id();
                    let replicas: Vec<ReplicaAt> =
                        open.replicas.iter().map(|replica| replica.at(pool)).collect();
                    self.flight = Flight::after(0, replicas.len());
                    self.here = Some(Here {
                        generation: manifest.generation,
                        no: open.no,
                        replicas,
                        acked: 0,
                        noted: 0,
                    });
                    self.closing = false;
                    self.failures = 0;
                    true
                }
                None => false,
            },
            Err(error) => {
                self.pause(&error).await;
                false
            }
        }
    }

    /// Tells those who waited too long, and waits a little before the next attempt.
    async fn pause(&mut self, error: &Error) {
        let patience = GIVE_UP_AFTER.min(self.core.pool.config().deadline);
        let hopeless = error.kind() != ErrorKind::Unavailable;
        let is_due = |ticket: &Ticket| hopeless || ticket.since.elapsed() >= patience;
        locked(&self.queue.post).refuse(error, is_due);
        let queue = &self.queue;
        self.again.retain(|load| {
            let is_overdue = load.is_overdue(&locked(&queue.post), is_due);
            if is_overdue {
                fail(queue, &load.tickets, error);
            }
            load.is_awaited(queue)
        });
        let unknown = error.copy().unknown();
        for load in self.flight.loads() {
            fail(queue, load.tickets.iter().filter(|ticket| is_due(ticket)), &unknown);
        }
        if !hopeless {
            let jitter = self.core.pool.env().random_below(10);
            let pause = (10u64 << self.failures.min(5)) + jitter;
            self.failures += 1;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn send(&mut self, mut load: Load) {
        load.flying = Some(Arc::clone(&self.core.flying));
        let Some(here) = &mut self.here else { return };
        let (bytes, no, noted) = (load.bytes.clone(), here.no, here.acked);
        here.noted = noted;
        let span = span_of(&load.tickets);
        let block = self.flight.send(load);
        for (replica, at) in here.replicas.clone().into_iter().enumerate() {
            let append = self.append(no, replica, at, block, noted, bytes.clone());
            append.instrument(span.clone()).await;
        }
    }

    async fn append(
        &mut self,
        no: SegmentNo,
        replica: usize,
        at: ReplicaAt,
        block: u32,
        noted: u32,
        bytes: EncodedBlock,
    ) {
        let pool = Arc::clone(&self.core.pool);
        let producer = pool.me();
        let op = Op::Append(Append { at, producer, block, noted, bytes });
        self.begin(async move {
            let answer = ask(&pool, at.cookie.node, op).await;
            Event::Appended { no, block, replica, answer }
        })
        .await;
    }

    /// Puts a request on its way now, so that requests leave in the order of these calls.
    async fn begin(&mut self, request: impl Future<Output = Event> + Send + 'static) {
        let mut request: BoxFuture<'static, Event> = Box::pin(request);
        match std::future::poll_fn(|cx| Poll::Ready(request.as_mut().poll(cx))).await {
            Poll::Ready(event) => self.events.push(Box::pin(std::future::ready(event))),
            Poll::Pending => self.events.push(request),
        }
    }

    async fn handle(&mut self, event: Event) {
        let Event::Appended { no, block, replica, answer } = event else { return };
        let Some(here) = &mut self.here else { return };
        if here.no != no {
            return;
        }
        match answer {
            Ok(appended) => {
                if appended.bytes >= self.core.pool.config().segment_bytes {
                    self.closing = true;
                }
                for (block, load) in self.flight.taken(block, replica) {
                    here.acked = block;
                    tell(&self.core, &self.queue, &load, here.generation, no, block);
                }
                self.note_at = Instant::now() + self.core.pool.config().note_after;
            }
            Err(Failure::Refused(Refusal::Gap { frontier })) => {
                let at = here.replicas.get(replica).copied();
                let noted = here.acked;
                let again: Option<Vec<(u32, EncodedBlock)>> =
                    self.flight.gap(block, replica, frontier).map(|blocks| {
                        blocks
                            .into_iter()
                            .map(|(block, load)| (block, load.bytes.clone()))
                            .collect()
                    });
                match (again, at) {
                    (Some(again), Some(at)) => {
                        self.core.pool.counters().resent_blocks.add(again.len() as u64);
                        for (block, bytes) in again {
                            self.append(no, replica, at, block, noted, bytes).await;
                        }
                    }
                    _ => self.trouble = Some("a replica lacks blocks that it had taken".into()),
                }
            }
            Err(failure) => {
                if failure.may_be_applied() {
                    self.flight.maybe_taken(block, replica);
                }
                if let Failure::Refused(_) = &failure {
                    self.core.manifests.forget(&self.queue);
                    self.flight.refused(block);
                }
                self.trouble = Some(failure.to_string());
            }
        }
    }

    fn look_at_health(&mut self) {
        let Some(here) = &self.here else { return };
        if let Some(at) = here.replicas.iter().find(|at| !self.core.pool.usable(at.cookie)) {
            self.trouble = Some(format!("node {} is suspected", at.cookie.node));
        }
    }

    /// Closes the segment and looks at the decided end; tries until that is done, or until
    /// nobody waits any more.
    async fn move_on(&mut self, why: &str) {
        let Some(here) = self.here.clone() else { return };
        match self.core.move_on(&self.queue, here.no, why).await {
            Ok(manifest) => self.leave(&here, &manifest).await,
            Err(error) if error.kind() == ErrorKind::QueueNotFound => {
                self.here = None;
                self.closing = false;
                self.events.clear();
                let flight = std::mem::replace(&mut self.flight, Flight::after(0, 0));
                for (_, load) in flight.land() {
                    fail(&self.queue, &load.tickets, &error.copy().unknown());
                }
                self.pause(&error).await;
            }
            Err(error) => {
                self.pause(&error).await;
                // Until its end is decided the segment cannot be left, whoever waits.
                self.trouble = Some(why.to_owned());
            }
        }
    }

    async fn leave(&mut self, here: &Here, manifest: &Arc<Manifest>) {
        self.here = None;
        self.closing = false;
        self.failures = 0;
        let copies_min = self.core.pool.config().copies_min;
        let me = self.core.pool.me();
        let fate = |flight: &Flight<Load>, block| match manifest.generation == here.generation {
            true => manifest.fate(here.no, me, block, copies_min),
            // The queue was deleted and created again. What some replica refused was never read by
            // anybody; of the rest nobody can say.
            false if flight.was_refused(block) => Fate::Void,
            false => Fate::Forgotten,
        };
        if self.flight.blocks().any(|block| fate(&self.flight, block) == Fate::Forgotten) {
            // The segment was left long ago, and its replicas tell all that can still be told.
            self.hear_out(here.no).await;
        }
        self.events.clear();
        let flight = std::mem::replace(&mut self.flight, Flight::after(0, 0));
        let fates: Vec<Fate> = flight
            .blocks()
            .map(|block| match fate(&flight, block) {
                Fate::Forgotten if flight.is_nowhere(block) => Fate::Void,
                fate => fate,
            })
            .collect();
        let mut void = VecDeque::new();
        for ((block, mut load), fate) in flight.land().into_iter().zip(fates) {
            load.flying = None;
            match fate {
                Fate::Counts => {
                    tell(&self.core, &self.queue, &load, here.generation, here.no, block);
                }
                Fate::Void | Fate::Undecided => void.push_back(load),
                Fate::Thin => {
                    self.thin_at = Instant::now();
                    self.thin.push(Thin { generation: here.generation, no: here.no, block, load });
                }
                Fate::Forgotten => fail(&self.queue, &load.tickets, &self.forgotten()),
            }
        }
        // What was in flight had been taken from the front of what was left out before.
        void.append(&mut self.again);
        self.again = void;
    }

    /// Waits for the answers that are still to come, and notes what may have been taken.
    async fn hear_out(&mut self, left: SegmentNo) {
        while let Some(event) = self.events.next().await {
            if let Event::Appended { no, block, replica, answer } = event
                && no == left
                && answer.as_ref().err().is_none_or(Failure::may_be_applied)
            {
                self.flight.maybe_taken(block, replica);
            }
        }
    }

    fn forgotten(&self) -> Error {
        Error::unavailable(format!(
            "queue {}: what became of the post cannot be found out any more",
            self.queue.name
        ))
        .unknown()
    }

    /// Looks whether blocks that were on too few replicas are safe now.
    async fn look_at_thin(&mut self) {
        self.thin_at = Instant::now() + THIN_LOOK;
        self.thin_looks += 1;
        // A repair by this process is seen at once in what it has kept. To read more often would
        // only outbid the repair's own changes of the register.
        let manifest = match self.core.manifests.cached(&self.queue) {
            Some(kept) if !self.thin_looks.is_multiple_of(THIN_READ) => Some(kept),
            _ => match self.core.manifests.read(&self.queue).await {
                Ok(manifest) => manifest,
                Err(_) => return,
            },
        };
        let copies_min = self.core.pool.config().copies_min;
        let me = self.core.pool.me();
        for thin in std::mem::take(&mut self.thin) {
            let fate = match &manifest {
                Some(manifest) if manifest.generation == thin.generation => {
                    manifest.fate(thin.no, me, thin.block, copies_min)
                }
                _ => Fate::Forgotten,
            };
            match fate {
                Fate::Counts => {
                    let Thin { generation, no, block, load } = &thin;
                    tell(&self.core, &self.queue, load, *generation, *no, *block);
                }
                Fate::Thin | Fate::Undecided => {
                    self.core.repair_soon(&self.queue, thin.no);
                    if thin.load.is_awaited(&self.queue) {
                        self.thin.push(thin);
                    }
                }
                Fate::Void => fail(
                    &self.queue,
                    &thin.load.tickets,
                    &Error::unavailable(format!(
                        "queue {}: the post was lost with the node that had it",
                        self.queue.name
                    )),
                ),
                Fate::Forgotten => fail(&self.queue, &thin.load.tickets, &self.forgotten()),
            }
        }
    }

    /// Tells the replicas, without a block, what was acked.
    async fn note(&mut self) {
        let Some(here) = &mut self.here else { return };
        here.noted = here.acked;
        let (noted, replicas) = (here.acked, here.replicas.clone());
        for at in replicas {
            let pool = Arc::clone(&self.core.pool);
            let op = Op::Note { at, producer: pool.me(), noted };
            self.begin(async move {
                // A note that gets lost costs readers a question, nothing more.
                ask::<()>(&pool, at.cookie.node, op).await.ok();
                Event::Noted
            })
            .await;
        }
    }
}

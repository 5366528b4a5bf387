//! Posts with an idempotency key (Q11).
//!
//! Each part of such a post is one block of a producer that this process has for nothing else. The
//! block's name is written under the key before the block is sent (`protocol::once`). Whoever finds
//! a name under a key and does not know what became of the block has its segment closed, and reads
//! that off the segment's end: below it the part is in the log, above it never will be, however
//! late it comes. So it does not matter whether the poster died, or is only slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep, timeout_at};

use super::ask::{Failure, ask, ask_all};
use super::manifests::not_found;
use super::once_keys::late;
use super::post::{PART_BYTES, record};
use super::{Core, QueueState};
use crate::block::{Block, MAX_MESSAGES, Record};
use crate::encoded::EncodedBlock;
use crate::error::{Error, ErrorKind};
use crate::id::{Generation, MessageRef, ProducerId, ReplicaAt, SegmentNo};
use crate::message::{ClientId, NewMessage};
use crate::node::{Append, Appended, Op};
use crate::once::IdempotencyKey;
use crate::protocol::manifest::Fate;
use crate::protocol::once::{KeyedPost, PostPart, Standing, digest, keyed_producer};
use crate::queue::MAX_BATCH;
use crate::token::MessageId;

/// How long somebody else's part may be under way before it is found out what becomes of it.
const TAKE_OVER_AFTER: Duration = Duration::from_millis(500);
/// The first and the longest pause between two looks at what somebody else is at.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));
/// How long the answer to a post that is in the log waits for that to be noted.
const NOTE_WITHIN: Duration = Duration::from_millis(500);

/// One process's producer of keyed posts to one queue: they go one after the other, since each must
/// know the name of its block before it is sent.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    stand: Mutex<Option<Stand>>,
    /// Bytes of posts that wait for their turn.
    waiting: AtomicUsize,
    /// When to look for keys that have ended.
    pub(crate) sweep_at: std::sync::Mutex<Option<Instant>>,
}

/// Where the lane stands in the open segment.
#[derive(Debug)]
pub(crate) struct Stand {
    generation: Generation,
    no: SegmentNo,
    replicas: Vec<ReplicaAt>,
    producer: ProducerId,
    /// The block that is next; all before it are acked.
    next: u32,
}

impl Stand {
    fn is_in(&self, generation: Generation, no: SegmentNo) -> bool {
        self.generation == generation && self.no == no
    }
}

/// Bytes that wait, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize, usize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

impl Lane {
    fn wait(&self, bytes: usize, most: usize, queue: &str) -> Result<Waiting<'_>, Error> {
        let before = self.waiting.fetch_add(bytes, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting, bytes);
        if before > 0 && before + bytes > most {
            let what = format!("queue {queue}: too many posts with idempotency keys are waiting");
            let error = Error::new(ErrorKind::Overloaded, what);
            return Err(error.after(Duration::from_millis(200)));
        }
        Ok(waiting)
    }
}

/// One call of [`Core::post_once`].
struct Attempt {
    core: Arc<Core>,
    queue: Arc<QueueState>,
    post: KeyedPost,
    records: Vec<Record>,
    deadline: Instant,
    /// A part that this call sent and that not all replicas took.
    mine: Option<PostPart>,
    /// A part of somebody else, and since when this call has seen it.
    seen: Option<(PostPart, Instant)>,
    pause: Duration,
    /// Whether this call may have posted something.
    tried: bool,
}

impl Core {
    /// Stores messages, once for each key; returns their ids once they are acked, or those of the
    /// first time.
    pub(crate) async fn post_once(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        key: &IdempotencyKey,
        messages: &[NewMessage],
        client: Option<&ClientId>,
    ) -> Result<Vec<MessageId>, Error> {
        let deadline = Instant::now() + self.pool.config().deadline;
        self.post_once_by(queue, key, messages, client, deadline).await
    }

    /// The same; nothing new is begun after `deadline`.
    pub(crate) async fn post_once_by(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        key: &IdempotencyKey,
        messages: &[NewMessage],
        client: Option<&ClientId>,
        deadline: Instant,
    ) -> Result<Vec<MessageId>, Error> {
        self.open_or_error()?;
        let total = u16::try_from(messages.len()).ok();
        let Some(total) = total.filter(|total| (1..=MAX_BATCH).contains(&usize::from(*total)))
        else {
            return Err(Error::invalid(format!(
                "{} messages in one call: 1 to {MAX_BATCH} are allowed",
                messages.len()
            )));
        };
        let records: Vec<Record> = messages.iter().map(|message| record(message, client)).collect();
        let digest = key.request().unwrap_or_else(|| digest_of(&records));
        let post = KeyedPost { key: key.name(), digest, total, kept_ms: key.kept_ms() };
        let bytes = records.iter().map(|record| record.envelope.len()).sum();
        let _waiting = queue.lane.wait(bytes, self.pool.config().waiting_bytes, &queue.name)?;
        let mut attempt = Attempt::new(self, queue, post, records, deadline);
        let posted = attempt.run().await;
        posted.map_err(|error| if attempt.tried { error.unknown() } else { error })
    }

    /// Whether a post with this key is in the log: if it was begun and not finished, that is found
    /// out first.
    pub(crate) async fn was_posted(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        key: &IdempotencyKey,
    ) -> Result<bool, Error> {
        self.open_or_error()?;
        let deadline = Instant::now() + self.pool.config().deadline;
        let mut attempt: Option<Attempt> = None;
        loop {
            match self.standing_of_key(queue, key.name()).await? {
                Some((_, _, Standing::Whole(..))) => return Ok(true),
                Some((generation, post, Standing::Pending(part))) => {
                    let post = KeyedPost { kept_ms: key.kept_ms(), ..post };
                    let attempt = attempt.get_or_insert_with(|| {
                        Attempt::new(self, queue, post, Vec::new(), deadline)
                    });
                    attempt.find_out(generation, part).await?;
                }
                Some((_, _, Standing::OtherLife)) => self.manifests.forget(queue),
                Some((_, _, Standing::Partly(_) | Standing::Reused)) | None => return Ok(false),
            }
            if Instant::now() >= deadline {
                return Err(late(queue));
            }
        }
    }

    /// The segment in which the lane goes on, opening one if there is none.
    async fn stand(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        before: Option<Stand>,
    ) -> Result<Stand, Error> {
        let manifest = self.with_open_segment(queue).await?;
        let Some(open) = manifest.open_segment() else {
            return Err(Error::unavailable(format!("queue {}: no segment is open", queue.name)));
        };
        if let Some(stand) = before.filter(|stand| stand.is_in(manifest.generation, open.no)) {
            return Ok(stand);
        }
        let pool = self.pool.id();
        Ok(Stand {
            generation: manifest.generation,
            no: open.no,
            replicas: open.replicas.iter().map(|replica| replica.at(pool)).collect(),
            // Never one that was used before: a name that was given up may stand under a key.
            producer: keyed_producer(self.pool.env().random()),
            next: 1,
        })
    }

    /// Sends a block to all replicas of the open segment; `Ok` tells the bytes that they hold.
    async fn append_everywhere(
        &self,
        stand: &Stand,
        records: Vec<Record>,
    ) -> Result<u64, Vec<Failure>> {
        let bytes: EncodedBlock = Block::of(records).encode().into();
        let questions = stand.replicas.iter().map(|at| {
            let (producer, block, noted) = (stand.producer, stand.next, stand.next - 1);
            let append = Append { at: *at, producer, block, noted, bytes: bytes.clone() };
            (at.cookie.node, Op::Append(append))
        });
        let mut most = 0;
        let mut failures = Vec::new();
        for answer in ask_all::<Appended>(&self.pool, questions.collect()).await {
            match answer {
                Ok(appended) => most = most.max(appended.bytes),
                Err(failure) => failures.push(failure),
            }
        }
        if failures.is_empty() { Ok(most) } else { Err(failures) }
    }

    /// Tells the replicas what was acked: it spares readers of a thin segment the wait.
    fn note_acked(self: &Arc<Self>, stand: &Stand) {
        let pool = Arc::clone(&self.pool);
        let (producer, noted, replicas) = (stand.producer, stand.next, stand.replicas.clone());
        self.spawn(async move {
            let notes = replicas.into_iter().map(|at| {
                let op = Op::Note { at, producer, noted };
                ask::<()>(&pool, at.cookie.node, op)
            });
            futures_util::future::join_all(notes).await;
        });
    }
}

impl Attempt {
    fn new(
        core: &Arc<Core>,
        queue: &Arc<QueueState>,
        post: KeyedPost,
        records: Vec<Record>,
        deadline: Instant,
    ) -> Self {
        Self {
            core: Arc::clone(core),
            queue: Arc::clone(queue),
            post,
            records,
            deadline,
            mine: None,
            seen: None,
            pause: LOOK_AGAIN.0,
            tried: false,
        }
    }

    async fn run(&mut self) -> Result<Vec<MessageId>, Error> {
        loop {
            let (generation, standing) = self.core.keyed_standing(&self.queue, &self.post).await?;
            match standing {
                Standing::Whole(parts, until_ms) => {
                    self.core.keep_key(&self.queue, &self.post, until_ms).await;
                    return Ok(self.ids(generation, &parts));
                }
                Standing::Reused => return Err(self.reused()),
                Standing::OtherLife => self.core.manifests.forget(&self.queue),
                Standing::Pending(part) => self.find_out(generation, part).await?,
                Standing::Partly(done) => {
                    if let Some(ids) = self.post_next(done).await? {
                        return Ok(ids);
                    }
                }
            }
            if Instant::now() >= self.deadline {
                return Err(late(&self.queue));
            }
        }
    }

    /// Posts the next part. The ids, if that was the last one.
    async fn post_next(
        &mut self,
        mut done: Vec<PostPart>,
    ) -> Result<Option<Vec<MessageId>>, Error> {
        let (core, queue) = (Arc::clone(&self.core), Arc::clone(&self.queue));
        let turn = timeout_at(self.deadline, queue.lane.stand.lock()).await;
        let mut lane: MutexGuard<'_, _> = turn.map_err(|_| late(&queue))?;
        // From here on the lane has no place: if this ends in between, the next one takes a fresh
        // producer, and no name is used twice.
        let mut stand = core.stand(&queue, lane.take()).await?;
        let records = self.next_records(&done);
        let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
        let part =
            PostPart { segment: stand.no, producer: stand.producer, block: stand.next, count };
        let (life, by) = (stand.generation, self.deadline);
        if !core.name_part(&queue, &self.post, &done, part, life, by).await? {
            *lane = Some(stand);
            return Ok(None);
        }
        self.tried = true;
        match core.append_everywhere(&stand, records).await {
            Ok(bytes) => {
                core.note_acked(&stand);
                if bytes >= core.pool.config().segment_bytes {
                    close_full(&core, &queue, stand.no);
                }
                let generation = stand.generation;
                stand.next += 1;
                *lane = Some(stand);
                drop(lane);
                done.push(part);
                let noted = core.settle_part(&queue, &self.post, part, true);
                if self.posted(&done) < self.records.len() {
                    noted.await?;
                    return Ok(None);
                }
                // It is in the log: whoever asks next finds that out, if it is not noted.
                tokio::time::timeout(NOTE_WITHIN, noted).await.ok();
                Ok(Some(self.ids(generation, &done)))
            }
            Err(failures) => {
                if let Some(failure) = failures.first() {
                    tracing::debug!(queue = queue.name, %failure, "a keyed post was not taken");
                }
                core.manifests.forget(&queue);
                self.mine = Some(part);
                Ok(None)
            }
        }
    }

    /// Finds out what became of a part, once its poster has had the time to say so.
    async fn find_out(&mut self, generation: Generation, part: PostPart) -> Result<(), Error> {
        let (core, queue) = (Arc::clone(&self.core), Arc::clone(&self.queue));
        let now = core.manifests.read(&queue).await?.ok_or_else(|| not_found(&queue))?;
        if now.generation != generation {
            return Ok(());
        }
        let since = match self.seen {
            Some((seen, since)) if seen == part => since,
            _ => {
                self.pause = LOOK_AGAIN.0;
                self.seen.insert((part, Instant::now())).1
            }
        };
        let copies_min = core.pool.config().copies_min;
        let is_in_log = match now.fate(part.segment, part.producer, part.block, copies_min) {
            Fate::Undecided if self.mine == Some(part) || since.elapsed() >= TAKE_OVER_AFTER => {
                let why = "a post with a key was not finished";
                if let Err(error) = core.move_on(&queue, part.segment, why).await {
                    if Instant::now() >= self.deadline || !error.is_retryable() {
                        return Err(error);
                    }
                    self.wait().await;
                }
                return Ok(());
            }
            Fate::Undecided => {
                self.wait().await;
                return Ok(());
            }
            Fate::Thin => {
                core.repair_soon(&queue, part.segment);
                self.wait().await;
                return Ok(());
            }
            Fate::Counts => true,
            Fate::Void => false,
            // It was lost with every node that had it; or nobody knows what it had.
            Fate::Forgotten if now.segment(part.segment).is_some() => return Err(self.lost()),
            // Whoever took the segment out noted before what became of the parts named until then
            // (`settle_parts_of`). This one was named later, when the segment was closed already,
            // and sent later still: it was refused.
            Fate::Forgotten => false,
        };
        core.settle_part(&queue, &self.post, part, is_in_log).await
    }

    async fn wait(&mut self) {
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LOOK_AGAIN.1);
    }

    fn posted(&self, done: &[PostPart]) -> usize {
        done.iter().map(|part| usize::from(part.count)).sum()
    }

    /// What goes into the next block: at least one message.
    fn next_records(&self, done: &[PostPart]) -> Vec<Record> {
        let most = self.core.pool.config().block_messages.clamp(1, MAX_MESSAGES);
        let mut bytes = 0;
        let left = self.records.iter().skip(self.posted(done)).take(most).enumerate();
        left.take_while(|(place, record)| {
            bytes += record.envelope.len();
            *place == 0 || bytes <= PART_BYTES
        })
        .map(|(_, record)| record.clone())
        .collect()
    }

    fn ids(&self, generation: Generation, parts: &[PostPart]) -> Vec<MessageId> {
        let tag = self.core.tag(&self.queue, generation);
        let places = parts.iter().flat_map(|part| {
            let indices = (0..part.count).filter_map(|index| u8::try_from(index).ok());
            indices.map(|index| (*part, index))
        });
        places
            .map(|(PostPart { segment, producer, block, .. }, index)| MessageId {
                tag,
                segment,
                at: MessageRef { producer, block, index },
            })
            .collect()
    }

    fn reused(&self) -> Error {
        Error::new(
            ErrorKind::KeyReused,
            format!(
                "queue {}: the idempotency key was used for another request within the hour",
                self.queue.name
            ),
        )
    }

    fn lost(&self) -> Error {
        Error::new(
            ErrorKind::Lost,
            format!(
                "queue {}: the nodes that knew what became of a post with this key have lost it",
                self.queue.name
            ),
        )
        .unknown()
    }
}

/// Has a segment closed that has grown to its size.
fn close_full(core: &Arc<Core>, queue: &Arc<QueueState>, no: SegmentNo) {
    let (weak, queue) = (Arc::downgrade(core), Arc::clone(queue));
    core.spawn(async move {
        let Some(core) = weak.upgrade() else { return };
        if let Err(error) = core.move_on(&queue, no, "it is full").await {
            tracing::debug!(queue = queue.name, %error, "could not move on");
        }
    });
}

/// By which a repeated post is recognised: its messages, with their times.
fn digest_of(records: &[Record]) -> u64 {
    let times: Vec<[u8; 8]> = records
        .iter()
        .map(|record| {
            let times = (u64::from(record.ttl_ms) << 32) | u64::from(record.delay_ms);
            times.to_le_bytes()
        })
        .collect();
    let parts: Vec<&[u8]> = records
        .iter()
        .zip(&times)
        .flat_map(|(record, times)| [&record.envelope[..], &times[..]])
        .collect();
    digest(&parts)
}

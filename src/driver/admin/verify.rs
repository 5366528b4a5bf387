//! Whether the replicas of each segment hold the same messages.
//!
//! A replica is read page by page, and what is in its messages is summed up in a digest that does not
//! depend on the order of their arrival. Ended messages count for nothing. Where digests differ the
//! replicas are compared message by message: one may only have been deleted, or have expired, on one
//! of them a moment before the other. So what differs is looked at again, and only what stays is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::time::sleep;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::admin::{Verified, VerifiedReplica};
use crate::driver::ask::{Failure, ask, ask_within};
use crate::driver::{Core, QueueState};
use crate::error::Error;
use crate::id::{MessageRef, Offset, ReplicaAt, SegmentNo};
use crate::node::{Coverage, Entry, Filter, Frontier, Op, Page, Read};
use crate::protocol::frontier::{covered, end_of};
use crate::protocol::manifest::{Segment, Standing};

/// How long one page may take.
const LIMIT: Duration = Duration::from_secs(2);
/// Messages and bytes of one page.
const PAGE: (u32, u32) = (1_000, 1024 * 1024);
/// Segments compared at the same time.
const TOGETHER: usize = 4;
/// How often what differs is looked at again, and how long after.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(700);
/// A message that ends so soon may have ended elsewhere already.
const ENDS_SOON_MS: u64 = 10_000;

/// What one replica holds of a segment.
struct Content {
    digest: u128,
    messages: u64,
    /// Each message: its own digest, and how long it lives still. Only if asked for.
    each: BTreeMap<MessageRef, (u128, u64)>,
}

/// Whether messages are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grain {
    Sum,
    EachMessage,
}

impl Core {
    /// Compares the replicas of every segment of every queue.
    pub(crate) async fn verify(
        self: &Arc<Self>,
        mut tell: impl FnMut(Verified) + Send,
    ) -> Result<(), Error> {
        self.pool.refresh().await?;
        let mut walk = self.walk();
        loop {
            let queues = self.next_queues(&mut walk).await?;
            if queues.is_empty() {
                return Ok(());
            }
            let segments = queues.iter().flat_map(|(register, manifest)| {
                let queue = self.queue_named(register);
                let segments = manifest.segments.iter().filter(|segment| !segment.lost);
                segments.filter_map(move |segment| Some((queue.clone()?, segment.clone())))
            });
            let compared = segments.map(|(queue, segment)| self.verify_segment(queue, segment));
            let mut compared = futures_util::stream::iter(compared).buffered(TOGETHER);
            while let Some(verified) = compared.next().await {
                verified.into_iter().for_each(&mut tell);
            }
        }
    }

    /// `None`: the segment has left.
    async fn verify_segment(
        self: &Arc<Self>,
        queue: Arc<QueueState>,
        mut segment: Segment,
    ) -> Option<Verified> {
        let mut looks = 0;
        loop {
            let verified = self.compare(&queue, &segment).await;
            looks += 1;
            if verified.agrees || looks == LOOKS {
                return Some(verified);
            }
            sleep(PAUSE).await;
            segment = match self.manifests.read(&queue).await {
                Ok(Some(manifest)) => manifest.segment(segment.no).filter(|s| !s.lost)?.clone(),
                Ok(None) => return None,
                Err(_) => segment,
            };
        }
    }

    async fn compare(&self, queue: &QueueState, segment: &Segment) -> Verified {
        let replicas = self.addresses(segment, Standing::Full);
        let end = match &segment.end {
            Some(end) => Ok(end.clone()),
            None => self.common(&replicas).await,
        };
        let end = match end {
            Ok(end) => end,
            Err(why) => return self.unread(queue, segment.no, &replicas, &why),
        };
        let sums = self.contents(&replicas, &end, Grain::Sum).await;
        let first = sums.iter().flatten().next().map(|content| content.digest);
        let same = sums.iter().all(|sum| sum.as_ref().ok().map(|content| content.digest) == first);
        let mut differing = vec![0; replicas.len()];
        let mut agrees = same && first.is_some();
        if !agrees && sums.iter().all(Result::is_ok) {
            let contents = self.contents(&replicas, &end, Grain::EachMessage).await;
            let contents: Vec<Content> = contents.into_iter().flatten().collect();
            if contents.len() == replicas.len() {
                differing = differences(&contents);
                agrees = differing.iter().all(|count| *count == 0);
            }
        }
        let messages = sums.iter().flatten().map(|content| content.messages).max().unwrap_or(0);
        let each = replicas.iter().zip(sums).zip(differing).map(|((at, sum), differing)| {
            let digest = sum.map(|content| format!("{:032x}", content.digest));
            VerifiedReplica { node: self.pool.name(at.cookie.node), digest, differing }
        });
        let (queue, segment) = (queue.index.clone(), segment.no.0.into());
        Verified { queue, segment, messages, replicas: each.collect(), agrees }
    }

    /// What all replicas of an open segment have.
    async fn common(&self, replicas: &[ReplicaAt]) -> Result<Frontier, String> {
        let asked = replicas
            .iter()
            .map(|at| ask::<Coverage>(&self.pool, at.cookie.node, Op::Probe { at: *at }));
        let told: Result<Vec<Coverage>, Failure> = join_all(asked).await.into_iter().collect();
        told.map(|coverages| end_of(&coverages)).map_err(|failure| failure.to_string())
    }

    fn unread(
        &self,
        queue: &QueueState,
        no: SegmentNo,
        replicas: &[ReplicaAt],
        why: &str,
    ) -> Verified {
        let each = replicas.iter().map(|at| VerifiedReplica {
            node: self.pool.name(at.cookie.node),
            digest: Err(why.to_owned()),
            differing: 0,
        });
        let (queue, segment) = (queue.index.clone(), no.0.into());
        Verified { queue, segment, messages: 0, replicas: each.collect(), agrees: false }
    }

    async fn contents(
        &self,
        replicas: &[ReplicaAt],
        end: &Frontier,
        grain: Grain,
    ) -> Vec<Result<Content, String>> {
        let read = replicas.iter().map(|at| self.content(*at, end, grain));
        let read = join_all(read).await.into_iter();
        read.map(|content| content.map_err(|failure| failure.to_string())).collect()
    }

    /// Reads a replica to its end.
    async fn content(
        &self,
        at: ReplicaAt,
        end: &Frontier,
        grain: Grain,
    ) -> Result<Content, Failure> {
        let mut content = Content { digest: 0, messages: 0, each: BTreeMap::new() };
        let mut from = Offset::default();
        loop {
            let (limit, max_bytes) = PAGE;
            let read = Op::Read(Read { at, from, limit, max_bytes, filter: Filter::default() });
            let page: Page = ask_within(&self.pool, at.cookie.node, read, LIMIT).await?;
            let counts = |entry: &&Entry| entry.at.block <= covered(end, entry.at.producer);
            for entry in page.blocks.iter().flat_map(|block| &block.entries).filter(counts) {
                let digest = digest(entry);
                content.digest = content.digest.wrapping_add(digest);
                content.messages += 1;
                if grain == Grain::EachMessage {
                    let left = u64::from(entry.ttl_ms).saturating_sub(entry.age_ms);
                    content.each.insert(entry.at, (digest, left));
                }
            }
            if page.at_tail || page.next == from {
                return Ok(content);
            }
            from = page.next;
        }
    }
}

/// What must be the same on all replicas of a message: which it is, and what was posted.
fn digest(entry: &Entry) -> u128 {
    let MessageRef { producer, block, index } = entry.at;
    let mut about = Vec::with_capacity(entry.envelope.len() + 32);
    about.extend_from_slice(&producer.0.to_le_bytes());
    about.extend_from_slice(&block.to_le_bytes());
    about.push(index);
    about.extend_from_slice(&entry.delay_ms.to_le_bytes());
    about.extend_from_slice(entry.client.as_ref().map_or(b"", |client| client.as_str().as_bytes()));
    about.push(0);
    about.extend_from_slice(&entry.envelope);
    xxh3_128_with_seed(&about, 0)
}

/// How many messages each replica lacks that most of the others have, or has otherwise.
fn differences(contents: &[Content]) -> Vec<u64> {
    let all: BTreeSet<MessageRef> =
        contents.iter().flat_map(|content| content.each.keys().copied()).collect();
    let mut differing = vec![0; contents.len()];
    for message in all {
        let held: Vec<Option<&(u128, u64)>> =
            contents.iter().map(|content| content.each.get(&message)).collect();
        // It is ending, and has ended on some.
        let soon = held.iter().flatten().any(|(_, left)| *left <= ENDS_SOON_MS);
        let digests: Vec<Option<u128>> =
            held.iter().map(|held| held.map(|(digest, _)| *digest)).collect();
        if soon && digests.iter().flatten().collect::<BTreeSet<_>>().len() == 1 {
            continue;
        }
        let votes = |digest: &Option<u128>| digests.iter().filter(|other| *other == digest).count();
        // Where as many say so as say otherwise, whoever has the message is right.
        let right = digests.iter().max_by_key(|digest| (votes(digest), digest.is_some()));
        for (count, digest) in differing.iter_mut().zip(&digests) {
            *count += u64::from(Some(digest) != right);
        }
    }
    differing
}

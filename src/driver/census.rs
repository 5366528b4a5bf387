//! Counting the messages of all queues that this process has met, for monitoring.
//!
//! A count asks nodes, so it is bounded: [`AT_ONCE`] segments at a time, those first that were never
//! counted or not for the longest time. What was counted before stands in for the rest, so that with
//! few segments the sum is exact, and with many it lags behind and says by how much.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::ask::ask;
use super::{Core, QueueState, locked};
use crate::id::{Generation, Offset, ReplicaAt, SegmentNo};
use crate::metrics::Census;
use crate::node::{Entry, Filter, Op, Page, Read, Stats};
use crate::protocol::manifest::{Segment, Standing};

/// Segments counted at a time.
const AT_ONCE: usize = 128;
/// Calls for it under way together.
const TOGETHER: usize = 8;
/// How long a count stands before another is begun.
const STANDS_FOR: Duration = Duration::from_secs(5);

/// One segment of one life of one queue.
type Key = (String, Generation, SegmentNo);

/// What is known from counting.
#[derive(Debug, Default)]
pub(crate) struct Book {
    counted_at: Option<Instant>,
    segments: BTreeMap<Key, Line>,
}

/// What is known of one segment.
#[derive(Debug, Default)]
struct Line {
    /// When it was last tried.
    tried_at: Option<Instant>,
    counts: Option<(Instant, Counts)>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Active, claimed, delayed.
    messages: [u64; 3],
    bytes: u64,
    oldest_unclaimed: Option<Duration>,
}

impl Core {
    /// Counts a part of the messages anew, unless that was done a moment ago or is being done.
    pub(crate) async fn count_messages(&self) {
        let Ok(mut book) = self.census.book.try_lock() else { return };
        if book.counted_at.is_some_and(|at| at.elapsed() < STANDS_FOR) {
            return;
        }
        // What this process has not used for long may have been mended, or deleted, by others.
        self.refresh(self.known().into_iter().filter(|queue| self.seems_short(queue))).await;
        let (mut census, segments) = self.look_at_manifests();
        book.segments.retain(|key, _| segments.contains_key(key));
        for key in segments.keys() {
            if !book.segments.contains_key(key) {
                book.segments.insert(key.clone(), Line::default());
            }
        }
        let mut due: Vec<(Option<Instant>, &Key)> =
            book.segments.iter().map(|(key, line)| (line.tried_at, key)).collect();
        due.sort_unstable();
        let due: Vec<Key> = due.into_iter().take(AT_ONCE).map(|(_, key)| key.clone()).collect();
        let asked = due.into_iter().filter_map(|key| {
            let replicas = segments.get(&key)?.clone();
            Some(async move { (key, self.count_segment(&replicas).await) })
        });
        let counted: Vec<_> =
            futures_util::stream::iter(asked).buffer_unordered(TOGETHER).collect().await;
        let uncounted = counted.iter().filter(|(_, counts)| counts.is_none());
        let uncounted: BTreeSet<&String> = uncounted.map(|((register, ..), _)| register).collect();
        self.refresh(uncounted.into_iter().filter_map(|register| self.met(register))).await;
        let now = Instant::now();
        for (key, counts) in counted {
            if let Some(line) = book.segments.get_mut(&key) {
                line.tried_at = Some(now);
                line.counts = counts.map(|counts| (now, counts)).or(line.counts);
            }
        }
        book.counted_at = Some(now);
        for line in book.segments.values() {
            add(&mut census, line, now);
        }
        *locked(&self.census.latest) = Some((now, census));
    }

    /// Whether a segment lacks copies as far as this process knows the queue's manifest.
    fn seems_short(&self, queue: &QueueState) -> bool {
        let known = self.manifests.old(queue).filter(|manifest| manifest.alive);
        known.is_some_and(|manifest| manifest.settled().any(|segment| self.is_short(segment)))
    }

    fn is_short(&self, segment: &Segment) -> bool {
        self.standing_copies(segment) < self.pool.config().copies
    }

    /// Asks the keepers for those of the manifests that are known to be out of date, a part of them.
    async fn refresh(&self, queues: impl Iterator<Item = Arc<QueueState>>) {
        if self.pool.registers().away().is_some() {
            return;
        }
        let outdated = queues.filter(|queue| self.manifests.cached(queue).is_none()).take(AT_ONCE);
        let outdated: Vec<_> = outdated.collect();
        let read = |queue: Arc<QueueState>| async move {
            if let Err(error) = self.manifests.read(&queue).await {
                tracing::debug!(queue = queue.name, %error, "it is counted as it was known");
            }
        };
        futures_util::stream::iter(outdated).for_each_concurrent(TOGETHER, read).await;
    }

    /// The latest count, with its age as of now. Segments are counted anew each time: that asks
    /// nobody.
    pub(crate) fn latest_census(&self) -> Option<Census> {
        let (at, mut census) = locked(&self.census.latest).clone()?;
        census.age += at.elapsed();
        let (now, _) = self.look_at_manifests();
        Some(Census {
            segments_open: now.segments_open,
            segments_closed: now.segments_closed,
            segments_lost: now.segments_lost,
            segments_under_replicated: now.segments_under_replicated,
            ..census
        })
    }

    /// What the manifests say, without asking anybody; and where the messages are.
    fn look_at_manifests(&self) -> (Census, BTreeMap<Key, Vec<ReplicaAt>>) {
        let mut census = Census::default();
        let mut segments = BTreeMap::new();
        for queue in self.known() {
            let Some(manifest) = self.manifests.old(&queue).filter(|m| m.alive) else { continue };
            for segment in &manifest.segments {
                if segment.lost {
                    census.segments_lost += 1;
                    continue;
                }
                if segment.is_open() {
                    census.segments_open += 1;
                } else {
                    census.segments_closed += 1;
                    census.segments_under_replicated += u64::from(self.is_short(segment));
                }
                let key = (queue.register.clone(), manifest.generation, segment.no);
                segments.insert(key, self.usable_replicas(segment));
            }
        }
        (census, segments)
    }

    fn usable_replicas(&self, segment: &Segment) -> Vec<ReplicaAt> {
        let mut replicas = self.addresses(segment, Standing::Full);
        replicas.retain(|at| self.pool.usable(at.cookie));
        replicas
    }

    /// `None`: nobody says.
    async fn count_segment(&self, replicas: &[ReplicaAt]) -> Option<Counts> {
        let at = *replicas.first()?;
        let stats: Stats = ask(&self.pool, at.cookie.node, Op::Stats { at }).await.ok()?;
        let Stats { active, claimed, delayed, bytes, oldest, .. } = stats;
        let is_to_be_had =
            |entry: &Entry| entry.claim.is_none() && entry.age_ms >= entry.delay_ms.into();
        let oldest_ms = match oldest {
            _ if active == 0 => None,
            Some(entry) if is_to_be_had(&entry) => Some(entry.age_ms),
            _ => self.oldest_to_be_had(at).await,
        };
        let oldest_unclaimed = oldest_ms.map(Duration::from_millis);
        Some(Counts { messages: [active, claimed, delayed], bytes, oldest_unclaimed })
    }

    /// The age of the first message that is neither claimed nor delayed.
    async fn oldest_to_be_had(&self, at: ReplicaAt) -> Option<u64> {
        let filter = Filter { not_from: None, skip_claimed: true, skip_delayed: true };
        let read = Read { at, from: Offset::default(), limit: 1, max_bytes: 1, filter };
        let page: Page = ask(&self.pool, at.cookie.node, Op::Read(read)).await.ok()?;
        page.blocks.iter().flat_map(|block| &block.entries).map(|entry| entry.age_ms).next()
    }
}

/// What the counting of messages keeps.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    /// Held while this process counts.
    book: tokio::sync::Mutex<Book>,
    latest: std::sync::Mutex<Option<(Instant, Census)>>,
}

fn add(census: &mut Census, line: &Line, now: Instant) {
    let Some((at, counts)) = line.counts else {
        census.segments_uncounted += 1;
        return;
    };
    let [active, claimed, delayed] = counts.messages;
    census.active += active;
    census.claimed += claimed;
    census.delayed += delayed;
    let [active, claimed, delayed] = apportioned(counts.bytes, counts.messages);
    census.active_bytes += active;
    census.claimed_bytes += claimed;
    census.delayed_bytes += delayed;
    census.oldest_unclaimed = census.oldest_unclaimed.max(counts.oldest_unclaimed);
    census.age = census.age.max(now.duration_since(at));
}

/// Bytes by state, as if all messages of the segment had the same length: nodes do not know them by
/// state. The sum is what it was.
fn apportioned(bytes: u64, messages: [u64; 3]) -> [u64; 3] {
    let all: u64 = messages.iter().sum();
    let of_first = |count: u64| {
        let part = u128::from(bytes) * u128::from(count) / u128::from(all.max(1));
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    let mut before = 0;
    messages.map(|count| {
        let upto = before + count;
        of_first(upto) - of_first(std::mem::replace(&mut before, upto))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_apportioned_by_messages_and_none_is_lost() {
        assert_eq!(apportioned(100, [1, 2, 1]), [25, 50, 25]);
        assert_eq!(apportioned(100, [0, 3, 0]), [0, 100, 0]);
        assert_eq!(apportioned(10, [1, 1, 1]).iter().sum::<u64>(), 10);
        assert_eq!(apportioned(u64::MAX, [7, 11, 13]).iter().sum::<u64>(), u64::MAX);
        assert_eq!(apportioned(0, [0, 0, 0]), [0, 0, 0]);
    }
}

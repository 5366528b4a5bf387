//! Reading: through the segments in the order in which they were written, one replica at a time.
//!
//! In a closed segment what is at or below the end is in the log for good; while it has too few
//! full replicas, only what was noted as acked. In the open one a page is read from one replica
//! while the others are asked what they cover: what all of them have is in the log for good, and
//! if none of them is sealed then nothing comes after it yet (Q2, Q5). So a page costs one round
//! trip, and a message is listed as soon as its post was acknowledged.

use std::sync::Arc;

use tokio::time::Instant;

use super::ask::{Failure, ask, ask_all, unavailable};
use super::{Core, QueueState, locked};
use crate::Message;
use crate::error::{Error, ErrorKind};
use crate::id::{Offset, Placement, ReplicaAt, SegmentNo};
use crate::node::{Coverage, Filter, Frontier, Op, Page, Read};
use crate::protocol::frontier::{minimum, noted};
use crate::protocol::manifest::{Manifest, Segment, Standing};
use crate::protocol::tail::{Bound, Passage};
use crate::queue::{ListOptions, MessagePage};
use crate::time::millis;
use crate::token::{Marker, QueueTag};

/// Bytes of bodies in one page.
const PAGE_BYTES: u32 = 4 * 1024 * 1024;

/// Why an open segment cannot be read on, most often.
const SEALED_OR_SILENT: &str = "a replica is sealed or does not answer";

/// A walk on its way.
struct Walk {
    tag: QueueTag,
    segment: SegmentNo,
    placement: Placement,
    passage: Passage,
    messages: Vec<Message>,
    limit: usize,
    filter: Filter,
    /// When what is waited for is given up.
    deadline: Instant,
}

/// What one segment came to.
enum Step {
    /// The page is full, or the log's end was reached.
    Stop,
    /// On to the next segment.
    Next,
    /// The manifest is out of date: look again.
    Again,
}

impl Walk {
    fn marker(&self) -> Marker {
        Marker {
            tag: self.tag,
            segment: self.segment,
            placement: self.placement,
            offset: self.passage.offset,
            frontier: self.passage.frontier.clone(),
        }
    }

    fn left(&self) -> u32 {
        u32::try_from(self.limit - self.messages.len().min(self.limit)).unwrap_or(u32::MAX)
    }

    fn enter(&mut self, segment: SegmentNo) {
        self.segment = segment;
        self.placement = Placement(0);
        self.passage = Passage::default();
    }
}

impl Core {
    /// A page of messages.
    pub(crate) async fn list(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        options: &ListOptions,
    ) -> Result<MessagePage, Error> {
        self.open_or_error()?;
        let deadline = Instant::now() + self.pool.config().deadline;
        let nothing = || MessagePage { messages: Vec::new(), marker: options.marker.clone() };
        let mut checked = false;
        let mut failed_by = None;
        // An open segment needs no keepers: each of its replicas is asked.
        let (manifest, keepers_silent) = self.manifests.get_or_old(queue).await?;
        let Some(mut manifest) = manifest else { return Ok(nothing()) };
        let mut walk = match self.begin(queue, &manifest, options, deadline) {
            Ok(walk) => walk,
            // The marker may be of a life or a segment that this process has not heard of.
            Err(_) if keepers_silent.is_none() => {
                let Some(now) = self.manifests.read(queue).await? else { return Ok(nothing()) };
                manifest = now;
                self.begin(queue, &manifest, options, deadline)?
            }
            Err(error) => return Err(error),
        };
        loop {
            let step = match next_segment(&manifest, &walk) {
                Some(segment) if segment.lost => {
                    let told = (manifest.generation, segment.no);
                    if locked(&queue.told_lost).contains(&told) {
                        walk.enter(SegmentNo(segment.no.0 + 1));
                        continue;
                    }
                    if walk.messages.is_empty() {
                        locked(&queue.told_lost).insert(told);
                        return Err(lost(queue, segment));
                    }
                    // What was found before it is given first.
                    Step::Stop
                }
                Some(segment) => {
                    if segment.no != walk.segment {
                        walk.enter(segment.no);
                    }
                    let step = match (segment.end.is_some(), &keepers_silent) {
                        (false, silent) => {
                            self.walk_open(queue, segment, silent.is_some(), &mut walk).await
                        }
                        (true, None) => self.walk_closed(queue, segment, &mut walk).await,
                        // Its replicas may have been dropped since: nobody can tell.
                        (true, Some(error)) => Err(error.copy()),
                    };
                    match step {
                        // What failed by a manifest that was out of date is tried with a new one,
                        // as often as it changes meanwhile.
                        Err(_)
                            if failed_by != Some(manifest.version) && keepers_silent.is_none() =>
                        {
                            failed_by = Some(manifest.version);
                            Step::Again
                        }
                        // What was found is given; the rest is asked for with its marker.
                        Err(_) if !walk.messages.is_empty() => Step::Stop,
                        step => step?,
                    }
                }
                // No open segment: only the keepers know whether there is one by now.
                None if checked => Step::Stop,
                None => Step::Again,
            };
            match step {
                Step::Stop => break,
                Step::Next => {
                    // Past the end of this segment; the next one, if any, is entered at its head.
                    walk.segment = SegmentNo(walk.segment.0 + 1);
                    walk.enter(walk.segment);
                }
                Step::Again => {
                    if Instant::now() >= deadline {
                        return Err(unavailable(&queue.name, "the page took too long", &[]));
                    }
                    match self.manifests.read(queue).await {
                        Ok(Some(now)) if now.generation == manifest.generation => {
                            checked = true;
                            manifest = now;
                        }
                        _ if !walk.messages.is_empty() => break,
                        Ok(None) => return Ok(nothing()),
                        Ok(Some(now)) => {
                            // It was deleted and made again: a walk from the start begins with that.
                            manifest = now;
                            walk = self.begin(queue, &manifest, options, deadline)?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        let marker = Some(walk.marker());
        Ok(MessagePage { messages: walk.messages, marker })
    }

    fn begin(
        &self,
        queue: &QueueState,
        manifest: &Manifest,
        options: &ListOptions,
        deadline: Instant,
    ) -> Result<Walk, Error> {
        let tag = self.tag(queue, manifest.generation);
        let marker = options.marker.clone();
        if marker.as_ref().is_some_and(|m| m.tag != tag || m.segment > manifest.next) {
            return Err(Error::invalid(format!(
                "marker of another queue, or of an earlier life of queue {}",
                queue.name
            )));
        }
        let (segment, placement, passage) = match marker {
            Some(m) => (m.segment, m.placement, Passage::from(m.offset, m.frontier)),
            None => {
                let first = manifest.segments.first().map_or(manifest.next, |segment| segment.no);
                (first, Placement(0), Passage::default())
            }
        };
        Ok(Walk {
            tag,
            segment,
            placement,
            passage,
            messages: Vec::new(),
            limit: options.limit,
            filter: Filter {
                not_from: options.not_from.clone(),
                skip_claimed: !options.include_claimed,
                skip_delayed: !options.include_delayed,
            },
            deadline,
        })
    }

    /// Walks a closed segment on one of its full replicas, the marker's own if it is there.
    async fn walk_closed(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        walk: &mut Walk,
    ) -> Result<Step, Error> {
        let Some(end) = &segment.end else { return Ok(Step::Again) };
        let mut replicas = self.addresses(segment, Standing::Full);
        replicas.sort_by_key(|at| (at.placement != walk.placement, !self.pool.usable(at.cookie)));
        let thin = replicas.len() < self.pool.config().copies_min;
        let mut failures: Vec<Failure> = Vec::new();
        for at in replicas {
            if at.placement != walk.placement {
                walk.placement = at.placement;
                walk.passage.elsewhere();
            }
            match self.walk_replica(queue, at, end, thin, walk).await {
                Ok(step) => return Ok(step),
                Err(Broken::Failed(failure)) => {
                    if failure.is_loss() {
                        self.manifests.forget(queue);
                        self.repair_soon(queue, segment.no);
                    }
                    failures.push(failure);
                }
                Err(Broken::Hole(what)) => {
                    tracing::error!(
                        queue = queue.name, segment = %segment.no, replica = %at.placement, what,
                        "a replica lacks what it must have"
                    );
                }
                Err(Broken::Other(error)) => return Err(error),
            }
        }
        self.repair_soon(queue, segment.no);
        Err(unavailable(
            &queue.name,
            &format!("no replica of segment {} can be read", segment.no),
            &failures,
        ))
    }

    async fn walk_replica(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        at: ReplicaAt,
        end: &Frontier,
        thin: bool,
        walk: &mut Walk,
    ) -> Result<Step, Broken> {
        let mut from = walk.passage.offset;
        walk.passage.again();
        loop {
            if walk.left() == 0 {
                return Ok(Step::Stop);
            }
            let page: Page = ask(&self.pool, at.cookie.node, self.read_op(at, from, walk)).await?;
            from = page.next;
            let (at_tail, acked) = (page.at_tail, noted(&page.coverage.producers));
            let safe = minimum(&acked, end);
            let nothing = Frontier::new();
            let bound = match thin {
                true => Bound::Confirmed { noted: &safe, probed: &nothing },
                false => Bound::End(end),
            };
            self.take(queue, page, bound, walk)?;
            if at_tail {
                if walk.passage.reached(end) {
                    return Ok(Step::Next);
                }
                if thin && walk.messages.is_empty() {
                    // An empty page would say that nothing more is there (Q2).
                    let repaired = self.repair_now(queue, walk.segment, walk.deadline).await;
                    return repaired.map(|()| Step::Again).map_err(Broken::Other);
                }
                if thin {
                    self.repair_soon(queue, walk.segment);
                    return Ok(Step::Stop);
                }
                return Err(Broken::Hole(format!("it ends before the segment does, {end:?}")));
            }
        }
    }

    /// Walks the open segment: one replica is read, all others are asked what they cover. By a
    /// manifest that `is_old` it may have been closed long ago, and messages deleted by others than
    /// the replica that is read: then a page counts only if all say that it is not sealed (Q8).
    async fn walk_open(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        is_old: bool,
        walk: &mut Walk,
    ) -> Result<Step, Error> {
        let mut replicas = self.addresses(segment, Standing::Full);
        replicas.sort_by_key(|at| (at.placement != walk.placement, !self.pool.usable(at.cookie)));
        let Some((at, others)) = replicas.split_first() else { return Ok(Step::Again) };
        if at.placement != walk.placement {
            walk.placement = at.placement;
            walk.passage.elsewhere();
        }
        walk.passage.again();
        let mut from = walk.passage.offset;
        // What the probes of the page found in which a block began to wait.
        let mut first_round: Option<Frontier> = None;
        // Whether all replicas have answered in all rounds so far.
        let mut complete = true;
        loop {
            if walk.left() == 0 {
                return Ok(Step::Stop);
            }
            let questions =
                others.iter().map(|at| (at.cookie.node, Op::Probe { at: *at })).collect();
            let read = self.read_op(*at, from, walk);
            let (page, probes) = tokio::join!(
                ask::<Page>(&self.pool, at.cookie.node, read),
                ask_all::<Coverage>(&self.pool, questions),
            );
            let page = match page {
                Ok(page) => page,
                Err(failure) => return self.resolve(queue, segment, &failure.to_string()).await,
            };
            from = page.next;
            let unsealed = page.coverage.sealed.is_none()
                && probes.iter().all(|p| p.as_ref().is_ok_and(|c| c.sealed.is_none()));
            if is_old && !unsealed {
                return self.resolve(queue, segment, SEALED_OR_SILENT).await;
            }
            complete &= unsealed;
            let acked = noted(&page.coverage.producers);
            let probed = first_round.take().unwrap_or_else(|| on_all(&page.coverage, &probes));
            let at_tail = page.at_tail;
            let bound = Bound::Confirmed { noted: &acked, probed: &probed };
            match self.take(queue, page, bound, walk) {
                Ok(()) => {}
                Err(Broken::Other(error)) => return Err(error),
                Err(Broken::Hole(what)) => return self.resolve(queue, segment, &what).await,
                Err(Broken::Failed(failure)) => {
                    return self.resolve(queue, segment, &failure.to_string()).await;
                }
            }
            if walk.passage.waits() {
                first_round = Some(probed);
            }
            let patience = self.pool.patience(at.cookie.node) + self.pool.config().note_after;
            if walk.passage.waited_ms.is_some_and(|waited| waited > millis(patience)) {
                return self.resolve(queue, segment, "a block waits for its replicas").await;
            }
            if at_tail {
                return match (complete, unsealed) {
                    (true, _) => Ok(Step::Stop),
                    // What waits for an earlier round may not have to wait any longer.
                    (false, true) => Ok(Step::Again),
                    (false, false) => self.resolve(queue, segment, SEALED_OR_SILENT).await,
                };
            }
        }
    }

    async fn resolve(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        why: &str,
    ) -> Result<Step, Error> {
        self.manifests.forget(queue);
        self.move_on(queue, segment.no, why).await?;
        Ok(Step::Again)
    }

    fn read_op(&self, at: ReplicaAt, from: Offset, walk: &Walk) -> Op {
        let limit = walk.left();
        let filter = walk.filter.clone();
        Op::Read(Read { at, from, limit, max_bytes: PAGE_BYTES, filter })
    }

    fn take(
        &self,
        queue: &QueueState,
        page: Page,
        bound: Bound<'_>,
        walk: &mut Walk,
    ) -> Result<(), Broken> {
        let next = page.next;
        let waits = |walk: &Walk| walk.passage.waited_ms.is_some();
        for block in page.blocks {
            let entries = walk.passage.take(block, bound).map_err(|hole| {
                Broken::Hole(format!("block {} of {}", hole.block, hole.producer))
            })?;
            for entry in entries {
                let message = self.message(queue, walk.tag, walk.segment, entry);
                walk.messages.push(message.map_err(Broken::Other)?);
            }
        }
        if !waits(walk) {
            // Past blocks that left nothing, too.
            walk.passage.offset = next.max(walk.passage.offset);
        }
        Ok(())
    }
}

fn lost(queue: &QueueState, segment: &Segment) -> Error {
    Error::new(
        ErrorKind::Lost,
        format!(
            "queue {}: segment {} was lost with every node that had it; reading goes on behind it",
            queue.name, segment.no
        ),
    )
}

/// What one round of probes found on every replica.
fn on_all(read: &Coverage, probes: &[Result<Coverage, Failure>]) -> Frontier {
    let mut all = read.frontier();
    for probe in probes {
        match probe {
            Ok(coverage) => all = minimum(&all, &coverage.frontier()),
            Err(_) => all.clear(),
        }
    }
    all
}

/// What every replica has: noted as acked, or covered by all of them.
pub(super) fn confirmed(read: &Coverage, probes: &[Result<Coverage, Failure>]) -> Frontier {
    let mut all = on_all(read, probes);
    for (producer, block) in noted(&read.producers) {
        let known = all.entry(producer).or_insert(0);
        *known = (*known).max(block);
    }
    all
}

/// The segment that the walk stands in, or the next one that is there.
fn next_segment<'a>(manifest: &'a Manifest, walk: &Walk) -> Option<&'a Segment> {
    manifest.segments.iter().find(|segment| segment.no >= walk.segment)
}

/// Why a replica cannot be read on.
enum Broken {
    Failed(Failure),
    Hole(String),
    Other(Error),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

//! Claiming: the first full replica picks, the others hold the same, what all hold is granted.
//!
//! The pick goes to one node for many segments at once: all those of which it holds the first
//! full replica, in order. Claims work on closed segments only; if nothing is free there and the
//! open one has something, it is closed first. A segment with too few full replicas is repaired
//! before anything of it is granted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{Failure, ask, ask_all, unavailable};
use super::holders::Spread;
use super::holds::{Holds, Releases, Renewals, Wish};
use super::leftovers::Leftovers;
use super::looks::Looks;
use super::{Core, QueueState, locked};
use crate::error::{Error, ErrorKind};
use crate::id::{ClaimKey, Cookie, Fencing, MessageRef, Placement, ReplicaAt, SegmentNo, Version};
use crate::node::{
    ClaimView, Coverage, Entry, Frontier, Held, HoldStatus, Op, Pick, Picked, Refusal,
};
use crate::protocol::frontier::minimum;
use crate::protocol::manifest::{Manifest, Segment, Standing};
use crate::queue::{Claim, ClaimOptions};
use crate::time::millis;
use crate::token::{ClaimId, QueueTag};

/// Segments that one pick looks at.
const PICK_SEGMENTS: usize = 64;
/// Bytes of bodies that one pick returns.
const PICK_BYTES: u32 = 4 * 1024 * 1024;
/// How long to wait after a pick of which nothing could be granted, and how often that doubles.
const FRUITLESS_MS: u64 = 2;
const DOUBLINGS: u32 = 5;

/// A pick that found something.
struct Found {
    /// Of the life in which it was picked.
    tag: QueueTag,
    segment: Segment,
    picker: ReplicaAt,
    fencing: Fencing,
    entries: Vec<Entry>,
}

/// Consecutive segments that one node can be asked about together.
struct Group {
    cookie: Cookie,
    version: Version,
    segments: Vec<Segment>,
}

impl Group {
    /// The replicas that are asked.
    fn pickers(&self) -> impl Iterator<Item = ReplicaAt> {
        let cookie = self.cookie;
        let placements = self.segments.iter().filter_map(first_placement);
        placements.map(move |placement| ReplicaAt { cookie, placement })
    }
}

impl Core {
    /// Claims messages; `None` if there is nothing to claim. An error is `NotApplied` unless
    /// messages may be kept from others by a claim that nobody was given.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        options: &ClaimOptions,
    ) -> Result<Option<Claim>, Error> {
        self.open_or_error()?;
        let mut left = Leftovers::default();
        match self.try_claim(queue, options, &mut left).await {
            Err(error) => Err(self.give_up(queue, left, error).await),
            claimed => claimed,
        }
    }

    async fn try_claim(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        options: &ClaimOptions,
        left: &mut Leftovers,
    ) -> Result<Option<Claim>, Error> {
        let whole = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX);
        let deadline = Instant::now() + self.pool.config().deadline;
        let mut checked = false;
        let mut fruitless = 0;
        loop {
            let (known, silent) = match checked {
                false => self.manifests.get_or_old(queue).await?,
                true => (self.manifests.read(queue).await?, None),
            };
            let Some(manifest) = known else { return Ok(None) };
            let wish = Wish {
                claim: ClaimKey(self.pool.env().random()),
                ttl_ms: whole(options.ttl).max(1),
                grace_ms: whole(options.grace),
                limit: options.limit.max(1),
            };
            let most = wish.limit << fruitless;
            if let Some(found) = self.pick(queue, &manifest, wish, most, deadline, left).await? {
                let segment = found.segment.clone();
                match self.grant(queue, wish, found, deadline).await {
                    Ok(Some(claim)) => return Ok(Some(claim)),
                    Ok(None) => {
                        // Another replica may know of a claim that has not ended there yet: what
                        // comes behind is picked, too, so that nobody waits for it.
                        let pause = Duration::from_millis(FRUITLESS_MS << fruitless);
                        tokio::time::sleep(pause).await;
                        fruitless = (fruitless + 1).min(DOUBLINGS);
                    }
                    Err(error) => {
                        left.add(wish.claim, self.holders(&segment));
                        return Err(error);
                    }
                }
            } else if let Some(error) = silent {
                // What is in the open segment cannot be claimed before that is closed.
                let what = "nothing is free in closed segments";
                return Err(Error::unavailable(format!(
                    "queue {}: {what}, and {error}",
                    queue.name
                )));
            } else if let Some(open) = manifest.open_segment() {
                if !self.holds_something(open).await {
                    return Ok(None);
                }
                self.move_on(queue, open.no, "its messages are claimed").await?;
            } else if checked {
                return Ok(None);
            } else {
                checked = true;
            }
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "queue {}: no claim could be made in time",
                    queue.name
                )));
            }
        }
    }

    /// Asks node after node, in the order of their segments, until one picks something: `most`
    /// messages at most.
    async fn pick(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        manifest: &Arc<Manifest>,
        wish: Wish,
        most: usize,
        deadline: Instant,
        left: &mut Leftovers,
    ) -> Result<Option<Found>, Error> {
        let mut manifest = Arc::clone(manifest);
        'again: loop {
            let thin = self.first_thin(&manifest);
            for group in groups(&manifest, self.pool.id(), thin) {
                let op = Op::Pick(Pick {
                    cookie: group.cookie,
                    placements: group.pickers().map(|at| at.placement).collect(),
                    version: group.version,
                    claim: wish.claim,
                    ttl_ms: wish.ttl_ms,
                    grace_ms: wish.grace_ms,
                    limit: u32::try_from(most).unwrap_or(u32::MAX),
                    max_bytes: PICK_BYTES,
                });
                let answer: Result<Picked, Failure> = ask(&self.pool, group.cookie.node, op).await;
                let settled = match answer {
                    Ok(picked) if picked.refused.is_empty() || picked.on.is_some() => Ok(picked),
                    Ok(picked) => Err(self.mend(queue, &group, &picked.refused).await?),
                    Err(failure) => {
                        if failure.may_be_applied() {
                            left.add(wish.claim, group.pickers());
                        }
                        self.drop_replicas(queue, &[group.cookie]).await?;
                        tracing::debug!(queue = queue.name, %failure, "a picker does not answer");
                        Err(())
                    }
                };
                match settled {
                    Ok(picked) => {
                        let tag = self.tag(queue, manifest.generation);
                        if let Some(found) = found(tag, &group, picked) {
                            return Ok(Some(found));
                        }
                    }
                    Err(()) => {
                        if Instant::now() >= deadline {
                            return Err(unavailable(&queue.name, "nobody can pick", &[]));
                        }
                        let Some(now) = self.manifests.read(queue).await? else {
                            return Ok(None);
                        };
                        manifest = now;
                        continue 'again;
                    }
                }
            }
            // What comes before a segment with too few replicas is given first; then it is mended.
            let Some(thin) = thin else { return Ok(None) };
            self.repair_now(queue, thin, deadline).await?;
            let Some(now) = self.manifests.get(queue).await? else { return Ok(None) };
            manifest = now;
        }
    }

    /// Does what a picker's refusals ask for.
    async fn mend(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        group: &Group,
        refused: &[(Placement, Refusal)],
    ) -> Result<(), Error> {
        for (placement, refusal) in refused {
            match refusal {
                Refusal::EndUnknown | Refusal::Open => {
                    let untold = group
                        .segments
                        .iter()
                        .find(|segment| first_placement(segment) == Some(*placement));
                    if let Some(segment) = untold {
                        self.tell_end(segment).await;
                    }
                }
                Refusal::Gone | Refusal::Stranger { .. } => {
                    // It may have left with its segment.
                    let now = self.manifests.read(queue).await?;
                    if now.is_some_and(|manifest| manifest.names(*placement)) {
                        self.drop_replicas(queue, &[group.cookie]).await?;
                    }
                }
                _ => self.manifests.forget(queue),
            }
        }
        Ok(())
    }

    fn first_thin(&self, manifest: &Manifest) -> Option<SegmentNo> {
        let copies_min = self.pool.config().copies_min;
        manifest
            .settled()
            .find(|segment| segment.full().count() < copies_min)
            .map(|segment| segment.no)
    }

    /// Lets the other replicas hold what was picked; grants what all hold, gives back the rest.
    async fn grant(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        wish: Wish,
        found: Found,
        deadline: Instant,
    ) -> Result<Option<Claim>, Error> {
        let (tag, no) = (found.tag, found.segment.no);
        let refs: Vec<MessageRef> = found.entries.iter().map(|entry| entry.at).collect();
        let picker = (found.picker, found.segment.version);
        let holds = Holds { wish, fencing: found.fencing, refs: &refs, picker };
        let answers = match self.spread(queue, tag, no, deadline, &holds).await? {
            Spread::Answered(answers) => answers,
            Spread::Absent | Spread::Open => return Ok(None),
        };
        // The picker must be among those who hold: else what it marked speaks for nobody.
        let picker_holds = answers.each.iter().any(|(at, _)| *at == found.picker);
        let mut granted = Vec::new();
        let (mut given_back, mut spare) = (Vec::new(), 0);
        let mut half_done = Vec::new();
        for (place, entry) in found.entries.into_iter().enumerate() {
            let status = |answer: &Result<Held, Refusal>| {
                answer.as_ref().ok().and_then(|held| held.each.get(place).copied())
            };
            let ended = answers
                .each
                .iter()
                .find(|(_, answer)| status(answer) == Some(HoldStatus::Ended))
                .map(|(at, _)| at.placement);
            if let Some(placement) = ended {
                half_done.push((entry.at, placement));
            }
            let all = answers.each.iter().all(|(_, a)| status(a) == Some(HoldStatus::Held));
            let is_granted = all && picker_holds;
            if is_granted && granted.len() < wish.limit {
                granted.push(entry);
            } else {
                spare += usize::from(is_granted);
                given_back.push(entry.at);
            }
        }
        let conflicts = given_back.len().saturating_sub(half_done.len() + spare);
        self.pool.counters().claim_conflicts.add(conflicts as u64);
        if granted.is_empty() {
            self.release_everywhere(queue, &found.segment, wish.claim, None).await;
        } else if !given_back.is_empty() {
            self.release_everywhere(queue, &found.segment, wish.claim, Some(given_back)).await;
        }
        if !half_done.is_empty() {
            // What is not finished was told to nobody: whoever meets it next finishes it.
            let _: bool = self.finish(queue, tag, no, &half_done, deadline).await?;
        }
        if granted.is_empty() {
            return Ok(None);
        }
        let id = ClaimId { tag, segment: no, claim: wish.claim, fencing: found.fencing };
        let held_by = Some((wish.claim, found.fencing));
        let messages = granted
            .into_iter()
            .map(|entry| self.message(queue, tag, no, Entry { claim: held_by, ..entry }))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Claim {
            id,
            ttl: Duration::from_millis(wish.ttl_ms.into()),
            age: Duration::ZERO,
            messages,
        }))
    }

    /// Whether an open segment holds anything that all its replicas have: what only some have was
    /// acknowledged to nobody yet, and closing the segment under it would send it on its way again.
    async fn holds_something(&self, open: &Segment) -> bool {
        let questions = open
            .full()
            .map(|replica| replica.at(self.pool.id()))
            .map(|at| (at.cookie.node, Op::Probe { at }))
            .collect::<Vec<_>>();
        let all = futures_util::future::join_all(
            questions.into_iter().map(|(node, op)| ask::<Coverage>(&self.pool, node, op)),
        )
        .await;
        // A replica that does not answer, or is sealed, asks for the segment to be closed too.
        let mut common: Option<Frontier> = None;
        for answer in all {
            let Ok(coverage) = answer else { return true };
            if coverage.sealed.is_some() {
                return true;
            }
            let frontier = coverage.frontier();
            common = Some(common.map_or(frontier.clone(), |common| minimum(&common, &frontier)));
        }
        common.is_some_and(|common| !common.is_empty())
    }

    fn holders(&self, segment: &Segment) -> Vec<ReplicaAt> {
        let mut holders = self.addresses(segment, Standing::Full);
        holders.extend(self.addresses(segment, Standing::Joining));
        holders
    }

    async fn release_everywhere(
        self: &Arc<Self>,
        queue: &QueueState,
        segment: &Segment,
        claim: ClaimKey,
        refs: Option<Vec<MessageRef>>,
    ) {
        let questions = self
            .holders(segment)
            .into_iter()
            .map(|at| (at.cookie.node, Op::Release { at, claim, refs: refs.clone() }))
            .collect();
        for released in ask_all::<()>(&self.pool, questions).await {
            if let Err(failure) = released {
                // The mark ends with the claim's time.
                tracing::debug!(queue = queue.name, %failure, "a release was not heard");
            }
        }
    }

    /// A live claim and its messages.
    pub(crate) async fn read_claim(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        id: &ClaimId,
    ) -> Result<Claim, Error> {
        self.open_or_error()?;
        let mut looks = Looks::until(Instant::now() + self.pool.config().deadline);
        loop {
            let (manifest, silent) = self.manifests.with_closed(queue, id.tag, id.segment).await?;
            let manifest = manifest
                .filter(|manifest| self.is_of(queue, manifest, id.tag))
                .ok_or_else(|| no_claim(id))?;
            let segment = manifest.segment(id.segment).filter(|segment| segment.is_settled());
            let segment = segment.ok_or_else(|| no_claim(id))?;
            looks.allow(manifest.version)?;
            if let Some(error) = silent {
                // By a manifest that may be old one replica alone speaks for nobody.
                let ask = |at: ReplicaAt| {
                    (at.cookie.node, Op::ReadClaim { at, claim: id.claim, fencing: id.fencing })
                };
                let full = self.addresses(segment, Standing::Full).into_iter().map(ask);
                let all = ask_all::<ClaimView>(&self.pool, full.collect()).await;
                if all.iter().any(Result::is_err) || !self.is_unsealed(&manifest).await {
                    return Err(error);
                }
            }
            match self.claim_in(segment, id).await? {
                Ok(view) => return self.claim_of(queue, id, view),
                // The segment, or its replicas, may have left since the manifest was read.
                Err(failures) => {
                    self.manifests.forget(queue);
                    self.repair_soon(queue, id.segment);
                    let what = "no replica of the claim's segment answers";
                    looks.failed(manifest.version, unavailable(&queue.name, what, &failures));
                }
            }
        }
    }

    /// What the first replica that answers knows of a claim; why nobody does.
    async fn claim_in(
        &self,
        segment: &Segment,
        id: &ClaimId,
    ) -> Result<Result<ClaimView, Vec<Failure>>, Error> {
        let mut failures = Vec::new();
        for at in self.addresses(segment, Standing::Full) {
            let op = Op::ReadClaim { at, claim: id.claim, fencing: id.fencing };
            match ask(&self.pool, at.cookie.node, op).await {
                Ok(view) => return Ok(Ok(view)),
                Err(Failure::Refused(Refusal::NoClaim)) => return Err(no_claim(id)),
                Err(failure) => failures.push(failure),
            }
        }
        Ok(Err(failures))
    }

    /// A claim as callers see it.
    fn claim_of(&self, queue: &QueueState, id: &ClaimId, view: ClaimView) -> Result<Claim, Error> {
        let message = |entry| self.message(queue, id.tag, id.segment, entry);
        Ok(Claim {
            id: *id,
            ttl: Duration::from_millis(view.ttl_ms.into()),
            age: Duration::from_millis(view.age_ms),
            messages: view.entries.into_iter().map(message).collect::<Result<Vec<_>, _>>()?,
        })
    }

    /// Restarts a live claim's time on every replica.
    pub(crate) async fn renew(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        id: &ClaimId,
        ttl_ms: u32,
        grace_ms: u32,
    ) -> Result<(), Error> {
        self.read_claim(queue, id).await?;
        let deadline = Instant::now() + self.pool.config().deadline;
        let renewals = Renewals { id: *id, ttl_ms, grace_ms };
        let spread = self.spread(queue, id.tag, id.segment, deadline, &renewals).await?;
        match spread {
            Spread::Answered(answers) if answers.each.iter().all(|(_, a)| a.is_ok()) => Ok(()),
            Spread::Answered(answers) => {
                if answers.each.iter().any(|(_, answer)| answer.is_ok()) {
                    // Their clocks differ. It is over, so it must not go on where it was renewed.
                    let releases = Releases { claim: id.claim };
                    self.spread(queue, id.tag, id.segment, deadline, &releases).await.ok();
                }
                Err(no_claim(id))
            }
            Spread::Absent | Spread::Open => Err(no_claim(id)),
        }
    }

    /// Gives a claim's messages back on every replica that answers.
    pub(crate) async fn release(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        id: &ClaimId,
    ) -> Result<(), Error> {
        self.open_or_error()?;
        match self.read_claim(queue, id).await {
            Err(error) if error.kind() == ErrorKind::ClaimNotFound => return Ok(()),
            Ok(_) | Err(_) => {}
        }
        let deadline = Instant::now() + self.pool.config().deadline;
        let releases = Releases { claim: id.claim };
        let _: Spread<()> = self.spread(queue, id.tag, id.segment, deadline, &releases).await?;
        queue.has_news();
        Ok(())
    }

    /// Notes that a segment may have ended, for the upkeep.
    pub(crate) fn may_have_ended(&self, queue: &QueueState, no: SegmentNo) {
        locked(&queue.maybe_ended).insert(no);
        locked(&self.attention).insert(queue.register.clone());
    }
}

fn no_claim(id: &ClaimId) -> Error {
    Error::new(ErrorKind::ClaimNotFound, format!("claim {id} does not exist or has expired"))
}

fn first_placement(segment: &Segment) -> Option<Placement> {
    segment.full().next().map(|replica| replica.placement)
}

/// The closed segments before `until`, cut into runs that one node can be asked about in one step.
fn groups(manifest: &Manifest, pool: crate::id::PoolId, until: Option<SegmentNo>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let before = |segment: &&Segment| until.is_none_or(|until| segment.no < until);
    for segment in manifest.settled().take_while(before) {
        let Some(first) = segment.full().next() else { continue };
        let (cookie, version) = (first.cookie(pool), segment.version);
        match groups.last_mut() {
            Some(group)
                if group.cookie == cookie
                    && group.version == version
                    && group.segments.len() < PICK_SEGMENTS =>
            {
                group.segments.push(segment.clone());
            }
            _ => groups.push(Group { cookie, version, segments: vec![segment.clone()] }),
        }
    }
    groups
}

fn found(tag: QueueTag, group: &Group, picked: Picked) -> Option<Found> {
    let (placement, fencing) = picked.on?;
    let segment = group.segments.iter().find(|s| first_placement(s) == Some(placement))?;
    Some(Found {
        tag,
        segment: segment.clone(),
        picker: ReplicaAt { cookie: group.cookie, placement },
        fencing,
        entries: picked.entries,
    })
}

//! Operations that every full replica of a closed segment must take: claims, renewals, deletes.
//!
//! An operation succeeds when every full replica took it, at least `copies_min` of them (Q1, Q7,
//! Q8). A replica that cannot be reached is dropped from the manifest first. A joining replica
//! takes the operation after all full ones did, so that it has it once it is full.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{Failure, Shape, ask_all, unavailable};
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::{Cookie, ReplicaAt, SegmentNo, Version};
use crate::node::{NodeError, Op, Refusal};
use crate::protocol::manifest::{Manifest, Segment, Standing};

/// How long to wait before an attempt that somebody else's change made fail is made again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// What the full replicas of a segment answered.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    pub(crate) each: Vec<(ReplicaAt, Result<T, Refusal>)>,
}

/// What an operation on a segment came to.
#[derive(Debug)]
pub(crate) enum Spread<T> {
    /// Every full replica answered, enough of them.
    Answered(Answers<T>),
    /// The segment is not there: it left, or was lost, or never was.
    Absent,
    /// The segment is still open.
    Open,
}

/// What is to be done about the answers of one attempt.
enum Verdict<T> {
    Complete(Answers<T>),
    LookAgain,
    TellEnd,
    Drop(Vec<Cookie>, Answers<T>, Vec<Failure>),
}

impl Core {
    /// Sends an operation to all full replicas of a closed segment, and then to the joining ones.
    ///
    /// # Errors
    /// `Unavailable` if too few replicas hold it before `deadline`: some may.
    pub(crate) async fn spread<T: Shape>(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        no: SegmentNo,
        deadline: Instant,
        op: impl Fn(ReplicaAt, Version) -> Op,
    ) -> Result<Spread<T>, Error> {
        self.spread_noting(queue, no, deadline, op, |_: &T| {}).await
    }

    /// The same; `note` is told what replicas answered in every attempt, also in those that did not
    /// suffice, so that a repeated operation knows what it did before.
    pub(crate) async fn spread_noting<T: Shape>(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        no: SegmentNo,
        deadline: Instant,
        op: impl Fn(ReplicaAt, Version) -> Op,
        note: impl FnMut(&T),
    ) -> Result<Spread<T>, Error> {
        let mut tried = false;
        let spread = self.try_spread(queue, no, deadline, op, note, &mut tried).await;
        // Whatever kept it from being repeated, an attempt may have taken effect.
        spread.map_err(|error| if tried { error.unknown() } else { error })
    }

    async fn try_spread<T: Shape>(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        no: SegmentNo,
        deadline: Instant,
        op: impl Fn(ReplicaAt, Version) -> Op,
        mut note: impl FnMut(&T),
        tried: &mut bool,
    ) -> Result<Spread<T>, Error> {
        // What is not there by a manifest that was kept may be there by now: the keepers are asked
        // before anything is said that rests on it.
        let mut kept = self.manifests.cached(queue).filter(|manifest| {
            manifest.segment(no).is_some_and(|segment| !segment.is_open() && !segment.lost)
        });
        loop {
            let is_kept = kept.is_some();
            let now = match kept.take() {
                Some(manifest) => Some(manifest),
                None => self.manifests.read(queue).await?,
            };
            let Some(manifest) = now else { return Ok(Spread::Absent) };
            let Some(segment) = manifest.segment(no).filter(|segment| !segment.lost) else {
                return Ok(Spread::Absent);
            };
            if segment.is_open() {
                return Ok(Spread::Open);
            }
            if segment.full().count() < self.pool.config().copies_min {
                self.repair_now(queue, no, deadline).await?;
                continue;
            }
            let full = self.addresses(segment, Standing::Full);
            let each = self.ask_each(&full, segment.version, &op).await;
            *tried |= each.iter().any(|(_, answer)| may_be_applied(answer));
            let verdict = judge(each, &mut note);
            match verdict {
                Verdict::Complete(answers) => {
                    if self.follow_up::<T>(queue, segment, &op).await? {
                        return Ok(Spread::Answered(answers));
                    }
                }
                Verdict::LookAgain => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
                Verdict::TellEnd => {
                    self.tell_end(segment).await;
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                }
                // The replicas may have left with the segment: only a new manifest tells.
                Verdict::Drop(_, _, failures)
                    if is_kept && failures.iter().any(Failure::is_loss) => {}
                Verdict::Drop(gone, answers, failures) => {
                    let enough = answers.each.len() >= self.pool.config().copies_min;
                    if answers.each.is_empty() {
                        self.repair_soon(queue, no);
                        if Instant::now() >= deadline {
                            return Err(unavailable(
                                &queue.name,
                                "no replica of a segment answers",
                                &failures,
                            )
                            .unknown());
                        }
                        tokio::time::sleep(self.pool.config().suspect_after / 2).await;
                        continue;
                    }
                    let now = self.drop_replicas(queue, &gone).await?;
                    // Somebody else may have dropped those that answered: then the full ones of
                    // now have not taken it.
                    let took = |at: &ReplicaAt| answers.each.iter().any(|(other, _)| other == at);
                    let all_took = now.segment(no).is_some_and(|segment| {
                        self.addresses(segment, Standing::Full).iter().all(took)
                    });
                    if enough && all_took && self.follow_up::<T>(queue, segment, &op).await? {
                        return Ok(Spread::Answered(answers));
                    }
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "queue {}: segment {no} changes too fast",
                    queue.name
                ))
                .unknown());
            }
        }
    }

    pub(crate) fn addresses(&self, segment: &Segment, standing: Standing) -> Vec<ReplicaAt> {
        segment.with(standing).map(|replica| replica.at(self.pool.id())).collect()
    }

    async fn ask_each<T: Shape>(
        &self,
        replicas: &[ReplicaAt],
        version: Version,
        op: &impl Fn(ReplicaAt, Version) -> Op,
    ) -> Vec<(ReplicaAt, Result<T, Failure>)> {
        let questions = replicas.iter().map(|at| (at.cookie.node, op(*at, version))).collect();
        let answers = ask_all::<T>(&self.pool, questions).await;
        replicas.iter().copied().zip(answers).collect()
    }

    /// Lets joining replicas take what the full ones took; one that does not is given up. `false`:
    /// it became full meanwhile, so it has to be asked again.
    async fn follow_up<T: Shape>(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        op: &impl Fn(ReplicaAt, Version) -> Op,
    ) -> Result<bool, Error> {
        let joining = self.addresses(segment, Standing::Joining);
        if joining.is_empty() {
            return Ok(true);
        }
        let mut all = true;
        for (at, answer) in self.ask_each::<T>(&joining, segment.version, op).await {
            // A semantic refusal is the same as on the full ones; anything else leaves a hole.
            let holds = !matches!(
                answer,
                Err(Failure::Silent(_)
                    | Failure::Refused(
                        Refusal::Gone
                            | Refusal::Stranger { .. }
                            | Refusal::Stale { .. }
                            | Refusal::EndUnknown
                    ))
            );
            if !holds {
                let (now, _) = self
                    .manifests
                    .change(queue, |manifest| manifest.drop_joining(segment.no, at.placement))
                    .await?;
                all &= !now.names(at.placement);
                self.repair_soon(queue, segment.no);
            }
        }
        Ok(all)
    }

    /// Drops a node's replicas from all closed segments of the queue that keep another full one.
    pub(crate) async fn drop_replicas(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        gone: &[Cookie],
    ) -> Result<Arc<Manifest>, Error> {
        let pool = self.pool.id();
        let (manifest, changed) = self
            .manifests
            .change(queue, |manifest| {
                manifest.drop_where(|replica| gone.contains(&replica.cookie(pool)))
            })
            .await?;
        if changed {
            tracing::info!(queue = queue.name, ?gone, "dropped replicas that do not answer");
            self.repair_thin(queue, &manifest);
        }
        Ok(manifest)
    }
}

/// Whether a node may have applied what it was asked: all but those that refused or were not
/// reached.
fn may_be_applied<T>(answer: &Result<T, Failure>) -> bool {
    !matches!(answer, Err(Failure::Refused(_) | Failure::Silent(NodeError::Unreached { .. })))
}

fn judge<T>(each: Vec<(ReplicaAt, Result<T, Failure>)>, note: &mut impl FnMut(&T)) -> Verdict<T> {
    let mut answers = Answers { each: Vec::with_capacity(each.len()) };
    let (mut gone, mut failures) = (Vec::new(), Vec::new());
    let (mut stale, mut unknown_end) = (false, false);
    for (at, answer) in each {
        match answer {
            Ok(answer) => {
                note(&answer);
                answers.each.push((at, Ok(answer)));
            }
            Err(Failure::Refused(Refusal::Stale { .. } | Refusal::Open)) => stale = true,
            Err(Failure::Refused(Refusal::EndUnknown)) => unknown_end = true,
            Err(failure) if failure.is_loss() => {
                gone.push(at.cookie);
                failures.push(failure);
            }
            Err(Failure::Refused(refusal)) => answers.each.push((at, Err(refusal))),
            Err(failure) => {
                gone.push(at.cookie);
                failures.push(failure);
            }
        }
    }
    if stale {
        Verdict::LookAgain
    } else if unknown_end {
        Verdict::TellEnd
    } else if gone.is_empty() {
        Verdict::Complete(answers)
    } else {
        Verdict::Drop(gone, answers, failures)
    }
}

//! Operations that every full replica of a closed segment must take: claims, renewals, deletes.
//!
//! An operation succeeds when every full replica took it, at least `copies_min` of them (Q1, Q7,
//! Q8). A replica that cannot be reached is dropped from the manifest first. A joining replica
//! takes what took effect on all full ones, after they did, so that it has it once it is full. It
//! judges nothing: what it remembers of blocks to come it does without looking.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{Failure, Shape, ask_all, unavailable};
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::{Cookie, ReplicaAt, SegmentNo, Version};
use crate::node::{Coverage, Op, Refusal};
use crate::protocol::manifest::{Manifest, Segment, Standing};
use crate::token::QueueTag;

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
    /// The segment is not there: it left, or was lost, or never was, or that life of the queue ended.
    Absent,
    /// The segment is still open.
    Open,
}

/// An operation on all full replicas of a segment, and what follows from it for joining ones.
pub(crate) trait Everywhere {
    /// What a replica answers.
    type Answer: Shape + Send;

    /// What a full replica is asked.
    fn ask(&self, at: ReplicaAt, version: Version) -> Op;

    /// What a full replica is known to answer at first, without being asked.
    fn known(&self, _at: ReplicaAt, _version: Version) -> Option<Self::Answer> {
        None
    }

    /// What a joining replica is asked, after the full ones have answered. `None`: nothing took
    /// effect on all of them.
    fn follow(
        &self,
        at: ReplicaAt,
        version: Version,
        answers: &Answers<Self::Answer>,
    ) -> Option<Op>;

    /// Whether a joining replica that answered so has what the full ones have.
    fn took(&self, _answer: &Self::Answer) -> bool {
        true
    }

    /// Hears what each full replica answered, in every attempt.
    fn note(&self, _answer: &Self::Answer) {}

    /// Hears, after the answers of an attempt, that a replica may have taken it and did not say so.
    fn doubt(&self) {}
}

/// What is to be done about the answers of one attempt.
enum Verdict<T> {
    Complete(Answers<T>),
    LookAgain,
    TellEnd,
    Drop(Vec<Cookie>, Answers<T>, Vec<Failure>),
}

impl Core {
    /// Sends an operation to all full replicas of a closed segment, and then to the joining ones. The
    /// number alone does not name it: each life of the queue has its own, with the same names in it.
    ///
    /// # Errors
    /// `Unavailable` if too few replicas hold it before `deadline`: some may.
    pub(crate) async fn spread<E: Everywhere>(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        tag: QueueTag,
        no: SegmentNo,
        deadline: Instant,
        what: &E,
    ) -> Result<Spread<E::Answer>, Error> {
        let mut tried = false;
        let spread = self.try_spread(queue, tag, no, deadline, what, &mut tried).await;
        // Whatever kept it from being repeated, an attempt may have taken effect.
        spread.map_err(|error| if tried { error.unknown() } else { error })
    }

    async fn try_spread<E: Everywhere>(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        tag: QueueTag,
        no: SegmentNo,
        deadline: Instant,
        what: &E,
        tried: &mut bool,
    ) -> Result<Spread<E::Answer>, Error> {
        let is_of_life = |manifest: &Manifest| self.is_of(queue, manifest, tag);
        // What is not there by a manifest that was kept may be there by now: the keepers are asked
        // before anything is said that rests on it.
        let mut kept = self
            .manifests
            .cached(queue)
            .filter(|manifest| is_of_life(manifest))
            .filter(|manifest| manifest.segment(no).is_some_and(Segment::is_settled));
        let mut first = true;
        loop {
            let is_kept = kept.is_some();
            let (now, silent) = match kept.take() {
                Some(manifest) => (Some(manifest), None),
                None => self.manifests.read_or_old(queue).await?,
            };
            let Some(manifest) = now.filter(|now| is_of_life(now)) else {
                // What was known before may be of an earlier life than is meant.
                return silent.map_or(Ok(Spread::Absent), Err);
            };
            if let Some(error) = silent {
                return self.spread_unchecked(&manifest, no, what, error, tried).await;
            }
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
            let (mut each, mut questions) = (Vec::new(), Vec::new());
            for at in self.addresses(segment, Standing::Full) {
                let known = first.then(|| what.known(at, segment.version)).flatten();
                match known {
                    Some(answer) => each.push((at, Ok(answer))),
                    None => questions.push((at, what.ask(at, segment.version))),
                }
            }
            first = false;
            let some_known = !each.is_empty();
            each.extend(self.ask_each::<E::Answer>(questions).await);
            let in_doubt = is_in_doubt(&each);
            *tried |= in_doubt || each.iter().any(|(_, answer)| answer.is_ok());
            let verdict = judge(each, |answer| what.note(answer));
            if in_doubt {
                what.doubt();
            }
            match verdict {
                Verdict::Complete(answers) => {
                    if self.follow_up(queue, segment, what, &answers).await? {
                        return Ok(Spread::Answered(answers));
                    }
                }
                Verdict::LookAgain => tokio::time::sleep(LOOK_AGAIN_AFTER).await,
                Verdict::TellEnd => {
                    self.tell_end(segment).await;
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                }
                // What is known from before does not tell that a replica is there still: nobody is
                // dropped on the word of one that was not asked.
                Verdict::Drop(..) if some_known => {}
                // The replicas may have left with the segment: only a new manifest tells.
                Verdict::Drop(_, _, failures)
                    if is_kept && failures.iter().any(Failure::is_loss) => {}
                Verdict::Drop(gone, answers, failures) => {
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
                    let now = Some(now).filter(|now| is_of_life(now));
                    let Some(now) = now.as_ref().and_then(|now| now.segment(no)) else { continue };
                    // Somebody else may have dropped those that answered: then the full ones of now
                    // have not taken it, or too few; and salvage would take back the one that was
                    // dropped last, which may be one that has not.
                    let full = self.addresses(now, Standing::Full);
                    let enough = full.len() >= self.pool.config().copies_min;
                    let took = |at: &ReplicaAt| answers.each.iter().any(|(other, _)| other == at);
                    let all_took = full.iter().all(took);
                    // One that joined meanwhile may have been filled from one that was dropped.
                    if enough && all_took && self.follow_up(queue, now, what, &answers).await? {
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

    /// The same without keepers, by a manifest that may be old. It rests on this: whoever changed it
    /// since has raised the version on a replica that it names before another one joined, and whoever
    /// only dropped some of them left a part. So what all of them take under its version holds now.
    /// That the queue was not deleted shows in its open segment, which would have been sealed first.
    async fn spread_unchecked<E: Everywhere>(
        &self,
        manifest: &Manifest,
        no: SegmentNo,
        what: &E,
        silent: Error,
        tried: &mut bool,
    ) -> Result<Spread<E::Answer>, Error> {
        let enough = |segment: &&Segment| segment.full().count() >= self.pool.config().copies_min;
        let segment = manifest.segment(no).filter(|segment| segment.is_settled()).filter(enough);
        // One that is being filled could become full before it has heard.
        let segment = segment.filter(|segment| segment.with(Standing::Joining).next().is_none());
        let Some(segment) = segment else { return Err(silent) };
        if !self.is_unsealed(manifest).await {
            return Err(silent);
        }
        let full = self.addresses(segment, Standing::Full);
        let questions = full.iter().map(|at| (*at, what.ask(*at, segment.version))).collect();
        let each = self.ask_each::<E::Answer>(questions).await;
        *tried |= is_in_doubt(&each) || each.iter().any(|(_, answer)| answer.is_ok());
        match judge(each, |answer| what.note(answer)) {
            Verdict::Complete(answers) => Ok(Spread::Answered(answers)),
            Verdict::LookAgain | Verdict::TellEnd | Verdict::Drop(..) => Err(silent),
        }
    }

    /// Whether the manifest's open segment takes posts still, as all its replicas say.
    pub(super) async fn is_unsealed(&self, manifest: &Manifest) -> bool {
        let Some(open) = manifest.open_segment() else { return false };
        let probes = open.full().map(|replica| {
            let at = replica.at(self.pool.id());
            (at.cookie.node, Op::Probe { at })
        });
        let told = ask_all::<Coverage>(&self.pool, probes.collect()).await;
        told.iter().all(|coverage| coverage.as_ref().is_ok_and(|told| told.sealed.is_none()))
    }

    pub(crate) fn addresses(&self, segment: &Segment, standing: Standing) -> Vec<ReplicaAt> {
        segment.with(standing).map(|replica| replica.at(self.pool.id())).collect()
    }

    async fn ask_each<T: Shape>(
        &self,
        questions: Vec<(ReplicaAt, Op)>,
    ) -> Vec<(ReplicaAt, Result<T, Failure>)> {
        let replicas: Vec<ReplicaAt> = questions.iter().map(|(at, _)| *at).collect();
        let questions = questions.into_iter().map(|(at, op)| (at.cookie.node, op)).collect();
        let answers = ask_all::<T>(&self.pool, questions).await;
        replicas.into_iter().zip(answers).collect()
    }

    /// Lets joining replicas take what the full ones took; one that does not is given up. `false`:
    /// it became full meanwhile, so it has to be asked again.
    async fn follow_up<E: Everywhere>(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        segment: &Segment,
        what: &E,
        answers: &Answers<E::Answer>,
    ) -> Result<bool, Error> {
        let joining = self.addresses(segment, Standing::Joining);
        let questions: Vec<(ReplicaAt, Op)> = joining
            .into_iter()
            .filter_map(|at| Some((at, what.follow(at, segment.version, answers)?)))
            .collect();
        if questions.is_empty() {
            return Ok(true);
        }
        let mut all = true;
        for (at, answer) in self.ask_each::<E::Answer>(questions).await {
            let took = match answer {
                Ok(answer) => what.took(&answer),
                // It does not know the claim yet, and will not: the copy has it, or it has ended.
                Err(Failure::Refused(Refusal::NoClaim)) => true,
                Err(_) => false,
            };
            if !took {
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
            tracing::debug!(queue = queue.name, ?gone, "dropped replicas that do not answer");
            self.repair_thin(queue, &manifest);
        }
        Ok(manifest)
    }
}

/// Whether a replica may have taken what it was asked, and did not say so.
fn is_in_doubt<T>(each: &[(ReplicaAt, Result<T, Failure>)]) -> bool {
    each.iter().any(|(_, answer)| answer.as_ref().err().is_some_and(Failure::may_be_applied))
}

fn judge<T>(each: Vec<(ReplicaAt, Result<T, Failure>)>, note: impl Fn(&T)) -> Verdict<T> {
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

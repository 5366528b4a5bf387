//! Calls on their way: which commands they become, and whose answers are whose.
//!
//! All appends that wait go into one transaction, those that no journal takes with one script (a
//! script call costs more than what it does to one block). Calls of nothing but appends are sent first, in their order; the
//! others follow, in theirs, but that picks, holds and deletes on the same replicas are brought together
//! into one call of their script. If an append stands beside something else in one call, everything
//! keeps its order instead: appends must reach the server in the order in which they were given.

use bytes::Bytes;
use redis::{Pipeline, Value};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::journal::{self, Journals, Way};
use super::wire::{self, AppendAnswer, Appends, Common, Context, Fetched, SharedCall, Slices};
use crate::node::{NodeError, Op, Reply};

/// A call that waits to be sent or answered.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ops: Vec<Op>,
    pub(super) answer: oneshot::Sender<Result<Vec<Reply>, NodeError>>,
    /// What it was answered already: if there is anything, the rest is to be fetched.
    known: Vec<Option<Reply>>,
    /// What is to be fetched for it, by place.
    picked: Vec<(usize, Slices)>,
}

impl Job {
    pub(super) fn new(ops: Vec<Op>) -> (Self, oneshot::Receiver<Result<Vec<Reply>, NodeError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { ops, answer, known: Vec::new(), picked: Vec::new() }, receiver)
    }

    /// Nobody may be left to hear it.
    pub(super) fn answer(self, result: Result<Vec<Reply>, NodeError>) {
        let _ = self.answer.send(result);
    }

    /// About how many bytes it sends.
    pub(super) fn bytes(&self) -> usize {
        let of = |op: &Op| match op {
            Op::Append(append) => append.bytes.len(),
            Op::CopyIn { blocks, .. } => {
                blocks.iter().map(|block| block.bytes.as_ref().map_or(0, Bytes::len)).sum()
            }
            _ => 0,
        };
        self.ops.iter().map(of).sum()
    }

    pub(super) fn only_identity(&self) -> bool {
        self.ops.iter().all(|op| matches!(op, Op::Identity))
    }

    fn has_appends(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Append(_)))
    }

    fn is_mixed(&self) -> bool {
        self.has_appends() && !self.ops.iter().all(|op| matches!(op, Op::Append(_)))
    }
}

/// Some jobs as one pipeline.
#[derive(Debug)]
pub(super) struct Plan {
    jobs: Vec<Job>,
    units: Vec<Unit>,
    answers: usize,
    sent: Instant,
}

/// Commands whose answers belong together.
#[derive(Debug)]
struct Unit {
    /// Job and place in the job of each operation.
    of: Vec<(usize, usize)>,
    answers: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// How each was sent.
    Appends(Vec<Way>),
    /// What was acked, noted down.
    Note,
    /// One call of a script for all of them.
    Shared,
    /// What was picked.
    Fetch(Slices),
    One,
}

impl Plan {
    /// `may_note`: blocks may go into journals. What a journal did not take is sent without.
    pub(super) fn of(
        mut jobs: Vec<Job>,
        context: &Context,
        journals: &mut Journals,
        may_note: bool,
    ) -> (Self, Pipeline) {
        if jobs.len() > 1 && !jobs.iter().any(Job::is_mixed) {
            // Behind appends, what can share a call stands side by side.
            jobs.sort_by_cached_key(|job| {
                (!job.has_appends(), job.ops.first().and_then(Common::of))
            });
        }
        let mut pipe = redis::pipe();
        let mut units: Vec<Unit> = Vec::new();
        let mut group = Group::default();
        let mut shared = Shared::default();
        journals.next_transaction();
        for (at_job, job) in jobs.iter_mut().enumerate() {
            for (place, slices) in job.picked.drain(..) {
                let answers = slices.commands(context, &mut pipe);
                let kind = Kind::Fetch(slices);
                units.push(Unit { of: vec![(at_job, place)], answers, kind });
            }
            if !job.known.is_empty() {
                continue;
            }
            // What is sent again must be a whole job.
            let may_note = may_note && job.ops.len() == 1;
            for (place, op) in job.ops.iter().enumerate() {
                let common = Common::of(op);
                shared.close_before(common.as_ref(), &mut pipe, &mut units);
                if let Op::Append(append) = op {
                    if !group.appends.has_room_for(append) {
                        group.close(context, &mut pipe, &mut units, journals);
                    }
                    group.appends.push(append, journals, may_note);
                    group.of.push((at_job, place));
                    continue;
                }
                group.close(context, &mut pipe, &mut units, journals);
                if let Some(common) = common {
                    shared.push(common, op, (at_job, place), context);
                    continue;
                }
                if let Op::Note { at, producer, noted } = *op
                    && may_note
                    && journals.may_note(at, producer)
                {
                    pipe.add_command(wire::note(at, producer, noted));
                    units.push(Unit { of: vec![(at_job, place)], answers: 1, kind: Kind::Note });
                    continue;
                }
                if let Op::Seal { at, .. } = op {
                    journals.sealed(*at);
                }
                let answers = wire::commands(op, context, &mut pipe);
                units.push(Unit { of: vec![(at_job, place)], answers, kind: Kind::One });
            }
        }
        shared.close_before(None, &mut pipe, &mut units);
        group.close(context, &mut pipe, &mut units, journals);
        let answers = units.iter().map(|unit| unit.answers).sum();
        (Self { jobs, units, answers, sent: Instant::now() }, pipe)
    }

    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    pub(super) fn sent(&self) -> Instant {
        self.sent
    }

    /// Nobody hears anything but this.
    pub(super) fn fail(self, error: &NodeError) {
        for job in self.jobs {
            job.answer(Err(error.clone()));
        }
    }

    /// Hands each job its replies. Those whose block was not noted down, or behind one that was
    /// not, are given back: they are to be sent again, in this order. So are those for which something
    /// is to be fetched yet.
    pub(super) fn answer(
        mut self,
        values: Vec<Value>,
        node: &str,
        journals: &mut Journals,
    ) -> Vec<Job> {
        let known = |job: &mut Job| Outcome::of(job.ops.len(), std::mem::take(&mut job.known));
        let mut outcomes: Vec<Outcome> = self.jobs.iter_mut().map(known).collect();
        let mut values = values.into_iter();
        for unit in self.units {
            let answers: Vec<Value> = values.by_ref().take(unit.answers).collect();
            let asked = || unit.of.iter().map(|&(job, place)| &self.jobs[job].ops[place]);
            let read = match unit.kind {
                Kind::Appends(ways) => appended(asked(), &ways, answers, self.sent, journals),
                Kind::One => {
                    let read = |op| wire::reply(op, answers).map(|reply| vec![Told::Reply(reply)]);
                    asked().next().map_or(Ok(Vec::new()), read)
                }
                Kind::Shared => wire::replies(asked(), answers)
                    .map(|replies| replies.into_iter().map(Told::from).collect()),
                Kind::Note if is_noted(&answers) => Ok(vec![Told::Reply(Reply::Done)]),
                Kind::Note => Ok(vec![Told::Again]),
                Kind::Fetch(slices) => slices.read(answers).map(|told| vec![told.into()]),
            };
            match read {
                Ok(read) => {
                    for (&(job, place), told) in unit.of.iter().zip(read) {
                        outcomes[job].take(place, told);
                    }
                }
                Err(reason) => {
                    for &(job, _) in &unit.of {
                        outcomes[job].wrong = Some(reason.clone());
                    }
                }
            }
        }
        let mut again = Vec::new();
        for (mut job, outcome) in self.jobs.into_iter().zip(outcomes) {
            if outcome.again {
                again.push(job);
                continue;
            }
            if !outcome.picked.is_empty() && outcome.wrong.is_none() {
                (job.known, job.picked) = (outcome.replies, outcome.picked);
                again.push(job);
                continue;
            }
            let complete: Option<Vec<Reply>> = outcome.replies.into_iter().collect();
            job.answer(complete.ok_or_else(|| NodeError::Broken {
                node: node.into(),
                reason: outcome.wrong.unwrap_or_else(|| "an answer is missing".into()),
            }));
        }
        again
    }
}

/// What became of a job so far.
#[derive(Debug)]
struct Outcome {
    replies: Vec<Option<Reply>>,
    wrong: Option<String>,
    /// It is to be sent again.
    again: bool,
    /// What is to be fetched before it can be answered, by place.
    picked: Vec<(usize, Slices)>,
}

impl Outcome {
    /// `known`: what was answered before, if anything was.
    fn of(ops: usize, known: Vec<Option<Reply>>) -> Self {
        let replies = if known.is_empty() { vec![None; ops] } else { known };
        Self { replies, wrong: None, again: false, picked: Vec::new() }
    }

    fn take(&mut self, place: usize, told: Told) {
        match told {
            Told::Reply(reply) => self.replies[place] = Some(reply),
            Told::Again => self.again = true,
            Told::Picked(slices) => self.picked.push((place, slices)),
        }
    }
}

/// What became of one operation so far.
#[derive(Debug)]
enum Told {
    Reply(Reply),
    /// Its job is to be sent again.
    Again,
    Picked(Slices),
}

impl From<Fetched> for Told {
    fn from(fetched: Fetched) -> Self {
        match fetched {
            Fetched::Reply(reply) => Self::Reply(reply),
            Fetched::Again(slices) => Self::Picked(slices),
        }
    }
}

fn is_noted(answers: &[Value]) -> bool {
    journal::is_there(match answers {
        [Value::Int(length)] => Some(*length),
        _ => None,
    })
}

/// The replies to the appends of one transaction.
fn appended<'a>(
    ops: impl Iterator<Item = &'a Op>,
    ways: &[Way],
    answers: Vec<Value>,
    sent: Instant,
    journals: &mut Journals,
) -> Result<Vec<Told>, String> {
    let answers = wire::appends(ways, answers)?;
    if let Some(now_ms) = answers.now_ms {
        journals.told_time(now_ms, sent);
    }
    let appends = ops.filter_map(|op| match op {
        Op::Append(append) => Some(append),
        _ => None,
    });
    let mut replies = Vec::with_capacity(ways.len());
    for ((append, way), answer) in appends.zip(ways).zip(answers.each) {
        let (Way::Script { run } | Way::Native { run, .. }) = *way;
        replies.push(match answer {
            AppendAnswer::Reply(reply) => {
                journals.scripted(append, run, &reply);
                Told::Reply(reply)
            }
            AppendAnswer::Length(length) => {
                journals.noted(append, run, length).map_or(Told::Again, Told::Reply)
            }
        });
    }
    Ok(replies)
}

/// Appends that go into the next transaction.
#[derive(Debug, Default)]
struct Group {
    appends: Appends,
    of: Vec<(usize, usize)>,
}

impl Group {
    fn close(
        &mut self,
        context: &Context,
        pipe: &mut Pipeline,
        units: &mut Vec<Unit>,
        journals: &mut Journals,
    ) {
        let Self { appends, of } = std::mem::take(self);
        if appends.is_empty() {
            return;
        }
        let answers = appends.commands(context, pipe);
        units.push(Unit { of, answers, kind: Kind::Appends(appends.ways()) });
        journals.next_transaction();
    }
}

/// Operations that go into the next call of a script.
#[derive(Debug, Default)]
struct Shared {
    call: Option<SharedCall>,
    of: Vec<(usize, usize)>,
}

impl Shared {
    fn push(&mut self, common: Common, op: &Op, of: (usize, usize), context: &Context) {
        self.call.get_or_insert_with(|| SharedCall::new(common, context)).push(op);
        self.of.push(of);
    }

    /// Closes the call unless what comes next can join it.
    fn close_before(&mut self, next: Option<&Common>, pipe: &mut Pipeline, units: &mut Vec<Unit>) {
        let joins = |call: &SharedCall| next.is_some_and(|common| call.has_room_for(common));
        if let Some(call) = self.call.take_if(|call| !joins(call)) {
            call.command(pipe);
            units.push(Unit { of: std::mem::take(&mut self.of), answers: 1, kind: Kind::Shared });
        }
    }
}

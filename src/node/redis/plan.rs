//! Calls on their way: which commands they become, and whose answers are whose.
//!
//! All appends that wait go into one transaction with one script (a script call costs more than
//! what it does to one block). Calls of nothing but appends are sent first, in their order; the
//! others follow, in theirs. If an append stands beside something else in one call, everything
//! keeps its order instead: appends must reach the server in the order in which they were given.

use bytes::Bytes;
use redis::{Pipeline, Value};
use tokio::sync::oneshot;

use super::wire::{self, Appends, Context};
use crate::node::{NodeError, Op, Reply};

/// A call that waits to be sent or answered.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) ops: Vec<Op>,
    pub(super) answer: oneshot::Sender<Result<Vec<Reply>, NodeError>>,
}

impl Job {
    pub(super) fn new(ops: Vec<Op>) -> (Self, oneshot::Receiver<Result<Vec<Reply>, NodeError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { ops, answer }, receiver)
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
}

/// Commands whose answers belong together.
#[derive(Debug)]
struct Unit {
    /// Job and place in the job of each operation.
    of: Vec<(usize, usize)>,
    answers: usize,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Appends,
    One,
}

impl Plan {
    pub(super) fn of(mut jobs: Vec<Job>, context: &Context) -> (Self, Pipeline) {
        if !jobs.iter().any(Job::is_mixed) {
            jobs.sort_by_key(|job| !job.has_appends());
        }
        let mut pipe = redis::pipe();
        let mut units = Vec::new();
        let mut group = Group::default();
        for (at, job) in jobs.iter().enumerate() {
            for (place, op) in job.ops.iter().enumerate() {
                if let Op::Append(append) = op {
                    if !group.appends.push(append) {
                        group.close(context, &mut pipe, &mut units);
                        group.appends.push(append);
                    }
                    group.of.push((at, place));
                    continue;
                }
                group.close(context, &mut pipe, &mut units);
                let answers = wire::commands(op, context, &mut pipe);
                units.push(Unit { of: vec![(at, place)], answers, kind: Kind::One });
            }
        }
        group.close(context, &mut pipe, &mut units);
        let answers = units.iter().map(|unit| unit.answers).sum();
        (Self { jobs, units, answers }, pipe)
    }

    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// Nobody hears anything but this.
    pub(super) fn fail(self, error: &NodeError) {
        for job in self.jobs {
            job.answer(Err(error.clone()));
        }
    }

    /// Hands each job its replies.
    pub(super) fn answer(self, values: Vec<Value>, node: &str) {
        let mut replies: Vec<Vec<Option<Reply>>> =
            self.jobs.iter().map(|job| vec![None; job.ops.len()]).collect();
        let mut wrong: Vec<Option<String>> = vec![None; self.jobs.len()];
        let mut values = values.into_iter();
        for unit in self.units {
            let answers: Vec<Value> = values.by_ref().take(unit.answers).collect();
            let read = match (unit.kind, unit.of.first()) {
                (Kind::One, Some(&(job, place))) => {
                    wire::reply(&self.jobs[job].ops[place], answers).map(|reply| vec![reply])
                }
                _ => wire::appends(unit.of.len(), answers),
            };
            match read {
                Ok(read) => {
                    for (&(job, place), reply) in unit.of.iter().zip(read) {
                        replies[job][place] = Some(reply);
                    }
                }
                Err(reason) => {
                    for &(job, _) in &unit.of {
                        wrong[job] = Some(reason.clone());
                    }
                }
            }
        }
        for ((job, replies), wrong) in self.jobs.into_iter().zip(replies).zip(wrong) {
            let complete: Option<Vec<Reply>> = replies.into_iter().collect();
            job.answer(complete.ok_or_else(|| NodeError::Broken {
                node: node.into(),
                reason: wrong.unwrap_or_else(|| "an answer is missing".into()),
            }));
        }
    }
}

/// Appends that go into the next transaction.
#[derive(Debug, Default)]
struct Group {
    appends: Appends,
    of: Vec<(usize, usize)>,
}

impl Group {
    fn close(&mut self, context: &Context, pipe: &mut Pipeline, units: &mut Vec<Unit>) {
        let Self { appends, of } = std::mem::take(self);
        if appends.is_empty() {
            return;
        }
        let answers = appends.commands(context, pipe);
        units.push(Unit { of, answers, kind: Kind::Appends });
    }
}

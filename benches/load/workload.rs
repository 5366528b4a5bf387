//! What a target is asked to do.

use clap::ValueEnum;

use crate::target::Op;

/// Messages of one filling call before lists and claims.
pub(crate) const FILLING: usize = 100;
/// Readers that follow the posters of a fan-out.
pub(crate) const READERS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Posts.
    Post,
    /// Pages of `messages` messages, from marker to marker, again and again.
    List,
    /// Claims of up to `messages` messages, which are deleted by one call, until none is left.
    Take,
    /// Posts, pages and claims in turn, by each worker, on queues that hold a backlog.
    Mixed,
    /// Posts that ten readers follow; latency is from the post's start to each reader's sight.
    Fanout,
}

impl What {
    /// The calls that it is made of.
    pub(crate) fn ops(self) -> &'static [Op] {
        match self {
            Self::Post => &[Op::Post],
            Self::List => &[Op::List],
            Self::Take => &[Op::Take],
            Self::Mixed => &[Op::Post, Op::List, Op::Take],
            Self::Fanout => &[Op::Post, Op::List],
        }
    }

    /// Whether there must be messages before it starts.
    pub(crate) fn needs_backlog(self) -> bool {
        matches!(self, Self::List | Self::Take | Self::Mixed)
    }
}

/// A load, the same for all targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) what: What,
    /// Calls under way at the same time, in a closed loop.
    pub(crate) workers: usize,
    pub(crate) queues: usize,
    /// Bytes of a message's body.
    pub(crate) size: usize,
    /// Messages of one call.
    pub(crate) messages: usize,
    /// Messages that are there before.
    pub(crate) backlog: usize,
}

impl Workload {
    /// The same with what cannot be put right: at least one of everything, and room in each body
    /// for the time at which it was posted.
    pub(crate) fn in_range(self) -> Self {
        Self {
            workers: self.workers.max(1),
            queues: self.queues.max(1),
            size: self.size.max(16),
            messages: self.messages.max(1),
            ..self
        }
    }

    /// The queue of a call. Workers walk over the queues with a stride of their own, so that they
    /// do not march.
    pub(crate) fn queue(&self, by: usize, call: usize) -> usize {
        (by * 7 + call) % self.queues
    }

    /// What a call is, of loads whose workers make several kinds in turn.
    pub(crate) fn op(&self, call: usize) -> Op {
        let ops = self.what.ops();
        ops[call % ops.len()]
    }

    pub(crate) fn name(&self) -> String {
        let Self { workers, queues, size, messages, backlog, .. } = self;
        let queues = if *queues == 1 { "1 queue".into() } else { format!("{queues} queues") };
        match self.what {
            What::Post => {
                format!("post: {workers} posters, {queues}, {messages} of {size} B a call")
            }
            What::List => format!(
                "list: {workers} readers, {queues}, pages of {messages}, {backlog} of {size} B"
            ),
            What::Take => format!(
                "claim and delete: {workers} workers, {queues}, {messages} a claim, {backlog} of \
                 {size} B"
            ),
            What::Mixed => format!(
                "mixed: {workers} workers, {queues}, {messages} of {size} B a call, {backlog} \
                 there before"
            ),
            What::Fanout => format!(
                "fan-out: {workers} posters, {READERS} readers, {messages} of {size} B a call"
            ),
        }
    }
}

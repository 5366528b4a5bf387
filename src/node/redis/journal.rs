//! Which blocks go into a replica's journal natively, and what the answers then mean.
//!
//! A script that takes a block costs a server several times what the bytes cost. So most blocks are
//! only noted down: their bytes by `SET NX`, their numbers by `APPEND` to the replica's journal `P:n`,
//! in one transaction and without a script. Scripts that look at the replica take what is noted
//! there first, in its order and by the same rules (`lua/shared/journal.lua`).
//!
//! A server cannot refuse such a block. That it will be taken is known here: one task writes to the
//! connection, in order, and all blocks of the producer since one that a script took have been sent
//! on it. The journal's new length says whether it was there, that is, whether the replica is open:
//! its first byte is written by a script only, and a record has 56. What was not there, and what
//! stands behind it, is sent once more, to the script, which tells why.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::id::{ProducerId, ReplicaAt};
use crate::node::{Append, Appended, Reply};

/// Length of a record of the journal.
pub(super) const RECORD_LEN: usize = 56;
/// Blocks of a producer that are noted down between two that a script takes: scripts that look at the
/// replica have so many to take in at most, from each producer.
const RUN: u32 = 64;
/// How long the server's time is reckoned from what it said of it.
const CLOCK_LIFE: Duration = Duration::from_secs(1);
/// An answer that took longer says too little about the server's time.
const CLOCK_TRIP: Duration = Duration::from_millis(20);
/// Replicas that are remembered, each in some 150 bytes: the first block to one that is not costs its
/// server a script.
const REPLICAS: usize = 128 * 1024;

/// How a block is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A script takes it.
    Script {
        /// The transaction's number, for [`Journals::taken`].
        run: u64,
    },
    /// It is noted down.
    Native {
        /// Which run of blocks it belongs to.
        run: u64,
        /// The time of arrival.
        now_ms: u64,
    },
}

/// What one connection knows of the replicas that it has written to.
#[derive(Debug, Default)]
pub(super) struct Journals {
    replicas: HashMap<ReplicaAt, Known>,
    clock: Option<Clock>,
    /// Numbers of runs: each is given once.
    runs: u64,
    /// The transaction that is being put together.
    transaction: u64,
}

#[derive(Debug, Default)]
struct Known {
    /// Encoded bytes of the replica's blocks.
    bytes: u64,
    producers: Vec<(ProducerId, Run)>,
}

/// Blocks of one producer on one replica, sent without a gap.
#[derive(Debug, Clone, Copy)]
struct Run {
    number: u64,
    /// The last one sent.
    sent: u32,
    /// The last one that is known to be taken, with all before it; `None` before the first answer.
    taken: Option<u32>,
    /// Noted down since the last one that went to a script.
    noted: u32,
    /// The last transaction with one that went to a script: noting down comes first in it.
    scripted: u64,
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    now_ms: u64,
    at: Instant,
}

impl Journals {
    /// Begins a transaction.
    pub(super) fn next_transaction(&mut self) {
        self.transaction += 1;
    }

    /// Decides how a block is sent; it is sent next.
    pub(super) fn way(&mut self, append: &Append, may_note: bool) -> Way {
        let (transaction, now_ms) = (self.transaction, self.now_ms());
        if self.replicas.len() >= REPLICAS && !self.replicas.contains_key(&append.at) {
            self.replicas.clear();
        }
        let producers = &mut self.replicas.entry(append.at).or_default().producers;
        let found = producers.iter_mut().find(|(producer, _)| *producer == append.producer);
        if let Some((_, run)) = found
            && run.sent.checked_add(1) == Some(append.block)
        {
            run.sent = append.block;
            let notes =
                may_note && run.taken.is_some() && run.noted < RUN && run.scripted != transaction;
            if let (true, Some(now_ms)) = (notes, now_ms) {
                run.noted += 1;
                return Way::Native { run: run.number, now_ms };
            }
            (run.noted, run.scripted) = (0, transaction);
            return Way::Script { run: run.number };
        }
        producers.retain(|(producer, _)| *producer != append.producer);
        self.runs += 1;
        let number = self.runs;
        let (sent, scripted) = (append.block, transaction);
        let run = Run { number, sent, taken: None, noted: 0, scripted };
        // Most have one.
        producers.reserve_exact(1);
        producers.push((append.producer, run));
        Way::Script { run: number }
    }

    /// What a script replied to a block.
    pub(super) fn scripted(&mut self, append: &Append, run: u64, reply: &Reply) {
        let Some(known) = self.replicas.get_mut(&append.at) else { return };
        // One that the replica had before says nothing about which is the next.
        let Reply::Appended(appended @ Appended { again: false, .. }) = reply else {
            known.forget(append.producer, run);
            return;
        };
        known.bytes = appended.bytes;
        if let Some(run) = known.run(append.producer, run) {
            run.taken = run.taken.max(Some(append.block));
        }
    }

    /// Whether what was acked can be noted down: the journal is there, as far as is known.
    pub(super) fn may_note(&mut self, at: ReplicaAt, producer: ProducerId) -> bool {
        let runs = self.replicas.get_mut(&at).map(|known| &mut known.producers);
        let run = runs.and_then(|runs| runs.iter_mut().find(|(of, _)| *of == producer));
        let Some((_, run)) = run else { return false };
        let notes = run.taken.is_some() && run.noted < RUN;
        run.noted += u32::from(notes);
        notes
    }

    /// The replica is being sealed: no block of it comes next. What is still to be answered is sent
    /// again, to the script.
    pub(super) fn sealed(&mut self, at: ReplicaAt) {
        self.replicas.remove(&at);
    }

    /// What becomes of a block that was noted down, given the journal's length. `None`: it was not,
    /// or behind one that was not.
    pub(super) fn noted(
        &mut self,
        append: &Append,
        run: u64,
        length: Option<i64>,
    ) -> Option<Reply> {
        let known = self.replicas.get_mut(&append.at)?;
        let there = known.run(append.producer, run).filter(|run| {
            is_there(length)
                && run.taken.is_some_and(|taken| taken.checked_add(1) == Some(append.block))
        });
        match there {
            Some(run) => {
                run.taken = Some(append.block);
                known.bytes += append.bytes.len() as u64;
                Some(Reply::Appended(Appended { again: false, bytes: known.bytes }))
            }
            None => {
                known.forget(append.producer, run);
                None
            }
        }
    }

    /// The server told its time in answer to what was sent at `sent`.
    pub(super) fn told_time(&mut self, now_ms: u64, sent: Instant) {
        if sent.elapsed() <= CLOCK_TRIP {
            // Reckoned from the sending: no block is younger than it says, once it has arrived, and
            // none is older than its post.
            self.clock = Some(Clock { now_ms, at: sent });
        }
    }

    fn now_ms(&self) -> Option<u64> {
        let clock = self.clock?;
        let since = clock.at.elapsed();
        let ms = u64::try_from(since.as_millis()).ok()?;
        (since < CLOCK_LIFE).then(|| clock.now_ms.saturating_add(ms))
    }
}

/// Whether the journal was there when something was noted down, by its length then.
pub(super) fn is_there(length: Option<i64>) -> bool {
    length
        .and_then(|length| usize::try_from(length).ok())
        .is_some_and(|length| length > RECORD_LEN && length % RECORD_LEN == 1)
}

impl Known {
    fn run(&mut self, producer: ProducerId, number: u64) -> Option<&mut Run> {
        let mut runs = self.producers.iter_mut();
        runs.find(|(of, run)| *of == producer && run.number == number).map(|(_, run)| run)
    }

    fn forget(&mut self, producer: ProducerId, number: u64) {
        self.producers.retain(|(of, run)| *of != producer || run.number != number);
    }
}

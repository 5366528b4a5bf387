//! The agreement on one register: ballots, quorums, and what became of a write (Q6).
//!
//! CASPaxos over the keepers of one epoch. A proposer has a majority promise its ballot, learns the
//! value accepted last, and has a majority accept the value that follows from it. Here are the
//! decisions: when a phase has ended, which value follows, and whether an earlier attempt whose
//! outcome was unknown has taken effect. `driver::registers` sends the requests.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::view::majority;
use crate::error::{Error, ErrorKind};
use crate::node::{Ballot, Index};

/// Writers that a value remembers. A process writes a register one value after the other, so what
/// became of its last one can be told until so many others have written.
const WRITERS: usize = 16;

/// A register's value as keepers hold it.
///
/// It names the last write of each recent writer, so that a proposer that lost sight of one finds out what became of
/// it, and its place in the index, so that whoever finishes a write indexes it as was meant.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Raised by every write; every version has one value (Q6).
    pub(crate) version: u64,
    /// The recent writers, the newest last, each with the number of its last write.
    pub(crate) writes: Vec<(u64, u64)>,
    /// The project and queue under which it is listed, and whether it is.
    pub(crate) index: Option<(String, String, bool)>,
    /// What the caller wrote; `None`: nothing yet.
    pub(crate) value: Option<Bytes>,
}

impl Stored {
    /// What follows when `value` is written over this.
    pub(crate) fn followed_by(
        &self,
        write: (u64, u64),
        index: Option<(String, String, bool)>,
        value: Bytes,
    ) -> Self {
        let mut writes = self.writes.clone();
        writes.retain(|(writer, _)| *writer != write.0);
        writes.push(write);
        writes.drain(..writes.len().saturating_sub(WRITERS));
        Self {
            version: self.version + 1,
            writes,
            index: index.or_else(|| self.index.clone()),
            value: Some(value),
        }
    }

    pub(crate) fn node_index(&self) -> Option<Index> {
        let (project, queue, listed) = self.index.clone()?;
        Some(Index { project, queue, listed })
    }

    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        rmp_serde::to_vec(self)
            .map(Bytes::from)
            .map_err(|error| Error::new(ErrorKind::Internal, "cannot encode").because(error))
    }

    /// Reads what a keeper gave; nothing accepted is nothing written.
    pub(crate) fn decode(name: &str, accepted: Option<&Bytes>) -> Result<Self, Error> {
        let Some(bytes) = accepted.filter(|bytes| !bytes.is_empty()) else {
            return Ok(Self::default());
        };
        rmp_serde::from_slice(bytes).map_err(|error| {
            Error::new(ErrorKind::Internal, format!("register {name} cannot be read"))
                .because(error)
        })
    }
}

/// The round to try next: above all that were seen or used, and by the clock, so that a process
/// that knows nothing of a register need not be refused first.
pub(crate) fn next_round(now_ms: u64, used: u64, seen: u64) -> u64 {
    now_ms.max(used.saturating_add(1)).max(seen.saturating_add(1))
}

/// How a phase stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase<T> {
    /// Answers are awaited.
    Open,
    /// A majority agreed.
    Done(T),
    /// It will not agree any more, or not soon.
    Failed,
}

/// What was accepted in a register.
type Accepted = Option<(Ballot, Bytes)>;

/// What a majority of promises told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The value of the highest ballot.
    pub(crate) accepted: Accepted,
    /// Whether a majority holds just that, so that it is chosen already.
    pub(crate) chosen: bool,
}

/// Counts the keepers' answers in one phase.
#[derive(Debug)]
pub(crate) struct Count {
    members: usize,
    agreed: usize,
    answered: usize,
    refused: Option<Ballot>,
    /// Whether the keepers have had their time.
    late: bool,
}

impl Count {
    pub(crate) fn of(members: usize) -> Self {
        Self { members, agreed: 0, answered: 0, refused: None, late: false }
    }

    pub(crate) fn agree(&mut self) {
        self.agreed += 1;
        self.answered += 1;
    }

    pub(crate) fn refuse(&mut self, promised: Ballot) {
        self.answered += 1;
        self.refused = self.refused.max(Some(promised));
    }

    /// No vote: no answer, or a node that is no keeper of this epoch (Q9).
    pub(crate) fn abstain(&mut self) {
        self.answered += 1;
    }

    pub(crate) fn late(&mut self) {
        self.late = true;
    }

    /// The highest ballot for which a keeper refused.
    pub(crate) fn refused(&self) -> Option<Ballot> {
        self.refused
    }

    fn awaited(&self) -> usize {
        self.members.saturating_sub(self.answered)
    }

    /// Whether a majority agreed; a refused ballot does not wait for a keeper that is slow.
    pub(crate) fn phase(&self) -> Phase<()> {
        let needed = majority(self.members);
        if self.agreed >= needed {
            Phase::Done(())
        } else if self.agreed + self.awaited() < needed || (self.late && self.refused.is_some()) {
            Phase::Failed
        } else {
            Phase::Open
        }
    }
}

/// What a majority of promises showed: the highest ballot's value.
pub(crate) fn seen(promises: &[Accepted], members: usize) -> Seen {
    let accepted = promises.iter().max_by_key(|accepted| ballot(accepted)).cloned().flatten();
    let top = ballot(&accepted);
    let holders = promises.iter().filter(|held| ballot(held) == top).count();
    Seen { accepted, chosen: holders >= majority(members) }
}

/// Counts the keepers' answers to a read without a write.
#[derive(Debug)]
pub(crate) struct Reading {
    members: usize,
    held: Vec<Accepted>,
    late: bool,
}

impl Reading {
    pub(crate) fn of(members: usize) -> Self {
        Self { members, held: Vec::new(), late: false }
    }

    pub(crate) fn take(&mut self, held: Accepted) {
        self.held.push(held);
    }

    pub(crate) fn late(&mut self) {
        self.late = true;
    }

    /// What a majority holds. If a majority answered and differs, a keeper that is slow could still
    /// settle it, but so can a round without it: it is not waited for (Q10).
    pub(crate) fn phase(&self) -> Phase<Accepted> {
        match agreed(&self.held, self.members) {
            Some(accepted) => Phase::Done(accepted),
            None if self.late && self.held.len() >= majority(self.members) => Phase::Failed,
            None => Phase::Open,
        }
    }
}

/// A read without a write: settled once a majority holds one and the same ballot.
fn agreed(answers: &[Accepted], members: usize) -> Option<Accepted> {
    let ballots: BTreeSet<_> = answers.iter().map(ballot).collect();
    let held = |top: &Ballot| answers.iter().filter(|held| ballot(held) == *top).count();
    let top = ballots.into_iter().find(|top| held(top) >= majority(members))?;
    answers.iter().find(|held| ballot(held) == top).cloned()
}

fn ballot(accepted: &Accepted) -> Ballot {
    accepted.as_ref().map(|(ballot, _)| *ballot).unwrap_or_default()
}

/// Merges pages of names, each strictly after the same name and of at most `limit`.
///
/// A page of `limit` names was cut there: beyond its last name it says nothing, so the union
/// counts only up to the lowest such end.
pub(crate) fn merge_names(pages: Vec<Vec<String>>, limit: usize) -> Vec<String> {
    let cut = pages.iter().filter(|page| page.len() >= limit).filter_map(|page| page.last()).min();
    let cut = cut.cloned();
    let union: BTreeSet<_> = pages.into_iter().flatten().collect();
    union
        .into_iter()
        .filter(|name| cut.as_ref().is_none_or(|cut| name <= cut))
        .take(limit)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(round: u64) -> Accepted {
        Some((Ballot { round, by: 1 }, Bytes::from(format!("value {round}"))))
    }

    #[test]
    fn a_phase_ends_with_a_majority_or_when_none_can_come() {
        let mut count = Count::of(3);
        count.agree();
        assert_eq!(count.phase(), Phase::Open);
        count.abstain();
        assert_eq!(count.phase(), Phase::Open);
        count.agree();
        assert_eq!(count.phase(), Phase::Done(()));

        let mut count = Count::of(3);
        count.abstain();
        count.abstain();
        assert_eq!(count.phase(), Phase::Failed);
    }

    #[test]
    fn a_refused_ballot_waits_for_the_others_only_until_they_are_late() {
        let mut count = Count::of(3);
        count.agree();
        count.refuse(Ballot { round: 7, by: 2 });
        assert_eq!(count.phase(), Phase::Open);
        count.late();
        assert_eq!(count.phase(), Phase::Failed);
        assert_eq!(count.refused(), Some(Ballot { round: 7, by: 2 }));

        let mut slow = Count::of(3);
        slow.agree();
        slow.late();
        assert_eq!(slow.phase(), Phase::Open, "a slow majority is still a majority");
    }

    #[test]
    fn the_highest_ballot_is_followed_and_chosen_only_if_a_majority_holds_it() {
        let both = seen(&[accepted(5), accepted(5)], 3);
        assert_eq!(both, Seen { accepted: accepted(5), chosen: true });
        let one = seen(&[accepted(4), accepted(5)], 3);
        assert_eq!(one, Seen { accepted: accepted(5), chosen: false });
        assert_eq!(seen(&[None, None], 3), Seen { accepted: None, chosen: true });
        assert_eq!(seen(&[accepted(1)], 1), Seen { accepted: accepted(1), chosen: true });
    }

    #[test]
    fn a_read_settles_only_when_a_majority_holds_one_ballot() {
        assert_eq!(agreed(&[accepted(5), accepted(4)], 3), None);
        assert_eq!(agreed(&[accepted(5), accepted(4), accepted(5)], 3), Some(accepted(5)));
        assert_eq!(agreed(&[None, accepted(4)], 3), None);
        assert_eq!(agreed(&[None, None], 3), Some(None));
    }

    #[test]
    fn a_read_of_keepers_that_differ_waits_for_the_others_only_until_they_are_late() {
        let mut reading = Reading::of(3);
        reading.take(accepted(5));
        reading.late();
        assert_eq!(reading.phase(), Phase::Open, "one of three is not enough, however late");
        let mut settled = Reading::of(3);
        settled.take(accepted(5));
        settled.take(accepted(4));
        assert_eq!(settled.phase(), Phase::Open);
        settled.take(accepted(5));
        assert_eq!(settled.phase(), Phase::Done(accepted(5)));
        reading.take(accepted(4));
        assert_eq!(reading.phase(), Phase::Failed);
    }

    #[test]
    fn a_round_is_above_the_clock_and_all_that_was_seen_or_used() {
        assert_eq!(next_round(100, 3, 5), 100);
        assert_eq!(next_round(100, 100, 5), 101);
        assert_eq!(next_round(100, 100, 200), 201);
    }

    #[test]
    fn a_value_names_the_last_writes_and_keeps_its_place_in_the_index() {
        let mut stored = Stored::default();
        for write in 1..=40 {
            let index = (write == 1).then(|| ("p".into(), "q".into(), true));
            stored = stored.followed_by((write % 20, write), index, Bytes::from_static(b"x"));
        }
        assert_eq!(stored.version, 40);
        assert_eq!(stored.writes, (25..=40).map(|write| (write % 20, write)).collect::<Vec<_>>());
        assert!(stored.node_index().unwrap().listed);
        let bytes = stored.encode().unwrap();
        assert_eq!(Stored::decode("r", Some(&bytes)).unwrap(), stored);
        assert_eq!(Stored::decode("r", None).unwrap(), Stored::default());
        assert!(Stored::decode("r", Some(&Bytes::from_static(b"\xc1"))).is_err());
    }

    #[test]
    fn pages_cut_at_different_ends_skip_no_name() {
        let page =
            |names: &[&str]| names.iter().map(|name| (*name).into()).collect::<Vec<String>>();
        let merged = merge_names(vec![page(&["a", "b", "f"]), page(&["a", "c", "d"])], 3);
        assert_eq!(merged, ["a", "b", "c"]);
        let merged = merge_names(vec![page(&["a", "z"]), page(&["a", "c", "d"])], 3);
        assert_eq!(merged, ["a", "c", "d"], "z waits: e may come before it");
        let merged = merge_names(vec![page(&["a"]), page(&["c"])], 3);
        assert_eq!(merged, ["a", "c"]);
        assert!(merge_names(vec![], 3).is_empty());
    }
}

//! Ending messages on request (Q8).

use super::claims::Remembered;
use super::replica::Replica;
use crate::id::MessageRef;
use crate::node::{Delete, DeleteStatus, Deleted, Guard, Refusal};

impl Replica {
    pub(super) fn delete(&mut self, delete: &Delete, now: u64) -> Result<Deleted, Refusal> {
        self.check_ended_or_joining()?;
        self.check_version(delete.version)?;
        self.raise_version(delete.version);
        let each = delete.refs.iter().map(|&at| self.delete_one(at, delete.guard, now)).collect();
        Ok(Deleted { each, live: self.log.live })
    }

    fn delete_one(&mut self, at: MessageRef, guard: Guard, now: u64) -> DeleteStatus {
        if self.is_joining() && self.awaits(at) {
            // All full replicas took it before a joining one is asked: the guard was theirs.
            self.claims.remember(at, Remembered::Tombstone);
            return DeleteStatus::Ended;
        }
        let Some(place) = self.place(at) else { return DeleteStatus::Absent };
        let Some((_, message)) = self.log.present(place, now) else {
            return DeleteStatus::Absent;
        };
        match (guard, self.claims.holder(message, now)) {
            (Guard::Always, _) | (Guard::Unclaimed, None) => {}
            (Guard::ClaimedBy(claim, fencing), Some(holder)) if holder == (claim, fencing) => {}
            (Guard::Unclaimed | Guard::ClaimedBy(..), Some(_)) => return DeleteStatus::Claimed,
            (Guard::ClaimedBy(..), None) => return DeleteStatus::NotClaimed,
        }
        self.end_message(place);
        DeleteStatus::Ended
    }
}

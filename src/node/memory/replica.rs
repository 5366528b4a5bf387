//! One replica of a segment: its life from opening to the told end, its coverage, and when it is
//! due. The log itself is in `log`, `read` and `copies`, claims are in `claims`, `pick`, `hold`,
//! ending messages is in `delete`.

use std::collections::BTreeMap;

use super::claims::Claims;
use super::log::Log;
use super::pick::Picking;
use crate::id::{ProducerId, Version};
use crate::node::{Coverage, Frontier, ProducerState, Refusal, Role, Sealed, SegmentOf};

/// A replica that was never written to is due so long after its opening.
const UNWRITTEN_DUE_MS: u64 = 10 * 60 * 1000;
/// One that takes appends is due so long after its first one: its segment may have been closed
/// without it, and have left since.
const OPEN_DUE_MS: u64 = 24 * 60 * 60 * 1000;

/// One replica of a segment.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    of: SegmentOf,
    opened_ms: u64,
    /// By whom, and when.
    sealed: Option<(ProducerId, u64)>,
    end: End,
    version: Version,
    pub(super) producers: BTreeMap<ProducerId, Producer>,
    pub(super) log: Log,
    pub(super) claims: Claims,
    pub(super) picking: Picking,
    outlook: Outlook,
    due_ms: u64,
}

/// What a replica knows of the segment's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Unknown,
    /// Being filled: takes deletes and holds of blocks that have not come yet.
    Joining,
    Told,
}

/// What decides when a replica is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    Unwritten,
    Open,
    Empty,
    Until(u64),
}

/// A producer's blocks in a replica.
#[derive(Debug, Clone, Default)]
pub(super) struct Producer {
    /// The ordinals of its blocks, from block 1: their number is the frontier.
    pub(super) ordinals: Vec<u32>,
    pub(super) noted: u32,
    /// Of its newest block, if that was appended here.
    pub(super) digest: Option<u64>,
}

impl Producer {
    pub(super) fn frontier(&self) -> u32 {
        u32::try_from(self.ordinals.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn note(&mut self, noted: u32) {
        self.noted = self.noted.max(noted.min(self.frontier()));
    }
}

impl Replica {
    pub(super) fn open(role: Role, of: SegmentOf, now: u64) -> Self {
        let (sealed, end) = match role {
            Role::Appending => (None, End::Unknown),
            Role::Joining => (Some((ProducerId(0), now)), End::Joining),
        };
        Self {
            of,
            opened_ms: now,
            sealed,
            end,
            version: Version(0),
            producers: BTreeMap::new(),
            log: Log::default(),
            claims: Claims::default(),
            picking: Picking::default(),
            outlook: Outlook::Unwritten,
            due_ms: now.saturating_add(UNWRITTEN_DUE_MS),
        }
    }

    pub(super) fn of(&self) -> &SegmentOf {
        &self.of
    }

    pub(super) fn is_told(&self) -> bool {
        self.end == End::Told
    }

    pub(super) fn is_joining(&self) -> bool {
        self.end == End::Joining
    }

    pub(super) fn frontier(&self, producer: ProducerId) -> u32 {
        self.producers.get(&producer).map_or(0, Producer::frontier)
    }

    /// How many blocks are stored.
    pub(super) fn blocks(&self) -> usize {
        self.log.stored().count()
    }

    /// Bytes of the blocks of which something is left.
    pub(super) fn held_bytes(&self) -> u64 {
        self.log.held_bytes
    }

    pub(super) fn check_sealed(&self) -> Result<(), Refusal> {
        self.sealed.map(|_| ()).ok_or(Refusal::Open)
    }

    pub(super) fn check_appends(&self) -> Result<(), Refusal> {
        if self.sealed.is_some() { Err(Refusal::Sealed) } else { Ok(()) }
    }

    /// For operations that need the end.
    pub(super) fn check_ended(&self) -> Result<(), Refusal> {
        self.check_sealed()?;
        if self.end == End::Told { Ok(()) } else { Err(Refusal::EndUnknown) }
    }

    /// For operations that a joining replica takes before it knows the end.
    pub(super) fn check_ended_or_joining(&self) -> Result<(), Refusal> {
        if self.is_joining() { Ok(()) } else { self.check_ended() }
    }

    pub(super) fn check_countable(&self) -> Result<(), Refusal> {
        if self.sealed.is_none() { Ok(()) } else { self.check_ended() }
    }

    pub(super) fn check_version(&self, version: Version) -> Result<(), Refusal> {
        if version < self.version {
            return Err(Refusal::Stale { version: self.version });
        }
        Ok(())
    }

    pub(super) fn fence(&mut self, version: Version) -> Result<(), Refusal> {
        self.check_version(version)?;
        self.raise_version(version);
        Ok(())
    }

    pub(super) fn raise_version(&mut self, version: Version) {
        self.version = self.version.max(version);
    }

    pub(super) fn note(&mut self, producer: ProducerId, noted: u32) {
        if let Some(known) = self.producers.get_mut(&producer) {
            known.note(noted);
        }
    }

    pub(super) fn seal(&mut self, by: ProducerId, now: u64) {
        self.sealed.get_or_insert((by, now));
    }

    pub(super) fn tell_end(
        &mut self,
        version: Version,
        end: &Frontier,
        now: u64,
    ) -> Result<(), Refusal> {
        self.check_version(version)?;
        for (&producer, &last) in end {
            let frontier = self.frontier(producer);
            if frontier < last {
                return Err(Refusal::Gap { frontier });
            }
        }
        self.raise_version(version);
        self.seal(ProducerId(0), now);
        self.end = End::Told;
        self.claims.forget_remembered();
        let mut dropped = Vec::new();
        self.producers.retain(|producer, known| {
            let last = end.get(producer).copied().unwrap_or(0);
            if last < known.frontier() {
                let kept = usize::try_from(last).unwrap_or(usize::MAX);
                dropped.extend(known.ordinals.drain(kept..));
                known.digest = None;
                known.noted = known.noted.min(last);
            }
            last > 0
        });
        for ordinal in dropped {
            self.drop_block(ordinal);
        }
        Ok(())
    }

    pub(super) fn coverage(&self, now: u64) -> Coverage {
        Coverage {
            sealed: self.sealed.map(|(by, since)| Sealed { by, age_ms: now.saturating_sub(since) }),
            end_told: self.end == End::Told,
            version: self.version,
            producers: self
                .producers
                .iter()
                .map(|(&producer, known)| ProducerState {
                    producer,
                    frontier: known.frontier(),
                    noted: known.noted,
                })
                .collect(),
            bytes: self.log.arrived_bytes,
            arrived: self.log.arrived(),
        }
    }

    pub(super) fn due(&self) -> u64 {
        self.due_ms
    }

    pub(super) fn defer(&mut self, after_ms: u64, now: u64) {
        self.due_ms = now.saturating_add(after_ms);
    }

    /// Sets when the replica is due if what decides it has changed. After every operation.
    pub(super) fn settle_due(&mut self, now: u64) {
        let outlook = if self.log.arrived() == 0 {
            Outlook::Unwritten
        } else if self.sealed.is_none() {
            Outlook::Open
        } else if self.log.live == 0 {
            Outlook::Empty
        } else {
            Outlook::Until(self.log.last_expiry_ms)
        };
        if outlook == self.outlook {
            return;
        }
        self.outlook = outlook;
        self.due_ms = match outlook {
            Outlook::Unwritten => self.opened_ms.saturating_add(UNWRITTEN_DUE_MS),
            Outlook::Open => now.saturating_add(OPEN_DUE_MS),
            Outlook::Empty => now,
            Outlook::Until(expiry) => expiry,
        };
    }
}

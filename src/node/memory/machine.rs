//! All that a node holds, and the dispatch of operations to it.
//!
//! Owns who the node is (run id, cookie: Q9) and which replicas there are. What an operation does
//! to one replica is decided in `replica` and its neighbours, to registers in `keeper`.

use std::collections::BTreeMap;

use super::keeper::Keeper;
use super::replica::Replica;
use crate::id::{Cookie, Placement};
use crate::node::{
    CopiedBlock, DueReplicas, Identity, KeeperState, Op, Open, Pick, Picked, Refusal, Reply, Wiped,
};

/// Blocks that one `Wipe` removes at most.
const WIPE_BLOCKS: usize = 512;

/// A node as a state machine: no clock, no lock, no randomness.
#[derive(Debug)]
pub(super) struct Machine {
    run_id: String,
    cookie: Option<(Cookie, String)>,
    replicas: BTreeMap<Placement, Replica>,
    /// Replicas being wiped: how many blocks are left of each.
    wiping: BTreeMap<Placement, usize>,
    keeper: Option<Keeper>,
    memory_limit: Option<u64>,
}

impl Machine {
    pub(super) fn new(run_id: String) -> Self {
        Self {
            run_id,
            cookie: None,
            replicas: BTreeMap::new(),
            wiping: BTreeMap::new(),
            keeper: None,
            memory_limit: None,
        }
    }

    pub(super) fn set_run_id(&mut self, run_id: String) {
        self.run_id = run_id;
    }

    pub(super) fn memory_limit(&self) -> Option<u64> {
        self.memory_limit
    }

    pub(super) fn set_memory_limit(&mut self, limit: Option<u64>) {
        self.memory_limit = limit;
    }

    pub(super) fn flush(&mut self) {
        self.cookie = None;
        self.forget();
    }

    fn forget(&mut self) {
        self.replicas.clear();
        self.wiping.clear();
        self.keeper = None;
    }

    /// Applies one operation at `now_ms`, which never falls from one call to the next.
    pub(super) fn apply(&mut self, op: Op, now_ms: u64) -> Reply {
        self.try_apply(op, now_ms).unwrap_or_else(Reply::Refused)
    }

    fn try_apply(&mut self, op: Op, now: u64) -> Result<Reply, Refusal> {
        if let Some(meant) = op.cookie() {
            self.recognise(meant)?;
        }
        match op {
            Op::Identity => Ok(Reply::Identity(self.identity())),
            Op::Admit { cookie, run_id } => self.admit(cookie, &run_id),
            Op::Open(open) => self.open(open, now),
            Op::Wipe { at } => Ok(self.wipe(at.placement)),
            Op::Pick(pick) => Ok(Reply::Picked(self.pick(&pick, now))),
            Op::Due { limit, .. } => Ok(Reply::Due(self.due(limit, now))),
            Op::Keep { epoch, keepers, .. } => match &mut self.keeper {
                Some(keeper) => keeper.keep(epoch, keepers),
                none @ None => {
                    *none = Some(Keeper::new(epoch, keepers));
                    Ok(Reply::Done)
                }
            },
            Op::Restore { .. }
            | Op::Activate { .. }
            | Op::Dump { .. }
            | Op::Prepare { .. }
            | Op::Accept(_)
            | Op::ReadRegisters { .. }
            | Op::Changes { .. }
            | Op::ListIndex { .. } => self.keeper.as_mut().ok_or(Refusal::NotKeeper)?.apply(op),
            Op::Append(_)
            | Op::Note { .. }
            | Op::Read(_)
            | Op::Probe { .. }
            | Op::Seal { .. }
            | Op::TellEnd { .. }
            | Op::Get { .. }
            | Op::Hold(_)
            | Op::Release { .. }
            | Op::Renew { .. }
            | Op::ReadClaim { .. }
            | Op::Delete(_)
            | Op::Stats { .. }
            | Op::CopyOut { .. }
            | Op::CopyIn { .. }
            | Op::Fence { .. }
            | Op::Defer { .. } => self.apply_to_replica(op, now),
        }
    }

    fn apply_to_replica(&mut self, op: Op, now: u64) -> Result<Reply, Refusal> {
        let placement = match &op {
            Op::Append(append) => append.at.placement,
            Op::Read(read) => read.at.placement,
            Op::Hold(hold) => hold.at.placement,
            Op::Delete(delete) => delete.at.placement,
            Op::Note { at, .. }
            | Op::Probe { at }
            | Op::Seal { at, .. }
            | Op::TellEnd { at, .. }
            | Op::Get { at, .. }
            | Op::Release { at, .. }
            | Op::Renew { at, .. }
            | Op::ReadClaim { at, .. }
            | Op::Stats { at }
            | Op::CopyOut { at, .. }
            | Op::CopyIn { at, .. }
            | Op::Fence { at, .. }
            | Op::Defer { at, .. } => at.placement,
            _ => return Err(Refusal::Gone),
        };
        let room = self.room();
        let replica = self.replicas.get_mut(&placement).ok_or(Refusal::Gone)?;
        let reply = match op {
            Op::Append(append) => Reply::Appended(replica.append(&append, room, now)?),
            Op::Note { producer, noted, .. } => {
                replica.note(producer, noted);
                Reply::Done
            }
            Op::Read(read) => Reply::Page(replica.read(&read, now)),
            Op::Probe { .. } => Reply::Coverage(replica.coverage(now)),
            Op::Seal { by, .. } => {
                replica.seal(by, now);
                Reply::Coverage(replica.coverage(now))
            }
            Op::TellEnd { version, end, .. } => {
                replica.tell_end(version, &end, now)?;
                Reply::Done
            }
            Op::Get { refs, .. } => Reply::Got(replica.get(&refs, now)),
            Op::Hold(hold) => Reply::Held(replica.hold(&hold, now)?),
            Op::Release { claim, refs, .. } => {
                replica.release(claim, refs.as_deref());
                Reply::Done
            }
            Op::Renew { version, claim, fencing, ttl_ms, grace_ms, .. } => {
                Reply::Renewed(replica.renew(version, (claim, fencing), (ttl_ms, grace_ms), now)?)
            }
            Op::ReadClaim { claim, fencing, .. } => {
                Reply::Claim(replica.read_claim(claim, fencing, now)?)
            }
            Op::Delete(delete) => Reply::Deleted(replica.delete(&delete, now)?),
            Op::Stats { .. } => Reply::Stats(replica.stats(now)?),
            Op::CopyOut { from, max_bytes, .. } => {
                Reply::CopyBatch(replica.copy_out(from, max_bytes, now)?)
            }
            Op::CopyIn { blocks, .. } => {
                replica.check_sealed()?;
                replica.check_next_blocks(&blocks)?;
                if bytes_of(replica, &blocks) > room {
                    return Err(Refusal::Full);
                }
                replica.copy_in(blocks, now);
                Reply::Coverage(replica.coverage(now))
            }
            Op::Fence { version, .. } => {
                replica.check_version(version)?;
                replica.raise_version(version);
                Reply::Done
            }
            Op::Defer { after_ms, .. } => {
                replica.defer(after_ms, now);
                Reply::Done
            }
            _ => return Err(Refusal::Gone),
        };
        replica.settle_due(now);
        Ok(reply)
    }

    /// Q9: only who means this node in this life, and in this run, is served.
    fn recognise(&self, meant: Cookie) -> Result<(), Refusal> {
        match &self.cookie {
            Some((held, run_id)) if *held == meant && *run_id == self.run_id => Ok(()),
            held => Err(Refusal::Stranger { found: held.as_ref().map(|(cookie, _)| *cookie) }),
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            run_id: self.run_id.clone(),
            cookie: self.cookie.clone(),
            durable: false,
            unsafe_settings: Vec::new(),
            keeper: self.keeper.as_ref().map(Keeper::state),
            memory: (self.used(), self.memory_limit.unwrap_or(0)),
            version: "memory".into(),
        }
    }

    fn admit(&mut self, cookie: Cookie, run_id: &str) -> Result<Reply, Refusal> {
        let found = self.cookie.as_ref().map(|(cookie, _)| *cookie);
        if run_id != self.run_id {
            return Err(Refusal::Stranger { found });
        }
        match found {
            Some(held) if held == cookie => return Ok(Reply::Done),
            Some(held)
                if (held.pool, held.node) != (cookie.pool, cookie.node)
                    || held.incarnation > cookie.incarnation =>
            {
                return Err(Refusal::Stranger { found });
            }
            Some(_) | None => {}
        }
        self.forget();
        self.cookie = Some((cookie, self.run_id.clone()));
        Ok(Reply::Done)
    }

    fn open(&mut self, open: Open, now: u64) -> Result<Reply, Refusal> {
        let placement = open.at.placement;
        if self.replicas.contains_key(&placement) || self.wiping.contains_key(&placement) {
            return Err(Refusal::Exists);
        }
        self.replicas.insert(placement, Replica::open(open.role, open.of, now));
        Ok(Reply::Done)
    }

    fn wipe(&mut self, placement: Placement) -> Reply {
        let left = match self.replicas.remove(&placement) {
            Some(replica) => replica.blocks(),
            None => self.wiping.remove(&placement).unwrap_or(0),
        };
        let left = left.saturating_sub(WIPE_BLOCKS);
        if left > 0 {
            self.wiping.insert(placement, left);
        }
        Reply::Wiped(Wiped { done: left == 0 })
    }

    fn pick(&mut self, pick: &Pick, now: u64) -> Picked {
        let mut refused = Vec::new();
        let mut willing = Vec::new();
        for (place, &placement) in pick.placements.iter().enumerate() {
            match self.replicas.get(&placement).ok_or(Refusal::Gone).and_then(|replica| {
                replica.check_ended()?;
                replica.check_version(pick.version)
            }) {
                Ok(()) => willing.push((place, placement)),
                Err(refusal) => refused.push((place, placement, refusal)),
            }
        }
        let before = |place: usize| {
            refused
                .iter()
                .filter(|(at, ..)| *at < place)
                .map(|(_, placement, refusal)| (*placement, refusal.clone()))
                .collect()
        };
        // The same claim first, wherever it is: a repeated pick must not pick anew before it.
        for repeated in [true, false] {
            for &(place, placement) in &willing {
                let Some(replica) = self.replicas.get_mut(&placement) else { continue };
                let picked =
                    if repeated { replica.picked(pick, now) } else { replica.pick(pick, now) };
                if let Some((fencing, entries)) = picked {
                    replica.raise_version(pick.version);
                    replica.settle_due(now);
                    return Picked {
                        on: Some((placement, fencing)),
                        entries,
                        refused: before(place),
                    };
                }
            }
        }
        Picked { on: None, entries: Vec::new(), refused: before(usize::MAX) }
    }

    fn due(&self, limit: u32, now: u64) -> DueReplicas {
        let mut due: Vec<_> = self
            .replicas
            .iter()
            .filter_map(|(placement, replica)| Some((replica.due()?, *placement, replica.of())))
            .filter(|(at, ..)| *at <= now)
            .collect();
        due.sort_by_key(|(at, placement, _)| (*at, *placement));
        due.truncate(at_least_one(limit));
        let replicas = due.into_iter().map(|(_, placement, of)| (placement, of.clone())).collect();
        DueReplicas { replicas }
    }

    fn used(&self) -> u64 {
        self.replicas.values().map(Replica::held_bytes).sum()
    }

    /// Bytes that may still be taken.
    fn room(&self) -> u64 {
        self.memory_limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.used()))
    }
}

impl Keeper {
    fn state(&self) -> KeeperState {
        KeeperState { epoch: self.epoch(), keepers: self.keepers().clone(), active: self.votes() }
    }
}

/// Bytes that a batch would add.
fn bytes_of(replica: &Replica, blocks: &[CopiedBlock]) -> u64 {
    blocks
        .iter()
        .filter(|copied| copied.block > replica.frontier(copied.producer))
        .filter_map(|copied| copied.bytes.as_ref())
        .map(|bytes| size(bytes.len()))
        .sum()
}

/// A length as it is counted.
pub(super) fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A limit of 0 counts as 1.
pub(super) fn at_least_one(limit: u32) -> usize {
    usize::try_from(limit.max(1)).unwrap_or(usize::MAX)
}

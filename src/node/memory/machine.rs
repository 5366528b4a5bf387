//! All that a node holds, and the dispatch of operations to it.
//!
//! Owns who the node is (run id, cookie: Q9) and which replicas there are. What an operation does
//! to one replica is decided in `replica` and its neighbours, to registers in `keeper`.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::keeper::Keeper;
use super::replica::Replica;
use crate::id::{Cookie, Epoch, Placement, ReplicaAt};
use crate::node::{DueReplicas, Identity, Op, Open, Pick, Picked, Refusal, Reply, Wiped};

/// Blocks that one `Wipe` removes at most.
const WIPE_BLOCKS: usize = 512;

/// A node as a state machine: no clock, no lock, no randomness.
#[derive(Debug, Clone)]
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

    /// One arm for each operation, in the order of [`Op`].
    fn try_apply(&mut self, op: Op, now: u64) -> Result<Reply, Refusal> {
        if let Some(meant) = op.cookie() {
            self.recognise(meant)?;
        }
        match op {
            Op::Identity => Ok(Reply::Identity(self.identity(now))),
            Op::Admit { cookie, run_id } => self.admit(cookie, &run_id),
            Op::Open(open) => self.open(open, now),
            Op::Append(append) => {
                let room = self.room();
                self.on(append.at, now, |on| on.append(&append, room, now).map(Reply::Appended))
            }
            Op::Note { at, producer, noted } => self.on(at, now, |on| {
                on.note(producer, noted);
                Ok(Reply::Done)
            }),
            Op::Read(read) => self.on(read.at, now, |on| Ok(Reply::Page(on.read(&read, now)))),
            Op::Probe { at } => self.on(at, now, |on| Ok(Reply::Coverage(on.coverage(now)))),
            Op::Seal { at, by } => self.on(at, now, |on| {
                on.seal(by, now);
                Ok(Reply::Coverage(on.coverage(now)))
            }),
            Op::TellEnd { at, version, end } => {
                self.on(at, now, |on| on.tell_end(version, &end, now).map(|()| Reply::Done))
            }
            Op::Get { at, refs } => self.on(at, now, |on| Ok(Reply::Got(on.get(&refs, now)))),
            Op::Pick(pick) => Ok(Reply::Picked(self.pick(&pick, now))),
            Op::Hold(hold) => self.on(hold.at, now, |on| on.hold(&hold, now).map(Reply::Held)),
            Op::Release { at, claim, refs } => self.on(at, now, |on| {
                on.release(claim, refs.as_deref());
                Ok(Reply::Done)
            }),
            Op::Renew { at, version, claim, fencing, ttl_ms, grace_ms } => {
                let (claim, times) = ((claim, fencing), (ttl_ms, grace_ms));
                self.on(at, now, |on| on.renew(version, claim, times, now).map(Reply::Renewed))
            }
            Op::ReadClaim { at, claim, fencing } => {
                self.on(at, now, |on| on.read_claim(claim, fencing, now).map(Reply::Claim))
            }
            Op::Delete(delete) => {
                self.on(delete.at, now, |on| on.delete(&delete, now).map(Reply::Deleted))
            }
            Op::Stats { at } => self.on(at, now, |on| on.stats(now).map(Reply::Stats)),
            Op::CopyOut { at, from, max_bytes } => {
                self.on(at, now, |on| on.copy_out(from, max_bytes, now).map(Reply::CopyBatch))
            }
            Op::CopyIn { at, version, blocks } => {
                let room = self.room();
                self.on(at, now, |on| on.copy_in(version, blocks, room, now).map(Reply::Coverage))
            }
            Op::Fence { at, version } => {
                self.on(at, now, |on| on.fence(version).map(|()| Reply::Done))
            }
            Op::Wipe { at } => Ok(self.wipe(at.placement)),
            Op::Due { limit, .. } => Ok(Reply::Due(self.due(limit, now))),
            Op::Defer { at, after_ms } => self.on(at, now, |on| {
                on.defer(after_ms, now);
                Ok(Reply::Done)
            }),
            Op::Keep { epoch, keepers, .. } => self.keep(epoch, keepers),
            Op::Restore { epoch, registers, .. } => {
                self.keeper()?.restore_all(epoch, registers).map(|()| Reply::Done)
            }
            Op::Activate { epoch, .. } => self.keeper()?.activate(epoch).map(|()| Reply::Done),
            Op::Dump { epoch, after, limit, .. } => {
                Ok(Reply::Dump(self.keeper()?.voting(epoch)?.dump(after, limit)))
            }
            Op::Prepare { epoch, name, ballot, .. } => {
                self.keeper()?.voting(epoch)?.prepare(name, ballot).map(Reply::Promise)
            }
            Op::Accept(accept) => {
                self.keeper()?.voting(accept.epoch)?.accept(accept).map(|()| Reply::Done)
            }
            Op::ReadRegisters { epoch, names, .. } => {
                Ok(Reply::Registers(self.keeper()?.voting(epoch)?.read(&names)))
            }
            Op::Changes { epoch, since, limit, .. } => {
                Ok(Reply::Changes(self.keeper()?.voting(epoch)?.changes_since(since, limit)))
            }
            Op::ListIndex { epoch, project, after, limit, .. } => {
                Ok(Reply::Names(self.keeper()?.voting(epoch)?.list(&project, &after, limit)))
            }
        }
    }

    /// Does something to one replica, and looks when it is due then.
    fn on(
        &mut self,
        at: ReplicaAt,
        now: u64,
        act: impl FnOnce(&mut Replica) -> Result<Reply, Refusal>,
    ) -> Result<Reply, Refusal> {
        let replica = self.replicas.get_mut(&at.placement).ok_or(Refusal::Gone)?;
        let reply = act(replica)?;
        replica.settle_due(now);
        Ok(reply)
    }

    fn keeper(&mut self) -> Result<&mut Keeper, Refusal> {
        self.keeper.as_mut().ok_or(Refusal::NotKeeper)
    }

    fn keep(&mut self, epoch: Epoch, keepers: Bytes) -> Result<Reply, Refusal> {
        match &mut self.keeper {
            Some(keeper) => keeper.keep(epoch, keepers)?,
            none @ None => *none = Some(Keeper::new(epoch, keepers)),
        }
        Ok(Reply::Done)
    }

    /// Q9: only who means this node in this life, and in this run, is served.
    fn recognise(&self, meant: Cookie) -> Result<(), Refusal> {
        match &self.cookie {
            Some((held, run_id)) if *held == meant && *run_id == self.run_id => Ok(()),
            held => Err(Refusal::Stranger { found: held.as_ref().map(|(cookie, _)| *cookie) }),
        }
    }

    pub(super) fn replicas(&self) -> usize {
        self.replicas.len()
    }

    fn identity(&self, now_ms: u64) -> Identity {
        Identity {
            run_id: self.run_id.clone(),
            cookie: self.cookie.clone(),
            durable: false,
            unsafe_settings: Vec::new(),
            keeper: self.keeper.as_ref().map(Keeper::state),
            memory: (self.used(), self.memory_limit.unwrap_or(0)),
            now_ms,
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
            .map(|(placement, replica)| (replica.due(), *placement, replica.of()))
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

/// A length as it is counted.
pub(super) fn size(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A limit of 0 counts as 1.
pub(super) fn at_least_one(limit: u32) -> usize {
    usize::try_from(limit.max(1)).unwrap_or(usize::MAX)
}

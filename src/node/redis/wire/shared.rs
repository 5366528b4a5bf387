//! Picks, holds and deletes on the same replicas as one call of their script: setting a script up
//! costs a server as much as what is done for one claim.

use redis::{Cmd, Pipeline};

use super::encode::Context;
use super::pack::{id, rank, references};
use crate::id::{ClaimKey, Cookie, Fencing, Placement, ReplicaAt, Version};
use crate::node::redis::keys::Key;
use crate::node::redis::script::Script;
use crate::node::{Delete, Guard, Hold, Op, Pick};

/// Operations in one call at most: all others wait for the server meanwhile.
const OPS: usize = 16;

/// What operations of one call have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::node::redis) enum Common {
    Hold(ReplicaAt),
    Delete(ReplicaAt),
    Pick(Cookie, Vec<Placement>),
}

impl Common {
    /// None for operations that have a call of their own.
    pub(in crate::node::redis) fn of(op: &Op) -> Option<Self> {
        match op {
            Op::Hold(hold) => Some(Self::Hold(hold.at)),
            Op::Delete(delete) => Some(Self::Delete(delete.at)),
            Op::Pick(pick) => Some(Self::Pick(pick.cookie, pick.placements.clone())),
            _ => None,
        }
    }

    fn call(&self, context: &Context) -> Cmd {
        match self {
            Self::Hold(at) => context.on_replica(Script::Hold, *at),
            Self::Delete(at) => context.on_replica(Script::Delete, *at),
            Self::Pick(cookie, placements) => {
                let at = |&placement| ReplicaAt { cookie: *cookie, placement };
                let prefixes: Vec<String> =
                    placements.iter().map(at).map(|at| Key::Replica(at).name()).collect();
                context.script(Script::Pick, *cookie, &prefixes)
            }
        }
    }
}

/// A call that is being put together.
#[derive(Debug)]
pub(in crate::node::redis) struct SharedCall {
    cmd: Cmd,
    common: Common,
    count: usize,
}

impl SharedCall {
    pub(in crate::node::redis) fn new(common: Common, context: &Context) -> Self {
        Self { cmd: common.call(context), common, count: 0 }
    }

    /// Whether one with this in common can join.
    pub(in crate::node::redis) fn has_room_for(&self, common: &Common) -> bool {
        self.common == *common && self.count < OPS
    }

    /// Takes in one that can join.
    pub(in crate::node::redis) fn push(&mut self, op: &Op) {
        self.count += 1;
        let cmd = &mut self.cmd;
        match op {
            Op::Pick(Pick { version, claim, ttl_ms, grace_ms, limit, max_bytes, .. }) => {
                cmd.arg(&id(version.0)).arg(&id(claim.0)).arg(*ttl_ms).arg(*grace_ms);
                cmd.arg((*limit).max(1)).arg(*max_bytes);
            }
            Op::Hold(Hold { version, claim, fencing, ttl_ms, grace_ms, refs, .. }) => {
                cmd.arg(&id(version.0)).arg(&id(claim.0)).arg(rank(*fencing));
                cmd.arg(*ttl_ms).arg(*grace_ms).arg(references(refs));
            }
            Op::Delete(Delete { version, guard, refs, .. }) => {
                let none = (ClaimKey(0), Fencing { version: Version(0), count: 0 });
                let (guard, (claim, fencing)) = match *guard {
                    Guard::Unclaimed => (0, none),
                    Guard::ClaimedBy(claim, fencing) => (1, (claim, fencing)),
                    Guard::Always => (2, none),
                };
                cmd.arg(&id(version.0)).arg(guard).arg(&id(claim.0)).arg(rank(fencing));
                cmd.arg(references(refs));
            }
            _ => {}
        }
    }

    pub(in crate::node::redis) fn command(self, pipe: &mut Pipeline) {
        pipe.add_command(self.cmd);
    }
}

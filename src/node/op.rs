//! What a node can be asked: one variant of [`Op`] for each operation.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::encoded::EncodedBlock;
use crate::id::{
    ClaimKey, Cookie, Epoch, Fencing, Generation, MessageRef, NodeId, Offset, Placement,
    ProducerId, ReplicaAt, SegmentNo, Version,
};
use crate::message::ClientId;

/// Which part of a segment is covered: for each producer its last block. A producer that is not
/// named has none.
pub type Frontier = BTreeMap<ProducerId, u32>;

/// One atomic operation on one node.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Who are you? → [`crate::node::Identity`]. Always answered.
    Identity,
    /// Become this node of this pool. Written only over no cookie, or over one of the same pool
    /// and node with an older incarnation; the same one again changes nothing.
    /// → `Done`; [`Stranger`](crate::node::Refusal::Stranger) with the cookie found otherwise,
    /// or with the one found when `run_id` is not the node's own.
    Admit {
        /// The new cookie.
        cookie: Cookie,
        /// The run id that [`Op::Identity`] told, kept beside the cookie.
        run_id: String,
    },

    /// Creates an empty replica. Sent once for each fresh placement.
    /// → `Done`; [`Exists`](crate::node::Refusal::Exists) if the placement is in use.
    Open(Open),
    /// Takes a producer's next block. → [`crate::node::Appended`]
    Append(Append),
    /// A producer says, without a block, up to which block it has been acked. Unknown producers
    /// and lower notes change nothing. → `Done`
    Note {
        /// The replica.
        at: ReplicaAt,
        /// The producer.
        producer: ProducerId,
        /// Its last acked block.
        noted: u32,
    },
    /// A page in the order of arrival. → [`crate::node::Page`]
    Read(Read),
    /// The replica's coverage and whether it is sealed. → [`crate::node::Coverage`]
    Probe {
        /// The replica.
        at: ReplicaAt,
    },
    /// Refuse appends from now on. Idempotent; the first sealer is remembered.
    /// → [`crate::node::Coverage`]
    Seal {
        /// The replica.
        at: ReplicaAt,
        /// Who seals.
        by: ProducerId,
    },
    /// Tells a sealed replica the segment's decided end: blocks above it cease to exist. A
    /// replica that is not sealed is sealed by it. Idempotent. Raises the replica's version.
    /// → `Done`; [`Gap`](crate::node::Refusal::Gap) if the replica does not cover the end.
    TellEnd {
        /// The replica.
        at: ReplicaAt,
        /// The manifest's version.
        version: Version,
        /// The end; producers not named end at 0.
        end: Frontier,
    },
    /// Messages by reference; neither claims nor delays matter. → [`crate::node::Got`]
    Get {
        /// The replica.
        at: ReplicaAt,
        /// Which.
        refs: Vec<MessageRef>,
    },
    /// Picks messages for a claim on the first of the given replicas that has some.
    /// → [`crate::node::Picked`]
    Pick(Pick),
    /// Marks the same messages on another replica. → [`crate::node::Held`]
    Hold(Hold),
    /// Gives messages of a claim back. Idempotent, never refused for its version.
    /// → `Done`
    Release {
        /// The replica.
        at: ReplicaAt,
        /// The claim.
        claim: ClaimKey,
        /// Which of its messages; `None`: all, and the claim ends.
        refs: Option<Vec<MessageRef>>,
    },
    /// Restarts a claim's time. → [`crate::node::Renewed`];
    /// [`NoClaim`](crate::node::Refusal::NoClaim)
    Renew {
        /// The replica.
        at: ReplicaAt,
        /// The manifest's version.
        version: Version,
        /// The claim.
        claim: ClaimKey,
        /// Its rank, which must be the claim's own.
        fencing: Fencing,
        /// The time from now to the claim's end.
        ttl_ms: u32,
        /// How long messages must live beyond the claim's end.
        grace_ms: u32,
    },
    /// A claim and its messages. → [`crate::node::ClaimView`];
    /// [`NoClaim`](crate::node::Refusal::NoClaim)
    ReadClaim {
        /// The replica.
        at: ReplicaAt,
        /// The claim.
        claim: ClaimKey,
        /// Its rank, which must be the claim's own.
        fencing: Fencing,
    },
    /// Ends messages. → [`crate::node::Deleted`]
    Delete(Delete),
    /// Counts. → [`crate::node::Stats`]
    Stats {
        /// The replica.
        at: ReplicaAt,
    },
    /// A batch of blocks with their state, in the order of arrival, for copying.
    /// → [`crate::node::CopyBatch`]
    CopyOut {
        /// The replica.
        at: ReplicaAt,
        /// The ordinal of arrival to start from.
        from: u32,
        /// Stop after this many bytes (at least one block is given).
        max_bytes: u32,
    },
    /// Takes a batch of copied blocks: new ones by append's own next-block rule, known ones by
    /// merging their state. Allowed on sealed and on joining replicas only.
    /// → [`crate::node::Coverage`]; [`Gap`](crate::node::Refusal::Gap) (nothing taken)
    CopyIn {
        /// The replica.
        at: ReplicaAt,
        /// The manifest's version.
        version: Version,
        /// The blocks, each producer's in order.
        blocks: Vec<CopiedBlock>,
    },
    /// Raises the replica's version: claims, deletes and copies of older ones are refused from
    /// now on. → `Done`; [`Stale`](crate::node::Refusal::Stale) if it was higher already.
    Fence {
        /// The replica.
        at: ReplicaAt,
        /// The manifest's version.
        version: Version,
    },
    /// Removes a replica, a bounded part at a time.
    /// → [`crate::node::Wiped`]
    Wipe {
        /// The replica.
        at: ReplicaAt,
    },
    /// Replicas that somebody should look at: all their messages have ended by TTL, or they were
    /// opened a while ago and never written to. Earliest first. → [`crate::node::DueReplicas`]
    Due {
        /// The node.
        cookie: Cookie,
        /// At most this many.
        limit: u32,
    },
    /// Do not name this replica as due again before `after_ms` have passed. → `Done`
    Defer {
        /// The replica.
        at: ReplicaAt,
        /// How long.
        after_ms: u64,
    },

    /// Makes the node a keeper that casts no vote yet, or raises the epoch of an active one.
    /// → `Done`; [`Epoch`](crate::node::Refusal::Epoch) if its epoch is higher.
    Keep {
        /// The node.
        cookie: Cookie,
        /// The epoch.
        epoch: Epoch,
        /// The set of keepers of that epoch, opaque to the node.
        keepers: Bytes,
    },
    /// Takes registers of other keepers, each by the higher ballot; for keepers that cast no vote.
    /// → `Done`
    Restore {
        /// The node.
        cookie: Cookie,
        /// The epoch of the keeper; another one is refused.
        epoch: Epoch,
        /// What other keepers hold.
        registers: Vec<RegisterDump>,
    },
    /// Lets a keeper vote from now on. → `Done`
    Activate {
        /// The node.
        cookie: Cookie,
        /// The epoch of the keeper; another one is refused.
        epoch: Epoch,
    },
    /// All registers, by name, after `after`. → [`crate::node::Dump`]
    Dump {
        /// The node.
        cookie: Cookie,
        /// The epoch of the keeper; another one is refused.
        epoch: Epoch,
        /// The last name of the page before, or empty.
        after: String,
        /// At most this many.
        limit: u32,
    },
    /// Promise to accept nothing below this ballot. → [`crate::node::Promise`];
    /// [`Ballot`](crate::node::Refusal::Ballot) if a ballot at or above it was promised.
    Prepare {
        /// The keeper.
        cookie: Cookie,
        /// The proposer's epoch.
        epoch: Epoch,
        /// The register.
        name: String,
        /// The ballot.
        ballot: Ballot,
    },
    /// Accept this value. → `Done`; [`Ballot`](crate::node::Refusal::Ballot) if a higher ballot
    /// was promised.
    Accept(Accept),
    /// What has been accepted, of several registers. → [`crate::node::Registers`]
    ReadRegisters {
        /// The keeper.
        cookie: Cookie,
        /// The reader's epoch.
        epoch: Epoch,
        /// The registers.
        names: Vec<String>,
    },
    /// Names of the registers that were accepted into since the change numbered `since`.
    /// → [`crate::node::Changes`]
    Changes {
        /// The keeper.
        cookie: Cookie,
        /// The reader's epoch.
        epoch: Epoch,
        /// The last change known, 0 for none.
        since: u64,
        /// At most this many names.
        limit: u32,
    },
    /// Names of the live registers indexed under a project, by name, after `after`.
    /// → [`crate::node::Names`]
    ListIndex {
        /// The keeper.
        cookie: Cookie,
        /// The reader's epoch.
        epoch: Epoch,
        /// The project.
        project: String,
        /// The last name of the page before, or empty.
        after: String,
        /// At most this many.
        limit: u32,
    },
}

/// See [`Op::Open`].
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// The fresh replica.
    pub at: ReplicaAt,
    /// Whether it will take appends or copies.
    pub role: Role,
    /// What it is a replica of, for [`Op::Due`].
    pub of: SegmentOf,
}

/// What a fresh replica is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes appends until it is sealed.
    Appending,
    /// Sealed from the start, takes copies. Until it covers the segment it also takes deletes
    /// and holds of messages that it does not have yet, and remembers them.
    Joining,
}

/// Which segment of which queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentOf {
    /// The register's name of the queue.
    pub register: String,
    /// The queue's life.
    pub generation: Generation,
    /// The segment.
    pub segment: SegmentNo,
}

/// See [`Op::Append`].
#[derive(Debug, Clone, PartialEq)]
pub struct Append {
    /// The replica.
    pub at: ReplicaAt,
    /// Whose block.
    pub producer: ProducerId,
    /// The block's number, from 1; taken only if it is the producer's next.
    pub block: u32,
    /// The producer's last block that every replica has taken, as far as it knows.
    pub noted: u32,
    /// The encoded block, unstamped.
    pub bytes: EncodedBlock,
}

/// See [`Op::Read`].
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The replica.
    pub at: ReplicaAt,
    /// Where to start.
    pub from: Offset,
    /// At most this many messages.
    pub limit: u32,
    /// Stop after about this many bytes of bodies (at least one message is given).
    pub max_bytes: u32,
    /// What to leave out. Expired and deleted messages always are.
    pub filter: Filter,
}

/// Which messages a reader does not want.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// Leave out what this client posted.
    pub not_from: Option<ClientId>,
    /// Leave out claimed messages.
    pub skip_claimed: bool,
    /// Leave out messages whose delay has not passed.
    pub skip_delayed: bool,
}

/// See [`Op::Pick`].
#[derive(Debug, Clone, PartialEq)]
pub struct Pick {
    /// The node.
    pub cookie: Cookie,
    /// Replicas on that node, in the order of their segments.
    pub placements: Vec<Placement>,
    /// The manifest's version.
    pub version: Version,
    /// The new claim; picking again with the same one returns the same messages.
    pub claim: ClaimKey,
    /// The time from now to the claim's end.
    pub ttl_ms: u32,
    /// How long messages must live beyond the claim's end.
    pub grace_ms: u32,
    /// At most this many messages.
    pub limit: u32,
    /// Stop after about this many bytes of bodies (at least one message is given).
    pub max_bytes: u32,
}

/// See [`Op::Hold`].
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// The replica.
    pub at: ReplicaAt,
    /// The manifest's version.
    pub version: Version,
    /// The claim.
    pub claim: ClaimKey,
    /// Its rank, from the pick.
    pub fencing: Fencing,
    /// The time from now to the claim's end.
    pub ttl_ms: u32,
    /// How long messages must live beyond the claim's end.
    pub grace_ms: u32,
    /// Which messages.
    pub refs: Vec<MessageRef>,
}

/// See [`Op::Delete`].
#[derive(Debug, Clone, PartialEq)]
pub struct Delete {
    /// The replica.
    pub at: ReplicaAt,
    /// The manifest's version.
    pub version: Version,
    /// Which messages.
    pub refs: Vec<MessageRef>,
    /// Under which condition.
    pub guard: Guard,
}

/// The condition of a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Only if no live claim holds it.
    Unclaimed,
    /// Only if this very claim holds it and has not expired.
    ClaimedBy(ClaimKey, Fencing),
    /// Whether claimed or not.
    Always,
}

/// A block on its way from one replica to another.
#[derive(Debug, Clone, PartialEq)]
pub struct CopiedBlock {
    /// Whose.
    pub producer: ProducerId,
    /// Its number.
    pub block: u32,
    /// Time since it arrived.
    pub age_ms: u64,
    /// The block as stored (message states within); `None` if all its messages have ended.
    pub bytes: Option<Bytes>,
    /// What is known of claims on its messages.
    pub marks: Vec<CopiedMark>,
}

/// A claim on one message, on its way from one replica to another. Also kept when the claim was
/// released, for the rank and the count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopiedMark {
    /// The message's place in the block.
    pub index: u8,
    /// The claim.
    pub claim: ClaimKey,
    /// Its rank.
    pub fencing: Fencing,
    /// How often the message has been claimed.
    pub times: u32,
    /// Time left to the claim's end; `None`: released.
    pub left_ms: Option<u64>,
    /// The claim's whole time at its last (re)start.
    pub ttl_ms: u32,
}

/// A register's ballot: rounds first, the proposer breaks ties.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Ballot {
    /// The round, from 1; 0 is below every ballot.
    pub round: u64,
    /// The proposer.
    pub by: u64,
}

/// See [`Op::Accept`].
#[derive(Debug, Clone, PartialEq)]
pub struct Accept {
    /// The keeper.
    pub cookie: Cookie,
    /// The proposer's epoch.
    pub epoch: Epoch,
    /// The register.
    pub name: String,
    /// The ballot.
    pub ballot: Ballot,
    /// The value.
    pub value: Bytes,
    /// How the keeper indexes the register in the same step.
    pub index: Option<Index>,
}

/// A register's place in a keeper's index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The project under which it is listed.
    pub project: String,
    /// The name by which it is listed.
    pub queue: String,
    /// Whether it is listed, or taken out.
    pub listed: bool,
}

/// All that a keeper knows of a register.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterDump {
    /// Its name.
    pub name: String,
    /// The highest ballot promised.
    pub promised: Ballot,
    /// The ballot and value accepted last.
    pub accepted: Option<(Ballot, Bytes)>,
    /// How it is indexed.
    pub index: Option<Index>,
}

impl Op {
    /// The cookie that the op names, if it names one.
    pub fn cookie(&self) -> Option<Cookie> {
        match self {
            Self::Identity | Self::Admit { .. } => None,
            Self::Open(Open { at, .. })
            | Self::Append(Append { at, .. })
            | Self::Read(Read { at, .. })
            | Self::Hold(Hold { at, .. })
            | Self::Delete(Delete { at, .. })
            | Self::Note { at, .. }
            | Self::Probe { at }
            | Self::Seal { at, .. }
            | Self::TellEnd { at, .. }
            | Self::Get { at, .. }
            | Self::Release { at, .. }
            | Self::Renew { at, .. }
            | Self::ReadClaim { at, .. }
            | Self::Stats { at }
            | Self::CopyOut { at, .. }
            | Self::CopyIn { at, .. }
            | Self::Fence { at, .. }
            | Self::Wipe { at }
            | Self::Defer { at, .. } => Some(at.cookie),
            Self::Pick(Pick { cookie, .. })
            | Self::Accept(Accept { cookie, .. })
            | Self::Due { cookie, .. }
            | Self::Keep { cookie, .. }
            | Self::Restore { cookie, .. }
            | Self::Activate { cookie, .. }
            | Self::Dump { cookie, .. }
            | Self::Prepare { cookie, .. }
            | Self::ReadRegisters { cookie, .. }
            | Self::Changes { cookie, .. }
            | Self::ListIndex { cookie, .. } => Some(*cookie),
        }
    }

    /// The node that the op is meant for, if it names one.
    pub fn node(&self) -> Option<NodeId> {
        self.cookie().map(|cookie| cookie.node)
    }
}

//! What a node answers: one variant of [`Reply`] for each shape of answer.

use bytes::Bytes;

use super::{Ballot, CopiedBlock, Frontier, RegisterDump, SegmentOf};
use crate::id::{
    ClaimKey, Cookie, Epoch, Fencing, MessageRef, Offset, Placement, ProducerId, Version,
};
use crate::message::ClientId;

/// The answer to one [`super::Op`].
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Not done; nothing was changed.
    Refused(Refusal),
    /// Done; there is nothing more to say.
    Done,
    /// To `Identity`.
    Identity(Identity),
    /// To `Append`.
    Appended(Appended),
    /// To `Read`.
    Page(Page),
    /// To `Probe`, `Seal` and `CopyIn`.
    Coverage(Coverage),
    /// To `Get`.
    Got(Got),
    /// To `Pick`.
    Picked(Picked),
    /// To `Hold`.
    Held(Held),
    /// To `Renew`.
    Renewed(Renewed),
    /// To `ReadClaim`.
    Claim(ClaimView),
    /// To `Delete`.
    Deleted(Deleted),
    /// To `Stats`.
    Stats(Stats),
    /// To `CopyOut`.
    CopyBatch(CopyBatch),
    /// To `Wipe`.
    Wiped(Wiped),
    /// To `Due`.
    Due(DueReplicas),
    /// To `Dump`.
    Dump(Dump),
    /// To `Prepare`.
    Promise(Promise),
    /// To `ReadRegisters`.
    Registers(Registers),
    /// To `Changes`.
    Changes(Changes),
    /// To `ListIndex`.
    Names(Names),
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The node is not the one that was meant: it holds no cookie, another cookie, or was
    /// restarted since it was admitted.
    Stranger {
        /// What it holds.
        found: Option<Cookie>,
    },
    /// There is no such replica.
    Gone,
    /// The placement is in use.
    Exists,
    /// The replica takes no appends any more.
    Sealed,
    /// The replica is not sealed, and the operation needs a sealed one.
    Open,
    /// The replica has not been told the segment's end yet.
    EndUnknown,
    /// Not the producer's next block: this is its last one.
    Gap {
        /// Last block that the replica has.
        frontier: u32,
    },
    /// The replica has another block under that number.
    Conflict,
    /// The segment has as many producers as it may.
    TooManyProducers,
    /// The node's memory is full.
    Full,
    /// The manifest's version was raised above the request's.
    Stale {
        /// The replica's version.
        version: Version,
    },
    /// There is no such claim, or it has expired, or its rank is another.
    NoClaim,
    /// The node is no keeper, or casts no vote yet.
    NotKeeper,
    /// The request's epoch is not the keeper's.
    Epoch {
        /// The keeper's epoch.
        epoch: Epoch,
        /// The set of keepers of that epoch.
        keepers: Bytes,
    },
    /// A higher ballot was promised.
    Ballot {
        /// That ballot.
        promised: Ballot,
    },
}

/// Who a node is, and whether it may be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Drawn anew by each start of the server.
    pub run_id: String,
    /// The cookie held, and the run id under which it was written.
    pub cookie: Option<(Cookie, String)>,
    /// Whether the node keeps all it acknowledged across a restart (checked, not believed).
    pub durable: bool,
    /// Settings with which the node must not be used, each with what mends it.
    pub unsafe_settings: Vec<UnsafeSetting>,
    /// The epoch and the set of keepers, if the node is one, and whether it votes.
    pub keeper: Option<KeeperState>,
    /// Bytes used, and the limit (0: none).
    pub memory: (u64, u64),
    /// The node's clock, in milliseconds since the epoch; 0: it does not tell.
    pub now_ms: u64,
    /// The server's version, for people.
    pub version: String,
}

/// A setting with which acknowledged messages could be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsafeSetting {
    /// Its name, as in the server's configuration.
    pub setting: String,
    /// Its value.
    pub found: String,
    /// The command or action that mends it.
    pub mend: String,
}

/// A keeper's own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperState {
    /// Its epoch.
    pub epoch: Epoch,
    /// The set of keepers of that epoch.
    pub keepers: Bytes,
    /// Whether it votes.
    pub active: bool,
}

/// A block was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Whether it had been taken before.
    pub again: bool,
    /// Bytes of blocks that the replica holds, at least: others may have posted lately.
    pub bytes: u64,
}

/// What a replica says of one producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerState {
    /// The producer.
    pub producer: ProducerId,
    /// Its last block here.
    pub frontier: u32,
    /// The last block that it said was acked.
    pub noted: u32,
}

/// Who sealed a replica first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// The sealer; `ProducerId(0)` for a replica sealed from the start.
    pub by: ProducerId,
    /// How long ago.
    pub age_ms: u64,
}

/// What a replica covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    /// Whether it takes appends, and if not since when.
    pub sealed: Option<Sealed>,
    /// Whether it has been told the segment's end.
    pub end_told: bool,
    /// The manifest's version raised here.
    pub version: Version,
    /// Its producers, by id.
    pub producers: Vec<ProducerState>,
    /// Bytes of blocks that it holds.
    pub bytes: u64,
    /// Blocks that arrived: the ordinal of the next one.
    pub arrived: u32,
}

impl Coverage {
    /// The coverage as a frontier.
    pub fn frontier(&self) -> Frontier {
        self.producers.iter().map(|state| (state.producer, state.frontier)).collect()
    }
}

/// A page of a replica's log.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What the replica covers, in the same step.
    pub coverage: Coverage,
    /// Every block that the page passes, also those of which nothing is returned.
    pub blocks: Vec<PageBlock>,
    /// Where the next page starts.
    pub next: Offset,
    /// Whether nothing has arrived beyond `next`.
    pub at_tail: bool,
}

/// What a page passes of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct PageBlock {
    /// The block's ordinal of arrival here.
    pub ordinal: u32,
    /// Whose.
    pub producer: ProducerId,
    /// Its number.
    pub block: u32,
    /// How many messages it had when it was sent.
    pub count: u16,
    /// Messages below this index have been passed, by this page or before.
    pub passed: u16,
    /// Time since it arrived here.
    pub age_ms: u64,
    /// The messages returned, by index.
    pub entries: Vec<Entry>,
}

/// A message as a replica holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which.
    pub at: MessageRef,
    /// The envelope, as it was posted.
    pub envelope: Bytes,
    /// Time since it arrived here.
    pub age_ms: u64,
    /// How long it lives, counted from its arrival.
    pub ttl_ms: u32,
    /// The delay it was posted with, counted from its arrival.
    pub delay_ms: u32,
    /// Who posted it.
    pub client: Option<ClientId>,
    /// The live claim on it.
    pub claim: Option<(ClaimKey, Fencing)>,
    /// How often it has been claimed.
    pub times: u32,
}

/// Messages by reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    /// One for each reference; `None` if it has ended or never came.
    pub entries: Vec<Option<Entry>>,
}

/// What was picked for a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Picked {
    /// On which replica, if anything was; and the claim's rank.
    pub on: Option<(Placement, Fencing)>,
    /// The messages, in order.
    pub entries: Vec<Entry>,
    /// Replicas that could not be looked at before that.
    pub refused: Vec<(Placement, Refusal)>,
}

/// What a replica holds for a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// One for each message asked for.
    pub each: Vec<HoldStatus>,
}

/// Whether one message is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldStatus {
    /// It is.
    Held,
    /// Another claim of the same or a higher rank was here before, live or not, or a live claim
    /// holds it.
    Outranked,
    /// It has ended here.
    Ended,
}

/// A claim goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// How many messages it holds.
    pub messages: u32,
}

/// A claim and its messages.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimView {
    /// Its whole time at its last (re)start.
    pub ttl_ms: u32,
    /// Time since its last (re)start.
    pub age_ms: u64,
    /// Its messages, in the order of arrival.
    pub entries: Vec<Entry>,
}

/// What a delete did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// One for each message asked for.
    pub each: Vec<DeleteStatus>,
    /// Messages of this replica that have not ended (expired ones may still be counted).
    pub live: u64,
}

/// What a delete did to one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteStatus {
    /// It has ended now (or a tombstone awaits it).
    Ended,
    /// It had ended before, or never came.
    Absent,
    /// Refused: a live claim holds it and none was named, or another one holds it.
    Claimed,
    /// Refused: a claim was named, but no live claim holds it.
    NotClaimed,
}

/// Counts of a replica's messages: exact, expired ones count as ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Not ended, not claimed, not delayed.
    pub active: u64,
    /// Held by a live claim.
    pub claimed: u64,
    /// Not ended, not claimed, delay not passed.
    pub delayed: u64,
    /// Bytes of the envelopes of all of them.
    pub bytes: u64,
    /// The first and the last message in the order of arrival that have not ended.
    pub oldest: Option<Entry>,
    /// See `oldest`.
    pub newest: Option<Entry>,
}

/// Blocks with their state.
#[derive(Debug, Clone, PartialEq)]
pub struct CopyBatch {
    /// The blocks.
    pub blocks: Vec<CopiedBlock>,
    /// The ordinal of arrival to go on from.
    pub next: u32,
    /// Whether that was the last batch.
    pub done: bool,
}

/// A replica is being removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wiped {
    /// Whether nothing is left of it.
    pub done: bool,
}

/// Replicas that somebody should look at.
#[derive(Debug, Clone, PartialEq)]
pub struct DueReplicas {
    /// Where, and of what.
    pub replicas: Vec<(Placement, SegmentOf)>,
}

/// A page of registers.
#[derive(Debug, Clone, PartialEq)]
pub struct Dump {
    /// By name.
    pub registers: Vec<RegisterDump>,
    /// Whether that was the last page.
    pub done: bool,
}

/// A promise, with what was accepted before.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    /// The ballot and value accepted last.
    pub accepted: Option<(Ballot, Bytes)>,
}

/// What was accepted in several registers.
#[derive(Debug, Clone, PartialEq)]
pub struct Registers {
    /// One for each name asked for.
    pub each: Vec<Option<(Ballot, Bytes)>>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The number of the last change told.
    pub upto: u64,
    /// The registers accepted into, each once.
    pub names: Vec<String>,
    /// Whether that is all.
    pub complete: bool,
}

/// A page of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// In order.
    pub names: Vec<String>,
}

//! Short words for the ops and replies of the cases.

use bytes::Bytes;
use roundelay::ClientId;
use roundelay::block::{Block, Record, State};
use roundelay::id::{
    ClaimKey, Fencing, Generation, MessageRef, Offset, ProducerId, ReplicaAt, SegmentNo, Version,
};
use roundelay::node::{
    Append, Appended, Changes, ClaimView, CopiedBlock, CopyBatch, Coverage, Delete, DeleteStatus,
    Deleted, DueReplicas, Dump, Entry, Filter, Frontier, Got, Guard, Held, Hold, HoldStatus,
    Identity, Names, Op, Open, Page, Pick, Picked, Promise, Read, Refusal, Registers, Renewed,
    Reply, Role, SegmentOf, Stats, Wiped,
};

use super::env::Env;

/// A producer.
pub(crate) const A: ProducerId = ProducerId(10);
/// Another one, behind it by id.
pub(crate) const B: ProducerId = ProducerId(20);
/// The version that cases use.
pub(crate) const V1: Version = Version(1);
/// A later one.
pub(crate) const V2: Version = Version(2);
/// A time that does not pass within a case.
pub(crate) const LONG_MS: u32 = 600_000;
/// A time that [`PASSED_MS`] is longer than.
pub(crate) const SHORT_MS: u32 = 150;
/// See [`SHORT_MS`].
pub(crate) const PASSED_MS: u64 = 200;
/// More messages than any case has.
pub(crate) const MANY: u32 = 100_000;

macro_rules! typed_replies {
    ($($name:ident: $variant:ident($shape:ty),)*) => {
        impl Env {
            $(
                /// Sends one op that is answered so.
                pub(crate) async fn $name(&self, op: Op) -> $shape {
                    match self.reply(op.clone()).await {
                        Reply::$variant(answer) => answer,
                        other => panic!("{op:?} was answered {other:?}"),
                    }
                }
            )*
        }
    };
}

typed_replies! {
    refused: Refused(Refusal),
    identity: Identity(Identity),
    appended: Appended(Appended),
    page: Page(Page),
    coverage: Coverage(Coverage),
    got: Got(Got),
    picked: Picked(Picked),
    held: Held(Held),
    renewed: Renewed(Renewed),
    claim: Claim(ClaimView),
    deleted: Deleted(Deleted),
    stats: Stats(Stats),
    batch: CopyBatch(CopyBatch),
    wiped: Wiped(Wiped),
    due: Due(DueReplicas),
    dump: Dump(Dump),
    promise: Promise(Promise),
    registers: Registers(Registers),
    changes: Changes(Changes),
    names: Names(Names),
}

impl Env {
    /// Sends one op that is simply done.
    pub(crate) async fn done(&self, op: Op) {
        assert_eq!(self.reply(op.clone()).await, Reply::Done, "{op:?}");
    }

    /// Opens a replica that takes appends.
    pub(crate) async fn open(&self) -> ReplicaAt {
        let at = self.fresh();
        self.done(open(at, Role::Appending)).await;
        at
    }

    /// Opens a replica that takes copies.
    pub(crate) async fn open_joining(&self) -> ReplicaAt {
        let at = self.fresh();
        self.done(open(at, Role::Joining)).await;
        at
    }

    /// Appends the next block of `A`.
    pub(crate) async fn append(&self, at: ReplicaAt, number: u32, posts: &[Post]) -> Appended {
        self.appended(append(at, A, number, block(posts))).await
    }

    /// Opens a replica, appends a block of `A` for each list of posts, and tells their end.
    pub(crate) async fn ended(&self, blocks: &[&[Post]]) -> ReplicaAt {
        let at = self.open().await;
        for (number, posts) in (1..).zip(blocks) {
            self.append(at, number, posts).await;
        }
        let last = u32::try_from(blocks.len()).expect("few blocks");
        self.done(tell_end(at, &[(A, last)])).await;
        at
    }

    /// Opens a replica with one block of so many long-lived messages, and tells the end.
    pub(crate) async fn ended_with(&self, messages: usize) -> ReplicaAt {
        self.ended(&[&vec![post("body"); messages]]).await
    }

    /// The bodies of a page from the start.
    pub(crate) async fn bodies(&self, at: ReplicaAt) -> Vec<String> {
        page_bodies(&self.page(read(at, 0, MANY)).await)
    }

    /// Picks on one replica under version 1.
    pub(crate) async fn pick(&self, at: ReplicaAt, claim: u64, limit: u32) -> Picked {
        self.picked(Op::Pick(pick(&[at], claim, limit))).await
    }

    /// Picks something on one replica and gives the rank.
    pub(crate) async fn pick_rank(&self, at: ReplicaAt, claim: u64, limit: u32) -> Fencing {
        self.pick(at, claim, limit).await.on.expect("something is picked").1
    }

    /// Holds messages for a long claim.
    pub(crate) async fn hold(
        &self,
        at: ReplicaAt,
        claim: u64,
        rank: Fencing,
        refs: &[MessageRef],
    ) -> Vec<HoldStatus> {
        self.held(Op::Hold(hold(at, claim, rank, refs))).await.each
    }

    /// Deletes messages.
    pub(crate) async fn delete(
        &self,
        at: ReplicaAt,
        refs: &[MessageRef],
        guard: Guard,
    ) -> Vec<DeleteStatus> {
        self.deleted(delete(at, refs, guard)).await.each
    }

    /// One message, as it stands.
    pub(crate) async fn entry(&self, at: ReplicaAt, which: MessageRef) -> Option<Entry> {
        self.got(Op::Get { at, refs: vec![which] }).await.entries.remove(0)
    }

    /// The state of all blocks.
    pub(crate) async fn copies(&self, at: ReplicaAt) -> Vec<CopiedBlock> {
        self.batch(Op::CopyOut { at, from: 0, max_bytes: u32::MAX }).await.blocks
    }

    /// Which replicas are due.
    pub(crate) async fn due_places(&self) -> Vec<roundelay::id::Placement> {
        let due = self.due(Op::Due { cookie: self.cookie, limit: MANY }).await;
        due.replicas.into_iter().map(|(placement, _)| placement).collect()
    }
}

/// A message to be posted.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    body: String,
    ttl_ms: u32,
    delay_ms: u32,
    client: Option<ClientId>,
}

/// A message that lives long and is not delayed.
pub(crate) fn post(body: &str) -> Post {
    Post { body: body.into(), ttl_ms: LONG_MS, delay_ms: 0, client: None }
}

impl Post {
    pub(crate) fn ttl(self, ttl_ms: u32) -> Self {
        Self { ttl_ms, ..self }
    }

    pub(crate) fn delay(self, delay_ms: u32) -> Self {
        Self { delay_ms, ..self }
    }

    pub(crate) fn client(self, client: &str) -> Self {
        Self { client: Some(ClientId::new(client).expect("a client id")), ..self }
    }
}

/// An encoded block.
pub(crate) fn block(posts: &[Post]) -> Bytes {
    Block::of(posts.iter().map(|post| Record {
        index: 0,
        state: if post.delay_ms > 0 { State::Delayed } else { State::Ready },
        client: post.client.clone(),
        ttl_ms: post.ttl_ms,
        delay_ms: post.delay_ms,
        envelope: Bytes::from(post.body.clone()),
    }))
    .encode()
}

/// The segment that all replicas are of.
pub(crate) fn segment() -> SegmentOf {
    SegmentOf { register: "queue/x".into(), generation: Generation(1), segment: SegmentNo(4) }
}

pub(crate) fn open(at: ReplicaAt, role: Role) -> Op {
    Op::Open(Open { at, role, of: segment() })
}

pub(crate) fn append(at: ReplicaAt, producer: ProducerId, number: u32, bytes: Bytes) -> Op {
    Op::Append(Append { at, producer, block: number, noted: 0, bytes: bytes.into() })
}

pub(crate) fn frontier(of: &[(ProducerId, u32)]) -> Frontier {
    of.iter().copied().collect()
}

pub(crate) fn tell_end(at: ReplicaAt, end: &[(ProducerId, u32)]) -> Op {
    Op::TellEnd { at, version: V1, end: frontier(end) }
}

pub(crate) fn read(at: ReplicaAt, from: u64, limit: u32) -> Op {
    Op::Read(read_of(at, from, limit))
}

pub(crate) fn read_of(at: ReplicaAt, from: u64, limit: u32) -> Read {
    let filter = Filter::default();
    Read { at, from: Offset(from), limit, max_bytes: u32::MAX, filter }
}

/// Message `index` of a block of `A`.
pub(crate) fn message(number: u32, index: u8) -> MessageRef {
    MessageRef { producer: A, block: number, index }
}

pub(crate) fn pick(on: &[ReplicaAt], claim: u64, limit: u32) -> Pick {
    Pick {
        cookie: on.first().expect("a replica").cookie,
        placements: on.iter().map(|at| at.placement).collect(),
        version: V1,
        claim: ClaimKey(claim),
        ttl_ms: LONG_MS / 10,
        grace_ms: 0,
        limit,
        max_bytes: u32::MAX,
    }
}

pub(crate) fn rank(version: u64, count: u32) -> Fencing {
    Fencing { version: Version(version), count }
}

pub(crate) fn hold(at: ReplicaAt, claim: u64, fencing: Fencing, refs: &[MessageRef]) -> Hold {
    Hold {
        at,
        version: V1,
        claim: ClaimKey(claim),
        fencing,
        ttl_ms: LONG_MS / 10,
        grace_ms: 0,
        refs: refs.to_vec(),
    }
}

pub(crate) fn release(at: ReplicaAt, claim: u64, refs: Option<&[MessageRef]>) -> Op {
    Op::Release { at, claim: ClaimKey(claim), refs: refs.map(<[_]>::to_vec) }
}

pub(crate) fn renew(at: ReplicaAt, claim: u64, fencing: Fencing, ttl_ms: u32) -> Op {
    Op::Renew { at, version: V1, claim: ClaimKey(claim), fencing, ttl_ms, grace_ms: 0 }
}

pub(crate) fn read_claim(at: ReplicaAt, claim: u64, fencing: Fencing) -> Op {
    Op::ReadClaim { at, claim: ClaimKey(claim), fencing }
}

pub(crate) fn delete(at: ReplicaAt, refs: &[MessageRef], guard: Guard) -> Op {
    Op::Delete(Delete { at, version: V1, refs: refs.to_vec(), guard })
}

pub(crate) fn entry_bodies(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| String::from_utf8_lossy(&entry.envelope).into_owned()).collect()
}

pub(crate) fn page_bodies(page: &Page) -> Vec<String> {
    page.blocks.iter().flat_map(|block| entry_bodies(&block.entries)).collect()
}

/// The places of all entries of a page.
pub(crate) fn page_refs(page: &Page) -> Vec<MessageRef> {
    page.blocks.iter().flat_map(|block| &block.entries).map(|entry| entry.at).collect()
}

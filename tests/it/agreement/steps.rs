//! Steps of the agreement test: few ids, so that they collide.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use roundelay::ClientId;
use roundelay::block::{Block, Record, State};
use roundelay::id::{
    ClaimKey, Cookie, Epoch, Fencing, Generation, Incarnation, MessageRef, NodeId, Offset,
    Placement, PoolId, ProducerId, ReplicaAt, SegmentNo, Version,
};
use roundelay::node::{
    Accept, Append, Ballot, CopiedBlock, CopiedMark, Delete, Filter, Guard, Hold, Index, Op, Open,
    Pick, Read, RegisterDump, Role, SegmentOf,
};

/// What is over a millisecond later; and what is not over for hours.
const SHORT: u32 = 1;
const TTL: u32 = 20_000_000;
const HOUR: u32 = 10_000_000;

/// One step.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// One call.
    Ops(Vec<Op>),
    /// Admits both nodes again, as what they are.
    Admit,
    /// Tells the end that the replica covers.
    EndHere { placement: u64, version: Version },
    /// Copies what one replica has to another.
    Copy { from: u64, to: u64, max_bytes: u32 },
}

impl Step {
    /// A call in which something expires as calls of their own: a millisecond may pass within one
    /// on one node and not on the other.
    pub(super) fn split(&self) -> Vec<Self> {
        match self {
            Self::Ops(ops) if self.is_short() => {
                ops.iter().map(|op| Self::Ops(vec![op.clone()])).collect()
            }
            other => vec![other.clone()],
        }
    }

    /// Whether time must pass after it.
    pub(super) fn is_short(&self) -> bool {
        let Self::Ops(ops) = self else { return matches!(self, Self::Copy { .. }) };
        ops.iter().any(|op| match op {
            Op::Append(append) => {
                has(&append.bytes, |record| record.ttl_ms == SHORT || record.delay_ms == SHORT)
            }
            Op::CopyIn { .. } | Op::Defer { .. } => true,
            Op::Pick(Pick { ttl_ms, .. })
            | Op::Hold(Hold { ttl_ms, .. })
            | Op::Renew { ttl_ms, .. } => *ttl_ms == SHORT,
            _ => false,
        })
    }

    pub(super) fn lets_messages_expire(&self) -> bool {
        let Self::Ops(ops) = self else { return false };
        ops.iter().any(|op| match op {
            Op::Append(append) => has(&append.bytes, |record| record.ttl_ms == SHORT),
            Op::CopyIn { .. } => true,
            _ => false,
        })
    }
}

fn has(bytes: &Bytes, test: impl Fn(&Record) -> bool) -> bool {
    Block::decode(bytes).is_ok_and(|block| block.records.iter().any(test))
}

pub(super) fn cookie(incarnation: u32) -> Cookie {
    let incarnation = Incarnation(incarnation);
    Cookie { pool: PoolId(0xabc), node: NodeId(3), incarnation }
}

pub(super) fn at(placement: u64) -> ReplicaAt {
    ReplicaAt { cookie: cookie(1), placement: Placement(placement) }
}

/// A whole run: two replicas of one segment and one that joins, then anything.
pub(super) fn case() -> impl Strategy<Value = Vec<Step>> {
    let calm = any::<bool>();
    (calm, any::<bool>()).prop_flat_map(|(calm, keeper)| {
        vec(step(calm), 1..90).prop_map(move |steps| {
            let mut all = vec![Step::Ops(vec![
                open(1, Role::Appending),
                open(2, Role::Appending),
                open(3, Role::Joining),
            ])];
            if keeper {
                let (cookie, epoch) = (cookie(1), Epoch(1));
                all.push(Step::Ops(vec![
                    Op::Keep { cookie, epoch, keepers: Bytes::from_static(b"abc") },
                    Op::Activate { cookie, epoch },
                ]));
            }
            all.extend(steps);
            without_reuse(all)
        })
    })
}

/// Leaves out what nobody does: opening a placement again that was wiped. Placements are unique for
/// ever, and a client that noted blocks down without a script relies on it.
fn without_reuse(steps: Vec<Step>) -> Vec<Step> {
    let mut wiped = std::collections::BTreeSet::new();
    let mut keep = |op: &Op| match op {
        Op::Wipe { at } => {
            wiped.insert(at.placement);
            true
        }
        Op::Open(open) => !wiped.contains(&open.at.placement),
        _ => true,
    };
    steps
        .into_iter()
        .map(|step| match step {
            Step::Ops(ops) => Step::Ops(ops.into_iter().filter(|op| keep(op)).collect()),
            other => other,
        })
        .collect()
}

fn open(placement: u64, role: Role) -> Op {
    let of = SegmentOf {
        register: "q/one two".into(),
        generation: Generation(2),
        segment: SegmentNo(7),
    };
    Op::Open(Open { at: at(placement), role, of })
}

fn step(calm: bool) -> BoxedStrategy<Step> {
    prop_oneof![
        40 => vec(op(calm), 1..4).prop_map(Step::Ops),
        20 => vec(append(calm), 1..4).prop_map(Step::Ops),
        10 => alike().prop_map(Step::Ops),
        4 => (placement(), version())
            .prop_map(|(placement, version)| Step::EndHere { placement, version }),
        3 => (placement(), placement(), prop_oneof![Just(1u32), Just(200), Just(100_000)])
            .prop_map(|(from, to, max_bytes)| Step::Copy { from, to, max_bytes }),
        6 => vec(register_op(), 1..4).prop_map(Step::Ops),
        1 => Just(Step::Admit),
    ]
    .boxed()
}

fn placement() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![6 => Just(1u64), 3 => Just(2), 3 => Just(3), 1 => Just(4)]
}

fn replica() -> impl Strategy<Value = ReplicaAt> + Clone {
    (placement(), prop_oneof![60 => Just(1u32), 1 => Just(2)])
        .prop_map(|(placement, life)| ReplicaAt { cookie: cookie(life), ..at(placement) })
}

fn producer() -> impl Strategy<Value = ProducerId> + Clone {
    prop_oneof![Just(1u64), Just(2), Just(u64::MAX - 5)].prop_map(ProducerId)
}

fn version() -> impl Strategy<Value = Version> + Clone {
    prop_oneof![8 => Just(5u64), 1 => Just(4), 1 => Just(6), 1 => Just(1 << 60)].prop_map(Version)
}

fn claim() -> impl Strategy<Value = ClaimKey> + Clone {
    prop_oneof![Just(7u64), Just(8), Just(u64::MAX)].prop_map(ClaimKey)
}

fn fencing() -> impl Strategy<Value = Fencing> + Clone {
    (version(), 0u32..4).prop_map(|(version, count)| Fencing { version, count })
}

fn reference() -> impl Strategy<Value = MessageRef> + Clone {
    (producer(), 0u32..4, prop_oneof![8 => 0u8..4, 1 => Just(30)])
        .prop_map(|(producer, block, index)| MessageRef { producer, block, index })
}

/// Some of anything, or neighbours.
fn references() -> impl Strategy<Value = Vec<MessageRef>> + Clone {
    let run = (producer(), 0u32..4, 0u8..3, 1u8..7).prop_map(|(producer, block, first, count)| {
        (first..first + count).map(|index| MessageRef { producer, block, index }).collect()
    });
    prop_oneof![2 => vec(reference(), 0..5), 1 => run]
}

/// Operations that a node may do as one: of one kind, on the same replicas.
fn alike() -> BoxedStrategy<Vec<Op>> {
    let onto = |op: &Op, mut other: Op| {
        match (op, &mut other) {
            (Op::Pick(like), Op::Pick(pick)) => pick.placements.clone_from(&like.placements),
            (Op::Hold(like), Op::Hold(hold)) => hold.at = like.at,
            (Op::Delete(like), Op::Delete(delete)) => delete.at = like.at,
            _ => {}
        }
        other
    };
    let like_the_first = move |ops: Vec<Op>| {
        let first = ops[0].clone();
        ops.into_iter().map(|op| onto(&first, op)).collect::<Vec<_>>()
    };
    prop_oneof![vec(pick(), 2..6).boxed(), vec(hold(), 2..6).boxed(), vec(delete(), 2..6).boxed()]
        .prop_map(like_the_first)
        .boxed()
}

fn short_or(long: u32) -> impl Strategy<Value = u32> + Clone {
    prop_oneof![2 => Just(long), 1 => Just(SHORT)]
}

fn grace() -> impl Strategy<Value = u32> + Clone {
    prop_oneof![Just(0u32), Just(5_000_000)]
}

fn client() -> impl Strategy<Value = Option<ClientId>> + Clone {
    option::of(prop_oneof![Just("ann"), Just("a-rather-long-client-id")])
        .prop_map(|name| name.map(|name| ClientId::new(name).expect("well-formed")))
}

fn record(calm: bool) -> impl Strategy<Value = Record> + Clone {
    let ttl = short_or(TTL).prop_map(move |ttl| if calm { TTL } else { ttl });
    let delay = prop_oneof![8 => Just(0u32), 1 => Just(SHORT), 1 => Just(HOUR)];
    let len = prop_oneof![4 => 0usize..40, 2 => 100usize..400, 1 => Just(1500usize)];
    (client(), ttl, delay, len, any::<u8>()).prop_map(|(client, ttl_ms, delay_ms, len, byte)| {
        Record {
            index: 0,
            state: State::Ready,
            client,
            ttl_ms,
            delay_ms,
            envelope: vec![byte; len].into(),
        }
    })
}

fn bytes(calm: bool) -> impl Strategy<Value = Bytes> + Clone {
    let block = vec(record(calm), 0..6).prop_map(|records| Block::of(records).encode());
    prop_oneof![30 => block, 1 => Just(Bytes::from_static(b"no block"))]
}

fn append(calm: bool) -> impl Strategy<Value = Op> + Clone {
    let block = prop_oneof![3 => Just(1u32), 3 => Just(2), 2 => Just(3), 1 => 0u32..6];
    (replica(), producer(), block, 0u32..4, bytes(calm)).prop_map(
        |(at, producer, block, noted, bytes)| {
            Op::Append(Append { at, producer, block, noted, bytes: bytes.into() })
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> + Clone {
    (client(), any::<bool>(), any::<bool>()).prop_map(|(not_from, skip_claimed, skip_delayed)| {
        Filter { not_from, skip_claimed, skip_delayed }
    })
}

fn limits() -> impl Strategy<Value = (u32, u32)> + Clone {
    (0u32..6, prop_oneof![Just(0u32), Just(50), Just(500), Just(100_000)])
}

fn read() -> impl Strategy<Value = Op> + Clone {
    (replica(), 0u32..4, 0u8..5, limits(), filter()).prop_map(
        |(at, ordinal, index, (limit, max_bytes), filter)| {
            let from = Offset::new(ordinal, index);
            Op::Read(Read { at, from, limit, max_bytes, filter })
        },
    )
}

fn pick() -> impl Strategy<Value = Op> + Clone {
    let placements = vec(placement().prop_map(Placement), 1..4);
    (placements, version(), claim(), short_or(HOUR), grace(), limits()).prop_map(
        |(mut placements, version, claim, ttl_ms, grace_ms, (limit, max_bytes))| {
            let mut seen = std::collections::BTreeSet::new();
            placements.retain(|placement| seen.insert(*placement));
            let cookie = cookie(1);
            Op::Pick(Pick {
                cookie,
                placements,
                version,
                claim,
                ttl_ms,
                grace_ms,
                limit,
                max_bytes,
            })
        },
    )
}

fn hold() -> impl Strategy<Value = Op> + Clone {
    (replica(), version(), claim(), fencing(), short_or(HOUR), grace(), references()).prop_map(
        |(at, version, claim, fencing, ttl_ms, grace_ms, refs)| {
            Op::Hold(Hold { at, version, claim, fencing, ttl_ms, grace_ms, refs })
        },
    )
}

fn claim_op() -> impl Strategy<Value = Op> + Clone {
    let release = (replica(), claim(), option::of(references()))
        .prop_map(|(at, claim, refs)| Op::Release { at, claim, refs });
    let renew = (replica(), version(), claim(), fencing(), short_or(HOUR), grace()).prop_map(
        |(at, version, claim, fencing, ttl_ms, grace_ms)| Op::Renew {
            at,
            version,
            claim,
            fencing,
            ttl_ms,
            grace_ms,
        },
    );
    let read_claim = (replica(), claim(), fencing())
        .prop_map(|(at, claim, fencing)| Op::ReadClaim { at, claim, fencing });
    prop_oneof![4 => hold(), 3 => pick(), 2 => release, 2 => renew, 2 => read_claim]
}

fn delete() -> impl Strategy<Value = Op> + Clone {
    let guard = prop_oneof![
        Just(Guard::Unclaimed),
        (claim(), fencing()).prop_map(|(claim, fencing)| Guard::ClaimedBy(claim, fencing)),
        Just(Guard::Always),
    ];
    (replica(), version(), references(), guard)
        .prop_map(|(at, version, refs, guard)| Op::Delete(Delete { at, version, refs, guard }))
}

fn copied(calm: bool) -> impl Strategy<Value = CopiedBlock> + Clone {
    let left = prop_oneof![Just(None), Just(Some(u64::from(SHORT))), Just(Some(u64::from(HOUR)))];
    let mark = (0u8..6, claim(), fencing(), 1u32..4, left).prop_map(
        |(index, claim, fencing, times, left_ms)| {
            let ttl_ms = if left_ms.is_some() { HOUR } else { 0 };
            CopiedMark { index, claim, fencing, times, left_ms, ttl_ms }
        },
    );
    let age = prop_oneof![3 => Just(0u64), 1 => Just(15_000_000u64), 1 => Just(30_000_000)];
    (producer(), 1u32..4, age, option::weighted(0.8, bytes(calm)), vec(mark, 0..4)).prop_map(
        |(producer, block, age_ms, bytes, marks)| CopiedBlock {
            producer,
            block,
            age_ms,
            bytes,
            marks,
        },
    )
}

fn replica_op(calm: bool) -> BoxedStrategy<Op> {
    let end = vec((producer(), 0u32..4), 0..3)
        .prop_map(|end| end.into_iter().collect::<BTreeMap<_, _>>());
    prop_oneof![
        3 => replica().prop_map(|at| Op::Probe { at }),
        2 => (replica(), producer()).prop_map(|(at, by)| Op::Seal { at, by }),
        2 => (replica(), version(), end)
            .prop_map(|(at, version, end)| Op::TellEnd { at, version, end }),
        2 => (replica(), producer(), 0u32..4)
            .prop_map(|(at, producer, noted)| Op::Note { at, producer, noted }),
        2 => (replica(), version()).prop_map(|(at, version)| Op::Fence { at, version }),
        1 => replica().prop_map(|at| Op::Wipe { at }),
        2 => (placement(), any::<bool>()).prop_map(|(placement, joining)| {
            open(placement, if joining { Role::Joining } else { Role::Appending })
        }),
        2 => (replica(), prop_oneof![Just(0u64), Just(1_000_000_000), Just(u64::MAX)])
            .prop_map(|(at, after_ms)| Op::Defer { at, after_ms }),
        3 => Just(Op::Due { cookie: cookie(1), limit: 10 }),
        3 => (replica(), 0u32..4, prop_oneof![Just(0u32), Just(300), Just(100_000)])
            .prop_map(|(at, from, max_bytes)| Op::CopyOut { at, from, max_bytes }),
        3 => (replica(), version(), vec(copied(calm), 0..4))
            .prop_map(|(at, version, blocks)| Op::CopyIn { at, version, blocks }),
        1 => Just(Op::Identity),
    ]
    .boxed()
}

fn op(calm: bool) -> BoxedStrategy<Op> {
    prop_oneof![
        8 => read(),
        3 => (replica(), references()).prop_map(|(at, refs)| Op::Get { at, refs }),
        16 => claim_op(),
        6 => delete(),
        3 => replica().prop_map(|at| Op::Stats { at }),
        12 => replica_op(calm),
    ]
    .boxed()
}

fn epoch() -> impl Strategy<Value = Epoch> + Clone {
    prop_oneof![9 => Just(1u32), 1 => Just(2)].prop_map(Epoch)
}

fn name() -> impl Strategy<Value = String> + Clone {
    prop_oneof![Just("a"), Just("b/x"), Just("ü")].prop_map(String::from)
}

fn ballot() -> impl Strategy<Value = Ballot> + Clone {
    let round = prop_oneof![4 => 0u64..6, 1 => Just(u64::MAX)];
    (round, 0u64..3).prop_map(|(round, by)| Ballot { round, by })
}

fn value() -> impl Strategy<Value = Bytes> + Clone {
    vec(any::<u8>(), 0..6).prop_map(Bytes::from)
}

fn index() -> impl Strategy<Value = Option<Index>> + Clone {
    let place = (prop_oneof![Just("p"), Just("")], name(), any::<bool>());
    option::of(place.prop_map(|(project, queue, listed)| Index {
        project: project.into(),
        queue,
        listed,
    }))
}

fn register_op() -> BoxedStrategy<Op> {
    let cookie = cookie(1);
    let dump = (name(), ballot(), option::of((ballot(), value())), index()).prop_map(
        |(name, promised, accepted, index)| RegisterDump { name, promised, accepted, index },
    );
    prop_oneof![
        1 => (epoch(), value())
            .prop_map(move |(epoch, keepers)| Op::Keep { cookie, epoch, keepers }),
        2 => (epoch(), vec(dump, 0..3))
            .prop_map(move |(epoch, registers)| Op::Restore { cookie, epoch, registers }),
        1 => epoch().prop_map(move |epoch| Op::Activate { cookie, epoch }),
        2 => (epoch(), prop_oneof![Just(String::new()), name()], 0u32..3).prop_map(
            move |(epoch, after, limit)| Op::Dump { cookie, epoch, after, limit }
        ),
        4 => (epoch(), name(), ballot()).prop_map(
            move |(epoch, name, ballot)| Op::Prepare { cookie, epoch, name, ballot }
        ),
        6 => (epoch(), name(), ballot(), value(), index()).prop_map(
            move |(epoch, name, ballot, value, index)| {
                Op::Accept(Accept { cookie, epoch, name, ballot, value, index })
            }
        ),
        2 => (epoch(), vec(name(), 0..3)).prop_map(
            move |(epoch, names)| Op::ReadRegisters { cookie, epoch, names }
        ),
        3 => (epoch(), prop_oneof![4 => 0u64..8, 1 => Just(u64::MAX)], 0u32..3).prop_map(
            move |(epoch, since, limit)| Op::Changes { cookie, epoch, since, limit }
        ),
        2 => (epoch(), prop_oneof![Just("p"), Just("")], prop_oneof![Just(String::new()), name()],
            0u32..3)
            .prop_map(move |(epoch, project, after, limit)| {
                let project = project.into();
                Op::ListIndex { cookie, epoch, project, after, limit }
            }),
    ]
    .boxed()
}

//! Answers as replies.

use std::collections::BTreeMap;

use bytes::Bytes;
use redis::Value;

use super::fetch::{Fetched, Slices};
use super::value::{Cut, Items, Wrong};
use crate::block::{Block, BlockHeader, Envelopes, State, UNSTAMPED};
use crate::id::{
    Cookie, Epoch, Generation, Incarnation, MessageRef, NodeId, Offset, Placement, PoolId,
    ProducerId, SegmentNo, Version,
};
use crate::message::ClientId;
use crate::node::redis::inspect;
use crate::node::redis::journal::Way;
use crate::node::{
    Appended, Ballot, Changes, ClaimView, CopiedBlock, CopiedMark, CopyBatch, Coverage,
    DeleteStatus, Deleted, DueReplicas, Dump, Entry, Got, Held, HoldStatus, Index, Names, Op, Page,
    PageBlock, Pick, Picked, ProducerState, Promise, Refusal, RegisterDump, Registers, Renewed,
    Reply, Sealed, SegmentOf, Stats, Wiped,
};

/// The reply to one operation from the answers to its commands.
pub(in crate::node::redis) fn reply(op: &Op, mut values: Vec<Value>) -> Result<Reply, Wrong> {
    match op {
        Op::Identity => return inspect::identity(values).map(Reply::Identity),
        Op::CopyIn { .. } => match executed(values)? {
            None => return Ok(Reply::Refused(Refusal::Full)),
            Some(results) => values = results,
        },
        _ => {}
    }
    answer(op, &mut Items::of(values.pop().ok_or("no answer")?)?)
}

/// The replies to operations that were one call of their script; or what is to be fetched first.
pub(in crate::node::redis) fn replies<'a>(
    ops: impl ExactSizeIterator<Item = &'a Op>,
    mut values: Vec<Value>,
) -> Result<Vec<Fetched>, Wrong> {
    let mut all = Items::of(values.pop().ok_or("no answer")?)?;
    if all.len() != ops.len() {
        return Err(format!("{} answers to {} operations", all.len(), ops.len()));
    }
    ops.map(|op| told(op, all.next()?)).collect()
}

/// What was said of one operation. The quick way is brief: all is held, all has ended, where the picked
/// messages are.
fn told(op: &Op, value: Value) -> Result<Fetched, Wrong> {
    Ok(Fetched::Reply(match (op, value) {
        (Op::Hold(hold), Value::Int(_)) => {
            Reply::Held(Held { each: vec![HoldStatus::Held; hold.refs.len()] })
        }
        (Op::Delete(delete), Value::Int(live)) => Reply::Deleted(Deleted {
            each: vec![DeleteStatus::Ended; delete.refs.len()],
            live: live.try_into().map_err(|_| "a number is out of range")?,
        }),
        (Op::Pick(pick), Value::BulkString(packed)) => {
            return Slices::unpack(pick, &packed).map(Fetched::Again);
        }
        (op, value) => return answered(op, Items::of(value)?),
    }))
}

fn answered(op: &Op, mut items: Items) -> Result<Fetched, Wrong> {
    let word = items.bytes()?;
    match (op, &word[..]) {
        (_, b"ok") => granted(op, &mut items).map(Fetched::Reply),
        (Op::Pick(pick), b"here") => {
            Slices::unpack(pick, &items.bytes()?)?.read(items.rest().collect())
        }
        (_, word) => {
            refusal(word, &mut items).map(|refused| Fetched::Reply(Reply::Refused(refused)))
        }
    }
}

fn answer(op: &Op, items: &mut Items) -> Result<Reply, Wrong> {
    let word = items.bytes()?;
    if word != "ok" {
        return refusal(&word, items).map(Reply::Refused);
    }
    granted(op, items)
}

/// What a server answered to the appends of one transaction.
#[derive(Debug, PartialEq)]
pub(in crate::node::redis) struct AppendAnswers {
    /// One for each.
    pub(in crate::node::redis) each: Vec<AppendAnswer>,
    /// The server's time, if it was told.
    pub(in crate::node::redis) now_ms: Option<u64>,
}

#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "most are the small one, and none lives long")]
pub(in crate::node::redis) enum AppendAnswer {
    /// A script said so, or the server did nothing.
    Reply(Reply),
    /// The new length of the journal; `None`: nothing was noted down.
    Length(Option<i64>),
}

/// Takes apart the answers to the appends of one transaction, each sent on its way.
pub(in crate::node::redis) fn appends(
    ways: &[Way],
    values: Vec<Value>,
) -> Result<AppendAnswers, Wrong> {
    let Some(mut results) = executed(values)? else {
        let full = || AppendAnswer::Reply(Reply::Refused(Refusal::Full));
        return Ok(AppendAnswers { each: ways.iter().map(|_| full()).collect(), now_ms: None });
    };
    let is_native = |way: &&Way| matches!(way, Way::Native { .. });
    let natives = ways.iter().filter(is_native).count();
    let (mut replies, mut now_ms) = (Vec::new(), None);
    if natives < ways.len() {
        let answer = results.pop().ok_or("an empty transaction")?;
        (replies, now_ms) = scripted(ways.len() - natives, answer)?;
    }
    let from = results.len().checked_sub(natives).ok_or("a transaction is cut short")?;
    let mut lengths = results.split_off(from).into_iter();
    let mut replies = replies.into_iter();
    let mut each = Vec::with_capacity(ways.len());
    for way in ways {
        each.push(match way {
            Way::Native { .. } => AppendAnswer::Length(match lengths.next() {
                Some(Value::Int(length)) => Some(length),
                _ => None,
            }),
            Way::Script { .. } => {
                AppendAnswer::Reply(replies.next().ok_or("an answer to an append is missing")?)
            }
        });
    }
    Ok(AppendAnswers { each, now_ms })
}

/// What the script answered, and the time if it told it.
fn scripted(count: usize, value: Value) -> Result<(Vec<Reply>, Option<u64>), Wrong> {
    if let Value::BulkString(sizes) = value {
        return taken(count, &sizes).map(|(replies, now_ms)| (replies, Some(now_ms)));
    }
    let mut all = Items::of(value)?;
    if all.len() != count {
        return Err(format!("{} answers to {count} appends", all.len()));
    }
    let replies = (0..count).map(|_| {
        let mut items = all.items()?;
        let word = items.bytes()?;
        if word != "ok" {
            return refusal(&word, &mut items).map(Reply::Refused);
        }
        Ok(Reply::Appended(Appended { again: items.number::<u8>()? == 1, bytes: items.number()? }))
    });
    Ok((replies.collect::<Result<_, _>>()?, None))
}

/// All were taken for the first time: the replica's bytes after each, then the time.
fn taken(count: usize, sizes: &[u8]) -> Result<(Vec<Reply>, u64), Wrong> {
    if sizes.len() != 8 * (count + 1) {
        return Err(format!("{} bytes in answer to {count} appends", sizes.len()));
    }
    let mut cut = Cut(sizes);
    let mut replies = Vec::with_capacity(count);
    for _ in 0..count {
        replies.push(Reply::Appended(Appended { again: false, bytes: cut.u64()? }));
    }
    Ok((replies, cut.u64()?))
}

/// What the commands of a transaction answered; `None`: the server is out of memory and did
/// nothing.
fn executed(mut values: Vec<Value>) -> Result<Option<Vec<Value>>, Wrong> {
    let out_of_memory = values.iter().any(|value| match value {
        Value::ServerError(error) => {
            error.code() == "OOM" || error.details().is_some_and(|text| text.contains("OOM "))
        }
        _ => false,
    });
    match values.pop() {
        Some(Value::ServerError(_)) if out_of_memory => Ok(None),
        Some(Value::Array(results)) => Ok(Some(results)),
        Some(other) => Items::of(other).map(|_| None),
        None => Err("no answer".into()),
    }
}

fn granted(op: &Op, items: &mut Items) -> Result<Reply, Wrong> {
    Ok(match op {
        Op::Read(_) => Reply::Page(page(items)?),
        Op::Probe { .. } | Op::Seal { .. } | Op::CopyIn { .. } => {
            Reply::Coverage(coverage(&mut items.items()?)?)
        }
        Op::Get { .. } => {
            let found = items.bytes()?;
            let mut entries = entries(items)?.into_iter();
            let each = found.iter().map(|&there| if there == 1 { entries.next() } else { None });
            Reply::Got(Got { entries: each.collect() })
        }
        Op::Pick(pick) => Reply::Picked(picked(pick, items)?),
        Op::Hold(_) => Reply::Held(Held { each: each(&items.bytes()?, hold_status)? }),
        Op::Renew { .. } => Reply::Renewed(Renewed { messages: items.number()? }),
        Op::ReadClaim { .. } => Reply::Claim(ClaimView {
            ttl_ms: items.number()?,
            age_ms: items.number()?,
            entries: entries(items)?,
        }),
        Op::Delete(_) => {
            let live = items.number()?;
            Reply::Deleted(Deleted { each: each(&items.bytes()?, delete_status)?, live })
        }
        Op::Stats { .. } => {
            let (active, claimed, delayed) = (items.number()?, items.number()?, items.number()?);
            let bytes = items.number()?;
            let mut ends = entries(items)?.into_iter();
            Reply::Stats(Stats {
                active,
                claimed,
                delayed,
                bytes,
                oldest: ends.next(),
                newest: ends.next(),
            })
        }
        Op::CopyOut { .. } => Reply::CopyBatch(copy_batch(items)?),
        Op::Wipe { .. } => Reply::Wiped(Wiped { done: items.number::<u8>()? == 1 }),
        Op::Due { .. } => Reply::Due(due(&mut items.items()?)?),
        Op::Dump { .. } => Reply::Dump(dump(items)?),
        Op::Prepare { .. } => Reply::Promise(Promise { accepted: accepted(items)? }),
        Op::ReadRegisters { names, .. } => {
            let mut all = items.items()?;
            let each: Result<_, Wrong> = names.iter().map(|_| accepted(&mut all)).collect();
            Reply::Registers(Registers { each: each? })
        }
        Op::Changes { .. } => Reply::Changes(Changes {
            upto: items.number()?,
            complete: items.number::<u8>()? == 1,
            names: names(&mut items.items()?)?,
        }),
        Op::ListIndex { .. } => Reply::Names(Names { names: names(&mut items.items()?)? }),
        Op::Identity
        | Op::Append(_)
        | Op::Admit { .. }
        | Op::Open(_)
        | Op::Note { .. }
        | Op::TellEnd { .. }
        | Op::Release { .. }
        | Op::Fence { .. }
        | Op::Defer { .. }
        | Op::Keep { .. }
        | Op::Restore { .. }
        | Op::Activate { .. }
        | Op::Accept(_) => Reply::Done,
    })
}

fn refusal(word: &[u8], items: &mut Items) -> Result<Refusal, Wrong> {
    Ok(match word {
        b"stranger" => {
            Refusal::Stranger { found: stored_cookie(&items.text()?).map(|(cookie, _)| cookie) }
        }
        b"gone" => Refusal::Gone,
        b"exists" => Refusal::Exists,
        b"sealed" => Refusal::Sealed,
        b"open" => Refusal::Open,
        b"endunknown" => Refusal::EndUnknown,
        b"gap" => Refusal::Gap { frontier: items.number()? },
        b"conflict" => Refusal::Conflict,
        b"producers" => Refusal::TooManyProducers,
        b"stale" => Refusal::Stale { version: Version(Cut(&items.bytes()?).id()?) },
        b"noclaim" => Refusal::NoClaim,
        b"notkeeper" => Refusal::NotKeeper,
        b"epoch" => Refusal::Epoch { epoch: Epoch(items.number()?), keepers: items.bytes()? },
        b"ballot" => Refusal::Ballot { promised: ballot(&items.bytes()?)? },
        other => return Err(format!("unknown word {:?}", String::from_utf8_lossy(other))),
    })
}

/// The cookie as stored, and the run id beside it; `None` for anything else.
pub(in crate::node::redis) fn stored_cookie(text: &str) -> Option<(Cookie, String)> {
    let (cookie, run_id) = text.split_once(' ')?;
    let mut parts = cookie.splitn(3, '.');
    let pool = PoolId(u64::from_str_radix(parts.next()?, 16).ok()?);
    let node = NodeId(parts.next()?.parse().ok()?);
    let incarnation = Incarnation(parts.next()?.parse().ok()?);
    Some((Cookie { pool, node, incarnation }, run_id.into()))
}

/// The time there, and the fields of `P:m`.
fn coverage(items: &mut Items) -> Result<Coverage, Wrong> {
    let now: u64 = items.number()?;
    let mut fields = items.items()?;
    let mut coverage = Coverage {
        sealed: None,
        end_told: false,
        version: Version(0),
        producers: Vec::new(),
        bytes: 0,
        arrived: 0,
    };
    let mut producers: BTreeMap<ProducerId, ProducerState> = BTreeMap::new();
    while fields.len() > 0 {
        let (field, value) = (fields.text()?, fields.bytes()?);
        let mut cut = Cut(&value);
        match field.split_at_checked(1) {
            Some(("h", "")) => {
                cut.take(2)?;
                coverage.end_told = cut.u8()? == 1;
                cut.take(1)?;
                coverage.arrived = cut.u32()?;
                coverage.bytes = cut.u64()?;
            }
            Some(("v", "")) => coverage.version = Version(cut.id()?),
            Some(("s", "")) => {
                let (by, at) = (cut.producer()?, cut.u64()?);
                coverage.sealed = Some(Sealed { by, age_ms: now.saturating_sub(at) });
            }
            Some(("p", hex)) => {
                let producer = u64::from_str_radix(hex, 16).map_err(|_| "a malformed producer")?;
                let producer = ProducerId(producer);
                let (frontier, noted) = (cut.u32()?, cut.u32()?);
                producers.insert(producer, ProducerState { producer, frontier, noted });
            }
            _ => {}
        }
    }
    coverage.producers = producers.into_values().collect();
    Ok(coverage)
}

/// Descriptions and runs, as `shared/entry.lua` makes them.
fn entries(items: &mut Items) -> Result<Vec<Entry>, Wrong> {
    let descriptions = items.bytes()?;
    let mut runs = items.items()?;
    let (mut run, mut at) = (Bytes::new(), 0);
    let mut cut = Cut(&descriptions);
    let mut entries = Vec::new();
    while !cut.is_empty() {
        let (producer, block, index) = (cut.producer()?, cut.u32()?, cut.u8()?);
        let flags = cut.u8()?;
        let (age_ms, ttl_ms, delay_ms) = (cut.u64()?, cut.u32()?, cut.u32()?);
        let (len, times) = (cut.u32()?, cut.u32()?);
        let claim = if flags & 1 == 1 { Some((cut.claim()?, cut.rank()?)) } else { None };
        let name = usize::from(cut.u8()?);
        let client = client(cut.take(name)?)?;
        if flags & 4 == 4 {
            let (head, bodies) = (runs.bytes()?, runs.bytes()?);
            let of = MessageRef { producer, block, index };
            let place = entries.len();
            slice(of, age_ms, &head, &bodies, (ttl_ms, delay_ms), &mut entries)?;
            for entry in entries.iter_mut().skip(place) {
                (entry.claim, entry.times) = (claim, times);
            }
            continue;
        }
        if flags & 2 == 2 {
            (run, at) = (runs.bytes()?, 0);
        }
        let end = at + usize::try_from(len).unwrap_or(usize::MAX / 2);
        if end > run.len() {
            return Err("a run of envelopes is cut short".into());
        }
        let envelope = run.slice(at..end);
        at = end;
        let at = MessageRef { producer, block, index };
        entries.push(Entry { at, envelope, age_ms, ttl_ms, delay_ms, client, claim, times });
    }
    Ok(entries)
}

/// Messages of one block, by a head with their records: `(first, count)` of those.
pub(super) fn slice(
    of: MessageRef,
    age_ms: u64,
    head: &[u8],
    bodies: &Bytes,
    (first, count): (u32, u32),
    entries: &mut Vec<Entry>,
) -> Result<(), Wrong> {
    let wide = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let header = BlockHeader::decode(head).map_err(|error| error.to_string())?;
    let cut_short = || Wrong::from("a slice of a block is cut short");
    let before = wide(first).checked_sub(1).map(|at| header.records.get(at));
    let base = match before {
        None => 0,
        Some(record) => record.ok_or_else(cut_short)?.end,
    };
    let records = header.records.into_iter().skip(wide(first)).take(wide(count));
    if records.len() != wide(count) {
        return Err(cut_short());
    }
    entries.reserve(records.len());
    let mut envelopes = Envelopes::new(base, bodies.len());
    for record in records {
        let envelope = envelopes.next(record.end).map_err(|error| error.to_string())?;
        entries.push(Entry {
            at: MessageRef { index: record.index, ..of },
            envelope: bodies.slice(envelope),
            age_ms,
            ttl_ms: record.ttl_ms,
            delay_ms: record.delay_ms,
            client: record.client,
            claim: None,
            times: 0,
        });
    }
    Ok(())
}

fn client(name: &[u8]) -> Result<Option<ClientId>, Wrong> {
    if name.is_empty() {
        return Ok(None);
    }
    let name = std::str::from_utf8(name).map_err(|_| "a client is not UTF-8")?;
    ClientId::new(name).map(Some).map_err(|_| "a client id is malformed".into())
}

fn page(items: &mut Items) -> Result<Page, Wrong> {
    let coverage = coverage(&mut items.items()?)?;
    let packed = items.bytes()?;
    let mut entries = entries(items)?.into_iter();
    let mut cut = Cut(&packed);
    let mut blocks = Vec::new();
    while !cut.is_empty() {
        let (ordinal, producer, block) = (cut.u32()?, cut.producer()?, cut.u32()?);
        let (count, passed, age_ms) = (cut.u16()?, cut.u16()?, cut.u64()?);
        let returned = usize::try_from(cut.u32()?).unwrap_or(usize::MAX);
        let entries = entries.by_ref().take(returned).collect();
        blocks.push(PageBlock { ordinal, producer, block, count, passed, age_ms, entries });
    }
    let (ordinal, index): (u32, u64) = (items.number()?, items.number()?);
    let next = Offset(Offset::new(ordinal, 0).0 + index);
    Ok(Page { coverage, blocks, next, at_tail: items.number::<u8>()? == 1 })
}

fn picked(pick: &Pick, items: &mut Items) -> Result<Picked, Wrong> {
    let placement = |which: usize| {
        let at = which.checked_sub(1).and_then(|at| pick.placements.get(at));
        at.copied().ok_or_else(|| Wrong::from("a replica that was not asked"))
    };
    let which: usize = items.number()?;
    let rank = items.bytes()?;
    let on = match which {
        0 => None,
        which => Some((placement(which)?, Cut(&rank).rank()?)),
    };
    let entries = entries(items)?;
    let mut all = items.items()?;
    let mut refused = Vec::new();
    while all.len() > 0 {
        let placement = placement(all.number()?)?;
        let mut items = all.items()?;
        let word = items.bytes()?;
        refused.push((placement, refusal(&word, &mut items)?));
    }
    Ok(Picked { on, entries, refused })
}

fn each<T>(bytes: &[u8], status: fn(u8) -> Option<T>) -> Result<Vec<T>, Wrong> {
    bytes.iter().map(|&byte| status(byte).ok_or_else(|| "an unknown status".into())).collect()
}

fn hold_status(byte: u8) -> Option<HoldStatus> {
    match byte {
        0 => Some(HoldStatus::Held),
        1 => Some(HoldStatus::Outranked),
        2 => Some(HoldStatus::Ended),
        _ => None,
    }
}

fn delete_status(byte: u8) -> Option<DeleteStatus> {
    match byte {
        0 => Some(DeleteStatus::Ended),
        1 => Some(DeleteStatus::Absent),
        2 => Some(DeleteStatus::Claimed),
        3 => Some(DeleteStatus::NotClaimed),
        _ => None,
    }
}

fn copy_batch(items: &mut Items) -> Result<CopyBatch, Wrong> {
    let mut all = items.items()?;
    let mut blocks = Vec::with_capacity(all.len());
    while all.len() > 0 {
        let mut one = all.items()?;
        let (head, bytes, marks) = (one.bytes()?, one.bytes()?, one.bytes()?);
        let mut cut = Cut(&head);
        let (producer, block, age_ms) = (cut.producer()?, cut.u32()?, cut.u64()?);
        let marks = copied_marks(&marks)?;
        let bytes = what_is_left(bytes, age_ms, &marks)?;
        blocks.push(CopiedBlock { producer, block, age_ms, bytes, marks });
    }
    Ok(CopyBatch { blocks, next: items.number()?, done: items.number::<u8>()? == 1 })
}

fn copied_marks(packed: &[u8]) -> Result<Vec<CopiedMark>, Wrong> {
    let mut cut = Cut(packed);
    let mut marks = Vec::new();
    while !cut.is_empty() {
        let (index, claim, fencing, times) = (cut.u8()?, cut.claim()?, cut.rank()?, cut.u32()?);
        let live = cut.u8()? == 1;
        let (left_ms, ttl_ms) = (cut.u64()?, cut.u32()?);
        let left_ms = live.then_some(left_ms);
        marks.push(CopiedMark { index, claim, fencing, times, left_ms, ttl_ms });
    }
    Ok(marks)
}

/// The stored block without what has ended or expired, each message with its state.
fn what_is_left(stored: Bytes, age_ms: u64, marks: &[CopiedMark]) -> Result<Option<Bytes>, Wrong> {
    if stored.is_empty() {
        return Ok(None);
    }
    let mut block = Block::decode(&stored).map_err(|error| error.to_string())?;
    block
        .records
        .retain(|record| record.state != State::Ended && age_ms < u64::from(record.ttl_ms));
    for record in &mut block.records {
        let claimed = marks.iter().any(|mark| mark.index == record.index && mark.left_ms.is_some());
        record.state = if claimed {
            State::Claimed
        } else if age_ms < u64::from(record.delay_ms) {
            State::Delayed
        } else {
            State::Ready
        };
    }
    (block.ordinal, block.arrived_ms) = (UNSTAMPED, 0);
    Ok((!block.records.is_empty()).then(|| block.encode()))
}

fn due(items: &mut Items) -> Result<DueReplicas, Wrong> {
    let mut replicas = Vec::new();
    while items.len() > 0 {
        let (placement, of) = (items.text()?, items.text()?);
        let placement = u64::from_str_radix(&placement, 16).map_err(|_| "a malformed placement")?;
        let mut parts = of.splitn(3, ' ');
        let mut number = || parts.next()?.parse().ok();
        let (generation, segment) = (number(), number());
        let (Some(generation), Some(segment), Some(register)) = (generation, segment, parts.next())
        else {
            return Err("a replica of nothing".into());
        };
        let of = SegmentOf {
            register: register.into(),
            generation: Generation(generation),
            segment: SegmentNo(segment),
        };
        replicas.push((Placement(placement), of));
    }
    Ok(DueReplicas { replicas })
}

fn dump(items: &mut Items) -> Result<Dump, Wrong> {
    let mut all = items.items()?;
    let mut registers = Vec::new();
    while all.len() > 0 {
        let name = all.text()?;
        let promised = ballot(&all.bytes()?)?;
        let accepted = accepted(&mut all)?;
        let (project, queue, listed) = (all.text()?, all.text()?, all.bytes()?);
        let index = (!listed.is_empty()).then(|| Index { project, queue, listed: listed == "1" });
        registers.push(RegisterDump { name, promised, accepted, index });
    }
    Ok(Dump { registers, done: items.number::<u8>()? == 1 })
}

fn accepted(items: &mut Items) -> Result<Option<(Ballot, Bytes)>, Wrong> {
    let (at, value) = (items.bytes()?, items.bytes()?);
    if at.is_empty() { Ok(None) } else { Ok(Some((ballot(&at)?, value))) }
}

fn ballot(packed: &[u8]) -> Result<Ballot, Wrong> {
    if packed.is_empty() {
        return Ok(Ballot::default());
    }
    let mut cut = Cut(packed);
    Ok(Ballot { round: cut.id()?, by: cut.id()? })
}

fn names(items: &mut Items) -> Result<Vec<String>, Wrong> {
    (0..items.len()).map(|_| items.text()).collect()
}

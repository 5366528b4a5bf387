//! Operations as commands.

use bytes::Bytes;
use redis::{Cmd, Pipeline};

use super::pack::{
    ballot, copy_numbers, fresh, id, lives, marks, noted, noted_only, numbers, rank, references,
};
use crate::id::{Cookie, Epoch, Placement, ProducerId, ReplicaAt, Version};
use crate::node::redis::inspect;
use crate::node::redis::journal::{Journals, Way};
use crate::node::redis::keys::{AppendKeys, COOKIE, Key};
use crate::node::redis::script::Script;
use crate::node::{Accept, Append, CopiedBlock, Index, Op, Open, Read, RegisterDump, Role};

/// Blocks of one page or one batch of copies at most, as `specs/node.md` has it.
const MAX_BLOCKS: usize = 1024;
/// Blocks that one `Wipe` removes at most.
const WIPE_BLOCKS: usize = 512;

/// What a connection knows of its server, and commands depend on.
#[derive(Debug, Clone, Default)]
pub(in crate::node::redis) struct Context {
    pub(in crate::node::redis) run_id: String,
    pub(in crate::node::redis) durable: bool,
}

impl Context {
    /// What the stored cookie must start with (Q9): for one that is not durable the run id too.
    fn wanted(&self, cookie: Cookie) -> String {
        if self.durable { format!("{cookie} ") } else { format!("{cookie} {}", self.run_id) }
    }

    pub(super) fn script(&self, script: Script, cookie: Cookie, keys: &[String]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.sha()).arg(keys.len() + 1).arg(COOKIE);
        for key in keys {
            cmd.arg(key.as_bytes());
        }
        cmd.arg(self.wanted(cookie));
        cmd
    }

    pub(super) fn on_replica(&self, script: Script, at: ReplicaAt) -> Cmd {
        self.script(script, at.cookie, &[Key::Replica(at).name()])
    }

    fn on_keeper(&self, script: Script, cookie: Cookie, epoch: Epoch) -> Cmd {
        let mut cmd = self.script(script, cookie, &[Key::Keeper(cookie).name()]);
        cmd.arg(epoch.0);
        cmd
    }
}

/// Appends the commands of one operation that is not an append; how many they are.
pub(in crate::node::redis) fn commands(op: &Op, context: &Context, pipe: &mut Pipeline) -> usize {
    match op {
        Op::Identity => {
            let before = pipe.len();
            inspect::ask(pipe);
            let mut cmd = redis::cmd("EVALSHA");
            cmd.arg(Script::Identity.sha()).arg(1).arg(COOKIE);
            pipe.add_command(cmd);
            pipe.len() - before
        }
        Op::CopyIn { at, version, blocks } => copy_in(*at, *version, blocks, context, pipe),
        other => {
            pipe.add_command(command(other, context));
            1
        }
    }
}

fn command(op: &Op, context: &Context) -> Cmd {
    let on = |script, at: &ReplicaAt| context.on_replica(script, *at);
    let mut cmd = match op {
        Op::Admit { .. } | Op::Open(_) | Op::Due { .. } | Op::Wipe { .. } | Op::Defer { .. } => {
            return housekeeping(op, context);
        }
        Op::Note { at, .. } => on(Script::Note, at),
        Op::Probe { at } => on(Script::Probe, at),
        Op::Seal { at, .. } => on(Script::Seal, at),
        Op::TellEnd { at, .. } => on(Script::TellEnd, at),
        Op::Read(read) => return read_page(read, context),
        Op::Get { at, .. } => on(Script::Get, at),
        Op::Release { at, .. } => on(Script::Release, at),
        Op::Renew { at, .. } => on(Script::Renew, at),
        Op::ReadClaim { at, .. } => on(Script::ReadClaim, at),
        Op::Stats { at } => on(Script::Stats, at),
        Op::CopyOut { at, .. } => on(Script::CopyOut, at),
        Op::Fence { at, .. } => on(Script::Fence, at),
        _ => return on_registers(op, context),
    };
    match op {
        Op::Note { producer, noted, .. } => {
            cmd.arg(&id(producer.0)).arg(*noted);
        }
        Op::Seal { by, .. } => {
            cmd.arg(&id(by.0));
        }
        Op::TellEnd { version, end, .. } => {
            let mut packed = Vec::with_capacity(end.len() * 12);
            for (producer, last) in end {
                packed.extend(id(producer.0));
                packed.extend(last.to_le_bytes());
            }
            cmd.arg(&id(version.0)).arg(packed);
        }
        Op::Get { refs, .. } => {
            cmd.arg(references(refs));
        }
        Op::Release { claim, refs, .. } => {
            cmd.arg(&id(claim.0)).arg(u8::from(refs.is_none()));
            cmd.arg(references(refs.as_deref().unwrap_or_default()));
        }
        Op::Renew { version, claim, fencing, ttl_ms, grace_ms, .. } => {
            cmd.arg(&id(version.0)).arg(&id(claim.0)).arg(rank(*fencing));
            cmd.arg(*ttl_ms).arg(*grace_ms);
        }
        Op::ReadClaim { claim, fencing, .. } => {
            cmd.arg(&id(claim.0)).arg(rank(*fencing));
        }
        Op::CopyOut { from, max_bytes, .. } => {
            cmd.arg(*from).arg(*max_bytes).arg(MAX_BLOCKS);
        }
        Op::Fence { version, .. } => {
            cmd.arg(&id(version.0));
        }
        _ => {}
    }
    cmd
}

fn housekeeping(op: &Op, context: &Context) -> Cmd {
    match op {
        Op::Admit { cookie, run_id } => {
            let mut cmd = redis::cmd("EVALSHA");
            cmd.arg(Script::Admit.sha()).arg(1).arg(COOKIE).arg(&context.run_id).arg(run_id);
            cmd.arg(cookie.pool.to_string()).arg(cookie.node.0).arg(cookie.incarnation.0);
            cmd
        }
        Op::Open(Open { at, role, of }) => {
            let role = match role {
                Role::Appending => 0,
                Role::Joining => 1,
            };
            let mut cmd = context.on_replica(Script::Open, *at);
            let of = format!("{} {} {}", of.generation.0, of.segment.0, of.register);
            cmd.arg(role).arg(of);
            cmd
        }
        Op::Due { cookie, limit } => {
            let mut cmd = context.script(Script::Due, *cookie, &[Key::Due(*cookie).name()]);
            cmd.arg((*limit).max(1));
            cmd
        }
        Op::Wipe { at } => {
            let mut cmd = context.on_replica(Script::Wipe, *at);
            cmd.arg(WIPE_BLOCKS);
            cmd
        }
        Op::Defer { at, after_ms } => {
            let mut cmd = context.on_replica(Script::Defer, *at);
            cmd.arg((*after_ms).min(1 << 48));
            cmd
        }
        _ => Cmd::new(),
    }
}

fn read_page(read: &Read, context: &Context) -> Cmd {
    let mut cmd = context.on_replica(Script::Read, read.at);
    cmd.arg(read.from.ordinal()).arg(read.from.index());
    cmd.arg(read.limit.max(1)).arg(read.max_bytes);
    cmd.arg(read.filter.not_from.as_ref().map_or("", |client| client.as_str()));
    cmd.arg(u8::from(read.filter.skip_claimed)).arg(u8::from(read.filter.skip_delayed));
    cmd.arg(MAX_BLOCKS);
    cmd
}

fn on_registers(op: &Op, context: &Context) -> Cmd {
    match op {
        Op::Keep { cookie, epoch, keepers } => {
            let mut cmd = context.on_keeper(Script::Keep, *cookie, *epoch);
            cmd.arg(&keepers[..]);
            cmd
        }
        Op::Restore { cookie, epoch, registers } => {
            let mut cmd = context.on_keeper(Script::Restore, *cookie, *epoch);
            for RegisterDump { name, promised, accepted, index } in registers {
                cmd.arg(name).arg(ballot(*promised));
                match accepted {
                    Some((at, value)) => cmd.arg(ballot(*at)).arg(&value[..]),
                    None => cmd.arg("").arg(""),
                };
                index_arguments(index.as_ref(), &mut cmd);
            }
            cmd
        }
        Op::Activate { cookie, epoch } => context.on_keeper(Script::Activate, *cookie, *epoch),
        Op::Dump { cookie, epoch, after, limit } => {
            let mut cmd = context.on_keeper(Script::Dump, *cookie, *epoch);
            cmd.arg(after).arg((*limit).max(1));
            cmd
        }
        Op::Prepare { cookie, epoch, name, ballot: at } => {
            let mut cmd = context.on_keeper(Script::Prepare, *cookie, *epoch);
            cmd.arg(name).arg(ballot(*at));
            cmd
        }
        Op::Accept(Accept { cookie, epoch, name, ballot: at, value, index }) => {
            let mut cmd = context.on_keeper(Script::Accept, *cookie, *epoch);
            cmd.arg(name).arg(ballot(*at)).arg(&value[..]);
            index_arguments(index.as_ref(), &mut cmd);
            cmd
        }
        Op::ReadRegisters { cookie, epoch, names } => {
            let mut cmd = context.on_keeper(Script::ReadRegisters, *cookie, *epoch);
            for name in names {
                cmd.arg(name);
            }
            cmd
        }
        Op::Changes { cookie, epoch, since, limit } => {
            let mut cmd = context.on_keeper(Script::Changes, *cookie, *epoch);
            // A counter never gets there: what is above counts as above.
            cmd.arg((*since).min(1 << 53)).arg((*limit).max(1));
            cmd
        }
        Op::ListIndex { cookie, epoch, project, after, limit } => {
            let mut cmd = context.on_keeper(Script::ListIndex, *cookie, *epoch);
            cmd.arg(project).arg(after).arg((*limit).max(1));
            cmd
        }
        _ => Cmd::new(),
    }
}

fn index_arguments(index: Option<&Index>, cmd: &mut Cmd) {
    match index {
        Some(Index { project, queue, listed }) => {
            cmd.arg(project).arg(queue).arg(u8::from(*listed))
        }
        None => cmd.arg("").arg("").arg(""),
    };
}

/// Blocks on their way in one transaction: their bytes natively, then their numbers, in journals or
/// to one script for all of them.
#[derive(Debug, Default)]
pub(in crate::node::redis) struct Appends {
    cookie: Option<Cookie>,
    blocks: Vec<OneAppend>,
    named: std::collections::HashSet<(Placement, ProducerId, u32)>,
}

#[derive(Debug)]
struct OneAppend {
    keys: AppendKeys,
    /// `None`: it holds no message, so that there is nothing to store.
    bytes: Option<Bytes>,
    numbers: Vec<u8>,
    way: Way,
}

impl Appends {
    /// Whether an append can join the others: not one that is meant for another life, nor a block
    /// that is here already (its write would be taken for this one's).
    pub(in crate::node::redis) fn has_room_for(&self, append: &Append) -> bool {
        self.cookie.is_none_or(|cookie| cookie == append.at.cookie)
            && !self.named.contains(&(append.at.placement, append.producer, append.block))
    }

    /// Takes an append in, for which there must be room.
    pub(in crate::node::redis) fn push(
        &mut self,
        append: &Append,
        journals: &mut Journals,
        may_note: bool,
    ) {
        self.cookie = Some(append.at.cookie);
        self.named.insert((append.at.placement, append.producer, append.block));
        let live = append.bytes.shape().live;
        let way = journals.way(append, may_note && live > 0);
        self.blocks.push(OneAppend {
            keys: AppendKeys::of(append.at, append.producer, append.block),
            bytes: (live > 0).then(|| append.bytes.bytes().clone()),
            numbers: match way {
                Way::Script { .. } => numbers(append),
                Way::Native { now_ms, .. } => noted(append, now_ms),
            },
            way,
        });
    }

    pub(in crate::node::redis) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// How each is sent.
    pub(in crate::node::redis) fn ways(&self) -> Vec<Way> {
        self.blocks.iter().map(|block| block.way).collect()
    }

    /// Appends the commands; how many they are.
    pub(in crate::node::redis) fn commands(&self, context: &Context, pipe: &mut Pipeline) -> usize {
        let Some(cookie) = self.cookie else { return 0 };
        let before = pipe.len();
        pipe.cmd("MULTI");
        for OneAppend { keys, bytes, .. } in &self.blocks {
            if let Some(bytes) = bytes {
                let key = keys.block();
                let mut cmd = Cmd::with_capacity(4, key.len() + bytes.len() + 8);
                cmd.arg("SET").arg(key).arg(&bytes[..]).arg("NX");
                pipe.add_command(cmd);
            }
        }
        let is_native = |block: &&OneAppend| matches!(block.way, Way::Native { .. });
        for OneAppend { keys, numbers, .. } in self.blocks.iter().filter(is_native) {
            let key = keys.journal();
            let mut cmd = Cmd::with_capacity(3, key.len() + numbers.len() + 6);
            cmd.arg("APPEND").arg(key).arg(&numbers[..]);
            pipe.add_command(cmd);
        }
        // Behind the journals: it takes what was noted down before.
        let scripted: Vec<&OneAppend> = self.blocks.iter().filter(|b| !is_native(b)).collect();
        if !scripted.is_empty() {
            let mut cmd = Cmd::with_capacity(5 + 3 * scripted.len(), 256 * (1 + scripted.len()));
            cmd.arg("EVALSHA").arg(Script::Append.sha()).arg(1 + 2 * scripted.len()).arg(COOKIE);
            for OneAppend { keys, .. } in &scripted {
                cmd.arg(keys.block()).arg(keys.meta());
            }
            cmd.arg(context.wanted(cookie));
            for block in &scripted {
                cmd.arg(&block.numbers[..]);
            }
            pipe.add_command(cmd);
        }
        pipe.cmd("EXEC");
        pipe.len() - before
    }
}

/// Notes down, without a script, what was acked.
pub(in crate::node::redis) fn note(at: ReplicaAt, producer: ProducerId, noted: u32) -> Cmd {
    let mut cmd = redis::cmd("APPEND");
    cmd.arg(Key::Journal(at).name()).arg(noted_only(producer, noted));
    cmd
}

fn copy_in(
    at: ReplicaAt,
    version: Version,
    blocks: &[CopiedBlock],
    context: &Context,
    pipe: &mut Pipeline,
) -> usize {
    let mut keys = vec![Key::Replica(at).name()];
    let mut arguments = Vec::with_capacity(blocks.len());
    pipe.cmd("MULTI");
    for copied in blocks {
        let block = copied.bytes.as_ref().and_then(fresh);
        if let Some(block) = &block
            && !block.records.is_empty()
        {
            let key = Key::Block(at, copied.producer, copied.block).name();
            pipe.cmd("SET").arg(&key).arg(&block.encode()[..]).arg("NX");
            keys.push(key);
        }
        arguments.push((copy_numbers(copied, block.as_ref()), lives(block.as_ref()), copied));
    }
    let mut cmd = context.script(Script::CopyIn, at.cookie, &keys);
    cmd.arg(&id(version.0));
    for (numbers, lives, copied) in arguments {
        cmd.arg(numbers).arg(lives).arg(marks(&copied.marks));
    }
    pipe.add_command(cmd);
    pipe.cmd("EXEC");
    keys.len() + 2
}

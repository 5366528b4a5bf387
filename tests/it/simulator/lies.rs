//! Nodes that lie: each breaks the protocol in one way. The clients are the true ones.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roundelay::block::{Block, Record};
use roundelay::id::ReplicaAt;
use roundelay::node::memory::MemoryNode;
use roundelay::node::{
    ClaimView, DeleteStatus, Deleted, Guard, Held, HoldStatus, Node, NodeError, Op, Page, Promise,
    Refusal, Registers, Renewed, Reply, Role, Watch,
};

const MOMENT: Duration = Duration::from_millis(1);

/// What the node says to one operation.
type Answers = fn(&Honest, Op) -> Reply;

/// The node behind the lie.
#[derive(Debug)]
pub(super) struct Honest(Arc<dyn Node>);

#[derive(Debug)]
struct Lying {
    node: Honest,
    answers: Answers,
}

impl Honest {
    fn ask(&self, op: Op) -> Reply {
        let answer = self.0.call(vec![op]).now_or_never().expect("it answers at once");
        answer.expect("it answers").pop().expect("one answer")
    }
}

impl Node for Lying {
    fn name(&self) -> &str {
        self.node.0.name()
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let replies = ops.into_iter().map(|op| (self.answers)(&self.node, op)).collect();
        async move {
            // What is tried again until its time is over must see time pass.
            tokio::time::sleep(MOMENT).await;
            Ok(replies)
        }
        .boxed()
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        self.node.0.watch(at)
    }
}

/// Gives a lie to the simulator.
macro_rules! lie {
    ($($(#[$doc:meta])* $name:ident = $answers:expr;)*) => {$(
        $(#[$doc])*
        pub(super) fn $name(_: usize, node: Arc<dyn Node>, _: &MemoryNode) -> Arc<dyn Node> {
            Arc::new(Lying { node: Honest(node), answers: $answers })
        }
    )*};
}

lie! {
    /// Some messages that were taken are never shown.
    forgets_messages = |node, op| pages(node, op, |page| {
        for block in &mut page.blocks {
            block.entries.retain(|entry| !entry.at.block.is_multiple_of(5));
        }
    });
    /// Messages are shown only some time after they were taken.
    shows_messages_late = |node, op| pages(node, op, |page| {
        for block in page.blocks.iter_mut().filter(|block| block.age_ms < 400) {
            block.entries.clear();
        }
    });
    /// Who comes back with an offset does not get what is next.
    skips_behind_offsets = |node, op| {
        let is_new = matches!(&op, Op::Read(read) if read.from.0 == 0);
        pages(node, op, |page| {
            if !is_new && let Some(block) = page.blocks.first_mut() {
                block.entries.clear();
            }
        })
    };
    /// Messages of a block are shown backwards.
    shows_messages_backwards = |node, op| pages(node, op, |page| {
        page.blocks.iter_mut().for_each(|block| block.entries.reverse());
    });
    /// A message is changed on its way out.
    changes_bodies = |node, op| pages(node, op, |page| {
        for entry in page.blocks.iter_mut().flat_map(|block| &mut block.entries) {
            if entry.at.block.is_multiple_of(3) {
                let mut bytes = entry.envelope.to_vec();
                if let Some(last) = bytes.last_mut() {
                    *last = b'x';
                }
                entry.envelope = bytes.into();
            }
        }
    });
    /// Keepers tell now and then that they have accepted nothing, of a queue that comes and goes.
    keepers_forget = |node, op| match &op {
        Op::Prepare { name, ballot, .. } if name.ends_with(":again") && ballot.round.is_multiple_of(3) => {
            match node.ask(op) {
                Reply::Promise(_) => Reply::Promise(Promise { accepted: None }),
                other => other,
            }
        }
        _ => node.ask(op),
    };
    /// Keepers know nothing of keys.
    keepers_forget_keys = |node, op| match &op {
        Op::Prepare { name, .. } if name.starts_with("k:") => match node.ask(op) {
            Reply::Promise(_) => Reply::Promise(Promise { accepted: None }),
            other => other,
        },
        Op::ReadRegisters { names, .. } if names.iter().any(|name| name.starts_with("k:")) => {
            let is_key: Vec<bool> = names.iter().map(|name| name.starts_with("k:")).collect();
            match node.ask(op) {
                Reply::Registers(Registers { mut each }) => {
                    let of_keys = each.iter_mut().zip(is_key).filter(|(_, is_key)| *is_key);
                    of_keys.for_each(|(held, _)| *held = None);
                    Reply::Registers(Registers { each })
                }
                other => other,
            }
        }
        _ => node.ask(op),
    };
    /// What is claimed is given to the next one who asks.
    forgets_claims = |node, op| match op {
        Op::Hold(hold) => {
            Reply::Held(Held { each: vec![HoldStatus::Held; hold.refs.len()] })
        }
        Op::Pick(pick) => {
            let (claim, cookie) = (pick.claim, pick.cookie);
            let reply = node.ask(Op::Pick(pick));
            if let Reply::Picked(picked) = &reply
                && let Some((placement, _)) = picked.on
            {
                node.ask(Op::Release { at: ReplicaAt { cookie, placement }, claim, refs: None });
            }
            reply
        }
        _ => node.ask(op),
    };
    /// A claim that is over still deletes, and is renewed.
    ignores_fencing = |node, op| match op {
        Op::ReadClaim { .. } => match node.ask(op) {
            Reply::Refused(Refusal::NoClaim) => {
                Reply::Claim(ClaimView { ttl_ms: 1_000, age_ms: 0, entries: Vec::new() })
            }
            other => other,
        },
        Op::Renew { .. } => match node.ask(op) {
            Reply::Refused(Refusal::NoClaim) => Reply::Renewed(Renewed { messages: 0 }),
            other => other,
        },
        Op::Delete(mut delete) => {
            delete.guard = Guard::Always;
            node.ask(Op::Delete(delete))
        }
        _ => node.ask(op),
    };
    /// Messages are ready at once.
    ignores_delays = |node, op| records(node, op, |record| {
        record.delay_ms = 0;
        record.state = roundelay::block::State::Ready;
    });
    /// Messages live for ever.
    ignores_lives = |node, op| records(node, op, |record| record.ttl_ms = u32::MAX / 2);
    /// Deletes are answered and not done.
    ignores_deletes = |node, op| match op {
        Op::Delete(delete) => {
            let each = vec![DeleteStatus::Ended; delete.refs.len()];
            Reply::Deleted(Deleted { each, live: 1 })
        }
        _ => node.ask(op),
    };
    /// One message too many is counted.
    miscounts = |node, op| match node.ask(op) {
        Reply::Stats(mut stats) => {
            stats.active += 1;
            Reply::Stats(stats)
        }
        other => other,
    };
    /// No copy is ever made.
    takes_no_copies = |node, op| match &op {
        Op::CopyIn { .. } => Reply::Refused(Refusal::Full),
        Op::Open(open) if open.role == Role::Joining => Reply::Refused(Refusal::Full),
        _ => node.ask(op),
    };
    /// What is full stays so: nothing is sealed.
    is_never_sealed = |node, op| match &op {
        Op::Seal { .. } => Reply::Refused(Refusal::Full),
        _ => node.ask(op),
    };
}

fn pages(node: &Honest, op: Op, change: impl FnOnce(&mut Page)) -> Reply {
    match node.ask(op) {
        Reply::Page(mut page) => {
            change(&mut page);
            Reply::Page(page)
        }
        other => other,
    }
}

/// Changes messages as they are taken.
fn records(node: &Honest, op: Op, change: impl Fn(&mut Record)) -> Reply {
    let Op::Append(mut append) = op else { return node.ask(op) };
    let mut block = Block::decode(append.bytes.bytes()).expect("a block");
    block.records.iter_mut().for_each(change);
    append.bytes = block.encode().into();
    node.ask(Op::Append(append))
}

//! The Redis node against the memory node: the same steps, every reply compared. What the
//! simulator finds out about memory nodes holds for Redis as far as this test reaches.
//!
//! Times are the nodes' own, so ages and times left are compared roughly; whatever is meant to
//! expire does so within a millisecond and is waited for, everything else lives for hours.

mod steps;

use std::time::Duration;

use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use roundelay::block::Block;
use roundelay::node::memory::MemoryNode;
use roundelay::node::redis::RedisNode;
use roundelay::node::{CopiedBlock, Coverage, Entry, Node, Op, Reply};
use roundelay::time::Clock;

use crate::redis_server::RedisServer;
use steps::{Step, at, case, cookie};

const WAIT: Duration = Duration::from_millis(6);

#[test]
fn both_nodes_give_the_same_replies() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(RedisServer::start());
    let cases = std::env::var("ROUNDELAY_CASES").ok().and_then(|cases| cases.parse().ok());
    let config = Config { cases: cases.unwrap_or(96), max_shrink_iters: 600, ..Config::default() };
    let result = TestRunner::new(config)
        .run(&case(), |steps| runtime.block_on(run(&server, &steps)).map_err(TestCaseError::fail));
    if let Err(error) = result {
        // The steps on one line each: the pretty form is longer than anybody reads.
        if let TestError::Fail(reason, steps) = error {
            let steps: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
            panic!("{reason}\nafter\n{}", steps.join("\n"));
        }
        panic!("{error}");
    }
}

/// Both nodes.
struct Pair {
    memory: MemoryNode,
    redis: RedisNode,
    /// Nothing ever expired: counts of what has not been swept are equal too.
    exact: bool,
}

async fn run(server: &RedisServer, steps: &[Step]) -> Result<(), String> {
    server.flush_all().await;
    let pair = Pair {
        memory: MemoryNode::new("memory", Clock::system()),
        redis: RedisNode::connect(&server.url()).expect("its own URL"),
        exact: !steps.iter().any(Step::lets_messages_expire),
    };
    pair.admit().await;
    for (number, step) in steps.iter().flat_map(Step::split).enumerate() {
        pair.take(&step).await.map_err(|difference| format!("step {number}: {difference}"))?;
        if step.is_short() {
            tokio::time::sleep(WAIT).await;
        }
    }
    Ok(())
}

impl Pair {
    async fn admit(&self) {
        for node in [&self.memory as &dyn Node, &self.redis] {
            let Reply::Identity(identity) = one(node, Op::Identity).await else {
                panic!("no identity")
            };
            let admit = Op::Admit { cookie: cookie(1), run_id: identity.run_id };
            one(node, admit).await;
        }
    }

    async fn take(&self, step: &Step) -> Result<(), String> {
        match step {
            Step::Ops(ops) => self.compare(ops.clone()).await,
            Step::Admit => {
                self.admit().await;
                Ok(())
            }
            Step::EndHere { placement, version } => {
                let probe = Op::Probe { at: at(*placement) };
                let Reply::Coverage(coverage) = one(&self.memory, probe).await else {
                    return Ok(());
                };
                let end = coverage.frontier();
                let (at, version) = (at(*placement), *version);
                self.compare(vec![Op::TellEnd { at, version, end }]).await
            }
            Step::Copy { from, to, max_bytes } => {
                let out = Op::CopyOut { at: at(*from), from: 0, max_bytes: *max_bytes };
                let batch = one(&self.memory, out.clone()).await;
                self.compare(vec![out]).await?;
                let Reply::CopyBatch(batch) = batch else { return Ok(()) };
                let into = Op::CopyIn {
                    at: at(*to),
                    version: roundelay::id::Version(6),
                    blocks: batch.blocks,
                };
                self.compare(vec![into]).await
            }
        }
    }

    async fn compare(&self, ops: Vec<Op>) -> Result<(), String> {
        let memory = self.memory.call(ops.clone()).await.map_err(|error| error.to_string())?;
        let redis = self
            .redis
            .call(ops.clone())
            .await
            .map_err(|error| format!("{error}\nafter {ops:#?}\nmemory answered {memory:#?}"))?;
        for ((op, memory), redis) in ops.iter().zip(memory).zip(redis) {
            let (memory, redis) = (self.rough(memory), self.rough(redis));
            if memory != redis {
                return Err(format!("{op:#?}\nmemory: {memory:#?}\nredis: {redis:#?}"));
            }
        }
        Ok(())
    }

    /// A reply without what two nodes may tell differently.
    fn rough(&self, mut reply: Reply) -> Reply {
        match &mut reply {
            Reply::Identity(identity) => {
                identity.run_id.clear();
                identity.version.clear();
                identity.memory = (0, 0);
                identity.now_ms = 0;
                identity.durable = false;
                if let Some((_, run_id)) = &mut identity.cookie {
                    run_id.clear();
                }
            }
            Reply::Coverage(coverage) => rough_coverage(coverage),
            Reply::Page(page) => {
                rough_coverage(&mut page.coverage);
                for block in &mut page.blocks {
                    rough(&mut block.age_ms);
                    block.entries.iter_mut().for_each(rough_entry);
                }
            }
            Reply::Got(got) => got.entries.iter_mut().flatten().for_each(rough_entry),
            Reply::Picked(picked) => picked.entries.iter_mut().for_each(rough_entry),
            Reply::Claim(claim) => {
                rough(&mut claim.age_ms);
                claim.entries.iter_mut().for_each(rough_entry);
            }
            Reply::Stats(stats) => {
                stats.oldest.iter_mut().for_each(rough_entry);
                stats.newest.iter_mut().for_each(rough_entry);
            }
            Reply::Deleted(deleted) if !self.exact => deleted.live = 0,
            Reply::CopyBatch(batch) => batch.blocks.iter_mut().for_each(rough_copy),
            Reply::Due(due) => {
                due.replicas.sort_by_key(|(placement, _)| *placement);
                if !self.exact {
                    due.replicas.clear();
                }
            }
            _ => {}
        }
        reply
    }
}

async fn one(node: &dyn Node, op: Op) -> Reply {
    node.call(vec![op]).await.expect("an answer").pop().expect("one reply")
}

/// All times that are drawn are far from halves of this.
const GRAIN_MS: u64 = 100_000;

fn rough(time_ms: &mut u64) {
    *time_ms = (*time_ms + GRAIN_MS / 2) / GRAIN_MS;
}

fn rough_ttl(ttl_ms: &mut u32) {
    *ttl_ms = (*ttl_ms).saturating_add(50_000) / 100_000;
}

fn rough_coverage(coverage: &mut Coverage) {
    if let Some(sealed) = &mut coverage.sealed {
        rough(&mut sealed.age_ms);
    }
}

fn rough_entry(entry: &mut Entry) {
    rough(&mut entry.age_ms);
    rough_ttl(&mut entry.ttl_ms);
}

/// Stamps are the node's own; whether a state is claimed or not is told by the marks.
fn rough_copy(copied: &mut CopiedBlock) {
    rough(&mut copied.age_ms);
    copied.marks.iter_mut().filter_map(|mark| mark.left_ms.as_mut()).for_each(rough);
    if let Some(mut block) = copied.bytes.as_ref().and_then(|bytes| Block::decode(bytes).ok()) {
        (block.ordinal, block.arrived_ms) = (0, 0);
        for record in &mut block.records {
            record.state = roundelay::block::State::Ready;
            rough_ttl(&mut record.ttl_ms);
        }
        copied.bytes = Some(block.encode());
    }
}

//! Faults on command.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use roundelay::node::faulty::{Faults, FaultyNode};
use roundelay::node::{Node, NodeError, Op, Reply};
use tokio::time::Instant;

use crate::conformance::env::{Env, Memory};
use crate::conformance::ops::{A, append, block, post};

const DELAY: Duration = Duration::from_millis(30);

struct Case {
    env: Env,
    node: FaultyNode,
    faults: Faults,
    at: roundelay::id::ReplicaAt,
}

impl Case {
    async fn new() -> Self {
        let env = Env::new::<Memory>().await;
        let (node, faults) = FaultyNode::new(Arc::clone(&env.node));
        let at = env.open().await;
        Self { env, node, faults, at }
    }

    fn block(&self, number: u32) -> Vec<Op> {
        vec![append(self.at, A, number, block(&[post("x")]))]
    }

    /// How many blocks the node behind the wire has taken.
    async fn arrived(&self) -> u32 {
        self.env.coverage(Op::Probe { at: self.at }).await.arrived
    }
}

fn taken(answer: &Result<Vec<Reply>, NodeError>) -> bool {
    matches!(answer.as_deref(), Ok([Reply::Appended(appended)]) if !appended.again)
}

fn unknown(answer: &Result<Vec<Reply>, NodeError>) -> bool {
    matches!(answer, Err(NodeError::Unknown { .. }))
}

/// Timers fire at whole milliseconds of the runtime's clock.
fn assert_took_the_delay(started: Instant) {
    let took = started.elapsed();
    assert!(took >= DELAY && took <= DELAY + Duration::from_millis(1), "{took:?}");
}

#[tokio::test]
async fn without_faults_a_request_is_applied_before_call_returns() {
    let case = Case::new().await;
    let answer = case.node.call(case.block(1));
    assert_eq!(case.arrived().await, 1);
    assert!(taken(&answer.await));
    assert_eq!(case.node.name(), case.env.node.name());
}

#[tokio::test]
async fn a_node_that_is_down_is_not_reached_until_it_is_up() {
    let case = Case::new().await;
    case.faults.down();
    let answer = case.node.call(case.block(1)).await;
    assert!(matches!(answer, Err(NodeError::Unreached { .. })));
    assert_eq!(case.arrived().await, 0);
    case.faults.up();
    assert!(taken(&case.node.call(case.block(1)).await));
}

#[tokio::test]
async fn a_hanging_node_applies_in_order_what_was_sent_when_it_goes_on() {
    let case = Case::new().await;
    case.faults.hang();
    let mut first = case.node.call(case.block(1));
    drop(case.node.call(case.block(2)));
    let third = case.node.call(case.block(3));
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(case.arrived().await, 0);
    case.faults.up();
    assert_eq!(case.arrived().await, 3);
    assert!(taken(&first.await) && taken(&third.await));
}

#[tokio::test]
async fn a_hanging_node_that_dies_applies_nothing() {
    let case = Case::new().await;
    case.faults.hang();
    let answer = case.node.call(case.block(1));
    case.faults.down();
    assert!(unknown(&answer.await));
    case.faults.up();
    assert_eq!(case.arrived().await, 0);
}

#[tokio::test]
async fn a_slow_way_there_keeps_the_order_and_outlives_the_caller() {
    let case = Case::new().await;
    case.faults.delay_before(DELAY);
    drop(case.node.call(case.block(1)));
    case.faults.delay_before(Duration::ZERO);
    let started = Instant::now();
    let second = case.node.call(case.block(2));
    assert_eq!(case.arrived().await, 0);
    assert!(taken(&second.await));
    assert_took_the_delay(started);
    assert_eq!(case.arrived().await, 2);
    assert!(taken(&case.node.call(case.block(3)).now_or_never().expect("nothing is under way")));
}

#[tokio::test]
async fn a_slow_way_back_delays_the_reply_only() {
    let case = Case::new().await;
    case.faults.delay_after(DELAY);
    let started = Instant::now();
    let answer = case.node.call(case.block(1));
    assert_eq!(case.arrived().await, 1);
    assert!(taken(&answer.await));
    assert_took_the_delay(started);
}

#[tokio::test]
async fn a_dropped_reply_leaves_the_outcome_unknown_and_the_request_applied() {
    let case = Case::new().await;
    case.faults.drop_replies(1);
    assert!(unknown(&case.node.call(case.block(1)).await));
    assert_eq!(case.arrived().await, 1);
    assert!(taken(&case.node.call(case.block(2)).await));
}

#[tokio::test]
async fn a_lost_request_leaves_the_outcome_unknown_and_nothing_applied() {
    let case = Case::new().await;
    case.faults.lose_requests(1);
    assert!(unknown(&case.node.call(case.block(1)).await));
    assert_eq!(case.arrived().await, 0);
    assert!(taken(&case.node.call(case.block(1)).await));
}

#[tokio::test]
async fn a_node_that_is_cut_off_never_answers() {
    let case = Case::new().await;
    case.faults.cut_off();
    let answer = case.node.call(case.block(1));
    case.faults.up();
    assert!(tokio::time::timeout(100 * DELAY, answer).await.is_err());
    assert_eq!(case.arrived().await, 0);
    assert!(taken(&case.node.call(case.block(1)).await));
}

#[tokio::test]
async fn what_was_under_way_when_the_node_went_down_is_not_applied() {
    let case = Case::new().await;
    case.faults.delay_before(DELAY);
    let answer = case.node.call(case.block(1));
    case.faults.down();
    assert!(unknown(&answer.await));
    case.faults.clear();
    tokio::time::sleep(2 * DELAY).await;
    assert_eq!(case.arrived().await, 0);
}

#[tokio::test]
async fn a_node_that_is_not_heard_applies_what_it_is_sent() {
    let case = Case::new().await;
    case.faults.cut_replies();
    let answer = case.node.call(case.block(1));
    assert_eq!(case.arrived().await, 1);
    case.faults.up();
    assert!(tokio::time::timeout(100 * DELAY, answer).await.is_err());
    assert!(taken(&case.node.call(case.block(2)).await));
}

#[tokio::test]
async fn a_late_request_arrives_after_newer_ones() {
    let case = Case::new().await;
    case.faults.late_requests(1, DELAY);
    assert!(unknown(&case.node.call(case.block(1)).await));
    assert!(taken(&case.node.call(case.block(1)).await));
    assert!(taken(&case.node.call(case.block(2)).await));
    tokio::time::sleep(2 * DELAY).await;
    // Block 1 came once more, and was known.
    assert_eq!(case.arrived().await, 2);
}

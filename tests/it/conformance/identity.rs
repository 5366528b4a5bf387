//! Who a node is, whom it serves, and what it holds.

use roundelay::id::{Cookie, Epoch, Incarnation, NodeId, PoolId};
use roundelay::node::{Op, Refusal, Reply, Role};

use super::env::Env;
use super::ops::*;

fn older(cookie: Cookie) -> Cookie {
    Cookie { incarnation: Incarnation(cookie.incarnation.0 - 1), ..cookie }
}

fn newer(cookie: Cookie) -> Cookie {
    Cookie { incarnation: Incarnation(cookie.incarnation.0 + 1), ..cookie }
}

async fn admission(env: &Env, cookie: Cookie) -> Reply {
    let run_id = env.identity(Op::Identity).await.run_id;
    env.reply(Op::Admit { cookie, run_id }).await
}

fn stranger(found: Option<Cookie>) -> Refusal {
    Refusal::Stranger { found }
}

pub(super) async fn identity_tells_the_cookie_and_its_run_id(env: &Env) {
    let identity = env.identity(Op::Identity).await;
    assert_eq!(identity.cookie, Some((env.cookie, identity.run_id)));
    assert_eq!(identity.keeper, None);
    assert!(!identity.durable);
}

pub(super) async fn the_same_cookie_again_changes_nothing(env: &Env) {
    let at = env.open().await;
    assert_eq!(admission(env, env.cookie).await, Reply::Done);
    env.coverage(Op::Probe { at }).await;
}

pub(super) async fn a_newer_incarnation_replaces_the_cookie(env: &Env) {
    assert_eq!(admission(env, newer(env.cookie)).await, Reply::Done);
    let held = env.identity(Op::Identity).await.cookie.map(|(cookie, _)| cookie);
    assert_eq!(held, Some(newer(env.cookie)));
}

pub(super) async fn a_newer_incarnation_forgets_all_replicas(env: &Env) {
    let mut at = env.open().await;
    env.admit(newer(env.cookie)).await;
    at.cookie = newer(env.cookie);
    assert_eq!(env.refused(Op::Probe { at }).await, Refusal::Gone);
}

pub(super) async fn a_newer_incarnation_is_no_keeper(env: &Env) {
    let (cookie, epoch) = (env.cookie, Epoch(1));
    env.done(Op::Keep { cookie, epoch, keepers: "k".into() }).await;
    env.admit(newer(cookie)).await;
    assert_eq!(env.identity(Op::Identity).await.keeper, None);
    let activate = Op::Activate { cookie: newer(cookie), epoch };
    assert_eq!(env.refused(activate).await, Refusal::NotKeeper);
}

pub(super) async fn an_older_incarnation_is_refused(env: &Env) {
    let refused = Reply::Refused(stranger(Some(env.cookie)));
    assert_eq!(admission(env, older(env.cookie)).await, refused);
}

pub(super) async fn a_cookie_of_another_pool_or_node_is_refused(env: &Env) {
    let refused = Reply::Refused(stranger(Some(env.cookie)));
    let newer = newer(env.cookie);
    assert_eq!(admission(env, Cookie { pool: PoolId(78), ..newer }).await, refused);
    assert_eq!(admission(env, Cookie { node: NodeId(4), ..newer }).await, refused);
}

pub(super) async fn admission_under_another_run_id_is_refused(env: &Env) {
    let admit = Op::Admit { cookie: newer(env.cookie), run_id: "another".into() };
    assert_eq!(env.refused(admit).await, stranger(Some(env.cookie)));
}

pub(super) async fn whoever_means_another_cookie_is_told_the_one_held(env: &Env) {
    let mut at = env.open().await;
    at.cookie = newer(env.cookie);
    assert_eq!(env.refused(Op::Probe { at }).await, stranger(Some(env.cookie)));
    at.cookie = older(env.cookie);
    let due = Op::Due { cookie: at.cookie, limit: 1 };
    assert_eq!(env.refused(due).await, stranger(Some(env.cookie)));
}

pub(super) async fn a_flushed_node_is_a_stranger_without_cookie(env: &Env) {
    let at = env.open().await;
    let before = env.identity(Op::Identity).await.run_id;
    env.server.flush().await;
    assert_eq!(env.refused(Op::Probe { at }).await, stranger(None));
    let identity = env.identity(Op::Identity).await;
    assert_eq!((identity.run_id, identity.cookie), (before, None));
}

pub(super) async fn a_node_restarted_empty_is_a_stranger_without_cookie(env: &Env) {
    let at = env.open().await;
    env.server.restart_empty().await;
    assert_eq!(env.refused(Op::Probe { at }).await, stranger(None));
}

pub(super) async fn a_node_restarted_with_data_is_a_stranger_with_its_cookie(env: &Env) {
    let at = env.open().await;
    let before = env.identity(Op::Identity).await.run_id;
    env.server.restart_with_data().await;
    assert_eq!(env.refused(Op::Probe { at }).await, stranger(Some(env.cookie)));
    let identity = env.identity(Op::Identity).await;
    assert_eq!(identity.cookie, Some((env.cookie, before.clone())));
    assert_ne!(identity.run_id, before);
}

pub(super) async fn the_same_cookie_does_not_bring_a_restarted_node_back(env: &Env) {
    let at = env.open().await;
    env.server.restart_with_data().await;
    assert_eq!(admission(env, env.cookie).await, Reply::Done);
    assert_eq!(env.refused(Op::Probe { at }).await, stranger(Some(env.cookie)));
}

pub(super) async fn an_absent_replica_is_gone(env: &Env) {
    let at = env.fresh();
    let ops = [
        Op::Probe { at },
        append(at, A, 1, block(&[post("x")])),
        read(at, 0, 1),
        Op::Stats { at },
        Op::CopyOut { at, from: 0, max_bytes: 1 },
        Op::Fence { at, version: V1 },
        Op::Defer { at, after_ms: 1 },
        tell_end(at, &[]),
        release(at, 1, None),
    ];
    for op in ops {
        assert_eq!(env.refused(op).await, Refusal::Gone);
    }
}

pub(super) async fn a_stranger_is_told_so_before_a_replica_is_gone(env: &Env) {
    let mut at = env.fresh();
    at.cookie = newer(env.cookie);
    assert_eq!(env.refused(Op::Probe { at }).await, stranger(Some(env.cookie)));
}

pub(super) async fn a_placement_in_use_cannot_be_opened(env: &Env) {
    let at = env.open().await;
    assert_eq!(env.refused(open(at, Role::Appending)).await, Refusal::Exists);
    assert_eq!(env.refused(open(at, Role::Joining)).await, Refusal::Exists);
}

pub(super) async fn a_refused_op_does_not_keep_the_next_ones_from_being_applied(env: &Env) {
    let at = env.fresh();
    let ops = vec![Op::Probe { at }, open(at, Role::Appending), Op::Probe { at }];
    let replies = env.node.call(ops).await.expect("the node answers");
    assert_eq!(replies[0], Reply::Refused(Refusal::Gone));
    assert_eq!(replies[1], Reply::Done);
    assert!(matches!(replies[2], Reply::Coverage(_)));
}

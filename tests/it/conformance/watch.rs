//! Being told of changes.

use std::time::Duration;

use roundelay::id::ReplicaAt;
use roundelay::node::{Op, Watch};
use tokio::time::timeout;

use super::env::Env;
use super::ops::*;

/// Longer than a server takes to tell.
const LONG: Duration = Duration::from_secs(5);
/// Long enough for a server to tell, if it tells at all.
const A_WHILE: Duration = Duration::from_millis(100);

async fn watch(env: &Env, at: ReplicaAt) -> Watch {
    env.node.watch(at).await.expect("the node watches")
}

async fn told(watch: Watch) {
    timeout(LONG, watch).await.expect("nothing was told");
}

pub(super) async fn a_watch_tells_of_an_append(env: &Env) {
    let at = env.open().await;
    for number in 1..4 {
        let watch = watch(env, at).await;
        env.append(at, number, &[post("x")]).await;
        told(watch).await;
    }
}

pub(super) async fn a_watch_tells_of_a_note_a_seal_and_an_end(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("x")]).await;
    let note = Op::Note { at, producer: A, noted: 1 };
    for op in [note, Op::Seal { at, by: B }, tell_end(at, &[(A, 1)])] {
        let watch = watch(env, at).await;
        env.reply(op).await;
        told(watch).await;
    }
}

pub(super) async fn a_watch_tells_of_claims_and_of_what_is_given_back(env: &Env) {
    let at = env.ended_with(3).await;
    let watched = watch(env, at).await;
    env.picked(Op::Pick(pick(&[at], 1, 3))).await;
    told(watched).await;
    let watched = watch(env, at).await;
    env.done(release(at, 1, None)).await;
    told(watched).await;
}

pub(super) async fn a_watch_tells_of_the_replicas_beginning_and_end(env: &Env) {
    let at = env.fresh();
    let watched = watch(env, at).await;
    env.done(open(at, roundelay::node::Role::Appending)).await;
    told(watched).await;
    let watched = watch(env, at).await;
    env.wiped(Op::Wipe { at }).await;
    told(watched).await;
}

pub(super) async fn all_who_watch_a_replica_are_told(env: &Env) {
    let at = env.open().await;
    let (one, other) = (watch(env, at).await, watch(env, at).await);
    env.append(at, 1, &[post("x")]).await;
    told(one).await;
    told(other).await;
}

pub(super) async fn looking_at_a_replica_tells_nobody(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("x")]).await;
    // The first count may write down what it found.
    env.stats(Op::Stats { at }).await;
    let mut watched = watch(env, at).await;
    env.page(read(at, 0, MANY)).await;
    env.coverage(Op::Probe { at }).await;
    env.stats(Op::Stats { at }).await;
    assert!(timeout(A_WHILE, &mut watched).await.is_err(), "told of a look");
    env.append(at, 2, &[post("y")]).await;
    told(watched).await;
}

pub(super) async fn a_watch_tells_that_all_data_was_deleted(env: &Env) {
    let at = env.open().await;
    let watched = watch(env, at).await;
    env.server.flush().await;
    told(watched).await;
}

pub(super) async fn a_watch_tells_that_the_server_was_restarted(env: &Env) {
    let at = env.open().await;
    let watched = watch(env, at).await;
    env.server.restart_with_data().await;
    told(watched).await;
}

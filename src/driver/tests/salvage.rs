//! What is had of a segment when its full replicas are lost.

use tokio::time::Instant;

use super::stage::{NO, Stage};
use super::{World, millis, started};
use crate::driver::pace::Speed;
use crate::id::Version;
use crate::node::Role;
use crate::protocol::manifest::Replica;

/// Q8: a delete that the joining replica remembers, of a block that it does not have yet, holds on
/// the replica that is taken back too.
#[tokio::test(start_paused = true)]
async fn a_delete_that_only_a_joining_replica_remembers_is_not_undone() {
    let world = World::new(4);
    let stage = Stage::new(&world).await;
    let (full, joining, dropped) = (stage.at(1, 11), stage.at(2, 12), stage.at(3, 13));
    stage.written(full).await;
    stage.written(dropped).await;
    stage.open(joining, Role::Joining).await;
    let edit = |manifest: &mut crate::protocol::manifest::Manifest| {
        manifest.drop_where(|replica: &Replica| replica.node() == dropped.cookie.node);
        manifest.add_joining(NO, joining, 2, |_| true);
    };
    stage.manifest(&[full, dropped], edit).await;
    stage.delete(full, 0).await;
    stage.delete(joining, 0).await;
    world.nodes[0].flush();
    stage.until_full(dropped).await;
    assert_eq!(stage.present(dropped).await, [false, true]);
}

/// Q1: a delete may reach a dropped replica late, when the claim that it was refused for is over. Of what
/// was told since, the replica that was dropped last knows all.
#[tokio::test(start_paused = true)]
async fn a_refused_delete_that_a_dropped_replica_took_late_ends_nothing() {
    for last_is_second in [true, false] {
        let world = World::new(4);
        let stage = Stage::new(&world).await;
        let (full, mut first, mut last) = (stage.at(1, 11), stage.at(2, 12), stage.at(3, 13));
        let replicas = [full, first, last];
        if last_is_second {
            (first, last) = (last, first);
        }
        for at in replicas {
            stage.written(at).await;
        }
        stage.delete(first, 0).await;
        let edit = |manifest: &mut crate::protocol::manifest::Manifest| {
            for dropped in [first, last] {
                manifest.drop_where(|replica: &Replica| replica.node() == dropped.cookie.node);
            }
        };
        stage.manifest(&replicas, edit).await;
        world.nodes[0].flush();
        stage.until_full(last).await;
        assert_eq!(stage.present(last).await, [true, true]);
    }
}

/// Q1: a replica that was filled and told the end lacks its promotion only: it is taken when the
/// last full one is lost.
#[tokio::test(start_paused = true)]
async fn a_filled_replica_is_found_when_the_last_full_one_is_lost() {
    let world = World::new(4);
    let stage = Stage::new(&world).await;
    let (full, joining) = (stage.at(1, 11), stage.at(2, 12));
    stage.written(full).await;
    stage.open(joining, Role::Joining).await;
    let end = [(super::stage::PRODUCER, 1)].into();
    stage.core.copy(full, joining, Version(1), &end, Speed::AtOnce).await.unwrap();
    stage.tell_end(joining).await;
    stage.manifest(&[full], |manifest| _ = manifest.add_joining(NO, joining, 2, |_| true)).await;
    world.nodes[0].flush();
    stage.until_full(joining).await;
    let segment = stage.segment().await;
    assert!(!segment.lost, "{segment:?}");
    assert_eq!(stage.present(joining).await, [true, true]);
}

/// Q10: each that begins to save a segment makes fail what the other one has begun; so one of them has to
/// leave it to the other, although callers wait in both.
#[tokio::test(start_paused = true)]
async fn two_processes_that_save_the_same_segment_do_not_keep_each_other_from_it() {
    let world = World::new(4);
    let stage = Stage::new(&world).await;
    let (full, joining, dropped) = (stage.at(1, 11), stage.at(2, 12), stage.at(3, 13));
    stage.written(full).await;
    stage.written(dropped).await;
    stage.open(joining, Role::Joining).await;
    let other = world.open(2).await;
    let (core, queue) = started(other.pool);
    let edit = |manifest: &mut crate::protocol::manifest::Manifest| {
        manifest.drop_where(|replica: &Replica| replica.node() == dropped.cookie.node);
        manifest.add_joining(NO, joining, 2, |_| true);
    };
    stage.manifest(&[full, dropped], edit).await;
    for faults in stage.faults.iter().chain(&other.faults) {
        faults.delay_after(millis(10));
    }
    world.nodes[0].flush();
    let deadline = Instant::now() + millis(5_000);
    let (one, two) = tokio::join!(
        stage.core.repair_now(&stage.queue, NO, deadline),
        core.repair_now(&queue, NO, deadline),
    );
    one.unwrap();
    two.unwrap();
    assert_eq!(stage.present(dropped).await, [true, true]);
}

/// One that does not reach a replica which may know more cannot save the segment, and must not make fail
/// what another process has begun, who does reach it.
#[tokio::test(start_paused = true)]
async fn a_process_that_cannot_save_a_segment_changes_nothing() {
    let world = World::new(4);
    let stage = Stage::new(&world).await;
    let (full, silent, dropped) = (stage.at(1, 11), stage.at(2, 12), stage.at(3, 13));
    stage.closed_on(&[full, silent, dropped]).await;
    let drop = stage.core.manifests.change(&stage.queue, |manifest| {
        manifest.drop_where(|replica| replica.node() != full.cookie.node)
    });
    drop.await.unwrap();
    let before = stage.segment().await;
    stage.faults[1].cut_off();
    assert!(!stage.core.salvage(&stage.queue, &before).await.unwrap());
    assert_eq!(stage.segment().await.version, before.version);
}

//! What is had of a segment when its full replicas are lost.

use super::World;
use super::stage::{NO, Stage};
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

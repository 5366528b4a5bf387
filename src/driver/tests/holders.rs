//! Operations that all full replicas must take: who is dropped, and what joining ones are told of them.

use tokio::time::sleep;

use super::stage::{NO, Stage};
use super::{World, millis, started};
use crate::driver::delete::Ending;
use crate::node::{Guard, Role};
use crate::protocol::manifest::{Replica, Standing};
use crate::queue::ClaimOptions;

/// Q1: a joining replica remembers a delete of a block to come without looking at claims, so it
/// must not hear of one that was refused.
#[tokio::test(start_paused = true)]
async fn a_refused_delete_ends_nothing_on_a_joining_replica() {
    let world = World::new(4);
    let stage = Stage::new(&world).await;
    let (one, other, joining) = (stage.at(1, 11), stage.at(2, 12), stage.at(3, 13));
    for at in [one, other] {
        stage.written(at).await;
        stage.hold(at, 0).await;
    }
    stage.open(joining, Role::Joining).await;
    stage
        .manifest(&[one, other], |manifest| _ = manifest.add_joining(NO, joining, 3, |_| true))
        .await;
    let ids = [stage.id(0), stage.id(1)];
    let endings = stage.core.delete_refs(&stage.queue, &ids, Guard::Unclaimed).await.unwrap();
    assert_eq!(endings, [Ending::Claimed, Ending::Deleted]);
    stage.until_full(joining).await;
    assert_eq!(stage.present(joining).await, [true, false]);
}

/// The picker is not asked to hold what it picked, so its answer tells nothing of the present: a moment in
/// which the process reaches nobody would look like the other replica's death.
#[tokio::test(start_paused = true)]
async fn nobody_is_dropped_on_the_word_of_a_picker_that_was_not_asked() {
    let world = World::new(3);
    let stage = Stage::new(&world).await;
    stage.closed_on(&[stage.at(1, 11), stage.at(2, 12)]).await;
    stage.faults[1].lose_requests(1);
    let claim = stage.core.claim(&stage.queue, &ClaimOptions::default()).await.unwrap().unwrap();
    assert_eq!(claim.messages.len(), 2);
    let segment = stage.segment().await;
    let dropped =
        segment.replicas.iter().filter(|r| r.placement.0 < 20 && r.standing != Standing::Full);
    assert_eq!(dropped.count(), 0, "{segment:?}");
}

/// Two of three took a delete and the third is silent; but one of the two was dropped meanwhile by
/// another process. If the one that is left then forgets, the third comes back, which was dropped last:
/// so the delete is told as done only when enough full replicas have it (Q8).
#[tokio::test(start_paused = true)]
async fn one_that_was_dropped_does_not_count_among_those_that_took_a_delete() {
    let world = World::new(4);
    let stage = Stage::new(&world).await;
    let (one, stays, silent) = (stage.at(1, 11), stage.at(2, 12), stage.at(3, 13));
    stage.closed_on(&[one, stays, silent]).await;
    let (core, queue) = started(world.open(2).await.pool);
    stage.faults[2].cut_off();
    let ids = [stage.id(0)];
    let (endings, dropped) =
        tokio::join!(stage.core.delete_refs(&stage.queue, &ids, Guard::Always), async {
            // While the third is waited for.
            sleep(millis(20)).await;
            let gone = |replica: &Replica| replica.placement == one.placement;
            core.manifests.change(&queue, |manifest| manifest.drop_where(gone)).await
        });
    assert!(dropped.unwrap().1);
    let endings = endings.unwrap();
    assert_eq!(endings, [Ending::Deleted]);
    let segment = stage.segment().await;
    assert!(segment.full().count() >= 2, "{segment:?}");
    for replica in segment.full() {
        assert_eq!(stage.present(replica.at(stage.core.pool.id())).await, [false, true]);
    }
}

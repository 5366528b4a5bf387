//! What joining replicas are told of operations on full ones.

use super::World;
use super::stage::{NO, Stage};
use crate::driver::delete::Ending;
use crate::node::{Guard, Role};

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

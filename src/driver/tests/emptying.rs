//! What may be taken off a node that is being emptied, and how fast copies are made meanwhile.

use super::stage::{NO, PRODUCER, Stage};
use super::{World, millis};
use crate::id::{Cookie, Incarnation, NodeId, Placement, PoolId, ReplicaAt, SegmentNo, Version};
use crate::node::Role;
use crate::protocol::manifest::{Manifest, Replica, Segment};
use tokio::time::{Instant, sleep};

fn at(node: u16) -> ReplicaAt {
    let cookie = Cookie { pool: PoolId(1), node: NodeId(node), incarnation: Incarnation(1) };
    ReplicaAt { cookie, placement: Placement(node.into()) }
}

/// A manifest with one closed segment; `answered` are its full replicas.
fn closed(replicas: &[u16], answered: &[u16]) -> Manifest {
    let mut manifest = Manifest::created(b"", None);
    let replicas: Vec<ReplicaAt> = replicas.iter().map(|node| at(*node)).collect();
    assert!(manifest.add_open(Segment::open(NO, &replicas)));
    let answered: Vec<Placement> = answered.iter().map(|node| at(*node).placement).collect();
    assert!(manifest.close(NO, &answered, &[(PRODUCER, 1)].into(), None, 0));
    manifest
}

fn released(manifest: &mut Manifest, copies: usize, up: &[u16]) -> Vec<u16> {
    let stays = |replica: &Replica| up.contains(&replica.node().0);
    let leaves = |replica: &Replica| replica.node() == NodeId(3);
    let (replicas, changed) = manifest.release(copies, stays, leaves);
    assert_eq!(changed, !replicas.is_empty());
    replicas.iter().map(|replica| replica.node().0).collect()
}

#[test]
fn a_replica_leaves_only_if_enough_others_are_full_and_answer() {
    let mut manifest = closed(&[1, 2, 3], &[1, 2, 3]);
    let before = manifest.segment(NO).unwrap().version;
    assert_eq!(released(&mut manifest, 3, &[1, 2, 3]), [] as [u16; 0], "two would be left");
    assert_eq!(released(&mut manifest, 2, &[1, 3]), [] as [u16; 0], "one of them is down");
    assert_eq!(manifest.segment(NO).unwrap().version, before);
    assert_eq!(released(&mut manifest, 2, &[1, 2, 3]), [3]);
    let segment = manifest.segment(NO).unwrap();
    assert_eq!(
        segment.version,
        Version(before.0 + 1),
        "late operations of the old set are refused"
    );
    assert_eq!(segment.replicas.len(), 2);
}

#[test]
fn what_is_not_full_leaves_as_well_and_an_open_segment_keeps_its_set() {
    let mut former = closed(&[1, 2, 3], &[1, 2]);
    assert_eq!(released(&mut former, 2, &[1, 2]), [3]);
    let mut joining = closed(&[1, 2], &[1, 2]);
    assert!(joining.add_joining(NO, at(3), 3, |_| true));
    assert_eq!(released(&mut joining, 2, &[1, 2]), [3]);
    let mut open = Manifest::created(b"", None);
    assert!(open.add_open(Segment::open(SegmentNo(1), &[at(1), at(2), at(3)])));
    assert_eq!(released(&mut open, 1, &[1, 2]), [] as [u16; 0]);
    let mut lost = closed(&[3], &[3]);
    assert!(lost.mark_lost(NO, Version(2), |_| true));
    assert_eq!(released(&mut lost, 2, &[]), [3], "nothing is there that could be lost");
}

/// A copy that nobody waits for is made at the pace that is set; one that is urgent is not.
#[tokio::test(start_paused = true)]
async fn what_can_wait_is_copied_at_a_pace() {
    for (copies, is_slow) in [(3, true), (2, false)] {
        let world = World::new(4);
        let stage = Stage::with(&world, |config| {
            config.copies = copies;
            config.repair_bytes_per_second = 20;
        })
        .await;
        let full: Vec<ReplicaAt> =
            (1..copies as u16).map(|n| stage.at(n, 10 + u64::from(n))).collect();
        for at in &full {
            stage.written(*at).await;
        }
        let others = [stage.at(4, 20)];
        stage.open(others[0], Role::Joining).await;
        stage.manifest(&full, |_| ()).await;
        // The first bytes are free; what comes after them has to wait.
        stage.core.pace.take(crate::driver::pace::Speed::Paced, 100, 20).await;
        let start = Instant::now();
        while stage.segment().await.full().count() < copies {
            assert!(start.elapsed().as_secs() < 60, "{:?}", stage.segment().await);
            sleep(millis(10)).await;
        }
        let took = start.elapsed();
        assert_eq!(took >= millis(4_000), is_slow, "{copies} copies took {took:?}");
    }
}

//! A queue that was deleted and made again, for a process that knows its earlier life: the segments of
//! both have the same numbers, and a producer's messages the same names in them.

use std::sync::Arc;

use tokio::time::sleep;

use super::{Process, World, millis, post, started};
use crate::driver::delete::Ending;
use crate::driver::{Core, QueueState};
use crate::id::SegmentNo;
use crate::node::Guard;
use crate::queue::{ClaimOptions, Metadata};
use crate::token::MessageId;

const NO: SegmentNo = SegmentNo(1);

/// One closed segment with one message in each of two lives.
struct TwoLives {
    /// Who knows the first one.
    stale: (Arc<Core>, Arc<QueueState>),
    /// Who ended it.
    other: (Arc<Core>, Arc<QueueState>),
    /// The message's id in the first life, and in the second.
    ids: [MessageId; 2],
}

impl TwoLives {
    /// `before` is told of the wires of who ends the first life, and of the node that picks in it.
    async fn new(before: impl FnOnce(&Process, usize)) -> Self {
        let world = World::new(3);
        let process = world.open(1).await;
        let other = started(process.pool.clone());
        let first = live(&other).await;
        let stale = started(world.open(2).await.pool);
        let core = &stale.0;
        // It follows the changes from here on, and hears of none for a second.
        core.pool.registers().poll_changes().await.unwrap();
        sleep(millis(1)).await;
        let known = core.manifests.read(&stale.1).await.unwrap().unwrap();
        let picker = known.segment(NO).unwrap().full().next().unwrap().node();
        before(&process, usize::from(picker.0) - 1);
        assert!(other.0.delete_queue(&other.1).await.unwrap());
        let second = live(&other).await;
        assert_eq!((first.segment, first.at), (second.segment, second.at));
        assert!(first.tag != second.tag);
        let cached = core.manifests.cached(&stale.1).map(|manifest| manifest.generation);
        assert_eq!(cached, Some(known.generation), "it heard of the second life");
        Self { stale, other, ids: [first, second] }
    }

    async fn is_there(&self) -> bool {
        let (core, queue) = &self.other;
        !core.get_many(queue, &self.ids[1..]).await.unwrap().is_empty()
    }
}

/// Makes the queue, and posts a message to a segment that is closed then.
async fn live((core, queue): &(Arc<Core>, Arc<QueueState>)) -> MessageId {
    assert!(core.create(queue, &Metadata::default()).await.unwrap());
    let ids = post(core, queue).await.unwrap();
    core.move_on(queue, NO, "a test").await.unwrap();
    ids[0]
}

/// Q3, Q8: what is claimed is of the life in which it was picked; by an id of another one it would not
/// be deleted.
#[tokio::test(start_paused = true)]
async fn what_is_taken_from_a_queue_made_again_is_of_its_new_life() {
    let lives = TwoLives::new(|_, _| ()).await;
    let (core, queue) = &lives.stale;
    let popped = core.pop(queue, 1, |_| true).await.unwrap();
    let ids: Vec<MessageId> = popped.messages.iter().map(|message| message.id).collect();
    assert_eq!(ids, lives.ids[1..]);
    assert!(!lives.is_there().await);
}

/// Q8: nothing of a life is deleted through another one.
#[tokio::test(start_paused = true)]
async fn an_id_of_an_earlier_life_deletes_nothing_of_a_queue_made_again() {
    let lives = TwoLives::new(|_, _| ()).await;
    let (core, queue) = &lives.stale;
    let endings = core.delete_refs(queue, &lives.ids[..1], Guard::Always).await.unwrap();
    assert_eq!(endings, [Ending::Absent]);
    assert!(lives.is_there().await);
}

/// What was picked in a life is held in no other one: nobody would give it back there.
#[tokio::test(start_paused = true)]
async fn what_was_picked_in_an_earlier_life_holds_nothing_of_a_queue_made_again() {
    // The picker keeps its replica of the first life.
    let lives = TwoLives::new(|process, picker| process.faults[picker].down()).await;
    let (core, queue) = &lives.stale;
    let claim = core.claim(queue, &ClaimOptions::default()).await.unwrap().expect("it is free");
    assert_eq!(claim.messages[0].id, lives.ids[1]);
}

//! What is asked of a segment that is being closed: it is answered once the end was decided.

use super::World;
use crate::driver::{Core, QueueState};
use crate::id::ProducerId;
use crate::message::{ContentType, NewMessage};
use crate::name::{Project, QueueName};
use crate::node::Op;
use crate::node::faulty::Faults;
use crate::queue::Metadata;
use crate::token::MessageId;
use std::sync::Arc;

/// A queue with one message, in a segment that is open.
async fn posted(world: &World) -> (Arc<Core>, Vec<Faults>, Arc<QueueState>, Vec<MessageId>) {
    let process = world.open(1).await;
    let core = Core::start(process.pool);
    let queue = core.queue(&Project::new("p").unwrap(), &QueueName::new("q").unwrap());
    assert!(core.create(&queue, &Metadata::default()).await.unwrap());
    let message = NewMessage::new(ContentType::Text, "body").unwrap();
    let ids = core.post(&queue, vec![message], None).await.unwrap();
    (core, process.faults, queue, ids)
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_somebody_is_closing_is_counted() {
    let world = World::new(3);
    let (core, _, queue, _) = posted(&world).await;
    let manifest = core.manifests.read(&queue).await.unwrap().unwrap();
    for replica in &manifest.open_segment().unwrap().replicas {
        let at = replica.at(core.pool.id());
        let seal = Op::Seal { at, by: ProducerId(77) };
        core.pool.ask(at.cookie.node, vec![seal]).await.unwrap();
    }
    assert_eq!(core.stats(&queue).await.unwrap().total(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_found_by_id_while_a_replica_of_its_open_segment_is_down() {
    let world = World::new(3);
    let (core, faults, queue, ids) = posted(&world).await;
    faults[2].down();
    // Nothing is known of the queue, so the first look at its manifest finds it open.
    core.manifests.forget(&queue);
    assert_eq!(core.get_many(&queue, &ids).await.unwrap().len(), 1);
}

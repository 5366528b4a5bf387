//! What a process remembers of queues does not grow with what it is asked.

use super::World;
use crate::driver::{Core, QUEUES_KEPT};
use crate::name::{Project, QueueName};

#[tokio::test(start_paused = true)]
async fn names_that_are_no_queues_are_forgotten() {
    let world = World::new(3);
    let process = world.open(1).await;
    let core = Core::start(process.pool.clone());
    let project = Project::new("p").unwrap();
    let held = core.queue(&project, &QueueName::new("held").unwrap());
    for n in 0..5 * QUEUES_KEPT {
        core.queue(&project, &QueueName::new(&format!("q{n}")).unwrap());
    }
    assert!(core.known().len() <= 2 * QUEUES_KEPT, "{}", core.known().len());
    let again = core.queue(&project, &QueueName::new("held").unwrap());
    assert!(std::sync::Arc::ptr_eq(&held, &again), "what somebody holds stays");
}

//! A look at all queues of the pool: after a node came back empty, somebody must notice which
//! segments lost a copy, also of queues that nobody uses at present.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Core;
use super::ask::ask;
use crate::node::{Dump, Op};
use crate::protocol::manifest::Manifest;
use crate::protocol::register::Stored;

/// Behind the names of all registers of keys.
const AFTER_KEYS: &str = "k;";
/// Registers looked at in one step.
const PAGE: u32 = 256;

/// Goes through all registers of one keeper once, and starts the repairs that they ask for. What
/// the keeper does not know yet is found by the processes that use it.
pub(crate) async fn run(core: Weak<Core>) {
    let Some(strong) = core.upgrade() else { return };
    let view = strong.pool.view();
    let Some(cookie) = view
        .keepers
        .members
        .iter()
        .filter_map(|member| strong.pool.cookie(member.node))
        .find(|cookie| strong.pool.usable(*cookie))
    else {
        return;
    };
    // Processes that notice the same change should not all begin with the same queue at once.
    let pause = strong.pool.env().random_below(200);
    drop(strong);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    // Queues come after registers of keys, which may be large.
    let mut after = String::from(AFTER_KEYS);
    loop {
        let Some(core) = core.upgrade() else { return };
        let epoch = core.pool.view().keepers.epoch;
        let op = Op::Dump { cookie, epoch, after: after.clone(), limit: PAGE };
        let dump: Dump = match ask(&core.pool, cookie.node, op).await {
            Ok(dump) => dump,
            Err(failure) => {
                tracing::debug!(%failure, "the survey of all queues ended early");
                return;
            }
        };
        for register in &dump.registers {
            after.clone_from(&register.name);
            let Some((_, value)) = &register.accepted else { continue };
            let Some(value) =
                Stored::decode(&register.name, Some(value)).ok().and_then(|stored| stored.value)
            else {
                continue;
            };
            let Ok(manifest) = Manifest::decode(&value) else { continue };
            if manifest.alive && lacks(&core, &manifest) {
                restore(&core, &register.name).await;
            }
        }
        if dump.done || dump.registers.is_empty() {
            return;
        }
    }
}

fn lacks(core: &Core, manifest: &Manifest) -> bool {
    let copies = core.pool.config().copies;
    manifest.segments.iter().any(|s| !s.lost && core.standing_copies(s) < copies)
}

/// Learns the queue's manifest, so that the upkeep looks after it from now on.
async fn restore(core: &Arc<Core>, register: &str) {
    let Some(queue) = core.queue_named(register) else { return };
    if let Err(error) = core.manifests.get(&queue).await {
        tracing::debug!(queue = queue.name, %error, "could not read a manifest");
    }
}

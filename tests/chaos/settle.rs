//! Whether all that a fault did is mended: the next one may then come without being one too many.
//!
//! A store of its own looks: every node is up, one that forgot has begun a new life and is complete as
//! a keeper, and no closed segment of a queue in use lacks a copy, by its manifest as it is now.

use std::time::Duration;

use roundelay::{PoolStatus, Store};
use tokio::time::{Instant, sleep};

use super::run::Stage;
use super::worker::queue;

/// How long that may take.
const MENDED_WITHIN: Duration = Duration::from_secs(60);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long all must have been well: keepers are filled right after a node's new life begins.
const WELL_FOR: Duration = Duration::from_millis(500);

/// What a node was before a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    incarnation: u32,
    keeper_epoch: u32,
    is_keeper: bool,
}

/// Who looks.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) store: Store,
    /// Addresses of the servers, in their order.
    pub(super) nodes: Vec<String>,
}

impl Witness {
    /// What is known of the node at present.
    pub(super) fn look(&self, server: usize) -> Before {
        let PoolStatus { nodes, keeper_epoch, .. } = self.store.status();
        let name = self.nodes.get(server).map_or("", |url| without_scheme(url));
        let node = nodes.iter().find(|node| without_scheme(&node.name) == name);
        Before {
            incarnation: node.map_or(0, |node| node.incarnation),
            is_keeper: node.is_some_and(|node| node.keeper),
            keeper_epoch,
        }
    }

    /// Waits until all is mended.
    ///
    /// # Errors
    /// Says what is not, if it takes too long.
    pub(super) async fn mended(
        &self,
        forgot: Option<(usize, Before)>,
        stage: &Stage,
    ) -> Result<(), String> {
        let deadline = Instant::now() + MENDED_WITHIN;
        let mut well_since = None;
        loop {
            match self.missing(forgot, &stage.open_queues()).await {
                None => {
                    if well_since.get_or_insert_with(Instant::now).elapsed() >= WELL_FOR {
                        return Ok(());
                    }
                }
                Some(missing) if Instant::now() > deadline => {
                    return Err(format!("not mended within {MENDED_WITHIN:?}: {missing}"));
                }
                Some(_) => well_since = None,
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// What is not mended.
    async fn missing(&self, forgot: Option<(usize, Before)>, queues: &[String]) -> Option<String> {
        let status = self.store.status();
        if let Some(node) = status.nodes.iter().find(|node| node.health != "up") {
            return Some(format!("{} is {}", node.name, node.health));
        }
        if status.nodes.len() < self.nodes.len() {
            return Some(format!("{} nodes", status.nodes.len()));
        }
        if let Some((server, before)) = forgot {
            let now = self.look(server);
            if now.incarnation <= before.incarnation {
                return Some(format!("server {} has no new life", server + 1));
            }
            if before.is_keeper && now.keeper_epoch <= before.keeper_epoch {
                return Some(format!("server {} was a keeper", server + 1));
            }
        }
        for name in queues {
            // This reads the manifest, of which the census is made.
            let known = match queue(&self.store, name) {
                Ok(queue) => queue.exists().await,
                Err(error) => Err(error),
            };
            if let Err(error) = known {
                return Some(error.to_string());
            }
        }
        self.store.count_messages().await;
        let census = self.store.metrics().census;
        let short = census.map_or(0, |census| census.segments_under_replicated);
        (short > 0).then(|| format!("{short} segments lack copies"))
    }
}

fn without_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

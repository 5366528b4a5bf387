//! Adding a node.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::driver::Core;
use crate::error::{Error, ErrorKind};
use crate::id::NodeId;
use crate::node::{Identity, Node, Op, Reply};
use crate::pool::{Health, PoolView};
use crate::protocol::admission::check_settings;

/// How long the node may take to say who it is.
const LIMIT: Duration = Duration::from_secs(2);
/// How often it is looked whether it is up.
const LOOK: Duration = Duration::from_millis(20);

impl Core {
    pub(crate) async fn add_node(
        &self,
        node: Arc<dyn Node>,
        patience: Duration,
    ) -> Result<NodeId, Error> {
        let deadline = Instant::now() + patience;
        let name = node.name().to_owned();
        let identity = identify(&*node).await?;
        check_settings(&name, &identity)?;
        let view = self.pool.refresh().await?;
        if let Some(known) = standing(&view, &name, &identity)? {
            self.pool.watch_node(node);
            return self.until_up(known, &name, deadline).await;
        }
        let added = self.pool.change_view(|view| view.add(&name)).await?;
        tracing::info!(node = name, id = %added, "added to the pool");
        self.pool.watch_node(node);
        self.until_up(added, &name, deadline).await
    }

    async fn until_up(&self, node: NodeId, name: &str, deadline: Instant) -> Result<NodeId, Error> {
        let is_up = || {
            let lives = self.pool.cookie(node).is_some_and(|cookie| cookie.incarnation.0 > 0);
            lives && self.pool.health(node) == Health::Up
        };
        while !is_up() {
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "node {name} was added as node {node}, and is not up yet"
                )));
            }
            sleep(LOOK).await;
        }
        Ok(node)
    }
}

async fn identify(node: &dyn Node) -> Result<Identity, Error> {
    let name = node.name();
    match timeout(LIMIT, node.call(vec![Op::Identity])).await {
        Ok(Ok(mut replies)) => match replies.pop() {
            Some(Reply::Identity(identity)) => Ok(identity),
            _ => Err(Error::unavailable(format!("node {name} does not say who it is"))),
        },
        Ok(Err(error)) => Err(Error::unavailable(error.to_string()).because(error)),
        Err(_) => Err(Error::unavailable(format!("node {name} does not answer"))),
    }
}

/// The node's number, if it is of the pool already.
fn standing(view: &PoolView, name: &str, identity: &Identity) -> Result<Option<NodeId>, Error> {
    let refused = |what: String| {
        let message =
            format!("node {name} {what}: to use it all the same, empty it first (FLUSHALL)");
        Err(Error::new(ErrorKind::Config, message))
    };
    match &identity.cookie {
        Some((held, _)) if held.pool != view.pool => {
            refused(format!("belongs to pool {}", held.pool))
        }
        Some((held, _)) if view.nodes.contains_key(&held.node) => Ok(Some(held.node)),
        Some((held, _)) => {
            refused(format!("holds what it had as node {}, which was removed", held.node))
        }
        None => Ok(view.named(name)),
    }
}

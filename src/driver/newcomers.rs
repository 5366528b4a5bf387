//! Nodes that the pool's register names and this process was not given: it connects to them by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::node::Node;
use crate::pool::{Core, Dial};

impl Core {
    /// Connects to nodes that are added to the pool, for ever, and watches them.
    pub(crate) async fn meet_newcomers(self: Arc<Self>, dial: Dial) {
        let mut changes = self.nodes.watch();
        let mut watched = JoinSet::new();
        let mut unknown = BTreeSet::new();
        loop {
            for name in self.newcomers() {
                match dial.to(&name) {
                    Some(node) => {
                        tracing::info!(node = name, "the pool has a node that was not given");
                        let (index, is_new) = self.nodes.add(node);
                        if is_new {
                            watched.spawn(Arc::clone(&self).watch_node(index));
                        }
                    }
                    None => {
                        if unknown.insert(name.clone()) {
                            tracing::warn!(node = name, "nobody told how this node is reached");
                        }
                    }
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Addresses of the pool's nodes that this process has no connection to.
    fn newcomers(&self) -> Vec<String> {
        let view = self.view();
        let met = |node, name: &str| {
            self.nodes.index_of(node).is_some() || self.nodes.named(name).is_some()
        };
        let unmet = view.nodes.iter().filter(|(node, entry)| !met(**node, &entry.name));
        unmet.map(|(_, entry)| entry.name.clone()).collect()
    }
}

impl Dial {
    /// How nodes are reached that are named by their addresses alone.
    pub(crate) fn new(
        dial: impl Fn(&str) -> Option<Arc<dyn Node>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(dial))
    }

    fn to(&self, name: &str) -> Option<Arc<dyn Node>> {
        (self.0)(name).filter(|node| node.name() == name)
    }
}

//! What operators do with a pool: look at it, add, empty and remove nodes, compare copies.

use crate::driver::Core;
use crate::error::Error;
use crate::id::NodeId;

pub(crate) mod adding;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod health;
pub(crate) mod removal;
pub(crate) mod verify;

impl Core {
    /// A node by its number or address.
    pub(crate) async fn find_node(&self, wanted: &str) -> Result<NodeId, Error> {
        let view = self.pool.refresh().await?;
        let is_meant = |node: NodeId, name: &str| {
            wanted == node.to_string()
                || wanted == node.0.to_string()
                || name == wanted
                || name.split_once("://").is_some_and(|(_, address)| address == wanted)
        };
        let mut meant = view.nodes.iter().filter(|(node, entry)| is_meant(**node, &entry.name));
        match (meant.next(), meant.next()) {
            (Some((node, _)), None) => Ok(*node),
            (None, _) => Err(no_such_node(wanted)),
            _ => Err(Error::invalid(format!("{wanted:?} is not one node only: give its number"))),
        }
    }
}

pub(super) fn no_such_node(node: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the pool has no node {node}"))
}

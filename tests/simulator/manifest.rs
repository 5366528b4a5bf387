//! Registers as keepers hold them, read without the library's own types: so that a simulator sees what
//! was decided, and not what the code under test makes of it. The layout is that of
//! `protocol::register`, `protocol::manifest` and `protocol::view`, whose fields are written in order.

use std::collections::BTreeMap;

use roundelay::id::{Generation, Incarnation, NodeId, Placement, SegmentNo, Version};
use roundelay::node::Frontier;
use serde::Deserialize;

/// A register's value: its version, the recent writers, its place in the index, what was written.
#[derive(Debug, Deserialize)]
pub(crate) struct Stored {
    pub(crate) version: u64,
    _writes: Vec<(u64, u64)>,
    _index: Option<(String, String, bool)>,
    pub(crate) value: Option<bytes::Bytes>,
}

/// A queue's manifest.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Manifest {
    _format: u8,
    pub(crate) generation: Generation,
    _version: Version,
    pub(crate) alive: bool,
    #[serde(with = "serde_bytes")]
    _metadata: Vec<u8>,
    _next: SegmentNo,
    pub(crate) segments: Vec<Segment>,
    pub(crate) stubs: Vec<(SegmentNo, Frontier, u64)>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Segment {
    pub(crate) no: SegmentNo,
    _version: Version,
    pub(crate) end: Option<Frontier>,
    pub(crate) lost: bool,
    pub(crate) replicas: Vec<Replica>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Replica {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) placement: Placement,
    pub(crate) standing: Standing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Standing {
    Full,
    Joining,
    Former,
    Dropped,
}

/// The keepers of one epoch; who they were before does not matter here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct KeeperSet {
    pub(crate) epoch: u32,
    pub(crate) members: Vec<(NodeId, Incarnation)>,
    _previous: Vec<(NodeId, Incarnation)>,
    _former: Vec<(NodeId, Incarnation)>,
}

/// The pool register, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct View {
    _version: Version,
    _pool: u64,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) keepers: KeeperSet,
    _keepers_wanted: usize,
    _next_node: u16,
    #[serde(default)]
    _removed: BTreeMap<String, NodeId>,
    #[serde(default)]
    _repairer: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Node {
    _name: String,
    pub(crate) incarnation: Incarnation,
    _run_id: String,
    _zone: Option<String>,
    _draining: bool,
}

/// What was written into a register.
#[derive(Debug)]
pub(crate) enum Written {
    Queue(Manifest),
    Pool(View),
    /// Keys, or nothing.
    Other,
}

/// Reads a keeper's value: its version and what is in it.
///
/// # Panics
/// It cannot be read: the layout is another one.
pub(crate) fn read(register: &str, value: &[u8]) -> (u64, Written) {
    let stored: Stored = rmp_serde::from_slice(value).expect("a register's value");
    let written = match &stored.value {
        Some(bytes) if register.starts_with("q:") => {
            Written::Queue(rmp_serde::from_slice(bytes).expect("a manifest"))
        }
        Some(bytes) if register == "pool" => {
            Written::Pool(rmp_serde::from_slice(bytes).expect("a pool register"))
        }
        Some(_) | None => Written::Other,
    };
    (stored.version, written)
}

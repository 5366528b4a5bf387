//! A pool of memory nodes behind faulty ones, on a paused clock.

use std::sync::Arc;
use std::time::Duration;

use roundelay::node::Node;
use roundelay::node::faulty::{Faults, FaultyNode};
use roundelay::node::memory::MemoryNode;
use roundelay::time::Clock;
use roundelay::{
    ClientId, Config, ContentType, Env, ListOptions, Message, Metadata, NewMessage, Project, Queue,
    QueueName, Store,
};

use super::mortal::{Life, Mortal};

/// The nodes, with what makes them fail.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<MemoryNode>,
    pub(crate) faults: Vec<Faults>,
    wires: Vec<Arc<dyn Node>>,
    clock: Clock,
    seed: u64,
    /// Nodes that stores reach if the pool names them.
    others: Vec<MemoryNode>,
}

impl Cluster {
    pub(crate) fn new(nodes: usize, seed: u64) -> Self {
        // `RUST_LOG=debug` shows what led to a failure.
        let shown = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(shown).with_test_writer().try_init().ok();
        let clock = Clock::starting_at(1_700_000_000_000);
        let mut cluster =
            Self { nodes: vec![], faults: vec![], wires: vec![], clock, seed, others: vec![] };
        for number in 0..nodes {
            let node = MemoryNode::seeded(
                format!("memory-{number}"),
                cluster.clock.clone(),
                seed * 100 + number as u64,
            );
            let (wire, faults) = FaultyNode::new(Arc::new(node.clone()));
            faults.delay_before(Duration::from_micros(100));
            faults.delay_after(Duration::from_micros(100));
            cluster.nodes.push(node);
            cluster.faults.push(faults);
            cluster.wires.push(Arc::new(wire));
        }
        cluster
    }

    /// A store of this pool: each is as another process.
    pub(crate) async fn store(&mut self, config: Config) -> Store {
        self.seed += 1;
        let others = self.others.clone();
        let reach = move |name: &str| {
            let node = others.iter().find(|node| node.name() == name)?;
            Some(Arc::new(node.clone()) as Arc<dyn Node>)
        };
        Store::builder()
            .config(config)
            .reach(reach)
            .nodes(self.wires.clone())
            .env(Env::seeded(self.clock.clone(), self.seed))
            .open()
            .await
            .unwrap()
    }

    /// A store of this pool whose process can be made to die.
    pub(crate) async fn mortal(&mut self, config: Config) -> (Store, Arc<Life>) {
        let life = Arc::new(Life::default());
        let wires = std::mem::take(&mut self.wires);
        self.wires = wires
            .iter()
            .map(|node| Mortal { node: Arc::clone(node), life: Arc::clone(&life) })
            .map(|mortal| Arc::new(mortal) as Arc<dyn Node>)
            .collect();
        let store = self.store(config).await;
        self.wires = wires;
        (store, life)
    }

    /// Stores that are opened from now on reach this node, if the pool names it.
    pub(crate) fn reach(&mut self, node: &MemoryNode) {
        self.others.push(node.clone());
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The node dies: it forgets everything and answers nobody, until it is up again.
    pub(crate) fn kill(&self, node: usize) {
        self.faults[node].down();
        self.nodes[node].restart_empty();
    }

    pub(crate) fn revive(&self, node: usize) {
        self.faults[node].up();
    }
}

pub(crate) fn config(copies: usize, copies_min: usize) -> Config {
    let mut config = Config::default();
    config.copies = copies;
    config.copies_min = copies_min;
    config
}

pub(crate) fn queue(store: &Store, name: &str) -> Queue {
    store.queue(&Project::new("project").unwrap(), &QueueName::new(name).unwrap())
}

pub(crate) async fn new_queue(store: &Store, name: &str) -> Queue {
    let queue = queue(store, name);
    assert!(queue.create(&Metadata::default()).await.unwrap());
    queue
}

pub(crate) fn message(text: impl Into<String>) -> NewMessage {
    NewMessage::new(ContentType::Text, text.into()).unwrap()
}

pub(crate) fn text(message: &Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

pub(crate) fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(text).collect()
}

pub(crate) fn client(name: &str) -> ClientId {
    ClientId::new(name).unwrap()
}

/// All messages, by following markers with pages of `limit`.
pub(crate) async fn walk(queue: &Queue, limit: usize) -> Vec<Message> {
    let mut options = ListOptions {
        limit,
        include_claimed: true,
        include_delayed: true,
        ..ListOptions::default()
    };
    let mut all = Vec::new();
    loop {
        let page = queue.list(&options).await.unwrap();
        if page.messages.is_empty() {
            return all;
        }
        all.extend(page.messages);
        options.marker = page.marker;
    }
}

//! Watching replicas: the server itself tells when one of their keys has changed.
//!
//! One connection a node, opened by the first watch, on which the server tracks what is read
//! (`CLIENT TRACKING`). To watch a replica is to ask whether its keys exist; the first change of one,
//! by whatever command, script or transaction, is then told in one message. While nothing is watched it
//! costs nobody anything, and a watch that waits costs the server an entry in a table.
//!
//! - A watch is in the table before the server is asked, so that no message can come too early.
//! - `FLUSHALL` is told too; the end of the connection wakes everybody. A connection that ended
//!   without a word is noticed by a ping now and then.
//! - A server that refuses to track (by its access rules, or a proxy before it) is asked four times a
//!   second, in one pipeline for everything that is watched, and that is logged once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Pipeline, PushInfo, PushKind, Value};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::connection::{Connection, told};
use super::keys::Key;
use super::lane::Shared;
use crate::id::ReplicaAt;
use crate::node::watch::Watchers;
use crate::node::{NodeError, Watch};

/// Watches that may wait to be begun.
const WAITING: usize = 64 * 1024;
/// Watches begun, or looked at, in one pipeline.
const GATHERED: usize = 512;
/// How often a quiet connection is tried.
const PING: Duration = Duration::from_secs(10);
/// How often replicas are looked at if the server does not tell.
const LOOK: Duration = Duration::from_millis(250);
/// How long nothing is tried after a connection could not be opened.
const BACK_OFF: Duration = Duration::from_millis(100);
/// The keys of which one changes with everything that happens to a replica.
const KEYS: [&str; 2] = [":m", ":n"];

/// Watches the replicas of one node.
#[derive(Debug)]
pub(super) struct Lookout {
    shared: Arc<Shared>,
    /// Dropped with the node, which ends the task.
    sender: Mutex<Option<Sender<Ask>>>,
}

/// A watch to begin.
#[derive(Debug)]
struct Ask {
    /// What the keys of the replica start with.
    replica: String,
    begun: oneshot::Sender<Result<Watch, NodeError>>,
}

impl Lookout {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, sender: Mutex::new(None) }
    }

    pub(super) fn watch(
        &self,
        at: ReplicaAt,
    ) -> impl Future<Output = Result<Watch, NodeError>> + Send + use<> {
        let (begun, answer) = oneshot::channel();
        self.hand_over(Ask { replica: Key::Replica(at).name(), begun });
        let shared = Arc::clone(&self.shared);
        async move { answer.await.unwrap_or_else(|_| Err(shared.unreached("its task ended"))) }
    }

    fn hand_over(&self, ask: Ask) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let ask = match &*sender {
            None => ask,
            Some(open) => match open.try_send(ask) {
                Ok(()) => return,
                Err(TrySendError::Full(ask)) => {
                    return ask.refuse(self.shared.unreached("too many watches wait for it"));
                }
                // Its runtime has ended, and its task with it.
                Err(TrySendError::Closed(ask)) => ask,
            },
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return ask.refuse(self.shared.unreached("there is no tokio runtime"));
        };
        let (open, asks) = channel(WAITING);
        if let Err(TrySendError::Full(ask) | TrySendError::Closed(ask)) = open.try_send(ask) {
            return ask.refuse(self.shared.unreached("too many watches wait for it"));
        }
        let shared = Arc::clone(&self.shared);
        runtime.spawn(Watcher { shared, asks, told: false, failed: None }.run());
        *sender = Some(open);
    }
}

impl Ask {
    fn refuse(self, error: NodeError) {
        // Nobody waits any more: that is the caller's affair.
        drop(self.begun.send(Err(error)));
    }
}

/// The task of a lookout. It ends when the node's last handle is dropped.
#[derive(Debug)]
struct Watcher {
    shared: Arc<Shared>,
    asks: Receiver<Ask>,
    /// Whether it was logged that the server does not track.
    told: bool,
    /// When and why no connection could be opened.
    failed: Option<(Instant, String)>,
}

/// A connection, and what is watched on it.
#[derive(Debug)]
struct Watched {
    connection: Connection,
    replicas: Watchers<String>,
    /// What each replica looked like, if the server does not tell of changes.
    looks: Option<BTreeMap<String, Vec<Value>>>,
}

/// Why a connection is used no longer.
type Lost = String;

impl Watcher {
    async fn run(mut self) {
        while let Some(ask) = self.asks.recv().await {
            if let Some((at, reason)) = &self.failed
                && at.elapsed() < BACK_OFF
            {
                ask.refuse(self.shared.unreached(reason));
                continue;
            }
            match self.open().await {
                Ok(mut watched) => {
                    self.failed = None;
                    // What is watched is dropped with it, and so wakes everybody.
                    if let Err(reason) = self.serve(&mut watched, ask).await {
                        tracing::debug!(node = self.shared.address.name, reason, "watches ended");
                    }
                }
                Err(reason) => {
                    ask.refuse(self.shared.unreached(&reason));
                    self.failed = Some((Instant::now(), reason));
                }
            }
        }
    }

    async fn open(&mut self) -> Result<Watched, String> {
        let connection = Connection::open(&self.shared).await?;
        let mut pipe = redis::pipe();
        pipe.cmd("CLIENT").arg("TRACKING").arg("ON");
        let answers = connection.sending.send(pipe, 1).await.map_err(|error| told(&error))?;
        let refused = answers.iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(format!("{error:?}")),
            _ => None,
        });
        if let Some(reason) = &refused
            && !std::mem::replace(&mut self.told, true)
        {
            tracing::warn!(
                node = self.shared.address.name,
                reason,
                "the node does not tell of changes (CLIENT TRACKING): replicas that somebody waits \
                 for are looked at four times a second"
            );
        }
        let looks = refused.map(|_| BTreeMap::new());
        Ok(Watched { connection, replicas: Watchers::default(), looks })
    }

    /// Uses a connection until it is lost, or until the node is dropped.
    async fn serve(&mut self, watched: &mut Watched, first: Ask) -> Result<(), Lost> {
        let pause = if watched.looks.is_some() { LOOK } else { PING };
        let mut next = Some(first);
        let mut try_at = Instant::now() + pause;
        loop {
            if let Some(first) = next.take() {
                let asks = self.gather(first);
                watched.begin(asks, &self.shared).await?;
            }
            tokio::select! {
                biased;
                push = watched.connection.push() => match push {
                    Some(push) => watched.hear(&push),
                    None => return Err("the connection was closed".into()),
                },
                ask = self.asks.recv() => match ask {
                    Some(ask) => next = Some(ask),
                    None => return Ok(()),
                },
                () = sleep_until(try_at), if !watched.replicas.is_empty() => {
                    watched.look().await?;
                    try_at = Instant::now() + pause;
                }
            }
        }
    }

    fn gather(&mut self, first: Ask) -> Vec<Ask> {
        let mut asks = vec![first];
        while asks.len() < GATHERED
            && let Ok(ask) = self.asks.try_recv()
        {
            asks.push(ask);
        }
        asks
    }
}

impl Watched {
    async fn begin(&mut self, asks: Vec<Ask>, shared: &Shared) -> Result<(), Lost> {
        let mut pipe = redis::pipe();
        let mut begun = Vec::with_capacity(asks.len());
        let mut names = Vec::with_capacity(asks.len());
        for Ask { replica, begun: answer } in asks {
            begun.push((answer, self.replicas.add(replica.clone())));
            match &self.looks {
                Some(_) => look_at(&mut pipe, &replica),
                None => {
                    pipe.cmd("EXISTS").arg(KEYS.map(|key| format!("{replica}{key}")).as_slice());
                }
            }
            names.push(replica);
        }
        let count = pipe.cmd_iter().count();
        let answers = match self.connection.sending.send(pipe, count).await {
            Ok(answers) => answers,
            Err(error) => {
                let reason = told(&error);
                begun.into_iter().for_each(|(answer, _)| {
                    drop(answer.send(Err(shared.unknown(&reason))));
                });
                return Err(reason);
            }
        };
        match &mut self.looks {
            // A look that is remembered already is older: what changed since will be seen.
            Some(looks) => names.into_iter().zip(answers.chunks(LOOKS)).for_each(|(name, look)| {
                looks.entry(name).or_insert_with(|| look.to_vec());
            }),
            None => {
                if let Some(error) = answers.iter().find(|a| matches!(a, Value::ServerError(_))) {
                    let reason = format!("{error:?}");
                    begun.into_iter().for_each(|(answer, _)| {
                        drop(answer.send(Err(shared.unknown(&reason))));
                    });
                    return Err(reason);
                }
            }
        }
        for (answer, watch) in begun {
            drop(answer.send(Ok(watch)));
        }
        Ok(())
    }

    /// A message of the server's: the names of the keys that changed, or none for all of them.
    fn hear(&mut self, push: &PushInfo) {
        if push.kind != PushKind::Invalidate {
            return;
        }
        for told in &push.data {
            let Value::Array(keys) = told else {
                self.replicas.wake_all();
                return;
            };
            for key in keys {
                let Value::BulkString(name) = key else { continue };
                let Ok(name) = std::str::from_utf8(name) else { continue };
                if let Some(replica) = KEYS.iter().find_map(|key| name.strip_suffix(key)) {
                    self.replicas.wake(replica);
                }
            }
        }
    }

    /// Tries the connection, and if the server does not tell of changes, looks for them.
    async fn look(&mut self) -> Result<(), Lost> {
        self.replicas.sweep();
        let Some(before) = self.looks.take() else {
            let mut pipe = redis::pipe();
            pipe.cmd("PING");
            return self
                .connection
                .sending
                .send(pipe, 1)
                .await
                .map(drop)
                .map_err(|error| told(&error));
        };
        let names: Vec<String> = self.replicas.watched().cloned().collect();
        let mut looks = BTreeMap::new();
        for names in names.chunks(GATHERED) {
            let mut pipe = redis::pipe();
            names.iter().for_each(|name| look_at(&mut pipe, name));
            let sent = self.connection.sending.send(pipe, LOOKS * names.len()).await;
            let answers = sent.map_err(|error| told(&error))?;
            for (name, look) in names.iter().zip(answers.chunks(LOOKS)) {
                if before.get(name).is_some_and(|before| before == look) {
                    looks.insert(name.clone(), look.to_vec());
                } else {
                    self.replicas.wake(name);
                }
            }
        }
        self.looks = Some(looks);
        Ok(())
    }
}

/// Answers of one look.
const LOOKS: usize = 2;

/// What differs once a replica has changed: its numbers, and how much was appended to it.
fn look_at(pipe: &mut Pipeline, replica: &str) {
    let [numbers, appended] = KEYS;
    pipe.cmd("HGET").arg(format!("{replica}{numbers}")).arg("h");
    pipe.cmd("STRLEN").arg(format!("{replica}{appended}"));
}

//! Watches the nodes: asks each who it is, and admits those that forgot (Q9).
//!
//! A node's new life is decided by compare-and-set in the pool register, and only the process
//! whose write was chosen sends that `Admit`, once. So no number of a life reaches a node twice,
//! and a late message cannot make a node that forgot look like one that remembers. A process that
//! finds a life decided but not begun gives the other one a moment, then decides the next.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::driver::nodes::Health;
use crate::driver::registers::Change;
use crate::error::{Error, ErrorKind};
use crate::id::{Cookie, Incarnation, NodeId, Version};
use crate::node::{Identity, Op, Refusal, Reply};
use crate::pool::Core;
use crate::protocol::admission::{Standing, check_settings, standing};
use crate::protocol::view::{PoolView, REGISTER};

/// How often a node that does well is asked.
const CALM: Duration = Duration::from_secs(1);
/// How soon a node in doubt is asked again, at first and at most.
const DOUBT: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));
/// How often one is asked that was taken out of the pool.
const RETIRED: Duration = Duration::from_secs(5);
/// No node is asked more often than this.
const PAUSE: Duration = Duration::from_millis(5);
/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_secs(1);
/// How long another process may take to begin a life that it decided.
const BEGIN: Duration = Duration::from_millis(30);

/// How old an answer may be by which a life is decided.
const GOOD_FOR: Duration = Duration::from_secs(2);

/// What a node said of itself.
struct Told {
    identity: Identity,
    asked: Instant,
    /// It answered in the time that it is worth.
    quick: bool,
}

/// The life of a node that this process knows of, and since when.
type Known = Option<(Incarnation, Instant)>;

impl Core {
    /// Reads the pool register.
    pub(crate) async fn refresh(&self) -> Result<Arc<PoolView>, Error> {
        let value = self.registers.read(REGISTER).await?.ok_or_else(no_view)?;
        self.learn(PoolView::decode(&value)?);
        Ok(self.view())
    }

    /// Changes the pool register by `edit`, which may be run several times.
    pub(crate) async fn change_view<T: Send>(
        &self,
        mut edit: impl FnMut(&mut PoolView) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let update = self.registers.update(REGISTER, None, |value| {
            let before = PoolView::decode(value.ok_or_else(no_view)?)?;
            let mut view = before.clone();
            let out = edit(&mut view)?;
            if view == before {
                return Ok(Change::Keep((view, out)));
            }
            view.version = Version(view.version.0 + 1);
            Ok(Change::Write { value: view.encode()?, listed: false, out: (view, out) })
        });
        let (view, out) = update.await?;
        self.learn(view);
        Ok(out)
    }

    /// Takes a view that was chosen, if it is newer.
    pub(crate) fn learn(&self, view: PoolView) {
        let keepers = view.keepers.clone();
        let mut known = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if view.version <= known.version {
            return;
        }
        let started = known.version == Version(0);
        *known = Arc::new(view);
        drop(known);
        self.registers.adopt(keepers);
        // A node's new life may give a keeper its place back.
        self.registers.trouble.notify_one();
        if !started {
            self.nodes.announce();
        }
    }

    /// Watches one node for ever.
    pub(crate) async fn watch_node(self: Arc<Self>, index: usize) {
        let Some(slot) = self.nodes.slot(index) else { return };
        let mut known = None;
        let mut pause = DOUBT.0;
        loop {
            self.probe(index, &mut known).await;
            if slot.is_retired() {
                // It may be added again.
                sleep(RETIRED).await;
                continue;
            }
            if slot.in_doubt() {
                sleep(pause).await;
                pause = (pause * 3 / 2).min(DOUBT.1);
                continue;
            }
            pause = DOUBT.0;
            sleep(PAUSE).await;
            tokio::select! {
                biased;
                () = slot.doubt.notified() => {}
                () = sleep(CALM) => {}
            }
        }
    }

    /// Asks a node who it is and does what follows from it. Returns whether it answered.
    pub(crate) async fn probe(&self, index: usize, known: &mut Known) -> bool {
        // Told apart from a node that is slow for good: one late answer may be due to what is over.
        for _ in 0..2 {
            let (start, patience) = (Instant::now(), self.nodes.patience_in(index));
            let Ok(mut replies) = self.nodes.ask_slot(index, vec![Op::Identity], Some(LIMIT)).await
            else {
                return false;
            };
            let Some(Reply::Identity(identity)) = replies.pop() else {
                self.nodes.doubt(index, "it does not say who it is", true);
                return true;
            };
            let quick = start.elapsed() <= patience.max(self.nodes.patience_in(index));
            let told = Told { identity, asked: start, quick };
            if let Err(error) = self.examine(index, &told, known).await {
                self.nodes.doubt(index, &error.to_string(), true);
            }
            if quick {
                break;
            }
        }
        true
    }

    /// Clears a node that is what the pool takes it for, and admits one that forgot.
    async fn examine(&self, index: usize, told: &Told, known: &mut Known) -> Result<(), Error> {
        let Told { identity, asked, quick } = told;
        let name = &self.nodes.name(index);
        check_settings(name, identity)?;
        let mut view = self.view();
        if !matches!(standing(&view, name, identity), Standing::Member(_)) {
            self.nodes.await_admission(index);
            view = self.refresh().await?;
        }
        match standing(&view, name, identity) {
            Standing::Member(node) => {
                is_after(known, life_of(&view, node), *asked, Duration::ZERO);
                self.bind(node, index)?;
                if *quick {
                    self.nodes.cleared(index, identity);
                }
                Ok(())
            }
            stranger @ (Standing::Awaited(node) | Standing::Stranger(node)) => {
                let life = life_of(&view, node);
                let pause = match stranger {
                    // Another process may be about to begin it.
                    Standing::Awaited(_) => BEGIN,
                    _ => Duration::ZERO,
                };
                match is_after(known, life, *asked, pause) {
                    true => self.admit(index, told, Some((node, life))).await,
                    false => Ok(()),
                }
            }
            Standing::New => self.admit(index, told, None).await,
            Standing::Ahead(node) => Err(misfit(name, &format!("node {node} of a newer view"))),
            Standing::Removed(node) => {
                if let Some(slot) = self.nodes.slot(index) {
                    slot.retire();
                }
                Err(misfit(name, &format!("node {node}, which was removed from the pool")))
            }
            Standing::Foreign(pool) => Err(misfit(name, &format!("a node of pool {pool}"))),
        }
    }

    /// Decides the life of a node after its `present` one, and begins it.
    async fn admit(
        &self,
        index: usize,
        told: &Told,
        present: Option<(NodeId, Incarnation)>,
    ) -> Result<(), Error> {
        let Told { identity, asked, .. } = told;
        let name = self.nodes.name(index);
        let decided = self
            .change_view(|view| {
                let node = match present {
                    Some((node, _)) => node,
                    // Somebody else has added it meanwhile.
                    None if view.named(&name).is_some() => return Ok(None),
                    None => view.add(&name)?,
                };
                let Some(entry) = view.nodes.get_mut(&node) else { return Ok(None) };
                let is_over = present.is_some_and(|(_, life)| life != entry.incarnation);
                if is_over || asked.elapsed() > GOOD_FOR {
                    return Ok(None);
                }
                let next = entry.incarnation.0.checked_add(1).ok_or_else(|| {
                    Error::new(ErrorKind::Internal, format!("node {node} has no lives left"))
                })?;
                entry.incarnation = Incarnation(next);
                identity.run_id.clone_into(&mut entry.run_id);
                name.clone_into(&mut entry.name);
                Ok(view.cookie(node))
            })
            .await?;
        // Another process was first: it admits the node. Or this one was too slow.
        let Some(cookie) = decided else { return Ok(()) };
        tracing::debug!(node = name, life = %cookie.incarnation, "a new life was decided");
        let admit = Op::Admit { cookie, run_id: identity.run_id.clone() };
        match self.nodes.ask_slot(index, vec![admit], Some(LIMIT)).await.map(|mut all| all.pop()) {
            Ok(Some(Reply::Done)) => {
                tell_admission(&name, cookie, present.is_some());
                self.bind(cookie.node, index)?;
                self.nodes.cleared(index, identity);
                self.registers.trouble.notify_one();
                Ok(())
            }
            Ok(Some(Reply::Refused(Refusal::Stranger { found: Some(found) })))
                if found.pool != cookie.pool =>
            {
                Err(misfit(&name, &format!("a node of pool {}", found.pool)))
            }
            // The next look tells: restarted again, admitted by another, or out of reach.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// From now on the pool's `node` is the one in this slot.
    fn bind(&self, node: NodeId, index: usize) -> Result<(), Error> {
        if let Some(other) = self.nodes.index_of(node)
            && other != index
            && self.nodes.health(node) == Health::Up
        {
            let name = self.nodes.name(index);
            return Err(misfit(&name, &format!("node {node}, as {} does", self.nodes.name(other))));
        }
        self.nodes.bind(node, index);
        Ok(())
    }
}

fn life_of(view: &PoolView, node: NodeId) -> Incarnation {
    view.nodes.get(&node).map_or(Incarnation(0), |entry| entry.incarnation)
}

/// Whether a question was asked after this process had heard of a node's present life, and so long after. The
/// answer to an earlier one may be older than that life: who took it for the present would end a
/// life that others have filled since.
fn is_after(known: &mut Known, life: Incarnation, asked: Instant, pause: Duration) -> bool {
    match *known {
        Some((before, since)) if before == life => asked >= since + pause,
        _ => {
            *known = Some((life, Instant::now()));
            false
        }
    }
}

/// Only the process that admits a node says so: one line in all logs.
fn tell_admission(name: &str, cookie: Cookie, is_known: bool) {
    let life = cookie.incarnation.0;
    if is_known {
        tracing::warn!(
            node = name,
            life,
            "the node came back without its data, or with old data: it was emptied and admitted \
             anew, and the copies that it had are being restored from the other nodes"
        );
    } else {
        tracing::info!(node = name, life, "a new node belongs to the pool");
    }
}

fn misfit(name: &str, what: &str) -> Error {
    Error::new(ErrorKind::Config, format!("node {name} answers as {what}: it is not used"))
}

fn no_view() -> Error {
    Error::new(ErrorKind::Lost, "the pool's register is empty: the pool is lost")
}

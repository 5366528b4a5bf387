//! Finds the pool that the given nodes form, or begins one.
//!
//! A pool begins with one `Admit` of a random pool id on the node whose name sorts first. A node
//! takes the cookie of one pool only, so of several processes that begin at the same time one wins
//! and the others find its id there. That node is the only keeper of the first epoch: making it
//! one, letting it vote and writing the first view (by compare-and-set over nothing) are
//! idempotent and the same for everybody, so whoever comes takes up what another left. From there
//! on nothing is special: the other nodes are admitted as any empty node is, and the set of keepers
//! grows to its size as it does when a keeper is replaced.
//!
//! So an interrupted beginning can be told from lost memory: the first node, in its first life,
//! with the pool's cookie but no keeper's state, has never been more than admitted. No keeper ever
//! loses that state within a life. In every other case a pool of which nobody is a keeper any more
//! is lost, and is not begun anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::driver::nodes::Nodes;
use crate::driver::quorum::keep;
use crate::driver::registers::{Change, Registers};
use crate::env::Env;
use crate::error::{Error, ErrorKind};
use crate::id::{Incarnation, NodeId, PoolId, ProducerId, Version};
use crate::node::{Identity, Node, Op, Refusal, Reply};
use crate::pool::Core;
use crate::protocol::admission::check_settings;
use crate::protocol::once::plain_producer;
use crate::protocol::view::{FIRST, KeeperSet, Member, PoolView, REGISTER};

/// How long a node may take to say who it is.
const LIMIT: Duration = Duration::from_secs(1);
/// How long nodes that answer may take to be admitted, and keepers to be completed.
const SETTLE: Duration = Duration::from_secs(3);

/// Who the nodes said they are, by slot; nothing for those that do not answer.
type Identities = Vec<Option<Identity>>;

impl Core {
    /// Joins the pool of these nodes, or begins it.
    pub(crate) async fn open(
        config: Config,
        mut given: Vec<Arc<dyn Node>>,
        env: Env,
    ) -> Result<Arc<Self>, Error> {
        config.check()?;
        // In this order the first slot is the node on which a pool begins.
        given.sort_by(|one, two| one.name().cmp(two.name()));
        let names: BTreeSet<_> = given.iter().map(|node| node.name()).collect();
        if given.is_empty() || names.len() < given.len() {
            return Err(Error::new(
                ErrorKind::Config,
                "at least one node is needed, each with a name of its own",
            ));
        }
        let nodes = Arc::new(Nodes::new(given, config.suspect_after, env.clone()));
        let me = plain_producer(env.random());
        let deadline = Instant::now() + config.deadline;
        // Nodes answer one after the other, while others may be beginning the pool: what looks lost
        // is lost only if it looks so twice.
        let mut seems_lost = false;
        let (core, answer) = loop {
            let identities = identify(&nodes).await?;
            match pool_of(&nodes, &identities)? {
                None => begin(&nodes, &identities, &env).await?,
                Some(pool) => match keepers_of(&nodes, &identities, pool).await {
                    Ok(Some(set)) => {
                        let answer = identities.iter().map(Option::is_some).collect();
                        let core = join(config, &nodes, env, me, pool, set, &identities).await?;
                        break (core, answer);
                    }
                    Ok(None) => {}
                    Err(error) if error.kind() == ErrorKind::Lost && !seems_lost => {
                        seems_lost = true;
                    }
                    Err(error) => return Err(error),
                },
            }
            if Instant::now() >= deadline {
                return Err(Error::unavailable("the nodes did not form a pool in time"));
            }
            sleep(Duration::from_millis(5 + env.random_below(10))).await;
        };
        core.settle(answer).await?;
        Ok(core)
    }

    /// Admits what has to be admitted and completes the keepers, as far as that is soon done: what
    /// is left is done in the background. `answer`: which nodes do, by slot.
    async fn settle(&self, answer: Vec<bool>) -> Result<(), Error> {
        let until = Instant::now() + SETTLE;
        let mut slots: Vec<_> =
            self.nodes.slots().zip(answer).map(|(index, answers)| (index, None, answers)).collect();
        loop {
            let probes = slots.iter_mut().filter(|(_, _, answers)| *answers).map(
                async |(index, awaited, answers)| {
                    *answers = self.probe(*index, awaited).await;
                    *answers && self.nodes.slot(*index).is_some_and(|slot| slot.in_doubt())
                },
            );
            let waiting = join_all(probes).await.contains(&true);
            let complete = match self.mend_keepers(false).await {
                Err(error) if error.kind() == ErrorKind::Lost => return Err(error),
                result => result.unwrap_or(false),
            };
            let as_many = self.registers.keepers().members.len() >= self.keepers_possible();
            let all_answer = slots.iter().all(|(_, _, answers)| *answers);
            if (!waiting && (complete && as_many || !all_answer)) || Instant::now() >= until {
                return Ok(());
            }
            sleep(Duration::from_millis(2 + self.env.random_below(8))).await;
        }
    }

    fn keepers_possible(&self) -> usize {
        let view = self.view();
        let nodes = view.nodes.values().filter(|entry| !entry.draining).count();
        let odd = |most: usize| most - (1 - most % 2).min(most);
        odd(view.keepers_wanted.min(nodes))
    }
}

/// Asks all nodes who they are, and refuses those that must not be used.
async fn identify(nodes: &Nodes) -> Result<Identities, Error> {
    let asked = nodes.slots().map(|index| nodes.ask_slot(index, vec![Op::Identity], Some(LIMIT)));
    let mut identities = Vec::new();
    for (index, answer) in join_all(asked).await.into_iter().enumerate() {
        let identity = match answer.map(|mut replies| replies.pop()) {
            Ok(Some(Reply::Identity(identity))) => {
                check_settings(&nodes.name(index), &identity)?;
                Some(identity)
            }
            _ => None,
        };
        identities.push(identity);
    }
    Ok(identities)
}

/// The pool to which the nodes belong: none if they are all empty.
fn pool_of(nodes: &Nodes, identities: &Identities) -> Result<Option<PoolId>, Error> {
    let mut pools: BTreeMap<PoolId, String> = BTreeMap::new();
    let mut lives: BTreeMap<(NodeId, &str), String> = BTreeMap::new();
    for (index, identity) in identities.iter().enumerate() {
        let Some((identity, (cookie, _))) =
            identity.as_ref().and_then(|identity| Some((identity, identity.cookie.as_ref()?)))
        else {
            continue;
        };
        let name = nodes.name(index);
        pools.entry(cookie.pool).or_insert_with(|| name.clone());
        if let Some(other) = lives.insert((cookie.node, &identity.run_id), name.clone()) {
            let message = format!("{other} and {name} are one and the same node");
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    if pools.len() > 1 {
        let named: Vec<_> = pools.iter().map(|(pool, name)| format!("{name} to {pool}")).collect();
        return Err(Error::new(
            ErrorKind::Config,
            format!("the nodes belong to different pools: {}", named.join(", ")),
        ));
    }
    Ok(pools.keys().next().copied())
}

/// Begins a pool on the first node. Whoever does not win finds the winner's pool there.
async fn begin(nodes: &Nodes, identities: &Identities, env: &Env) -> Result<(), Error> {
    let silent = silent(nodes, identities);
    if !silent.is_empty() {
        return Err(Error::unavailable(format!(
            "a new pool begins only when all its nodes answer; these do not: {}",
            silent.join(", ")
        )));
    }
    let Some(Some(first)) = identities.first() else { return Ok(()) };
    // Each try has an id of its own, so that no cookie is ever written twice (Q9).
    let cookie = FIRST.cookie(PoolId(env.random()));
    let admit = Op::Admit { cookie, run_id: first.run_id.clone() };
    match nodes.ask_slot(0, vec![admit], Some(LIMIT)).await.map(|mut replies| replies.pop()) {
        Ok(Some(Reply::Done)) => {
            tracing::info!(pool = %cookie.pool, first = nodes.name(0), "a new pool begins");
        }
        Ok(Some(Reply::Refused(Refusal::Stranger { .. }))) | Err(_) => {}
        Ok(answer) => tracing::warn!(?answer, "unexpected answer to the first admission"),
    }
    Ok(())
}

/// The newest set of keepers that the nodes know of. `None`: ask again.
async fn keepers_of(
    nodes: &Nodes,
    identities: &Identities,
    pool: PoolId,
) -> Result<Option<KeeperSet>, Error> {
    let ours = |identity: &&Identity| {
        identity.cookie.as_ref().is_some_and(|(cookie, _)| cookie.pool == pool)
    };
    let keepers = identities.iter().flatten().filter(ours).filter_map(|it| it.keeper.as_ref());
    if let Some(newest) = keepers.max_by_key(|keeper| keeper.epoch) {
        let set = KeeperSet::decode(&newest.keepers)?;
        check_memory(nodes, identities, pool, &set)?;
        return Ok(Some(set));
    }
    let first = identities.iter().position(|identity| {
        let held = identity.as_ref().and_then(|identity| identity.cookie.as_ref());
        held.is_some_and(|(cookie, _)| *cookie == FIRST.cookie(pool))
    });
    if let Some(index) = first {
        let (cookie, set) = (FIRST.cookie(pool), KeeperSet::first());
        let Some(keep) = keep(cookie, &set) else { return Ok(None) };
        // A failure shows when the nodes are asked again.
        let _ = nodes.ask_slot(index, vec![keep], Some(LIMIT)).await;
        return Ok(None);
    }
    let silent = silent(nodes, identities);
    if silent.is_empty() {
        return Err(Error::new(
            ErrorKind::Lost,
            format!(
                "none of the given nodes is a keeper of pool {pool}: either its keepers are \
                 missing from the list, or they forgot everything and the pool is lost"
            ),
        ));
    }
    Err(Error::unavailable(format!(
        "no keeper of pool {pool} answers; these nodes do not: {}",
        silent.join(", ")
    )))
}

/// Refuses a pool most of whose keepers answer but remember nothing.
fn check_memory(
    nodes: &Nodes,
    identities: &Identities,
    pool: PoolId,
    set: &KeeperSet,
) -> Result<(), Error> {
    let remembers = |member: &&Member| {
        identities.iter().flatten().any(|identity| {
            let held = identity.cookie.as_ref();
            held.is_some_and(|(cookie, run_id)| {
                *cookie == member.cookie(pool) && (identity.durable || *run_id == identity.run_id)
            })
        })
    };
    let remembering = set.members.iter().filter(remembers).count();
    // Inactive keepers remember too; whether they can be filled shows later.
    if remembering < set.majority() && silent(nodes, identities).is_empty() {
        return Err(Error::new(
            ErrorKind::Lost,
            format!(
                "only {remembering} of the {} keepers of pool {pool} remember anything: either \
                 the others are missing from the list of nodes, or the pool is lost",
                set.members.len()
            ),
        ));
    }
    Ok(())
}

fn silent(nodes: &Nodes, identities: &Identities) -> Vec<String> {
    let unknown = identities.iter().enumerate().filter(|(_, identity)| identity.is_none());
    unknown.map(|(index, _)| nodes.name(index)).collect()
}

/// Joins a pool of which a set of keepers is known.
async fn join(
    config: Config,
    nodes: &Arc<Nodes>,
    env: Env,
    me: ProducerId,
    pool: PoolId,
    set: KeeperSet,
    identities: &Identities,
) -> Result<Arc<Core>, Error> {
    for (index, identity) in identities.iter().enumerate() {
        if let Some((cookie, _)) = identity.as_ref().and_then(|identity| identity.cookie.as_ref()) {
            nodes.bind(cookie.node, index);
        }
    }
    let first_run = identities.iter().enumerate().find_map(|(index, identity)| {
        let (cookie, run_id) = identity.as_ref()?.cookie.as_ref()?;
        (*cookie == FIRST.cookie(pool)).then(|| (nodes.name(index), run_id.clone()))
    });
    let begun = set.epoch > KeeperSet::first().epoch;
    let registers = Registers::new(pool, nodes.clone(), env.clone(), &config, me, set);
    let wanted = config.keepers;
    let core = Core::new(pool, me, config, env, nodes.clone(), registers);
    if !begun {
        core.mend_first().await;
    }
    // A new set may have been decided and not be able to vote yet.
    if let Err(error) = core.complete_keepers().await {
        tracing::debug!(%error, "the keepers are not complete");
    }
    let view = core
        .registers
        .update(REGISTER, None, |value| match (value, &first_run) {
            (Some(value), _) => Ok(Change::Keep(PoolView::decode(value)?)),
            (None, Some((name, run_id))) if !begun => {
                let view = PoolView::first(pool, name.clone(), run_id.clone(), wanted);
                Ok(Change::Write { value: view.encode()?, listed: false, out: view })
            }
            (None, _) => Err(Error::new(
                ErrorKind::Lost,
                format!("the register of pool {pool} is empty: the pool is lost"),
            )),
        })
        .await?;
    core.learn(view);
    core.bind_by_name(identities);
    Ok(Arc::new(core))
}

impl Core {
    /// Lets the only keeper of the first epoch vote. Harmless if it does already, or if the epoch
    /// has passed.
    async fn mend_first(&self) {
        let set = KeeperSet::first();
        let op = Op::Activate { cookie: FIRST.cookie(self.id), epoch: set.epoch };
        let _ = self.nodes.ask(FIRST.node, vec![op], Some(LIMIT)).await;
    }

    /// Nodes without a cookie, and those that do not answer, are known by their names.
    fn bind_by_name(&self, identities: &Identities) {
        let view = self.view();
        for (index, identity) in identities.iter().enumerate() {
            let holds = identity.as_ref().is_some_and(|identity| identity.cookie.is_some());
            let Some(node) = view.named(&self.nodes.name(index)) else { continue };
            if !holds && self.nodes.index_of(node).is_none() {
                self.nodes.bind(node, index);
            }
        }
    }
}

/// A view that knows nothing yet.
pub(crate) fn unknown_view(pool: PoolId) -> PoolView {
    let mut view = PoolView::first(pool, String::new(), String::new(), 1);
    view.version = Version(0);
    view.nodes.clear();
    debug_assert_eq!(FIRST.incarnation, Incarnation(1));
    view
}

//! The simulator: the library itself, driver and all, on simulated nodes, network, clocks and
//! randomness. A seed determines everything, so a run that fails is repeated by its seed.
//!
//! A run draws a plan, lets clients of several processes work while nodes and processes fail, heals
//! everything, waits until all is quiet, looks at what is there, and has the oracles judge what clients
//! were told. Used by `tests/it/simulator` with fixed seeds and by `benches/simulator` with any number.
//! specs/simulator.md tells more.

mod clients;
mod flawed;
mod life;
mod manifest;
pub(crate) mod plan;
pub(crate) mod reached;
mod recorder;
mod schedule;
mod spy;
pub(crate) mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roundelay::Metadata;
use tokio::time::sleep;

use clients::{AGAIN, Kind, MAIN, SHORT, Shared};
use plan::Plan;
use reached::Reached;
use schedule::Schedule;
use world::{Lie, Process, World};

use crate::oracles::{Answer, Breach, History, What};

/// Processes of clients.
const PLACES: usize = 3;
/// Clients, with the place of their process.
const CLIENTS: [(Kind, usize); 11] = [
    (Kind::Produce, 0),
    (Kind::Produce, 1),
    (Kind::Produce, 2),
    (Kind::Read, 0),
    (Kind::Read, 1),
    (Kind::Claim, 1),
    (Kind::Claim, 2),
    (Kind::Delete, 0),
    (Kind::Look, 2),
    (Kind::Administrate, 0),
    (Kind::Administrate, 1),
];
/// After this long without faults everything should be as it was.
const SETTLE_MS: u64 = 15_000;

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) history: History,
    pub(crate) reached: Reached,
    pub(crate) breaches: Vec<Breach>,
}

/// Runs a seed on a runtime of its own.
pub(crate) fn run(plan: Plan, lie: Option<Lie>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let (history, reached) = runtime.block_on(simulate(plan, lie));
    let breaches = crate::oracles::check(&history);
    Outcome { history, reached, breaches }
}

async fn simulate(plan: Plan, lie: Option<Lie>) -> (History, Reached) {
    let world = Arc::new(World::new(plan, lie));
    open_all(&world).await;
    let shared = Arc::new(Shared::default());
    let clients: Vec<_> = CLIENTS
        .iter()
        .enumerate()
        .map(|(number, (kind, place))| {
            let (world, shared) = (Arc::clone(&world), Arc::clone(&shared));
            tokio::spawn(clients::work(world, shared, *kind, *place, number))
        })
        .collect();
    Schedule::new(Arc::clone(&world)).run().await;
    world.end();
    for client in clients {
        client.await.expect("a client ends");
    }
    become_quiet(&world).await;
    look(&world, &shared).await;
    world.write_chosen();
    count_reached(&world);
    let mut history = History {
        early: world.early.load(Ordering::Relaxed),
        late: world.late.load(Ordering::Relaxed),
        // The keepers are asked once a second what changed.
        stale: 1_600,
        patience: 3_000,
        settle: 6_000,
        entries: std::mem::take(&mut *world.recorder.entries()),
    };
    history.entries.sort_by_key(|entry| entry.ended);
    let reached = world.sight.seen().reached.clone();
    (history, reached)
}

async fn open_all(world: &Arc<World>) {
    let first = if world.plan.begin_together {
        let (one, two, three) = tokio::join!(world.open(), world.open(), world.open());
        world.sight.seen().reached.note("two pools begun at once");
        vec![one, two, three]
    } else {
        vec![world.open().await, world.open().await, world.open().await]
    };
    for name in [MAIN, SHORT, AGAIN] {
        make(&first[0], name).await;
    }
    for (place, process) in first.into_iter().enumerate() {
        world.set_process(place, Some(process));
    }
}

/// Makes a queue, however long that takes.
async fn make(process: &Process, name: &str) {
    while let Err(error) = process.queue(name).create(&Metadata::default()).await {
        assert!(error.is_retryable(), "{error:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// All faults are over: waits until everything is made good and what is short-lived is over.
async fn become_quiet(world: &World) {
    for server in &world.servers {
        server.faults.clear();
        server.node.set_memory_limit(None);
    }
    world.copies.take(Duration::ZERO);
    for place in 0..PLACES {
        if let Some(process) = world.process(place) {
            process.wires.iter().for_each(roundelay::node::faulty::Faults::up);
            process.losses.iter().for_each(|losses| losses.draw(None));
        }
    }
    let began = world.recorder.now();
    while world.recorder.now() < began + SETTLE_MS && !world.is_restored() {
        sleep(Duration::from_millis(100)).await;
    }
    // The longest claim, and what messages must outlive it by.
    let late = world.late.load(Ordering::Relaxed).min(3_000);
    sleep(Duration::from_millis(4_500 + late)).await;
    world.recorder.note("all", What::Quiet);
    let under_replicated = world.short_segments().len() as u64;
    let lost = world.sight.seen().reached.times("a segment lost");
    let uncounted = u64::from(!world.is_restored());
    world.recorder.note("all", What::Census { under_replicated, uncounted, lost });
}

/// Looks at what is there in the end: with two newcomers, one of which must do without one node.
async fn look(world: &World, shared: &Shared) {
    let (one, two) = (world.open().await, world.open().await);
    let without = usize::try_from(world.plan.seed).unwrap_or(0) % world.servers.len();
    two.wires[without].down();
    // Only now: until it opens a process must see who is there.
    for (process, limit) in [(&one, 100), (&two, 7)] {
        for name in [MAIN, SHORT, AGAIN] {
            let reader = (process.name.as_str(), process.queue(name));
            clients::walk_all(&world.recorder, shared, reader, name, None, limit).await;
        }
    }
    let markers = std::mem::take(&mut shared.known().markers);
    for (place, (name, marker)) in markers.into_iter().enumerate().take(6) {
        let process = if place % 2 == 0 { &one } else { &two };
        let reader = (process.name.as_str(), process.queue(name));
        clients::walk_all(&world.recorder, shared, reader, name, Some(marker), 50).await;
    }
    for name in [MAIN, SHORT, AGAIN] {
        clients::count(&world.recorder, &one.name, name, &one.queue(name)).await;
    }
    tokio::join!(one.store.close(), two.store.close());
}

/// Counts what is seen by clients alone.
fn count_reached(world: &World) {
    let entries = world.recorder.entries();
    let mut seen = world.sight.seen();
    let mut keys = std::collections::BTreeSet::new();
    for entry in entries.iter() {
        match &entry.what {
            What::Post { answer: Answer::Unknown(_), .. } => {
                seen.reached.note("a post whose outcome is unknown");
            }
            What::Post { key: Some(key), answer: Answer::Done(_), .. } if !keys.insert(key) => {
                seen.reached.note("a key answered again");
            }
            What::Post { ttl, answer: Answer::Done(_), .. } if *ttl < 5_000 => {
                seen.reached.note("a message expired");
            }
            _ => {}
        }
    }
}

//! Clients: each does one thing after the other with the process in its place. What a process was
//! doing for them when it died has an unknown outcome; they go on with the one that follows it.

mod claiming;
mod posting;
mod reading;
mod rest;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use roundelay::{Marker, MessageId, Queue};
use tokio::time::sleep;

pub(crate) use reading::walk_all;
pub(crate) use rest::count;

use super::recorder::Recorder;
use super::world::{Process, World};

/// Never deleted; keys are used here only, as a queue that is deleted forgets them.
pub(crate) const MAIN: &str = "main";
/// Of messages that are short-lived, and delayed.
pub(crate) const SHORT: &str = "short";
/// Deleted and made again.
pub(crate) const AGAIN: &str = "again";

/// Long enough to outlive every run.
const LONG: Duration = Duration::from_secs(36_000);

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Produce,
    Read,
    Claim,
    Delete,
    Look,
    Administrate,
}

/// What clients know of each other.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<Known>);

#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Ids that were acked, with their queues.
    pub(crate) ids: Vec<(&'static str, MessageId)>,
    /// Posts with keys.
    pub(crate) keys: Vec<posting::Post>,
    /// Markers that were given, with their queues.
    pub(crate) markers: Vec<(&'static str, Marker)>,
    walks: u64,
}

impl Shared {
    pub(crate) fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a new walk.
    pub(crate) fn walk(&self) -> u64 {
        let mut known = self.known();
        known.walks += 1;
        known.walks
    }
}

/// A client's turn.
struct Turn<'a> {
    world: &'a World,
    shared: &'a Shared,
    process: &'a Process,
    name: &'a str,
    rng: &'a mut Rng,
}

impl Turn<'_> {
    fn recorder(&self) -> &Recorder {
        &self.world.recorder
    }

    fn queue(&self, name: &str) -> Queue {
        self.process.queue(name)
    }
}

/// What a client keeps from one turn to the next.
#[derive(Debug, Default)]
struct State {
    /// Messages posted so far.
    posted: u64,
    walk: Option<reading::Walk>,
}

/// Works until the end.
pub(crate) async fn work(
    world: Arc<World>,
    shared: Arc<Shared>,
    kind: Kind,
    place: usize,
    number: usize,
) {
    let seed = world.plan.seed.wrapping_mul(7_919).wrapping_add(number as u64);
    let mut rng = Rng::with_seed(seed);
    let mut state = State::default();
    let name = format!("{kind:?}-{number}").to_lowercase();
    while !world.is_over() {
        let pace = match kind {
            Kind::Administrate => 20 * world.plan.pace,
            _ => world.plan.pace,
        };
        // What is wanted is many runs, rather than long ones.
        let pace = pace * world.recorder.pace(world.plan.calls);
        sleep(Duration::from_millis(rng.u64(1..2 * pace))).await;
        let Some(process) = world.process(place).filter(|process| !process.life.is_over()) else {
            continue;
        };
        let turn =
            Turn { world: &world, shared: &shared, process: &process, name: &name, rng: &mut rng };
        let step = async {
            match kind {
                Kind::Produce => posting::produce(turn, &mut state, number).await,
                Kind::Read => reading::read(turn, &mut state.walk).await,
                Kind::Claim => claiming::claim(turn).await,
                Kind::Delete => rest::delete(turn).await,
                Kind::Look => rest::look(turn).await,
                Kind::Administrate => rest::administrate(turn).await,
            }
        };
        tokio::select! {
            biased;
            () = process.life.ended() => {}
            () = step => {}
        }
    }
}

//! A run: starts servers, services and workers, lets rounds and faults go their way, and puts
//! together what they came to.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use roundelay::Store;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::client::Failure;
use super::crew::Crew;
use super::faults::{Fault, carry_out};
use super::round::{Judged, Round};
use super::servers::Server;
use super::services::Service;
use super::settle::Witness;
use super::timeline::TimeLine;
use super::worker::Settings;
use super::{Attended, Origin, Plan, Progress};
use crate::oracles::Breach;

/// What all parts of a run share.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) plan: Plan,
    pub(crate) origin: Origin,
    // Ended in this order, so that nobody complains of servers that are gone.
    pub(crate) crews: Vec<Crew>,
    pub(crate) services: Arc<Vec<Service>>,
    pub(crate) servers: Vec<Server>,
    pub(crate) progress: Arc<Progress>,
    line: Mutex<TimeLine>,
    failures: Mutex<BTreeMap<Failure, u64>>,
    /// Lists, looks and deletes that failed and were made again.
    repeated: Mutex<BTreeMap<Failure, u64>>,
    queues: Mutex<Vec<String>>,
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) rounds: Vec<Judged>,
    pub(crate) faults: Vec<Fault>,
    /// What was not mended in time, after which there were no more faults.
    pub(crate) stuck: Option<String>,
    pub(crate) line: TimeLine,
    /// Posts that failed, counted by how.
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// The same of other calls over HTTP.
    pub(crate) repeated: BTreeMap<Failure, u64>,
    /// How often services told that a node that had forgotten is empty and being filled again.
    pub(crate) admissions: u64,
}

impl Stage {
    pub(super) fn line(&self) -> MutexGuard<'_, TimeLine> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a post that failed.
    pub(super) fn note_failure(&self, failure: &Failure) {
        count(&self.failures, failure);
    }

    /// Notes another call that failed and is made again.
    pub(super) fn note_repeated(&self, failure: &Failure) {
        count(&self.repeated, failure);
    }

    /// Queues in which there may be messages.
    pub(super) fn open_queues(&self) -> Vec<String> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_queues(&self, change: impl FnOnce(&mut Vec<String>)) {
        change(&mut self.queues.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn count(failures: &Mutex<BTreeMap<Failure, u64>>, failure: &Failure) {
    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
    *failures.entry(failure.clone()).or_default() += 1;
}

/// Runs it. What was seen is left in the folder for logs.
pub(crate) async fn run(plan: Plan, progress: &Arc<Progress>) -> Result<Outcome, String> {
    std::fs::remove_dir_all(&plan.logs).ok();
    std::fs::create_dir_all(&plan.logs).map_err(|error| error.to_string())?;
    let mut servers = Vec::new();
    for _ in 0..plan.servers {
        servers.push(Server::start().await?);
    }
    let nodes: Vec<String> = servers.iter().map(Server::url).collect();
    let builder = Store::builder().copies(plan.copies).copies_min(2);
    let builder = nodes.iter().fold(builder, |builder, url| builder.node(url));
    let store = builder.open().await.map_err(|error| format!("the store: {error:?}"))?;
    let mut services = Vec::new();
    for number in 1..=plan.services {
        let log = plan.logs.join(format!("service-{number}.log"));
        services.push(Service::start(&nodes, plan.copies, &plan.log, log).await?);
    }
    let origin = Origin::now();
    let mut crews = Vec::new();
    for crew in 0..plan.crews as u64 {
        let settings = Settings {
            nodes: nodes.clone(),
            copies: plan.copies,
            crew,
            start: 0,
            seed: plan.seed,
            epoch_ms: origin.epoch_ms,
        };
        crews.push(Crew::start(settings, &plan.again, &plan.log, &plan.logs).await?);
    }
    let stage = Arc::new(Stage {
        plan,
        origin,
        crews,
        services: Arc::new(services),
        servers,
        progress: Arc::clone(progress),
        line: Mutex::default(),
        failures: Mutex::default(),
        repeated: Mutex::default(),
        queues: Mutex::default(),
    });
    let witness = Witness { store: store.clone(), nodes };
    let faults = Attended::spawn(carry_out(Arc::clone(&stage), witness));
    let faults = async { faults.end().await? };
    let ((faults, stuck), rounds) = tokio::try_join!(faults, rounds(&stage))?;
    store.close().await;
    let line = std::mem::take(&mut *stage.line());
    let counted = |failures: &Mutex<BTreeMap<Failure, u64>>| {
        failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    };
    Ok(Outcome {
        rounds,
        faults,
        stuck,
        line,
        failures: counted(&stage.failures),
        repeated: counted(&stage.repeated),
        admissions: admissions(&stage.services),
    })
}

/// One round after the other, each judged while the next one goes on, but no more than that: on a busy
/// machine a round waits for the last but one, and nothing is posted meanwhile.
async fn rounds(stage: &Arc<Stage>) -> Result<Vec<Judged>, String> {
    let mut judged = Vec::new();
    let mut running: VecDeque<Attended<Result<Judged, String>>> = VecDeque::new();
    let until = stage.origin.at + stage.plan.lasts;
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        while running.len() >= 2
            && let Some(round) = running.pop_front()
        {
            judged.push(round.end().await??);
        }
        let round = Arc::new(Round::new(stage, number));
        let stage = Arc::clone(stage);
        let (tell, posted) = oneshot::channel();
        running.push_back(Attended::spawn(async move {
            let queues = [round.events.clone(), round.jobs.clone()];
            let judged = Arc::clone(&round);
            stage.change_queues(|open| open.extend(queues.iter().cloned()));
            let judged = judged.run(tell).await;
            stage.change_queues(|open| open.retain(|queue| !queues.contains(queue)));
            judged.map_err(|error| format!("round {}: {error}", round.number))
        }));
        // If it failed, its end tells.
        posted.await.ok();
    }
    for round in running {
        judged.push(round.end().await??);
    }
    Ok(judged)
}

/// Lines of the services' logs that tell of a node that had forgotten.
fn admissions(services: &[Service]) -> u64 {
    let lines = |service: &Service| {
        let text = std::fs::read_to_string(service.log()).unwrap_or_default();
        text.lines().filter(|line| line.contains("admitted")).count() as u64
    };
    services.iter().map(lines).sum()
}

impl Outcome {
    /// Calls over HTTP that failed and were not to be repeated, with how often.
    fn for_good(&self) -> impl Iterator<Item = (&Failure, &u64)> {
        let all = self.failures.iter().chain(&self.repeated);
        all.filter(|(failure, _)| !failure.is_retryable)
    }

    /// How many there were.
    pub(crate) fn failed_for_good(&self) -> u64 {
        self.for_good().map(|(_, times)| times).sum()
    }

    /// All promises that were broken, for people.
    pub(crate) fn breaches(&self) -> Vec<String> {
        let of_round = |judged: &Judged| {
            let round = judged.round;
            let told = |breach: &Breach| format!("round {round}: {breach}");
            judged.breaches.iter().map(told).collect::<Vec<_>>()
        };
        let mut all: Vec<String> = self.rounds.iter().flat_map(of_round).collect();
        all.extend(self.for_good().map(|(failure, times)| {
            format!("{times} calls failed and were not to be repeated: {}", failure.error)
        }));
        all.extend(self.stuck.iter().map(|stuck| format!("not mended: {stuck}")));
        all
    }
}

//! The hazard of posts: four processes post and two readers follow, while servers fail.

use std::sync::Arc;
use std::time::Duration;

use roundelay::Metadata;
use tokio::sync::watch;
use tokio::time::Instant;

use super::faults::{Fault, Schedule};
use super::post_checker::{Breach, check};
use super::posters::{Posted, post};
use super::readers::{Walk, follow};
use super::stalls::{Stall, quiet, stalls};
use super::{Attended, Hazard, SERVERS, Shared, queue};
use crate::redis_server::RedisServer;

const POSTERS: u64 = 4;
/// Page sizes of those who follow: one that fits nothing, and a large one.
const PAGES: [usize; 2] = [7, 100];
const LAST_PAGE: usize = 1000;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Posting {
    pub(crate) acked: u64,
    /// Posts that failed for certain, and those of which nobody knows.
    pub(crate) refused: (u64, u64),
    /// What each reader listed, and calls of it that failed and were made again.
    pub(crate) listed: Vec<(String, usize, u64)>,
    pub(crate) stalls: Vec<Stall>,
    /// The longest gap before the first fault.
    pub(crate) quiet: Duration,
    pub(crate) breaches: Vec<Breach>,
}

/// Runs it. What was seen is left in the folder for logs.
pub(crate) async fn run(hazard: &Hazard, progress: &Shared) -> Result<Posting, String> {
    let servers = servers().await;
    let nodes: Vec<String> = servers.iter().map(RedisServer::url).collect();
    let witness = hazard.store(&nodes).await?;
    let created = queue(&witness).create(&Metadata::default()).await;
    created.map_err(|error| format!("no queue: {error:?}"))?;

    let (finish, over) = watch::channel(false);
    let mut readers = Vec::new();
    for page in PAGES {
        let store = hazard.store(&nodes).await?;
        let name = format!("reader of {page}");
        readers.push(Attended::spawn(follow(store, page, hazard.seed, name, over.clone())));
    }
    let schedule = Schedule::of(hazard);
    let pace = hazard.pace(POSTERS, &schedule);
    let origin = Instant::now();
    let mut posters = Vec::new();
    for producer in 1..=POSTERS {
        let count = hazard.messages / POSTERS;
        let (hazard, nodes, progress) = (hazard.clone(), nodes.clone(), Arc::clone(progress));
        posters.push(Attended::spawn(post(hazard, nodes, producer, count, pace, origin, progress)));
    }
    let faults = schedule
        .carry_out(Arc::clone(&servers), witness.clone(), origin, Arc::clone(progress))
        .await?;
    let mut posted = Vec::new();
    for poster in posters {
        posted.push(poster.end().await??);
    }
    finish.send_replace(true);
    let mut walks = Vec::new();
    for reader in readers {
        walks.push(reader.end().await?);
    }
    // What was repaired must be whole as well: once more from the start, by a newcomer.
    let newcomer = hazard.store(&nodes).await?;
    walks.push(follow(newcomer, LAST_PAGE, hazard.seed, "reader after".into(), over).await);
    witness.close().await;
    leave(hazard, &faults, &posted, &walks)?;
    Ok(judge(&faults, &posted, &walks))
}

pub(super) async fn servers() -> Arc<Vec<RedisServer>> {
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(RedisServer::start().await);
    }
    Arc::new(servers)
}

fn judge(faults: &[Fault], posted: &[Posted], walks: &[Walk]) -> Posting {
    let acks: Vec<Duration> = posted.iter().flat_map(|p| &p.acked).map(|acked| acked.at).collect();
    let refused = |unknown: bool| {
        let refused = posted.iter().flat_map(|p| &p.refused);
        refused.filter(|refused| refused.unknown == unknown).count() as u64
    };
    let listed = |walk: &Walk| (walk.name.clone(), walk.seen.len(), walk.complaints.count());
    Posting {
        acked: acks.len() as u64,
        refused: (refused(false), refused(true)),
        listed: walks.iter().map(listed).collect(),
        stalls: stalls(faults, &acks),
        quiet: quiet(faults, &acks),
        breaches: check(posted, walks),
    }
}

fn leave(
    hazard: &Hazard,
    faults: &[Fault],
    posted: &[Posted],
    walks: &[Walk],
) -> Result<(), String> {
    leave_faults(hazard, faults)?;
    for Posted { producer, acked, refused, said, .. } in posted {
        let acked = acked.iter().map(|a| format!("{:9.3} {} {}", a.at.as_secs_f64(), a.seq, a.id));
        hazard.leave(&format!("poster-{producer}.acked"), acked)?;
        let refused = refused.iter().map(|r| {
            let outcome = if r.unknown { "unknown" } else { "not applied" };
            format!("{:9.3} {} {outcome}: {}", r.at.as_secs_f64(), r.seq, r.error)
        });
        hazard.leave(&format!("poster-{producer}.refused"), refused)?;
        hazard.leave(&format!("poster-{producer}.log"), said.iter().cloned())?;
    }
    for walk in walks {
        let name = walk.name.replace(' ', "-");
        let seen = walk.seen.iter().map(|seen| match seen.event {
            Some((event, intact)) => format!("{} {event} intact {intact}", seen.id),
            None => format!("{} unknown", seen.id),
        });
        hazard.leave(&format!("{name}.seen"), seen)?;
        let said = walk.complaints.lines().chain(walk.failures.iter().cloned());
        hazard.leave(&format!("{name}.log"), said)?;
    }
    Ok(())
}

pub(super) fn leave_faults(hazard: &Hazard, faults: &[Fault]) -> Result<(), String> {
    let told = faults.iter().map(|Fault { server, began, ended }| {
        let (began, ended) = (began.as_secs_f64(), ended.as_secs_f64());
        format!("{began:9.3} to {ended:9.3} {} server {server}", hazard.kind)
    });
    hazard.leave("faults", [hazard.to_string()].into_iter().chain(told))
}

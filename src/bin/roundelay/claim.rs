//! `roundelay claim`: claim messages, renew a claim, release it.

use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use roundelay::http::dead_letters;
use roundelay::{Claim, ClaimId, ClaimOptions, ErrorKind, Queue, Store};
use serde::Serialize;

use crate::failure::{Failure, described};
use crate::lines::{self, MessageLine, Reader};
use crate::retry::{self, retry};
use crate::settings::{QueueArgs, Settings, usage};

#[derive(Debug, clap::Args)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    take: Take,
}

#[derive(Debug, clap::Args)]
struct Take {
    /// The project that the queue belongs to
    #[arg(long, default_value = "", env = "ROUNDELAY_PROJECT", hide_default_value = true)]
    project: String,
    /// The queue
    // Required, and yet an option: a subcommand lifts the requirement.
    #[arg(long, value_name = "NAME", required = true)]
    queue: Option<String>,
    /// Messages to claim at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    limit: usize,
    /// How long to wait for messages if there are none, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(flatten)]
    times: Times,
    /// Delete each message once it has been printed
    #[arg(long)]
    delete: bool,
}

#[derive(Debug, clap::Args)]
struct Times {
    /// How long the messages are kept from others, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    ttl: u64,
    /// How long the messages live beyond the claim, at least, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    grace: u64,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Restart a claim's time
    Renew {
        #[command(flatten)]
        queue: QueueArgs,
        #[command(flatten)]
        times: Times,
        /// The claim
        id: String,
    },
    /// Give a claim's messages back
    Release {
        #[command(flatten)]
        queue: QueueArgs,
        /// The claim
        id: String,
    },
}

#[derive(Serialize)]
struct Claimed {
    claim: String,
    messages: Vec<MessageLine>,
}

pub(crate) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let Args { action, take } = args;
    match action {
        Some(Action::Renew { queue, times, id }) => {
            let id = id.parse::<ClaimId>().map_err(usage)?;
            let store = settings.open().await?;
            let queue = queue.of(&store)?;
            let (ttl, grace) = (seconds(times.ttl), seconds(times.grace));
            retry(retry::USUAL, || queue.renew(&id, ttl, grace)).await?;
            store.close().await;
        }
        Some(Action::Release { queue, id }) => {
            let id = id.parse::<ClaimId>().map_err(usage)?;
            let store = settings.open().await?;
            let queue = queue.of(&store)?;
            retry(retry::USUAL, || queue.release(&id)).await?;
            store.close().await;
        }
        None => {
            let Take { project, queue, .. } = &take;
            let queue = queue.clone().unwrap_or_default();
            let queue = QueueArgs { project: project.clone(), queue };
            let reader = queue.reader(settings).await?;
            let store = settings.open().await?;
            let queue = queue.of(&store)?;
            let taken = take_messages(&store, &queue, &take, &reader).await;
            store.close().await;
            taken?;
        }
    }
    Ok(())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn take_messages(
    store: &Store,
    queue: &Queue,
    take: &Take,
    reader: &Reader,
) -> Result<(), Failure> {
    let options = ClaimOptions {
        ttl: seconds(take.times.ttl),
        grace: seconds(take.times.grace),
        limit: take.limit,
    };
    let metadata = retry(retry::USUAL, || queue.recent_metadata()).await?;
    // As the service does: what was claimed too often goes where the queue's metadata say.
    let letters = metadata.and_then(|metadata| {
        let keys = Arc::clone(&reader.keys);
        dead_letters(store, &reader.project, &reader.queue, &metadata, keys)
    });
    let claim = || queue.claim_waiting(&options, letters.as_ref(), seconds(take.wait));
    let Some(mut claim) = retry(retry::USUAL, claim).await? else {
        return Ok(());
    };
    let messages: Vec<_> = claim.messages.iter().map(|message| reader.line(message)).collect();
    let mut whole = messages.iter().map(MessageLine::is_whole);
    // What was not shown was not given to anybody.
    claim.messages.retain(|_| whole.next().unwrap_or(false));
    let all = claim.messages.len() == messages.len();
    lines::print(&Claimed { claim: claim.id.to_string(), messages })?;
    if take.delete {
        delete(queue, &claim).await?;
    }
    if all { Ok(()) } else { Err(Failure::Reported) }
}

/// Only after they were printed: until then nobody has them.
async fn delete(queue: &Queue, claim: &Claim) -> Result<(), Failure> {
    let mut failed = false;
    for message in &claim.messages {
        let deleted = retry(retry::USUAL, || queue.delete_message(&message.id, Some(&claim.id)));
        match deleted.await {
            Ok(_) => {}
            Err(error) => {
                failed = true;
                eprintln!("roundelay: {} was not deleted: {}", message.id, described(&error));
                if error.kind() == ErrorKind::ClaimNotFound {
                    break;
                }
            }
        }
    }
    if failed { Err(Failure::Reported) } else { Ok(()) }
}

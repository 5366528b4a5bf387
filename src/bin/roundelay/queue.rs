//! `roundelay queue`: create, delete, list and look at queues.

use clap::Subcommand;
use roundelay::{Metadata, QueueName, Store};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::failure::Failure;
use crate::lines::{self, MessageLine};
use crate::retry::{self, retry};
use crate::settings::{QueueArgs, Settings, project, usage};

/// Queues asked for at once.
const PAGE: usize = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a queue; prints whether it is new
    Create {
        #[command(flatten)]
        queue: QueueArgs,
        /// Its metadata: a JSON object
        #[arg(long, value_name = "JSON", default_value = "{}", hide_default_value = true)]
        metadata: String,
    },
    /// Delete a queue with all its messages; prints whether there was one
    Delete(QueueArgs),
    /// Print the queues of a project by name, one a line
    List {
        /// The project
        #[arg(long, default_value = "", env = "ROUNDELAY_PROJECT", hide_default_value = true)]
        project: String,
    },
    /// Print how many messages a queue has, with the oldest and the newest
    Stats(QueueArgs),
    /// Print a queue's metadata
    Show(QueueArgs),
}

#[derive(Serialize)]
struct QueueLine<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Stats {
    active: u64,
    claimed: u64,
    delayed: u64,
    total: u64,
    oldest: Option<MessageLine>,
    newest: Option<MessageLine>,
}

pub(crate) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let metadata = match &args.action {
        Action::Create { metadata, .. } => Some(parsed(metadata)?),
        _ => None,
    };
    let store = settings.open().await?;
    let done = act(settings, &store, &args.action, metadata.unwrap_or_default()).await;
    store.close().await;
    done
}

fn parsed(metadata: &str) -> Result<Metadata, Failure> {
    match serde_json::from_str::<Map<String, Value>>(metadata) {
        Ok(_) => Metadata::new(metadata).map_err(usage),
        Err(error) => Err(Failure::Usage(format!("--metadata must be a JSON object: {error}"))),
    }
}

async fn act(
    settings: &Settings,
    store: &Store,
    action: &Action,
    metadata: Metadata,
) -> Result<(), Failure> {
    match action {
        Action::Create { queue, .. } => {
            let queue = queue.of(store)?;
            let created = retry(retry::USUAL, || queue.create(&metadata)).await?;
            lines::print(&json!({ "created": created }))?;
        }
        Action::Delete(queue) => {
            let queue = queue.of(store)?;
            let deleted = retry(retry::USUAL, || queue.delete()).await?;
            lines::print(&json!({ "deleted": deleted }))?;
        }
        Action::List { project } => list(store, project).await?,
        Action::Stats(queue) => {
            let reader = queue.reader(settings).await?;
            let queue = queue.of(store)?;
            let stats = retry(retry::USUAL, || queue.stats()).await?;
            lines::print(&Stats {
                active: stats.active,
                claimed: stats.claimed,
                delayed: stats.delayed,
                total: stats.total(),
                oldest: stats.oldest.as_ref().map(|message| reader.line(message)),
                newest: stats.newest.as_ref().map(|message| reader.line(message)),
            })?;
        }
        Action::Show(queue) => {
            let name = &queue.queue;
            let queue = queue.of(store)?;
            let metadata = retry(retry::USUAL, || queue.metadata()).await?;
            lines::print(&QueueLine { name, metadata: readable(&metadata) })?;
        }
    }
    Ok(())
}

async fn list(store: &Store, name: &str) -> Result<(), Failure> {
    let project = project(name)?;
    let mut after: Option<QueueName> = None;
    loop {
        let page = retry(retry::USUAL, || store.queues(&project, after.as_ref(), PAGE)).await?;
        let Some((last, _)) = page.queues.last() else {
            return Ok(());
        };
        for (name, metadata) in &page.queues {
            lines::print(&QueueLine { name: name.as_str(), metadata: readable(metadata) })?;
        }
        after = Some(last.clone());
    }
}

/// Metadata as JSON; those that a program keeps in another form are not shown.
fn readable(metadata: &Metadata) -> Option<&RawValue> {
    serde_json::from_slice(metadata.as_bytes()).ok()
}

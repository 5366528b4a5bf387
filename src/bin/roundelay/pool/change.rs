//! `roundelay pool init`, `add`, `drain`, `remove`.

use std::sync::Arc;
use std::time::Duration;

use roundelay::node::redis::RedisNode;
use roundelay::{Bargain, Remaining, Removal, Store, Verdict};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::progress::Progress;
use super::{Output, check, status};
use crate::failure::Failure;
use crate::lines;
use crate::settings::{Settings, usage};

/// How often it is looked how far a drain is; a look that takes long is followed by a longer pause.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// The new node: a redis://, rediss:// or unix:// URL
    url: String,
    /// How long it may take until it is up, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    wait: u64,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Drain {
    /// The node: its number, or its address as `pool status` shows it
    node: String,
    /// Use the node again instead
    #[arg(long, conflicts_with_all = ["detach", "fewer_copies"])]
    cancel: bool,
    /// Do not wait until it is empty: services go on with it
    #[arg(long)]
    detach: bool,
    /// Even if too few nodes are left for all copies
    #[arg(long)]
    fewer_copies: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// The node: its number, or its address as `pool status` shows it
    node: String,
    /// Only say what it would cost
    #[arg(long)]
    dry_run: bool,
    /// Even if messages are left with too few copies, until they are repaired
    #[arg(long)]
    fewer_copies: bool,
    /// Even if messages are lost
    #[arg(long)]
    lose_messages: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn init(settings: &Settings, output: Output) -> Result<(), Failure> {
    let findings = settings.examine().await?;
    let bad: Vec<_> =
        findings.into_iter().filter(|finding| finding.verdict == Verdict::Problem).collect();
    if !bad.is_empty() {
        check::print(&bad, output)?;
        return Err(Failure::Reported);
    }
    let store = settings.open().await?;
    let health = store.admin().health().await;
    let now = store.status();
    store.close().await;
    status::print(&now, &health?, output)
}

pub(super) async fn add(settings: &Settings, args: Add) -> Result<(), Failure> {
    let node = Arc::new(RedisNode::connect(&args.url).map_err(usage)?);
    let store = settings.open().await?;
    let mut progress = Progress::new();
    progress.at(0, 1, "the node is being admitted".to_owned());
    let added = store.admin().add(node, Duration::from_secs(args.wait)).await;
    progress.end();
    store.close().await;
    let id = added?;
    match args.output.json {
        true => lines::print(&json!({"node": id, "up": true}))?,
        false => println!(
            "node {id} is up and takes new segments; name it among the nodes of services that \
             start from now on"
        ),
    }
    Ok(())
}

pub(super) async fn drain(settings: &Settings, args: Drain) -> Result<(), Failure> {
    let store = settings.open().await?;
    let ended = drain_on(&store, &args).await;
    store.close().await;
    ended
}

async fn drain_on(store: &Store, args: &Drain) -> Result<(), Failure> {
    let admin = store.admin();
    let node = admin.find(&args.node).await.map_err(usage)?;
    if args.cancel {
        let was = admin.cancel_drain(node).await?;
        match args.output.json {
            true => lines::print(&json!({"node": node, "draining": false, "was_draining": was}))?,
            false if was => println!("node {node} is used again"),
            false => println!("node {node} was not being emptied"),
        }
        return Ok(());
    }
    let bargain = if args.fewer_copies { Bargain::FewerCopies } else { Bargain::Nothing };
    let mut drain = admin.drain(node, bargain).await?;
    if args.detach {
        match args.output.json {
            true => lines::print(&json!({"node": node, "draining": true}))?,
            false => println!("node {node} is being emptied; run this again to see how far it is"),
        }
        return Ok(());
    }
    let mut progress = Progress::new();
    let mut most = Remaining::default();
    loop {
        let began = Instant::now();
        let left = match drain.remaining().await {
            Ok(left) => left,
            // What is moved is moved whether or not it can be counted now.
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, "how much is left cannot be told now");
                sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        most.replicas = most.replicas.max(left.replicas);
        most.messages = most.messages.max(left.messages);
        if args.output.json {
            lines::print(&as_json(node, &left))?;
        } else {
            let moved = most.replicas - left.replicas.min(most.replicas);
            progress.at(moved, most.replicas, said(node, &left, &most));
        }
        if left.done {
            break;
        }
        sleep(LOOK.max(began.elapsed() * 4)).await;
    }
    progress.end();
    if !args.output.json {
        println!(
            "node {node} is empty: it can be stopped, or removed (roundelay pool remove {node})"
        );
    }
    Ok(())
}

fn as_json(node: u16, left: &Remaining) -> Value {
    json!({
        "node": node, "replicas": left.replicas, "open_segments": left.open_segments,
        "messages": left.messages, "keeper": left.keeper, "blocked": left.blocked,
        "done": left.done,
    })
}

fn said(node: u16, left: &Remaining, most: &Remaining) -> String {
    let moved = most.messages.saturating_sub(left.messages);
    let mut text = format!(
        "node {node}: {} of {} replicas left, {moved} of {} messages moved",
        left.replicas, most.replicas, most.messages
    );
    if left.keeper {
        text.push_str(", it still keeps manifests");
    }
    if let Some(why) = &left.blocked {
        text.push_str(&format!("; stuck: {why}"));
    }
    text
}

pub(super) async fn remove(settings: &Settings, args: Remove) -> Result<(), Failure> {
    let store = settings.open().await?;
    let ended = remove_from(&store, &args).await;
    store.close().await;
    ended
}

async fn remove_from(store: &Store, args: &Remove) -> Result<(), Failure> {
    let admin = store.admin();
    let node = admin.find(&args.node).await.map_err(usage)?;
    let removal = admin.removal(node).await?;
    tell(&removal, args.output)?;
    if args.dry_run {
        return Ok(());
    }
    let bargain = match (args.lose_messages, args.fewer_copies) {
        (true, _) => Bargain::LostMessages,
        (false, true) => Bargain::FewerCopies,
        (false, false) => Bargain::Nothing,
    };
    let removed = admin.remove(node, bargain).await?;
    if args.output.json {
        return Ok(lines::print(&json!({"node": node, "removed": true}))?);
    }
    println!("node {node} ({}) is removed; empty it before it is added anywhere", removed.name);
    Ok(())
}

/// Says what a removal costs, before it is done.
fn tell(removal: &Removal, output: Output) -> Result<(), Failure> {
    if output.json {
        return Ok(lines::print(&json!({
            "node": removal.node, "name": removal.name, "draining": removal.draining,
            "replicas": removal.replicas, "segments_thin": removal.segments_thin,
            "messages_thin": removal.messages_thin, "segments_lost": removal.segments_lost,
            "messages_lost": removal.messages_lost, "queues_lost": removal.queues_lost,
        }))?);
    }
    println!(
        "node {} ({}) has {} replicas; without it {} messages ({} segments) have too few copies, \
         and {} messages ({} segments) are lost",
        removal.node,
        removal.name,
        removal.replicas,
        removal.messages_thin,
        removal.segments_thin,
        removal.messages_lost,
        removal.segments_lost
    );
    if !removal.queues_lost.is_empty() {
        println!("lost would be messages of: {}", removal.queues_lost.join(", "));
    }
    Ok(())
}

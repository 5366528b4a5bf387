//! `roundelay pool status`: how the pool does, as of now, with an exit code for scripts.

use std::io::Write as _;
use std::time::Duration;

use roundelay::{NodeHealth, PoolHealth, PoolStatus, Store};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Output;
use crate::failure::Failure;
use crate::lines;
use crate::settings::Settings;

/// How often it is looked at while it is waited for.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Wait up to so long until all is well, in seconds
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let wait = Duration::from_secs(args.wait.unwrap_or(0));
    let deadline = Instant::now() + wait;
    let store = loop {
        match settings.open().await {
            Err(Failure::Failed(_)) if Instant::now() < deadline => sleep(LOOK).await,
            opened => break opened?,
        }
    };
    let ended = until_healthy(&store, deadline).await;
    let status = store.status();
    store.close().await;
    let health = ended?;
    print(&status, &health, args.output)?;
    match health.healthy {
        true => Ok(()),
        false => Err(Failure::Reported),
    }
}

async fn until_healthy(store: &Store, deadline: Instant) -> Result<PoolHealth, Failure> {
    loop {
        let health = store.admin().health().await;
        let is_well = health.as_ref().is_ok_and(|health| health.healthy);
        if is_well || Instant::now() >= deadline {
            return Ok(health?);
        }
        sleep(LOOK).await;
    }
}

/// Prints the nodes, and how the pool does.
pub(super) fn print(
    status: &PoolStatus,
    health: &PoolHealth,
    output: Output,
) -> Result<(), Failure> {
    if output.json {
        return Ok(lines::print(&as_json(status, health))?);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(as_text(status, health).as_bytes())?;
    Ok(out.flush()?)
}

fn as_json(status: &PoolStatus, health: &PoolHealth) -> Value {
    let node = |of: &NodeHealth| {
        let (node, (used, limit)) = (&of.node, of.node.memory);
        json!({
            "id": node.id, "name": node.name, "incarnation": node.incarnation,
            "health": node.health, "keeper": node.keeper, "draining": node.draining,
            "replicas": of.replicas, "memory_used": used, "memory_limit": limit,
            "version": node.version,
        })
    };
    json!({
        "pool": status.pool,
        "healthy": health.healthy,
        "troubles": health.troubles,
        "keeper_epoch": status.keeper_epoch,
        "repairer": health.repairer,
        "queues": health.queues,
        "segments": health.segments,
        "segments_under_replicated": health.segments_under_replicated,
        "segments_thin": health.segments_thin,
        "segments_lost": health.segments_lost,
        "nodes": health.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn as_text(status: &PoolStatus, health: &PoolHealth) -> String {
    let mut text = format!("pool {}, keeper epoch {}\n", status.pool, status.keeper_epoch);
    text.push_str(&table(&health.nodes));
    let repairer = health.repairer.as_deref().unwrap_or("nobody yet");
    text.push_str(&format!(
        "{} queues, {} segments, {} short of copies; process {repairer} repairs\n",
        health.queues, health.segments, health.segments_under_replicated
    ));
    if health.segments_lost > 0 {
        text.push_str(&format!(
            "LOST: {} segments, with every node that had them\n",
            health.segments_lost
        ));
    }
    for trouble in &health.troubles {
        text.push_str(&format!("- {trouble}\n"));
    }
    text.push_str(if health.healthy { "healthy\n" } else { "not healthy\n" });
    text
}

fn table(nodes: &[NodeHealth]) -> String {
    let heads = ["NODE", "ADDRESS", "HEALTH", "KEEPER", "LIFE", "REPLICAS", "MEMORY", "VERSION"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(nodes.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..heads.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(of: &NodeHealth) -> [String; 8] {
    let node = &of.node;
    let (used, limit) = node.memory;
    let memory = match limit {
        0 => mebibytes(used),
        limit => format!("{} of {}", mebibytes(used), mebibytes(limit)),
    };
    let health = match node.draining {
        true => format!("{}, draining", node.health),
        false => node.health.clone(),
    };
    let keeper = if node.keeper { "yes" } else { "no" };
    [
        node.id.to_string(),
        node.name.clone(),
        health,
        keeper.to_owned(),
        node.incarnation.to_string(),
        of.replicas.to_string(),
        memory,
        node.version.clone(),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

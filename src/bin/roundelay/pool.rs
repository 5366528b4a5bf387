//! `roundelay pool`: what a process sees of the pool.

use std::io::Write as _;

use clap::Subcommand;
use roundelay::{NodeStatus, PoolStatus};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::lines;
use crate::settings::Settings;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the nodes and how they are
    Status {
        /// As one line of JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let Action::Status { json } = args.action;
    let store = settings.open().await?;
    let status = store.status();
    store.close().await;
    if json {
        return Ok(lines::print(&as_json(&status))?);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(table(&status).as_bytes())?;
    Ok(out.flush()?)
}

fn as_json(status: &PoolStatus) -> Value {
    let node = |node: &NodeStatus| {
        let (used, limit) = node.memory;
        json!({
            "id": node.id, "name": node.name, "incarnation": node.incarnation,
            "health": node.health, "keeper": node.keeper, "memory_used": used,
            "memory_limit": limit, "version": node.version,
        })
    };
    json!({
        "pool": status.pool,
        "keeper_epoch": status.keeper_epoch,
        "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

fn table(status: &PoolStatus) -> String {
    let heads = ["NODE", "ADDRESS", "HEALTH", "KEEPER", "LIFE", "MEMORY", "VERSION"];
    let mut rows = vec![heads.map(str::to_owned)];
    rows.extend(status.nodes.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..heads.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = format!("pool {}, keeper epoch {}\n", status.pool, status.keeper_epoch);
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn row(node: &NodeStatus) -> [String; 7] {
    let (used, limit) = node.memory;
    let memory = match limit {
        0 => mebibytes(used),
        limit => format!("{} of {}", mebibytes(used), mebibytes(limit)),
    };
    let keeper = if node.keeper { "yes" } else { "no" };
    [
        node.id.to_string(),
        node.name.clone(),
        node.health.clone(),
        keeper.to_owned(),
        node.incarnation.to_string(),
        memory,
        node.version.clone(),
    ]
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

//! `roundelay list`: messages as JSON lines.

use std::time::Duration;

use roundelay::{ErrorKind, ListOptions, MAX_BATCH, Marker, Queue};
use serde_json::json;

use crate::failure::{Failure, described};
use crate::lines::{self, Reader};
use crate::retry::{self, retry};
use crate::settings::{QueueArgs, Settings, usage};

/// How long one call waits for more messages.
const FOLLOW: Duration = Duration::from_secs(30);
/// Losses told one after the other before giving up; each lost part is told once.
const MOST_LOSSES: usize = 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    queue: QueueArgs,
    /// Start behind this marker [default: at the oldest message]
    #[arg(long)]
    marker: Option<String>,
    /// Messages to print at most [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Messages to ask for at once
    #[arg(long, value_name = "N", default_value_t = 500)]
    page: usize,
    /// Wait for more messages at the end
    #[arg(long)]
    follow: bool,
    /// Print claimed messages too
    #[arg(long)]
    include_claimed: bool,
    /// Print messages too whose delay has not passed
    #[arg(long)]
    include_delayed: bool,
    /// Print the last marker as the last line, as {"marker": "…"}, instead of on standard error
    #[arg(long)]
    print_marker: bool,
}

/// How far a listing has come.
struct Walk {
    options: ListOptions,
    left: usize,
    page: usize,
    lost: usize,
    reader: Reader,
    /// Messages whose bodies could not be shown.
    unread: usize,
}

pub(crate) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    if args.page == 0 || args.page > MAX_BATCH {
        return Err(Failure::Usage(format!("--page must be from 1 to {MAX_BATCH}")));
    }
    let marker = args.marker.as_deref().map(str::parse::<Marker>).transpose().map_err(usage)?;
    let reader = args.queue.reader(settings).await?;
    let store = settings.open().await?;
    let queue = args.queue.of(&store)?;
    let options = ListOptions {
        marker,
        include_claimed: args.include_claimed,
        include_delayed: args.include_delayed,
        ..ListOptions::default()
    };
    let left = args.limit.unwrap_or(usize::MAX);
    let mut walk = Walk { options, left, page: args.page, lost: 0, reader, unread: 0 };
    tokio::select! {
        biased;
        // The marker is printed all the same, so that the next run can go on from here.
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        walked = walk.on(&queue, args.follow) => walked?,
    }
    let marker = walk.options.marker.as_ref().map(ToString::to_string);
    if args.print_marker {
        lines::print(&json!({ "marker": marker }))?;
    } else if let Some(marker) = marker {
        eprintln!("marker: {marker}");
    }
    store.close().await;
    if walk.lost + walk.unread == 0 { Ok(()) } else { Err(Failure::Reported) }
}

impl Walk {
    async fn on(&mut self, queue: &Queue, follow: bool) -> Result<(), Failure> {
        let wait = if follow { FOLLOW } else { Duration::ZERO };
        while self.left > 0 {
            self.options.limit = self.page.min(self.left);
            let list = || queue.list_waiting(&self.options, wait);
            let page = match retry(retry::USUAL, list).await {
                Ok(page) => page,
                Err(error) if error.kind() == ErrorKind::Lost && self.lost < MOST_LOSSES => {
                    self.lost += 1;
                    eprintln!("roundelay: {}", described(&error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for message in &page.messages {
                let line = self.reader.line(message);
                self.unread += usize::from(!line.is_whole());
                lines::print(&line)?;
            }
            self.left = self.left.saturating_sub(page.messages.len());
            if page.marker.is_some() {
                self.options.marker = page.marker;
            }
            if page.messages.is_empty() && !follow {
                break;
            }
        }
        Ok(())
    }
}

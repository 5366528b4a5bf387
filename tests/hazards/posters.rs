//! Who posts: processes of the command `roundelay post`, fed line by line at an even pace.
//!
//! A line is believed to be stored if its id was printed, and to be possibly stored if the process
//! said that the outcome is unknown. Posts are not tried again (`--retry-for 0`): a post repeated
//! by its caller comes after newer ones, and its first attempt is then checked to have left nothing.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep_until, timeout};

use super::events::{Origin, event};
use super::{Attended, Hazard, QUEUE, Shared};

/// How long a poster may take to end after its last line.
const LAST_WORDS: Duration = Duration::from_secs(30);

/// A line whose id was printed.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) seq: u64,
    pub(crate) id: String,
    /// When the line arrived, from the beginning of the run.
    pub(crate) at: Duration,
}

/// A line that was not posted, as the process says.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) seq: u64,
    pub(crate) error: String,
    /// Whether it may be stored all the same.
    pub(crate) unknown: bool,
    pub(crate) at: Duration,
}

/// What became of one process's lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Posted {
    pub(crate) producer: u64,
    /// Lines given to it: 1 to `sent`.
    pub(crate) sent: u64,
    pub(crate) acked: Vec<Acked>,
    pub(crate) refused: Vec<Refused>,
    /// What else it wrote on standard error.
    pub(crate) said: Vec<String>,
}

#[derive(Deserialize)]
struct AckLine {
    line: u64,
    id: String,
}

#[derive(Deserialize)]
struct RefusedLine {
    line: u64,
    error: String,
    outcome: String,
}

/// The command under test.
fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_roundelay"))
}

/// Posts `count` events, one each `pace`, and waits for what becomes of them.
pub(crate) async fn post(
    hazard: Hazard,
    nodes: Vec<String>,
    producer: u64,
    count: u64,
    pace: Duration,
    origin: Instant,
    progress: Shared,
) -> Result<Posted, String> {
    let mut child = start(&hazard, &nodes)?;
    let (input, output, errors) =
        match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(input), Some(output), Some(errors)) => (input, output, errors),
            _ => return Err("a poster without pipes".into()),
        };
    let acks = Attended::spawn(acks(output, origin, progress));
    let refusals = Attended::spawn(refusals(errors, origin));
    let sent = feed(input, &hazard, producer, count, pace, origin).await;
    let ended = timeout(LAST_WORDS, child.wait()).await;
    let ended = ended.map_err(|_| format!("poster {producer} does not end"))?;
    let status = ended.map_err(|error| error.to_string())?;
    let acked = acks.end().await??;
    let (refused, mut said) = refusals.end().await??;
    if !status.success() && refused.is_empty() {
        said.push(format!("it ended with {status}"));
    }
    Ok(Posted { producer, sent, acked, refused, said })
}

fn start(hazard: &Hazard, nodes: &[String]) -> Result<Child, String> {
    let mut command = Command::new(binary());
    command.args(["post", "--queue", QUEUE, "--no-create", "--retry-for", "0"]);
    command.args(["--log", &hazard.log, "--node", &nodes.join(",")]);
    command.args(["--copies", &hazard.copies.to_string()]);
    command.args(["--copies-min", &hazard.copies_min.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).env("NO_COLOR", "1");
    command.spawn().map_err(|error| format!("{}: {error}", binary().display()))
}

/// Writes the lines; returns how many were written before the process went away.
async fn feed(
    mut input: ChildStdin,
    hazard: &Hazard,
    producer: u64,
    count: u64,
    pace: Duration,
    origin: Instant,
) -> u64 {
    for seq in 1..=count {
        // Behind schedule, say because the process does not read: no wait until it is made up.
        sleep_until(origin + pace.mul_f64(seq as f64)).await;
        let line = event(hazard.seed, Origin { producer, seq }) + "\n";
        if input.write_all(line.as_bytes()).await.is_err() {
            return seq;
        }
    }
    count
}

async fn acks(
    output: impl AsyncRead + Unpin,
    origin: Instant,
    progress: Shared,
) -> Result<Vec<Acked>, String> {
    let mut lines = BufReader::new(output).lines();
    let mut acked = Vec::new();
    while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
        let at = origin.elapsed();
        let AckLine { line, id } = serde_json::from_str(&line)
            .map_err(|error| format!("a poster printed {line:?}: {error}"))?;
        acked.push(Acked { seq: line, id, at });
        progress.step();
    }
    Ok(acked)
}

async fn refusals(
    errors: impl AsyncRead + Unpin,
    origin: Instant,
) -> Result<(Vec<Refused>, Vec<String>), String> {
    let mut lines = BufReader::new(errors).lines();
    let (mut refused, mut said) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
        let at = origin.elapsed();
        match serde_json::from_str::<RefusedLine>(&line) {
            Ok(RefusedLine { line, error, outcome }) => {
                refused.push(Refused { seq: line, error, unknown: outcome == "unknown", at });
            }
            Err(_) => said.push(format!("{:9.3} {line}", at.as_secs_f64())),
        }
    }
    Ok((refused, said))
}

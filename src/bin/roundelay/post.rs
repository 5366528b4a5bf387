//! `roundelay post`: JSON lines from standard input to messages.
//!
//! A thread reads, up to a few lines ahead; posts are started in the order of the lines, and up to
//! `--in-flight` of them are under way. So memory stays bounded however long the input is, and an
//! id that was printed is a message that is stored.

use std::io::{self, BufRead, IsTerminal, Read};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::ProgressBar;
use roundelay::http::{SealError, wants_encryption};
use roundelay::{
    ClientId, ContentType, Error, MAX_BODY_BYTES, MessageId, Metadata, NewMessage, Outcome, Queue,
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::failure::{Failure, described};
use crate::lines::{self, Posted, Reader};
use crate::retry::retry;
use crate::settings::{QueueArgs, Settings, usage};

/// Lines read ahead of the posts.
const READ_AHEAD: usize = 16;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    queue: QueueArgs,
    /// How long the messages live, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    ttl: u64,
    /// How long the messages stay out of claims, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    delay: u64,
    /// Who posts: readers may leave out what they posted themselves
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Posts under way at once
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: u16,
    /// How long a post is tried again that certainly was not stored, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    retry_for: u64,
    /// Do not create the queue
    #[arg(long)]
    no_create: bool,
}

/// One line of input, numbered from 1.
struct Line {
    number: u64,
    /// Or what is wrong with it.
    body: Result<Bytes, String>,
}

/// A line that was not posted.
#[derive(Serialize)]
struct Refused<'a> {
    line: u64,
    error: &'a str,
    outcome: &'static str,
}

/// What goes to standard error.
struct Report {
    bar: ProgressBar,
    failed: bool,
}

/// Makes messages of lines, encrypted if the queue wants that.
enum Writer {
    Plain,
    Encrypting(Reader),
}

impl Writer {
    async fn of(
        settings: &Settings,
        args: &QueueArgs,
        queue: &Queue,
        patience: Duration,
    ) -> Result<Self, Failure> {
        if !wants_encryption(&retry(patience, || queue.metadata()).await?) {
            return Ok(Self::Plain);
        }
        let reader = args.reader(settings).await?;
        if reader.keys.is_empty() {
            let name = &args.queue;
            return Err(Failure::Usage(format!(
                "queue {name:?} wants its messages encrypted: give --encryption-keys FILE"
            )));
        }
        Ok(Self::Encrypting(reader))
    }

    fn message(&self, json: Bytes) -> Result<NewMessage, SealError> {
        match self {
            Self::Plain => Ok(NewMessage::new(ContentType::Json, json)?),
            // It was parsed as JSON, so it is UTF-8.
            Self::Encrypting(Reader { keys, project, queue }) => {
                keys.seal(project, queue, &String::from_utf8_lossy(&json))
            }
        }
    }
}

impl Report {
    fn new() -> Self {
        // With the ids on the same terminal, they are the progress.
        let shown = io::stderr().is_terminal() && !io::stdout().is_terminal();
        let bar = if shown { ProgressBar::no_length() } else { ProgressBar::hidden() };
        Self { bar, failed: false }
    }

    fn refused(&mut self, line: u64, error: &str, outcome: Outcome) {
        self.failed = true;
        let outcome = match outcome {
            Outcome::NotApplied => "not applied",
            Outcome::Unknown => "unknown",
        };
        let refused = Refused { line, error, outcome };
        let text = serde_json::to_string(&refused).unwrap_or_default();
        self.bar.suspend(|| eprintln!("{text}"));
    }
}

pub(crate) async fn run(settings: &Settings, args: Args) -> Result<(), Failure> {
    let (ttl, delay) = (Duration::from_secs(args.ttl), Duration::from_secs(args.delay));
    let model = NewMessage::new(ContentType::Json, "null").map_err(usage)?;
    model.with_ttl(ttl).and_then(|model| model.with_delay(delay)).map_err(usage)?;
    let client = args.client_id.as_deref().map(ClientId::new).transpose().map_err(usage)?;
    let patience = Duration::from_secs(args.retry_for);

    let store = settings.open().await?;
    let queue = args.queue.of(&store)?;
    if !args.no_create {
        let metadata = Metadata::default();
        retry(patience, || queue.create(&metadata)).await?;
    } else if !retry(patience, || queue.exists()).await? {
        return Err(Failure::Failed(format!("there is no queue {:?}", args.queue.queue)));
    }

    let writer = Writer::of(settings, &args.queue, &queue, patience).await?;

    let mut report = Report::new();
    let mut lines = read_lines(io::stdin());
    let mut input_ended = false;
    let mut posts = FuturesUnordered::new();
    while !(input_ended && posts.is_empty()) {
        let room = !input_ended && posts.len() < usize::from(args.in_flight);
        tokio::select! {
            biased;
            Some((line, posted)) = posts.next(), if !posts.is_empty() => {
                settle(line, posted, &mut report)?;
            }
            line = lines.recv(), if room => match line {
                None => input_ended = true,
                Some(Line { number, body: Err(error) }) => {
                    report.refused(number, &error, Outcome::NotApplied);
                }
                Some(Line { number, body: Ok(body) }) => {
                    let message = writer
                        .message(body)
                        .and_then(|message| Ok(message.with_ttl(ttl)?.with_delay(delay)?));
                    match message {
                        // Started in the order in which they are pushed: the set polls new
                        // futures first in, first out.
                        Ok(message) => posts.push(post(&queue, number, message, client.as_ref(), patience)),
                        Err(error) => report.refused(number, &error.to_string(), Outcome::NotApplied),
                    }
                }
            },
        }
    }
    drop(posts);
    report.bar.finish_and_clear();
    store.close().await;
    if report.failed { Err(Failure::Reported) } else { Ok(()) }
}

async fn post(
    queue: &Queue,
    line: u64,
    message: NewMessage,
    client: Option<&ClientId>,
    patience: Duration,
) -> (u64, Result<Vec<MessageId>, Error>) {
    (line, retry(patience, || queue.post(vec![message.clone()], client)).await)
}

fn settle(
    line: u64,
    posted: Result<Vec<MessageId>, Error>,
    report: &mut Report,
) -> Result<(), Failure> {
    match posted {
        Ok(ids) => {
            for id in &ids {
                lines::print(&Posted::new(line, id))?;
            }
            report.bar.inc(1);
        }
        Err(error) => report.refused(line, &described(&error), error.outcome()),
    }
    Ok(())
}

/// Reads in a thread of its own, which ends with the input or when nobody listens any more.
fn read_lines(input: impl Read + Send + 'static) -> mpsc::Receiver<Line> {
    let (sender, lines) = mpsc::channel(READ_AHEAD);
    thread::spawn(move || {
        let mut input = io::BufReader::with_capacity(64 * 1024, input);
        for number in 1.. {
            let body = match next_line(&mut input) {
                Ok(None) => break,
                Ok(Some(line)) if line.trim_ascii().is_empty() => continue,
                Ok(Some(line)) => checked(line),
                Err(error) => {
                    // Nothing after it can be numbered: the input ends here.
                    let body = Err(format!("standard input: {error}"));
                    drop(sender.blocking_send(Line { number, body }));
                    break;
                }
            };
            if sender.blocking_send(Line { number, body }).is_err() {
                break;
            }
        }
    });
    lines
}

/// The next line without its end, cut behind the longest that can be a body.
fn next_line(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let most = MAX_BODY_BYTES as u64 + 2;
    if input.by_ref().take(most).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with(b"\n") {
        line.pop();
    } else if line.len() as u64 == most {
        input.skip_until(b'\n')?;
    }
    Ok(Some(line))
}

/// The line as a body, just as it was written.
fn checked(line: Vec<u8>) -> Result<Bytes, String> {
    let line = Bytes::from(line);
    let body = line.slice_ref(line.trim_ascii());
    if body.len() > MAX_BODY_BYTES {
        return Err(format!("the line is longer than {MAX_BODY_BYTES} bytes"));
    }
    match serde_json::from_slice::<&RawValue>(&body) {
        Ok(_) => Ok(body),
        Err(error) => Err(format!("no JSON value: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(input: &'static [u8]) -> Vec<(u64, Result<Bytes, String>)> {
        let mut lines = read_lines(input);
        let mut read = Vec::new();
        while let Some(line) = lines.recv().await {
            read.push((line.number, line.body));
        }
        read
    }

    #[tokio::test]
    async fn lines_are_numbered_and_blank_ones_skipped() {
        let lines = read(b"{\"a\": 1.10}\n\n  \r\n[1]\r\nnot json\n\"last\"").await;
        let numbers: Vec<u64> = lines.iter().map(|(number, _)| *number).collect();
        assert_eq!(numbers, [1, 4, 5, 6]);
        assert_eq!(lines[0].1.as_deref(), Ok(&b"{\"a\": 1.10}"[..]));
        assert_eq!(lines[1].1.as_deref(), Ok(&b"[1]"[..]));
        assert!(lines[2].1.is_err());
        assert_eq!(lines[3].1.as_deref(), Ok(&b"\"last\""[..]));
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_the_next_one_is_whole() {
        let mut input = vec![b'1'; MAX_BODY_BYTES + 100];
        input.extend_from_slice(b"\n2\n");
        let mut input = &input[..];
        let long = next_line(&mut input).unwrap().unwrap();
        assert!(checked(long).is_err());
        assert_eq!(next_line(&mut input).unwrap().unwrap(), b"2");
        assert_eq!(next_line(&mut input).unwrap(), None);
    }
}

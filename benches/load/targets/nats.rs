//! NATS JetStream: three servers, a stream for each queue, in memory with three replicas.
//!
//! A post is acknowledged by the stream's leader once a majority has it (the others have it a
//! moment later): less than what the other targets wait for. Claims are fetches of a pull consumer
//! with three replicas; each message is acknowledged, and that is confirmed.

use std::process::Command;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::nats_wire::{Inbox, Wire};
use super::{COPIES, Slots, free_port};
use crate::processes::Daemon;
use crate::target::{Answer, Op, Post, Target};

const READY_WITHIN: Duration = Duration::from_secs(40);
/// How long a fetch waits at its server for messages that are not there: short, since the last
/// fetches are not filled and what they hold counts when they end …
const EXPIRES: Duration = Duration::from_millis(100);
/// … and for the server to say so.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

pub(crate) struct Nats {
    servers: Vec<Daemon>,
    /// One to each server.
    wires: Vec<Wire>,
    /// Where fetched messages arrive, one for each that fetches.
    fetched: Slots<Mutex<Inbox>>,
    _folder: TempDir,
}

impl Nats {
    pub(crate) async fn start(queues: usize) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut ports = Vec::new();
        for _ in 0..COPIES {
            ports.push((free_port()?, free_port()?));
        }
        let routes: Vec<String> =
            ports.iter().map(|(_, cluster)| format!("nats://127.0.0.1:{cluster}")).collect();
        let routes = routes.join(",");
        let mut servers = Vec::new();
        for (number, (port, cluster)) in ports.iter().enumerate() {
            let store = folder.path().join(number.to_string());
            let mut command = Command::new("nats-server");
            command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(store);
            command.args(["-n", &format!("n{number}"), "--cluster_name", "load", "--cluster"]);
            command.arg(format!("nats://127.0.0.1:{cluster}")).args(["--routes", &routes]);
            servers.push(Daemon::start(&mut command)?);
        }
        let mut wires = Vec::new();
        for (port, _) in &ports {
            wires.push(connected(*port).await?);
        }
        let nats = Self { servers, wires, fetched: Slots::default(), _folder: folder };
        for queue in 0..queues {
            nats.create(queue).await?;
        }
        Ok(nats)
    }

    fn wire(&self, by: usize) -> Result<&Wire, String> {
        self.wires.get(by % self.wires.len().max(1)).ok_or_else(|| "no connection".into())
    }

    /// Makes a stream and its consumer; the cluster may still be electing its leader.
    async fn create(&self, queue: usize) -> Result<(), String> {
        let stream = json!({
            "name": format!("q{queue}"), "subjects": [format!("q.{queue}")],
            "retention": "limits", "storage": "memory", "num_replicas": COPIES,
            "max_msgs": -1, "max_bytes": -1, "max_age": 0, "discard": "old",
        });
        let consumer = json!({
            "stream_name": format!("q{queue}"),
            "config": {
                "durable_name": "c", "deliver_policy": "all", "ack_policy": "explicit",
                "replay_policy": "instant", "max_ack_pending": 100_000,
                "ack_wait": 300_000_000_000u64, "num_replicas": COPIES, "mem_storage": true,
            },
        });
        self.until_done(&format!("$JS.API.STREAM.CREATE.q{queue}"), &stream).await?;
        self.until_done(&format!("$JS.API.CONSUMER.DURABLE.CREATE.q{queue}.c"), &consumer).await
    }

    async fn until_done(&self, subject: &str, request: &Value) -> Result<(), String> {
        let deadline = Instant::now() + READY_WITHIN;
        let request = request.to_string();
        loop {
            let asked = self.wire(0)?.ask(subject, request.as_bytes());
            let told = match timeout(Duration::from_secs(5), asked).await {
                Ok(Ok(answer)) => match serde_json::from_slice::<Value>(&answer) {
                    Ok(value) if value.get("error").is_none() => return Ok(()),
                    Ok(value) => value.to_string(),
                    Err(_) => "no leader yet".into(),
                },
                Ok(Err(error)) => error,
                Err(_) => "no answer".into(),
            };
            if Instant::now() >= deadline {
                return Err(format!("nats-server: {subject}: {told}"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn connected(port: u16) -> Result<Wire, String> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match Wire::connect(port).await {
            Ok(wire) => return Ok(wire),
            Err(error) if Instant::now() >= deadline => {
                return Err(format!("nats-server: {error}"));
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn publish(wire: &Wire, queue: usize, body: &[u8]) -> Result<(), String> {
    let answer = wire.ask(&format!("q.{queue}"), body).await?;
    // {"stream":"q0", "seq":1}, or an error.
    if answer.starts_with(b"{\"stream\"") {
        return Ok(());
    }
    Err(format!("not acknowledged: {}", String::from_utf8_lossy(&answer)))
}

impl Target for Nats {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        async move {
            let wire = self.wire(post.by)?;
            let all = (0..post.messages).map(|_| publish(wire, post.queue, &post.body));
            try_join_all(all).await.map(drop)
        }
        .boxed()
    }

    fn take(&self, by: usize, queue: usize, limit: usize) -> Answer<'_, usize> {
        async move {
            let wire = self.wire(by)?;
            let expires = u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX);
            let fetch = json!({ "batch": limit, "expires": expires }).to_string();
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.q{queue}.c");
            let inbox = self.fetched.get(by, async || Ok(Mutex::new(wire.subscribe()))).await?;
            let mut inbox = inbox.lock().await;
            inbox.request(&subject, fetch.as_bytes());
            let mut replies = Vec::with_capacity(limit);
            while replies.len() < limit {
                match timeout(ANSWERS_WITHIN, inbox.next()).await {
                    // A status instead of a message has nowhere to acknowledge it to.
                    Ok(Ok(came)) => match came.reply {
                        Some(reply) => replies.push(reply),
                        None => break,
                    },
                    Ok(Err(error)) => return Err(error),
                    Err(_) => break,
                }
            }
            try_join_all(replies.iter().map(|reply| wire.ask(reply, b"+ACK"))).await?;
            Ok(replies.len())
        }
        .boxed()
    }

    fn offers(&self, op: Op) -> bool {
        matches!(op, Op::Post | Op::Take)
    }

    fn processes(&self) -> Vec<u32> {
        self.servers.iter().flat_map(Daemon::processes).collect()
    }
}

//! RabbitMQ: three nodes, a quorum queue with three members for each queue.
//!
//! Messages are persistent and posts wait for the publisher's confirm, which comes once a majority
//! has written them to disk: quorum queues cannot do without. Claims are deliveries to a consumer
//! with as many prefetched as make two claims, acknowledged together. The protocol has no answer to
//! an acknowledgement; instead the consumer asks for the queue's counts on the same channel, which
//! the queue's leader answers behind it.
//!
//! Or, as [`Claims::Asked`], each message is asked for when it is claimed (`basic.get`, those of one claim
//! at once), as whoever has no consumer of his own does, which is what a claim is: nothing is on its way
//! to him before.
//!
//! The nodes get names, ports, data and a port mapper (epmd) of their own, on the loopback
//! interface.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tempfile::TempDir;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::{COPIES, Slots, free_port};
use crate::processes::Daemon;
use crate::target::{Answer, Op, Post, Target};

/// Where Debian has it: the one in the PATH there insists on a user of its own.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// Of each node; they start one after the other.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How long a claim waits for a first message …
const EXPIRES: Duration = Duration::from_millis(500);
/// … and for the next one. The last claims are not filled, and what they hold counts when they end.
const NEXT_WITHIN: Duration = Duration::from_millis(50);
const PERSISTENT: u8 = 2;

/// How messages are claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claims {
    /// They are handed out before they are claimed.
    Prefetched,
    /// They are asked for.
    Asked,
}

pub(crate) struct Rabbitmq {
    claims: Claims,
    daemons: Vec<Daemon>,
    /// One to each node.
    connections: Vec<Connection>,
    posters: Slots<Channel>,
    /// With its consumer, if messages are prefetched.
    takers: Slots<Mutex<(Channel, Option<Consumer>)>>,
    _folder: TempDir,
}

pub(crate) fn program() -> PathBuf {
    let debian = Path::new(PROGRAM);
    if debian.is_file() { debian.into() } else { "rabbitmq-server".into() }
}

impl Rabbitmq {
    pub(crate) async fn start(queues: usize, claims: Claims) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(told)?;
        let mapper = free_port()?.to_string();
        let mut epmd = Command::new("epmd");
        let mut daemons =
            vec![Daemon::start(epmd.args(["-port", &mapper, "-address", "127.0.0.1"]))?];
        let mut connections = Vec::new();
        for number in 0..COPIES {
            let port = free_port()?;
            let mut command = node(folder.path(), number, port, &mapper)?;
            let mut daemon = Daemon::start(&mut command)?;
            // The second and third join what is there.
            connections.push(connected(port, &mut daemon).await?);
            daemons.push(daemon);
        }
        let (posters, takers) = (Slots::default(), Slots::default());
        let this = Self { claims, daemons, connections, posters, takers, _folder: folder };
        let channel = this.channel(0).await?;
        for queue in 0..queues {
            let mut arguments = FieldTable::default();
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            arguments.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(3));
            let options = QueueDeclareOptions::durable();
            let name = format!("q{queue}");
            channel.queue_declare(name.into(), options, arguments).await.map_err(told)?;
        }
        Ok(this)
    }

    async fn channel(&self, by: usize) -> Result<Channel, String> {
        let connection = self.connections.get(by % self.connections.len().max(1));
        connection.ok_or("no connection")?.create_channel().await.map_err(told)
    }

    async fn poster(&self, by: usize) -> Result<Channel, String> {
        let channel = self.channel(by).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(told)?;
        Ok(channel)
    }

    async fn taker(
        &self,
        by: usize,
        queue: usize,
        limit: usize,
    ) -> Result<(Channel, Option<Consumer>), String> {
        let channel = self.channel(by).await?;
        if self.claims == Claims::Asked {
            return Ok((channel, None));
        }
        let prefetched = u16::try_from(2 * limit).unwrap_or(u16::MAX);
        channel.basic_qos(prefetched, BasicQosOptions::default()).await.map_err(told)?;
        let (name, tag) = (format!("q{queue}").into(), format!("c{by}").into());
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(name, tag, options, FieldTable::default()).await;
        Ok((channel, Some(consumer.map_err(told)?)))
    }
}

fn told(error: impl std::fmt::Display) -> String {
    format!("rabbitmq: {error}")
}

/// The command that starts a node.
fn node(folder: &Path, number: usize, port: u16, mapper: &str) -> Result<Command, String> {
    let own = folder.join(number.to_string());
    std::fs::create_dir(&own).map_err(told)?;
    let mut configuration = format!(
        "listeners.tcp.1 = 127.0.0.1:{port}\n\
         cluster_formation.peer_discovery_backend = classic_config\n\
         cluster_formation.classic_config.nodes.1 = load0@localhost\n\
         log.console = false\n\
         log.file.level = warning\n"
    );
    if number > 0 {
        configuration.push_str(&format!(
            "cluster_formation.classic_config.nodes.2 = load{number}@localhost\n"
        ));
    }
    let file = own.join("rabbitmq.conf");
    std::fs::write(&file, configuration).map_err(told)?;
    let mut command = Command::new(program());
    command
        .env("HOME", folder)
        .env("ERL_EPMD_PORT", mapper)
        .env("RABBITMQ_NODENAME", format!("load{number}@localhost"))
        .env("RABBITMQ_DIST_PORT", free_port()?.to_string())
        .env("RABBITMQ_CONFIG_FILE", file)
        .env("RABBITMQ_CONF_ENV_FILE", own.join("none"))
        .env("RABBITMQ_MNESIA_BASE", own.join("data"))
        .env("RABBITMQ_LOG_BASE", own.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", own.join("plugins"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    Ok(command)
}

async fn connected(port: u16, node: &mut Daemon) -> Result<Connection, String> {
    let url = format!("amqp://guest:guest@127.0.0.1:{port}/%2f");
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match Connection::connect(&url, ConnectionProperties::default()).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() >= deadline => return Err(told(error)),
            Err(_) => node.check().map_err(told)?,
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn publish(channel: &Channel, queue: usize, body: &[u8]) -> Result<(), String> {
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let (name, options) = (format!("q{queue}").into(), BasicPublishOptions::default());
    let sent = channel.basic_publish("".into(), name, options, body, properties).await;
    let confirmed = sent.map_err(told)?.await.map_err(told)?;
    if confirmed.is_ack() { Ok(()) } else { Err("not confirmed".into()) }
}

/// The next messages that were handed out.
async fn delivered(consumer: &mut Consumer, limit: usize) -> Result<Vec<Delivery>, String> {
    let mut claimed = Vec::with_capacity(limit);
    while claimed.len() < limit {
        let patience = if claimed.is_empty() { EXPIRES } else { NEXT_WITHIN };
        match timeout(patience, consumer.next()).await {
            Ok(Some(delivery)) => claimed.push(delivery.map_err(told)?),
            Ok(None) => return Err("the consumer ended".into()),
            Err(_) => break,
        }
    }
    Ok(claimed)
}

/// The next messages of the queue, in the order in which they were handed out.
async fn asked(channel: &Channel, queue: usize, limit: usize) -> Result<Vec<Delivery>, String> {
    let get = |_| channel.basic_get(format!("q{queue}").into(), BasicGetOptions::default());
    let answers = try_join_all((0..limit).map(get)).await.map_err(told)?;
    let mut claimed: Vec<Delivery> =
        answers.into_iter().flatten().map(|message| message.delivery).collect();
    claimed.sort_by_key(|delivery| delivery.delivery_tag);
    Ok(claimed)
}

impl Target for Rabbitmq {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        async move {
            let channel = self.posters.get(post.by, async || self.poster(post.by).await).await?;
            let all = (0..post.messages).map(|_| publish(&channel, post.queue, &post.body));
            try_join_all(all).await.map(drop)
        }
        .boxed()
    }

    fn take(&self, by: usize, queue: usize, limit: usize) -> Answer<'_, usize> {
        async move {
            let make = async || self.taker(by, queue, limit).await.map(Mutex::new);
            let taker = self.takers.get(by, make).await?;
            let mut taker = taker.lock().await;
            let (channel, consumer) = &mut *taker;
            let claimed = match consumer {
                Some(consumer) => delivered(consumer, limit).await?,
                None => asked(channel, queue, limit).await?,
            };
            if let Some(last) = claimed.last() {
                last.ack(BasicAckOptions { multiple: true }).await.map_err(told)?;
                let options =
                    QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
                let asked = channel.queue_declare(
                    format!("q{queue}").into(),
                    options,
                    FieldTable::default(),
                );
                asked.await.map_err(told)?;
            }
            Ok(claimed.len())
        }
        .boxed()
    }

    fn offers(&self, op: Op) -> bool {
        matches!(op, Op::Post | Op::Take)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            for connection in &self.connections {
                connection.close(200, "done".into()).await.ok();
            }
        }
        .boxed()
    }

    fn processes(&self) -> Vec<u32> {
        self.daemons.iter().flat_map(Daemon::processes).collect()
    }
}

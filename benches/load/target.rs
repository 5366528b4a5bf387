//! What is put under load, behind one trait.

use bytes::Bytes;
use clap::ValueEnum;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use roundelay::Marker;

use crate::redis_server::RedisServer;
use crate::targets;

/// The answer to a call; an error is told as it is, once.
pub(crate) type Answer<'a, T> = BoxFuture<'a, Result<T, String>>;

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Post,
    List,
    Take,
}

impl Op {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Post => "post",
            Self::List => "list",
            Self::Take => "claim",
        }
    }
}

/// One post.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    /// Which of the posters it is.
    pub(crate) by: usize,
    pub(crate) queue: usize,
    /// The body of each of its messages.
    pub(crate) body: Bytes,
    pub(crate) messages: usize,
}

/// Where a reader stands.
#[derive(Debug, Clone)]
pub(crate) enum Cursor {
    Marker(Marker),
    /// An id, behind which the next page starts.
    Id(String),
}

#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) bodies: Vec<Bytes>,
    /// `None`: nothing was read yet.
    pub(crate) cursor: Option<Cursor>,
}

/// Something that keeps messages on three servers.
pub(crate) trait Target: Send + Sync {
    /// Stores messages; returns when three copies are acknowledged.
    fn post(&self, post: Post) -> Answer<'_, ()>;

    /// The next page of up to `limit` messages.
    fn list(&self, _queue: usize, _from: Option<Cursor>, _limit: usize) -> Answer<'_, Page> {
        not_offered(Op::List).boxed()
    }

    /// Takes up to `limit` messages for itself and deletes them, confirmed; how many they were.
    fn take(&self, _by: usize, _queue: usize, _limit: usize) -> Answer<'_, usize> {
        not_offered(Op::Take).boxed()
    }

    /// Which calls it takes.
    fn offers(&self, op: Op) -> bool {
        op == Op::Post
    }

    /// Ends one of its servers at once, as a crash does.
    fn kill_one(&self) -> Result<(), String> {
        Err("a killed server is not measured on this target".into())
    }

    /// The processes of its servers, as far as these are not Redis servers.
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    /// Its Redis servers, whose statistics may be asked.
    fn redis(&self) -> &[RedisServer] {
        &[]
    }

    /// Ends it; servers end when it is dropped.
    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

/// Why a target does not take such calls.
async fn not_offered<T>(op: Op) -> Result<T, String> {
    Err(format!("{}: not measured on this target", op.name()))
}

/// The targets that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// Roundelay on three Redis servers
    Redis,
    /// Roundelay on three nodes in memory
    Embedded,
    /// The HTTP service on three Redis servers
    Http,
    /// One XADD a message to each of three Redis servers
    Raw,
    /// One XADD a block to each of three Redis servers
    Blob,
    /// One SET a call to each of three Redis servers
    Set,
    /// One XADD a message and WAIT 2 on a Redis server with two replicas
    Wait,
    /// NATS JetStream on three servers
    Nats,
    /// RabbitMQ quorum queues on three nodes
    Rabbitmq,
    /// The same, each message asked for when it is claimed
    RabbitmqGet,
    /// Zaqar on one Redis server, over HTTP
    Zaqar,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Why it cannot be measured here, if it cannot.
    pub(crate) fn missing(self) -> Option<String> {
        let missing = match self {
            Self::Embedded => None,
            Self::Nats => not_installed("nats-server"),
            Self::Rabbitmq | Self::RabbitmqGet => missing_rabbitmq(),
            Self::Zaqar => not_installed("redis-server").or_else(targets::zaqar::missing),
            _ => not_installed("redis-server"),
        };
        missing.map(|why| format!("{}: {why}", self.name()))
    }

    /// Starts it, with these queues.
    pub(crate) async fn start(self, queues: usize) -> Result<Box<dyn Target>, String> {
        Ok(match self {
            Self::Redis => Box::new(targets::roundelay::Roundelay::on_redis(queues).await?),
            Self::Embedded => Box::new(targets::roundelay::Roundelay::embedded(queues).await?),
            Self::Http => Box::new(targets::http::Http::start(queues).await?),
            Self::Raw => Box::new(targets::raw::Raw::start().await?),
            Self::Blob => Box::new(targets::blob::Blob::start(queues).await?),
            Self::Set => Box::new(targets::set::Set::start().await?),
            Self::Wait => Box::new(targets::wait::Wait::start().await?),
            Self::Nats => Box::new(targets::nats::Nats::start(queues).await?),
            #[cfg(feature = "rabbitmq")]
            Self::Rabbitmq | Self::RabbitmqGet => {
                use targets::rabbitmq::{Claims, Rabbitmq};
                let asks = self == Self::RabbitmqGet;
                let claims = if asks { Claims::Asked } else { Claims::Prefetched };
                Box::new(Rabbitmq::start(queues, claims).await?)
            }
            #[cfg(not(feature = "rabbitmq"))]
            Self::Rabbitmq | Self::RabbitmqGet => return Err(self.missing().unwrap_or_default()),
            Self::Zaqar => Box::new(targets::zaqar::Zaqar::start(queues).await?),
        })
    }
}

fn not_installed(program: &str) -> Option<String> {
    let found = std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    });
    (!found).then(|| format!("{program} is not installed"))
}

#[cfg(feature = "rabbitmq")]
fn missing_rabbitmq() -> Option<String> {
    let program = targets::rabbitmq::program();
    let missing = if program.is_file() { None } else { not_installed("rabbitmq-server") };
    missing.or_else(|| not_installed("epmd"))
}

#[cfg(not(feature = "rabbitmq"))]
fn missing_rabbitmq() -> Option<String> {
    Some("built without the feature rabbitmq".into())
}

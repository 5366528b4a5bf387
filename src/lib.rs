//! A replicated message-queue store over a pool of plain Redis or Valkey servers.

pub mod block;
mod config;
mod driver;
mod env;
mod error;
#[cfg(feature = "http")]
pub mod http;
pub mod id;
mod message;
mod name;
pub mod node;
mod pool;
mod protocol;
mod queue;
mod store;
pub mod time;
mod token;

pub use config::Config;
pub use env::Env;
pub use error::{Error, ErrorKind, Outcome};
pub use message::{ClientId, ContentType, MAX_BODY_BYTES, MAX_DELAY, MAX_TTL, Message, NewMessage};
pub use name::{Project, QueueName};
pub use queue::{
    Claim, ClaimOptions, DeleteWhere, ListOptions, MAX_BATCH, MAX_METADATA_BYTES, MessagePage,
    Metadata, Queue, QueueStats,
};
pub use store::{NodeStatus, PoolStatus, QueuePage, Store, StoreBuilder};
pub use token::{ClaimId, MAX_MARKER_LEN, Marker, MessageId};

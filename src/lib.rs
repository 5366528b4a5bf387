//! A replicated message-queue store over a pool of plain Redis servers that know nothing of each
//! other.
//!
//! ```
//! use roundelay::{ClaimOptions, ListOptions, Metadata, NewMessage, Project, QueueName, Store};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), roundelay::Error> {
//! // Three nodes in this process's memory; `.node("redis://10.0.0.1")` adds a server instead.
//! let store = Store::builder().embedded(3).open().await?;
//! let queue = store.queue(&Project::new("")?, &QueueName::new("jobs")?);
//! queue.create(&Metadata::default()).await?;
//!
//! // Stored on three nodes when `post` returns.
//! queue.post(vec![NewMessage::json(&serde_json::json!({ "job": 1 }))?], None).await?;
//! let page = queue.list(&ListOptions::default()).await?;
//! assert_eq!(page.messages[0].body.as_ref(), br#"{"job":1}"#);
//!
//! // Nobody else gets a claimed message; deleting it says that it is done.
//! let claim = queue.claim(&ClaimOptions::default()).await?.expect("there is a message");
//! assert!(queue.delete_message(&claim.messages[0].id, Some(&claim.id)).await?);
//! assert_eq!(queue.stats().await?.total(), 0);
//! # store.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it guarantees
//!
//! For everything that was acknowledged, while nodes that had it are left:
//!
//! - It can be read as long as one of them is left (Q1). What was deleted or expired stays away,
//!   after repairs and failovers too (Q8).
//! - A walk from marker to marker meets every message (Q2), none twice (Q3), a producer's in its
//!   order (Q4), and nothing that is not in the log for good (Q5).
//! - A message is in one live claim at most (Q7).
//! - A post with an [`IdempotencyKey`] that is repeated adds nothing (Q11).
//! - All processes agree on what a queue consists of (Q6), and a server that came back empty or with
//!   old data is noticed before anything it says counts (Q9).
//! - With one node dead, slow, full or cut off everything goes on after a short stall (Q10).
//!
//! An [`Error`] tells apart whether to try again ([`Error::is_retryable`]) and whether the call may
//! have taken effect all the same ([`Error::outcome`]).
//!
//! # What it is not
//!
//! No client of Redis Cluster or Sentinel, which acknowledge before they replicate; no log for ever
//! (messages live in memory, for [`MAX_TTL`] at most); no broker that pushes, though a reader may wait
//! ([`Queue::list_waiting`], [`Queue::claim_waiting`]).
//!
//! # Where to go
//!
//! - [`Store`] and [`Queue`]: what programs call. [`Config`]: what can be set.
//! - [`http`]: the Zaqar v2 service as an `axum` router, and the command `roundelay serve`.
//! - [`node`]: the contract of a node, for those who bring their own.
//! - `specs/replication.md` in the repository: how it works, and the invariants Q1 to Q11.

mod admin;
pub mod block;
mod config;
mod dead_letters;
mod dial;
mod driver;
mod encoded;
mod env;
mod error;
#[cfg(feature = "http")]
pub mod http;
pub mod id;
mod message;
mod metrics;
mod name;
pub mod node;
mod once;
mod pool;
mod protocol;
mod queue;
mod signal;
mod spans;
mod store;
pub mod time;
mod token;

pub use admin::{
    Admin, Bargain, Drain, Finding, NodeHealth, PoolHealth, Remaining, Removal, Verdict, Verified,
    VerifiedReplica,
};
pub use config::Config;
pub use dead_letters::{DeadLetters, Origin, Rewrite};
pub use env::Env;
pub use error::{Error, ErrorKind, Outcome};
pub use message::{ClientId, ContentType, MAX_BODY_BYTES, MAX_DELAY, MAX_TTL, Message, NewMessage};
pub use metrics::{CallMetrics, Census, Metrics, NodeMetrics};
pub use name::{Project, QueueName};
pub use once::{IdempotencyKey, KEY_KEPT, MAX_KEY_LEN};
pub use queue::{
    Claim, ClaimOptions, DeleteWhere, ListOptions, MAX_BATCH, MAX_METADATA_BYTES, MessagePage,
    Metadata, Popped, Queue, QueueStats,
};
pub use spans::TRACE_TARGET;
pub use store::{NodeStatus, PoolStatus, QueuePage, Store, StoreBuilder};
pub use token::{ClaimId, MAX_MARKER_LEN, Marker, MessageId};

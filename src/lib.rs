//! A replicated message-queue store over a pool of plain Redis or Valkey servers.

pub mod block;
mod error;
pub mod id;
mod message;
pub mod node;
pub mod time;
mod token;

pub use error::{Error, ErrorKind, Outcome};
pub use message::{ClientId, ContentType, Message, NewMessage};
pub use token::{ClaimId, Marker, MessageId};

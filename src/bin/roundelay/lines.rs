//! JSON lines on standard output, each written out at once.

use std::io::{self, Write};

use roundelay::http::JsonBody;
use roundelay::{Message, MessageId};
use serde::Serialize;

/// A message as one line shows it.
#[derive(Debug, Serialize)]
pub(crate) struct MessageLine<'a> {
    id: String,
    age: u64,
    ttl: u64,
    body: JsonBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
}

impl<'a> From<&'a Message> for MessageLine<'a> {
    fn from(message: &'a Message) -> Self {
        Self {
            id: message.id.to_string(),
            age: message.age.as_secs(),
            ttl: message.ttl.as_secs(),
            body: JsonBody(message),
            claim: message.claim.as_ref().map(ToString::to_string),
        }
    }
}

/// What became of one line of input.
#[derive(Debug, Serialize)]
pub(crate) struct Posted {
    line: u64,
    id: String,
}

impl Posted {
    pub(crate) fn new(line: u64, id: &MessageId) -> Self {
        Self { line, id: id.to_string() }
    }
}

/// Writes one value as one line, and flushes it.
pub(crate) fn print(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

//! JSON lines on standard output, each written out at once.

use std::io::{self, Write};
use std::sync::Arc;

use roundelay::http::{JsonBody, KeyRing};
use roundelay::{Message, MessageId, Project, QueueName};
use serde::{Serialize, Serializer};

/// A message as one line shows it.
#[derive(Debug, Serialize)]
pub(crate) struct MessageLine {
    id: String,
    age: u64,
    ttl: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
    /// Why there is no body.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
}

#[derive(Debug)]
struct Body(Message);

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        JsonBody(&self.0).serialize(serializer)
    }
}

/// Makes lines of a queue's messages, encrypted or not.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) project: Project,
    pub(crate) queue: QueueName,
}

impl Reader {
    pub(crate) fn line(&self, message: &Message) -> MessageLine {
        let read = self.keys.open(&self.project, &self.queue, message.clone());
        let (body, error) = match read {
            Ok(message) => (Some(Body(message)), None),
            Err(why) => (None, Some(format!("it cannot be decrypted: {why}"))),
        };
        MessageLine {
            id: message.id.to_string(),
            age: message.age.as_secs(),
            ttl: message.ttl.as_secs(),
            body,
            error,
            claim: message.claim.as_ref().map(ToString::to_string),
        }
    }
}

impl MessageLine {
    /// Whether it shows the body.
    pub(crate) fn is_whole(&self) -> bool {
        self.error.is_none()
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

//! As much of the NATS protocol as requests and their answers need: one connection that many
//! callers share, as the usual clients have it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

/// The number of the subscription to all inboxes that have none of their own.
const ALL: u64 = 1;

/// A message that came in.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) reply: Option<String>,
    pub(super) body: Bytes,
}

type Inboxes = Mutex<HashMap<u64, mpsc::UnboundedSender<Came>>>;

struct Shared {
    /// What the subjects of this connection's inboxes start with: each has its own.
    prefix: String,
    /// Bytes that wait for the writer.
    out: Mutex<Vec<u8>>,
    bell: Notify,
    inboxes: Inboxes,
}

#[derive(Clone)]
pub(super) struct Wire {
    shared: Arc<Shared>,
    next: Arc<std::sync::atomic::AtomicU64>,
}

/// Where answers arrive, to one request or, with a subscription of its own, to many; forgotten when
/// it is dropped.
pub(super) struct Inbox {
    number: u64,
    /// Where answers are sent to.
    subject: String,
    came: mpsc::UnboundedReceiver<Came>,
    shared: Arc<Shared>,
}

impl Inbox {
    /// Publishes a message whose answers arrive here.
    pub(super) fn request(&self, subject: &str, body: &[u8]) {
        self.shared.publish(subject, &self.subject, body);
    }

    pub(super) async fn next(&mut self) -> Result<Came, String> {
        self.came.recv().await.ok_or_else(|| "the connection ended".into())
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        locked(&self.shared.inboxes).remove(&self.number);
    }
}

impl Shared {
    fn send(&self, add: impl FnOnce(&mut Vec<u8>)) {
        add(&mut locked(&self.out));
        self.bell.notify_one();
    }

    /// The inbox for what came under this subject, on a subscription of this number.
    fn inbox_of(&self, subject: &str, subscription: &str) -> Option<u64> {
        let subscription: u64 = subscription.parse().ok()?;
        match subscription.checked_sub(ALL)? {
            0 => subject.strip_prefix(&self.prefix)?.parse().ok(),
            own => Some(own),
        }
    }

    fn publish(&self, subject: &str, inbox: &str, body: &[u8]) {
        let head = format!("PUB {subject} {inbox} {}\r\n", body.len());
        self.send(|out| {
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(body);
            out.extend_from_slice(b"\r\n");
        });
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    pub(super) async fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let prefix = format!("_I.{port}.");
        // Of every inbox that has no subscription of its own.
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\
             \"no_responders\":true}}\r\nSUB {prefix}* {ALL}\r\n"
        );
        let shared = Arc::new(Shared {
            prefix,
            out: Mutex::new(hello.into_bytes()),
            bell: Notify::new(),
            inboxes: Mutex::default(),
        });
        shared.bell.notify_one();
        tokio::spawn(write_all(Arc::clone(&shared), write));
        tokio::spawn(read_all(Arc::clone(&shared), BufReader::with_capacity(64 * 1024, read)));
        // From 1: the number of a subscription is above `ALL` by that of its inbox.
        Ok(Self { shared, next: Arc::new(1.into()) })
    }

    fn inbox(&self) -> Inbox {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, came) = mpsc::unbounded_channel();
        locked(&self.shared.inboxes).insert(number, sender);
        let subject = format!("{}{number}", self.shared.prefix);
        Inbox { number, subject, came, shared: Arc::clone(&self.shared) }
    }

    /// Publishes a message, with a place for answers.
    fn request(&self, subject: &str, body: &[u8]) -> Inbox {
        let inbox = self.inbox();
        inbox.request(subject, body);
        inbox
    }

    /// A place for messages of a stream. They arrive under the subject that they were published on,
    /// so the subscription's number alone tells where they belong.
    pub(super) fn subscribe(&self) -> Inbox {
        let mut inbox = self.inbox();
        // A subject of its own, lest the other subscription gets everything once more.
        inbox.subject.insert(0, 'S');
        let line = format!("SUB {} {}\r\n", inbox.subject, ALL + inbox.number);
        self.shared.send(|out| out.extend_from_slice(line.as_bytes()));
        inbox
    }

    /// Asks and waits for one answer.
    pub(super) async fn ask(&self, subject: &str, body: &[u8]) -> Result<Bytes, String> {
        self.request(subject, body).next().await.map(|came| came.body)
    }
}

async fn write_all(shared: Arc<Shared>, mut write: OwnedWriteHalf) -> std::io::Result<()> {
    loop {
        let out = std::mem::take(&mut *locked(&shared.out));
        if out.is_empty() {
            shared.bell.notified().await;
        } else {
            write.write_all(&out).await?;
        }
    }
}

async fn read_all(shared: Arc<Shared>, mut read: BufReader<OwnedReadHalf>) -> std::io::Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if read.read_line(&mut line).await? == 0 {
            // Nobody waits for ever for what does not come any more.
            locked(&shared.inboxes).clear();
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["PING"] => {
                shared.send(|out| out.extend_from_slice(b"PONG\r\n"));
            }
            ["MSG", subject, of, rest @ ..] => {
                let inbox = shared.inbox_of(subject, of);
                deliver(&shared, &mut read, inbox, rest, false).await?;
            }
            ["HMSG", subject, of, rest @ ..] => {
                let inbox = shared.inbox_of(subject, of);
                deliver(&shared, &mut read, inbox, rest, true).await?;
            }
            _ => {}
        }
    }
}

/// Reads what follows the head of a message: `[reply] [bytes of headers] bytes`.
async fn deliver(
    shared: &Shared,
    read: &mut BufReader<OwnedReadHalf>,
    inbox: Option<u64>,
    rest: &[&str],
    headers: bool,
) -> std::io::Result<()> {
    let number = |word: Option<&&str>| word.and_then(|word| word.parse::<usize>().ok());
    let total = number(rest.last()).ok_or(std::io::ErrorKind::InvalidData)?;
    let numbers = 1 + usize::from(headers);
    let reply = (rest.len() > numbers).then(|| rest.first().map(|&r| r.to_owned())).flatten();
    let skipped =
        if headers { number(rest.get(rest.len().wrapping_sub(2))).unwrap_or(0) } else { 0 };
    let mut body = vec![0; total + 2];
    read.read_exact(&mut body).await?;
    if let Some(inbox) = inbox.and_then(|number| locked(&shared.inboxes).get(&number).cloned()) {
        let body = Bytes::from(body).slice(skipped.min(total)..total);
        inbox.send(Came { reply, body }).ok();
    }
    Ok(())
}

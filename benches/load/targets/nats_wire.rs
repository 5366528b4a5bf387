//! As much of the NATS protocol as requests and their answers need: one connection that many
//! callers share, as the usual clients have it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};

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

/// Where answers to one request arrive; forgotten when it is dropped.
pub(super) struct Inbox {
    number: u64,
    came: mpsc::UnboundedReceiver<Came>,
    shared: Arc<Shared>,
}

impl Inbox {
    pub(super) async fn next(&mut self) -> Result<Came, String> {
        self.came.recv().await.ok_or_else(|| "the connection ended".into())
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        locked(&self.shared.inboxes).remove(&self.number);
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
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\
             \"no_responders\":true}}\r\nSUB {prefix}* 1\r\n"
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
        Ok(Self { shared, next: Arc::default() })
    }

    /// Publishes a message, with a place for answers.
    pub(super) fn request(&self, subject: &str, body: &[u8]) -> Inbox {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, came) = mpsc::unbounded_channel();
        locked(&self.shared.inboxes).insert(number, sender);
        let prefix = &self.shared.prefix;
        let head = format!("PUB {subject} {prefix}{number} {}\r\n", body.len());
        let mut out = locked(&self.shared.out);
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body);
        out.extend_from_slice(b"\r\n");
        drop(out);
        self.shared.bell.notify_one();
        Inbox { number, came, shared: Arc::clone(&self.shared) }
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
                locked(&shared.out).extend_from_slice(b"PONG\r\n");
                shared.bell.notify_one();
            }
            ["MSG", subject, _, rest @ ..] => {
                deliver(&shared, &mut read, subject, rest, false).await?;
            }
            ["HMSG", subject, _, rest @ ..] => {
                deliver(&shared, &mut read, subject, rest, true).await?;
            }
            _ => {}
        }
    }
}

/// Reads what follows the head of a message: `[reply] [bytes of headers] bytes`.
async fn deliver(
    shared: &Shared,
    read: &mut BufReader<OwnedReadHalf>,
    subject: &str,
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
    let inbox = subject.strip_prefix(&shared.prefix).and_then(|number| number.parse().ok());
    if let Some(inbox) = inbox.and_then(|number: u64| locked(&shared.inboxes).get(&number).cloned())
    {
        let body = Bytes::from(body).slice(skipped.min(total)..total);
        inbox.send(Came { reply, body }).ok();
    }
    Ok(())
}

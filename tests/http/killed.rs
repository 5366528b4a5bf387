//! Two service processes on the same Redis servers, one of which is killed while it takes posts.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::redis_server::RedisServer;
use crate::{CLIENT, OTHER_CLIENT, bodies, texts};

/// Clients that post at the same time.
const POSTERS: usize = 6;
/// Posts after which the process is killed.
const KILLED_AFTER: usize = 150;
const MESSAGES: &str = "/v2/queues/q/messages";
/// How long what was in flight may take to be decided.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// A process of `roundelay serve`, killed when it is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(servers: &[RedisServer]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).env_remove("ROUNDELAY_NODES");
        for server in servers {
            command.args(["--node", &server.url()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = told.next().unwrap().unwrap();
        // What it says later must not fill the pipe.
        std::thread::spawn(move || told.for_each(drop));
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(',').next());
        let address = address.unwrap_or_else(|| panic!("{line}")).parse().unwrap();
        Self { child, address }
    }

    /// SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One request on a connection of its own; `None` if no whole answer came.
async fn send(
    to: SocketAddr,
    client: &str,
    method: &str,
    path: &str,
    body: &Value,
) -> Option<(u16, Value)> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nClient-ID: {client}\r\nX-Project-Id: p\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(to).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    if body.is_empty() {
        return Some((status, Value::Null));
    }
    // Killed in the middle of an answer, it has said nothing.
    Some((status, serde_json::from_str(body).ok()?))
}

/// What became of one client's posts.
#[derive(Default)]
struct Told {
    acked: Vec<(Value, String)>,
    unknown: Vec<Value>,
}

/// Posts one message after the other until the service is gone.
async fn post_until_killed(to: SocketAddr, poster: usize, all: Arc<AtomicUsize>) -> Told {
    let mut told = Told::default();
    for number in 0.. {
        let body = json!({ "poster": poster, "number": number });
        let post = json!({"messages": [{ "body": body, "ttl": 3600 }]});
        match send(to, CLIENT, "POST", MESSAGES, &post).await {
            Some((201, posted)) => {
                told.acked.push((body, texts(&posted["resources"]).remove(0)));
                all.fetch_add(1, Ordering::Relaxed);
            }
            Some((503, _)) => told.unknown.push(body),
            Some(other) => panic!("{other:?}"),
            None => {
                told.unknown.push(body);
                break;
            }
        }
    }
    told
}

/// All messages, page by page.
async fn listed(at: SocketAddr) -> Vec<Value> {
    let mut path = format!("{MESSAGES}?limit=20&include_claimed=true");
    let mut all = Vec::new();
    loop {
        let (status, page) = send(at, OTHER_CLIENT, "GET", &path, &Value::Null).await.unwrap();
        assert_eq!(status, 200, "{page}");
        let found = bodies(&page);
        if found.is_empty() {
            return all;
        }
        all.extend(found);
        path = page["links"][0]["href"].as_str().unwrap().to_owned();
    }
}

/// Claims and deletes until nothing is left, and says what it was.
async fn consumed(at: SocketAddr) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let claims = "/v2/queues/q/claims?limit=20";
        let asked = json!({"ttl": 300, "grace": 60});
        let (status, claim) = send(at, OTHER_CLIENT, "POST", claims, &asked).await.unwrap();
        if status == 204 {
            return all;
        }
        assert_eq!(status, 201, "{claim}");
        for message in claim["messages"].as_array().unwrap() {
            let href = message["href"].as_str().unwrap();
            let deleted = send(at, OTHER_CLIENT, "DELETE", href, &Value::Null).await.unwrap();
            assert_eq!(deleted.0, 204, "{deleted:?}");
            all.push(message["body"].clone());
        }
    }
}

/// How often each was met.
fn counted(bodies: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for body in bodies {
        *counts.entry(body.to_string()).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_acknowledged_is_listed_claimed_and_deleted_once_at_another() {
    let servers =
        [RedisServer::start().await, RedisServer::start().await, RedisServer::start().await];
    let (mut one, other) = (Process::start(&servers), Process::start(&servers));
    let made = send(one.address, CLIENT, "PUT", "/v2/queues/q", &Value::Null).await.unwrap();
    assert_eq!(made.0, 201);
    let all = Arc::new(AtomicUsize::new(0));
    let posters: Vec<_> = (0..POSTERS)
        .map(|poster| tokio::spawn(post_until_killed(one.address, poster, Arc::clone(&all))))
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while all.load(Ordering::Relaxed) < KILLED_AFTER {
        assert!(Instant::now() < deadline, "posts take too long");
        sleep(Duration::from_millis(1)).await;
    }
    one.kill();
    let mut told = Vec::new();
    for poster in posters {
        told.push(poster.await.unwrap());
    }
    let acked: BTreeSet<String> =
        told.iter().flat_map(|told| &told.acked).map(|(body, _)| body.to_string()).collect();
    let unknown: BTreeSet<String> =
        told.iter().flat_map(|told| &told.unknown).map(Value::to_string).collect();
    assert!(acked.len() >= KILLED_AFTER && !unknown.is_empty());
    println!("{} acked, {} unknown", acked.len(), unknown.len());

    // At once, everything that was acknowledged, each once; what was in flight may be there too.
    let seen = counted(&listed(other.address).await);
    assert!(acked.iter().all(|body| seen.get(body) == Some(&1)), "{seen:?}");
    assert!(
        seen.iter().all(|(body, times)| {
            *times == 1 && (acked.contains(body) || unknown.contains(body))
        })
    );
    // One by one too.
    for (body, path) in &told[0].acked {
        let (status, found) =
            send(other.address, OTHER_CLIENT, "GET", path, &Value::Null).await.unwrap();
        assert_eq!((status, &found["body"]), (200, body));
    }
    let taken = counted(&consumed(other.address).await);
    assert!(acked.iter().all(|body| taken.get(body) == Some(&1)), "{taken:?}");
    assert!(
        taken.iter().all(|(body, times)| {
            *times == 1 && (acked.contains(body) || unknown.contains(body))
        })
    );
    // What was seen once is not gone again, and nothing comes back.
    assert!(seen.keys().all(|body| taken.contains_key(body)));
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        let (_, stats) =
            send(other.address, OTHER_CLIENT, "GET", "/v2/queues/q/stats", &Value::Null)
                .await
                .unwrap();
        if stats["messages"]["total"] == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{stats}");
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(listed(other.address).await, Vec::<Value>::new());
    // A process that is started in its place goes on.
    let third = Process::start(&servers);
    let post = json!({"messages": [{"body": "again"}]});
    let posted = send(third.address, CLIENT, "POST", MESSAGES, &post).await.unwrap();
    assert_eq!(posted.0, 201);
    assert_eq!(listed(other.address).await, [json!("again")]);
}

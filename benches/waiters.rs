//! What clients cost that wait for messages: `cargo bench --bench waiters [-- COUNT]` (Linux).
//!
//! Three servers, one process. As many wait as said (10,000 by default): on one queue, each on a queue
//! of its own, or as connections of the service. Told are memory and processor time of this process and
//! of the servers, commands that the servers run meanwhile, and how long it takes until all have the
//! message that is posted at the end.

#[path = "../tests/it/redis_server.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod redis_server;

use std::time::Duration;

use roundelay::http::{Connections, ServiceOptions, router, serve};
use roundelay::{
    ClaimOptions, ContentType, ListOptions, Metadata, NewMessage, Project, Queue, QueueName, Store,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use redis_server::RedisServer;

const WAIT: Duration = Duration::from_secs(600);
const IDLE: Duration = Duration::from_secs(20);

/// Where waiters stand.
#[derive(Clone, Copy, PartialEq)]
enum Where {
    Nobody,
    ListOne,
    ClaimOne,
    ListEach,
    Http,
}

fn main() {
    let count = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10_000);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!(
        "{:28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "kB each", "cpu %", "server kB", "server %", "cmds/s", "all in s"
    );
    // Both ends of a connection are here, and the system may give no more files.
    let connections = count.min(9_500);
    for (name, how, count) in [
        ("nobody", Where::Nobody, count),
        ("list, one queue", Where::ListOne, count),
        ("claim, one queue", Where::ClaimOne, count),
        ("list, a queue each", Where::ListEach, count),
        ("list over HTTP, one queue", Where::Http, connections),
    ] {
        runtime.block_on(run(name, how, count));
    }
}

async fn run(name: &str, how: Where, count: usize) {
    let servers =
        [RedisServer::start().await, RedisServer::start().await, RedisServer::start().await];
    let builder = servers.iter().fold(Store::builder(), |b, server| b.node(server.url()));
    let store = builder.open().await.expect("a store");
    let queues = if how == Where::ListEach { count } else { 1 };
    let queues: Vec<Queue> = (0..queues).map(|number| queue(&store, number)).collect();
    for queue in &queues {
        queue.create(&Metadata::default()).await.expect("a queue");
        // As in a queue that is used: there is a segment.
        post(queue).await;
        let claim = queue.claim(&ClaimOptions::default()).await.expect("a claim").expect("one");
        queue.delete_message(&claim.messages[0].id, Some(&claim.id)).await.expect("a delete");
    }
    sleep(Duration::from_secs(3)).await;
    let before = (own_kb(), server_kb(&servers).await);
    let mut waiting = wait(how, &store, &queues, count).await;
    // All stand, and everything has been counted once.
    sleep(Duration::from_secs(10)).await;
    let after = (own_kb(), server_kb(&servers).await);
    let (cpu, others, commands) = (own_cpu(), server_cpu(&servers).await, ran(&servers).await);
    sleep(IDLE).await;
    let cpu = 100.0 * (own_cpu() - cpu) / IDLE.as_secs_f64();
    let others = 100.0 * (server_cpu(&servers).await - others) / IDLE.as_secs_f64();
    let commands = (ran(&servers).await - commands) / IDLE.as_secs_f64();
    let start = Instant::now();
    if how == Where::ClaimOne {
        for _ in 0..count.div_ceil(1_000) {
            let many = (0..count.min(1_000)).map(|_| message()).collect();
            queues[0].post(many, None).await.expect("a post");
        }
    } else if how != Where::Nobody {
        futures_util::future::join_all(queues.iter().map(post)).await;
    }
    while let Some(ended) = waiting.join_next().await {
        ended.expect("no panic");
    }
    let all = start.elapsed().as_secs_f64();
    let each = |kb: f64| kb / count as f64;
    println!(
        "{name:28} {:9.2} {cpu:9.2} {:9.2} {others:9.2} {commands:9.1} {all:9.2}",
        each(after.0 - before.0),
        each(after.1 - before.1),
    );
    store.close().await;
}

async fn wait(how: Where, store: &Store, queues: &[Queue], count: usize) -> JoinSet<()> {
    let mut waiting = JoinSet::new();
    let address = if how == Where::Http { Some(service(store.clone(), count).await) } else { None };
    for number in 0..count {
        let queue = queues[number % queues.len()].clone();
        match how {
            Where::Nobody => {}
            Where::ListOne | Where::ListEach => {
                waiting.spawn(async move {
                    let page = queue.list_waiting(&ListOptions::default(), WAIT).await;
                    assert!(!page.expect("a page").messages.is_empty());
                });
            }
            Where::ClaimOne => {
                waiting.spawn(async move {
                    let options = ClaimOptions { limit: 1, ..ClaimOptions::default() };
                    let claim = queue.claim_waiting(&options, WAIT).await.expect("an answer");
                    assert!(claim.is_some());
                });
            }
            Where::Http => {
                let mut stream =
                    TcpStream::connect(address.expect("a service")).await.expect("a place");
                waiting.spawn(async move {
                    let request = "GET /v2/queues/q0/messages?wait=600&echo=true HTTP/1.1\r\nHost: x\r\n\
                        Client-ID: 3381af92-2b9e-11e3-b191-71861300734c\r\nX-Project-Id: p\r\n\r\n";
                    stream.write_all(request.as_bytes()).await.expect("it is taken");
                    let mut answer = [0; 64];
                    stream.read_exact(&mut answer).await.expect("an answer");
                    assert!(answer.starts_with(b"HTTP/1.1 200"));
                });
            }
        }
    }
    waiting
}

async fn service(store: Store, count: usize) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (mut options, mut connections) = (ServiceOptions::default(), Connections::default());
    options.max_wait = 600;
    connections.max_connections = count;
    tokio::spawn(serve(listener, router(store, options), connections, std::future::pending()));
    address
}

fn queue(store: &Store, number: usize) -> Queue {
    let name = QueueName::new(&format!("q{number}")).expect("a name");
    store.queue(&Project::new("p").expect("a project"), &name)
}

fn message() -> NewMessage {
    NewMessage::new(ContentType::Text, "x".to_owned()).expect("a message")
}

async fn post(queue: &Queue) {
    queue.post(vec![message()], None).await.expect("a post");
}

fn own_kb() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Seconds of processor time.
fn own_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, rest) = text.rsplit_once(") ").expect("a name");
    let ticks = |at: usize| rest.split(' ').nth(at).and_then(|n| n.parse::<f64>().ok());
    (ticks(11).expect("user time") + ticks(12).expect("system time")) / 100.0
}

/// The sum of a field of `INFO` over the servers.
async fn told(servers: &[RedisServer], section: &str, field: &str) -> f64 {
    let mut sum = 0.0;
    for server in servers {
        let text: String = server.run(&["INFO", section]).await;
        let found = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        sum += found.expect("the field").parse::<f64>().expect("a number");
    }
    sum
}

async fn server_kb(servers: &[RedisServer]) -> f64 {
    told(servers, "memory", "used_memory").await / 1024.0
}

async fn server_cpu(servers: &[RedisServer]) -> f64 {
    told(servers, "cpu", "used_cpu_user").await + told(servers, "cpu", "used_cpu_sys").await
}

async fn ran(servers: &[RedisServer]) -> f64 {
    told(servers, "stats", "total_commands_processed").await
}

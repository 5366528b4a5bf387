//! FLUSHALL on a live server under load: nothing acknowledged is lost, copies are restored by
//! themselves, and the log has one line about it.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roundelay::{ListOptions, Metadata, NewMessage, Project, Queue, QueueName, Store};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tracing_subscriber::EnvFilter;

use crate::redis_server::RedisServer;

/// How long it may take until all copies are restored.
const RESTORED_WITHIN: Duration = Duration::from_secs(20);

/// What is logged, line by line.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn open(servers: &[RedisServer]) -> Store {
    let builder = servers.iter().fold(Store::builder(), |all, server| all.node(server.url()));
    builder.open().await.unwrap()
}

fn queue(store: &Store) -> Queue {
    store.queue(&Project::new("").unwrap(), &QueueName::new("q").unwrap())
}

async fn lacking(store: &Store) -> u64 {
    queue(store).exists().await.unwrap();
    store.count_messages().await;
    store.metrics().census.unwrap().segments_under_replicated
}

/// Two processes as far as the library is concerned; on one thread, so that all of it is logged here.
#[tokio::test]
async fn a_flushed_server_loses_nothing_and_is_told_of_in_one_line() {
    const POSTS: usize = 400;
    let mut servers = Vec::new();
    for _ in 0..4 {
        servers.push(RedisServer::start().await);
    }
    let (one, other) = (open(&servers).await, open(&servers).await);
    queue(&one).create(&Metadata::default()).await.unwrap();
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("roundelay=info"))
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let logged = tracing::subscriber::set_default(subscriber);
    for number in 0..POSTS {
        if number == POSTS / 2 {
            // A keeper that has messages.
            servers[0].flush_all().await;
        }
        let store = if number % 2 == 0 { &one } else { &other };
        let message = NewMessage::json(&json!(number)).unwrap();
        queue(store).post(vec![message], None).await.unwrap();
    }
    let deadline = Instant::now() + RESTORED_WITHIN;
    let url = servers[0].url();
    let well =
        |store: &Store| {
            store.status().nodes.iter().all(|node| {
                node.health == "up" && (node.incarnation > 1 || !url.ends_with(&node.name))
            })
        };
    while !well(&one) || !well(&other) || lacking(&one).await + lacking(&other).await > 0 {
        assert!(Instant::now() < deadline, "{:?} {:?}", one.status(), one.metrics().census);
        sleep(Duration::from_millis(20)).await;
    }
    drop(logged);
    // Who repairs is told too, once it is known.
    let lines: Vec<String> =
        log.lines().into_iter().filter(|line| !line.contains("driver::lease")).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let status = one.status();
    let flushed = status.nodes.iter().find(|node| url.ends_with(&node.name)).expect("it is known");
    for word in ["WARN", "without its data", "restored", &flushed.name] {
        assert!(lines[0].contains(word), "{word:?} in {lines:?}");
    }
    let newcomer = open(&servers).await;
    let options = ListOptions { limit: 1000, ..ListOptions::default() };
    let page = queue(&newcomer).list(&options).await.unwrap();
    let mut found: Vec<u64> = page
        .messages
        .iter()
        .map(|message| serde_json::from_slice(&message.body).unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..POSTS as u64).collect::<Vec<_>>());
    for store in [one, other, newcomer] {
        store.close().await;
    }
}

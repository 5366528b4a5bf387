//! What the harness does to a server is what it says.

use std::time::Duration;

use fastrand::Rng;
use redis::aio::MultiplexedConnection;
use roundelay::{ListOptions, Metadata, NewMessage, Project, Queue, QueueName, Store};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::harness::servers::Server;

const HELD_BACK: Duration = Duration::from_millis(300);

async fn connect(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn set(connection: &mut MultiplexedConnection, key: &str) -> redis::RedisResult<()> {
    redis::cmd("SET").arg(key).arg(1).query_async(connection).await
}

async fn has(server: &Server, key: &str) -> bool {
    redis::cmd("EXISTS").arg(key).query_async(&mut connect(server).await).await.unwrap()
}

#[tokio::test]
async fn a_server_that_is_not_heard_does_what_it_is_asked() {
    let server = Server::start().await.unwrap();
    let mut connection = connect(&server).await;
    set(&mut connection, "before").await.unwrap();
    // Held back until the end …
    let begun = Instant::now();
    let mute = server.wire(|wire| wire.holds_answers = true, HELD_BACK, false);
    let ((), answer) = tokio::join!(mute, set(&mut connection, "late"));
    answer.unwrap();
    assert!(begun.elapsed() >= HELD_BACK && has(&server, "late").await);
    // … or lost.
    let mute = server.wire(|wire| wire.holds_answers = true, HELD_BACK, true);
    let ((), answer) = tokio::join!(mute, set(&mut connection, "unheard"));
    answer.unwrap_err();
    assert!(has(&server, "unheard").await);
}

#[tokio::test]
async fn a_server_that_hears_nothing_does_nothing_until_it_is_told() {
    let server = Server::start().await.unwrap();
    let mut connection = connect(&server).await;
    set(&mut connection, "before").await.unwrap();
    let deaf = server.wire(|wire| wire.holds_requests = true, HELD_BACK, true);
    let ((), answer) = tokio::join!(deaf, set(&mut connection, "lost"));
    answer.unwrap_err();
    assert!(!has(&server, "lost").await);
    let mut connection = connect(&server).await;
    set(&mut connection, "before").await.unwrap();
    let deaf = server.wire(|wire| wire.holds_requests = true, HELD_BACK, false);
    let ((), answer) = tokio::join!(deaf, set(&mut connection, "late"));
    answer.unwrap();
    assert!(has(&server, "late").await);
}

#[tokio::test]
async fn a_wire_that_refuses_breaks_what_there_is() {
    let server = Server::start().await.unwrap();
    let mut connection = connect(&server).await;
    let client = redis::Client::open(server.url()).unwrap();
    let refuse = server.wire(|wire| wire.refuses = true, HELD_BACK, false);
    let asks = async {
        sleep(HELD_BACK / 3).await;
        (set(&mut connection, "x").await, client.get_multiplexed_async_connection().await.is_err())
    };
    let ((), (answer, is_refused)) = tokio::join!(refuse, asks);
    answer.unwrap_err();
    assert!(is_refused);
    set(&mut connect(&server).await, "x").await.unwrap();
}

fn queue(store: &Store) -> Queue {
    store.queue(&Project::new("").unwrap(), &QueueName::new("q").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lost_the_end_of_its_journal_is_a_stranger() {
    const POSTS: u64 = 150;
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(Server::start().await.unwrap());
    }
    let open = || servers.iter().fold(Store::builder(), |all, server| all.node(server.url()));
    let store = open().open().await.unwrap();
    queue(&store).create(&Metadata::default()).await.unwrap();
    for number in 0..POSTS {
        if number == POSTS / 3 {
            servers[1].begin_journal().await.unwrap();
        }
        let message = NewMessage::json(&json!(number)).unwrap();
        queue(&store).post(vec![message], None).await.unwrap();
    }
    let life = |store: &Store| {
        let nodes = store.status().nodes;
        let node = nodes.into_iter().find(|node| servers[1].url().contains(&node.name));
        node.map_or(0, |node| node.incarnation)
    };
    assert_eq!(life(&store), 1);
    servers[1].truncate(Duration::ZERO, &mut Rng::with_seed(1)).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while life(&store) < 2 {
        assert!(Instant::now() < deadline, "{:?}", store.status());
        sleep(Duration::from_millis(10)).await;
    }
    let newcomer = open().open().await.unwrap();
    let options = ListOptions { limit: 1000, ..ListOptions::default() };
    assert_eq!(queue(&newcomer).list(&options).await.unwrap().messages.len() as u64, POSTS);
    store.close().await;
    newcomer.close().await;
}

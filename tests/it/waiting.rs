//! Waiting on real servers: they tell, nobody asks, and nothing is missed when they fail.

use std::time::Duration;

use roundelay::{
    ClaimOptions, Config, ContentType, ListOptions, MessagePage, Metadata, NewMessage, Project,
    Queue, QueueName, Store,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::redis_server::RedisServer;

const WAIT: Duration = Duration::from_secs(60);
/// What a post may take to be heard of by who waits, on a machine that has more to do.
const AT_ONCE: Duration = Duration::from_millis(100);

async fn servers(count: usize) -> Vec<RedisServer> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(RedisServer::start().await);
    }
    servers
}

async fn store(servers: &[RedisServer]) -> Store {
    let mut config = Config::default();
    // The machine may have more to do than this test: nobody is to be suspected for it.
    config.suspect_after = Duration::from_millis(500);
    let start = Instant::now();
    loop {
        let builder = Store::builder().config(config.clone());
        let builder = servers.iter().fold(builder, |builder, server| builder.node(server.url()));
        match builder.open().await {
            Ok(store) => return store,
            Err(error) => assert!(start.elapsed() < WAIT && error.is_retryable(), "{error}"),
        }
    }
}

fn queue(store: &Store) -> Queue {
    store.queue(&Project::new("p").unwrap(), &QueueName::new("q").unwrap())
}

fn message(text: &str) -> NewMessage {
    NewMessage::new(ContentType::Text, text.to_owned()).unwrap()
}

fn lister(queue: &Queue, options: ListOptions) -> JoinHandle<(MessagePage, Instant)> {
    let queue = queue.clone();
    tokio::spawn(async move {
        let page = queue.list_waiting(&options, WAIT).await.unwrap();
        (page, Instant::now())
    })
}

fn bodies(page: &MessagePage) -> Vec<&[u8]> {
    page.messages.iter().map(|message| message.body.as_ref()).collect()
}

/// How often a server has run each command, without those of the test itself.
async fn commands(server: &RedisServer) -> Vec<(String, u64)> {
    let text: String = server.run(&["INFO", "commandstats"]).await;
    let lines = text.lines().filter_map(|line| line.strip_prefix("cmdstat_"));
    let counted = lines.filter_map(|line| {
        let (name, rest) = line.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    });
    let own = ["info", "hello", "client|setinfo", "client|setname", "select"];
    counted.filter(|(name, _)| !own.contains(&name.as_str())).collect()
}

async fn total(servers: &[RedisServer]) -> u64 {
    let mut sum = 0;
    for server in servers {
        sum += commands(server).await.iter().map(|(_, calls)| calls).sum::<u64>();
    }
    sum
}

/// The quickest of several attempts: a machine that stood still for a moment is not what is tested.
async fn soon<F: Future<Output = Duration>>(mut attempt: impl FnMut() -> F) {
    let mut took = Vec::new();
    for _ in 0..5 {
        took.push(attempt().await);
        if took.last().is_some_and(|last| *last <= AT_ONCE) {
            return;
        }
    }
    panic!("never within {AT_ONCE:?}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_at_one_process_answers_who_waits_at_another_at_once() {
    let servers = servers(3).await;
    let (a, b) = (store(&servers).await, store(&servers).await);
    let (here, there) = (queue(&a), queue(&b));
    here.create(&Metadata::default()).await.unwrap();
    soon(async || {
        let marker = here.list(&ListOptions::default()).await.unwrap().marker;
        let waiting = lister(&here, ListOptions { marker, ..ListOptions::default() });
        sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        there.post(vec![message("a")], None).await.unwrap();
        let (page, end) = waiting.await.unwrap();
        assert_eq!(bodies(&page).last().unwrap(), b"a");
        end.duration_since(start)
    })
    .await;
    soon(async || {
        // What is there is taken first.
        while here.claim(&ClaimOptions::default()).await.unwrap().is_some() {}
        let claimer = here.clone();
        let waiting = tokio::spawn(async move {
            let claim = claimer.claim_waiting(&ClaimOptions::default(), None, WAIT).await.unwrap();
            (claim, Instant::now())
        });
        sleep(Duration::from_millis(300)).await;
        let start = Instant::now();
        there.post(vec![message("b")], None).await.unwrap();
        let (claim, end) = waiting.await.unwrap();
        assert_eq!(claim.unwrap().messages[0].body.as_ref(), b"b");
        end.duration_since(start)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_makes_no_traffic() {
    let servers = servers(3).await;
    let (a, b) = (store(&servers).await, store(&servers).await);
    let (here, there) = (queue(&a), queue(&b));
    here.create(&Metadata::default()).await.unwrap();
    there.post(vec![message("a")], None).await.unwrap();
    let marker = here.list(&ListOptions::default()).await.unwrap().marker;
    let window = Duration::from_secs(6);
    let count = async || {
        let before = total(&servers).await;
        sleep(window).await;
        total(&servers).await - before
    };
    sleep(Duration::from_secs(3)).await;
    let without = count().await;
    let waiting: Vec<_> = (0..200)
        .map(|_| lister(&here, ListOptions { marker: marker.clone(), ..ListOptions::default() }))
        .collect();
    sleep(Duration::from_secs(3)).await;
    let with = count().await;
    assert!(waiting.iter().all(|one| !one.is_finished()));
    // A ping on the connection of each server that tells, and what the clock makes uneven: a round of
    // what is done once a second. Polling four times a second would be hundreds of commands more.
    let uneven = without / 6 + 12;
    assert!(with <= without + uneven, "{without} commands without, {with} with 200 that wait");
    there.post(vec![message("b")], None).await.unwrap();
    for one in waiting {
        assert_eq!(bodies(&one.await.unwrap().0), [b"b"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_tell_is_looked_at_now_and_then() {
    let servers = servers(3).await;
    for server in &servers {
        server.run::<()>(&["ACL", "SETUSER", "default", "-client|tracking"]).await;
    }
    let (a, b) = (store(&servers).await, store(&servers).await);
    let (here, there) = (queue(&a), queue(&b));
    here.create(&Metadata::default()).await.unwrap();
    for text in ["a", "b", "c"] {
        let marker = here.list(&ListOptions::default()).await.unwrap().marker;
        let waiting = lister(&here, ListOptions { marker, ..ListOptions::default() });
        sleep(Duration::from_millis(700)).await;
        let start = Instant::now();
        there.post(vec![message(text)], None).await.unwrap();
        let (page, end) = waiting.await.unwrap();
        assert_eq!(bodies(&page), [text.as_bytes()]);
        assert!(end.duration_since(start) < Duration::from_secs(2), "{:?}", end - start);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_on_a_server_that_is_killed_misses_nothing() {
    for killed in 0..3 {
        let servers = servers(4).await;
        let (a, b) = (store(&servers).await, store(&servers).await);
        let (here, there) = (queue(&a), queue(&b));
        here.create(&Metadata::default()).await.unwrap();
        let waiting = lister(&here, ListOptions::default());
        sleep(Duration::from_millis(300)).await;
        let posting = tokio::spawn(async move {
            loop {
                // What was not stored may be tried again; what is not known may be there.
                match there.post(vec![message("a")], None).await {
                    Ok(_) => return Instant::now(),
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
            }
        });
        servers[killed].kill();
        let posted = posting.await.unwrap();
        let (page, end) = waiting.await.unwrap();
        assert_eq!(bodies(&page)[0], b"a");
        let late = end.saturating_duration_since(posted);
        assert!(late < Duration::from_secs(5), "{late:?} after the post");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_lose_the_connection_are_watched_again() {
    let servers = servers(3).await;
    let (a, b) = (store(&servers).await, store(&servers).await);
    let (here, there) = (queue(&a), queue(&b));
    here.create(&Metadata::default()).await.unwrap();
    let waiting = lister(&here, ListOptions::default());
    sleep(Duration::from_millis(300)).await;
    for server in &servers {
        server.run::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    }
    sleep(Duration::from_secs(2)).await;
    assert!(!waiting.is_finished());
    there.post(vec![message("a")], None).await.unwrap();
    assert_eq!(bodies(&waiting.await.unwrap().0), [b"a"]);
}

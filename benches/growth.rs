//! Whether claims and listings cost more as a queue grows: `cargo bench --bench growth`.
//!
//! Three real servers, three copies. Each pair is measured in turns within one run; what counts is
//! the ratio of the medians of five. `-- SCALE` divides the sizes, for a quick look.

use std::time::{Duration, Instant};

use roundelay::{
    ClaimOptions, ContentType, ListOptions, Marker, Metadata, NewMessage, Project, Queue,
    QueueName, Store,
};

#[path = "../tests/it/redis_server.rs"]
#[expect(dead_code, reason = "shared with the tests, which need more of it")]
mod redis_server;

type Outcome<T> = Result<T, roundelay::Error>;

const TURNS: usize = 5;
const CALLS: usize = 40;

#[tokio::main]
async fn main() -> Outcome<()> {
    // cargo itself passes `--bench`.
    let scale = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1).max(1);
    let servers = [
        redis_server::RedisServer::start().await,
        redis_server::RedisServer::start().await,
        redis_server::RedisServer::start().await,
    ];
    let mut builder = Store::builder();
    for server in &servers {
        builder = builder.node(server.url());
    }
    let store = builder.open().await?;
    claims(&store, 100_000 / scale).await?;
    listing(&store, 1_000_000 / scale).await
}

async fn queue(store: &Store, name: &str, messages: usize) -> Outcome<Queue> {
    let queue = store.queue(&Project::new("bench")?, &QueueName::new(name)?);
    queue.create(&Metadata::default()).await?;
    let batch: Vec<NewMessage> = (0..200)
        .map(|n| NewMessage::new(ContentType::Text, format!("{n:0100}")))
        .collect::<Result<_, _>>()?;
    for _ in 0..messages.div_ceil(batch.len()) {
        queue.post(batch.clone(), None).await?;
    }
    Ok(queue)
}

/// A claim of 10 with few messages claimed already, and with many.
async fn claims(store: &Store, many: usize) -> Outcome<()> {
    let few = queue(store, "few", many).await?;
    let full = queue(store, "many", 2 * many).await?;
    let mut claimed = 0;
    while claimed < many {
        let options = ClaimOptions { limit: 1000, ..ClaimOptions::default() };
        let Some(claim) = full.claim(&options).await? else { break };
        claimed += claim.messages.len();
    }
    few.claim(&ClaimOptions::default()).await?;
    let (mut with_few, mut with_many) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        with_few.push(time_claims(&few).await?);
        with_many.push(time_claims(&full).await?);
    }
    report("claim of 10", "10 claimed", with_few, &format!("{claimed} claimed"), with_many);
    Ok(())
}

async fn time_claims(queue: &Queue) -> Outcome<Duration> {
    let options = ClaimOptions { limit: 10, ..ClaimOptions::default() };
    let start = now();
    for _ in 0..CALLS {
        let claim = queue.claim(&options).await?;
        // A claim holds messages of one segment: at a segment's end it comes back short.
        assert!(claim.is_some_and(|claim| !claim.messages.is_empty()));
    }
    Ok(start.elapsed() / 40)
}

/// Pages of 100 from the head, and from the middle.
async fn listing(store: &Store, messages: usize) -> Outcome<()> {
    let queue = queue(store, "long", messages).await?;
    let mut middle = None;
    let mut passed = 0;
    while passed < messages / 2 {
        let options = ListOptions { marker: middle, limit: 1000, ..ListOptions::default() };
        let page = queue.list(&options).await?;
        passed += page.messages.len();
        middle = page.marker;
    }
    let (mut head, mut mid) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        head.push(time_pages(&queue, None).await?);
        mid.push(time_pages(&queue, middle.clone()).await?);
    }
    report("page of 100", "from the head", head, &format!("behind {passed}"), mid);
    Ok(())
}

async fn time_pages(queue: &Queue, marker: Option<Marker>) -> Outcome<Duration> {
    let start = now();
    let mut options = ListOptions { marker, limit: 100, ..ListOptions::default() };
    for _ in 0..CALLS {
        let page = queue.list(&options).await?;
        assert_eq!(page.messages.len(), 100);
        options.marker = page.marker;
    }
    Ok(start.elapsed() / 40)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

fn report(what: &str, base: &str, one: Vec<Duration>, other: &str, two: Vec<Duration>) {
    let (one, two) = (median(one), median(two));
    let ratio = two.as_secs_f64() / one.as_secs_f64();
    println!(
        "{what}: {one:.1?} with {base}, {two:.1?} with {other}: {ratio:.2} times (at most 1.25)"
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

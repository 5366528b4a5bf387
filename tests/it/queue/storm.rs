//! Producers, readers and claimers in several processes while nodes fail at random, one at a time
//! and each made whole again before the next: seeded, on a paused clock. A failing seed repeats.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roundelay::{ClaimOptions, ListOptions, Queue};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, config, message, new_queue, queue, text, walk};

const PRODUCERS: usize = 3;
const FAULTS: usize = 12;

#[derive(Default)]
struct Log {
    /// By producer: what was acked, in order.
    acked: BTreeMap<usize, Vec<u32>>,
    over: bool,
}

async fn produce(q: Queue, producer: usize, log: Arc<Mutex<Log>>) {
    let mut n = 0;
    loop {
        if log.lock().unwrap().over {
            return;
        }
        let body = format!("{producer}:{n}");
        if q.post(vec![message(body)], None).await.is_ok() {
            log.lock().unwrap().acked.entry(producer).or_default().push(n);
        }
        n += 1;
        sleep(Duration::from_millis(3)).await;
    }
}

/// Follows markers until the end, and some more; returns what it saw, by producer.
async fn follow(q: Queue, limit: usize, log: Arc<Mutex<Log>>) -> BTreeMap<usize, Vec<u32>> {
    let mut options =
        ListOptions { limit, include_claimed: true, include_delayed: true, ..Default::default() };
    let mut seen: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    let mut quiet = 0;
    while quiet < 20 {
        let over = log.lock().unwrap().over;
        match q.list(&options).await {
            Ok(page) => {
                quiet = if over && page.messages.is_empty() { quiet + 1 } else { 0 };
                for message in &page.messages {
                    let body = text(message);
                    let (producer, n) = body.split_once(':').unwrap();
                    seen.entry(producer.parse().unwrap()).or_default().push(n.parse().unwrap());
                }
                options.marker = page.marker;
            }
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
        sleep(Duration::from_millis(7)).await;
    }
    seen
}

async fn storm(seed: u64, nodes: usize, copies: usize) {
    let mut cluster = Cluster::new(nodes, seed);
    let mut setup = config(copies, 2);
    setup.segment_bytes = 3_000;
    let mut rng = fastrand::Rng::with_seed(seed);
    let log = Arc::new(Mutex::new(Log::default()));
    let first = cluster.store(setup.clone()).await;
    new_queue(&first, "q").await;
    let mut producers = Vec::new();
    let mut stores = vec![first];
    for producer in 0..PRODUCERS {
        let store = cluster.store(setup.clone()).await;
        producers.push(tokio::spawn(produce(queue(&store, "q"), producer, Arc::clone(&log))));
        stores.push(store);
    }
    let mut readers = Vec::new();
    for limit in [3, 50] {
        let store = cluster.store(setup.clone()).await;
        readers.push(tokio::spawn(follow(queue(&store, "q"), limit, Arc::clone(&log))));
        stores.push(store);
    }
    for _ in 0..FAULTS {
        sleep(Duration::from_millis(rng.u64(100..800))).await;
        let node = rng.usize(..nodes);
        match rng.u32(..6) {
            0 | 1 => cluster.kill(node),
            2 => cluster.faults[node].hang(),
            3 => cluster.nodes[node].flush(),
            4 => cluster.faults[node].cut_off(),
            _ => cluster.faults[node].drop_replies(rng.u32(1..20)),
        }
        sleep(Duration::from_millis(rng.u64(10..1500))).await;
        cluster.revive(node);
        cluster.faults[node].delay_before(Duration::from_micros(rng.u64(50..2000)));
        cluster.faults[node].delay_after(Duration::from_micros(rng.u64(50..2000)));
        sleep(Duration::from_secs(4)).await;
    }
    log.lock().unwrap().over = true;
    for producer in producers {
        producer.await.unwrap();
    }
    for (reader, limit) in readers.into_iter().zip([3, 50]) {
        let seen = reader.await.unwrap();
        for (producer, acked) in &log.lock().unwrap().acked {
            let got = seen.get(producer).cloned().unwrap_or_default();
            assert!(
                got.windows(2).all(|pair| pair[0] < pair[1]),
                "seed {seed}, pages of {limit}: repeated or out of order: {got:?}"
            );
            let missing: Vec<_> = acked.iter().filter(|n| !got.contains(n)).collect();
            assert!(missing.is_empty(), "seed {seed}, pages of {limit}: lost {missing:?}");
        }
    }
    let late = walk(&queue(&stores[0], "q"), 17).await;
    let acked: usize = log.lock().unwrap().acked.values().map(Vec::len).sum();
    assert!(late.len() >= acked, "seed {seed}: a late reader sees {} of {acked}", late.len());
    assert!(acked > 1000, "seed {seed}: only {acked} posts were acked");
}

/// Claims, deletes and checks that no message is ever in two hands.
async fn consume(
    q: Queue,
    held: Arc<Mutex<BTreeMap<String, Instant>>>,
    done: Arc<Mutex<Vec<String>>>,
) {
    let ttl = Duration::from_secs(30);
    let mut empty = 0;
    while empty < 800 {
        let claim = match q.claim(&ClaimOptions { ttl, limit: 7, ..Default::default() }).await {
            Ok(Some(claim)) => claim,
            Ok(None) => {
                empty += 1;
                sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        empty = 0;
        let until = Instant::now() + ttl;
        for message in &claim.messages {
            let before = held.lock().unwrap().insert(text(message), until);
            assert!(
                before.is_none_or(|before| before <= Instant::now()),
                "{} is in two hands",
                text(message)
            );
        }
        sleep(Duration::from_millis(40)).await;
        for message in &claim.messages {
            loop {
                match q.delete_message(&message.id, Some(&claim.id)).await {
                    Ok(_) => done.lock().unwrap().push(text(message)),
                    Err(error) if error.is_retryable() => continue,
                    // The claim's time ran out.
                    Err(error) => assert!(
                        matches!(
                            error.kind(),
                            roundelay::ErrorKind::ClaimNotFound
                                | roundelay::ErrorKind::MessageNotClaimed
                                | roundelay::ErrorKind::MessageClaimed
                        ),
                        "{error:?}"
                    ),
                }
                break;
            }
        }
    }
}

async fn claim_storm(seed: u64, copies: usize) {
    let mut cluster = Cluster::new(3, seed);
    let mut setup = config(copies, 2);
    setup.segment_bytes = 2_000;
    let mut rng = fastrand::Rng::with_seed(seed);
    let store = cluster.store(setup.clone()).await;
    let q = new_queue(&store, "q").await;
    for n in 0..60 {
        q.post((0..10).map(|k| message(format!("{}", n * 10 + k))).collect(), None).await.unwrap();
    }
    let (held, done) = (Arc::default(), Arc::new(Mutex::new(Vec::new())));
    let mut workers = Vec::new();
    let mut stores = Vec::new();
    for _ in 0..2 {
        let store = cluster.store(setup.clone()).await;
        for _ in 0..3 {
            let work = consume(queue(&store, "q"), Arc::clone(&held), Arc::clone(&done));
            workers.push(tokio::spawn(work));
        }
        stores.push(store);
    }
    for _ in 0..4 {
        sleep(Duration::from_millis(rng.u64(50..400))).await;
        let node = rng.usize(..3);
        match rng.u32(..4) {
            0 => cluster.kill(node),
            1 => cluster.faults[node].hang(),
            2 => cluster.nodes[node].flush(),
            _ => cluster.faults[node].drop_replies(rng.u32(1..10)),
        }
        sleep(Duration::from_millis(rng.u64(10..1500))).await;
        cluster.revive(node);
        sleep(Duration::from_secs(4)).await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
    let mut done = done.lock().unwrap().clone();
    done.sort_by_key(|n| n.parse::<u32>().unwrap());
    let all: Vec<String> = (0..600).map(|n| n.to_string()).collect();
    let mut once = done.clone();
    once.dedup();
    let missing: Vec<_> = all.iter().filter(|n| !once.contains(n)).collect();
    assert!(missing.is_empty(), "seed {seed}: never deleted: {missing:?}");
    assert_eq!(once.len(), all.len());
    assert_eq!(done.len(), once.len(), "seed {seed}: some were deleted twice");
    assert!(walk(&q, 10).await.is_empty(), "seed {seed}: some came back");
}

#[tokio::test(start_paused = true)]
async fn acked_messages_survive_storms_with_three_copies() {
    for seed in 100..103 {
        storm(seed, 3, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn acked_messages_survive_storms_with_two_copies() {
    for seed in 200..203 {
        storm(seed, 3, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn acked_messages_survive_storms_on_five_nodes() {
    for seed in 300..302 {
        storm(seed, 5, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn claims_stay_exclusive_in_storms() {
    for seed in 400..404 {
        claim_storm(seed, 2 + usize::from(seed % 2 == 0)).await;
    }
}

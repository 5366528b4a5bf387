//! Posts with keys from several processes while nodes fail at random: seeded, on a paused clock.
//!
//! The oracle of Q11: all answers to one key are the same, and a message of a key that was ever
//! answered is met once, by a reader of the whole log; one of a key that was not, at most once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roundelay::{IdempotencyKey, MessageId, NewMessage, Queue};
use tokio::time::sleep;

use super::cluster::{Cluster, config, message, new_queue, queue, text, walk};

const PROCESSES: usize = 3;
const KEYS: u64 = 400;
const FAULTS: usize = 8;

/// What was answered, by key.
type Answers = Arc<Mutex<BTreeMap<u64, Vec<Vec<MessageId>>>>>;

/// What breaks Q11 in what was answered and what is in the log, if anything.
fn broken(
    answers: &BTreeMap<u64, Vec<Vec<MessageId>>>,
    log: &[(u64, MessageId)],
) -> Option<String> {
    let mut met: BTreeMap<u64, Vec<MessageId>> = BTreeMap::new();
    log.iter().for_each(|(key, id)| met.entry(*key).or_default().push(*id));
    for (key, told) in answers {
        if told.windows(2).any(|pair| pair[0] != pair[1]) {
            return Some(format!("key {key} has several answers: {told:?}"));
        }
        if met.get(key) != told.first() {
            return Some(format!("key {key}: told {told:?}, in the log {:?}", met.get(key)));
        }
    }
    let twice = met.iter().find(|(key, ids)| !answers.contains_key(key) && ids.len() > size(**key));
    twice.map(|(key, ids)| format!("key {key} was not answered, in the log {ids:?}"))
}

/// How many messages the post with this key has.
fn size(key: u64) -> usize {
    1 + usize::try_from(key % 3).unwrap()
}

fn messages(key: u64) -> Vec<NewMessage> {
    (0..size(key)).map(|n| message(format!("{key}:{n}"))).collect()
}

async fn produce(q: Queue, seed: u64, answers: Answers) {
    let mut rng = fastrand::Rng::with_seed(seed);
    // All processes use the same keys, in much the same order.
    for next in 0..KEYS {
        let number = next.saturating_sub(rng.u64(0..6));
        let key = IdempotencyKey::new(&format!("key-{number}")).unwrap();
        for _ in 0..rng.u32(1..3) {
            match q.post_once(&key, messages(number), None).await {
                Ok(ids) => answers.lock().unwrap().entry(number).or_default().push(ids),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
        sleep(Duration::from_millis(rng.u64(0..120))).await;
    }
}

async fn storm(seed: u64, copies: usize) {
    let mut cluster = Cluster::new(4, seed);
    let mut setup = config(copies, 2);
    setup.segment_bytes = 3_000;
    setup.block_messages = 2;
    let mut rng = fastrand::Rng::with_seed(seed);
    let first = cluster.store(setup.clone()).await;
    let q = new_queue(&first, "q").await;
    let answers: Answers = Arc::default();
    let mut stores = Vec::new();
    let mut producers = Vec::new();
    for process in 0..PROCESSES {
        let store = cluster.store(setup.clone()).await;
        let seed = seed * 10 + process as u64;
        producers.push(tokio::spawn(produce(queue(&store, "q"), seed, Arc::clone(&answers))));
        stores.push(store);
    }
    for _ in 0..FAULTS {
        sleep(Duration::from_millis(rng.u64(100..600))).await;
        let node = rng.usize(..4);
        match rng.u32(..7) {
            0 | 1 => cluster.kill(node),
            2 => cluster.faults[node].hang(),
            3 => cluster.nodes[node].flush(),
            4 => cluster.faults[node].cut_off(),
            5 => cluster.faults[node].lose_requests(rng.u32(1..20)),
            _ => cluster.faults[node].drop_replies(rng.u32(1..20)),
        }
        sleep(Duration::from_millis(rng.u64(10..1500))).await;
        cluster.revive(node);
        cluster.faults[node].delay_before(Duration::from_micros(rng.u64(50..3000)));
        cluster.faults[node].delay_after(Duration::from_micros(rng.u64(50..3000)));
        sleep(Duration::from_secs(3)).await;
    }
    for producer in producers {
        producer.await.unwrap();
    }
    let log: Vec<(u64, MessageId)> = walk(&q, 37)
        .await
        .iter()
        .map(|message| (text(message).split_once(':').unwrap().0.parse().unwrap(), message.id))
        .collect();
    let answers = answers.lock().unwrap();
    assert_eq!(broken(&answers, &log), None, "seed {seed}");
    let repeated = answers.values().filter(|told| told.len() > 1).count();
    assert!(repeated > 200, "seed {seed}: only {repeated} keys were used again");
}

#[tokio::test(start_paused = true)]
async fn keys_post_once_in_storms_with_three_copies() {
    for seed in 700..704 {
        storm(seed, 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_post_once_in_storms_with_two_copies() {
    for seed in 710..714 {
        storm(seed, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_oracle_of_keys_sees_a_double_post_a_lost_one_and_two_answers() {
    let mut cluster = Cluster::new(3, 720);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    let ids = q.post(vec![message("a"), message("b")], None).await.unwrap();
    let told = |answers: &[&[MessageId]]| {
        BTreeMap::from([(0, answers.iter().map(|ids| ids.to_vec()).collect::<Vec<_>>())])
    };
    let (one, two) = (&ids[..1], &ids[1..]);
    assert_eq!(broken(&told(&[one, one]), &[(0, ids[0])]), None);
    assert!(broken(&told(&[one, two]), &[(0, ids[0])]).is_some());
    assert!(broken(&told(&[one]), &[(0, ids[0]), (0, ids[1])]).is_some());
    assert!(broken(&told(&[one]), &[]).is_some());
    assert!(broken(&BTreeMap::new(), &[(0, ids[0]), (0, ids[1])]).is_some());
    assert_eq!(broken(&BTreeMap::new(), &[(0, ids[0])]), None);
}

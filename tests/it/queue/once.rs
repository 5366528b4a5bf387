//! Posts with an idempotency key, repeated after whatever went wrong (Q11).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use roundelay::node::{Node, Op, Reply};
use roundelay::{
    ClaimOptions, Config, Error, ErrorKind, IdempotencyKey, MessageId, Metadata, NewMessage, Queue,
};
use tokio::time::sleep;

use super::cluster::{Cluster, config, message, new_queue, queue, text, texts, walk};
use super::mortal::Death;

const HOUR: Duration = Duration::from_secs(3_600);

fn key(text: &str) -> IdempotencyKey {
    IdempotencyKey::new(text).unwrap()
}

/// Messages that outlive every test.
fn messages(name: &str, count: usize) -> Vec<NewMessage> {
    let long = |text| message(text).with_ttl(100 * HOUR).unwrap();
    (0..count).map(|n| long(format!("{name}-{n}"))).collect()
}

async fn post(queue: &Queue, name: &str, count: usize) -> Result<Vec<MessageId>, Error> {
    queue.post_once(&key(name), messages(name, count), None).await
}

/// Blocks of two messages: a post of five is cut into three parts.
fn small_blocks(copies: usize) -> Config {
    let mut config = config(copies, 2);
    config.block_messages = 2;
    config
}

/// Claims and deletes all there is.
async fn consume(queue: &Queue) -> Vec<String> {
    let mut consumed = Vec::new();
    while let Some(claim) = queue.claim(&ClaimOptions::default()).await.unwrap() {
        for message in &claim.messages {
            assert!(queue.delete_message(&message.id, Some(&claim.id)).await.unwrap());
            consumed.push(text(message));
        }
    }
    consumed
}

#[tokio::test(start_paused = true)]
async fn a_repeated_post_is_answered_like_the_first_and_adds_nothing() {
    let mut cluster = Cluster::new(3, 600);
    let (one, two) = (cluster.store(small_blocks(3)).await, cluster.store(config(3, 2)).await);
    let q = new_queue(&one, "q").await;
    let first = post(&q, "a", 5).await.unwrap();
    assert_eq!(first.len(), 5);
    let listed = walk(&q, 2).await;
    assert_eq!(listed.iter().map(|message| message.id).collect::<Vec<_>>(), first);
    assert_eq!(texts(&listed), ["a-0", "a-1", "a-2", "a-3", "a-4"]);
    for store in [&one, &two] {
        assert_eq!(post(&queue(store, "q"), "a", 5).await.unwrap(), first);
    }
    // Whatever has become of the messages.
    assert_eq!(consume(&q).await.len(), 5);
    assert_eq!(post(&queue(&two, "q"), "a", 5).await.unwrap(), first);
    assert!(walk(&q, 10).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn keys_of_two_queues_and_two_keys_of_one_do_not_meet() {
    let mut cluster = Cluster::new(3, 601);
    let store = cluster.store(config(3, 2)).await;
    let (q, r) = (new_queue(&store, "q").await, new_queue(&store, "r").await);
    post(&q, "a", 1).await.unwrap();
    post(&q, "b", 1).await.unwrap();
    post(&r, "a", 1).await.unwrap();
    assert_eq!(texts(&walk(&q, 10).await), ["a-0", "b-0"]);
    assert_eq!(texts(&walk(&r, 10).await), ["a-0"]);
}

#[tokio::test(start_paused = true)]
async fn a_key_stands_for_one_request() {
    let mut cluster = Cluster::new(3, 602);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    let first = post(&q, "a", 2).await.unwrap();
    for other in [messages("b", 2), messages("a", 1), vec![message("a-0"), message("a-1")]] {
        let error = q.post_once(&key("a"), other, None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::KeyReused, "{error:?}");
        assert!(!error.is_retryable());
    }
    // What the caller says is the request counts, not what was made of it.
    let told = |name: &str| key("told").of_request(name.as_bytes());
    let ids = q.post_once(&told("x"), messages("x", 1), None).await.unwrap();
    assert_eq!(q.post_once(&told("x"), messages("y", 1), None).await.unwrap(), ids);
    assert!(q.post_once(&told("y"), messages("x", 1), None).await.is_err());
    assert_eq!(post(&q, "a", 2).await.unwrap(), first);
    assert_eq!(walk(&q, 10).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn posts_with_one_key_at_the_same_time_are_one() {
    let mut cluster = Cluster::new(3, 603);
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(cluster.store(small_blocks(3)).await);
    }
    new_queue(&stores[0], "q").await;
    let queues: Vec<Queue> = stores.iter().map(|store| queue(store, "q")).collect();
    for round in 0..20 {
        let name = format!("round {round}").replace(' ', "-");
        // Two from each process.
        let posts = queues.iter().chain(&queues).map(|q| post(q, &name, 5));
        let ids: Vec<_> = join_all(posts).await.into_iter().map(Result::unwrap).collect();
        assert!(ids.iter().all(|other| *other == ids[0]), "{ids:?}");
    }
    assert_eq!(walk(&queues[0], 100).await.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_key_is_remembered_for_an_hour_and_then_forgotten() {
    let mut cluster = Cluster::new(3, 604);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    let first = post(&q, "a", 1).await.unwrap();
    for n in 0..50 {
        post(&q, &n.to_string(), 1).await.unwrap();
    }
    sleep(HOUR - Duration::from_secs(1)).await;
    assert!(bytes_of_keys(&cluster).await > 50 * 40);
    assert_eq!(post(&q, "0", 1).await.unwrap(), post(&q, "0", 1).await.unwrap());
    sleep(Duration::from_secs(600)).await;
    let again = post(&q, "a", 1).await.unwrap();
    assert_ne!(first, again);
    assert_eq!(walk(&q, 100).await.len(), 52);
    // What nobody asks for any more is removed: the registers stay, with next to nothing in them.
    sleep(2 * HOUR).await;
    let left = bytes_of_keys(&cluster).await;
    assert!(left < 32 * 64, "{left} bytes of keys are left");
}

/// Bytes that the first node has in registers of keys.
async fn bytes_of_keys(cluster: &Cluster) -> usize {
    let node = &cluster.nodes[0];
    let replies = node.call(vec![Op::Identity]).await.unwrap();
    let [Reply::Identity(identity)] = &replies[..] else { panic!("{replies:?}") };
    let (cookie, epoch) =
        (identity.cookie.clone().unwrap().0, identity.keeper.clone().unwrap().epoch);
    let names = (0..32).map(|shard| format!("k:{shard}:q:7:project:q")).collect();
    let replies = node.call(vec![Op::ReadRegisters { cookie, epoch, names }]).await.unwrap();
    let [Reply::Registers(registers)] = &replies[..] else { panic!("{replies:?}") };
    registers.each.iter().flatten().map(|(_, value)| value.len()).sum()
}

#[tokio::test(start_paused = true)]
async fn a_deleted_queue_forgets_its_keys() {
    let mut cluster = Cluster::new(3, 605);
    let (one, two) = (cluster.store(config(3, 2)).await, cluster.store(config(3, 2)).await);
    let (q, r) = (new_queue(&one, "q").await, queue(&two, "q"));
    post(&q, "a", 1).await.unwrap();
    post(&r, "a", 1).await.unwrap();
    assert!(q.delete().await.unwrap());
    assert_eq!(post(&r, "a", 1).await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    q.create(&Metadata::default()).await.unwrap();
    let ids = post(&r, "a", 1).await.unwrap();
    assert_eq!(post(&q, "a", 1).await.unwrap(), ids);
    assert_eq!(walk(&q, 10).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn posts_without_a_key_ask_for_none() {
    let mut cluster = Cluster::new(3, 606);
    let mut setup = config(3, 2);
    setup.segment_bytes = 500;
    let (store, life) = cluster.mortal(setup).await;
    let q = new_queue(&store, "q").await;
    for n in 0..50 {
        q.post(messages(&n.to_string(), 3), None).await.unwrap();
    }
    assert_eq!(consume(&q).await.len(), 150);
    sleep(Duration::from_secs(5)).await;
    assert!(q.delete().await.unwrap());
    assert_eq!(life.key_requests(), 0);
}

/// What happens between the death of the poster and the repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    /// All messages are consumed, their segments leave, and nobody remembers their ends.
    Consumed,
    /// A node dies and comes back empty.
    NodeLost(usize),
}

/// A process dies at its request number `at` while it posts; another one repeats the post, then
/// what was late arrives. `false`: it had finished before.
async fn dies_and_is_repeated(death: Death, at: u32, copies: usize, between: Between) -> bool {
    let case = format!("{death:?} at {at}, {copies} copies, {between:?}");
    let mut cluster = Cluster::new(4, 610 + u64::from(at));
    let other = cluster.store(small_blocks(copies)).await;
    let q = new_queue(&other, "q").await;
    let (mortal, life) = cluster.mortal(small_blocks(copies)).await;
    let doomed = queue(&mortal, "q");
    post(&doomed, "before", 1).await.unwrap();
    // Long enough for what follows a post.
    sleep(Duration::from_millis(100)).await;
    life.end_at(death, at);
    let posting = tokio::spawn(async move { post(&doomed, "a", 5).await });
    while !life.is_over() && !posting.is_finished() {
        sleep(Duration::from_micros(100)).await;
    }
    if !life.is_over() {
        posting.await.unwrap().unwrap();
        mortal.close().await;
        other.close().await;
        return false;
    }
    sleep(Duration::from_millis(5)).await;
    let mut seen = Vec::new();
    match between {
        Between::Nothing => {}
        Between::Consumed => {
            seen = consume(&q).await;
            sleep(Duration::from_secs(65)).await;
            // Whoever takes a segment out drops the stubs that are older than a minute.
            q.post(vec![message("more")], None).await.unwrap();
            seen.extend(consume(&q).await);
            sleep(Duration::from_secs(2)).await;
        }
        Between::NodeLost(node) => {
            cluster.kill(node);
            sleep(Duration::from_secs(3)).await;
            cluster.revive(node);
        }
    }
    let ids = post(&q, "a", 5).await.unwrap_or_else(|error| panic!("{case}: {error:?}"));
    assert_eq!(ids.len(), 5, "{case}");
    life.deliver().await;
    sleep(Duration::from_secs(2)).await;
    let third = cluster.store(config(copies, 2)).await;
    let again = post(&queue(&third, "q"), "a", 5).await.unwrap();
    assert_eq!(again, ids, "{case}");
    if let Ok(Ok(told)) = tokio::time::timeout(Duration::from_secs(60), posting).await.unwrap() {
        assert_eq!(told, ids, "{case}");
    }
    if between != Between::Consumed {
        let listed = walk(&q, 3).await;
        let places: Vec<_> =
            ids.iter().map(|id| listed.iter().position(|message| message.id == *id)).collect();
        assert!(places.is_sorted() && places.iter().all(Option::is_some), "{case}: {places:?}");
    }
    seen.extend(consume(&q).await);
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    seen.into_iter().for_each(|text| *times.entry(text).or_default() += 1);
    for n in 0..5 {
        assert_eq!(times.get(&format!("a-{n}")), Some(&1), "{case}: {times:?}");
    }
    for store in [mortal, other, third] {
        store.close().await;
    }
    true
}

/// Dies at each request in turn, until the post is through before; at every third one if that
/// takes long.
async fn dies_everywhere(death: Death, copies: usize, between: Between) {
    let step = if between == Between::Nothing { 1 } else { 3 };
    let mut deaths = 0;
    while dies_and_is_repeated(death, deaths, copies, between).await {
        deaths += step;
    }
    // Three parts: each named, sent and noted, at three keepers and on each replica.
    assert!(deaths > 40, "only {deaths} requests");
}

macro_rules! deaths {
    ($($name:ident: $death:ident, $copies:literal copies, $between:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            dies_everywhere(Death::$death, $copies, $between).await;
        }
    )*};
}

deaths! {
    a_post_whose_poster_died_is_found_or_made_whole: Unheard, 3 copies, Between::Nothing;
    a_post_whose_poster_died_unanswered_is_found_or_made_whole: Heard, 2 copies, Between::Nothing;
    a_post_that_arrives_late_adds_nothing: Late, 3 copies, Between::Nothing;
    a_post_that_arrives_late_adds_nothing_with_two_copies: Late, 2 copies, Between::Nothing;
    a_post_that_was_consumed_before_it_was_repeated_is_not_made_again:
        Heard, 3 copies, Between::Consumed;
    a_late_post_adds_nothing_to_what_was_consumed: Late, 2 copies, Between::Consumed;
    a_post_is_found_after_a_node_was_lost: Heard, 3 copies, Between::NodeLost(0);
    a_late_post_adds_nothing_after_a_node_was_lost: Late, 3 copies, Between::NodeLost(1);
}

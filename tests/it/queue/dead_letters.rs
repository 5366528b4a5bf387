//! Messages that are claimed too often are moved, once, and are never in neither queue.

use std::time::Duration;

use roundelay::{Claim, ClaimOptions, Config, DeadLetters, ListOptions, Message, Queue, Store};
use tokio::time::sleep;

use super::cluster::{Cluster, client, config, message, new_queue, queue, text, texts, walk};
use super::mortal::Death;

const CLAIM: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_secs(86_400);

fn setup() -> Config {
    config(3, 2)
}

fn letters(store: &Store, max_claims: u32) -> DeadLetters {
    DeadLetters { max_claims, queue: queue(store, "dead"), ttl: None, rewrite: None }
}

async fn claim(queue: &Queue, letters: &DeadLetters, limit: usize) -> Option<Claim> {
    let options = ClaimOptions { ttl: CLAIM, limit, ..ClaimOptions::default() };
    queue.claim_or_move(&options, letters).await.unwrap()
}

fn long(text: &str) -> roundelay::NewMessage {
    message(text).with_ttl(7 * DAY).unwrap()
}

/// What a reader sees that leaves out claimed messages and those that have moved.
async fn seen(queue: &Queue, letters: &DeadLetters) -> Vec<Message> {
    let page = queue.list(&ListOptions { limit: 100, ..Default::default() }).await.unwrap();
    let mut left = Vec::new();
    for message in page.messages {
        if !queue.has_moved(&message, letters).await.unwrap() {
            left.push(message);
        }
    }
    left
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_claimed_too_often_is_moved_at_its_next_claim() {
    let mut cluster = Cluster::new(3, 800);
    let store = cluster.store(setup()).await;
    let q = new_queue(&store, "q").await;
    let letters = letters(&store, 2);
    let ids = q.post(vec![long("a")], Some(&client("poster"))).await.unwrap();
    for _ in 0..2 {
        assert_eq!(texts(&claim(&q, &letters, 5).await.unwrap().messages), ["a"]);
        sleep(CLAIM).await;
    }
    assert!(walk(&letters.queue, 5).await.is_empty());
    assert!(claim(&q, &letters, 5).await.is_none());
    assert!(walk(&q, 5).await.is_empty());
    let dead = walk(&letters.queue, 5).await;
    assert_eq!(texts(&dead), ["a"]);
    // It can be traced, and is as new there.
    let origin = dead[0].origin.clone().unwrap();
    assert_eq!((origin.queue, origin.id, origin.claims), ("q".into(), ids[0].to_string(), 2));
    assert_eq!((dead[0].claim_count, &dead[0].client), (0, &Some(client("poster"))));
    // It lives for the rest of its life.
    let rest = 7 * DAY - 2 * CLAIM;
    assert!(dead[0].ttl <= rest && dead[0].ttl > rest - CLAIM, "{:?}", dead[0].ttl);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_meets_dead_letters_goes_on_to_other_messages() {
    let mut cluster = Cluster::new(3, 801);
    let store = cluster.store(setup()).await;
    let q = new_queue(&store, "q").await;
    let letters = DeadLetters { ttl: Some(Duration::from_secs(100)), ..letters(&store, 1) };
    q.post((0..3).map(|n| long(&n.to_string())).collect(), None).await.unwrap();
    assert_eq!(claim(&q, &letters, 3).await.unwrap().messages.len(), 3);
    sleep(CLAIM).await;
    q.post(vec![long("new")], None).await.unwrap();
    // Two of three, then one, and the new one: all in one call.
    let claimed = claim(&q, &letters, 2).await.unwrap();
    assert_eq!(texts(&claimed.messages), ["new"]);
    let dead = walk(&letters.queue, 5).await;
    let mut names = texts(&dead);
    names.sort();
    assert_eq!(names, ["0", "1", "2"]);
    assert!(dead.iter().all(|message| message.ttl == Duration::from_secs(100)));
    assert_eq!(texts(&walk(&q, 5).await), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn two_that_move_the_same_message_move_it_once() {
    let mut cluster = Cluster::new(3, 802);
    let (one, two) = (cluster.store(setup()).await, cluster.store(setup()).await);
    let q = new_queue(&one, "q").await;
    let r = queue(&two, "q");
    let (mine, other) = (letters(&one, 1), letters(&two, 1));
    q.post((0..20).map(|n| long(&n.to_string())).collect(), None).await.unwrap();
    assert_eq!(claim(&q, &mine, 20).await.unwrap().messages.len(), 20);
    sleep(CLAIM).await;
    let (here, there) = tokio::join!(claim(&q, &mine, 7), claim(&r, &other, 20));
    assert!(here.is_none() && there.is_none());
    sleep(CLAIM).await;
    assert!(claim(&q, &mine, 20).await.is_none());
    assert_eq!(walk(&mine.queue, 100).await.len(), 20);
    assert!(walk(&q, 100).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_a_bound_messages_are_claimed_for_ever() {
    let mut cluster = Cluster::new(3, 803);
    let store = cluster.store(setup()).await;
    let q = new_queue(&store, "q").await;
    q.post(vec![long("a")], None).await.unwrap();
    for _ in 0..5 {
        let claimed = q.claim(&ClaimOptions { ttl: CLAIM, ..Default::default() }).await.unwrap();
        assert_eq!(claimed.unwrap().messages.len(), 1);
        sleep(CLAIM).await;
    }
}

/// A process dies at its request number `at` while it moves a message; its claim ends, and later
/// another process claims. `false`: it had finished before.
async fn dies_while_it_moves(death: Death, at: u32) -> bool {
    let case = format!("{death:?} at {at}");
    let mut cluster = Cluster::new(3, 810 + u64::from(at));
    let other = cluster.store(setup()).await;
    let q = new_queue(&other, "q").await;
    let letters = letters(&other, 1);
    new_queue(&other, "dead").await;
    q.post(vec![long("a"), long("b")], None).await.unwrap();
    let (mortal, life) = cluster.mortal(setup()).await;
    let doomed = queue(&mortal, "q");
    let its = DeadLetters { queue: queue(&mortal, "dead"), ..letters.clone() };
    assert_eq!(claim(&doomed, &its, 5).await.unwrap().messages.len(), 2);
    sleep(CLAIM).await;
    life.end_at(death, at);
    let moving = tokio::spawn(async move {
        let options = ClaimOptions { ttl: CLAIM, ..ClaimOptions::default() };
        doomed.claim_or_move(&options, &its).await.map(drop)
    });
    while !life.is_over() && !moving.is_finished() {
        sleep(Duration::from_micros(100)).await;
    }
    let died = life.is_over();
    sleep(Duration::from_millis(5)).await;
    // While the claim lasts, after it has ended, and after hours in which nobody claims.
    for pause in [Duration::ZERO, CLAIM, 2 * CLAIM] {
        sleep(pause).await;
        let (here, there) = (seen(&q, &letters).await, walk(&letters.queue, 9).await);
        for name in ["a", "b"] {
            let count = |all: &[Message]| all.iter().filter(|m| text(m) == name).count();
            let all = walk(&q, 9).await;
            let held = all.iter().any(|m| text(m) == name && m.claim.is_some());
            let places = count(&here) + count(&there);
            assert!(places == 1 || (places == 0 && held), "{case}: {name} is in {places} queues");
        }
    }
    if died {
        life.deliver().await;
    }
    // A late pick claims for a process that is no more.
    for _ in 0..2 {
        assert!(claim(&q, &letters, 5).await.is_none(), "{case}");
        sleep(CLAIM).await;
    }
    assert!(walk(&q, 9).await.is_empty(), "{case}");
    let mut dead = texts(&walk(&letters.queue, 9).await);
    dead.sort();
    assert_eq!(dead, ["a", "b"], "{case}");
    for store in [mortal, other] {
        store.close().await;
    }
    died
}

#[tokio::test(start_paused = true)]
async fn a_move_that_was_cut_short_anywhere_is_finished_and_adds_nothing() {
    let mut deaths = 0;
    while dies_while_it_moves(Death::Heard, deaths).await {
        deaths += 1;
    }
    assert!(deaths > 30, "only {deaths} requests");
}

#[tokio::test(start_paused = true)]
async fn a_move_that_arrives_late_adds_nothing() {
    let mut deaths = 0;
    while dies_while_it_moves(Death::Late, deaths).await {
        deaths += 1;
    }
    assert!(deaths > 30, "only {deaths} requests");
}

#[tokio::test(start_paused = true)]
async fn a_move_is_not_repeated_however_late_it_is_finished() {
    let mut cluster = Cluster::new(3, 804);
    let other = cluster.store(setup()).await;
    let q = new_queue(&other, "q").await;
    let letters = letters(&other, 1);
    new_queue(&other, "dead").await;
    q.post(vec![long("a")], None).await.unwrap();
    let (mortal, life) = cluster.mortal(setup()).await;
    let doomed = queue(&mortal, "q");
    let its = DeadLetters { queue: queue(&mortal, "dead"), ..letters.clone() };
    assert!(claim(&doomed, &its, 5).await.is_some());
    sleep(CLAIM).await;
    let moving = tokio::spawn(async move { claim(&doomed, &its, 5).await });
    while walk(&letters.queue, 9).await.is_empty() {
        sleep(Duration::from_micros(50)).await;
    }
    // It is in the other queue; the process dies before it deletes it here.
    life.end_at(Death::Unheard, 0);
    sleep(Duration::from_secs(3 * 3_600)).await;
    moving.abort();
    assert_eq!(walk(&q, 9).await.len(), 1, "the move was not cut short");
    assert!(seen(&q, &letters).await.is_empty());
    assert!(claim(&q, &letters, 5).await.is_none());
    assert_eq!((walk(&q, 9).await.len(), walk(&letters.queue, 9).await.len()), (0, 1));
}

//! One node fails while posts, reads and claims go on: nothing acked is lost, and the stall is
//! short (Q1, Q2, Q3, Q10). Time is paused, so the stalls are exact.

use std::time::Duration;

use futures_util::future::join_all;
use roundelay::{ClaimOptions, Config, ErrorKind, ListOptions, Outcome, Queue, Store};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, config, message, new_queue, queue, text, texts, walk};

/// What the fault of one node is, and how it ends.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    Hang,
    Flush,
    Full,
    CutOff,
}

impl Fault {
    fn begin(self, cluster: &Cluster, node: usize) {
        match self {
            Self::Kill => cluster.kill(node),
            Self::Hang => cluster.faults[node].hang(),
            Self::Flush => cluster.nodes[node].flush(),
            Self::Full => cluster.nodes[node].set_memory_limit(Some(1)),
            Self::CutOff => cluster.faults[node].cut_off(),
        }
    }

    fn end(self, cluster: &Cluster, node: usize) {
        cluster.nodes[node].set_memory_limit(None);
        cluster.revive(node);
    }
}

/// Posts from so many processes while one node after another fails, waits for each to be whole
/// again, and checks what is listed. Returns the longest time between two acks.
async fn post_through(
    fault: Fault,
    nodes: usize,
    processes: usize,
    seed: u64,
    config: Config,
) -> Duration {
    let mut cluster = Cluster::new(nodes, seed);
    let mut stores = Vec::new();
    for _ in 0..=processes {
        stores.push(cluster.store(config.clone()).await);
    }
    new_queue(&stores[0], "q").await;
    // The last one only reads.
    let posters: Vec<Queue> = stores[..processes].iter().map(|store| queue(store, "q")).collect();
    let mut posted = Vec::new();
    let mut longest = Duration::ZERO;
    for node in 0..nodes {
        fault_one(fault, &cluster, &posters, node, &mut posted, &mut longest).await;
    }
    for limit in [7, 100] {
        let listed = texts(&walk(&queue(&stores[processes], "q"), limit).await);
        assert_eq!(listed.len(), posted.len() * processes, "pages of {limit}");
        for process in 0..processes {
            let name = format!("{process}:");
            let of_one: Vec<_> =
                listed.iter().filter_map(|text| text.strip_prefix(&name)).collect();
            assert_eq!(of_one, posted, "process {process}, pages of {limit}");
        }
    }
    longest
}

async fn fault_one(
    fault: Fault,
    cluster: &Cluster,
    posters: &[Queue],
    node: usize,
    posted: &mut Vec<String>,
    longest: &mut Duration,
) {
    for n in 0..400 {
        if n == 50 {
            fault.begin(cluster, node);
        }
        if n == 200 {
            fault.end(cluster, node);
        }
        let body = format!("{node}-{n}");
        let began = Instant::now();
        let posts = posters.iter().enumerate().map(|(process, q)| {
            let messages = vec![message(format!("{process}:{body}"))];
            async move { q.post(messages, None).await.unwrap() }
        });
        join_all(posts).await;
        posted.push(body);
        *longest = (*longest).max(began.elapsed());
        sleep(Duration::from_millis(2)).await;
    }
    // Long enough for copies to be restored before the next node fails.
    sleep(Duration::from_secs(5)).await;
}

macro_rules! stalls {
    ($($name:ident: $fault:expr, $nodes:literal nodes, $copies:literal copies, $limit:literal ms;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let longest = post_through($fault, $nodes, 1, 20, config($copies, 2)).await;
            assert!(longest <= Duration::from_millis($limit), "stalled for {longest:?}");
        }
    )*};
}

stalls! {
    posts_go_on_when_nodes_die_with_three_copies: Fault::Kill, 3 nodes, 3 copies, 100 ms;
    posts_go_on_when_nodes_die_with_two_copies: Fault::Kill, 3 nodes, 2 copies, 100 ms;
    posts_go_on_when_nodes_hang_with_three_copies: Fault::Hang, 3 nodes, 3 copies, 200 ms;
    posts_go_on_when_nodes_hang_with_two_copies: Fault::Hang, 3 nodes, 2 copies, 200 ms;
    posts_go_on_when_nodes_are_flushed_with_three_copies: Fault::Flush, 3 nodes, 3 copies, 100 ms;
    posts_go_on_when_nodes_are_flushed_with_two_copies: Fault::Flush, 3 nodes, 2 copies, 100 ms;
    posts_go_on_when_nodes_are_full_with_three_copies: Fault::Full, 3 nodes, 3 copies, 100 ms;
    posts_go_on_when_nodes_are_full_with_two_copies: Fault::Full, 3 nodes, 2 copies, 100 ms;
    posts_go_on_when_nodes_are_cut_off_with_three_copies: Fault::CutOff, 4 nodes, 3 copies, 200 ms;
    posts_go_on_when_nodes_are_cut_off_with_two_copies: Fault::CutOff, 4 nodes, 2 copies, 200 ms;
}

/// Both find the node silent at the same time, move on, and repair.
#[tokio::test(start_paused = true)]
async fn posts_of_two_processes_go_on_in_larger_pools() {
    let cases = [
        (Fault::Kill, 4, 2, 100),
        (Fault::Hang, 4, 2, 200),
        (Fault::CutOff, 5, 2, 200),
        (Fault::CutOff, 5, 3, 150),
    ];
    for (fault, nodes, copies, limit) in cases {
        let longest = post_through(fault, nodes, 2, 50, config(copies, 2)).await;
        assert!(
            longest <= Duration::from_millis(limit),
            "{fault:?}, {nodes} nodes, {copies} copies: stalled for {longest:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn claims_and_deletes_go_on_when_nodes_die() {
    let faults = [Fault::Kill, Fault::Hang, Fault::Flush, Fault::CutOff];
    for (fault, copies) in faults.into_iter().flat_map(|fault| [(fault, 3), (fault, 2)]) {
        let mut cluster = Cluster::new(3, 30);
        let store = cluster.store(config(copies, 2)).await;
        let q = new_queue(&store, "q").await;
        for n in 0..20 {
            q.post((0..10).map(|k| message(format!("{}", n * 10 + k))).collect(), None)
                .await
                .unwrap();
        }
        let mut seen = Vec::new();
        let mut longest = Duration::ZERO;
        for round in 0..40 {
            let (node, step) = (round / 10 % 3, round % 10);
            if step == 1 {
                fault.begin(&cluster, node);
            }
            if step == 8 {
                fault.end(&cluster, node);
            }
            let began = Instant::now();
            let options = ClaimOptions { limit: 5, ..Default::default() };
            let claim = q.claim(&options).await.unwrap().unwrap();
            for message in &claim.messages {
                seen.push(text(message).parse::<u32>().unwrap());
                assert!(q.delete_message(&message.id, Some(&claim.id)).await.unwrap());
            }
            longest = longest.max(began.elapsed());
            sleep(Duration::from_millis(if step == 9 { 5000 } else { 300 })).await;
        }
        assert_eq!(
            seen,
            (0..200).collect::<Vec<_>>(),
            "{fault:?}, {copies} copies: each once, in order"
        );
        assert!(q.claim(&ClaimOptions::default()).await.unwrap().is_none());
        assert!(longest <= Duration::from_millis(400), "{fault:?}, {copies} copies: {longest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_too_few_nodes_a_post_is_refused_as_retryable_and_nothing_is_half_written() {
    let mut cluster = Cluster::new(3, 40);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    q.post(vec![message("before")], None).await.unwrap();
    cluster.faults[0].down();
    cluster.faults[1].down();
    let error = q.post(vec![message("during")], None).await.unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.retry_after().is_some());
    cluster.revive(0);
    cluster.revive(1);
    sleep(Duration::from_secs(2)).await;
    q.post(vec![message("after")], None).await.unwrap();
    let listed = texts(&walk(&q, 10).await);
    assert_eq!(listed.first().map(String::as_str), Some("before"));
    assert_eq!(listed.last().map(String::as_str), Some("after"));
    assert!(listed.len() <= 3, "at most once: {listed:?}");
}

#[tokio::test(start_paused = true)]
async fn open_segments_go_on_without_keepers() {
    let mut cluster = Cluster::new(6, 41);
    let store = cluster.store(config(3, 2)).await;
    // The keepers are three of the six nodes; queues whose open segments are on the others go on.
    let mut going = Vec::new();
    for n in 0..12 {
        let q = new_queue(&store, &format!("q{n}")).await;
        q.post(vec![message("first")], None).await.unwrap();
        going.push(q);
    }
    for node in keepers(&store).into_iter().take(2) {
        cluster.faults[node].down();
    }
    sleep(Duration::from_secs(5)).await;
    let mut posted = 0;
    for q in &going {
        if q.post(vec![message("second")], None).await.is_ok() {
            posted += 1;
            assert_eq!(texts(&walk(q, 10).await), ["first", "second"]);
        }
    }
    assert!(posted > 0, "no queue went on");
}

fn keepers(store: &Store) -> Vec<usize> {
    let nodes = store.status().nodes;
    let keepers = nodes.iter().filter(|node| node.keeper);
    keepers.map(|node| node.name.rsplit('-').next().unwrap().parse().unwrap()).collect()
}

/// Nobody ever says of the messages that they were acked, so each is in doubt while one node has it.
#[tokio::test(start_paused = true)]
async fn a_message_that_one_node_is_left_with_is_never_said_to_be_gone() {
    let mut cluster = Cluster::new(4, 11);
    let mut config = config(2, 2);
    config.note_after = Duration::from_secs(3600);
    let (poster, reader) = (cluster.store(config.clone()).await, cluster.store(config).await);
    let posts = new_queue(&poster, "q").await;
    for node in 0..4 {
        let name = format!("before node {node} died");
        let ids = posts.post(vec![message(&name)], None).await.unwrap();
        cluster.kill(node);
        for _ in 0..2000 {
            match queue(&reader, "q").get(&ids).await {
                Ok(found) => assert_eq!(texts(&found), [name.as_str()]),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
            sleep(Duration::from_millis(1)).await;
        }
        cluster.revive(node);
        sleep(Duration::from_secs(5)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_corrupts_nothing() {
    let mut cluster = Cluster::new(3, 42);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    for n in 0..50u64 {
        let patience = Duration::from_micros(n * 37);
        let post = q.post(vec![message(format!("maybe-{n}"))], None);
        tokio::time::timeout(patience, post).await.ok();
        let options = ClaimOptions { limit: 1, ..Default::default() };
        tokio::time::timeout(patience, q.claim(&options)).await.ok();
        let list = walk(&q, 3);
        tokio::time::timeout(patience, list).await.ok();
    }
    sleep(Duration::from_secs(2)).await;
    q.post(vec![message("last")], None).await.unwrap();
    let all = walk(&q, 5).await;
    let mut ids: Vec<String> = all.iter().map(|message| message.id.to_string()).collect();
    assert_eq!(text(all.last().unwrap()), "last");
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all.len(), "each once");
    // What a dropped claim took was given back.
    let stats = q.stats().await.unwrap();
    let claimed = all.iter().filter(|message| message.claim.is_some()).count();
    assert_eq!(stats.claimed, claimed as u64);
    assert!(claimed <= 50);
}

/// Three nodes and a queue with five messages in a closed segment.
async fn closed(seed: u64) -> (Cluster, Queue) {
    let mut cluster = Cluster::new(3, seed);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    q.post((0..5).map(|n| message(n.to_string())).collect(), None).await.unwrap();
    let claim = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    q.release(&claim.id).await.unwrap();
    (cluster, q)
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_on_slow_nodes_keeps_nothing_and_says_so() {
    let (cluster, q) = closed(43).await;
    for node in 1..3 {
        // Longer than anybody has patience.
        cluster.faults[node].delay_after(Duration::from_millis(1_500));
    }
    let error = q.claim(&ClaimOptions::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    cluster.faults.iter().for_each(|faults| faults.clear());
    sleep(Duration::from_secs(2)).await;
    assert_eq!(q.stats().await.unwrap().claimed, 0);
    let claim = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    assert_eq!(claim.messages.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_on_nodes_that_are_silent_says_that_nobody_knows() {
    let (cluster, q) = closed(44).await;
    cluster.faults[1].hang();
    cluster.faults[2].hang();
    let error = q.claim(&ClaimOptions::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
}

/// A delete is repeated until every replica has told what became of it. What one of its own attempts
/// did, of which nobody told, is not somebody else's deed.
#[tokio::test(start_paused = true)]
async fn a_message_that_a_delete_may_have_ended_itself_was_not_absent() {
    let mut cluster = Cluster::new(2, 91);
    let store = cluster.store(config(2, 2)).await;
    let q = new_queue(&store, "q").await;
    let ids = q.post(vec![message("one"), message("two")], None).await.unwrap();
    // Deletes look at closed segments.
    let claim = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    q.release(&claim.id).await.unwrap();
    cluster.faults.iter().for_each(roundelay::node::faulty::Faults::hang);
    let (other, id) = (q.clone(), ids[0]);
    let deleted = tokio::spawn(async move { other.delete_message(&id, None).await });
    sleep(Duration::from_millis(300)).await;
    cluster.faults.iter().for_each(roundelay::node::faulty::Faults::up);
    assert!(deleted.await.unwrap().unwrap(), "it was there when the call began");
    assert!(!q.delete_message(&ids[0], None).await.unwrap(), "it was not there any more");
    assert!(q.delete_message(&ids[1], None).await.unwrap());
}

/// A page is made of several rounds of questions. That a replica did not answer in the first one, and did in
/// the last, must not pass for the end of the queue.
#[tokio::test(start_paused = true)]
async fn a_reader_is_not_told_that_there_is_nothing_more_when_one_question_was_lost() {
    for node in 0..2 {
        let mut cluster = Cluster::new(2, 92);
        let mut config = config(2, 2);
        config.block_messages = 8;
        let store = cluster.store(config).await;
        let q = new_queue(&store, "q").await;
        q.post((0..15).map(|n| message(n.to_string())).collect(), None).await.unwrap();
        cluster.faults[node].lose_requests(1);
        let options = ListOptions { limit: 12, ..ListOptions::default() };
        let page = q.list(&options).await.unwrap();
        assert_eq!(page.messages.len(), 12, "without an answer of node {node}");
    }
}

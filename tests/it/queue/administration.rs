//! Nodes that are added, emptied and removed, and the one process that repairs.

use std::sync::Arc;
use std::time::Duration;

use roundelay::node::Node;
use roundelay::node::memory::MemoryNode;
use roundelay::{Bargain, ClaimOptions, Config, ErrorKind, ListOptions, PoolHealth, Queue, Store};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, config, message, new_queue, queue, texts, walk};

/// Small segments, so that a queue has several.
fn small(copies: usize) -> Config {
    let mut config = config(copies, 2);
    config.segment_bytes = 2_000;
    config.block_messages = 4;
    config
}

async fn healthy(store: &Store) -> PoolHealth {
    let start = Instant::now();
    loop {
        let health = store.admin().health().await;
        match health {
            Ok(health) if health.healthy => return health,
            other => assert!(start.elapsed() < Duration::from_secs(60), "{other:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the node is empty; returns the largest number of replicas and of messages told.
async fn emptied(store: &Store, node: u16) -> (u64, u64) {
    let mut drain = store.admin().drain(node, Bargain::Nothing).await.unwrap();
    let start = Instant::now();
    let mut most = (0, 0);
    loop {
        // Nobody can tell while keepers are away.
        let left = drain.remaining().await.unwrap_or_default();
        most = (most.0.max(left.replicas), most.1.max(left.messages));
        if left.done {
            return most;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{left:?}");
        sleep(Duration::from_millis(200)).await;
    }
}

/// No segment has fewer copies than it should, however often one looks.
async fn never_short(store: &Store) {
    loop {
        let health = store.admin().health().await.unwrap();
        assert_eq!(health.segments_under_replicated, 0, "{health:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Reads all there is; returns how many messages, and how often it was told that some are lost.
async fn walk_loudly(q: &Queue) -> (usize, u64) {
    let mut options = ListOptions { limit: 100, ..ListOptions::default() };
    let (mut found, mut told) = (0, 0);
    loop {
        match q.list(&options).await {
            Ok(page) if page.messages.is_empty() => return (found, told),
            Ok(page) => {
                found += page.messages.len();
                options.marker = page.marker;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
                assert!(error.to_string().contains("lost"), "{error}");
                told += 1;
            }
        }
    }
}

async fn post_all(q: &Queue, from: usize, count: usize) {
    for n in from..from + count {
        q.post(vec![message(format!("{n:0100}"))], None).await.unwrap();
    }
}

async fn all_there(q: &Queue, count: usize) {
    let wanted: Vec<String> = (0..count).map(|n| format!("{n:0100}")).collect();
    assert_eq!(texts(&walk(q, 50).await), wanted);
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_is_empty_and_nothing_is_lost_and_it_can_be_removed() {
    let mut cluster = Cluster::new(5, 60);
    let store = cluster.store(small(3)).await;
    let mut queues = Vec::new();
    for n in 0..8 {
        let q = new_queue(&store, &format!("q{n}")).await;
        post_all(&q, 0, 60).await;
        queues.push(q);
    }
    let before = healthy(&store).await;
    assert!(before.nodes[0].replicas > 10, "{before:?}");
    assert!(before.nodes[0].node.keeper);
    let (replicas, messages) = tokio::select! {
        biased;
        most = emptied(&store, 1) => most,
        () = never_short(&store) => unreachable!("it looks for ever"),
    };
    assert!(replicas > 10 && messages > 100, "progress was told: {replicas}, {messages}");
    let after = healthy(&store).await;
    assert_eq!(after.nodes[0].replicas, 0);
    assert!(!after.nodes[0].node.keeper, "another node keeps manifests");
    assert_eq!(cluster.nodes[0].replicas(), 0, "what it had is wiped");
    let cost = store.admin().remove(1, Bargain::Nothing).await.unwrap();
    assert_eq!((cost.replicas, cost.messages_thin, cost.messages_lost), (0, 0, 0));
    cluster.kill(0);
    assert_eq!(healthy(&store).await.nodes.len(), 4, "nobody misses it");
    for q in &queues {
        all_there(q, 60).await;
    }
    // Started again, and still named in settings, it does not come back by itself.
    cluster.revive(0);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(healthy(&store).await.nodes.len(), 4);
    let node: Arc<dyn Node> = Arc::new(cluster.nodes[0].clone());
    let again = store.admin().add(node, Duration::from_secs(20)).await.unwrap();
    assert_eq!(again, 6, "an id is never used again");
    assert_eq!(healthy(&store).await.nodes.len(), 5);
}

/// Posts go on all the while, by a process that does not drain; other nodes fail and come back.
#[tokio::test(start_paused = true)]
async fn draining_under_load_and_faults_loses_nothing_and_stalls_nobody() {
    let mut cluster = Cluster::new(5, 61);
    let (store, other) = (cluster.store(small(2)).await, cluster.store(small(2)).await);
    let q = new_queue(&store, "q").await;
    post_all(&q, 0, 300).await;
    healthy(&store).await;
    let posting = tokio::spawn({
        let q = queue(&other, "q");
        async move {
            let mut longest = Duration::ZERO;
            for n in 300..1_500 {
                let began = Instant::now();
                q.post(vec![message(format!("{n:0100}"))], None).await.unwrap();
                longest = longest.max(began.elapsed());
                sleep(Duration::from_millis(5)).await;
            }
            longest
        }
    });
    let failing = async {
        for node in [2, 3] {
            sleep(Duration::from_millis(300)).await;
            cluster.faults[node].hang();
            sleep(Duration::from_millis(800)).await;
            cluster.revive(node);
            sleep(Duration::from_secs(2)).await;
        }
    };
    let (most, ()) = tokio::join!(emptied(&store, 1), failing);
    assert!(most.0 > 0);
    let longest = posting.await.unwrap();
    assert!(longest < Duration::from_millis(400), "stalled for {longest:?}");
    let health = healthy(&store).await;
    assert_eq!(health.nodes[0].replicas, 0, "{health:?}");
    all_there(&q, 1_500).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_taken_up_by_another_process_and_can_be_cancelled() {
    let mut cluster = Cluster::new(4, 62);
    let store = cluster.store(small(3)).await;
    let q = new_queue(&store, "q").await;
    post_all(&q, 0, 100).await;
    healthy(&store).await;
    store.admin().drain(2, Bargain::Nothing).await.unwrap();
    assert!(store.admin().cancel_drain(2).await.unwrap());
    assert!(!store.admin().cancel_drain(2).await.unwrap());
    let before = healthy(&store).await;
    assert!(before.nodes[1].replicas > 0 && !before.nodes[1].node.draining);
    store.admin().drain(2, Bargain::Nothing).await.unwrap();
    store.close().await;
    let other = cluster.store(small(3)).await;
    emptied(&other, 2).await;
    all_there(&queue(&other, "q"), 100).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_which_copies_find_no_place_is_not_drained() {
    let mut cluster = Cluster::new(3, 63);
    let store = cluster.store(small(3)).await;
    let q = new_queue(&store, "q").await;
    post_all(&q, 0, 30).await;
    let refused = store.admin().drain(1, Bargain::Nothing).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("3 copies"), "{refused}");
    assert!(store.admin().drain(9, Bargain::Nothing).await.is_err());
    store.admin().drain(1, Bargain::FewerCopies).await.unwrap();
    let start = Instant::now();
    while store.admin().health().await.unwrap().nodes[0].replicas > 0 {
        assert!(start.elapsed() < Duration::from_secs(30));
        sleep(Duration::from_millis(100)).await;
    }
    all_there(&q, 30).await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_says_what_it_costs_and_is_refused_if_messages_were_lost() {
    let mut cluster = Cluster::new(4, 64);
    let store = cluster.store(small(2)).await;
    let q = new_queue(&store, "q").await;
    post_all(&q, 0, 100).await;
    healthy(&store).await;
    // Nothing can be copied from here on: all but two nodes are gone, and their copies with them.
    let cost = store.admin().removal(1).await.unwrap();
    assert!(cost.replicas > 0 && cost.messages_thin > 0, "{cost:?}");
    assert_eq!((cost.segments_lost, cost.messages_lost), (0, 0), "{cost:?}");
    let refused = store.admin().remove(1, Bargain::Nothing).await.unwrap_err();
    assert!(refused.to_string().contains("too few copies"), "{refused}");
    store.admin().remove(1, Bargain::FewerCopies).await.unwrap();
    healthy(&store).await;
    all_there(&q, 100).await;
}

#[tokio::test(start_paused = true)]
async fn what_only_the_removed_node_has_is_lost_only_if_that_is_said() {
    let mut cluster = Cluster::new(4, 65);
    let mut config = config(1, 1);
    config.segment_bytes = 2_000;
    config.block_messages = 4;
    let store = cluster.store(config).await;
    let q = new_queue(&store, "q").await;
    post_all(&q, 0, 100).await;
    let cost = store.admin().removal(1).await.unwrap();
    assert!(cost.messages_lost > 0 && cost.queues_lost == ["q"], "{cost:?}");
    for bargain in [Bargain::Nothing, Bargain::FewerCopies] {
        let refused = store.admin().remove(1, bargain).await.unwrap_err();
        assert!(refused.to_string().contains("would be lost"), "{refused}");
    }
    assert_eq!(walk(&q, 50).await.len(), 100);
    store.admin().remove(1, Bargain::LostMessages).await.unwrap();
    let mut left = 100 - usize::try_from(cost.messages_lost).unwrap();
    sleep(Duration::from_secs(5)).await;
    let lost = store.admin().health().await.unwrap().segments_lost;
    assert_eq!(lost, cost.segments_lost);
    let (found, told) = walk_loudly(&q).await;
    assert_eq!(told, lost, "each lost segment is told to a reader once, then read past");
    left -= found;
    assert_eq!(left, 0);
}

/// One process restores copies. When it dies another one takes over; when it ends in order, at once.
#[tokio::test(start_paused = true)]
async fn one_process_repairs_and_its_death_is_noticed() {
    let mut cluster = Cluster::new(4, 66);
    let (first, life) = cluster.mortal(config(3, 2)).await;
    sleep(Duration::from_secs(2)).await;
    assert!(first.status().repairs);
    let (second, third) = (cluster.store(config(3, 2)).await, cluster.store(config(3, 2)).await);
    let q = new_queue(&second, "q").await;
    post_all(&q, 0, 20).await;
    sleep(Duration::from_secs(10)).await;
    let holder = second.status().repairer.unwrap();
    assert_eq!(first.status().repairer.as_ref(), Some(&holder));
    assert!(first.status().repairs && !second.status().repairs && !third.status().repairs);

    life.end_at(super::mortal::Death::Unheard, 0);
    let start = Instant::now();
    let repairs = |store: &Store| store.status().repairs;
    while !repairs(&second) && !repairs(&third) {
        assert!(start.elapsed() < Duration::from_secs(10), "nobody took over");
        sleep(Duration::from_millis(50)).await;
    }
    sleep(Duration::from_secs(10)).await;
    assert!(repairs(&second) != repairs(&third), "exactly one");
    let (heir, other) = if repairs(&second) { (second, third) } else { (third, second) };
    assert_eq!(other.status().repairer, heir.status().repairer);

    // The heir restores copies.
    let used = heir.admin().health().await.unwrap();
    let node = used.nodes.iter().position(|node| node.replicas > 0).unwrap();
    cluster.kill(node);
    cluster.revive(node);
    healthy(&heir).await;
    heir.close().await;
    let start = Instant::now();
    while !repairs(&other) {
        assert!(start.elapsed() < Duration::from_millis(2_500), "it was given back");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Who does not hold the lease copies nothing that can wait.
#[tokio::test(start_paused = true)]
async fn only_the_process_that_repairs_copies() {
    let mut cluster = Cluster::new(4, 67);
    let holder = cluster.store(config(3, 2)).await;
    sleep(Duration::from_secs(1)).await;
    let other = cluster.store(config(3, 2)).await;
    // Only the other one knows the queue.
    let q = new_queue(&other, "q").await;
    post_all(&q, 0, 50).await;
    let claim = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    q.release(&claim.id).await.unwrap();
    let used = healthy(&other).await;
    // One with a replica of the closed segment and of the open one.
    let node = used.nodes.iter().position(|node| node.replicas == 2).unwrap();
    cluster.kill(node);
    cluster.revive(node);
    healthy(&other).await;
    let copies = |store: &Store| {
        let calls = store.metrics().nodes.into_iter().flat_map(|node| node.calls);
        calls
            .filter(|calls| calls.kind == "copy")
            .flat_map(|calls| calls.times)
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    assert_eq!(copies(&other), 0);
    assert!(copies(&holder) > 0);
}

/// A node that is added is used by processes that were not given it.
#[tokio::test(start_paused = true)]
async fn an_added_node_is_met_by_running_processes() {
    let mut cluster = Cluster::new(3, 68);
    let new = MemoryNode::seeded("memory-9", cluster.clock(), 9_000);
    cluster.reach(&new);
    let (store, other) = (cluster.store(config(3, 2)).await, cluster.store(config(3, 2)).await);
    let node: Arc<dyn Node> = Arc::new(new.clone());
    let id = store.admin().add(node, Duration::from_secs(20)).await.unwrap();
    assert_eq!(id, 4);
    sleep(Duration::from_secs(3)).await;
    let seen = other.status().nodes.into_iter().find(|node| node.id == 4).unwrap();
    assert_eq!(seen.health, "up");
    cluster.kill(0);
    let q = new_queue(&other, "q").await;
    post_all(&q, 0, 10).await;
    assert!(new.replicas() > 0, "the new node takes messages");
    all_there(&queue(&store, "q"), 10).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_pool_is_not_added() {
    let mut cluster = Cluster::new(3, 69);
    let store = cluster.store(config(3, 2)).await;
    let mut theirs = Cluster::new(3, 70);
    theirs.store(config(3, 2)).await;
    let node: Arc<dyn Node> = Arc::new(theirs.nodes[0].clone());
    let refused = store.admin().add(node, Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Config);
    assert!(refused.to_string().contains("belongs to pool"), "{refused}");
}

/// Every node is restarted empty, one after the other, each as soon as the pool is healthy.
#[tokio::test(start_paused = true)]
async fn a_rolling_restart_that_waits_for_health_loses_nothing() {
    for (nodes, copies) in [(3, 3), (3, 2), (4, 3)] {
        let mut cluster = Cluster::new(nodes, 71);
        let store = cluster.store(small(copies)).await;
        for n in 0..5 {
            post_all(&new_queue(&store, &format!("q{n}")).await, 0, 80).await;
        }
        store.close().await;
        // Nobody uses the queues: whoever repairs has to look for what is short.
        let store = cluster.store(small(copies)).await;
        for round in 0..2 {
            for node in 0..nodes {
                healthy(&store).await;
                cluster.kill(node);
                sleep(Duration::from_millis(200 * round)).await;
                cluster.revive(node);
            }
        }
        healthy(&store).await;
        for n in 0..5 {
            all_there(&queue(&store, &format!("q{n}")), 80).await;
        }
    }
}

/// Whoever asks right after the restart must not be told what was true before.
#[tokio::test(start_paused = true)]
async fn a_pool_is_not_healthy_while_copies_are_missing() {
    let mut cluster = Cluster::new(3, 72);
    let store = cluster.store(small(3)).await;
    let q = new_queue(&store, "q").await;
    post_all(&q, 0, 80).await;
    healthy(&store).await;
    for node in 0..3 {
        cluster.nodes[node].restart_empty();
        let health = store.admin().health().await.unwrap();
        assert!(!health.healthy, "{health:?}");
        healthy(&store).await;
    }
    cluster.faults[1].down();
    let health = store.admin().health().await.unwrap();
    assert!(health.troubles.iter().any(|trouble| trouble.contains("node 2")), "{health:?}");
    assert!(health.segments_under_replicated > 0 && health.segments_thin == 0, "{health:?}");
}

/// Two of three keepers are gone: what needs no manifest goes on, quickly; the rest says why not.
#[tokio::test(start_paused = true)]
async fn without_keepers_queues_go_on_and_what_cannot_says_why() {
    let mut cluster = Cluster::new(7, 73);
    let store = cluster.store(config(2, 2)).await;
    let mut queues = Vec::new();
    for n in 0..30 {
        let q = new_queue(&store, &format!("q{n}")).await;
        // A closed segment, and an open one.
        q.post(vec![message("one"), message("two")], None).await.unwrap();
        let claim = q.claim(&Default::default()).await.unwrap().unwrap();
        q.release(&claim.id).await.unwrap();
        q.post(vec![message("three")], None).await.unwrap();
        queues.push(q);
    }
    sleep(Duration::from_secs(3)).await;
    let nodes = healthy(&store).await.nodes;
    for keeper in nodes.iter().filter(|node| node.node.keeper).take(2) {
        let index: usize = keeper.node.name.rsplit('-').next().unwrap().parse().unwrap();
        cluster.faults[index].down();
    }
    sleep(Duration::from_secs(5)).await;
    let mut went_on = [0; 4];
    let mut reasons = Vec::new();
    for q in &queues {
        let began = Instant::now();
        // What is known of it goes on, too.
        assert!(q.recent_metadata().await.unwrap().is_some());
        let posted = q.post(vec![message("four")], None).await;
        let options = ClaimOptions { limit: 1, ..Default::default() };
        let claimed = q.claim(&options).await;
        if posted.is_ok()
            && let Ok(Some(claim)) = &claimed
        {
            let message = &claim.messages[0];
            assert!(q.delete_message(&message.id, Some(&claim.id)).await.unwrap());
            went_on[2] += 1;
            // The closed one has another message, the open ones cannot be claimed.
            q.claim(&options).await.unwrap().unwrap();
            let error = q.claim(&options).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            reasons.push(error.to_string());
            q.post(vec![self::message("five")], None).await.unwrap();
            went_on[3] += 1;
        }
        went_on[0] += usize::from(posted.is_ok());
        went_on[1] += usize::from(claimed.is_ok());
        reasons.extend(posted.err().map(|error| error.to_string()));
        assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    }
    assert!(went_on.iter().all(|count| *count > 0), "{went_on:?}");
    let error = queue(&store, "new").create(&Default::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let told = reasons.iter().filter(|reason| reason.contains("keepers are down")).count();
    assert!(told > 0, "{reasons:#?}");
    for node in 0..7 {
        cluster.revive(node);
    }
    healthy(&store).await;
    for q in &queues {
        assert!(q.claim(&Default::default()).await.unwrap().is_some());
    }
}

/// What a process asks while nobody does anything does not depend on how many queues there are.
#[tokio::test(start_paused = true)]
async fn idle_queues_cost_nothing() {
    let mut asked = Vec::new();
    for count in [3, 1_000] {
        let mut cluster = Cluster::new(4, 74);
        let store = cluster.store(config(3, 2)).await;
        for n in 0..count {
            let q = new_queue(&store, &format!("q{n}")).await;
            q.post(vec![message("x").with_ttl(Duration::from_secs(86_400)).unwrap()], None)
                .await
                .unwrap();
        }
        healthy(&store).await;
        sleep(Duration::from_secs(30)).await;
        let calls = |store: &Store| -> u64 {
            let nodes = store.metrics().nodes.into_iter();
            let calls = nodes.flat_map(|node| node.calls).map(|calls| {
                calls.failures + calls.times.iter().map(|(_, count)| count).sum::<u64>()
            });
            calls.sum()
        };
        let before = calls(&store);
        sleep(Duration::from_secs(60)).await;
        asked.push(calls(&store) - before);
    }
    let [few, many] = asked[..] else { panic!() };
    assert!(many <= few + few / 20, "{few} calls with 3 queues, {many} with 1,000");
    assert!(few < 60 * 4 * 4, "{few} calls of 4 nodes in a minute");
}

/// Messages that are lost with every node that had them: readers are told once, the metric tells, and
/// what comes behind is read.
#[tokio::test(start_paused = true)]
async fn a_lost_segment_is_said_loudly_and_once_and_never_skipped_silently() {
    let mut cluster = Cluster::new(6, 75);
    let store = cluster.store(small(2)).await;
    let q = new_queue(&store, "q").await;
    post_all(&q, 0, 100).await;
    healthy(&store).await;
    // Nodes that hold both copies of something, but not most of the keepers.
    let keepers: Vec<usize> = (0..6).filter(|n| store.status().nodes[*n].keeper).collect();
    let others: Vec<usize> = (0..6).filter(|n| !keepers.contains(n)).collect();
    for node in &others {
        cluster.nodes[*node].restart_empty();
    }
    let start = Instant::now();
    let lost = loop {
        let lost = store.metrics().segments_lost;
        if lost > 0 || start.elapsed() > Duration::from_secs(20) {
            break lost;
        }
        sleep(Duration::from_millis(100)).await;
    };
    assert!(lost > 0, "the metric tells");
    let health = healthy(&store).await;
    assert_eq!(health.segments_lost, lost);
    let (found, errors) = walk_loudly(&q).await;
    assert_eq!(errors, lost, "each is told once");
    assert!(found > 0 && found < 100, "{found}");
    assert_eq!(walk(&q, 10).await.len(), found, "and is not told again");
    post_all(&q, 100, 1).await;
}

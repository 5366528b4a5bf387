//! What a queue does while nothing fails.

use std::time::Duration;

use roundelay::node::{Node, Op, Reply};
use roundelay::{
    ClaimId, ClaimOptions, DeleteWhere, ErrorKind, ListOptions, Marker, MessageId, Metadata,
};

use super::cluster::{Cluster, client, config, message, new_queue, queue, text, texts, walk};

#[tokio::test(start_paused = true)]
async fn messages_are_listed_in_order_by_any_page_size_and_any_process() {
    let mut cluster = Cluster::new(3, 1);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    let mut expected = Vec::new();
    for n in 0..10 {
        let some: Vec<_> = (0..7).map(|k| message(format!("{n}-{k}"))).collect();
        expected.extend((0..7).map(|k| format!("{n}-{k}")));
        assert_eq!(q.post(some, None).await.unwrap().len(), 7);
    }
    let other = cluster.store(config(3, 2)).await;
    for limit in [1, 3, 10, 100] {
        assert_eq!(texts(&walk(&q, limit).await), expected);
        assert_eq!(texts(&walk(&queue(&other, "q"), limit).await), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_listed_by_another_process_as_soon_as_it_is_acked() {
    let mut cluster = Cluster::new(3, 2);
    let (one, two) = (cluster.store(config(3, 2)).await, cluster.store(config(3, 2)).await);
    let q = new_queue(&one, "q").await;
    let reader = queue(&two, "q");
    assert!(walk(&reader, 10).await.is_empty());
    let mut options = ListOptions::default();
    for n in 0..20 {
        q.post(vec![message(n.to_string())], None).await.unwrap();
        let page = reader.list(&options).await.unwrap();
        assert_eq!(texts(&page.messages), [n.to_string()]);
        options.marker = page.marker;
    }
}

#[tokio::test(start_paused = true)]
async fn own_messages_can_be_left_out() {
    let mut cluster = Cluster::new(3, 3);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    q.post(vec![message("mine"), message("mine too")], Some(&client("me"))).await.unwrap();
    q.post(vec![message("yours")], Some(&client("you"))).await.unwrap();
    let page = q
        .list(&ListOptions { not_from: Some(client("me")), ..ListOptions::default() })
        .await
        .unwrap();
    assert_eq!(texts(&page.messages), ["yours"]);
    assert_eq!(page.messages[0].client, Some(client("you")));
}

#[tokio::test(start_paused = true)]
async fn a_claimed_message_is_given_to_nobody_else_until_it_is_released_or_expires() {
    let mut cluster = Cluster::new(3, 4);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    q.post((0..5).map(|n| message(n.to_string())).collect(), None).await.unwrap();
    let options = ClaimOptions { limit: 2, ttl: Duration::from_secs(60), ..Default::default() };
    let one = q.claim(&options).await.unwrap().unwrap();
    let two = q.claim(&options).await.unwrap().unwrap();
    assert_eq!(texts(&one.messages), ["0", "1"]);
    assert_eq!(texts(&two.messages), ["2", "3"]);
    assert_eq!(texts(&q.claim(&options).await.unwrap().unwrap().messages), ["4"]);
    assert!(q.claim(&options).await.unwrap().is_none());

    let stats = q.stats().await.unwrap();
    assert_eq!((stats.active, stats.claimed, stats.total()), (0, 5, 5));
    let page = q.list(&ListOptions::default()).await.unwrap();
    assert!(page.messages.is_empty());

    q.release(&one.id).await.unwrap();
    let again = q.claim(&options).await.unwrap().unwrap();
    assert_eq!(texts(&again.messages), ["0", "1"]);
    assert_eq!(again.messages[0].claim_count, 2);
    assert_eq!(q.read_claim(&one.id).await.unwrap_err().kind(), ErrorKind::ClaimNotFound);

    q.renew(&two.id, Duration::from_secs(300), Duration::ZERO).await.unwrap();
    tokio::time::sleep(Duration::from_secs(61)).await;
    let after = q.claim(&ClaimOptions { limit: 10, ..options }).await.unwrap().unwrap();
    assert_eq!(texts(&after.messages), ["0", "1", "4"]);
    assert_eq!(q.read_claim(&two.id).await.unwrap().messages.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn deletes_respect_claims() {
    let mut cluster = Cluster::new(3, 5);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    let ids = q.post((0..4).map(|n| message(n.to_string())).collect(), None).await.unwrap();
    let claim = q.claim(&ClaimOptions { limit: 2, ..Default::default() }).await.unwrap().unwrap();
    let claimed = q.delete_message(&ids[0], None).await.unwrap_err();
    assert_eq!(claimed.kind(), ErrorKind::MessageClaimed);
    let not = q.delete_message(&ids[3], Some(&claim.id)).await.unwrap_err();
    assert_eq!(not.kind(), ErrorKind::MessageNotClaimed);
    assert!(q.delete_message(&ids[0], Some(&claim.id)).await.unwrap());
    assert!(!q.delete_message(&ids[0], Some(&claim.id)).await.unwrap());
    assert!(q.delete_message(&ids[3], None).await.unwrap());
    assert!(!q.delete_message(&ids[3], None).await.unwrap());
    assert_eq!(texts(&walk(&q, 10).await), ["1", "2"]);
    assert_eq!(q.delete_messages(&ids, &DeleteWhere::Any).await.unwrap(), 2);
    assert!(walk(&q, 10).await.is_empty());
    assert_eq!(q.stats().await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn pop_takes_messages_out() {
    let mut cluster = Cluster::new(3, 6);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    q.post((0..5).map(|n| message(n.to_string())).collect(), None).await.unwrap();
    assert_eq!(texts(&q.pop(3).await.unwrap()), ["0", "1", "2"]);
    assert_eq!(texts(&q.pop(3).await.unwrap()), ["3", "4"]);
    assert!(q.pop(3).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn messages_expire_and_delayed_ones_wait() {
    let mut cluster = Cluster::new(3, 7);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    let short = message("short").with_ttl(Duration::from_secs(5)).unwrap();
    let late = message("late").with_delay(Duration::from_secs(10)).unwrap();
    q.post(vec![short, late, message("plain")], None).await.unwrap();
    let listed = q.list(&ListOptions::default()).await.unwrap();
    assert_eq!(texts(&listed.messages), ["short", "plain"]);
    let stats = q.stats().await.unwrap();
    assert_eq!((stats.active, stats.delayed), (2, 1));
    let claim = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    assert_eq!(texts(&claim.messages), ["short", "plain"]);
    // The claim keeps what would have expired within it.
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert_eq!(q.read_claim(&claim.id).await.unwrap().messages.len(), 2);
    let late = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    assert_eq!(texts(&late.messages), ["late"]);
    tokio::time::sleep(Duration::from_secs(3700)).await;
    assert!(walk(&q, 10).await.is_empty());
    assert_eq!(q.stats().await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn ids_of_another_queue_project_or_life_are_useless() {
    let mut cluster = Cluster::new(3, 8);
    let store = cluster.store(config(3, 2)).await;
    let (q, other) = (new_queue(&store, "q").await, new_queue(&store, "other").await);
    let ids = q.post(vec![message("a"), message("b")], None).await.unwrap();
    other.post(vec![message("c"), message("d")], None).await.unwrap();
    let claim = q.claim(&ClaimOptions { limit: 1, ..Default::default() }).await.unwrap().unwrap();
    let marker = q.list(&ListOptions::default()).await.unwrap().marker.unwrap();

    let check = async |stranger: &roundelay::Queue| {
        assert!(stranger.get(&ids).await.unwrap().is_empty());
        assert_eq!(stranger.delete_messages(&ids, &DeleteWhere::Any).await.unwrap(), 0);
        let wrong = stranger.read_claim(&claim.id).await.unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::ClaimNotFound);
        stranger.release(&claim.id).await.unwrap();
        let options = ListOptions { marker: Some(marker.clone()), ..Default::default() };
        assert_eq!(stranger.list(&options).await.unwrap_err().kind(), ErrorKind::Invalid);
    };
    check(&other).await;
    assert_eq!(q.get(&ids).await.unwrap().len(), 2);
    assert!(q.read_claim(&claim.id).await.is_ok());

    assert!(q.delete().await.unwrap());
    assert!(!q.delete().await.unwrap());
    assert!(q.create(&Metadata::default()).await.unwrap());
    q.post(vec![message("new")], None).await.unwrap();
    check(&q).await;
    assert_eq!(texts(&walk(&q, 10).await), ["new"]);
}

#[tokio::test(start_paused = true)]
async fn queues_are_created_listed_changed_and_deleted() {
    let mut cluster = Cluster::new(3, 9);
    let store = cluster.store(config(3, 2)).await;
    let project = roundelay::Project::new("project").unwrap();
    for name in ["b", "a", "c.d", "e"] {
        new_queue(&store, name).await;
    }
    assert!(!queue(&store, "a").create(&Metadata::default()).await.unwrap());
    let names = async |after: Option<&str>, limit| {
        let after = after.map(|name| roundelay::QueueName::new(name).unwrap());
        let page = store.queues(&project, after.as_ref(), limit).await.unwrap();
        page.queues.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 10).await, ["a", "b", "c.d", "e"]);
    assert_eq!(names(None, 2).await, ["a", "b"]);
    assert_eq!(names(Some("b"), 2).await, ["c.d", "e"]);
    queue(&store, "c.d").delete().await.unwrap();
    assert_eq!(names(None, 10).await, ["a", "b", "e"]);
    let q = queue(&store, "a");
    q.update_metadata(|_| Metadata::new(*b"{}")).await.unwrap();
    assert_eq!(q.metadata().await.unwrap().as_bytes(), b"{}");
    let missing = queue(&store, "none");
    assert_eq!(missing.metadata().await.unwrap_err().kind(), ErrorKind::QueueNotFound);
    let post = missing.post(vec![message("x")], None).await.unwrap_err();
    assert_eq!(post.kind(), ErrorKind::QueueNotFound);
    let elsewhere = roundelay::Project::new("another").unwrap();
    assert!(store.queues(&elsewhere, None, 10).await.unwrap().queues.is_empty());
}

#[tokio::test(start_paused = true)]
async fn two_processes_post_and_claim_as_one_service() {
    let mut cluster = Cluster::new(3, 10);
    let (one, two) = (cluster.store(config(3, 2)).await, cluster.store(config(3, 2)).await);
    let (a, b) = (new_queue(&one, "q").await, queue(&two, "q"));
    let mut expected = Vec::new();
    for n in 0..30 {
        let from = if n % 2 == 0 { &a } else { &b };
        from.post(vec![message(n.to_string())], None).await.unwrap();
        expected.push(n.to_string());
    }
    assert_eq!(texts(&walk(&a, 7).await), expected);
    let mut seen = Vec::new();
    loop {
        let options = ClaimOptions { limit: 4, ..Default::default() };
        let (x, y) = tokio::join!(a.claim(&options), b.claim(&options));
        let claims: Vec<_> = [x.unwrap(), y.unwrap()].into_iter().flatten().collect();
        if claims.is_empty() {
            break;
        }
        for claim in claims {
            for message in &claim.messages {
                seen.push(text(message));
                assert!(b.delete_message(&message.id, Some(&claim.id)).await.unwrap());
            }
        }
    }
    seen.sort_by_key(|n| n.parse::<u32>().unwrap());
    assert_eq!(seen, expected, "each once");
    assert!(walk(&b, 10).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn large_posts_and_small_segments_keep_order() {
    let mut cluster = Cluster::new(4, 11);
    let mut small = config(3, 2);
    small.segment_bytes = 20_000;
    let store = cluster.store(small).await;
    let q = new_queue(&store, "q").await;
    let mut expected = Vec::new();
    for n in 0..5 {
        let some: Vec<_> = (0..600).map(|k| message(format!("{n}-{k}"))).collect();
        expected.extend((0..600).map(|k| format!("{n}-{k}")));
        assert_eq!(q.post(some, None).await.unwrap().len(), 600);
    }
    assert_eq!(texts(&walk(&q, 97).await), expected);
    let ids: Vec<MessageId> = walk(&q, 1000).await.iter().map(|m| m.id).collect();
    let got = q.get(&ids[100..120]).await.unwrap();
    assert_eq!(texts(&got), expected[100..120]);
}

#[tokio::test(start_paused = true)]
async fn a_segment_whose_messages_have_ended_leaves_and_its_replicas_are_wiped() {
    let mut cluster = Cluster::new(3, 12);
    let store = cluster.store(config(3, 2)).await;
    let q = new_queue(&store, "q").await;
    let before = memory(&cluster).await;
    for _ in 0..50 {
        q.post((0..20).map(|n| message(format!("{n:0200}"))).collect(), None).await.unwrap();
        while q.pop(20).await.unwrap().len() == 20 {}
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let after = memory(&cluster).await;
    for (before, after) in before.iter().zip(&after) {
        assert!(after - before < 20_000, "{before} then {after} bytes");
    }
}

async fn memory(cluster: &Cluster) -> Vec<u64> {
    let mut used = Vec::new();
    for node in &cluster.nodes {
        let replies = node.call(vec![Op::Identity]).await.unwrap();
        let [Reply::Identity(identity)] = replies.as_slice() else { panic!("{replies:?}") };
        used.push(identity.memory.0);
    }
    used
}

#[tokio::test]
async fn malformed_tokens_are_refused_by_name() {
    for (what, error) in [
        ("marker", "x!".parse::<Marker>().unwrap_err()),
        ("message id", "".parse::<MessageId>().unwrap_err()),
        ("claim id", "AAAA".parse::<ClaimId>().unwrap_err()),
    ] {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().starts_with(&format!("malformed {what}")), "{error}");
    }
}

//! What one process does must be seen by the others at once, whatever manifests they have kept.

use std::time::Duration;

use super::cluster::{Cluster, config, message, new_queue, queue, texts, walk};
use roundelay::{ClaimOptions, ErrorKind, ListOptions, Metadata};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn a_post_goes_to_the_new_life_after_delete_and_create() {
    let mut c = Cluster::new(3, 1);
    let s = c.store(config(3, 2)).await;
    let q = new_queue(&s, "q").await;
    q.post(vec![message("a")], None).await.unwrap();
    assert!(q.delete().await.unwrap());
    assert!(q.create(&Metadata::default()).await.unwrap());
    q.post(vec![message("b")], None).await.unwrap();
    assert_eq!(texts(&walk(&q, 10).await), ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_known_to_every_process_at_once() {
    let mut c = Cluster::new(3, 2);
    let (a, b) = (c.store(config(3, 2)).await, c.store(config(3, 2)).await);
    let qa = new_queue(&a, "q").await;
    let qb = queue(&b, "q");
    qa.post(vec![message("a")], None).await.unwrap();
    assert_eq!(walk(&qb, 10).await.len(), 1);
    let claim = qa.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    assert_eq!(qb.read_claim(&claim.id).await.unwrap().messages.len(), 1);
    assert!(qb.delete_message(&claim.messages[0].id, Some(&claim.id)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_claim_can_be_released_by_every_process_at_once() {
    let mut c = Cluster::new(3, 2);
    let (a, b) = (c.store(config(3, 2)).await, c.store(config(3, 2)).await);
    let qa = new_queue(&a, "q").await;
    let qb = queue(&b, "q");
    qa.post(vec![message("a")], None).await.unwrap();
    assert_eq!(walk(&qb, 10).await.len(), 1);
    let claim = qa.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    qb.release(&claim.id).await.unwrap();
    assert!(qa.claim(&ClaimOptions::default()).await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_delete_reaches_a_segment_that_this_process_has_not_seen() {
    let mut c = Cluster::new(3, 3);
    let (a, b) = (c.store(config(3, 2)).await, c.store(config(3, 2)).await);
    let qa = new_queue(&a, "q").await;
    let qb = queue(&b, "q");
    qa.post(vec![message("a")], None).await.unwrap();
    assert_eq!(walk(&qb, 10).await.len(), 1);
    qa.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    let id = qa.post(vec![message("b")], None).await.unwrap()[0];
    assert!(qb.delete_message(&id, None).await.unwrap(), "told that it was not there");
    assert!(qa.get(&[id]).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delete_reaches_a_life_that_this_process_has_not_seen() {
    let mut c = Cluster::new(3, 4);
    let (a, b) = (c.store(config(3, 2)).await, c.store(config(3, 2)).await);
    let qa = new_queue(&a, "q").await;
    let qb = queue(&b, "q");
    qa.post(vec![message("a")], None).await.unwrap();
    assert_eq!(walk(&qb, 10).await.len(), 1);
    // Another process, so that the sender's own state does not matter.
    let other = c.store(config(3, 2)).await;
    let qo = queue(&other, "q");
    assert!(qo.delete().await.unwrap());
    assert!(qo.create(&Metadata::default()).await.unwrap());
    let id = qo.post(vec![message("b")], None).await.unwrap()[0];
    assert_eq!(qb.get(&[id]).await.unwrap().len(), 1, "get");
    assert!(qb.delete_message(&id, None).await.unwrap(), "told that it was not there");
}

async fn left(seed: u64) -> (Cluster, roundelay::Store, roundelay::Store) {
    let mut c = Cluster::new(3, seed);
    let (a, b) = (c.store(config(3, 2)).await, c.store(config(3, 2)).await);
    let qa = new_queue(&a, "q").await;
    let qb = queue(&b, "q");
    qa.post(vec![message("a")], None).await.unwrap();
    assert_eq!(walk(&qb, 10).await.len(), 1);
    let claim = qa.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    let id = claim.messages[0].id;
    assert!(qa.delete_message(&id, Some(&claim.id)).await.unwrap());
    sleep(Duration::from_millis(250)).await;
    (c, a, b)
}

#[tokio::test(start_paused = true)]
async fn a_claim_finds_nothing_when_the_segment_left_meanwhile() {
    let (_c, _a, b) = left(5).await;
    assert!(queue(&b, "q").claim(&ClaimOptions::default()).await.unwrap().is_none());
}

/// A claim that another process, which keeps its segment in mind, has not heard the end of: a delete took
/// its only message, and with it the segment.
async fn claim_that_ended(seed: u64) -> (Cluster, [roundelay::Store; 2], roundelay::Claim) {
    let mut c = Cluster::new(3, seed);
    let (a, b) = (c.store(config(3, 2)).await, c.store(config(3, 2)).await);
    let qa = new_queue(&a, "q").await;
    qa.post(vec![message("a")], None).await.unwrap();
    let claim = qa.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    assert_eq!(queue(&b, "q").read_claim(&claim.id).await.unwrap().messages.len(), 1);
    assert!(qa.delete_message(&claim.messages[0].id, Some(&claim.id)).await.unwrap());
    sleep(Duration::from_millis(250)).await;
    (c, [a, b], claim)
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_segment_left_meanwhile_is_over() {
    let (_c, [_a, b], claim) = claim_that_ended(9).await;
    let error = queue(&b, "q").read_claim(&claim.id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClaimNotFound, "{error}");
    let (_c, [_a, b], claim) = claim_that_ended(10).await;
    let error =
        queue(&b, "q").renew(&claim.id, Duration::from_secs(60), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClaimNotFound, "{error}");
    let (_c, [_a, b], claim) = claim_that_ended(11).await;
    let message = claim.messages[0].id;
    let error = queue(&b, "q").delete_message(&message, Some(&claim.id)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClaimNotFound, "{error}");
    let (_c, [_a, b], claim) = claim_that_ended(12).await;
    queue(&b, "q").release(&claim.id).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn stats_are_zero_when_the_segment_left_meanwhile() {
    let (_c, _a, b) = left(6).await;
    assert_eq!(queue(&b, "q").stats().await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_empty_when_the_segment_left_meanwhile() {
    let (_c, _a, b) = left(7).await;
    assert!(queue(&b, "q").list(&ListOptions::default()).await.unwrap().messages.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_marker_of_a_later_segment_than_this_process_knows_is_good() {
    let (_c, a, b) = left(8).await;
    let qa = queue(&a, "q");
    for _ in 0..2 {
        qa.post(vec![message("x")], None).await.unwrap();
        let claim = qa.claim(&ClaimOptions::default()).await.unwrap().unwrap();
        qa.delete_message(&claim.messages[0].id, Some(&claim.id)).await.unwrap();
    }
    qa.post(vec![message("y")], None).await.unwrap();
    let page = qa.list(&ListOptions::default()).await.unwrap();
    let options = ListOptions { marker: page.marker, ..ListOptions::default() };
    queue(&b, "q").list(&options).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_queue_is_repaired() {
    let mut c = Cluster::new(3, 9);
    let s = c.store(config(2, 2)).await;
    let q = new_queue(&s, "q").await;
    q.post(vec![message("a")], None).await.unwrap();
    let claim = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    q.release(&claim.id).await.unwrap();
    for node in 0..3 {
        c.kill(node);
        sleep(Duration::from_millis(300)).await;
        c.revive(node);
        sleep(Duration::from_secs(20)).await;
    }
    assert_eq!(texts(&walk(&q, 10).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_nobody_uses_is_repaired() {
    let mut c = Cluster::new(3, 10);
    let s = c.store(config(2, 2)).await;
    let q = new_queue(&s, "q").await;
    q.post(vec![message("a")], None).await.unwrap();
    let claim = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    q.release(&claim.id).await.unwrap();
    s.close().await;
    let s = c.store(config(2, 2)).await;
    for node in 0..3 {
        c.kill(node);
        sleep(Duration::from_millis(300)).await;
        c.revive(node);
        sleep(Duration::from_secs(20)).await;
    }
    assert_eq!(texts(&walk(&queue(&s, "q"), 10).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_another_process_deleted_can_be_created() {
    let mut c = Cluster::new(3, 11);
    let (a, b) = (c.store(config(3, 2)).await, c.store(config(3, 2)).await);
    let qa = new_queue(&a, "q").await;
    let qb = queue(&b, "q");
    qb.list(&ListOptions::default()).await.unwrap();
    assert!(qa.delete().await.unwrap());
    assert!(qb.create(&Metadata::default()).await.unwrap(), "told that it exists");
}

#[tokio::test(start_paused = true)]
async fn a_noted_message_does_not_overtake_one_acked_before_it_was_posted() {
    for hung in 0..3 {
        let mut c = Cluster::new(3, 30 + hung as u64);
        let (p, q, r) =
            (c.store(config(3, 2)).await, c.store(config(3, 2)).await, c.store(config(3, 2)).await);
        let first = new_queue(&p, "q").await;
        // All know the open segment.
        first.post(vec![message("0")], None).await.unwrap();
        let (second, reader) = (queue(&q, "q"), queue(&r, "q"));
        second.post(vec![message("1")], None).await.unwrap();
        assert_eq!(walk(&reader, 10).await.len(), 2);
        sleep(Duration::from_millis(100)).await;
        first.post(vec![message("2")], None).await.unwrap();
        second.post(vec![message("3")], None).await.unwrap();
        second.post(vec![message("4")], None).await.unwrap();
        c.faults[hung].hang();
        assert_eq!(texts(&walk(&reader, 10).await), ["0", "1", "2", "3", "4"], "{hung} hangs");
    }
}

/// Another process deleted the queue and made it again: who walks it from the start, knowing the earlier
/// life, is given the new one, with markers that go on.
#[tokio::test(start_paused = true)]
async fn a_walk_from_the_start_of_a_queue_made_again_is_one_of_its_new_life() {
    let mut cluster = Cluster::new(3, 83);
    let one = cluster.store(config(2, 2)).await;
    let two = cluster.store(config(2, 2)).await;
    let q = new_queue(&one, "q").await;
    q.post(vec![message("old")], None).await.unwrap();
    let other = queue(&two, "q");
    assert_eq!(other.list(&ListOptions::default()).await.unwrap().messages.len(), 1);
    assert!(q.delete().await.unwrap());
    q.create(&Default::default()).await.unwrap();
    q.post(vec![message("new")], None).await.unwrap();
    let page = other.list(&ListOptions::default()).await.unwrap();
    assert_eq!(texts(&page.messages), ["new"]);
    q.post(vec![message("newer")], None).await.unwrap();
    let options = ListOptions { marker: page.marker, ..ListOptions::default() };
    assert_eq!(texts(&other.list(&options).await.unwrap().messages), ["newer"]);
}

/// A replica of a segment that another process has closed lacks what was acknowledged without it: who knows
/// the segment as open must not believe it.
#[tokio::test(start_paused = true)]
async fn a_message_is_found_by_id_by_a_process_that_knows_its_segment_as_open() {
    for node in 0..3 {
        let mut cluster = Cluster::new(3, 84);
        let one = cluster.store(config(2, 2)).await;
        let two = cluster.store(config(2, 2)).await;
        let q = new_queue(&one, "q").await;
        let first = q.post(vec![message("first")], None).await.unwrap();
        let other = queue(&two, "q");
        assert_eq!(other.get(&first).await.unwrap().len(), 1);
        cluster.faults[node].down();
        let ids = q.post(vec![message("second")], None).await.unwrap();
        cluster.revive(node);
        assert_eq!(other.get(&ids).await.unwrap().len(), 1, "without node {node}");
    }
}

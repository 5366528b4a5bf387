//! Waiting for messages: answered as soon as there is something, and not before.

use std::time::Duration;

use super::cluster::{Cluster, client, config, message, new_queue, queue, texts};
use roundelay::{
    Claim, ClaimOptions, DeleteWhere, ErrorKind, ListOptions, MessagePage, Metadata, Queue, Store,
};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// As long as requests may wait by default.
const WAIT: Duration = Duration::from_secs(30);
/// What a process needs to hear of a post: far less than any interval at which it might ask.
const AT_ONCE: Duration = Duration::from_millis(50);
/// How long others' registers take to be heard of.
const A_SECOND: Duration = Duration::from_millis(1_100);

async fn two(seed: u64) -> (Cluster, Store, Store) {
    let mut c = Cluster::new(4, seed);
    let (a, b) = (c.store(config(3, 2)).await, c.store(config(3, 2)).await);
    (c, a, b)
}

/// Lists in the background; tells the page and how long it took.
fn lister(queue: &Queue, options: ListOptions) -> JoinHandle<(MessagePage, Instant)> {
    let queue = queue.clone();
    tokio::spawn(async move {
        let page = queue.list_waiting(&options, WAIT).await.unwrap();
        (page, Instant::now())
    })
}

fn claimer(queue: &Queue, limit: usize) -> JoinHandle<(Option<Claim>, Instant)> {
    let (queue, options) = (queue.clone(), ClaimOptions { limit, ..ClaimOptions::default() });
    tokio::spawn(async move {
        let claim = queue.claim_waiting(&options, None, WAIT).await.unwrap();
        (claim, Instant::now())
    })
}

/// Lets those who wait settle down.
async fn settle() {
    sleep(Duration::from_secs(3)).await;
}

#[track_caller]
fn assert_within(start: Instant, end: Instant, limit: Duration) {
    let took = end.duration_since(start);
    assert!(took <= limit, "it took {took:?}");
}

/// Posts elsewhere what a list waits for, which must be answered with it at once.
async fn assert_answered(
    list: JoinHandle<(MessagePage, Instant)>,
    there: &Queue,
    text: &str,
) -> MessagePage {
    let start = Instant::now();
    there.post(vec![message(text)], None).await.unwrap();
    let (page, end) = list.await.unwrap();
    assert_eq!(texts(&page.messages), [text]);
    assert_within(start, end, AT_ONCE);
    page
}

#[tokio::test(start_paused = true)]
async fn a_waiting_list_is_answered_by_another_process_s_post() {
    let (_c, a, b) = two(1).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    let waiting = lister(&here, ListOptions::default());
    settle().await;
    assert_answered(waiting, &there, "a").await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_claim_is_answered_by_another_process_s_post() {
    let (_c, a, b) = two(2).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    for text in ["a", "b", "c"] {
        let waiting = claimer(&here, 10);
        settle().await;
        let start = Instant::now();
        there.post(vec![message(text)], None).await.unwrap();
        let (claim, end) = waiting.await.unwrap();
        assert_eq!(texts(&claim.unwrap().messages), [text]);
        assert_within(start, end, AT_ONCE);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_given_without_waiting() {
    let (_c, a, _b) = two(3).await;
    let q = new_queue(&a, "q").await;
    q.post(vec![message("a")], None).await.unwrap();
    let start = Instant::now();
    let page = q.list_waiting(&ListOptions::default(), WAIT).await.unwrap();
    assert_eq!(texts(&page.messages), ["a"]);
    let claim = q.claim_waiting(&ClaimOptions::default(), None, WAIT).await.unwrap().unwrap();
    assert_eq!(texts(&claim.messages), ["a"]);
    assert_within(start, Instant::now(), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_answered_when_the_time_is_over_and_not_before() {
    let (_c, a, _b) = two(4).await;
    for q in [new_queue(&a, "there").await, queue(&a, "absent")] {
        let start = Instant::now();
        let page = q.list_waiting(&ListOptions::default(), WAIT).await.unwrap();
        assert!(page.messages.is_empty());
        assert!(start.elapsed() >= WAIT);
        assert_within(start, Instant::now(), WAIT + AT_ONCE);
        let start = Instant::now();
        assert!(q.claim_waiting(&ClaimOptions::default(), None, WAIT).await.unwrap().is_none());
        assert!(start.elapsed() >= WAIT);
        assert_within(start, Instant::now(), WAIT + AT_ONCE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_exist_yet_is_waited_for() {
    let (_c, a, b) = two(5).await;
    let (here, there) = (queue(&a, "q"), queue(&b, "q"));
    let (list, claim) = (lister(&here, ListOptions::default()), claimer(&here, 1));
    settle().await;
    let start = Instant::now();
    there.create(&Metadata::default()).await.unwrap();
    there.post(vec![message("a")], None).await.unwrap();
    let ((page, listed), (claim, claimed)) = (list.await.unwrap(), claim.await.unwrap());
    assert!(texts(&page.messages) == ["a"] && texts(&claim.unwrap().messages) == ["a"]);
    assert_within(start, listed, A_SECOND);
    assert_within(start, claimed, A_SECOND);
}

#[tokio::test(start_paused = true)]
async fn who_waits_behind_a_marker_gets_what_comes_after_it() {
    let (_c, a, b) = two(6).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    there.post(vec![message("old")], None).await.unwrap();
    let mut marker = here.list(&ListOptions::default()).await.unwrap().marker;
    for round in 0..20 {
        let waiting = lister(&here, ListOptions { marker, ..ListOptions::default() });
        if round % 2 == 0 {
            sleep(Duration::from_millis(round)).await;
        }
        marker = assert_answered(waiting, &there, &round.to_string()).await.marker;
    }
}

#[tokio::test(start_paused = true)]
async fn the_own_messages_of_a_client_do_not_answer_its_wait() {
    let (_c, a, b) = two(7).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    let me = client("3381af92-2b9e-11e3-b191-71861300734c");
    let options = ListOptions { not_from: Some(me.clone()), ..ListOptions::default() };
    let waiting = lister(&here, options);
    for _ in 0..3 {
        settle().await;
        there.post(vec![message("mine")], Some(&me)).await.unwrap();
    }
    settle().await;
    assert!(!waiting.is_finished());
    there.post(vec![message("another's")], None).await.unwrap();
    assert_eq!(texts(&waiting.await.unwrap().0.messages), ["another's"]);
}

#[tokio::test(start_paused = true)]
async fn claimed_messages_answer_only_who_wants_them() {
    let (_c, a, b) = two(8).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    there.post(vec![message("a")], None).await.unwrap();
    there.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    let wanting = ListOptions { include_claimed: true, ..ListOptions::default() };
    let page = here.list_waiting(&wanting, WAIT).await.unwrap();
    assert_eq!(texts(&page.messages), ["a"]);
    let page = here.list_waiting(&ListOptions::default(), Duration::from_secs(8)).await.unwrap();
    assert!(page.messages.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_ends_answers_who_waits_within_seconds() {
    let (_c, a, b) = two(9).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    there.post(vec![message("a")], None).await.unwrap();
    let ttl = Duration::from_secs(12);
    there.claim(&ClaimOptions { ttl, ..ClaimOptions::default() }).await.unwrap().unwrap();
    let start = Instant::now();
    let (list, claim) = (lister(&here, ListOptions::default()), claimer(&here, 1));
    let (page, listed) = list.await.unwrap();
    let (claim, claimed) = claim.await.unwrap();
    assert!(texts(&page.messages) == ["a"] && texts(&claim.unwrap().messages) == ["a"]);
    for end in [listed, claimed] {
        assert!(end.duration_since(start) >= ttl - AT_ONCE);
        assert_within(start, end, ttl + Duration::from_secs(5) + AT_ONCE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_ends_answers_who_waits_within_seconds() {
    let (_c, a, b) = two(10).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    let (list, claim) = (lister(&here, ListOptions::default()), claimer(&here, 1));
    settle().await;
    let (start, delay) = (Instant::now(), Duration::from_secs(9));
    there.post(vec![message("a").with_delay(delay).unwrap()], None).await.unwrap();
    let ((page, listed), (claim, claimed)) = (list.await.unwrap(), claim.await.unwrap());
    assert!(texts(&page.messages) == ["a"] && texts(&claim.unwrap().messages) == ["a"]);
    for end in [listed, claimed] {
        assert!(end.duration_since(start) >= delay);
        assert_within(start, end, delay + Duration::from_secs(5) + AT_ONCE);
    }
}

#[tokio::test(start_paused = true)]
async fn what_this_process_gives_back_answers_who_waits_at_once() {
    let (_c, a, _b) = two(11).await;
    let q = new_queue(&a, "q").await;
    q.post(vec![message("a")], None).await.unwrap();
    let held = q.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    let waiting = claimer(&q, 1);
    settle().await;
    let start = Instant::now();
    q.release(&held.id).await.unwrap();
    let (claim, end) = waiting.await.unwrap();
    assert_eq!(texts(&claim.unwrap().messages), ["a"]);
    assert_within(start, end, AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn what_another_process_gives_back_answers_who_waits_within_seconds() {
    let (_c, a, b) = two(12).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    there.post(vec![message("a")], None).await.unwrap();
    let held = there.claim(&ClaimOptions::default()).await.unwrap().unwrap();
    let waiting = claimer(&here, 1);
    settle().await;
    let start = Instant::now();
    there.release(&held.id).await.unwrap();
    let (claim, end) = waiting.await.unwrap();
    assert_eq!(texts(&claim.unwrap().messages), ["a"]);
    assert_within(start, end, Duration::from_secs(5) + AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_to_list_get_the_message() {
    let (_c, a, b) = two(13).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    let waiting: Vec<_> = (0..200).map(|_| lister(&here, ListOptions::default())).collect();
    settle().await;
    there.post(vec![message("a")], None).await.unwrap();
    for one in waiting {
        assert_eq!(texts(&one.await.unwrap().0.messages), ["a"]);
    }
}

#[tokio::test(start_paused = true)]
async fn messages_are_shared_among_those_who_wait_to_claim() {
    let (_c, a, b) = two(14).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    let waiting: Vec<_> = (0..100).map(|_| claimer(&here, 1)).collect();
    settle().await;
    let start = Instant::now();
    let first = (0..60).map(|n| message(n.to_string())).collect();
    there.post(first, None).await.unwrap();
    settle().await;
    assert_eq!(waiting.iter().filter(|one| one.is_finished()).count(), 60);
    there.post((60..100).map(|n| message(n.to_string())).collect(), None).await.unwrap();
    let mut all = Vec::new();
    for one in waiting {
        let (claim, end) = one.await.unwrap();
        assert_within(start, end, Duration::from_secs(4));
        all.extend(texts(&claim.unwrap().messages));
    }
    all.sort_by_key(|text| text.parse::<u32>().unwrap());
    assert!(all.iter().enumerate().all(|(n, text)| *text == n.to_string()), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_while_waiting_takes_no_message_along() {
    let (_c, a, b) = two(15).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    for gone_after_us in 0..40 {
        let (leaving, staying) = (claimer(&here, 1), claimer(&here, 1));
        settle().await;
        let posting = tokio::spawn({
            let there = there.clone();
            async move { there.post(vec![message("a")], None).await.unwrap() }
        });
        sleep(Duration::from_micros(gone_after_us * 500)).await;
        leaving.abort();
        let left = leaving.await;
        posting.await.unwrap();
        // Claimed for who left and given back, or never given to it.
        let claim = match left {
            Err(_) => {
                let (claim, _) = staying.await.unwrap();
                claim.expect("the message was lost with who left")
            }
            Ok((claim, _)) => {
                staying.abort();
                claim.unwrap()
            }
        };
        there.delete_message(&claim.messages[0].id, Some(&claim.id)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_answered_after_a_node_died() {
    for node in 0..4 {
        let (c, a, b) = two(20 + node as u64).await;
        let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
        let (list, claim) = (lister(&here, ListOptions::default()), claimer(&here, 1));
        settle().await;
        c.kill(node);
        sleep(Duration::from_millis(500)).await;
        let start = Instant::now();
        there.post(vec![message("a")], None).await.unwrap();
        let ((page, listed), (claim, claimed)) = (list.await.unwrap(), claim.await.unwrap());
        assert!(texts(&page.messages) == ["a"] && texts(&claim.unwrap().messages) == ["a"]);
        assert_within(start, listed, A_SECOND);
        assert_within(start, claimed, A_SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_in_the_moment_in_which_a_node_dies_is_not_missed() {
    for round in 0..24_u32 {
        let (c, a, b) = two(100 + u64::from(round)).await;
        let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
        let list = lister(&here, ListOptions::default());
        settle().await;
        let posting = tokio::spawn(async move {
            there.post(vec![message("a")], None).await.unwrap();
            Instant::now()
        });
        sleep(Duration::from_micros(u64::from(round / 3) * 100)).await;
        match round % 3 {
            0 => c.kill(0),
            1 => c.faults[1].hang(),
            _ => c.faults[2].cut_off(),
        }
        let posted = posting.await.unwrap();
        let (page, end) = list.await.unwrap();
        assert_eq!(texts(&page.messages), ["a"], "round {round}");
        assert_within(posted, end, A_SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_cut_off_for_a_while_is_watched_again() {
    for node in 0..4 {
        let (c, a, b) = two(50 + node as u64).await;
        let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
        let list = lister(&here, ListOptions::default());
        settle().await;
        c.faults[node].cut_off();
        sleep(Duration::from_millis(900)).await;
        c.faults[node].up();
        settle().await;
        assert_answered(list, &there, "a").await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_follows_the_queue_into_its_next_segments() {
    let (_c, a, b) = two(60).await;
    let (here, there) = (new_queue(&a, "q").await, queue(&b, "q"));
    for round in 0..5 {
        there.post(vec![message("x")], None).await.unwrap();
        let page = here.list(&ListOptions::default()).await.unwrap();
        assert_eq!(texts(&page.messages), ["x"]);
        let marker = page.marker;
        let list = lister(&here, ListOptions { marker, ..ListOptions::default() });
        settle().await;
        // Closes the segment that is watched.
        let claim = there.claim(&ClaimOptions::default()).await.unwrap().unwrap();
        there.delete_message(&claim.messages[0].id, Some(&claim.id)).await.unwrap();
        settle().await;
        let page = assert_answered(list, &there, &round.to_string()).await;
        let ids: Vec<_> = page.messages.iter().map(|message| message.id).collect();
        there.delete_messages(&ids, &DeleteWhere::Any).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn closing_the_store_ends_every_wait() {
    let (_c, a, _b) = two(70).await;
    let q = new_queue(&a, "q").await;
    let (list, claim) = (q.clone(), q.clone());
    let list =
        tokio::spawn(async move { list.list_waiting(&ListOptions::default(), WAIT).await.err() });
    let claim = tokio::spawn(async move {
        claim.claim_waiting(&ClaimOptions::default(), None, WAIT).await.err()
    });
    settle().await;
    let start = Instant::now();
    a.close().await;
    for error in [list.await.unwrap(), claim.await.unwrap()] {
        assert_eq!(error.unwrap().kind(), ErrorKind::Closed);
    }
    assert_within(start, Instant::now(), AT_ONCE);
}

#[tokio::test(start_paused = true)]
async fn an_error_that_does_not_pass_ends_the_wait() {
    let (_c, a, _b) = two(71).await;
    let (q, other) = (new_queue(&a, "q").await, new_queue(&a, "other").await);
    other.post(vec![message("a")], None).await.unwrap();
    let marker = other.list(&ListOptions::default()).await.unwrap().marker;
    let start = Instant::now();
    let options = ListOptions { marker, ..ListOptions::default() };
    let error = q.list_waiting(&options, WAIT).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_within(start, Instant::now(), AT_ONCE);
}

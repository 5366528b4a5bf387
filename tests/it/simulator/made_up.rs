//! Each oracle against made-up histories: it fires on what it is for, and on nothing else.

use crate::oracles::*;

/// A history in which each entry takes two milliseconds, ten after the one before.
#[derive(Default)]
struct Story {
    history: History,
    now: u64,
}

fn one(name: &str) -> Vec<Seen> {
    vec![Seen { name: name.into(), id: format!("id-{name}"), claimed: false }]
}

fn list(walk: u64, seen: Vec<Seen>) -> What {
    let (marker, next) = (None, Some("m".into()));
    What::List { walk, marker, next, everything: true, answer: Answer::Done(seen) }
}

fn post(name: &str) -> What {
    post_with(name, 1_000_000, 0, Answer::Done(vec![format!("id-{name}")]))
}

fn post_with(name: &str, ttl: u64, delay: u64, answer: Answer<Vec<String>>) -> What {
    What::Post { messages: vec![name.into()], ttl, delay, key: None, answer }
}

fn claim(claim: &str, ttl: u64, name: &str) -> What {
    let granted = Granted { claim: claim.into(), messages: one(name) };
    What::Claim { ttl, grace: 0, answer: Answer::Done(Some(granted)) }
}

fn delete(name: &str, claim: Option<&str>) -> What {
    let (id, claim) = (format!("id-{name}"), claim.map(Into::into));
    What::Delete { id, claim, answer: Answer::Done(Effect::Done) }
}

impl Story {
    fn then(mut self, what: What) -> Self {
        self.now += 10;
        self.took(2, what)
    }

    fn took(mut self, took: u64, what: What) -> Self {
        let (began, ended) = (self.now, self.now + took);
        let entry = Entry { by: "x".into(), began, ended, queue: "q".into(), what };
        self.history.entries.push(entry);
        self
    }

    fn pass(mut self, time: u64) -> Self {
        self.now += time;
        self
    }

    /// The oracles that fire.
    fn judged(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = check(&self.history).iter().map(|breach| breach.oracle).collect();
        names.dedup();
        names
    }
}

/// Two messages, and all that is right.
fn good() -> Story {
    Story::default().then(post("a")).then(post("b"))
}

#[test]
fn oracles_are_silent_when_all_is_right() {
    let story = good()
        .then(claim("c", 1000, "a"))
        .then(delete("a", Some("c")))
        .then(list(1, one("b")))
        .then(list(1, vec![]))
        .then(What::Quiet)
        .then(list(2, one("b")))
        .then(list(2, vec![]))
        .then(What::Stats { answer: Answer::Done(Counts { active: 1, ..Counts::default() }) })
        .then(What::Census { under_replicated: 0, uncounted: 0, lost: 0 });
    assert_eq!(check(&story.history), []);
}

#[test]
fn a_history_comes_back_from_json() {
    let story = good().then(claim("c", 10, "a")).then(What::Quiet).then(list(2, one("b")));
    let lines: Vec<String> =
        story.history.entries.iter().map(|e| serde_json::to_string(e).unwrap()).collect();
    let back: Vec<Entry> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(back, story.history.entries);
}

#[test]
fn lost_fires_when_nobody_finds_an_acked_message() {
    let story = good().then(What::Quiet).then(list(1, one("b"))).then(list(1, vec![]));
    assert!(story.judged().contains(&"lost"));
}

#[test]
fn missing_fires_when_a_message_is_asked_for_in_vain() {
    let ask = |found| What::Get { ids: vec!["id-a".into()], answer: Answer::Done(found) };
    assert_eq!(good().then(ask(vec![])).judged(), ["missing"]);
    assert_eq!(good().then(ask(one("a"))).judged(), [""; 0]);
    assert_eq!(good().then(delete("a", None)).then(ask(vec![])).judged(), [""; 0]);
}

#[test]
fn unseen_fires_when_a_reader_is_told_that_there_is_nothing_more_too_early() {
    let story = good().then(list(1, one("a"))).then(list(1, vec![]));
    assert_eq!(story.judged(), ["unseen"]);
}

#[test]
fn poll_skip_fires_when_a_walk_goes_past_a_message() {
    let story = good().then(list(1, one("b")));
    assert_eq!(story.judged(), ["poll_skip"]);
}

#[test]
fn a_message_may_be_hidden_while_a_delete_is_under_way_that_is_refused_in_the_end() {
    let refused =
        || What::Delete { id: "id-a".into(), claim: None, answer: Answer::Done(Effect::Claimed) };
    let walk = |story: Story| story.then(list(1, one("b"))).then(list(1, vec![]));
    assert!(walk(good().took(100, refused())).judged().is_empty());
    assert_eq!(walk(good().took(5, refused())).judged(), ["unseen", "poll_skip"], "it was over");
}

#[test]
fn duplicated_fires_on_two_ids_and_on_two_visits() {
    let story = good().then(list(1, one("a"))).then(list(1, one("b"))).then(list(1, one("a")));
    assert!(story.judged().contains(&"duplicated"));
    let mut other = one("b");
    other[0].id = "id-c".into();
    let story = good().then(list(1, one("a"))).then(list(1, other));
    assert!(story.judged().contains(&"duplicated"));
}

#[test]
fn nonmonotonic_fires_when_a_later_message_comes_first() {
    let story = good().then(list(1, one("b"))).then(list(1, one("a")));
    assert_eq!(story.judged(), ["nonmonotonic"]);
}

#[test]
fn phantom_fires_on_what_was_never_sent_refused_or_vanished() {
    let story = good().then(What::Get { ids: vec![], answer: Answer::Done(one("c")) });
    assert_eq!(story.judged(), ["phantom"]);
    let refused = post_with("c", 1000, 0, Answer::NotApplied("no".into()));
    let story =
        good().then(refused).then(What::Get { ids: vec![], answer: Answer::Done(one("c")) });
    assert_eq!(story.judged(), ["phantom"]);
    let unknown = post_with("c", 1_000_000, 0, Answer::Unknown("?".into()));
    let mut both = [one("a"), one("b")].concat();
    let story = good()
        .then(unknown)
        .then(list(1, both.clone()))
        .then(list(1, one("c")))
        .then(What::Quiet)
        .then(list(2, std::mem::take(&mut both)))
        .then(list(2, vec![]));
    assert_eq!(story.judged(), ["phantom"]);
}

#[test]
fn marker_stability_fires_when_the_rest_behind_a_marker_differs() {
    let rest = What::List {
        walk: 3,
        marker: Some("m".into()),
        next: None,
        everything: true,
        answer: Answer::Done(one("a")),
    };
    let end = What::List {
        walk: 3,
        marker: Some("m".into()),
        next: None,
        everything: true,
        answer: Answer::Done(vec![]),
    };
    let story = good()
        .then(list(1, one("a")))
        .then(What::Quiet)
        .then(list(2, [one("a"), one("b")].concat()))
        .then(list(2, vec![]))
        .then(rest)
        .then(end);
    assert_eq!(story.judged(), ["marker_stability"]);
}

#[test]
fn one_manifest_fires_on_two_values_of_a_version() {
    let chosen = |digest| What::Chosen { register: "r".into(), version: "1".into(), digest };
    assert!(Story::default().then(chosen(1)).then(chosen(1)).judged().is_empty());
    assert_eq!(Story::default().then(chosen(1)).then(chosen(2)).judged(), ["one_manifest"]);
}

#[test]
fn double_claim_fires_on_two_claims_that_are_live() {
    let story = good().then(claim("c", 100, "a")).then(claim("d", 100, "a"));
    assert_eq!(story.judged(), ["double_claim"]);
    let story = good().then(claim("c", 100, "a")).pass(100).then(claim("d", 100, "a"));
    assert!(story.judged().is_empty());
    let release = What::Release { claim: "c".into(), answer: Answer::Done(()) };
    let story = good().then(claim("c", 100, "a")).then(release).then(claim("d", 100, "a"));
    assert!(story.judged().is_empty());
}

#[test]
fn stale_claim_fires_when_a_claim_that_is_over_deletes_or_is_renewed() {
    let story = good().then(claim("c", 100, "a")).pass(200).then(delete("a", Some("c")));
    assert_eq!(story.judged(), ["stale_claim"]);
    let renewed = || What::Renew {
        claim: "c".into(),
        ttl: 300,
        grace: 0,
        answer: Answer::Done(Effect::Done),
    };
    let story = good().then(claim("c", 100, "a")).pass(200).then(renewed());
    assert_eq!(story.judged(), ["stale_claim"]);
    let story =
        good().then(claim("c", 100, "a")).then(renewed()).pass(200).then(delete("a", Some("c")));
    assert!(story.judged().is_empty());
    // Where clocks differ one that was refused may have been done on some nodes.
    let refused = || What::Renew {
        claim: "c".into(),
        ttl: 300,
        grace: 0,
        answer: Answer::Done(Effect::NotHeld),
    };
    let late = |story: Story| story.then(refused()).pass(200).then(delete("a", Some("c")));
    assert!(late(good().then(claim("c", 100, "a"))).judged().is_empty());
    let story = late(good().then(claim("c", 100, "a")).pass(200));
    assert_eq!(story.judged(), ["stale_claim"], "it was over before");
}

#[test]
fn early_delivery_fires_when_a_delayed_message_is_claimed() {
    let delayed = post_with("d", 1_000_000, 100, Answer::Done(vec!["id-d".into()]));
    let story = Story::default().then(delayed.clone()).then(claim("c", 10, "d"));
    assert_eq!(story.judged(), ["early_delivery"]);
    let story = Story::default().then(delayed).pass(100).then(claim("c", 10, "d"));
    assert!(story.judged().is_empty());
}

#[test]
fn a_post_that_was_refused_says_nothing_of_delays() {
    let refused = |delay| post_with("d", 1_000_000, delay, Answer::Refused("its key".into()));
    let stored = |delay| post_with("d", 1_000_000, delay, Answer::Done(vec!["id-d".into()]));
    let unknown = |delay| post_with("d", 1_000_000, delay, Answer::Unknown("silence".into()));
    let judged = |first: What, second: What| {
        Story::default().then(first).then(second).then(claim("c", 10, "d")).judged()
    };
    assert!(judged(refused(100), stored(0)).is_empty());
    assert!(judged(stored(0), refused(100)).is_empty());
    assert_eq!(judged(refused(0), stored(100)), ["early_delivery"]);
    assert_eq!(judged(stored(100), refused(0)), ["early_delivery"]);
    // It may be the one that was stored.
    assert!(judged(unknown(0), stored(100)).is_empty());
}

#[test]
fn resurrection_fires_when_a_deleted_message_is_given() {
    let story = good().then(delete("a", None)).then(list(1, one("a")));
    assert_eq!(story.judged(), ["resurrection"]);
    let removed = What::Remove { answer: Answer::Done(true) };
    let story = good().then(removed).then(list(1, one("a")));
    assert_eq!(story.judged(), ["resurrection"]);
}

#[test]
fn ttl_overrun_fires_when_an_expired_message_is_given() {
    let short = || post_with("s", 100, 0, Answer::Done(vec!["id-s".into()]));
    let story = Story::default().then(short()).pass(200).then(list(1, one("s")));
    assert_eq!(story.judged(), ["ttl_overrun"]);
    let kept = claim("c", 500, "s");
    let story = Story::default().then(short()).then(kept).pass(200).then(list(1, one("s")));
    assert!(story.judged().is_empty());
}

#[test]
fn stats_fires_when_counts_are_not_what_is_there() {
    let story = good()
        .then(What::Quiet)
        .then(list(1, [one("a"), one("b")].concat()))
        .then(list(1, vec![]))
        .then(What::Stats { answer: Answer::Done(Counts { active: 3, ..Counts::default() }) });
    assert_eq!(story.judged(), ["stats"]);
}

#[test]
fn copies_restored_fires_when_copies_are_missing_in_the_end() {
    let census = |under_replicated| What::Census { under_replicated, uncounted: 0, lost: 0 };
    let story = good().then(census(1)).then(What::Quiet).then(census(1));
    assert_eq!(story.judged(), ["copies_restored"]);
}

#[test]
fn progress_fires_on_a_failure_while_one_node_is_faulty_and_not_while_two_are() {
    let failed = || post_with("c", 1000, 0, Answer::NotApplied("no".into()));
    let fault = |node| What::Fault { node, kind: "down".into() };
    let story = |nodes: &[usize]| {
        let mut story = good();
        story.history.patience = 5;
        story = nodes.iter().fold(story, |story, node| story.took(1000, fault(*node)));
        story.then(failed())
    };
    assert_eq!(story(&[]).judged(), ["progress"]);
    assert_eq!(story(&[1]).judged(), ["progress"]);
    assert!(story(&[1, 2]).judged().is_empty());
}

/// What a node forgot cannot be made good before the other one that is needed for it is back.
#[test]
fn progress_gives_nodes_that_were_faulty_together_time_from_when_the_last_is_back() {
    let failed = || post_with("c", 1000, 0, Answer::NotApplied("no".into()));
    let fault = |node, began, ended| {
        let what = What::Fault { node, kind: "down".into() };
        Entry { by: "faults".into(), began, ended, queue: String::new(), what }
    };
    let judged = |other: (u64, u64), at: u64| {
        let mut story = good();
        (story.history.patience, story.history.settle) = (5, 300);
        story.history.entries.extend([fault(1, 1000, 1010), fault(0, other.0, other.1)]);
        story.now = at;
        story.then(failed()).judged()
    };
    assert!(judged((900, 2000), 2001).is_empty());
    assert!(judged((1200, 2000), 2200).is_empty());
    assert_eq!(judged((900, 2000), 2400), ["progress"]);
    assert_eq!(judged((1400, 2000), 2001), ["progress"], "the first was mended before");
    assert_eq!(judged((500, 600), 1400), ["progress"], "the other was mended before");
}

#[test]
fn once_fires_on_two_answers_to_one_key() {
    let keyed = |id: &str| What::Post {
        messages: vec!["k".into()],
        ttl: 1000,
        delay: 0,
        key: Some("key".into()),
        answer: Answer::Done(vec![id.into()]),
    };
    assert!(Story::default().then(keyed("1")).then(keyed("1")).judged().is_empty());
    assert!(Story::default().then(keyed("1")).then(keyed("2")).judged().contains(&"once"));
}

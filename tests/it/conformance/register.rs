//! The registers of a keeper.

use bytes::Bytes;
use roundelay::id::Epoch;
use roundelay::node::{Accept, Ballot, Index, KeeperState, Op, Refusal, RegisterDump};

use super::env::Env;

const E1: Epoch = Epoch(1);
const E2: Epoch = Epoch(2);

fn ballot(round: u64) -> Ballot {
    Ballot { round, by: 3 }
}

fn keep(env: &Env, epoch: Epoch) -> Op {
    Op::Keep { cookie: env.cookie, epoch, keepers: Bytes::from(format!("set {epoch}")) }
}

fn activate(env: &Env, epoch: Epoch) -> Op {
    Op::Activate { cookie: env.cookie, epoch }
}

fn prepare(env: &Env, name: &str, ballot: Ballot) -> Op {
    Op::Prepare { cookie: env.cookie, epoch: E1, name: name.into(), ballot }
}

fn accept(env: &Env, name: &str, ballot: Ballot, value: &str) -> Accept {
    let (cookie, name, value) = (env.cookie, name.into(), Bytes::from(value.to_owned()));
    Accept { cookie, epoch: E1, name, ballot, value, index: None }
}

fn listing(project: &str, queue: &str, listed: bool) -> Option<Index> {
    Some(Index { project: project.into(), queue: queue.into(), listed })
}

fn read_registers(env: &Env, names: &[&str]) -> Op {
    let names = names.iter().map(|&name| name.into()).collect();
    Op::ReadRegisters { cookie: env.cookie, epoch: E1, names }
}

fn changes(env: &Env, since: u64, limit: u32) -> Op {
    Op::Changes { cookie: env.cookie, epoch: E1, since, limit }
}

fn dump(env: &Env, after: &str, limit: u32) -> Op {
    Op::Dump { cookie: env.cookie, epoch: E1, after: after.into(), limit }
}

async fn vote(env: &Env) {
    env.done(keep(env, E1)).await;
    env.done(activate(env, E1)).await;
}

async fn listed(env: &Env, project: &str, after: &str, limit: u32) -> Vec<String> {
    let (cookie, project, after) = (env.cookie, project.into(), after.into());
    env.names(Op::ListIndex { cookie, epoch: E1, project, after, limit }).await.names
}

async fn value(env: &Env, name: &str) -> Option<(Ballot, Bytes)> {
    env.registers(read_registers(env, &[name])).await.each.remove(0)
}

/// All that needs a vote.
fn voting(env: &Env) -> [Op; 6] {
    let (cookie, epoch) = (env.cookie, E1);
    [
        prepare(env, "r", ballot(1)),
        Op::Accept(accept(env, "r", ballot(1), "v")),
        read_registers(env, &["r"]),
        changes(env, 0, 1),
        dump(env, "", 1),
        Op::ListIndex { cookie, epoch, project: "p".into(), after: String::new(), limit: 1 },
    ]
}

pub(super) async fn a_node_that_keeps_nothing_is_no_keeper(env: &Env) {
    for op in voting(env).into_iter().chain([activate(env, E1)]) {
        assert_eq!(env.refused(op).await, Refusal::NotKeeper);
    }
    let restore = Op::Restore { cookie: env.cookie, epoch: E1, registers: Vec::new() };
    assert_eq!(env.refused(restore).await, Refusal::NotKeeper);
}

pub(super) async fn a_fresh_keeper_casts_no_vote(env: &Env) {
    env.done(keep(env, E1)).await;
    let state = KeeperState { epoch: E1, keepers: "set 1".into(), active: false };
    assert_eq!(env.identity(Op::Identity).await.keeper, Some(state));
    for op in voting(env) {
        assert_eq!(env.refused(op).await, Refusal::NotKeeper);
    }
}

pub(super) async fn an_activated_keeper_votes(env: &Env) {
    vote(env).await;
    assert!(env.identity(Op::Identity).await.keeper.is_some_and(|keeper| keeper.active));
    assert_eq!(env.promise(prepare(env, "r", ballot(1))).await.accepted, None);
}

pub(super) async fn keeping_in_a_later_epoch_replaces_the_set_and_keeps_the_vote(env: &Env) {
    vote(env).await;
    env.done(keep(env, E2)).await;
    let state = KeeperState { epoch: E2, keepers: "set 2".into(), active: true };
    assert_eq!(env.identity(Op::Identity).await.keeper, Some(state));
}

pub(super) async fn keeping_in_the_same_epoch_changes_nothing(env: &Env) {
    vote(env).await;
    env.done(Op::Keep { cookie: env.cookie, epoch: E1, keepers: "others".into() }).await;
    let keeper = env.identity(Op::Identity).await.keeper.expect("it keeps");
    assert_eq!((&keeper.keepers[..], keeper.active), (&b"set 1"[..], true));
}

pub(super) async fn keeping_in_an_earlier_epoch_is_refused(env: &Env) {
    env.done(keep(env, E2)).await;
    let refused = Refusal::Epoch { epoch: E2, keepers: "set 2".into() };
    assert_eq!(env.refused(keep(env, E1)).await, refused);
}

pub(super) async fn another_epoch_is_refused(env: &Env) {
    env.done(keep(env, E2)).await;
    let refused = Refusal::Epoch { epoch: E2, keepers: "set 2".into() };
    assert_eq!(env.refused(activate(env, E1)).await, refused);
    env.done(activate(env, E2)).await;
    for op in voting(env) {
        assert_eq!(env.refused(op).await, refused);
    }
}

pub(super) async fn a_promise_is_for_higher_ballots_only(env: &Env) {
    vote(env).await;
    env.promise(prepare(env, "r", ballot(5))).await;
    let refused = Refusal::Ballot { promised: ballot(5) };
    assert_eq!(env.refused(prepare(env, "r", ballot(5))).await, refused);
    assert_eq!(env.refused(prepare(env, "r", ballot(4))).await, refused);
    let lower = Ballot { round: 5, by: 2 };
    assert_eq!(env.refused(prepare(env, "r", lower)).await, refused);
    env.promise(prepare(env, "r", Ballot { round: 5, by: 4 })).await;
    env.promise(prepare(env, "other", ballot(1))).await;
}

pub(super) async fn a_value_is_accepted_at_or_above_the_promise(env: &Env) {
    vote(env).await;
    env.promise(prepare(env, "r", ballot(5))).await;
    let refused = Refusal::Ballot { promised: ballot(5) };
    let lower = Op::Accept(accept(env, "r", ballot(4), "low"));
    assert_eq!(env.refused(lower).await, refused);
    assert_eq!(value(env, "r").await, None);
    env.done(Op::Accept(accept(env, "r", ballot(5), "five"))).await;
    env.done(Op::Accept(accept(env, "r", ballot(7), "seven"))).await;
    assert_eq!(value(env, "r").await, Some((ballot(7), "seven".into())));
    let refused = Refusal::Ballot { promised: ballot(7) };
    assert_eq!(env.refused(prepare(env, "r", ballot(6))).await, refused);
}

pub(super) async fn a_promise_tells_what_was_accepted(env: &Env) {
    vote(env).await;
    env.done(Op::Accept(accept(env, "r", ballot(2), "two"))).await;
    let promise = env.promise(prepare(env, "r", ballot(3))).await;
    assert_eq!(promise.accepted, Some((ballot(2), "two".into())));
    assert_eq!(value(env, "r").await, Some((ballot(2), "two".into())));
}

pub(super) async fn several_registers_are_read_at_once(env: &Env) {
    vote(env).await;
    env.done(Op::Accept(accept(env, "b", ballot(1), "x"))).await;
    env.promise(prepare(env, "c", ballot(1))).await;
    let read = env.registers(read_registers(env, &["a", "b", "c", "b"])).await;
    let there: Vec<bool> = read.each.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, true, false, true]);
}

pub(super) async fn changes_name_each_register_by_its_latest_change(env: &Env) {
    vote(env).await;
    for (name, round) in [("a", 1), ("b", 1), ("a", 2), ("c", 1)] {
        env.done(Op::Accept(accept(env, name, ballot(round), "v"))).await;
    }
    let all = env.changes(changes(env, 0, 9)).await;
    assert_eq!(
        (all.upto, all.names, all.complete),
        (4, vec!["b", "a", "c"].into_iter().map(String::from).collect(), true)
    );
    let first = env.changes(changes(env, 0, 2)).await;
    assert_eq!((first.upto, first.names.len(), first.complete), (3, 2, false));
    let rest = env.changes(changes(env, first.upto, 2)).await;
    assert_eq!((rest.upto, rest.names, rest.complete), (4, vec!["c".to_owned()], true));
    let none = env.changes(changes(env, 4, 2)).await;
    assert_eq!((none.upto, none.names.len(), none.complete), (4, 0, true));
}

pub(super) async fn changes_since_beyond_the_counter_are_all_changes(env: &Env) {
    vote(env).await;
    env.done(Op::Accept(accept(env, "a", ballot(1), "v"))).await;
    let all = env.changes(changes(env, 99, 9)).await;
    assert_eq!((all.upto, all.names, all.complete), (1, vec!["a".to_owned()], true));
}

pub(super) async fn promises_and_refused_values_are_no_changes(env: &Env) {
    vote(env).await;
    env.promise(prepare(env, "a", ballot(5))).await;
    env.refused(Op::Accept(accept(env, "a", ballot(1), "v"))).await;
    let none = env.changes(changes(env, 0, 9)).await;
    assert_eq!((none.upto, none.names.len(), none.complete), (0, 0, true));
}

pub(super) async fn registers_are_listed_under_their_project_by_name(env: &Env) {
    vote(env).await;
    for (project, queue) in [("p", "b"), ("p", "a"), ("q", "z"), ("p", "B"), ("p", "c")] {
        let name = format!("{project}/{queue}");
        let accept =
            Accept { index: listing(project, queue, true), ..accept(env, &name, ballot(1), "v") };
        env.done(Op::Accept(accept)).await;
    }
    assert_eq!(listed(env, "p", "", 9).await, ["B", "a", "b", "c"]);
    assert_eq!(listed(env, "p", "a", 1).await, ["b"]);
    assert_eq!(listed(env, "none", "", 9).await, Vec::<String>::new());
}

pub(super) async fn a_register_is_unlisted_with_the_value_that_says_so(env: &Env) {
    vote(env).await;
    let listing = |round, index| Accept { index, ..accept(env, "r", ballot(round), "v") };
    env.done(Op::Accept(listing(1, self::listing("p", "a", true)))).await;
    env.done(Op::Accept(listing(2, None))).await;
    assert_eq!(listed(env, "p", "", 9).await, ["a"]);
    env.done(Op::Accept(listing(3, self::listing("p", "a", false)))).await;
    assert_eq!(listed(env, "p", "", 9).await, Vec::<String>::new());
}

pub(super) async fn a_dump_tells_all_of_each_register_by_name(env: &Env) {
    vote(env).await;
    env.promise(prepare(env, "c", ballot(9))).await;
    let index = listing("p", "a", true);
    let indexed = Accept { index: index.clone(), ..accept(env, "a", ballot(1), "v") };
    env.done(Op::Accept(indexed)).await;
    env.done(Op::Accept(accept(env, "b", ballot(2), "w"))).await;
    env.promise(prepare(env, "b", ballot(3))).await;
    let first = env.dump(dump(env, "", 2)).await;
    assert!(!first.done);
    let a = RegisterDump {
        name: "a".into(),
        promised: ballot(1),
        accepted: Some((ballot(1), "v".into())),
        index,
    };
    let b = RegisterDump {
        name: "b".into(),
        promised: ballot(3),
        accepted: Some((ballot(2), "w".into())),
        index: None,
    };
    assert_eq!(first.registers, [a, b]);
    let rest = env.dump(dump(env, "b", 2)).await;
    let c = RegisterDump { name: "c".into(), promised: ballot(9), accepted: None, index: None };
    assert_eq!((rest.registers, rest.done), (vec![c], true));
}

pub(super) async fn a_keeper_without_vote_is_restored_by_the_higher_ballots(env: &Env) {
    env.done(keep(env, E1)).await;
    let dumped = |promised, accepted: u64, value: &str| RegisterDump {
        name: "r".into(),
        promised: ballot(promised),
        accepted: Some((ballot(accepted), Bytes::from(value.to_owned()))),
        index: listing("p", "a", true),
    };
    let (cookie, epoch) = (env.cookie, E1);
    let registers = vec![dumped(9, 2, "two"), dumped(4, 4, "four"), dumped(4, 3, "three")];
    env.done(Op::Restore { cookie, epoch, registers }).await;
    env.done(activate(env, E1)).await;
    assert_eq!(value(env, "r").await, Some((ballot(4), "four".into())));
    let refused = Refusal::Ballot { promised: ballot(9) };
    assert_eq!(env.refused(prepare(env, "r", ballot(9))).await, refused);
    assert_eq!(listed(env, "p", "", 9).await, ["a"]);
    let changes = env.changes(changes(env, 0, 9)).await;
    assert_eq!((changes.upto, changes.names), (2, vec!["r".to_owned()]));
}

pub(super) async fn a_voting_keeper_is_not_restored(env: &Env) {
    vote(env).await;
    let dumped = RegisterDump {
        name: "r".into(),
        promised: ballot(9),
        accepted: Some((ballot(9), "nine".into())),
        index: None,
    };
    let (cookie, epoch) = (env.cookie, E1);
    env.done(Op::Restore { cookie, epoch, registers: vec![dumped] }).await;
    assert_eq!(value(env, "r").await, None);
}

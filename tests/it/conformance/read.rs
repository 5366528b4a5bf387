//! Pages, single messages, counts.

use roundelay::ClientId;
use roundelay::id::Offset;
use roundelay::node::{Filter, Guard, Op, Page};

use super::env::Env;
use super::ops::*;

/// Ordinal, messages passed and messages returned of each block.
fn passed(page: &Page) -> Vec<(u32, u16, usize)> {
    page.blocks.iter().map(|block| (block.ordinal, block.passed, block.entries.len())).collect()
}

fn three() -> [Post; 3] {
    [post("a"), post("b"), post("c")]
}

pub(super) async fn a_page_is_in_the_order_of_arrival(env: &Env) {
    let at = env.open().await;
    env.appended(append(at, B, 1, block(&[post("b1"), post("b2")]))).await;
    env.append(at, 1, &[post("a1")]).await;
    env.pass_ms(20).await;
    let page = env.page(read(at, 0, MANY)).await;
    assert_eq!(page_bodies(&page), ["b1", "b2", "a1"]);
    assert_eq!(passed(&page), [(0, 2, 2), (1, 1, 1)]);
    assert_eq!((page.blocks[0].producer, page.blocks[0].block), (B, 1));
    assert_eq!((page.blocks[0].count, page.next, page.at_tail), (2, Offset::new(2, 0), true));
    assert_eq!(page.coverage.frontier(), frontier(&[(A, 1), (B, 1)]));
    env.assert_age(page.blocks[0].age_ms, 20);
    env.assert_age(page.blocks[0].entries[0].age_ms, 20);
}

pub(super) async fn an_entry_tells_what_was_posted(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("x").ttl(77_000).delay(55_000).client("me")]).await;
    let page = env.page(read(at, 0, 1)).await;
    let entry = &page.blocks[0].entries[0];
    assert_eq!(entry.at, message(1, 0));
    assert_eq!((&entry.envelope[..], entry.ttl_ms, entry.delay_ms), (&b"x"[..], 77_000, 55_000));
    assert_eq!(entry.client, ClientId::new("me").ok());
    assert_eq!((entry.claim, entry.times), (None, 0));
}

pub(super) async fn a_page_stops_within_a_block_after_its_last_entry(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &three()).await;
    let page = env.page(read(at, 0, 2)).await;
    assert_eq!(passed(&page), [(0, 2, 2)]);
    assert_eq!((page.next, page.at_tail), (Offset::new(0, 2), false));
    let rest = env.page(read(at, page.next.0, 2)).await;
    assert_eq!(page_bodies(&rest), ["c"]);
    assert_eq!(passed(&rest), [(0, 3, 1)]);
    assert_eq!((rest.next, rest.at_tail), (Offset::new(1, 0), true));
}

pub(super) async fn a_page_that_stops_after_a_blocks_last_message_has_passed_the_block(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &three()).await;
    env.append(at, 2, &three()).await;
    let page = env.page(read(at, 0, 3)).await;
    assert_eq!(passed(&page), [(0, 3, 3)]);
    assert_eq!((page.next, page.at_tail), (Offset::new(1, 0), false));
}

pub(super) async fn unwanted_messages_behind_the_last_entry_are_not_passed(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b"), post("c")]]).await;
    env.delete(at, &[message(1, 1), message(1, 2)], Guard::Always).await;
    let page = env.page(read(at, 0, 1)).await;
    assert_eq!((passed(&page), page.next), (vec![(0, 1, 1)], Offset::new(0, 1)));
    let rest = env.page(read(at, page.next.0, 1)).await;
    assert_eq!((passed(&rest), rest.next), (vec![(0, 3, 0)], Offset::new(1, 0)));
}

pub(super) async fn a_page_stops_before_an_entry_that_is_too_much(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("aaaa"), post("bbbb"), post("c")]).await;
    let mut read = read_of(at, 0, MANY);
    read.max_bytes = 7;
    let page = env.page(Op::Read(read.clone())).await;
    assert_eq!((passed(&page), page.next), (vec![(0, 1, 1)], Offset::new(0, 1)));
    read.max_bytes = 8;
    assert_eq!(page_bodies(&env.page(Op::Read(read)).await), ["aaaa", "bbbb"]);
}

pub(super) async fn the_first_entry_is_given_however_large(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("aaaa"), post("bbbb")]).await;
    let mut read = read_of(at, 0, MANY);
    read.max_bytes = 0;
    assert_eq!(page_bodies(&env.page(Op::Read(read)).await), ["aaaa"]);
}

pub(super) async fn a_block_of_which_nothing_was_passed_is_not_named(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("aaaa")]).await;
    env.append(at, 2, &[post("bbbb")]).await;
    let mut read = read_of(at, 0, MANY);
    read.max_bytes = 4;
    let page = env.page(Op::Read(read)).await;
    assert_eq!((passed(&page), page.next), (vec![(0, 1, 1)], Offset::new(1, 0)));
    assert!(!page.at_tail);
}

pub(super) async fn a_limit_of_0_counts_as_1(env: &Env) {
    let at = env.ended(&[&three()]).await;
    assert_eq!(page_bodies(&env.page(read(at, 0, 0)).await), ["a"]);
    assert_eq!(env.pick(at, 1, 0).await.entries.len(), 1);
}

pub(super) async fn a_reader_may_leave_out_what_a_client_posted(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("a").client("me"), post("b").client("you"), post("c")]).await;
    let mut read = read_of(at, 0, MANY);
    read.filter.not_from = ClientId::new("me").ok();
    let page = env.page(Op::Read(read)).await;
    assert_eq!(page_bodies(&page), ["b", "c"]);
    assert_eq!(passed(&page), [(0, 3, 2)]);
}

pub(super) async fn a_reader_may_leave_out_what_is_claimed(env: &Env) {
    let at = env.ended(&[&three()]).await;
    let rank = env.pick_rank(at, 1, 1).await;
    let mut read = read_of(at, 0, MANY);
    let page = env.page(Op::Read(read.clone())).await;
    assert_eq!(page.blocks[0].entries[0].claim, Some((roundelay::id::ClaimKey(1), rank)));
    read.filter = Filter { skip_claimed: true, ..Filter::default() };
    assert_eq!(page_bodies(&env.page(Op::Read(read.clone())).await), ["b", "c"]);
    env.done(release(at, 1, None)).await;
    assert_eq!(page_bodies(&env.page(Op::Read(read)).await), ["a", "b", "c"]);
}

pub(super) async fn a_reader_may_leave_out_what_is_delayed(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("a").delay(LONG_MS / 2), post("b").delay(SHORT_MS)]).await;
    let mut read = read_of(at, 0, MANY);
    assert_eq!(page_bodies(&env.page(Op::Read(read.clone())).await), ["a", "b"]);
    env.pass_ms(PASSED_MS).await;
    read.filter.skip_delayed = true;
    assert_eq!(page_bodies(&env.page(Op::Read(read)).await), ["b"]);
}

pub(super) async fn deleted_and_expired_messages_are_left_out_but_their_blocks_named(env: &Env) {
    let at = env.ended(&[&[post("a")], &[post("b").ttl(SHORT_MS)], &[post("c")]]).await;
    env.delete(at, &[message(1, 0)], Guard::Always).await;
    env.pass_ms(PASSED_MS).await;
    let page = env.page(read(at, 0, MANY)).await;
    assert_eq!(passed(&page), [(0, 1, 0), (1, 1, 0), (2, 1, 1)]);
    assert_eq!(page_bodies(&page), ["c"]);
}

pub(super) async fn blocks_dropped_by_an_end_leave_nothing(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &[post("a1")]).await;
    env.append(at, 2, &[post("a2")]).await;
    env.appended(append(at, B, 1, block(&[post("b1")]))).await;
    env.append(at, 3, &[post("a3")]).await;
    env.done(tell_end(at, &[(A, 1), (B, 1)])).await;
    let page = env.page(read(at, 0, MANY)).await;
    assert_eq!(passed(&page), [(0, 1, 1), (2, 1, 1)]);
    assert_eq!((page.next, page.at_tail), (Offset::new(3, 0), true));
    let first = env.page(read(at, 0, 1)).await;
    assert_eq!((first.next, first.at_tail), (Offset::new(1, 0), false));
}

pub(super) async fn a_page_names_at_most_1024_blocks(env: &Env) {
    let at = env.open().await;
    let one = block(&[post("x")]);
    for number in 1..=1_030 {
        env.appended(append(at, A, number, one.clone())).await;
    }
    let page = env.page(read(at, 0, MANY)).await;
    assert_eq!((page.blocks.len(), page.next), (1_024, Offset::new(1_024, 0)));
    assert!(!page.at_tail);
    let rest = env.page(read(at, page.next.0, MANY)).await;
    assert_eq!((rest.blocks.len(), rest.at_tail), (6, true));
}

pub(super) async fn a_page_without_any_block_ends_where_it_began(env: &Env) {
    let at = env.open().await;
    let empty = env.page(read(at, 0, MANY)).await;
    assert_eq!((empty.next, empty.at_tail), (Offset(0), true));
    env.append(at, 1, &[post("a")]).await;
    let behind = Offset::new(7, 3);
    let page = env.page(read(at, behind.0, MANY)).await;
    assert_eq!((passed(&page), page.next, page.at_tail), (vec![], behind, true));
}

pub(super) async fn a_page_may_start_behind_a_blocks_last_message(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &three()).await;
    let page = env.page(read(at, Offset::new(0, 200).0, MANY)).await;
    assert_eq!((passed(&page), page.next), (vec![(0, 3, 0)], Offset::new(1, 0)));
}

pub(super) async fn a_block_of_256_messages_is_read_to_its_end(env: &Env) {
    let at = env.open().await;
    env.append(at, 1, &vec![post("x"); 256]).await;
    let page = env.page(read(at, 0, 255)).await;
    assert_eq!((passed(&page), page.next), (vec![(0, 255, 255)], Offset::new(0, 255)));
    let rest = env.page(read(at, page.next.0, 9)).await;
    assert_eq!((passed(&rest), rest.next), (vec![(0, 256, 1)], Offset::new(1, 0)));
}

pub(super) async fn a_message_is_got_whether_claimed_or_delayed(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b").delay(LONG_MS / 2)]]).await;
    env.pick_rank(at, 1, 1).await;
    let refs = vec![message(1, 1), message(1, 0)];
    let got = env.got(Op::Get { at, refs }).await;
    let found: Vec<_> = got.entries.into_iter().flatten().collect();
    assert_eq!(entry_bodies(&found), ["b", "a"]);
    assert_eq!(found[1].claim.map(|(key, _)| key.0), Some(1));
}

pub(super) async fn what_ended_expired_or_never_came_is_not_got(env: &Env) {
    let at = env.ended(&[&[post("a"), post("b").ttl(SHORT_MS), post("c")]]).await;
    env.delete(at, &[message(1, 0)], Guard::Always).await;
    env.pass_ms(PASSED_MS).await;
    let refs = vec![
        message(1, 0),
        message(1, 1),
        message(1, 2),
        message(1, 3),
        message(2, 0),
        message(0, 0),
        roundelay::id::MessageRef { producer: B, block: 1, index: 0 },
    ];
    let got = env.got(Op::Get { at, refs }).await;
    let there: Vec<bool> = got.entries.iter().map(Option::is_some).collect();
    assert_eq!(there, [false, false, true, false, false, false, false]);
}

pub(super) async fn stats_count_each_message_once(env: &Env) {
    let posts = [
        post("first"),
        post("claimed"),
        post("delayed").delay(LONG_MS / 2),
        post("late").delay(SHORT_MS),
        post("expired").ttl(SHORT_MS),
        post("free"),
        post("last"),
    ];
    let at = env.ended(&[&posts]).await;
    env.delete(at, &[message(1, 0), message(1, 6)], Guard::Always).await;
    assert_eq!(entry_bodies(&env.pick(at, 1, 1).await.entries), ["claimed"]);
    env.pass_ms(PASSED_MS).await;
    let stats = env.stats(Op::Stats { at }).await;
    assert_eq!((stats.active, stats.claimed, stats.delayed), (2, 1, 1));
    assert_eq!(stats.bytes, "claimed delayed late free".replace(' ', "").len() as u64);
    let ends = [stats.oldest.expect("one is left"), stats.newest.expect("one is left")];
    assert_eq!(entry_bodies(&ends), ["claimed", "free"]);
}

pub(super) async fn bytes_are_those_of_what_is_left(env: &Env) {
    let long = "x".repeat(300);
    let at = env.open().await;
    env.append(at, 1, &vec![post(&long); 4]).await;
    env.append(at, 2, &[post("above the end"), post("also")]).await;
    let bytes = async |at| env.stats(Op::Stats { at }).await.bytes;
    assert_eq!(bytes(at).await, 1217);
    env.done(tell_end(at, &[(A, 1)])).await;
    assert_eq!(bytes(at).await, 1200);
    // Most of the block is of no use any more: a node may write it anew.
    env.delete(at, &[message(1, 0), message(1, 1), message(1, 3)], Guard::Always).await;
    assert_eq!(bytes(at).await, 300);
    let copy = env.open_joining().await;
    let blocks = env.copies(at).await;
    env.coverage(Op::CopyIn { at: copy, version: V1, blocks }).await;
    env.done(tell_end(copy, &[(A, 1)])).await;
    assert_eq!(bytes(copy).await, 300);
    env.delete(copy, &[message(1, 2)], Guard::Always).await;
    assert_eq!(bytes(copy).await, 0);
}

pub(super) async fn stats_of_an_empty_replica_name_no_message(env: &Env) {
    let at = env.open().await;
    let stats = env.stats(Op::Stats { at }).await;
    assert_eq!((stats.active, stats.claimed, stats.delayed, stats.bytes), (0, 0, 0, 0));
    assert_eq!((stats.oldest, stats.newest), (None, None));
}

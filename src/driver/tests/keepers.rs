use super::*;
use crate::error::ErrorKind;
use crate::id::{Epoch, NodeId};

/// Waits until as many members of the keepers are of their nodes' present life as there are.
async fn healed(process: &Process, epoch: u32) -> Duration {
    let start = Instant::now();
    process
        .until("a new set of keepers", |pool| {
            let (view, set) = (pool.view(), pool.registers().keepers());
            set.epoch >= Epoch(epoch) && set.members.iter().all(|member| view.holds(*member))
        })
        .await;
    process.until_all_vote(epoch).await;
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_keeper_that_forgot_votes_again_soon_and_knows_everything() {
    let world = World::new(3);
    let process = world.open(1).await;
    for register in 0..400 {
        process.count(&format!("r{register}")).await.unwrap();
    }
    let epoch = process.pool.registers().keepers().epoch.0;
    process.faults.iter().for_each(|wire| wire.delay_before(millis(1)));
    process.faults[0].down();
    sleep(millis(1_000)).await;
    world.nodes[0].restart_empty();
    process.faults[0].up();
    let took = healed(&process, epoch + 1).await;
    assert!(took < millis(350), "it took {took:?}");
    // The one that forgot and one other are enough now.
    process.faults.iter().for_each(Faults::clear);
    process.faults[1].cut_off();
    for register in 0..400 {
        assert_eq!(process.sum(&format!("r{register}")).await, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn flushed_keepers_are_noticed_and_filled_again() {
    let world = World::new(3);
    let process = world.open(1).await;
    process.count("r").await.unwrap();
    let epoch = process.pool.registers().keepers().epoch.0;
    for node in 0..3 {
        world.nodes[node].flush();
        // An idle pool notices by asking once a second.
        healed(&process, epoch + 1 + u32::try_from(node).unwrap()).await;
        assert_eq!(process.sum("r").await, 1);
    }
}

/// Keepers forget one after the other, again and again, while three processes count: nothing that
/// was acknowledged is lost (Q6, Q9).
#[tokio::test(start_paused = true)]
async fn nothing_is_lost_while_keepers_forget_in_turn() {
    for seed in 0..20 {
        let world = World::new(3);
        let mut processes = Vec::new();
        for process in 0..3 {
            processes.push(world.open(seed * 10 + process).await);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        for wire in processes.iter().flat_map(|process| &process.faults) {
            wire.delay_before(millis(random.u64(..4)));
            wire.delay_after(millis(random.u64(..4)));
        }
        let until = Instant::now() + Duration::from_secs(8);
        let tasks: Vec<_> = processes
            .iter()
            .map(|process| {
                let pool = process.pool.clone();
                tokio::spawn(async move {
                    let (mut acked, mut failed) = (Vec::new(), 0);
                    while Instant::now() < until {
                        sleep(millis(1)).await;
                        match count(&pool, "r").await {
                            Ok(sum) => acked.push(sum),
                            Err(error) => {
                                assert_ne!(error.kind(), ErrorKind::Lost, "seed {seed}");
                                failed += 1;
                            }
                        }
                    }
                    (acked, failed)
                })
            })
            .collect();
        let mut epoch = 2;
        for round in 0..6 {
            sleep(millis(random.u64(..200))).await;
            let node = &world.nodes[round % 3];
            if random.bool() {
                node.restart_empty()
            } else {
                node.flush()
            }
            epoch += 1;
            healed(&processes[random.usize(..3)], epoch).await;
        }
        let (mut acked, mut failed) = (Vec::new(), 0);
        for task in tasks {
            let (sums, failures) = task.await.unwrap();
            acked.extend(sums);
            failed += failures;
        }
        let count = acked.len();
        acked.sort_unstable();
        acked.dedup();
        assert_eq!(acked.len(), count, "one sum given twice, seed {seed}");
        assert!(count > 100, "only {count} increments, seed {seed}");
        let sum = processes[0].sum("r").await;
        assert!(sum >= *acked.last().unwrap(), "{sum}, seed {seed}");
        let most = count as u64 + failed;
        assert!((count as u64..=most).contains(&sum), "{sum} of {count} + {failed}, seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_keepers_place_goes_to_another_node() {
    let world = World::new(4);
    let process = world.open(1).await;
    process.count("r").await.unwrap();
    process.faults[1].cut_off();
    sleep(millis(4_000)).await;
    assert!(process.pool.registers().keepers().has(NodeId(2)), "not at once");
    process.until("replaced", |pool| !pool.registers().keepers().has(NodeId(2))).await;
    process.until_all_vote(3).await;
    process.faults[0].down();
    assert_eq!(process.sum("r").await, 1);
    assert_eq!(process.count("r").await.unwrap(), 2);
}

/// A keeper that was replaced comes back with all it had: its vote must not count, in no epoch.
#[tokio::test(start_paused = true)]
async fn a_replaced_keeper_that_comes_back_is_no_keeper() {
    let world = World::new(4);
    let process = world.open(1).await;
    let asleep = world.open(2).await;
    process.count("r").await.unwrap();
    asleep.pool.close();
    process.faults[1].cut_off();
    process.until("replaced", |pool| !pool.registers().keepers().has(NodeId(2))).await;
    process.until_all_vote(3).await;
    process.faults[0].cut_off();
    assert_eq!(process.count("r").await.unwrap(), 2);
    process.faults.iter().for_each(Faults::up);
    // A process that slept through it asks the old set: two of its three have moved on.
    assert_eq!(asleep.pool.registers().keepers().epoch, Epoch(2));
    asleep.faults[0].cut_off();
    assert_eq!(asleep.sum("r").await, 2);
    assert_eq!(asleep.pool.registers().keepers().epoch, Epoch(3));
    // Another keeper dies: the one that came back is not taken, in this life.
    process.faults[3].cut_off();
    sleep(millis(9_000)).await;
    assert!(!process.pool.registers().keepers().has(NodeId(2)));
    // It forgets, and may be taken.
    world.nodes[1].restart_empty();
    process.until("taken", |pool| pool.registers().keepers().has(NodeId(2))).await;
    process.until_all_vote(4).await;
    process.faults[0].cut_off();
    assert_eq!(process.sum("r").await, 2);
}

/// Whoever was restoring keepers dies at any point; another process finishes it.
#[tokio::test(start_paused = true)]
async fn a_restoration_that_is_cut_short_anywhere_is_finished() {
    for cut in 0..60 {
        let world = World::new(3);
        let first = world.open(1).await;
        for register in 0..300 {
            first.count(&format!("r{register}")).await.unwrap();
        }
        first.faults.iter().for_each(|wire| wire.delay_before(millis(2)));
        world.nodes[2].restart_empty();
        sleep(millis(cut)).await;
        first.faults.iter().for_each(Faults::down);
        first.pool.close();
        let second = world.open(2).await;
        healed(&second, 3).await;
        second.faults[0].cut_off();
        for register in (0..300).step_by(50) {
            assert_eq!(second.sum(&format!("r{register}")).await, 1, "cut {cut}");
        }
    }
}

/// An empty node in a keeper's place casts no vote, even when it is asked under the right cookie.
#[tokio::test(start_paused = true)]
async fn a_keeper_with_an_empty_memory_casts_no_vote() {
    let world = World::new(3);
    let process = world.open(1).await;
    // Written by the first two alone.
    process.faults[2].cut_off();
    assert_eq!(process.count("r").await.unwrap(), 1);
    process.faults[2].up();
    // The second forgets, and the first is out of reach: two that know nothing are no majority.
    process.faults[0].cut_off();
    world.nodes[1].restart_empty();
    for _ in 0..3 {
        let error = process.pool.registers().read("r").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }
    process.faults[0].up();
    healed(&process, 3).await;
    assert_eq!(process.sum("r").await, 1);
    process.faults[0].cut_off();
    assert_eq!(process.sum("r").await, 1);
}

/// One keeper is away for so long that its place is given away, and meanwhile a second one forgets. As
/// the first comes back, it and the third decide the next set, in which only one votes yet, and whoever
/// decided it dies. Others that hear of it must let the new keeper vote before they ask for
/// anything else: without it there is no majority.
#[tokio::test(start_paused = true)]
async fn a_new_set_is_completed_before_it_is_asked_anything() {
    for seed in 0..20 {
        let world = World::new(5);
        let (first, second) = (world.open(2 * seed).await, world.open(2 * seed + 1).await);
        first.count("r").await.unwrap();
        for wire in first.faults.iter().chain(&second.faults) {
            wire.delay_before(millis(1));
        }
        first.faults[0].down();
        second.faults[0].down();
        sleep(millis(500)).await;
        world.nodes[1].restart_empty();
        sleep(millis(6_000 + 37 * seed)).await;
        first.faults[0].up();
        first.until("decided", |pool| pool.registers().keepers().epoch >= Epoch(3)).await;
        first.faults.iter().for_each(Faults::down);
        first.pool.close();
        second.faults[0].up();
        let took = healed(&second, 3).await;
        assert!(took < millis(1_500), "it took {took:?}, seed {seed}");
        assert_eq!(second.count("r").await.unwrap(), 2);
    }
}

/// A process that slept while every keeper forgot and was filled again finds them all strangers:
/// it looks for the newer set and does not take the pool for lost.
#[tokio::test(start_paused = true)]
async fn a_process_that_slept_through_epochs_finds_the_keepers_again() {
    for forgotten in 1..=3 {
        let world = World::new(3);
        let process = world.open(1).await;
        let asleep = world.open(2).await;
        process.count("r").await.unwrap();
        asleep.pool.close();
        for node in 0..forgotten {
            world.nodes[node].restart_empty();
            healed(&process, 3 + u32::try_from(node).unwrap()).await;
        }
        assert_eq!(asleep.pool.registers().keepers().epoch, Epoch(2));
        for wire in &asleep.faults {
            wire.delay_before(millis(1));
        }
        // The one that still knows both epochs answers last.
        asleep.faults[2].delay_before(millis(5));
        assert_eq!(asleep.sum("r").await, 1, "{forgotten} forgot");
        assert_eq!(asleep.count("r").await.unwrap(), 2);
    }
}

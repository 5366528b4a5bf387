use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::error::{ErrorKind, Outcome};
use crate::pool::Changed;

/// Adds to a register until told to stop; returns the sums that were acknowledged.
async fn add_up(pool: Arc<Pool>, until: Instant) -> Vec<u64> {
    let mut acked = Vec::new();
    while Instant::now() < until {
        if let Ok(sum) = count(&pool, "r").await {
            acked.push(sum);
        }
        // Otherwise paused time would stand still.
        sleep(millis(1)).await;
    }
    acked
}

/// Q6: no two increments were given the same sum, and none that was acknowledged is missing.
fn check_sums(mut acked: Vec<u64>, sum: u64, unknown: u64, context: u64) {
    let count = acked.len() as u64;
    acked.sort_unstable();
    acked.dedup();
    assert_eq!(acked.len() as u64, count, "one sum given twice, {context}");
    assert!(acked.last().is_none_or(|last| *last <= sum), "an acked sum is lost, {context}");
    assert!(sum >= count && sum <= count + unknown, "{sum} of {count} + {unknown}, {context}");
}

#[tokio::test(start_paused = true)]
async fn a_register_holds_what_was_written_last() {
    let world = World::new(3);
    let one = world.open(1).await;
    let two = world.open(2).await;
    assert_eq!(one.pool.registers().read("r").await.unwrap(), None);
    for sum in 1..20 {
        let process = if sum % 2 == 0 { &one } else { &two };
        assert_eq!(process.count("r").await.unwrap(), sum);
        assert_eq!(one.sum("r").await, sum);
        assert_eq!(two.sum("r").await, sum);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_register_and_a_refused_change_write_nothing() {
    let world = World::new(3);
    let process = world.open(1).await;
    process.count("r").await.unwrap();
    let registers = process.pool.registers();
    let kept = registers.update("r", None, |value| Ok(Change::Keep(number(value)))).await;
    assert_eq!(kept.unwrap(), 1);
    let refused: Result<(), Error> =
        registers.update("r", None, |_| Err(Error::new(ErrorKind::Conflict, "no"))).await;
    let error = refused.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Conflict, Outcome::NotApplied));
    assert_eq!(process.sum("r").await, 1);
}

/// Three processes count in one register while requests and replies are lost: what was
/// acknowledged stays, and an increment whose acknowledgement was lost is not done again.
#[tokio::test(start_paused = true)]
async fn no_increment_is_lost_or_given_twice_when_messages_are_lost() {
    for seed in 0..30 {
        let world = World::new(3);
        let mut processes = Vec::new();
        for process in 0..3 {
            processes.push(world.open(seed * 10 + process).await);
        }
        let until = Instant::now() + millis(3_000);
        let tasks: Vec<_> = processes
            .iter()
            .flat_map(|process| [&process.pool; 3])
            .map(|pool| tokio::spawn(add_up(pool.clone(), until)))
            .collect();
        let mut random = fastrand::Rng::with_seed(seed);
        while Instant::now() < until {
            let process = &processes[random.usize(..3)];
            let wire = &process.faults[random.usize(..3)];
            match random.u8(..6) {
                0 => wire.drop_replies(1),
                1 => wire.lose_requests(1),
                2 => wire.delay_before(millis(random.u64(..30))),
                3 => wire.delay_after(millis(random.u64(..30))),
                _ => wire.clear(),
            }
            sleep(millis(random.u64(1..20))).await;
        }
        processes.iter().flat_map(|process| &process.faults).for_each(Faults::clear);
        let mut acked = Vec::new();
        for task in tasks {
            acked.extend(task.await.unwrap());
        }
        assert!(acked.len() > 30, "only {} increments, seed {seed}", acked.len());
        let sum = processes[0].sum("r").await;
        assert!(processes[1].sum("r").await == sum && processes[2].sum("r").await == sum);
        check_sums(acked, sum, 0, seed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_minority_of_keepers_may_be_away_and_a_majority_may_not() {
    let world = World::new(3);
    let process = world.open(1).await;
    for away in [Faults::down, Faults::hang, Faults::cut_off] {
        away(&process.faults[1]);
        let start = Instant::now();
        let sum = process.count("r").await.unwrap();
        assert!(start.elapsed() < millis(5), "a dead keeper was waited for");
        assert_eq!(process.sum("r").await, sum);
        away(&process.faults[2]);
        let start = Instant::now();
        let error = process.pool.registers().read("r").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        assert!(start.elapsed() <= Config::default().deadline + millis(50));
        let error = process.count("r").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        process.faults.iter().for_each(Faults::up);
        let was = process.sum("r").await;
        assert!(was == sum || error.outcome() == Outcome::Unknown);
        assert_eq!(process.count("r").await.unwrap(), was + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_increment_whose_replies_were_all_lost_is_done_once() {
    let world = World::new(3);
    let process = world.open(1).await;
    process.count("r").await.unwrap();
    // The promises come through, the answers to the accept do not.
    let pool = process.pool.clone();
    let faults: Vec<_> = process.faults.clone();
    let first = tokio::spawn(async move {
        let mut runs = 0;
        pool.registers()
            .update("r", None, |value| {
                runs += 1;
                if runs == 1 {
                    faults.iter().for_each(|wire| wire.drop_replies(1));
                }
                let sum = number(value) + 1;
                let value = Bytes::copy_from_slice(&sum.to_le_bytes());
                Ok(Change::Write { value, listed: true, out: (sum, runs) })
            })
            .await
    });
    assert_eq!(first.await.unwrap().unwrap(), (2, 1), "it took effect, and was not run again");
    assert_eq!(process.sum("r").await, 2);
}

#[tokio::test(start_paused = true)]
async fn names_are_those_of_a_majority_page_by_page() {
    let world = World::new(3);
    let process = world.open(1).await;
    let registers = process.pool.registers();
    let write = async |project: &str, queue: String, listed: bool| {
        let value = Bytes::from_static(b"x");
        let index = Some((project.to_owned(), queue.clone()));
        registers
            .update(&format!("q:{project}:{queue}"), index, |_| {
                Ok(Change::Write { value: value.clone(), listed, out: () })
            })
            .await
            .unwrap();
    };
    for queue in 0..50 {
        // One keeper after the other misses some.
        process.faults.iter().for_each(Faults::up);
        process.faults[queue % 3].cut_off();
        write("p", format!("q{queue:02}"), true).await;
    }
    process.faults.iter().for_each(Faults::up);
    write("other", "q07".into(), true).await;
    for queue in (0..50).step_by(10) {
        write("p", format!("q{queue:02}"), false).await;
    }
    for limit in [1, 3, 7, 100] {
        let mut all = Vec::<String>::new();
        loop {
            let after = all.last().cloned().unwrap_or_default();
            let page = registers.names("p", &after, limit).await.unwrap();
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        let wanted: Vec<_> =
            (0..50).filter(|queue| queue % 10 != 0).map(|queue| format!("q{queue:02}")).collect();
        assert_eq!(all, wanted, "pages of {limit}");
    }
    assert_eq!(registers.names("other", "", 10).await.unwrap(), ["q07"]);
    assert!(registers.names("none", "", 10).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_another_process_writes_is_told_within_a_second() {
    let world = World::new(3);
    let (one, two) = (world.open(1).await, world.open(2).await);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = told.clone();
    two.pool.registers().on_change(move |changed| listener.lock().unwrap().push(changed.clone()));
    sleep(millis(2_500)).await;
    told.lock().unwrap().clear();
    for register in 0..20 {
        one.faults.iter().for_each(Faults::up);
        one.faults[register % 3].cut_off();
        let register = format!("r{register:02}");
        one.count(&register).await.unwrap();
        let written = Instant::now();
        two.until("fresh", |pool| pool.registers().fresh_at() >= written).await;
        assert!(written.elapsed() < millis(1_100));
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert!(told.iter().any(|changed| changed.includes(&register)), "{told:?}");
        assert!(!told.contains(&Changed::Everything), "{told:?}");
    }
    two.faults[0].cut_off();
    two.faults[1].cut_off();
    let stale = two.pool.registers().fresh_at();
    sleep(millis(3_000)).await;
    assert_eq!(two.pool.registers().fresh_at(), stale, "no majority, no news");
}

/// A write that reached one keeper only is either finished by whoever reads it, index and all, or
/// is never seen again.
#[tokio::test(start_paused = true)]
async fn a_half_done_write_is_finished_with_its_place_in_the_index() {
    let world = World::new(3);
    let (one, two) = (world.open(1).await, world.open(2).await);
    let index = Some(("p".to_owned(), "q".to_owned()));
    let faults = one.faults.clone();
    let pool = one.pool.clone();
    let writing = tokio::spawn(async move {
        pool.registers()
            .update("q:p:q", index, |_| {
                faults[1].cut_off();
                faults[2].cut_off();
                Ok(Change::Write { value: Bytes::from_static(b"x"), listed: true, out: () })
            })
            .await
    });
    sleep(millis(300)).await;
    writing.abort();
    one.pool.close();
    // Seen only by a majority that includes the keeper that has it.
    two.faults[2].cut_off();
    assert_eq!(two.pool.registers().read("q:p:q").await.unwrap(), Some(Bytes::from_static(b"x")));
    two.faults[2].up();
    two.faults[0].cut_off();
    assert_eq!(two.pool.registers().read("q:p:q").await.unwrap(), Some(Bytes::from_static(b"x")));
    assert_eq!(two.pool.registers().names("p", "", 9).await.unwrap(), ["q"]);
}

/// Q10: a keeper that was away holds old values. When the next one goes, the two that are left
/// differ: they are brought to agree after its patience, and at once if it is in doubt already.
#[tokio::test(start_paused = true)]
async fn keepers_that_missed_writes_do_not_make_reads_wait_for_another_that_is_away() {
    for away in [Faults::hang, Faults::cut_off] {
        let world = World::new(3);
        let process = world.open(1).await;
        process.faults[1].cut_off();
        process.count("first").await.unwrap();
        process.count("second").await.unwrap();
        process.faults[1].up();
        sleep(millis(1_000)).await;
        away(&process.faults[2]);
        let suspect_after = Config::default().suspect_after;
        for (register, least, most) in [
            ("first", suspect_after, suspect_after + millis(5)),
            ("second", Duration::ZERO, millis(5)),
        ] {
            let start = Instant::now();
            assert_eq!(process.sum(register).await, 1);
            let took = start.elapsed();
            assert!(least <= took && took <= most, "{register}: {took:?}");
            let start = Instant::now();
            assert_eq!(process.sum(register).await, 1);
            assert!(start.elapsed() < millis(5), "{register} was not made good by being read");
        }
    }
}

/// Reads of several processes never go back (linearizable), while writes are cut short.
#[tokio::test(start_paused = true)]
async fn reads_never_go_back() {
    for seed in 0..20 {
        let world = World::new(3);
        let mut processes = Vec::new();
        for process in 0..3 {
            processes.push(world.open(seed * 10 + process).await);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        let mut highest = 0;
        for _ in 0..100 {
            for process in &processes {
                process.faults.iter().for_each(Faults::up);
                process.faults[random.usize(..3)].cut_off();
            }
            let writer = &processes[random.usize(..3)];
            let limit = millis(random.u64(..4));
            let _ = tokio::time::timeout(limit, writer.count("r")).await;
            for wire in &writer.faults {
                wire.delay_before(millis(random.u64(..3)));
            }
            let read = processes[random.usize(..3)].sum("r").await;
            assert!(read >= highest, "{read} after {highest}, seed {seed}");
            highest = read;
        }
        assert!(highest > 10);
    }
}

#[tokio::test(start_paused = true)]
async fn registers_do_not_disturb_each_other() {
    let world = World::new(3);
    let process = world.open(1).await;
    let tasks: Vec<_> = (0..200_u64)
        .map(|task| {
            let pool = process.pool.clone();
            tokio::spawn(async move {
                let register = format!("r{}", task % 10);
                (register.clone(), count(&pool, &register).await.unwrap())
            })
        })
        .collect();
    let mut sums: BTreeMap<_, BTreeSet<u64>> = BTreeMap::new();
    for task in tasks {
        let (register, sum) = task.await.unwrap();
        assert!(sums.entry(register).or_default().insert(sum));
    }
    assert!(sums.values().all(|sums| *sums == (1..=20).collect()));
}

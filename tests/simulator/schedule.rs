//! What goes wrong, and when: drawn from the seed.
//!
//! Nodes hang, are slow or cut off at any time, several at once. But a node forgets only when all that
//! was forgotten before has been made good since ([`World::is_restored`]): what is promised is promised
//! while a replica is left (Q1). Harsh runs break that once, and say so in the history.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use roundelay::node::memory::Snapshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::life::Death;
use super::plan::pick;
use super::world::{Process, World};
use crate::oracles::What;

/// What is done to a node, or to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    // What makes a node forget.
    Crash,
    CrashWithData,
    Rollback,
    Flush,
    Replace,
    RollingRestart,
    OneAndThenAnother,
    // What does not.
    Pause,
    CutOff,
    CutReplies,
    CutFromOne,
    Blink,
    LostBlocks,
    Slow,
    LostReplies,
    LostRequests,
    LateRequests,
    FullMemory,
    ClockJump,
    KeeperAway,
    // What is done to processes, which also die.
    ClientClockJump,
    TwoAdmins,
}

const FORGETTING: [Kind; 7] = [
    Kind::Crash,
    Kind::CrashWithData,
    Kind::Rollback,
    Kind::Flush,
    Kind::Replace,
    Kind::RollingRestart,
    Kind::OneAndThenAnother,
];
const KEEPING: [Kind; 18] = [
    Kind::Pause,
    Kind::Pause,
    Kind::CutOff,
    Kind::CutReplies,
    Kind::CutFromOne,
    Kind::Blink,
    Kind::Blink,
    Kind::LostBlocks,
    Kind::LostBlocks,
    Kind::Slow,
    Kind::LostReplies,
    Kind::LostRequests,
    Kind::LateRequests,
    Kind::FullMemory,
    Kind::ClockJump,
    Kind::KeeperAway,
    Kind::ClientClockJump,
    Kind::TwoAdmins,
];

/// Faults of nodes at least.
const LEAST: usize = 3;
/// Faults at most: nodes that lie may keep clients from calling often enough.
const MOST: u32 = 40;
/// How long it is waited for what was lost to be made good.
const PATIENCE_MS: u64 = 6_000;
/// How long a batch of copies is under way at most, when that takes long.
const COPY_MS: u64 = 60;

/// Draws faults and does them.
pub(crate) struct Schedule {
    world: Arc<World>,
    rng: Rng,
    /// Whether all that was forgotten has been made good since.
    restored: bool,
    snapshots: Vec<(usize, Snapshot)>,
    running: JoinSet<()>,
}

impl Schedule {
    pub(crate) fn new(world: Arc<World>) -> Self {
        let rng = Rng::with_seed(world.plan.seed.wrapping_mul(31).wrapping_add(7));
        Self { world, rng, restored: true, snapshots: Vec::new(), running: JoinSet::new() }
    }

    /// Runs until enough has gone wrong and clients have called often enough; all is healed then.
    pub(crate) async fn run(mut self) {
        let mut done = 0;
        let mut harsh = self.world.plan.is_harsh;
        while done < MOST && (done < self.world.plan.faults || !self.has_seen_enough()) {
            let pause = self.rng.u64(100..900);
            self.pass(pause).await;
            if harsh && done + 1 >= self.world.plan.faults {
                harsh = false;
                self.lose_two().await;
            } else {
                self.one().await;
            }
            done += 1;
        }
        while self.running.join_next().await.is_some() {}
    }

    /// Whether clients have called often enough, and enough went wrong with nodes: some faults are of
    /// processes, or find nothing to harm.
    fn has_seen_enough(&self) -> bool {
        let entries = self.world.recorder.entries();
        let of_nodes = entries.iter().filter(|entry| matches!(entry.what, What::Fault { .. }));
        entries.len() >= self.world.plan.calls && of_nodes.count() >= LEAST
    }

    /// Lets time pass, and looks whether all is well meanwhile.
    async fn pass(&mut self, ms: u64) {
        let until = self.world.recorder.now() + ms;
        loop {
            let left = until.saturating_sub(self.world.recorder.now());
            if left == 0 {
                return;
            }
            sleep(Duration::from_millis(left.min(100))).await;
            self.restored |= self.world.is_restored();
        }
    }

    /// One fault.
    async fn one(&mut self) {
        if self.rng.u32(..7) == 0 {
            return self.client_crash();
        }
        if self.rng.u32(..3) == 0 {
            let wait = self.rng.bool();
            self.await_restoration(if wait { PATIENCE_MS } else { 0 }).await;
            if self.restored {
                let kind = *pick(&mut self.rng, &FORGETTING);
                return self.forgetting(kind).await;
            }
        }
        let kind = *pick(&mut self.rng, &KEEPING);
        self.keeping(kind).await;
    }

    async fn await_restoration(&mut self, at_most: u64) {
        let until = self.world.recorder.now() + at_most;
        self.restored |= self.world.is_restored();
        while !self.restored && self.world.recorder.now() < until {
            self.pass(100).await;
        }
    }

    fn node(&mut self) -> usize {
        self.rng.usize(..self.world.servers.len())
    }

    fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range))
    }

    /// A node forgets.
    async fn forgetting(&mut self, kind: Kind) {
        let node = self.node();
        match kind {
            Kind::RollingRestart => {
                for node in 0..self.world.servers.len() {
                    let away = self.ms(20..300);
                    self.restored = false;
                    self.crash(node, "restarted in turn, empty", away, |world, node| {
                        world.servers[node].node.restart_empty();
                    });
                    self.await_restoration(PATIENCE_MS).await;
                    if !self.restored {
                        return;
                    }
                }
            }
            Kind::OneAndThenAnother => self.one_and_then_another().await,
            _ => self.forget(kind, node),
        }
    }

    /// A node of an open segment falls silent, and while others go on without it a second one forgets:
    /// the first may be the only one left that knows.
    async fn one_and_then_another(&mut self) {
        let mut nodes = self.world.nodes_of_open_segments();
        self.rng.shuffle(&mut nodes);
        let [silent, node, ..] = nodes[..] else { return self.forget(Kind::Crash, 0) };
        let (silence, away) = (self.ms(300..2_500), self.ms(20..1_500));
        self.world.may_be_late(silence);
        if self.rng.bool() {
            self.do_for(silent, "hangs", silence, |w, n| w.servers[n].faults.hang());
        } else {
            self.do_for(silent, "is cut off", silence, |w, n| w.servers[n].faults.cut_off());
        }
        let gap = self.rng.u64(40..160);
        self.pass(gap).await;
        self.restored = false;
        self.crash(node, "dies and comes back empty", away, |world, node| {
            world.servers[node].node.restart_empty();
        });
    }

    fn forget(&mut self, kind: Kind, node: usize) {
        if self.rng.bool() {
            self.slow_copies();
        }
        self.restored = false;
        let away = self.ms(20..1_500);
        match kind {
            Kind::Flush => {
                self.world.servers[node].node.flush();
                let what = What::Fault { node, kind: "FLUSHALL".into() };
                self.world.recorder.note("faults", what);
            }
            Kind::CrashWithData => {
                self.crash(node, "dies and comes back with its data", away, |world, node| {
                    world.servers[node].node.restart_with_data();
                });
            }
            Kind::Rollback if let Some((node, snapshot)) = self.snapshots.pop() => {
                self.crash(node, "dies and comes back as it was", away, move |world, node| {
                    world.servers[node].node.restart_from(&snapshot);
                });
            }
            Kind::Replace => {
                let away = self.ms(1_500..4_000);
                self.crash(node, "is replaced", away, |world, node| {
                    world.servers[node].node.restart_empty();
                });
            }
            _ => self.crash(node, "dies and comes back empty", away, |world, node| {
                world.servers[node].node.restart_empty();
            }),
        }
        let kept = self.node();
        self.snapshots.push((kept, self.world.servers[kept].node.snapshot()));
    }

    /// A node is down for a while, and something else when it comes back.
    fn crash(
        &mut self,
        node: usize,
        kind: &'static str,
        away: Duration,
        restart: impl FnOnce(&World, usize) + Send + 'static,
    ) {
        self.do_for(node, kind, away, |world, node| {
            world.servers[node].faults.down();
            restart(world, node);
        });
    }

    /// Does something to a node, and takes it back after a while.
    fn do_for(
        &mut self,
        node: usize,
        kind: &'static str,
        time: Duration,
        begin: impl FnOnce(&World, usize),
    ) {
        let what = What::Fault { node, kind: kind.into() };
        let call = self.world.recorder.begin("faults", "", what);
        begin(&self.world, node);
        let world = Arc::clone(&self.world);
        self.running.spawn(async move {
            sleep(time).await;
            let server = &world.servers[node];
            server.faults.clear();
            server.node.set_memory_limit(None);
            drop(call);
        });
    }

    async fn keeping(&mut self, kind: Kind) {
        let node = self.node();
        let time = self.ms(20..2_500);
        // What arrives late is late by so much.
        if matches!(kind, Kind::Pause | Kind::Slow) {
            self.world.may_be_late(time);
        }
        match kind {
            Kind::Pause => self.do_for(node, "hangs", time, |w, n| w.servers[n].faults.hang()),
            Kind::CutOff => {
                self.do_for(node, "is cut off", time, |w, n| w.servers[n].faults.cut_off());
            }
            Kind::CutReplies => self.do_for(node, "is not heard any more", time, |w, n| {
                w.servers[n].faults.cut_replies();
            }),
            Kind::CutFromOne => self.cut_from_one(node, time),
            Kind::Blink => self.blink(),
            Kind::LostBlocks => self.lose_blocks(),
            Kind::Slow => {
                let (before, after) = (self.ms(0..150), self.ms(0..150));
                self.do_for(node, "is slow", time, |w, n| {
                    w.servers[n].faults.delay_before(before);
                    w.servers[n].faults.delay_after(after);
                });
            }
            Kind::LostReplies => {
                let count = self.rng.u32(1..12);
                self.do_for(node, "loses replies", time, |w, n| {
                    w.servers[n].faults.drop_replies(count);
                });
            }
            Kind::LostRequests => {
                let count = self.rng.u32(1..12);
                self.do_for(node, "loses requests", time, |w, n| {
                    w.servers[n].faults.lose_requests(count);
                });
            }
            Kind::LateRequests => {
                let (count, delay) = (self.rng.u32(1..12), self.ms(50..3_000));
                self.world.may_be_late(delay);
                self.world.sight.seen().reached.note("a late request applied");
                self.do_for(node, "gets requests late", time, |w, n| {
                    w.servers[n].faults.late_requests(count, delay);
                });
            }
            Kind::FullMemory => {
                let room = self.rng.u64(..400);
                self.do_for(node, "has no memory left", time, |world, node| {
                    let (used, _) = world.identity(node).memory;
                    world.servers[node].node.set_memory_limit(Some(used + room));
                });
            }
            Kind::ClockJump => {
                let by = self.rng.u64(50..5_000);
                self.world.jump(node, by);
                let what = What::Fault { node, kind: format!("its clock jumps by {by} ms") };
                self.world.recorder.note("faults", what);
            }
            Kind::KeeperAway => {
                let keepers: Vec<usize> = (0..self.world.servers.len())
                    .filter(|node| self.world.identity(*node).keeper.is_some())
                    .collect();
                let node = keepers.get(self.rng.usize(..keepers.len().max(1))).copied();
                let away = self.ms(5_200..6_500);
                self.do_for(node.unwrap_or(0), "is away for long", away, |w, n| {
                    w.servers[n].faults.down();
                });
            }
            Kind::ClientClockJump => {
                let Some(process) = self.some_process() else { return };
                process.clock.forward(self.rng.u64(100..90_000));
                self.disturbed(format!("the clock of {} jumps", process.name));
            }
            _ => self.two_admins(),
        }
    }

    fn disturbed(&self, kind: String) {
        self.world.recorder.note("faults", What::Disturbed { kind });
    }

    fn some_process(&mut self) -> Option<Arc<Process>> {
        self.world.process(self.rng.usize(..super::PLACES))
    }

    /// One process and a node do not hear each other.
    fn cut_from_one(&mut self, node: usize, time: Duration) {
        let Some(process) = self.some_process() else { return };
        let is_mute = self.rng.bool();
        let kind = format!("and {} are cut from each other", process.name);
        let call = self.world.recorder.begin("faults", "", What::Fault { node, kind });
        let wire = process.wires[node].clone();
        if is_mute {
            wire.cut_replies()
        } else {
            wire.cut_off()
        }
        self.running.spawn(async move {
            sleep(time).await;
            wire.up();
            drop(call);
        });
    }

    /// A process and a node of an open segment lose some requests on the way: each moment is so short
    /// that what is sent next arrives.
    fn blink(&mut self) {
        let Some(process) = self.some_process() else { return };
        let nodes = self.world.nodes_of_open_segments();
        let Some(node) = nodes.get(self.rng.usize(..nodes.len().max(1))).copied() else { return };
        let kind = format!("and {} lose requests now and then", process.name);
        let call = self.world.recorder.begin("faults", "", What::Fault { node, kind });
        let wire = process.wires[node].clone();
        let mut rng = self.rng.fork();
        self.running.spawn(async move {
            for _ in 0..20 {
                wire.cut_off();
                sleep(Duration::from_millis(rng.u64(1..4))).await;
                wire.up();
                sleep(Duration::from_millis(rng.u64(5..40))).await;
            }
            drop(call);
        });
    }

    /// Single blocks are lost between a process and a node of an open segment, while what was sent before
    /// and after them arrives.
    fn lose_blocks(&mut self) {
        let Some(process) = self.some_process() else { return };
        let nodes = self.world.nodes_of_open_segments();
        let Some(node) = nodes.get(self.rng.usize(..nodes.len().max(1))).copied() else { return };
        let kind = format!("does not get some blocks of {}", process.name);
        let call = self.world.recorder.begin("faults", "", What::Fault { node, kind });
        let (losses, rng, time) =
            (process.losses[node].clone(), self.rng.fork(), self.ms(300..1_500));
        losses.draw(Some(rng));
        self.running.spawn(async move {
            sleep(time).await;
            losses.draw(None);
            drop(call);
        });
    }

    /// What is copied from now on is under way for longer, as if segments were large.
    fn slow_copies(&mut self) {
        let (delay, time) = (self.ms(20..COPY_MS), self.ms(1_000..4_000));
        self.world.may_be_late(delay);
        self.disturbed(format!("copies take {} ms", delay.as_millis()));
        self.world.copies.take(delay);
        let copies = self.world.copies.clone();
        self.running.spawn(async move {
            sleep(time).await;
            copies.take(Duration::ZERO);
        });
    }

    /// A process dies between two requests, and is followed by another.
    fn client_crash(&mut self) {
        let place = self.rng.usize(..super::PLACES);
        let Some(process) = self.world.process(place) else { return };
        let death = *pick(&mut self.rng, &[Death::Unheard, Death::Heard, Death::Late]);
        let requests = self.rng.u32(..60);
        let (away, late) = (self.ms(50..1_000), self.ms(100..3_000));
        if death == Death::Late {
            self.world.may_be_late(late);
        }
        if !process.life.die_after(requests, death) {
            return;
        }
        let world = Arc::clone(&self.world);
        self.running.spawn(async move {
            process.life.ended().await;
            world.set_process(place, None);
            let kind = format!("{} dies", process.name);
            world.recorder.note("faults", What::Disturbed { kind });
            world.sight.seen().reached.note("a client died between requests");
            sleep(away).await;
            process.store.close().await;
            let next = world.open().await;
            world.set_process(place, Some(next));
            sleep(late).await;
            if process.life.deliver() > 0 {
                world.sight.seen().reached.note("a late request applied");
            }
        });
    }

    /// Two more processes are opened at the same time, look after the pool, and leave.
    fn two_admins(&mut self) {
        let stay = self.ms(200..2_000);
        self.disturbed("two more processes open the pool".into());
        let world = Arc::clone(&self.world);
        self.running.spawn(async move {
            let (one, two) = tokio::join!(world.open(), world.open());
            sleep(stay).await;
            tokio::join!(one.store.close(), two.store.close());
        });
    }

    /// Two nodes that keep no manifests forget everything at the same time.
    async fn lose_two(&mut self) {
        self.await_restoration(PATIENCE_MS).await;
        let nodes = self.world.no_keepers();
        if !self.restored || nodes.len() < 2 {
            return self.one().await;
        }
        self.restored = false;
        for node in nodes.into_iter().take(2) {
            let away = self.ms(20..500);
            self.crash(node, "dies with another and comes back empty", away, |world, node| {
                world.servers[node].node.restart_empty();
            });
        }
        self.world.recorder.note("faults", What::Excuse);
    }
}

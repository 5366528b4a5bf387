//! A node that fails on command: down, hanging, cut off, slow, or losing single messages.
//!
//! [`FaultyNode`] stands before another node and does what the shared [`Faults`] say; with nothing
//! said it is transparent. A request goes two ways, and each can go wrong on its own:
//!
//! ```text
//! call -- lost? -- delay before -- arrives: up? hanging? -- applied -- delay after -- dropped? -- reply
//! ```
//!
//! Requests of one `FaultyNode` arrive in the order in which they were sent, whatever the delays,
//! and arrive although their future was dropped.
//!
//! What a watch has to tell comes the same way: late, when the node hangs, never, when it was cut off
//! meanwhile; and a node that goes down ends it, as a lost connection does.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending, ready};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Node, NodeError, Op, Reply, Watch};
use crate::id::ReplicaAt;
use crate::signal;

/// A node whose faults are commanded by [`Faults`]. See the module's documentation.
#[derive(Debug, Clone)]
pub struct FaultyNode {
    wire: Arc<Wire>,
}

/// Commands the faults of one [`FaultyNode`]; all copies command the same.
#[derive(Debug, Clone)]
pub struct Faults {
    wire: Arc<Wire>,
}

#[derive(Debug)]
struct Wire {
    node: Arc<dyn Node>,
    plan: Mutex<Plan>,
    /// Told whenever it can be reached in another way.
    moved: signal::Sender,
}

#[derive(Debug)]
struct Plan {
    reach: Reach,
    before: Duration,
    after: Duration,
    lose_requests: u32,
    drop_replies: u32,
    /// How many of the next requests arrive late, and by how much.
    late: (u32, Duration),
    /// Requests under way, with the time of their arrival, which never falls.
    under_way: VecDeque<(Instant, Request)>,
    /// Requests that arrived at a hanging node.
    waiting: VecDeque<Request>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Up,
    Down,
    Hanging,
    CutOff,
    Mute,
}

struct Request {
    ops: Vec<Op>,
    answer: oneshot::Sender<Answer>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("ops", &self.ops).finish_non_exhaustive()
    }
}

/// What becomes of a request that was sent.
enum Answer {
    Applied {
        replies: BoxFuture<'static, Result<Vec<Reply>, NodeError>>,
        after: Duration,
        dropped: bool,
    },
    Unknown(&'static str),
    Never,
}

impl FaultyNode {
    /// Puts a wire before `node`, and gives what commands its faults.
    #[must_use]
    pub fn new(node: Arc<dyn Node>) -> (Self, Faults) {
        let plan = Plan {
            reach: Reach::Up,
            before: Duration::ZERO,
            after: Duration::ZERO,
            lose_requests: 0,
            drop_replies: 0,
            late: (0, Duration::ZERO),
            under_way: VecDeque::new(),
            waiting: VecDeque::new(),
        };
        let wire = Arc::new(Wire { node, plan: Mutex::new(plan), moved: signal::Sender::new() });
        (Self { wire: Arc::clone(&wire) }, Faults { wire })
    }
}

impl Faults {
    /// The node is reachable. What waited at a hanging node is applied now, in order.
    pub fn up(&self) {
        let mut plan = self.wire.plan();
        plan.reach = Reach::Up;
        while let Some(request) = plan.waiting.pop_front() {
            self.wire.arrive(&mut plan, request);
        }
        self.wire.moved.raise();
    }

    /// The node refuses connections: [`NodeError::Unreached`]. What was under way or waited is not
    /// applied; whoever sent it learns nothing.
    pub fn down(&self) {
        let mut plan = self.wire.plan();
        plan.reach = Reach::Down;
        let under_way: Vec<_> = plan.under_way.drain(..).map(|(_, request)| request).collect();
        let waiting: Vec<_> = plan.waiting.drain(..).collect();
        for request in under_way.into_iter().chain(waiting) {
            request.answer(Answer::Unknown("the connection was lost"));
        }
        self.wire.moved.raise();
    }

    /// The node stands still, as after `SIGSTOP`: what arrives is applied when it is
    /// [`up`](Self::up) again.
    pub fn hang(&self) {
        self.wire.plan().reach = Reach::Hanging;
        self.wire.moved.raise();
    }

    /// Nothing reaches the node and nothing is answered, ever, not even after it is
    /// [`up`](Self::up) again.
    pub fn cut_off(&self) {
        let mut plan = self.wire.plan();
        plan.reach = Reach::CutOff;
        while let Some(request) = plan.waiting.pop_front() {
            request.answer(Answer::Never);
        }
        self.wire.moved.raise();
    }

    /// What reaches the node is applied, and nothing comes back from it, ever, not even after it is
    /// [`up`](Self::up) again: the way back is cut.
    pub fn cut_replies(&self) {
        let mut plan = self.wire.plan();
        plan.reach = Reach::Mute;
        while let Some(request) = plan.waiting.pop_front() {
            self.wire.arrive(&mut plan, request);
        }
        self.wire.moved.raise();
    }

    /// From now on requests take so long to arrive.
    pub fn delay_before(&self, delay: Duration) {
        self.wire.plan().before = delay;
    }

    /// From now on replies take so long to come back.
    pub fn delay_after(&self, delay: Duration) {
        self.wire.plan().after = delay;
    }

    /// The next `count` requests that arrive are applied, but answered [`NodeError::Unknown`].
    pub fn drop_replies(&self, count: u32) {
        self.wire.plan().drop_replies = count;
    }

    /// The next `count` requests are not applied, and answered [`NodeError::Unknown`].
    pub fn lose_requests(&self, count: u32) {
        self.wire.plan().lose_requests = count;
    }

    /// The next `count` requests are answered [`NodeError::Unknown`] at once, and arrive after `delay`,
    /// whatever was sent later: the connection was lost, and what it had under way was not.
    pub fn late_requests(&self, count: u32, delay: Duration) {
        self.wire.plan().late = (count, delay);
    }

    /// Takes all commands back.
    pub fn clear(&self) {
        {
            let mut plan = self.wire.plan();
            (plan.before, plan.after) = (Duration::ZERO, Duration::ZERO);
            (plan.lose_requests, plan.drop_replies) = (0, 0);
            plan.late = (0, Duration::ZERO);
        }
        self.up();
    }
}

impl Node for FaultyNode {
    fn name(&self) -> &str {
        self.wire.node.name()
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let node = self.name().to_owned();
        let mut plan = self.wire.plan();
        if plan.reach == Reach::Down {
            let reason = "connection refused".into();
            return ready(Err(NodeError::Unreached { node, reason })).boxed();
        }
        if plan.lose_requests > 0 {
            plan.lose_requests -= 1;
            let reason = "the request was lost".into();
            return ready(Err(NodeError::Unknown { node, reason })).boxed();
        }
        if plan.late.0 > 0 {
            plan.late.0 -= 1;
            self.wire.strand(plan.late.1, ops);
            let reason = "the connection was lost".into();
            return ready(Err(NodeError::Unknown { node, reason })).boxed();
        }
        let (answer, answered) = oneshot::channel();
        let request = Request { ops, answer };
        if plan.before.is_zero() && plan.under_way.is_empty() {
            self.wire.arrive(&mut plan, request);
        } else {
            self.wire.depart(&mut plan, request);
        }
        drop(plan);
        answer_of(node, answered).boxed()
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        let wire = Arc::clone(&self.wire);
        async move {
            wire.until(|reach| matches!(reach, Reach::Up | Reach::Down)).await;
            let (reach, delay) = {
                let plan = wire.plan();
                (plan.reach, plan.before + plan.after)
            };
            if reach == Reach::Down {
                let (node, reason) = (wire.node.name().into(), "connection refused".into());
                return Err(NodeError::Unreached { node, reason });
            }
            let watch = wire.node.watch(at).await?;
            pause(delay).await;
            Ok(Watch::new(wire.tell(watch)))
        }
        .boxed()
    }
}

impl Request {
    fn answer(self, answer: Answer) {
        // Nobody waits any more: that is the sender's affair.
        drop(self.answer.send(answer));
    }
}

impl Wire {
    /// Waits until it can be reached in such a way.
    async fn until(&self, is: impl Fn(Reach) -> bool) {
        let mut moved = self.moved.subscribe();
        while !is(self.plan().reach) {
            if moved.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// What a watch has to tell, on its way back.
    async fn tell(self: Arc<Self>, watch: Watch) {
        tokio::select! {
            biased;
            () = self.until(|reach| reach == Reach::Down) => return,
            () = self.until(|reach| matches!(reach, Reach::CutOff | Reach::Mute)) => pending().await,
            () = watch => {}
        }
        let delay = self.plan().after;
        pause(delay).await;
        self.until(|reach| matches!(reach, Reach::Up | Reach::Down)).await;
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn depart(self: &Arc<Self>, plan: &mut Plan, request: Request) {
        let earliest = plan.under_way.back().map(|(at, _)| *at);
        let at = (now() + plan.before).max(earliest.unwrap_or_else(now));
        plan.under_way.push_back((at, request));
        let wire = Arc::clone(self);
        // Ends by itself when the request has arrived; it must outlive the caller's future.
        tokio::spawn(async move {
            sleep_until(at).await;
            let mut plan = wire.plan();
            while plan.under_way.front().is_some_and(|(due, _)| *due <= at)
                && let Some((_, request)) = plan.under_way.pop_front()
            {
                wire.arrive(&mut plan, request);
            }
        });
    }

    /// Lets a request that nobody waits for arrive after `delay`.
    fn strand(self: &Arc<Self>, delay: Duration, ops: Vec<Op>) {
        let wire = Arc::clone(self);
        let (answer, _) = oneshot::channel();
        tokio::spawn(async move {
            sleep(delay).await;
            wire.arrive(&mut wire.plan(), Request { ops, answer });
        });
    }

    fn arrive(&self, plan: &mut Plan, request: Request) {
        match plan.reach {
            Reach::Up => {
                let dropped = plan.drop_replies > 0;
                plan.drop_replies = plan.drop_replies.saturating_sub(1);
                let Request { ops, answer } = request;
                let replies = self.node.call(ops);
                drop(answer.send(Answer::Applied { replies, after: plan.after, dropped }));
            }
            Reach::Down => request.answer(Answer::Unknown("the connection was lost")),
            Reach::Hanging => plan.waiting.push_back(request),
            Reach::CutOff => request.answer(Answer::Never),
            Reach::Mute => {
                let Request { ops, answer } = request;
                // A request is on its way when `call` returns; nobody awaits the answer.
                drop(self.node.call(ops));
                drop(answer.send(Answer::Never));
            }
        }
    }
}

/// Follows tokio's clock, which a paused runtime stops.
fn now() -> Instant {
    Instant::now()
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

async fn answer_of(
    node: String,
    answered: oneshot::Receiver<Answer>,
) -> Result<Vec<Reply>, NodeError> {
    let unknown = |reason: &str| NodeError::Unknown { node, reason: reason.into() };
    match answered.await {
        Ok(Answer::Applied { replies, after, dropped }) => {
            let replies = replies.await;
            pause(after).await;
            if dropped { Err(unknown("the reply was lost")) } else { replies }
        }
        Ok(Answer::Unknown(reason)) => Err(unknown(reason)),
        Ok(Answer::Never) => pending().await,
        Err(_) => Err(unknown("the node was shut down")),
    }
}

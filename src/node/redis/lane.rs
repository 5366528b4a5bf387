//! A lane: one connection, and the one task that writes to it.
//!
//! Only one task writes, because sends from several may be reordered. It gathers what waits into
//! one pipeline and keeps several of them under way. Callers own no send: a call is on its way
//! once it was handed over, whether or not its caller waits for the answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::poll_fn;
use redis::{RedisError, Value};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;

use super::address::Address;
use super::connection::{Connection, told};
use super::inspect;
use super::plan::{Job, Plan};
use super::wire::refused_by_server;
use crate::node::{NodeError, Op, Reply, UnsafeSetting};

/// Calls that may wait to be sent.
const WAITING: usize = 16 * 1024;
/// Operations and bytes that one pipeline gathers.
const GATHERED_OPS: usize = 512;
const GATHERED_BYTES: usize = 1024 * 1024;
/// Pipelines under way. Fewer than the slots of the connection's own queue (50), so that a send
/// never waits for one.
const UNDER_WAY: usize = 16;
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// What the lanes of a node share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: Address,
    /// Why the server must not be used, as it was seen last.
    unsafe_because: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(address: Address) -> Self {
        Self { address, unsafe_because: Mutex::new(None) }
    }

    /// Remembers why the server must not be used, if it must not.
    pub(super) fn note(&self, settings: &[UnsafeSetting]) {
        let reasons = inspect::with_address(settings.to_vec(), &self.address.cli);
        let reasons: Vec<String> = reasons
            .iter()
            .map(|UnsafeSetting { setting, found, mend }| {
                format!("unsafe setting {setting} = {found}; mend it: {mend}")
            })
            .collect();
        let reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        *self.unsafe_because.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn unsafe_because(&self) -> Option<String> {
        self.unsafe_because.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn unreached(&self, reason: impl Into<String>) -> NodeError {
        NodeError::Unreached { node: self.address.name.clone(), reason: reason.into() }
    }

    pub(super) fn unknown(&self, reason: impl Into<String>) -> NodeError {
        NodeError::Unknown { node: self.address.name.clone(), reason: reason.into() }
    }
}

/// The handle of a lane.
#[derive(Debug)]
pub(super) struct Lane {
    shared: Arc<Shared>,
    /// Dropped with the handle, which ends the task.
    sender: Mutex<Option<Sender<Job>>>,
}

impl Lane {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, sender: Mutex::new(None) }
    }

    /// Hands the call over before it returns; the future is only the answer.
    pub(super) fn send(
        &self,
        ops: Vec<Op>,
    ) -> impl Future<Output = Result<Vec<Reply>, NodeError>> + Send + use<> {
        let (job, answer) = Job::new(ops);
        self.hand_over(job);
        let shared = Arc::clone(&self.shared);
        async move {
            let mut replies =
                answer.await.unwrap_or_else(|_| Err(shared.unknown("its task ended")))?;
            for reply in &mut replies {
                if let Reply::Identity(identity) = reply {
                    shared.note(&identity.unsafe_settings);
                    let settings = std::mem::take(&mut identity.unsafe_settings);
                    identity.unsafe_settings = inspect::with_address(settings, &shared.address.cli);
                }
            }
            Ok(replies)
        }
    }

    fn hand_over(&self, job: Job) {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match &*sender {
            None => job,
            Some(open) => match open.try_send(job) {
                Ok(()) => return,
                Err(TrySendError::Full(job)) => {
                    return job.answer(Err(self.shared.unreached("too many calls wait for it")));
                }
                // Its runtime has ended, and its task with it.
                Err(TrySendError::Closed(job)) => job,
            },
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return job.answer(Err(self.shared.unreached("there is no tokio runtime")));
        };
        let (open, jobs) = channel(WAITING);
        if let Err(TrySendError::Full(job) | TrySendError::Closed(job)) = open.try_send(job) {
            return job.answer(Err(self.shared.unreached("too many calls wait for it")));
        }
        let writer = Writer { shared: Arc::clone(&self.shared), jobs, failure: None };
        runtime.spawn(writer.run());
        *sender = Some(open);
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Vec<Value>, RedisError>> + Send>>;

/// The task of a lane. It ends when the lane's handle is dropped and everything is answered.
#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    jobs: Receiver<Job>,
    /// The last attempt to connect, if it failed.
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    delay: Duration,
    /// No attempt is made before.
    until: Instant,
}

/// Why a connection is used no longer.
enum Lost {
    /// The lane's handle was dropped.
    Closed,
    /// What was under way is unknown.
    Because(String),
}

impl Writer {
    async fn run(mut self) {
        while let Some(job) = self.jobs.recv().await {
            if let Some(failure) = &self.failure
                && Instant::now() < failure.until
            {
                job.answer(Err(self.shared.unreached(&failure.reason)));
                continue;
            }
            match Connection::open(&self.shared).await {
                Ok(connection) => {
                    self.failure = None;
                    self.serve(connection, job).await;
                }
                Err(reason) => {
                    job.answer(Err(self.shared.unreached(&reason)));
                    self.back_off(reason);
                }
            }
        }
    }

    fn back_off(&mut self, reason: String) {
        let before = self.failure.as_ref().map_or(BACK_OFF.0 / 2, |failure| failure.delay);
        let delay = (before * 2).min(BACK_OFF.1);
        let until = Instant::now() + delay.mul_f64(0.5 + fastrand::f64() / 2.0);
        self.failure = Some(Failure { reason, delay, until });
    }

    /// Uses a connection until it is lost.
    async fn serve(&mut self, mut connection: Connection, first: Job) {
        let mut under_way = VecDeque::new();
        let lost = self.work(&mut connection, first, &mut under_way).await;
        if let Lost::Because(reason) = lost {
            let error = self.shared.unknown(reason);
            under_way.into_iter().for_each(|(plan, _)| plan.fail(&error));
        }
    }

    async fn work(
        &mut self,
        connection: &mut Connection,
        first: Job,
        under_way: &mut VecDeque<(Plan, Answering)>,
    ) -> Lost {
        let (mut next, mut open) = (Some(first), true);
        loop {
            if let Some(job) = next.take() {
                let jobs = self.gather(job);
                let started = self.start(connection, jobs).await;
                under_way.extend(started);
            }
            if !open && under_way.is_empty() {
                return Lost::Closed;
            }
            tokio::select! {
                biased;
                answer = front(under_way) => match answer {
                    Ok(values) => {
                        let refused = values.iter().find_map(refused_by_server);
                        if let Some((plan, _)) = under_way.pop_front() {
                            plan.answer(values, &self.shared.address.name);
                        }
                        if let Some(reason) = refused {
                            return Lost::Because(reason);
                        }
                    }
                    Err(error) => return Lost::Because(told(&error)),
                },
                () = connection.closed(), if under_way.is_empty() => {
                    return Lost::Because("the connection was closed".into());
                }
                job = self.jobs.recv(), if open && under_way.len() < UNDER_WAY => match job {
                    Some(job) => next = Some(job),
                    None => open = false,
                },
            }
        }
    }

    /// What waits, up to the bounds of one pipeline.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let (mut ops, mut bytes) = (first.ops.len(), first.bytes());
        let mut jobs = vec![first];
        while ops < GATHERED_OPS && bytes < GATHERED_BYTES {
            let Ok(job) = self.jobs.try_recv() else { break };
            ops += job.ops.len();
            bytes += job.bytes();
            jobs.push(job);
        }
        jobs
    }

    /// Sends jobs, unless the server must not be used.
    async fn start(
        &self,
        connection: &Connection,
        mut jobs: Vec<Job>,
    ) -> Option<(Plan, Answering)> {
        if let Some(reason) = self.shared.unsafe_because() {
            let (asks, others): (Vec<Job>, Vec<Job>) =
                jobs.into_iter().partition(Job::only_identity);
            for job in others {
                job.answer(Err(self.shared.unreached(&reason)));
            }
            jobs = asks;
        }
        let (plan, pipe) = Plan::of(jobs, &connection.context);
        if plan.answers() == 0 {
            plan.answer(Vec::new(), &self.shared.address.name);
            return None;
        }
        let mut answering: Answering = Box::pin(connection.send(pipe, plan.answers()));
        // The first poll queues it, in order. Tokio's budget must not put that off.
        let polled = tokio::task::unconstrained(poll_fn(|context| {
            Poll::Ready(answering.as_mut().poll(context))
        }));
        match polled.await {
            Poll::Pending => Some((plan, answering)),
            Poll::Ready(answer) => Some((plan, Box::pin(std::future::ready(answer)))),
        }
    }
}

/// The answer that comes next.
async fn front(under_way: &mut VecDeque<(Plan, Answering)>) -> Result<Vec<Value>, RedisError> {
    match under_way.front_mut() {
        Some((_, answering)) => answering.await,
        None => std::future::pending().await,
    }
}

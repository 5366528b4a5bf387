//! A lane: one connection, and the one task that writes to it.
//!
//! Only one task writes, because sends from several may be reordered. It gathers what waits into
//! one pipeline and keeps several of them under way. Callers own no send: a call is on its way
//! once it was handed over, whether or not its caller waits for the answer.
//!
//! A call that finds nothing waiting and nothing under way does not wake the task: it is sent where
//! it is made, and its answer wakes the caller alone, which reads it from the socket itself (`driver`). It
//! takes its turn in the same order. If its caller goes away, the task waits for the answer.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, Sleep, sleep_until};

use super::address::Address;
use super::connection::{Answer, Connection, RESPONSE_TIMEOUT, Sending};
use super::inspect;
use super::journal::Journals;
use super::live::{Inner, Live, OnItsWay, State};
use super::plan::Job;
use crate::node::{NodeError, Op, Reply, UnsafeSetting};

/// Calls that may wait to be sent.
const WAITING: usize = 16 * 1024;
/// Operations and bytes that one pipeline gathers.
const GATHERED_OPS: usize = 512;
const GATHERED_BYTES: usize = 1024 * 1024;
/// Pipelines under way, by what they carry. What comes meanwhile is gathered: a server does the same
/// with fewer scripts.
pub(super) const SHORT_UNDER_WAY: usize = 4;
pub(super) const LONG_UNDER_WAY: usize = 2;
/// How long an overdue answer is looked for before the connection is given up.
const GRACE: Duration = Duration::from_millis(100);
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

    pub(super) fn unsafe_because(&self) -> Option<String> {
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
    state: Arc<State>,
    /// Dropped with the handle, which ends the task.
    sender: Mutex<Option<Sender<Job>>>,
    most_under_way: usize,
}

impl Lane {
    /// `most_under_way`: pipelines that may wait for their answers.
    pub(super) fn new(shared: Arc<Shared>, most_under_way: usize) -> Self {
        Self { shared, state: Arc::default(), sender: Mutex::new(None), most_under_way }
    }

    /// Hands the call over before it returns; the future is only the answer.
    pub(super) fn send(
        &self,
        ops: Vec<Op>,
    ) -> impl Future<Output = Result<Vec<Reply>, NodeError>> + Send + use<> {
        let started = self.state.start(&self.shared, ops).map_err(|(job, answer)| {
            if !self.hand_over(job) {
                self.state.lock().passed_over();
            }
            answer
        });
        let shared = Arc::clone(&self.shared);
        async move {
            let told = match started {
                Ok(direct) => direct.await,
                Err(answer) => answer.await,
            };
            let mut replies = told.unwrap_or_else(|_| Err(shared.unknown("its task ended")))?;
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

    /// Whether the task has it now.
    fn hand_over(&self, job: Job) -> bool {
        let refuse = |job: Job, why: &str| {
            job.answer(Err(self.shared.unreached(why)));
            false
        };
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let job = match &*sender {
            None => job,
            Some(open) => match open.try_send(job) {
                Ok(()) => return true,
                Err(TrySendError::Full(job)) => return refuse(job, "too many calls wait for it"),
                // Its runtime has ended, and its task with it.
                Err(TrySendError::Closed(job)) => job,
            },
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return refuse(job, "there is no tokio runtime");
        };
        let (open, jobs) = channel(WAITING);
        if let Err(TrySendError::Full(job) | TrySendError::Closed(job)) = open.try_send(job) {
            return refuse(job, "too many calls wait for it");
        }
        // What an ended task left is void.
        let mut inner = self.state.lock();
        drop(inner.take_over());
        *inner = Inner { waiting: 1, plans: inner.plans, ..Inner::default() };
        drop(inner);
        let (shared, state) = (Arc::clone(&self.shared), Arc::clone(&self.state));
        let most_under_way = self.most_under_way;
        runtime.spawn(Writer { shared, state, jobs, most_under_way, failure: None }.run());
        *sender = Some(open);
        true
    }
}

/// The task of a lane. It ends when the lane's handle is dropped and everything is answered.
#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    state: Arc<State>,
    jobs: Receiver<Job>,
    most_under_way: usize,
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
                self.state.lock().passed_over();
                job.answer(Err(self.shared.unreached(&failure.reason)));
                continue;
            }
            match Connection::open_driven(&self.shared).await {
                Ok(connection) => {
                    self.failure = None;
                    self.serve(connection, job).await;
                }
                Err(reason) => {
                    self.state.lock().passed_over();
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
        self.begin(&connection);
        let mut under_way = VecDeque::new();
        let lost = self.work(&mut connection, first, &mut under_way).await;
        let direct = {
            let mut inner = self.state.lock();
            let direct = inner.take_over();
            (inner.live, inner.lost, inner.is_timed) = (None, None, false);
            direct
        };
        if let Lost::Because(reason) = lost {
            let error = self.shared.unknown(reason);
            direct.into_iter().chain(under_way).for_each(|sent| sent.plan.fail(&error));
        }
    }

    fn begin(&self, connection: &Connection) {
        let mut inner = self.state.lock();
        let (sending, journals) = (connection.sending.clone(), Journals::default());
        inner.live = Some(Live { sending, journals, under_way: 0 });
        inner.lost = None;
    }

    async fn work(
        &mut self,
        connection: &mut Connection,
        first: Job,
        under_way: &mut VecDeque<OnItsWay>,
    ) -> Lost {
        let (mut next, mut open) = (Some(first), true);
        let mut overdue = pin!(sleep_until(Instant::now() + RESPONSE_TIMEOUT));
        let (mut is_timed, mut warned, sending) = (false, None, connection.sending.clone());
        loop {
            if let Some(job) = next.take() {
                let jobs = self.gather(job);
                self.start(jobs, under_way);
            }
            if !is_timed && self.state.lock().is_timed {
                is_timed = true;
                overdue.as_mut().reset(Instant::now() + RESPONSE_TIMEOUT);
            }
            if !open && under_way.is_empty() {
                let mut inner = self.state.lock();
                inner.closing = true;
                if inner.is_answered() {
                    return Lost::Closed;
                }
            }
            tokio::select! {
                biased;
                answer = front(&sending, under_way) => {
                    let Some(OnItsWay { plan, .. }) = under_way.pop_front() else { continue };
                    match self.state.lock().settle(&self.shared, plan, answer) {
                        Ok(again) => under_way.extend(again),
                        Err(reason) => return Lost::Because(reason),
                    }
                }
                () = self.state.bell.notified() => {
                    let mut inner = self.state.lock();
                    if inner.abandoned {
                        under_way.extend(inner.take_over());
                    }
                    if let Some(reason) = inner.lost.take() {
                        return Lost::Because(reason);
                    }
                }
                () = connection.closed(|| self.state.lock().is_left_to_task()),
                    if under_way.is_empty() =>
                {
                    return Lost::Because("the connection was closed".into());
                }
                job = self.jobs.recv(), if open && under_way.len() < self.most_under_way => match job {
                    Some(job) => next = Some(job),
                    None => open = false,
                },
                () = &mut overdue, if is_timed => {
                    match self.look_at_time(under_way, overdue.as_mut(), &mut warned) {
                        Ok(goes_on) => is_timed = goes_on,
                        Err(lost) => return lost,
                    }
                }
            }
        }
    }

    /// Gives the connection up if an answer is overdue for the second time; else, whether to look
    /// again, and when. `warned`: when what was overdue last was sent.
    fn look_at_time(
        &self,
        under_way: &mut VecDeque<OnItsWay>,
        mut overdue: Pin<&mut Sleep>,
        warned: &mut Option<Instant>,
    ) -> Result<bool, Lost> {
        let mut inner = self.state.lock();
        let due = |sent: &OnItsWay| sent.plan.sent() + RESPONSE_TIMEOUT;
        let now = Instant::now();
        if inner.direct.as_ref().is_some_and(|sent| due(sent) <= now) {
            // Its answer may lie there unread.
            under_way.extend(inner.take_over());
        }
        match inner.direct.as_ref().or(under_way.front()) {
            Some(sent) if due(sent) > now => overdue.as_mut().reset(due(sent)),
            Some(sent) if *warned == Some(sent.plan.sent()) => {
                let reason = format!("no answer within {} s", RESPONSE_TIMEOUT.as_secs());
                return Err(Lost::Because(reason));
            }
            Some(sent) => {
                // Not before what has come meanwhile was read: it may be this process that stood still.
                *warned = Some(sent.plan.sent());
                overdue.as_mut().reset(now + GRACE);
            }
            None => inner.is_timed = false,
        }
        Ok(inner.is_timed)
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

    fn start(&self, jobs: Vec<Job>, under_way: &mut VecDeque<OnItsWay>) {
        let mut inner = self.state.lock();
        inner.waiting = inner.waiting.saturating_sub(jobs.len());
        under_way.extend(inner.take_over());
        inner.is_timed = true;
        let Some(live) = &mut inner.live else { return };
        under_way.extend(live.start(&self.shared, jobs, true));
        let driver = live.sending.driver();
        drop(inner);
        // Others need not wait for the socket.
        if let Some(driver) = driver {
            driver.drive();
        }
    }
}

/// The answer that comes next.
async fn front(sending: &Sending, under_way: &mut VecDeque<OnItsWay>) -> Answer {
    let Some(sent) = under_way.front_mut() else { return std::future::pending().await };
    std::future::poll_fn(|context| {
        sending.task_waits(context.waker());
        sending.drive();
        Pin::new(&mut sent.answering).poll(context)
    })
    .await
}

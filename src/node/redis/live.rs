//! A connection in use, and what is on its way on it: shared by a lane's task and by calls that are
//! sent without it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot::error::RecvError;
use tokio::sync::{Notify, oneshot};

use super::connection::{Answer, Answering, Sending, told};
use super::driver::keep;
use super::journal::Journals;
use super::lane::Shared;
use super::plan::{Job, Plan};
use super::wire::refused_by_server;
use crate::node::{NodeError, Op, Reply};

/// What a lane's task shares with calls that are sent without it.
#[derive(Debug, Default)]
pub(super) struct State {
    inner: Mutex<Inner>,
    /// Rung when something was left to the task.
    pub(super) bell: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) live: Option<Live>,
    /// Plans so far.
    pub(super) plans: u64,
    /// Jobs that were handed to the task and not sent yet.
    pub(super) waiting: usize,
    /// What was sent without the task. It takes it over before it sends anything itself: answers are
    /// taken in in their order.
    pub(super) direct: Option<OnItsWay>,
    /// Nobody waits for it any longer.
    pub(super) abandoned: bool,
    /// Why the connection must not be used any longer.
    pub(super) lost: Option<String>,
    /// The handle was dropped: the task waits for answers only.
    pub(super) closing: bool,
    /// The task looks now and then whether what is under way is overdue.
    pub(super) is_timed: bool,
}

/// The connection in use.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) sending: Sending,
    pub(super) journals: Journals,
    /// Plans that were sent and not answered yet.
    pub(super) under_way: usize,
}

/// A plan that was sent.
pub(super) struct OnItsWay {
    number: u64,
    pub(super) plan: Plan,
    pub(super) answering: Answering,
    /// Of who waits without the task.
    waker: Option<Waker>,
}

impl std::fmt::Debug for OnItsWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OnItsWay").field("number", &self.number).finish_non_exhaustive()
    }
}

impl State {
    /// Sends a job at once if nothing is before it; else gives it back, and counts it as waiting.
    pub(super) fn start(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        ops: Vec<Op>,
    ) -> Result<Direct, (Job, Receiver)> {
        let (job, answer) = Job::new(ops);
        let mut inner = self.lock();
        let idle = inner.waiting == 0 && inner.lost.is_none();
        let Some(live) = inner.live.as_mut().filter(|live| idle && live.under_way == 0) else {
            inner.waiting += 1;
            return Err((job, answer));
        };
        let sent = live.start(shared, vec![job], true);
        let driver = live.sending.driver();
        inner.plans += 1;
        let number = inner.plans;
        (inner.direct, inner.abandoned) = (sent.map(|sent| OnItsWay { number, ..sent }), false);
        if !std::mem::replace(&mut inner.is_timed, true) {
            self.bell.notify_one();
        }
        drop(inner);
        // Others need not wait for the socket.
        if let Some(driver) = driver {
            driver.drive();
        }
        let (shared, state) = (Arc::clone(shared), Arc::clone(self));
        Ok(Direct { shared, state, number, answer, answered: false })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A job that waited will not be sent.
    pub(super) fn passed_over(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// The call of that number, if it is still its caller's to look for the answer.
    fn direct_of(&mut self, number: u64) -> Option<(&mut Live, &mut OnItsWay)> {
        let sent = self.direct.as_mut().filter(|sent| sent.number == number)?;
        Some((self.live.as_mut()?, sent))
    }

    /// Whether the task has to move bytes: no caller has begun to.
    pub(super) fn is_left_to_task(&self) -> bool {
        self.direct.as_ref().is_none_or(|sent| sent.waker.is_none())
    }

    /// What was sent without the task is the task's from now on.
    pub(super) fn take_over(&mut self) -> Option<OnItsWay> {
        let mut direct = self.direct.take()?;
        // He waits for the answer itself from now on.
        if let Some(waker) = direct.waker.take() {
            waker.wake();
        }
        if let Some(live) = &self.live {
            live.sending.call_ended();
        }
        Some(direct)
    }

    pub(super) fn is_answered(&self) -> bool {
        self.live.as_ref().is_none_or(|live| live.under_way == 0)
    }

    /// Takes in the answer to what was sent; gives what was sent again. `Err`: the connection must
    /// not be used any longer.
    pub(super) fn settle(
        &mut self,
        shared: &Shared,
        plan: Plan,
        answer: Answer,
    ) -> Result<Option<OnItsWay>, String> {
        let Some(live) = &mut self.live else {
            plan.fail(&shared.unknown("the connection was given up"));
            return Ok(None);
        };
        live.under_way -= 1;
        let values = match answer {
            Ok(values) => values,
            Err(error) => {
                let reason = told(&error);
                plan.fail(&shared.unknown(&*reason));
                return Err(reason);
            }
        };
        let refused = values.iter().find_map(refused_by_server);
        let again = plan.answer(values, &shared.address.name, &mut live.journals);
        match refused {
            Some(reason) => {
                let error = shared.unknown(&*reason);
                again.into_iter().for_each(|job| job.answer(Err(error.clone())));
                Err(reason)
            }
            None if again.is_empty() => Ok(None),
            None => Ok(live.start(shared, again, false)),
        }
    }
}

impl Live {
    /// Sends jobs, unless the server must not be used. What is on its way was put in order.
    pub(super) fn start(
        &mut self,
        shared: &Shared,
        mut jobs: Vec<Job>,
        may_note: bool,
    ) -> Option<OnItsWay> {
        if let Some(reason) = shared.unsafe_because() {
            let (asks, others): (Vec<Job>, Vec<Job>) =
                jobs.into_iter().partition(Job::only_identity);
            for job in others {
                job.answer(Err(shared.unreached(&reason)));
            }
            jobs = asks;
        }
        let (plan, pipe) = Plan::of(jobs, &self.sending.context, &mut self.journals, may_note);
        if plan.answers() == 0 {
            plan.answer(Vec::new(), &shared.address.name, &mut self.journals);
            return None;
        }
        let answering = self.sending.start(pipe, plan.answers());
        self.under_way += 1;
        Some(OnItsWay { number: 0, plan, answering, waker: None })
    }
}

type Receiver = oneshot::Receiver<Result<Vec<Reply>, NodeError>>;
type Told = Result<Result<Vec<Reply>, NodeError>, RecvError>;

/// The answer to a call that was sent where it was made. The task may take it over.
#[derive(Debug)]
pub(super) struct Direct {
    shared: Arc<Shared>,
    state: Arc<State>,
    /// Of the call.
    number: u64,
    answer: Receiver,
    answered: bool,
}

impl Future for Direct {
    type Output = Told;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Told> {
        let this = self.get_mut();
        loop {
            let mut inner = this.state.lock();
            let Some((live, sent)) = inner.direct_of(this.number) else {
                // It is answered, or left to the task.
                drop(inner);
                let told = Pin::new(&mut this.answer).poll(context);
                this.answered = told.is_ready();
                return told;
            };
            keep(&mut sent.waker, context.waker());
            live.sending.call_waits(context.waker());
            let driver = live.sending.driver();
            drop(inner);
            // Others need not wait for the socket.
            if let Some(driver) = driver {
                driver.drive();
            }
            let mut inner = this.state.lock();
            let Some((_, sent)) = inner.direct_of(this.number) else { continue };
            let Poll::Ready(answer) = Pin::new(&mut sent.answering).poll(context) else {
                return Poll::Pending;
            };
            let Some(OnItsWay { number, plan, .. }) = inner.direct.take() else { continue };
            match inner.settle(&this.shared, plan, answer) {
                Ok(next) => inner.direct = next.map(|next| OnItsWay { number, ..next }),
                Err(reason) => inner.lost = Some(reason),
            }
            if inner.direct.is_none()
                && let Some(live) = &inner.live
            {
                live.sending.call_ended();
            }
            if inner.lost.is_some() || inner.closing {
                this.state.bell.notify_one();
            }
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        if !self.answered {
            let mut inner = self.state.lock();
            // It may have been answered, and another one sent since.
            inner.abandoned |= inner.direct_of(self.number).is_some();
            self.state.bell.notify_one();
        }
    }
}

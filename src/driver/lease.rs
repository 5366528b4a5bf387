//! One process at a time restores copies in the background: whoever holds the lease.
//!
//! Who holds it stands in the pool's register, and changes by compare-and-set. The holder shows that
//! it lives by writing the register [`PULSE`] now and then; the others need not read it, for they are
//! told once a second which registers changed. Whoever has not heard of a pulse for [`LAPSE`], by its
//! own monotonic clock, takes over.
//!
//! Nothing rests on there being only one: each step of a repair is a compare-and-set or idempotent, so
//! two holders for a moment only do some work twice. And what is urgent waits for no lease: a segment
//! with fewer than `copies_min` copies is repaired by whoever meets it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::changes::Changed;
use super::registers::Change;
use crate::error::Error;
use crate::pool::Core;
use crate::protocol::view::Repairer;

/// The register that the holder writes to show that it lives.
pub(crate) const PULSE: &str = "pulse";
/// How often it does.
pub(crate) const BEAT: Duration = Duration::from_secs(2);
/// How long nothing may be heard of it.
pub(crate) const LAPSE: Duration = Duration::from_secs(6);
/// How often everybody looks whether something is to be done about it.
const LOOK: Duration = Duration::from_millis(250);
/// How long a process that was just begun leaves a free lease to others: one that only asks something
/// and ends again must not take it.
const SETTLE: Duration = Duration::from_millis(300);

/// What this process knows of the lease, besides what the pool's register says.
#[derive(Debug)]
pub(crate) struct Lease(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Whose pulse is listened for.
    of: Option<Repairer>,
    /// When it was heard last; as the holder: when ours was written last.
    heard: Instant,
    /// All may have changed: the pulse has to be read.
    unsure: bool,
    /// The pulse as it was read last.
    read: Option<Bytes>,
}

impl Default for Lease {
    fn default() -> Self {
        let state = State { of: None, heard: Instant::now(), unsure: false, read: None };
        Self(Mutex::new(state))
    }
}

/// What is to be done about the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    None,
    /// It is ours: show that we live.
    Beat,
    /// Somebody may have, unseen.
    Read,
    /// It is free, or its holder is dead.
    TakeOver,
}

impl Lease {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears what changed in the registers.
    fn hear(&self, changed: &Changed) {
        let mut state = self.state();
        match changed {
            Changed::Names(names) if names.contains(PULSE) => state.heard = Instant::now(),
            Changed::Names(_) => {}
            Changed::Everything => state.unsure = true,
        }
    }
}

impl Core {
    /// Whether this process is the one that restores copies in the background.
    pub(crate) fn repairs(&self) -> bool {
        let held = self.view().repairer.is_some_and(|repairer| repairer.by == self.me);
        // One that cannot show that it lives has been replaced, as far as it can tell.
        held && self.lease.state().heard.elapsed() < LAPSE
    }

    /// Keeps the lease, or watches whoever does, for ever.
    pub(crate) async fn keep_lease(self: Arc<Self>) {
        let listening = Arc::downgrade(&self);
        self.registers.on_change(move |changed| {
            if let Some(core) = listening.upgrade() {
                core.lease.hear(changed);
            }
        });
        sleep(SETTLE + Duration::from_millis(self.env.random_below(100))).await;
        loop {
            if let Err(error) = self.look_after_lease().await {
                tracing::debug!(%error, "cannot look after the lease on repairs");
            }
            sleep(LOOK).await;
        }
    }

    async fn look_after_lease(&self) -> Result<(), Error> {
        let seen = self.view().repairer;
        match self.duty(seen) {
            Duty::None => Ok(()),
            Duty::Beat => {
                self.beat().await?;
                self.lease.state().heard = Instant::now();
                Ok(())
            }
            Duty::Read => {
                let now = self.registers.read(PULSE).await?;
                let mut state = self.lease.state();
                state.unsure = false;
                if state.read != now {
                    state.read = now;
                    state.heard = Instant::now();
                }
                Ok(())
            }
            Duty::TakeOver => {
                let took = self.change_view(|view| Ok(view.hand_over(seen, self.me))).await?;
                if took {
                    tracing::info!(before = ?seen.map(|was| was.by), "this process repairs now");
                    self.lease.state().heard = Instant::now();
                }
                Ok(())
            }
        }
    }

    fn duty(&self, seen: Option<Repairer>) -> Duty {
        let mut state = self.lease.state();
        if state.of != seen {
            state.of = seen;
            state.heard = Instant::now();
        }
        let quiet = state.heard.elapsed();
        match seen {
            None => Duty::TakeOver,
            Some(repairer) if repairer.by == self.me => match quiet >= BEAT {
                true => Duty::Beat,
                false => Duty::None,
            },
            Some(_) if state.unsure => Duty::Read,
            Some(_) if quiet >= LAPSE => Duty::TakeOver,
            Some(_) => Duty::None,
        }
    }

    async fn beat(&self) -> Result<(), Error> {
        let beat = self.env.random().to_le_bytes();
        self.registers
            .update(PULSE, None, |_| {
                let value = Bytes::copy_from_slice(&beat);
                Ok(Change::Write { value, listed: false, out: () })
            })
            .await
    }

    /// Gives the lease back, if it is ours, so that nobody has to wait for it.
    pub(crate) async fn resign(&self) {
        if !self.repairs() {
            return;
        }
        if let Err(error) = self.change_view(|view| Ok(view.resign(self.me))).await {
            tracing::debug!(%error, "the lease on repairs was not given back");
        }
    }
}

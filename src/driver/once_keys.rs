//! The registers of idempotency keys: read, changed, and swept (Q11).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::time::Instant;

use super::ask::internal;
use super::manifests::not_found;
use super::{Core, QueueState, locked};
use crate::error::{Error, ErrorKind};
use crate::id::{Generation, SegmentNo};
use crate::once::{IdempotencyKey, KEY_KEPT};
use crate::pool::Change;
use crate::protocol::manifest::{Manifest, Segment};
use crate::protocol::once::{
    KEYS_IN_SHARD, KeyName, KeyedPost, Keys, Named, PostPart, Reached, SHARDS, Standing, has_keyed,
    register_of_keys,
};
use crate::time::millis;

/// How often a process that posted with keys looks for those that have ended.
const SWEEP_AFTER: Duration = Duration::from_secs(4_000);
/// How long a caller should wait when there are too many keys.
const FULL_FOR: Duration = Duration::from_secs(60);

/// What a change of a register of keys came to.
enum Step<T> {
    Write(T),
    Keep(T),
}

impl Core {
    fn now_ms(&self) -> u64 {
        self.pool.env().clock.now_ms()
    }

    /// How a post stands, and in which life of the queue.
    pub(super) async fn keyed_standing(
        &self,
        queue: &QueueState,
        post: &KeyedPost,
    ) -> Result<(Generation, Standing), Error> {
        let (generation, keys) = self.keys(queue, post.key.shard()).await?;
        Ok((generation, keys.standing(post, generation, self.now_ms())))
    }

    /// A register of keys, and the queue's life.
    async fn keys(&self, queue: &QueueState, shard: u64) -> Result<(Generation, Keys), Error> {
        let name = register_of_keys(&queue.register, shard);
        let registers = self.pool.registers();
        let (manifest, bytes) = tokio::join!(self.manifests.read(queue), registers.read(&name));
        let manifest = manifest?.ok_or_else(|| not_found(queue))?;
        Ok((manifest.generation, decode(queue, bytes?.as_ref())?))
    }

    /// Changes the register that has a key.
    async fn change_keys<T: Send>(
        &self,
        queue: &QueueState,
        shard: u64,
        mut change: impl FnMut(&mut Keys) -> Result<Step<T>, Error> + Send,
    ) -> Result<T, Error> {
        let name = register_of_keys(&queue.register, shard);
        let changed = self.pool.registers().update(&name, None, |present: Option<&Bytes>| {
            let mut keys = decode(queue, present)?;
            Ok(match change(&mut keys)? {
                Step::Write(out) => {
                    let value = keys
                        .encode()
                        .map_err(|why| internal(format!("keys cannot be encoded: {why}")))?;
                    Change::Write { value, listed: false, out }
                }
                Step::Keep(out) => Change::Keep(out),
            })
        });
        changed.await
    }

    /// Writes under the key which block the next part of the post will be. `false`: the post does
    /// not stand as `done` says.
    ///
    /// # Errors
    /// `Overloaded` for too many keys; `Unavailable`: the name may have been written.
    pub(super) async fn name_part(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        post: &KeyedPost,
        done: &[PostPart],
        part: PostPart,
        generation: Generation,
        deadline: Instant,
    ) -> Result<bool, Error> {
        locked(&queue.lane.sweep_at).get_or_insert_with(|| Instant::now() + SWEEP_AFTER);
        let reached = Reached { now_ms: self.now_ms(), generation, closed_below: part.segment };
        self.change_keys(queue, post.key.shard(), |keys| {
            if Instant::now() >= deadline {
                return Err(late(queue));
            }
            match keys.name_next(post, done, part, reached) {
                Named::Ours(true) => Ok(Step::Write(true)),
                Named::Ours(false) => Ok(Step::Keep(true)),
                Named::Not => Ok(Step::Keep(false)),
                Named::Full => Err(Error::new(
                    ErrorKind::Overloaded,
                    format!(
                        "queue {}: about {} idempotency keys were used within the hour, \
                         which is as many as are remembered",
                        queue.name,
                        u64::try_from(KEYS_IN_SHARD).unwrap_or(0) * SHARDS
                    ),
                )
                .after(FULL_FOR)),
            }
        })
        .await
    }

    /// Notes under the key what became of a part.
    pub(super) async fn settle_part(
        &self,
        queue: &QueueState,
        post: &KeyedPost,
        part: PostPart,
        is_in_log: bool,
    ) -> Result<(), Error> {
        let until_ms = self.now_ms().saturating_add(post.kept_ms);
        self.change_keys(queue, post.key.shard(), |keys| {
            Ok(match keys.settle(post.key, part, is_in_log, until_ms) {
                true => Step::Write(()),
                false => Step::Keep(()),
            })
        })
        .await
    }

    /// Lets a key remain for its whole time from now on, if much of that is over: what was repeated
    /// once may be repeated again.
    pub(super) async fn keep_key(&self, queue: &QueueState, post: &KeyedPost, until_ms: u64) {
        let wanted_ms = self.now_ms().saturating_add(post.kept_ms);
        if until_ms.saturating_add(millis(KEY_KEPT / 2)) >= wanted_ms {
            return;
        }
        let kept = self.change_keys(queue, post.key.shard(), |keys| {
            Ok(match keys.keep_until(post.key, wanted_ms) {
                true => Step::Write(()),
                false => Step::Keep(()),
            })
        });
        if let Err(error) = kept.await {
            tracing::debug!(queue = queue.name, %error, "a key was not kept for longer");
        }
    }

    /// Lets a key end with its ordinary time from now on: its post has no reason to be repeated any
    /// more, but somebody slow may still be at it.
    pub(super) async fn let_key_go(&self, queue: &QueueState, key: &IdempotencyKey) {
        let until_ms = self.now_ms().saturating_add(key.kept_ms());
        let name = key.name();
        let gone = self.change_keys(queue, name.shard(), |keys| {
            Ok(match keys.keep_no_longer(name, until_ms) {
                true => Step::Write(()),
                false => Step::Keep(()),
            })
        });
        if let Err(error) = gone.await {
            tracing::debug!(queue = queue.name, %error, "a key is kept longer than needed");
        }
    }

    /// How the post with this key stands, and in which life of the queue; `None` without one.
    pub(super) async fn standing_of_key(
        &self,
        queue: &QueueState,
        key: KeyName,
    ) -> Result<Option<(Generation, KeyedPost, Standing)>, Error> {
        let (generation, keys) = self.keys(queue, key.shard()).await?;
        let standing = keys.standing_of(key, generation, self.now_ms());
        Ok(standing.map(|(post, standing)| (generation, post, standing)))
    }

    /// Notes what became of the parts that went to these segments, which are about to leave: their
    /// ends are forgotten with them.
    ///
    /// Later nobody can name a part there that ends up in the log: a block is sent after it was
    /// named, and these segments are closed.
    pub(super) async fn settle_parts_of(
        &self,
        queue: &QueueState,
        generation: Generation,
        leaving: &[&Segment],
    ) -> Result<(), Error> {
        let ends = || leaving.iter().filter_map(|s| s.end.as_ref().map(|end| (s.no, end)));
        let keyed: Vec<SegmentNo> =
            ends().filter(|(_, end)| has_keyed(end)).map(|(no, _)| no).collect();
        if keyed.is_empty() {
            return Ok(());
        }
        let shards = (0..SHARDS).map(|shard| async move {
            let name = register_of_keys(&queue.register, shard);
            let keys = decode(queue, self.pool.registers().read(&name).await?.as_ref())?;
            Ok::<_, Error>((shard, keys))
        });
        for (shard, keys) in try_join_all(shards).await? {
            if keys.awaits(generation, &keyed) {
                let end = |no| ends().find(|(other, _)| *other == no).map(|(_, end)| end);
                self.change_keys(queue, shard, |keys| {
                    Ok(match keys.settle_in(generation, end) {
                        true => Step::Write(()),
                        false => Step::Keep(()),
                    })
                })
                .await?;
            }
        }
        Ok(())
    }

    /// Begins to remove keys that have ended, if it is time.
    pub(super) fn look_after_keys(self: &Arc<Self>, queue: &Arc<QueueState>) {
        let mut sweep_at = locked(&queue.lane.sweep_at);
        if sweep_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        *sweep_at = None;
        let (core, queue) = (Arc::downgrade(self), Arc::clone(queue));
        self.spawn(async move {
            let Some(core) = core.upgrade() else { return };
            let left = core.sweep_keys(&queue).await.unwrap_or(true);
            if left {
                // Half an hour is short enough for what is small.
                let again = Instant::now() + KEY_KEPT / 2;
                locked(&queue.lane.sweep_at).get_or_insert(again);
            }
        });
    }

    /// Removes keys that have ended; tells whether any are left.
    pub(super) async fn sweep_keys(&self, queue: &QueueState) -> Result<bool, Error> {
        let manifest = self.manifests.read(queue).await?;
        let now_ms = self.now_ms();
        let forget = |keys: &mut Keys| match &manifest {
            Some(manifest) => keys.forget(reached(manifest, now_ms)),
            None => keys.forget_done(now_ms),
        };
        let swept = (0..SHARDS).map(|shard| async move {
            let name = register_of_keys(&queue.register, shard);
            let mut keys = decode(queue, self.pool.registers().read(&name).await?.as_ref())?;
            if forget(&mut keys) {
                self.change_keys(queue, shard, |keys| {
                    Ok(if forget(keys) { Step::Write(()) } else { Step::Keep(()) })
                })
                .await?;
            }
            Ok::<_, Error>(!keys.is_empty())
        });
        let mut left = false;
        for shard in join_all(swept).await {
            left |= shard?;
        }
        Ok(left)
    }
}

/// The error of a post that took too long.
pub(super) fn late(queue: &QueueState) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!("queue {}: the post was not acknowledged in time", queue.name),
    )
    .after(Duration::from_secs(1))
}

fn reached(manifest: &Manifest, now_ms: u64) -> Reached {
    let closed_below = manifest.open_segment().map_or(manifest.next, |open| open.no);
    Reached { now_ms, generation: manifest.generation, closed_below }
}

fn decode(queue: &QueueState, bytes: Option<&Bytes>) -> Result<Keys, Error> {
    Keys::decode(bytes).map_err(|why| {
        internal(format!("queue {}: unreadable idempotency keys: {why}", queue.name))
    })
}

//! Looking again: what fails by a manifest may succeed by the next one.
//!
//! Segments close, move and leave while somebody looks at them, more than once if they are small and the
//! queue is busy. So a look is repeated as often as the manifest has changed since it failed; only what fails
//! twice by the same manifest is an outage.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Core, QueueState};
use crate::error::Error;
use crate::id::Version;
use crate::protocol::manifest::Manifest;

/// Looks by one manifest that may fail before nothing better is expected of it: the first one may know no
/// node's state yet, and leaves what it found for the second.
const MOST: u32 = 2;

/// The looks of one call.
#[derive(Debug)]
pub(crate) struct Looks {
    deadline: Instant,
    failed: Option<Failed>,
}

#[derive(Debug)]
struct Failed {
    by: Version,
    times: u32,
    error: Error,
}

impl Looks {
    pub(crate) fn until(deadline: Instant) -> Self {
        Self { deadline, failed: None }
    }

    /// Allows a look by the manifest's present version.
    ///
    /// # Errors
    /// What the last look failed by, if there is nothing new or no time left.
    pub(crate) fn allow(&self, by: Version) -> Result<(), Error> {
        match &self.failed {
            Some(Failed { error, .. }) if Instant::now() >= self.deadline => Err(error.copy()),
            Some(Failed { by: before, times, error }) if *before == by && *times >= MOST => {
                Err(error.copy())
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn failed(&mut self, by: Version, error: Error) {
        let before = self.failed.take().filter(|failed| failed.by == by);
        let times = before.map_or(1, |failed| failed.times + 1);
        self.failed = Some(Failed { by, times, error });
    }
}

impl Core {
    /// Looks at a queue by the manifest that is `known`, if any, and by what the keepers have after
    /// that. `None`: there is no such queue.
    pub(super) async fn look<T, F: Future<Output = Result<T, Error>>>(
        &self,
        queue: &QueueState,
        mut known: Option<Arc<Manifest>>,
        look: impl Fn(Arc<Manifest>) -> F,
    ) -> Result<Option<T>, Error> {
        let mut looks = Looks::until(Instant::now() + self.pool.config().deadline);
        loop {
            let manifest = match known.take() {
                Some(known) => Some(known),
                None => self.manifests.read(queue).await?,
            };
            let Some(manifest) = manifest else { return Ok(None) };
            let version = manifest.version;
            looks.allow(version)?;
            match look(manifest).await {
                // A segment may have been closed by the look itself, or by others during it.
                Err(error) => looks.failed(version, error),
                found => return found.map(Some),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_look_is_repeated_while_the_manifest_changes_and_there_is_time() {
        let mut looks = Looks::until(Instant::now() + Duration::from_secs(1));
        for version in 1..10 {
            assert!(looks.allow(Version(version)).is_ok());
            looks.failed(Version(version), Error::unavailable("no"));
        }
        assert!(looks.allow(Version(9)).is_ok(), "once more by the same");
        looks.failed(Version(9), Error::unavailable("no"));
        assert!(looks.allow(Version(9)).is_err());
        assert!(looks.allow(Version(10)).is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(looks.allow(Version(10)).is_err());
    }
}

//! How often each project may ask.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::Project;

/// Projects remembered at once; those that have not asked for a while are forgotten.
const MAX_PROJECTS: usize = 10_000;
/// How often those are looked for at most, in milliseconds: it means looking at all.
const SWEEP_EVERY_MS: u64 = 100;

/// A bucket a project: each request takes one of its tokens, and they come back with time.
#[derive(Debug)]
pub(super) struct Rates {
    per_second: u64,
    burst: u64,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    of: BTreeMap<Project, Bucket>,
    /// When full ones were looked for last.
    swept_ms: Option<u64>,
}

/// Counted in thousandths of a token.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    level: u64,
    at_ms: u64,
}

impl Rates {
    /// `per_second` 0 is no limit.
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let burst = u64::from(burst.max(per_second)) * 1000;
        Self { per_second: per_second.into(), burst, buckets: Mutex::default() }
    }

    /// Takes a token; `Err` says in how many milliseconds there will be one.
    pub(super) fn take(&self, project: &Project, now_ms: u64) -> Result<(), u64> {
        if self.per_second == 0 {
            return Ok(());
        }
        let mut guard = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { of: buckets, swept_ms } = &mut *guard;
        if buckets.len() >= MAX_PROJECTS && !buckets.contains_key(project) {
            // A full bucket is like none. Were all others in use, the newcomer would pay for it.
            let due =
                swept_ms.is_none_or(|swept_ms| now_ms.saturating_sub(swept_ms) >= SWEEP_EVERY_MS);
            if due {
                *swept_ms = Some(now_ms);
                buckets.retain(|_, bucket| self.refilled(*bucket, now_ms).level < self.burst);
            }
            if buckets.len() >= MAX_PROJECTS {
                return Err(1000);
            }
        }
        let fresh = Bucket { level: self.burst, at_ms: now_ms };
        let bucket = buckets.entry(project.clone()).or_insert(fresh);
        *bucket = self.refilled(*bucket, now_ms);
        match bucket.level.checked_sub(1000) {
            Some(level) => {
                bucket.level = level;
                Ok(())
            }
            None => Err((1000 - bucket.level).div_ceil(self.per_second)),
        }
    }

    fn refilled(&self, bucket: Bucket, now_ms: u64) -> Bucket {
        let passed_ms = now_ms.saturating_sub(bucket.at_ms);
        let gained = passed_ms.saturating_mul(self.per_second);
        Bucket { level: bucket.level.saturating_add(gained).min(self.burst), at_ms: now_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(name: &str) -> Project {
        Project::new(name).unwrap()
    }

    #[test]
    fn a_project_asks_a_burst_at_once_and_then_by_its_rate() {
        let rates = Rates::new(2, 4);
        let busy = project("busy");
        for _ in 0..4 {
            assert_eq!(rates.take(&busy, 1000), Ok(()));
        }
        assert_eq!(rates.take(&busy, 1000), Err(500));
        assert_eq!(rates.take(&busy, 1499), Err(1));
        assert_eq!(rates.take(&busy, 1500), Ok(()));
        assert!(rates.take(&busy, 1500).is_err());
        // Others do not pay for it, and rest does not add up beyond a burst.
        assert_eq!(rates.take(&project("calm"), 1500), Ok(()));
        for _ in 0..4 {
            assert_eq!(rates.take(&busy, 1_000_000), Ok(()));
        }
        assert!(rates.take(&busy, 1_000_000).is_err());
    }

    #[test]
    fn no_limit_is_none() {
        let rates = Rates::new(0, 0);
        assert!((0..10_000).all(|_| rates.take(&project("p"), 0).is_ok()));
        assert!(rates.buckets.lock().unwrap().of.is_empty());
    }

    #[test]
    fn no_more_projects_are_remembered_than_are_busy() {
        let rates = Rates::new(1, 1);
        for number in 0..MAX_PROJECTS {
            rates.take(&project(&number.to_string()), 0).unwrap();
        }
        assert!(rates.take(&project("late"), 950).is_err());
        // All buckets are full again, but that is seen only by the next look.
        assert!(rates.take(&project("late"), 1000).is_err());
        assert_eq!(rates.take(&project("late"), 1050), Ok(()));
        assert_eq!(rates.buckets.lock().unwrap().of.len(), 1);
    }
}

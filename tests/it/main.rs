//! Integration tests: one binary, a module for each subject.
#![expect(clippy::unwrap_used, reason = "a helper of tests may panic as tests do")]

mod conformance;
mod faulty;
mod memory;
mod queue;
#[cfg(feature = "cli")]
mod readme;
mod tidy;

//! Integration tests: one binary, a module for each subject.

mod conformance;
mod faulty;
mod memory;
mod queue;
#[cfg(feature = "cli")]
mod readme;
mod tidy;

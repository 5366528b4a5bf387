//! Integration tests: one binary, a module for each subject.

#[cfg(feature = "cli")]
mod cli;
mod conformance;
mod faulty;
#[cfg(feature = "http")]
mod http;
mod memory;
mod queue;

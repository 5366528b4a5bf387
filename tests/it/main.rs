//! Integration tests: one binary, a module for each subject.
#![expect(clippy::unwrap_used, reason = "a helper of tests may panic as tests do")]

mod agreement;
#[cfg(feature = "cli")]
mod chaos;
#[cfg(feature = "cli")]
mod cli;
mod conformance;
mod faulty;
mod journal;
mod memory;
#[path = "../oracles/mod.rs"]
mod oracles;
#[cfg(feature = "cli")]
mod pool_cli;
mod queue;
#[cfg(feature = "cli")]
mod readme;
mod redis_calls;
mod redis_node;
mod redis_server;
mod redis_tls;
mod simulator;
mod space;
mod tidy;
mod waiting;

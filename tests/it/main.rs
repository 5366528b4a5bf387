//! Integration tests: one binary, a module for each subject.
#![expect(clippy::unwrap_used, reason = "a helper of tests may panic as tests do")]

mod agreement;
mod cli;
mod conformance;
mod faulty;
mod http;
mod memory;
mod queue;
mod readme;
mod redis_node;
mod redis_server;
mod tidy;

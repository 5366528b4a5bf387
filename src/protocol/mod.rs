//! Decisions: synchronous and pure. No clock, no randomness, no input or output.

pub(crate) mod admission;
pub(crate) mod latency;
pub(crate) mod register;
pub(crate) mod view;

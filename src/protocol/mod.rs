//! Decisions: what the protocol says, as pure functions.
//!
//! Nothing here is asynchronous, looks at a clock, draws a random number or talks to a node. The
//! `driver` module gathers what nodes say, asks this module what follows from it, and does that.

pub(crate) mod admission;
pub(crate) mod flight;
pub(crate) mod frontier;
pub(crate) mod latency;
pub(crate) mod manifest;
pub(crate) mod once;
pub(crate) mod placement;
pub(crate) mod register;
pub(crate) mod tail;
pub(crate) mod turnover;
pub(crate) mod view;

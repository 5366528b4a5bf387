//! Queues on memory nodes: what they do, and what they do when nodes fail.

mod basic;
mod cluster;
mod counting;
mod failing;
mod processes;
mod storm;

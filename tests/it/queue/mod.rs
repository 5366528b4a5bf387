//! Queues on memory nodes: what they do, and what they do when nodes fail.

mod administration;
mod basic;
mod clocks;
mod cluster;
mod counting;
mod dead_letters;
mod failing;
mod mortal;
mod once;
mod once_storm;
mod processes;
mod storm;
mod waiting;

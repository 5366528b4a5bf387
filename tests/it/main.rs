//! Integration tests: one binary, a module for each subject.

mod agreement;
mod conformance;
mod faulty;
mod memory;
mod redis_node;
mod redis_server;
mod space;

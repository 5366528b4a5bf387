//! Integration tests: one binary, a module for each subject.

mod agreement;
mod redis_server;

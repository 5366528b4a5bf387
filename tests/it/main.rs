//! Integration tests: one binary, a module for each subject.

mod conformance;
mod faulty;
mod memory;
mod queue;

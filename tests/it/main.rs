//! Integration tests.

#[cfg(feature = "cli")]
mod cli;
#[cfg(feature = "http")]
mod http;

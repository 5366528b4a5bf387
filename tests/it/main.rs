//! Integration tests.

#[cfg(feature = "http")]
mod http;

//! Effects: sends what `protocol` decides and feeds the answers back.

pub(crate) mod bootstrap;
pub(crate) mod changes;
pub(crate) mod keepers;
pub(crate) mod membership;
pub(crate) mod nodes;
pub(crate) mod quorum;
pub(crate) mod registers;

#[cfg(test)]
mod tests;

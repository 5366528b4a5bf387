//! Oracles: what clients were told, judged by the promises of `specs/README.md`.
//!
//! A [`History`] is plain data: what each client asked, when, and what it was answered. The oracles
//! know nothing of the protocol, nor of what runs it: the simulator makes histories of seeds, and the
//! harness of real servers writes entries as lines of JSON and reads them again. One file an oracle,
//! named as Jepsen names what it finds, where Jepsen has a name for it.
//!
//! All times are milliseconds of one clock. Between asking and being told nobody knows whether
//! something has happened, so oracles take only what is certain: two calls at the same millisecond are
//! in no order.

pub(crate) mod copies_restored;
pub(crate) mod double_claim;
pub(crate) mod duplicated;
pub(crate) mod early_delivery;
pub(crate) mod facts;
pub(crate) mod history;
pub(crate) mod lost;
pub(crate) mod marker_stability;
pub(crate) mod missing;
pub(crate) mod nonmonotonic;
pub(crate) mod once;
pub(crate) mod one_manifest;
pub(crate) mod phantom;
pub(crate) mod poll_skip;
pub(crate) mod progress;
pub(crate) mod resurrection;
pub(crate) mod stale_claim;
pub(crate) mod stats;
pub(crate) mod ttl_overrun;
pub(crate) mod unseen;
pub(crate) mod walks;

use std::fmt;

pub(crate) use facts::Facts;
pub(crate) use history::*;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Breach {
    /// The oracle that saw it.
    pub(crate) oracle: &'static str,
    /// The invariant that was broken.
    pub(crate) invariant: &'static str,
    /// What was seen, for people.
    pub(crate) what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.oracle, self.invariant, self.what)
    }
}

/// An oracle: its name, the invariant that it watches over, and how it judges.
pub(crate) type Oracle = (&'static str, &'static str, fn(&History, &Facts<'_>) -> Vec<String>);

/// All of them.
pub(crate) const ORACLES: [Oracle; 18] = [
    ("lost", "Q1", lost::check),
    ("missing", "Q1", missing::check),
    ("unseen", "Q2", unseen::check),
    ("poll_skip", "Q2", poll_skip::check),
    ("duplicated", "Q3", duplicated::check),
    ("marker_stability", "Q3", marker_stability::check),
    ("nonmonotonic", "Q4", nonmonotonic::check),
    ("phantom", "Q5", phantom::check),
    ("one_manifest", "Q6", one_manifest::check),
    ("double_claim", "Q7", double_claim::check),
    ("stale_claim", "Q7", stale_claim::check),
    ("early_delivery", "Q7", early_delivery::check),
    ("resurrection", "Q8", resurrection::check),
    ("ttl_overrun", "Q8", ttl_overrun::check),
    ("stats", "Q8", stats::check),
    ("copies_restored", "Q10", copies_restored::check),
    ("progress", "Q10", progress::check),
    ("once", "Q11", once::check),
];

/// All breaches; none is what is hoped for.
pub(crate) fn check(history: &History) -> Vec<Breach> {
    let facts = Facts::of(history);
    let judge = |(oracle, invariant, check): Oracle| {
        let found = check(history, &facts).into_iter();
        found.map(move |what| Breach { oracle, invariant, what })
    };
    ORACLES.into_iter().flat_map(judge).collect()
}

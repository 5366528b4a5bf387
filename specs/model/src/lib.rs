//! The replication protocol as an executable model: all states within stated bounds are gone
//! through, breadth first, and each shortcut is refuted by the shortest way to what goes wrong.
//!
//! Five parts, each with a small state space of its own: `log` (Q1 to Q5), `claims` (Q1, Q5, Q7,
//! Q8), `keepers` (Q6, Q9), `lives` (Q9) and `once` (Q11). What each of them leaves out, and why that is sound, is
//! told at its head. README.md has the bounds, the numbers of states, and what no part can express.

mod check;
mod claims;
mod keepers;
mod ledger;
mod lives;
mod log;
mod once;
mod rules;

pub use check::Outcome;
use check::check;
pub use ledger::Transition;
pub use rules::{Rules, Shortcut};

/// A run of one part, not begun yet.
pub type Run = fn() -> Outcome;

/// The protocol, part by part.
pub const RUNS: &[Run] = &[
    || check(log::Log::within(log::Bounds { first: 2, ..LOG })),
    || check(keepers::Keepers::within(keepers::Bounds { ballots: 2, forgets: 2, epochs: 3 })),
    || check(log::Log::within(log::Bounds { forgets: 2, ..LOG })),
    || check(lives::Lives::within(lives::Bounds { lives: 3, faults: 3 })),
    || {
        let deletes = claims::Deletes::Claimed;
        check(claims::Claims::within(claims::Bounds { claims: 1, deletes, drops: 1, ..CLAIMS }))
    },
    || {
        let deletes = claims::Deletes::Any;
        let bounds = claims::Bounds { copies_min: 2, deletes, drops: 2, forgets: 1, ..CLAIMS };
        check(claims::Claims::within(bounds))
    },
    || {
        let beginning = claims::Beginning::Untold;
        check(claims::Claims::within(claims::Bounds { claims: 1, drops: 1, beginning, ..CLAIMS }))
    },
    || check(claims::Claims::within(claims::Bounds { claims: 2, ..CLAIMS })),
    || {
        let caches = claims::Caches::Newest;
        check(claims::Claims::within(claims::Bounds { claims: 2, drops: 1, caches, ..CLAIMS }))
    },
    || check(log::Log::within(log::Bounds { second: 1, pages: log::Pages::Whole, ..LOG })),
    || check(once::Once::within(once::Bounds { segments: 2 })),
];

const LOG: log::Bounds =
    log::Bounds { copies: 2, first: 1, second: 0, forgets: 0, pages: log::Pages::Any };

const CLAIMS: claims::Bounds = claims::Bounds {
    copies_min: 1,
    claims: 0,
    deletes: claims::Deletes::None,
    drops: 0,
    forgets: 0,
    beginning: claims::Beginning::Told,
    caches: claims::Caches::Any,
};

/// Looks for what goes wrong with a shortcut.
///
/// # Panics
/// If no part can express it: a mistake in this crate.
#[must_use]
pub fn refute(shortcut: Shortcut) -> Outcome {
    log::Log::refuting(shortcut)
        .map(check)
        .or_else(|| claims::Claims::refuting(shortcut).map(check))
        .or_else(|| keepers::Keepers::refuting(shortcut).map(check))
        .or_else(|| lives::Lives::refuting(shortcut).map(check))
        .or_else(|| once::Once::refuting(shortcut).map(check))
        .unwrap_or_else(|| panic!("no part of the model expresses {shortcut}"))
}

//! Runs a model through the checker and tells what came out.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::ledger::{Ledger, Transition};

/// A part of the protocol, with bounds.
pub(crate) trait Part:
    Model<State: Clone + PartialEq + std::hash::Hash + Send + Sync, Action: Clone + PartialEq>
    + Send
    + Sync
    + Sized
    + 'static
{
    /// What it is about, in a word or two.
    fn name(&self) -> &'static str;

    /// How much of everything there is.
    fn bounds(&self) -> String;

    /// The invariants that it checks, by name.
    fn invariants(&self) -> &'static [&'static str];

    /// The transitions that a run of the protocol must reach within these bounds.
    fn transitions(&self) -> Vec<Transition>;

    /// Its counters.
    fn ledger(&self) -> &Ledger;

    /// A step in words, and what came of it.
    fn tell(&self, before: &Self::State, action: &Self::Action, after: &Self::State) -> String;
}

/// What a run found.
#[derive(Debug)]
pub struct Outcome {
    /// Which part.
    pub name: &'static str,
    /// Within which bounds.
    pub bounds: String,
    /// Different states met.
    pub states: usize,
    /// Steps of the longest shortest path, including the beginning.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// The invariants checked.
    pub invariants: &'static [&'static str],
    /// Transitions, with how often each was taken.
    pub reached: Vec<(Transition, u64)>,
    /// The first invariant found broken, and the way to it.
    pub broken: Option<(&'static str, Vec<String>)>,
}

impl Outcome {
    /// Transitions that were never taken.
    #[must_use]
    pub fn missed(&self) -> Vec<&'static str> {
        let never = self.reached.iter().filter(|(_, times)| *times == 0);
        never.map(|(transition, _)| transition.name()).collect()
    }

    /// The beginning of its line in the table: what is the same in every run.
    #[must_use]
    pub fn line(&self) -> String {
        let ids: Vec<&str> =
            self.invariants.iter().filter_map(|name| name.split(' ').next()).collect();
        let Self { name, bounds, states, depth, .. } = self;
        format!("| {name} | {bounds} | {} | {states} | {depth} |", ids.join(", "))
    }

    /// Its line in the table, with the seconds that it took and what it did not reach.
    #[must_use]
    pub fn row(&self) -> String {
        let missed = self.missed();
        let missed = match missed.is_empty() {
            true => String::new(),
            false => format!(" NOT REACHED: {}", missed.join("; ")),
        };
        format!("{} {:.1} |{missed}", self.line(), self.took.as_secs_f64())
    }

    /// The counterexample as it is kept.
    #[must_use]
    pub fn counterexample(&self, title: &str) -> Option<String> {
        let (invariant, steps) = self.broken.as_ref()?;
        let mut text = format!("{title}\n\nModel: {}, {}\n\n", self.name, self.bounds);
        for (number, step) in steps.iter().enumerate() {
            writeln!(text, "{:>2}. {step}", number + 1).ok()?;
        }
        writeln!(text, "\nBroken: {invariant}").ok()?;
        Some(text)
    }
}

/// Runs through all states, or up to the first broken invariant.
///
/// # Panics
/// If the checker's thread dies: a mistake in the model.
#[must_use]
pub(crate) fn check<P: Part>(part: P) -> Outcome
where
    P::State: std::fmt::Debug,
    P::Action: std::fmt::Debug,
{
    #[expect(clippy::disallowed_methods, reason = "the time of the run itself is told")]
    let start = Instant::now();
    let checker = part.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let part = checker.model();
    let invariants = part.invariants();
    let mut failures: Vec<_> = checker
        .discoveries()
        .into_iter()
        .filter(|(name, _)| invariants.contains(name))
        .map(|(name, path)| (name, steps(part, path)))
        .collect();
    failures.sort_by_key(|(name, steps)| (steps.len(), *name));
    let ledger = part.ledger();
    Outcome {
        name: part.name(),
        bounds: part.bounds(),
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: start.elapsed(),
        invariants,
        reached: part.transitions().into_iter().map(|t| (t, ledger.times(t))).collect(),
        broken: failures.into_iter().next(),
    }
}

fn steps<P: Part>(part: &P, path: Path<P::State, P::Action>) -> Vec<String> {
    let path = path.into_vec();
    path.windows(2)
        .filter_map(|pair| {
            let [(before, action), (after, _)] = pair else { return None };
            Some(part.tell(before, action.as_ref()?, after))
        })
        .collect()
}

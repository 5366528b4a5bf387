//! What must be true.

use stateright::Property;

use super::{Claim, Claims, Delete, Deletes, Standing, State};

macro_rules! invariants {
    ($($bit:literal $name:literal $holds:ident),* $(,)?) => {
        pub(super) const INVARIANTS: &[&str] = &[$($name),*];

        pub(super) fn invariants() -> Vec<Property<Claims>> {
            vec![$(Property::always($name, |part: &Claims, state: &State| {
                part.ledger.first($bit, state.$holds(part))
            })),*]
        }
    };
}

invariants! {
    1 "Q1 durable" is_durable,
    5 "Q5 no phantom" claims_no_phantom,
    7 "Q7 exclusive" is_exclusive,
    8 "Q8 ended is ended" stays_ended,
}

impl State {
    /// Every full replica that is left has the message, and none has ended it without a delete that
    /// some full replica was entitled to take; and it is not given up while somebody has it.
    fn is_durable(&self, part: &Claims) -> bool {
        let now = self.now();
        let mut full = now.with(Standing::Full).filter(|at| !self.is_forgotten(*at));
        let kept = full.all(|at| {
            let replica = &self.replicas[at];
            self.is_here(at) && replica.has && (self.entitled || !replica.ended)
        });
        let has = |at: usize| self.is_here(at) && self.replicas[at].has;
        let named = |at: usize| now.standing[at] != Standing::None;
        let few_forgot = usize::from(self.forgets) < part.bounds.copies_min;
        kept && (!few_forgot || (0..3).any(|at| named(at) && has(at)))
    }

    fn is_forgotten(&self, at: usize) -> bool {
        self.replicas[at].life == super::Life::Forgotten
    }

    fn claims_no_phantom(&self, _: &Claims) -> bool {
        !self.claims.iter().any(|claim| matches!(claim, Claim::Granted { phantom: true, .. }))
    }

    fn is_live(&self, claim: usize) -> bool {
        matches!(self.claims[claim], Claim::Granted { .. }) && self.over & (1 << claim) == 0
    }

    /// No two live claims have the message, and nobody has it when an older claim has deleted it.
    /// What makes it so: every full replica knows of a live claim.
    fn is_exclusive(&self, part: &Claims) -> bool {
        let live = (0..part.bounds.claims).filter(|claim| self.is_live(*claim));
        let by_claim = part.bounds.deletes == Deletes::Claimed && self.delete == Delete::Acked;
        let now = self.now();
        let knows = |at: usize, claim: usize| {
            let replica = &self.replicas[at];
            let marked = |mark: super::Mark| usize::from(mark.claim) == claim;
            !self.is_here(at) || replica.ended || replica.mark.is_some_and(marked)
        };
        let mut known =
            live.clone().map(|claim| now.with(Standing::Full).all(|at| knows(at, claim)));
        known.all(|known| known)
            && live.clone().count() <= 1
            && !(by_claim && live.into_iter().any(|claim| claim != 0))
    }

    /// What was told as deleted is ended on every full replica that is left.
    fn stays_ended(&self, _: &Claims) -> bool {
        let now = self.now();
        let mut full = now.with(Standing::Full).filter(|at| self.is_here(*at));
        self.delete != Delete::Acked || full.all(|at| self.replicas[at].ended)
    }
}

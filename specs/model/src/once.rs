//! Posts with an idempotency key: naming, sending, taking over, segments that leave (Q11).
//!
//! Processes that post with one and the same key into a chain of segments on two replicas; anybody
//! closes segments, deletes messages, and takes segments out of the manifest whose messages have
//! ended. The key's post must be in the log once, and whoever is answered gets the same name.
//!
//! What is abstracted, and why that is sound:
//! - **Registers** (the key's and the manifest) change in one step: the part *keepers*.
//! - **The network**: a block that was sent arrives at each replica at any later time, or never.
//!   A process may stop anywhere. What it knows of the manifest may be as old as can be: it names
//!   and sends blocks to any segment that was ever open.
//! - **A segment** is closed from what any of its sealed replicas have, at least one: the part *log*
//!   has what becomes of those that did not answer. A block is in the log if the end covers it.
//! - **Names**: one producer a process, one block a segment. That no name is used for two keys is
//!   the caller's: it goes on with a fresh producer after any doubt.
//! - **Time**: a process takes over whenever it likes. The end of a key's hour is left out.

use std::sync::Arc;

use stateright::{Model, Property};

use crate::check::Part;
use crate::ledger::{Ledger, Transition};
use crate::rules::{Rules, Shortcut};

const POSTERS: usize = 2;
const REPLICAS: usize = 2;
const SEGMENTS: usize = 4;

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Segments that are opened.
    pub(crate) segments: usize,
}

/// A block's name: the segment and the poster.
type Name = (u8, u8);

/// What stands under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Entry {
    Nothing,
    Named(Name),
    Noted(Name),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Segment {
    open: bool,
    sealed: [bool; REPLICAS],
    /// Which replica has whose block.
    has: [[bool; POSTERS]; REPLICAS],
    /// Whose blocks the end covers.
    end: Option<[bool; POSTERS]>,
    /// Whose blocks were on their way at some time.
    sent: [bool; POSTERS],
    /// Whose names were used.
    used: [bool; POSTERS],
    deleted: [bool; POSTERS],
    /// Whoever takes it out has settled the key's name if it was one of here.
    checked: bool,
    left: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    entry: Entry,
    segments: [Segment; SEGMENTS],
    /// The segment whose block each poster has named, and not given up.
    mine: [Option<u8>; POSTERS],
    /// What each was answered.
    told: [Option<Name>; POSTERS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Name { poster: usize, segment: usize },
    Send { poster: usize, segment: usize },
    Arrive { poster: usize, segment: usize, replica: usize },
    Ack { poster: usize },
    Note { poster: usize },
    Settle,
    Answer { poster: usize },
    Seal { segment: usize, replica: usize },
    Close { segment: usize, answered: [bool; REPLICAS] },
    Delete { poster: usize, segment: usize },
    Check { segment: usize },
    Leave { segment: usize },
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Once {
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
    pub(crate) ledger: Arc<Ledger>,
}

impl Once {
    /// The protocol within `bounds`.
    pub(crate) fn within(bounds: Bounds) -> Self {
        Self { rules: Rules::default(), bounds, ledger: Arc::default() }
    }

    /// The model that refutes a shortcut, if this part can.
    pub(crate) fn refuting(shortcut: Shortcut) -> Option<Self> {
        use Shortcut::{LeaveUnsettled, NameAfterSending, SearchTheLog, TakeOverByTime};
        let ours = [LeaveUnsettled, NameAfterSending, SearchTheLog, TakeOverByTime];
        ours.contains(&shortcut)
            .then(|| Self { rules: Rules::but(shortcut), ..Self::within(Bounds { segments: 2 }) })
    }

    /// What becomes of the block that stands under the key; `None`: not decided yet.
    fn is_in_log(&self, state: &State, (segment, poster): Name) -> Option<bool> {
        let (segment, poster) = (&state.segments[usize::from(segment)], usize::from(poster));
        if segment.left {
            return Some(false);
        }
        let Some(end) = segment.end else {
            return self.rules.take(Shortcut::TakeOverByTime).then_some(false);
        };
        let gone = segment.deleted[poster] && self.rules.take(Shortcut::SearchTheLog);
        Some(end[poster] && !gone)
    }

    fn name(&self, state: &mut State, poster: usize, segment: usize) -> Option<()> {
        let at = &mut state.segments[segment];
        let known = at.open || at.end.is_some();
        let fresh = !at.used[poster] || self.rules.take(Shortcut::NameAfterSending);
        (known && fresh && state.entry == Entry::Nothing).then_some(())?;
        at.used[poster] = true;
        state.entry = Entry::Named((segment as u8, poster as u8));
        state.mine[poster] = Some(segment as u8);
        if state.segments.iter().any(|other| other.sent.contains(&true)) {
            self.ledger.note(Transition::NamedAnew);
        }
        Some(())
    }

    fn send(&self, state: &mut State, poster: usize, segment: usize) -> Option<()> {
        let first = self.rules.take(Shortcut::NameAfterSending)
            && state.entry == Entry::Nothing
            && state.segments[segment].open;
        (first || state.mine[poster] == Some(segment as u8)).then_some(())?;
        state.segments[segment].used[poster] = true;
        state.segments[segment].sent[poster] = true;
        Some(())
    }

    fn arrive(
        &self,
        state: &mut State,
        poster: usize,
        segment: usize,
        replica: usize,
    ) -> Option<()> {
        let name = (segment as u8, poster as u8);
        let at = &mut state.segments[segment];
        at.sent[poster].then_some(())?;
        if at.sealed[replica] || at.left {
            if !at.has[replica][poster] && state.entry != Entry::Named(name) {
                self.ledger.note(Transition::LateBlock);
            }
            return None;
        }
        at.has[replica][poster] = true;
        Some(())
    }

    fn settle(&self, state: &mut State) -> Option<()> {
        let Entry::Named(name) = state.entry else { return None };
        let is_in_log = self.is_in_log(state, name)?;
        if state.segments[usize::from(name.0)].left {
            self.ledger.note(Transition::NameOfNoSegment);
        }
        state.entry = match is_in_log {
            true => Entry::Noted(name),
            false => Entry::Nothing,
        };
        self.ledger.note(if is_in_log { Transition::FoundPosted } else { Transition::FoundVoid });
        Some(())
    }

    fn close(&self, state: &mut State, segment: usize, answered: [bool; REPLICAS]) -> Option<()> {
        let at = &mut state.segments[segment];
        let sealed = (0..REPLICAS).all(|replica| !answered[replica] || at.sealed[replica]);
        (at.open && sealed).then_some(())?;
        let mut end = [true; POSTERS];
        for (poster, covered) in end.iter_mut().enumerate() {
            *covered = (0..REPLICAS).all(|replica| !answered[replica] || at.has[replica][poster]);
        }
        (at.open, at.end) = (false, Some(end));
        if segment + 1 < self.bounds.segments {
            state.segments[segment + 1].open = true;
        }
        Some(())
    }

    fn check(&self, state: &mut State, segment: usize) -> Option<()> {
        let at = &mut state.segments[segment];
        at.end?;
        if let Entry::Named((no, poster)) = state.entry
            && usize::from(no) == segment
            && at.end.is_some_and(|end| end[usize::from(poster)])
        {
            state.entry = Entry::Noted((no, poster));
            self.ledger.note(Transition::SettledToLeave);
        }
        at.checked = true;
        Some(())
    }

    fn leave(&self, state: &mut State, segment: usize) -> Option<()> {
        let at = &mut state.segments[segment];
        let end = at.end?;
        let ended = (0..POSTERS).all(|poster| !end[poster] || at.deleted[poster]);
        // What ended with nothing in it leaves at once.
        let may = at.checked || end == [false; POSTERS];
        (ended && (may || self.rules.take(Shortcut::LeaveUnsettled))).then_some(())?;
        at.left = true;
        Some(())
    }
}

impl State {
    /// Blocks that are in the log for good, or will be.
    fn log(&self) -> Vec<Name> {
        let mut log = Vec::new();
        for (no, segment) in self.segments.iter().enumerate() {
            for poster in 0..POSTERS {
                let everywhere = (0..REPLICAS).all(|replica| segment.has[replica][poster]);
                if segment.end.map_or(everywhere, |end| end[poster]) {
                    log.push((no as u8, poster as u8));
                }
            }
        }
        log
    }
}

impl Model for Once {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let mut segments = [Segment::default(); SEGMENTS];
        segments[0].open = true;
        let (mine, told) = ([None; POSTERS], [None; POSTERS]);
        vec![State { entry: Entry::Nothing, segments, mine, told }]
    }

    fn actions(&self, _: &State, steps: &mut Vec<Step>) {
        steps.push(Step::Settle);
        for poster in 0..POSTERS {
            steps.extend([Step::Ack { poster }, Step::Note { poster }, Step::Answer { poster }]);
        }
        for segment in 0..self.bounds.segments {
            for poster in 0..POSTERS {
                steps.extend([
                    Step::Name { poster, segment },
                    Step::Send { poster, segment },
                    Step::Delete { poster, segment },
                ]);
                steps.extend((0..REPLICAS).map(|replica| Step::Arrive {
                    poster,
                    segment,
                    replica,
                }));
            }
            steps.extend((0..REPLICAS).map(|replica| Step::Seal { segment, replica }));
            for answered in [[true, false], [false, true], [true, true]] {
                steps.push(Step::Close { segment, answered });
            }
            steps.extend([Step::Check { segment }, Step::Leave { segment }]);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        match step {
            Step::Name { poster, segment } => self.name(&mut next, poster, segment)?,
            Step::Send { poster, segment } => self.send(&mut next, poster, segment)?,
            Step::Arrive { poster, segment, replica } => {
                self.arrive(&mut next, poster, segment, replica)?;
            }
            Step::Ack { poster } => {
                let segment = usize::from(next.mine[poster]?);
                let has = next.segments[segment].has;
                (0..REPLICAS).all(|replica| has[replica][poster]).then_some(())?;
                next.told[poster] = Some((segment as u8, poster as u8));
            }
            Step::Note { poster } => {
                let name = next.told[poster].filter(|name| usize::from(name.1) == poster)?;
                (next.entry == Entry::Named(name)).then_some(())?;
                next.entry = Entry::Noted(name);
            }
            Step::Settle => self.settle(&mut next)?,
            Step::Answer { poster } => {
                let Entry::Noted(name) = next.entry else { return None };
                if usize::from(name.1) != poster {
                    self.ledger.note(Transition::AnsweredAlike);
                }
                next.told[poster] = Some(name);
            }
            Step::Seal { segment, replica } => {
                next.segments[segment].open.then_some(())?;
                next.segments[segment].sealed[replica] = true;
            }
            Step::Close { segment, answered } => self.close(&mut next, segment, answered)?,
            Step::Delete { poster, segment } => {
                let at = &mut next.segments[segment];
                at.end?[poster].then_some(())?;
                at.deleted[poster] = true;
            }
            Step::Check { segment } => self.check(&mut next, segment)?,
            Step::Leave { segment } => self.leave(&mut next, segment)?,
        }
        Some(next).filter(|next| next != state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::always(INVARIANTS[0], |part: &Self, state: &State| {
            let log = state.log();
            let told = state.told.iter().flatten().all(|name| log.contains(name));
            part.ledger.first(11, log.len() <= 1 && told)
        })];
        properties.extend(self.transitions().into_iter().map(Transition::sometimes));
        properties
    }
}

const INVARIANTS: &[&str] = &["Q11 once"];

impl Part for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn bounds(&self) -> String {
        let Bounds { segments } = self.bounds;
        format!(
            "1 key, {POSTERS} processes that post with it, {segments} segments of {REPLICAS} replicas"
        )
    }

    fn invariants(&self) -> &'static [&'static str] {
        INVARIANTS
    }

    fn transitions(&self) -> Vec<Transition> {
        use Transition::*;
        vec![
            NamedAnew,
            LateBlock,
            FoundPosted,
            FoundVoid,
            NameOfNoSegment,
            SettledToLeave,
            AnsweredAlike,
        ]
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn tell(&self, _: &State, step: &Step, after: &State) -> String {
        let entry = || match after.entry {
            Entry::Nothing => "nothing stands under the key".to_owned(),
            Entry::Named((s, p)) => format!("the key names p{}'s block in s{}", p + 1, s + 1),
            Entry::Noted((s, p)) => {
                format!("the key says that p{}'s block in s{} is posted", p + 1, s + 1)
            }
        };
        match *step {
            Step::Name { poster, segment } => {
                format!("p{} writes the name of its block in s{}", poster + 1, segment + 1)
            }
            Step::Send { poster, segment } => {
                format!("p{} sends its block to s{}", poster + 1, segment + 1)
            }
            Step::Arrive { poster, segment, replica } => format!(
                "p{}'s block reaches replica {} of s{}",
                poster + 1,
                replica + 1,
                segment + 1
            ),
            Step::Ack { poster } => format!("p{}'s block is acked", poster + 1),
            Step::Note { .. } | Step::Settle => entry(),
            Step::Answer { poster } => format!("p{} is answered: {}", poster + 1, entry()),
            Step::Seal { segment, replica } => {
                format!("replica {} of s{} is sealed", replica + 1, segment + 1)
            }
            Step::Close { segment, .. } => {
                let end = after.segments[segment].end.unwrap_or_default();
                format!("s{} is closed; its end covers {end:?}", segment + 1)
            }
            Step::Delete { poster, segment } => {
                format!("p{}'s message in s{} is deleted", poster + 1, segment + 1)
            }
            Step::Check { segment } => {
                format!("before s{} leaves, {}", segment + 1, entry())
            }
            Step::Leave { segment } => format!("s{} leaves the manifest", segment + 1),
        }
    }
}

//! What can happen, and what comes of it.

use super::reader::Size;
use super::state::{MESSAGES, REPLICAS, minimum, producer};
use super::{Entry, Life, Log, Post, Segment, Standing, State};
use crate::ledger::Transition;
use crate::rules::Shortcut;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Send { message: usize },
    SendAnew { message: usize },
    Arrive { at: usize, entry: Entry },
    Ack { producer: usize },
    Note { at: usize, producer: usize },
    Seal { at: usize },
    Close { answered: u8 },
    Leave { producer: usize },
    LookAtThin { message: usize },
    Repair { source: usize },
    TakeFormer { at: usize },
    Salvage,
    Wipe { at: usize },
    Expire { at: usize },
    Forget { at: usize },
    BeginPage { at: usize, asked: usize, size: Size },
    EndPage,
    ReadClosed { at: usize, size: Size },
    PassOver,
    ReadNext,
}

pub(super) fn bits(mask: u8) -> impl Iterator<Item = usize> {
    (0..REPLICAS).filter(move |at| mask & (1 << *at) != 0)
}

impl Log {
    pub(super) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let copies = 0..self.bounds.copies;
        for message in 0..MESSAGES {
            match state.posts[message] {
                Post::Waiting => {
                    let of = producer(message);
                    let earlier = (0..message).filter(|other| producer(*other) == of);
                    if earlier.into_iter().all(|other| state.posts[other] != Post::Waiting) {
                        steps.push(Step::Send { message });
                    }
                    if self.rules.take(Shortcut::CutAnew) && message == 1 {
                        steps.push(Step::SendAnew { message });
                    }
                }
                Post::Thin(_) => steps.push(Step::LookAtThin { message }),
                Post::Sent(_) | Post::Acked(_) | Post::Failed => {}
            }
        }
        for producer in 0..2 {
            for entry in state.sent[producer].iter() {
                steps.extend(copies.clone().map(|at| Step::Arrive { at, entry }));
            }
            steps.push(Step::Ack { producer });
            steps.extend(copies.clone().map(|at| Step::Note { at, producer }));
            if !state.left[producer] && state.segment != Segment::Open {
                steps.push(Step::Leave { producer });
            }
        }
        steps.extend(copies.clone().map(|at| Step::Seal { at }));
        let sealed = copies.clone().filter(|at| state.replicas[*at].sealed);
        let sealed = sealed.fold(0_u8, |mask, at| mask | 1 << at);
        steps
            .extend((0..=sealed).filter(|a| a & !sealed == 0).map(|a| Step::Close { answered: a }));
        if let Segment::Closed { .. } = state.segment {
            steps.extend((0..REPLICAS).map(|source| Step::Repair { source }));
            steps.push(Step::Salvage);
            if self.rules.take(Shortcut::FormerAsFull) {
                steps.extend(copies.clone().map(|at| Step::TakeFormer { at }));
            }
        }
        if state.segment == Segment::Left {
            steps.extend(copies.clone().map(|at| Step::Wipe { at }));
        }
        if state.segment == Segment::Open && self.rules.take(Shortcut::ExpireOpen) {
            steps.extend(copies.clone().map(|at| Step::Expire { at }));
        }
        if state.forgets < self.bounds.forgets {
            steps.extend((0..REPLICAS).map(|at| Step::Forget { at }));
        }
        self.reader_steps(state, steps);
    }

    fn reader_steps(&self, state: &State, steps: &mut Vec<Step>) {
        if self.sizes().is_empty() {
            return;
        }
        if state.reader.beyond {
            steps.push(Step::ReadNext);
            return;
        }
        if state.reader.pending.is_some() {
            steps.push(Step::EndPage);
            return;
        }
        for size in self.sizes().iter().copied() {
            for at in 0..2 {
                steps.push(Step::BeginPage { at, asked: at, size });
                steps.push(Step::BeginPage { at, asked: 1 - at, size });
            }
            steps.extend((0..REPLICAS).map(|at| Step::ReadClosed { at, size }));
        }
        if matches!(state.segment, Segment::Left | Segment::Lost) {
            steps.push(Step::PassOver);
        }
    }

    pub(super) fn take(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        let state = &mut next;
        match step {
            Step::Send { message } => self.send(state, message)?,
            Step::SendAnew { message } => self.send_anew(state, message)?,
            Step::Arrive { at, entry } => self.arrive(state, at, entry)?,
            Step::Ack { producer } => self.ack(state, producer)?,
            Step::Note { at, producer } => {
                let replica = &mut state.replicas[at];
                if replica.life != Life::Here {
                    return None;
                }
                let known = state.acked[producer].min(replica.frontier()[producer]);
                replica.noted[producer] = replica.noted[producer].max(known);
            }
            Step::Seal { at } => {
                state.is_here(at).then_some(())?;
                state.replicas[at].sealed = true;
            }
            Step::Close { answered } => self.close(state, answered)?,
            Step::Leave { producer } => self.leave(state, producer),
            Step::LookAtThin { message } => self.look_at_thin(state, message)?,
            Step::Repair { source } => self.repair(state, source)?,
            Step::TakeFormer { at } => {
                (state.standing[at] == Standing::Former && state.is_here(at)).then_some(())?;
                state.standing[at] = Standing::Full;
                state.replicas[at].sealed = true;
            }
            Step::Salvage => self.salvage(state)?,
            Step::Wipe { at } | Step::Expire { at } => {
                state.is_here(at).then_some(())?;
                let empty = Life::Gone;
                state.replicas[at] = super::Replica { life: empty, ..state.replicas[3] };
                if step == (Step::Wipe { at }) {
                    self.ledger.note(Transition::SegmentLeft);
                }
            }
            Step::Forget { at } => {
                state.is_here(at).then_some(())?;
                state.replicas[at].life = Life::Forgotten;
                state.forgets += 1;
            }
            Step::BeginPage { at, asked, size } => self.begin_page(state, at, asked, size)?,
            Step::EndPage => self.end_page(state)?,
            Step::ReadClosed { at, size } => self.read_closed(state, at, size)?,
            Step::PassOver => state.reader.beyond = true,
            Step::ReadNext => self.read_next(state)?,
        }
        Some(next)
    }

    fn send(&self, state: &mut State, message: usize) -> Option<()> {
        let of = producer(message);
        if state.after[message] == 0 {
            state.after[message] = state.all_acked();
        }
        if state.left[of] {
            state.next.push(message as u8);
            state.posts[message] = Post::Acked(0);
            return Some(());
        }
        let block = state.sent[of].iter().map(|entry| entry.block).max().unwrap_or(0) + 1;
        state.sent[of].push(Entry { producer: of as u8, block, messages: 1 << message });
        state.posts[message] = Post::Sent(block);
        Some(())
    }

    /// A shortcut: the block in flight, with this message in it as well.
    fn send_anew(&self, state: &mut State, message: usize) -> Option<()> {
        let Post::Sent(block) = state.posts[0] else { return None };
        let messages = 1 | 1 << message;
        state.sent[0].push(Entry { producer: 0, block, messages });
        state.posts[message] = Post::Sent(block);
        Some(())
    }

    fn arrive(&self, state: &mut State, at: usize, entry: Entry) -> Option<()> {
        let replica = &mut state.replicas[at];
        match replica.life {
            Life::Here => {}
            Life::Gone if self.rules.take(Shortcut::AppendCreates) => replica.life = Life::Here,
            Life::Gone => {
                self.ledger.note(Transition::GoneRefused);
                return None;
            }
            Life::Unused | Life::Forgotten => return None,
        }
        let last = replica.frontier()[usize::from(entry.producer)];
        if entry.block <= last {
            return None;
        }
        if replica.sealed {
            self.ledger.note(Transition::SealedRefuses);
            return None;
        }
        if entry.block > last + 1 {
            self.ledger.note(Transition::Gap);
            return None;
        }
        replica.log.push(entry);
        Some(())
    }

    fn ack(&self, state: &mut State, of: usize) -> Option<()> {
        if state.left[of] {
            return None;
        }
        let block = state.acked[of] + 1;
        let copies = self.bounds.copies;
        let have = (0..copies).filter(|at| state.replicas[*at].frontier()[of] >= block).count();
        let needed = match () {
            () if self.rules.take(Shortcut::AckByAny) => 1,
            () if self.rules.take(Shortcut::AckWithoutTheSlow) => copies - 1,
            () => copies,
        };
        (have >= needed).then_some(())?;
        state.acked[of] = block;
        for post in &mut state.posts[if of == 0 { 0..2 } else { 2..3 }] {
            if *post == Post::Sent(block) {
                *post = Post::Acked(block);
            }
        }
        Some(())
    }

    fn close(&self, state: &mut State, answered: u8) -> Option<()> {
        let copies = 0..self.bounds.copies;
        let all_lost = copies.clone().all(|at| state.replicas[at].life == Life::Forgotten);
        if answered == 0 && !all_lost {
            return None;
        }
        if state.segment != Segment::Open {
            let full = state.with(Standing::Full).fold(0_u8, |mask, at| mask | 1 << at);
            if full != answered {
                self.ledger.note(Transition::SealRace);
            }
            return None;
        }
        let mut frontiers = bits(answered).map(|at| state.replicas[at].frontier());
        let first = frontiers.next().unwrap_or([0; 2]);
        let end = frontiers.fold(first, |end, other| {
            let least = minimum(end, other);
            match self.rules.take(Shortcut::EndAsMaximum) {
                true => [end[0] + other[0] - least[0], end[1] + other[1] - least[1]],
                false => least,
            }
        });
        for at in copies.filter(|at| answered & (1 << *at) == 0) {
            state.standing[at] = match () {
                () if self.rules.take(Shortcut::KeepUnsealed) => Standing::Full,
                () if self.rules.take(Shortcut::ForgetFormer) => Standing::None,
                () => Standing::Former,
            };
        }
        state.segment = match end {
            _ if answered == 0 => {
                self.ledger.note(Transition::SegmentLost);
                Segment::Lost
            }
            [0, 0] => Segment::Left,
            end => Segment::Closed { end },
        };
        Some(())
    }

    /// A producer looks at the decided end.
    fn leave(&self, state: &mut State, of: usize) {
        state.left[of] = true;
        let thin = state.is_thin();
        for message in (0..MESSAGES).filter(|message| producer(*message) == of) {
            let Post::Sent(block) = state.posts[message] else { continue };
            let void = match state.segment {
                Segment::Closed { end } => block > end[of],
                Segment::Left => true,
                Segment::Open | Segment::Lost => false,
            };
            state.posts[message] = if self.rules.take(Shortcut::TimeoutAsNotWritten) || void {
                self.ledger.note(Transition::VoidResent);
                Post::Waiting
            } else if state.segment == Segment::Lost {
                Post::Failed
            } else if thin {
                Post::Thin(block)
            } else {
                Post::Acked(block)
            };
        }
    }

    fn look_at_thin(&self, state: &mut State, message: usize) -> Option<()> {
        let Post::Thin(block) = state.posts[message] else { return None };
        state.posts[message] = match state.segment {
            Segment::Closed { end } if block > end[producer(message)] => Post::Failed,
            Segment::Closed { .. } if state.is_thin() => return None,
            Segment::Closed { .. } => {
                self.ledger.note(Transition::ThinAcked);
                Post::Acked(block)
            }
            Segment::Open | Segment::Left | Segment::Lost => Post::Failed,
        };
        Some(())
    }

    /// Drops what is lost and fills one more replica.
    fn repair(&self, state: &mut State, source: usize) -> Option<()> {
        let Segment::Closed { end } = state.segment else { return None };
        let target = self.bounds.copies;
        let here = state.with(Standing::Full).filter(|at| state.is_here(*at)).count();
        let is_source = state.standing[source] == Standing::Full && state.is_here(source);
        if !is_source || here >= 2 || state.replicas[target].life != Life::Unused {
            return None;
        }
        let from = state.replicas[source];
        let mut copy = super::Replica { life: Life::Here, sealed: true, ..state.replicas[target] };
        let below = |entry: &Entry| entry.block <= end[usize::from(entry.producer)];
        from.log.iter().filter(below).for_each(|entry| copy.log.push(entry));
        copy.noted = minimum(from.noted, end);
        state.replicas[target] = copy;
        state.standing[target] = Standing::Full;
        for at in 0..REPLICAS {
            if state.replicas[at].life == Life::Forgotten {
                state.standing[at] = Standing::None;
            }
        }
        self.ledger.note(Transition::JoiningPromoted);
        Some(())
    }

    /// Every full replica was lost: the former one that has most, or nothing.
    fn salvage(&self, state: &mut State) -> Option<()> {
        let Segment::Closed { end } = state.segment else { return None };
        if state.with(Standing::Full).any(|at| state.replicas[at].life != Life::Forgotten) {
            return None;
        }
        let has = |at: usize| minimum(state.replicas[at].frontier(), end);
        let former = state.with(Standing::Former).filter(|at| state.is_here(*at));
        let best = former.max_by_key(|at| has(*at)[0] + has(*at)[1]);
        let Some(best) = best else {
            self.ledger.note(Transition::SegmentLost);
            state.segment = Segment::Lost;
            return Some(());
        };
        self.ledger.note(Transition::FormerTaken);
        state.segment = Segment::Closed { end: has(best) };
        for at in 0..REPLICAS {
            if state.standing[at] == Standing::Full {
                state.standing[at] = Standing::Dropped;
            }
        }
        state.standing[best] = Standing::Full;
        state.replicas[best].sealed = true;
        Some(())
    }
}

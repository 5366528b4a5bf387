//! Reading a replica: pages, single messages, counts.

use super::machine::{at_least_one, size};
use super::message::{Message, Stored};
use super::replica::Replica;
use crate::id::{MessageRef, Offset};
use crate::node::{Entry, Filter, Got, Page, PageBlock, Read, Refusal, Stats};

/// Blocks of one page or one batch of copies at most.
pub(super) const MAX_BLOCKS: usize = 1024;

impl Replica {
    pub(super) fn read(&self, read: &Read, now: u64) -> Page {
        let mut page = Page {
            coverage: self.coverage(now),
            blocks: Vec::new(),
            next: read.from,
            at_tail: false,
        };
        let mut left = Left { entries: at_least_one(read.limit), bytes: None };
        for (ordinal, block) in self.log.stored_from(read.from.ordinal()).take(MAX_BLOCKS) {
            let start = if ordinal == read.from.ordinal() { read.from.index() } else { 0 };
            let (walked, stop) = self.walk(block, start, read, &mut left, now);
            let through = walked.passed == walked.count;
            page.next = if through {
                Offset(Offset::new(ordinal, u8::MAX).0 + 1)
            } else {
                Offset(Offset::new(ordinal, 0).0 + u64::from(walked.passed))
            };
            if through || walked.passed > 0 {
                page.blocks.push(PageBlock { ordinal, ..walked });
            }
            if stop {
                break;
            }
        }
        page.at_tail = self.log.is_tail(page.next.ordinal());
        page
    }

    /// Passes messages of one block, and tells whether the page stops there.
    fn walk(
        &self,
        block: &Stored,
        start: u8,
        read: &Read,
        left: &mut Left,
        now: u64,
    ) -> (PageBlock, bool) {
        let mut walked = PageBlock {
            ordinal: 0,
            producer: block.producer,
            block: block.block,
            count: block.count(),
            passed: block.count(),
            age_ms: block.age_ms(now),
            entries: Vec::new(),
        };
        if block.live == 0 {
            return (walked, false);
        }
        for index in block.indices().skip(usize::from(start)) {
            let Some(message) = block.present(index, now) else { continue };
            if !self.wants(&read.filter, block, message, now) {
                continue;
            }
            if !left.fits(message, read.max_bytes) {
                walked.passed = u16::from(index);
                return (walked, true);
            }
            walked.entries.push(self.entry(block, index, message, now));
            left.take(message);
            if left.entries == 0 {
                walked.passed = u16::from(index) + 1;
                return (walked, true);
            }
        }
        (walked, false)
    }

    fn wants(&self, filter: &Filter, block: &Stored, message: &Message, now: u64) -> bool {
        let own = filter.not_from.is_some() && filter.not_from == message.client;
        let claimed = filter.skip_claimed && self.claims.holder(message, now).is_some();
        let delayed = filter.skip_delayed && block.age_ms(now) < u64::from(message.delay_ms);
        !own && !claimed && !delayed
    }

    pub(super) fn entry(&self, block: &Stored, index: u8, message: &Message, now: u64) -> Entry {
        block.entry(index, message, self.claims.holder(message, now), now)
    }

    /// A message as it is told, if it has not ended or expired.
    pub(super) fn entry_at(&self, at: Offset, now: u64) -> Option<Entry> {
        let (block, message) = self.log.present(at, now)?;
        Some(self.entry(block, at.index(), message, now))
    }

    pub(super) fn get(&self, refs: &[MessageRef], now: u64) -> Got {
        let entries = refs.iter().map(|&at| self.entry_at(self.place(at)?, now)).collect();
        Got { entries }
    }

    pub(super) fn stats(&self, now: u64) -> Result<Stats, Refusal> {
        self.check_countable()?;
        let mut stats =
            Stats { active: 0, claimed: 0, delayed: 0, bytes: 0, oldest: None, newest: None };
        let (mut first, mut last) = (None, None);
        for (ordinal, block) in self.log.stored().filter(|(_, block)| block.live > 0) {
            for index in block.indices() {
                let Some(message) = block.present(index, now) else { continue };
                let count = if self.claims.holder(message, now).is_some() {
                    &mut stats.claimed
                } else if block.age_ms(now) < u64::from(message.delay_ms) {
                    &mut stats.delayed
                } else {
                    &mut stats.active
                };
                *count += 1;
                stats.bytes += size(message.envelope.len());
                last = Some(Offset::new(ordinal, index));
                first = first.or(last);
            }
        }
        stats.oldest = first.and_then(|at| self.entry_at(at, now));
        stats.newest = last.and_then(|at| self.entry_at(at, now));
        Ok(stats)
    }
}

/// What a page or a pick may still take.
#[derive(Debug, Clone)]
pub(super) struct Left {
    pub(super) entries: usize,
    /// Taken so far; `None`: nothing has been.
    pub(super) bytes: Option<u64>,
}

impl Left {
    /// Whether the message may be taken by its bytes: the first one always may.
    pub(super) fn fits(&self, message: &Message, max_bytes: u32) -> bool {
        self.bytes.is_none_or(|taken| taken + size(message.envelope.len()) <= u64::from(max_bytes))
    }

    pub(super) fn take(&mut self, message: &Message) {
        self.bytes = Some(self.bytes.unwrap_or(0) + size(message.envelope.len()));
        self.entries = self.entries.saturating_sub(1);
    }
}

//! What there is: replicas, posts, the manifest, the reader; and what must be true of it.

use super::reader::Reader;
use super::{Bounds, COPIES_MIN, Log};

/// Messages by index: A's m1 and m2, B's m3.
pub(crate) const MESSAGES: usize = 3;
/// Replicas at most: those of the segment, and the repaired one.
pub(crate) const REPLICAS: usize = 4;
const LONGEST: usize = 4;

/// Producers: A posts the first two messages, B the third.
pub(crate) fn producer(message: usize) -> usize {
    usize::from(message == 2)
}

/// A block as a replica holds it: messages as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry {
    pub(crate) producer: u8,
    pub(crate) block: u8,
    pub(crate) messages: u8,
}

/// A short list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct List<T> {
    items: [Option<T>; LONGEST],
}

impl<T: Copy> Default for List<T> {
    fn default() -> Self {
        Self { items: [None; LONGEST] }
    }
}

impl<T: Copy> List<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.items.iter().flatten().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.iter().count()
    }

    pub(crate) fn push(&mut self, item: T) {
        let at = self.len();
        self.items[at] = Some(item);
    }
}

/// Whether what a replica held is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    /// Was never opened.
    Unused,
    Here,
    /// Its node forgot: it refuses as a stranger, and everybody can know.
    Forgotten,
    /// Its key is not there: wiped, or expired.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    pub(crate) life: Life,
    pub(crate) log: List<Entry>,
    pub(crate) sealed: bool,
    /// By producer: the last block known to be acked.
    pub(crate) noted: [u8; 2],
}

impl Replica {
    const UNUSED: Self = Self {
        life: Life::Unused,
        log: List { items: [None; LONGEST] },
        sealed: false,
        noted: [0; 2],
    };

    pub(crate) fn frontier(&self) -> [u8; 2] {
        frontier(self.log.iter())
    }

    pub(crate) fn holds(&self, message: usize) -> bool {
        self.log.iter().any(|entry| entry.messages & (1 << message) != 0)
    }
}

/// The last block of each producer.
pub(crate) fn frontier(entries: impl Iterator<Item = Entry>) -> [u8; 2] {
    let mut frontier = [0; 2];
    for entry in entries {
        let last = &mut frontier[usize::from(entry.producer)];
        *last = entry.block.max(*last);
    }
    frontier
}

/// For each producer the lower one.
pub(crate) fn minimum(one: [u8; 2], other: [u8; 2]) -> [u8; 2] {
    [one[0].min(other[0]), one[1].min(other[1])]
}

/// What became of a message, as its producer knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Post {
    Waiting,
    /// In this block of the first segment.
    Sent(u8),
    /// In the log, on too few full replicas.
    Thin(u8),
    /// Told to the caller, in this block of the first segment; 0: in the next segment.
    Acked(u8),
    /// Told as failed, or as unknown.
    Failed,
}

/// The first segment, in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    Open,
    Closed {
        end: [u8; 2],
    },
    /// It ended with nothing in it; its stub is known.
    Left,
    Lost,
}

/// What the manifest says of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// Not named.
    None,
    Full,
    Former,
    Dropped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) segment: Segment,
    pub(crate) standing: [Standing; REPLICAS],
    pub(crate) replicas: [Replica; REPLICAS],
    /// Blocks on their way, by producer.
    pub(crate) sent: [List<Entry>; 2],
    pub(crate) posts: [Post; MESSAGES],
    /// For each message those that were acked before it was first sent, as bits.
    pub(crate) after: [u8; MESSAGES],
    /// Producers that have left the first segment.
    pub(crate) left: [bool; 2],
    /// By producer: blocks acked by all replicas.
    pub(crate) acked: [u8; 2],
    /// The next segment.
    pub(crate) next: List<u8>,
    pub(crate) forgets: u8,
    pub(crate) reader: Reader,
}

impl State {
    pub(crate) fn beginning(bounds: Bounds) -> Self {
        let mut replicas = [Replica::UNUSED; REPLICAS];
        let mut standing = [Standing::None; REPLICAS];
        for at in 0..bounds.copies {
            replicas[at].life = Life::Here;
            standing[at] = Standing::Full;
        }
        let mut posts = [Post::Failed; MESSAGES];
        posts[..usize::from(bounds.first)].fill(Post::Waiting);
        if bounds.second > 0 {
            posts[2] = Post::Waiting;
        }
        Self {
            segment: Segment::Open,
            standing,
            replicas,
            sent: [List::default(); 2],
            posts,
            after: [0; MESSAGES],
            left: [false; 2],
            acked: [0; 2],
            next: List::default(),
            forgets: 0,
            reader: Reader::default(),
        }
    }

    pub(crate) fn with(&self, standing: Standing) -> impl Iterator<Item = usize> + '_ {
        (0..REPLICAS).filter(move |at| self.standing[*at] == standing)
    }

    pub(crate) fn is_here(&self, at: usize) -> bool {
        self.replicas[at].life == Life::Here
    }

    pub(crate) fn is_thin(&self) -> bool {
        self.with(Standing::Full).count() < COPIES_MIN
    }

    /// Messages acked by now, as bits.
    pub(crate) fn all_acked(&self) -> u8 {
        let acked = |at: &usize| matches!(self.posts[*at], Post::Acked(_));
        (0..MESSAGES).filter(acked).fold(0_u8, |bits, at| bits | 1 << at)
    }

    /// Whether a message of the first segment is at or below its end.
    pub(crate) fn below_end(&self, message: usize) -> bool {
        let Segment::Closed { end } = self.segment else { return false };
        let producer = producer(message);
        let sent = self.sent[producer].iter();
        sent.filter(|entry| entry.messages & (1 << message) != 0)
            .any(|entry| entry.block <= end[producer])
    }

    fn in_next(&self, message: usize) -> bool {
        self.next.iter().any(|other| usize::from(other) == message)
    }

    pub(crate) fn is_durable(&self, part: &Log) -> bool {
        (0..MESSAGES).all(|message| match self.posts[message] {
            Post::Acked(0) => true,
            Post::Acked(_) => self.is_kept(message, part),
            _ => true,
        })
    }

    /// Whether an acked message of the first segment can be read, now or after a repair.
    fn is_kept(&self, message: usize, part: &Log) -> bool {
        let survives = |at: usize| self.is_here(at) && self.replicas[at].holds(message);
        // As many nodes forgot as hold a message at least.
        if self.is_disaster() && !(0..REPLICAS).any(survives) {
            return true;
        }
        match self.segment {
            // Whether it is lost shows when the end is decided.
            Segment::Open => (0..part.bounds.copies).any(survives),
            Segment::Closed { .. } => {
                let named = |at: usize| self.standing[at] != Standing::None;
                self.below_end(message) && (0..REPLICAS).any(|at| named(at) && survives(at))
            }
            Segment::Left | Segment::Lost => false,
        }
    }

    pub(crate) fn skips_nothing(&self, _: &Log) -> bool {
        let read = |message: usize| self.reader.has(message);
        let passed = self.reader.beyond;
        let missed = passed && (0..MESSAGES).any(|m| self.below_end(m) && !read(m));
        !(self.reader.unseen || missed)
    }

    pub(crate) fn repeats_nothing(&self, _: &Log) -> bool {
        let mut seen = 0_u8;
        let once = self.reader.read.iter().all(|message| {
            let bit = 1 << message;
            let new = seen & bit == 0;
            seen |= bit;
            new
        });
        self.is_disaster()
            || (once
                && (0..MESSAGES).all(|message| !(self.below_end(message) && self.in_next(message))))
    }

    pub(crate) fn keeps_order(&self, _: &Log) -> bool {
        let must_precede = |one: usize, other: usize| {
            (producer(one) == producer(other) && one < other) || self.after[other] & (1 << one) != 0
        };
        let read: Vec<usize> = self.reader.read.iter().map(usize::from).collect();
        let pairs = read
            .iter()
            .enumerate()
            .flat_map(|(at, earlier)| read[at + 1..].iter().map(move |later| (*earlier, *later)));
        pairs.into_iter().all(|(earlier, later)| !must_precede(later, earlier))
    }

    /// As many nodes forgot as a message is on at least: an end may be lowered below what was read
    /// before, which is said loudly.
    fn is_disaster(&self) -> bool {
        usize::from(self.forgets) >= COPIES_MIN
    }

    pub(crate) fn reads_no_phantom(&self, _: &Log) -> bool {
        self.is_disaster()
            || self.reader.read.iter().map(usize::from).all(|message| match self.segment {
                Segment::Open | Segment::Lost => true,
                Segment::Closed { .. } => self.below_end(message) || self.in_next(message),
                Segment::Left => self.in_next(message),
            })
    }
}

//! Steps in words.

use super::reader::Size;
use super::{Entry, Segment, State, Step};

fn who(producer: usize) -> char {
    if producer == 0 { 'A' } else { 'B' }
}

fn block(entry: Entry) -> String {
    let messages: Vec<String> =
        (0..3).filter(|m| entry.messages & (1 << *m) != 0).map(|m| format!("m{}", m + 1)).collect();
    format!("{}'s block {} ({})", who(entry.producer.into()), entry.block, messages.join(", "))
}

fn end(of: [u8; 2]) -> String {
    format!("A {}, B {}", of[0], of[1])
}

impl Step {
    pub(super) fn told(&self, before: &State, after: &State) -> String {
        match *self {
            Self::Send { message } => {
                let of = super::state::producer(message);
                match after.sent[of].iter().last() {
                    Some(entry) if !before.left[of] => {
                        format!("{} sends {} to all replicas", who(of), block(entry))
                    }
                    _ => format!("{} posts m{} to the next segment: acked", who(of), message + 1),
                }
            }
            Self::SendAnew { .. } => {
                let entry = after.sent[0].iter().last();
                format!("A sends {} to all replicas, anew", entry.map(block).unwrap_or_default())
            }
            Self::Arrive { at, entry } => format!("r{} takes {}", at + 1, block(entry)),
            Self::Ack { producer } => {
                format!("{} counts its block {} as acked", who(producer), after.acked[producer])
            }
            Self::Note { at, producer } => format!(
                "r{} hears that {}'s blocks up to {} are acked",
                at + 1,
                who(producer),
                after.replicas[at].noted[producer]
            ),
            Self::Seal { at } => format!("r{} is sealed", at + 1),
            Self::Close { answered } => {
                let heard: Vec<String> =
                    super::steps::bits(answered).map(|at| format!("r{}", at + 1)).collect();
                let outcome = match after.segment {
                    Segment::Closed { end: at } => format!("its end is {}", end(at)),
                    Segment::Left => "nothing is in it, so it leaves".into(),
                    Segment::Lost => "it is lost".into(),
                    Segment::Open => "it stays open".into(),
                };
                format!("the segment is closed by what {} answered: {outcome}", heard.join(", "))
            }
            Self::Leave { producer } => {
                format!("{} looks at the decided end: {:?}", who(producer), after.posts)
            }
            Self::LookAtThin { message } => {
                format!("m{} is looked at again: {:?}", message + 1, after.posts[message])
            }
            Self::Repair { source } => format!("a new replica is filled from r{}", source + 1),
            Self::TakeFormer { at } => format!("r{}, a former replica, is made full", at + 1),
            Self::Salvage => match after.segment {
                Segment::Closed { end: at } => {
                    format!("a former replica is taken back; the end is now {}", end(at))
                }
                _ => "nothing is left of the segment: it is marked as lost".into(),
            },
            Self::Wipe { at } => format!("r{} is wiped", at + 1),
            Self::Expire { at } => format!("the keys of r{} expire", at + 1),
            Self::Forget { at } => format!("the node of r{} forgets everything", at + 1),
            Self::BeginPage { at, asked, size } => {
                let what = if at == asked { "the page" } else { "its coverage" };
                let size = if size == Size::One { "one message" } else { "a page" };
                format!("the reader asks r{} for {size}; r{} answers {what}", at + 1, asked + 1)
            }
            Self::EndPage | Self::ReadClosed { .. } | Self::ReadNext => {
                let new = after.reader.read.iter().skip(before.reader.read.len());
                let got: Vec<String> = new.map(|m| format!("m{}", m + 1)).collect();
                let got = if got.is_empty() { "nothing".into() } else { got.join(", ") };
                let from = match *self {
                    Self::ReadClosed { at, .. } => format!(" from r{}, closed", at + 1),
                    Self::ReadNext => " from the next segment".into(),
                    _ => ", as the other replica has answered".into(),
                };
                let left = !before.reader.beyond && after.reader.beyond;
                let left = if left { ", and leaves the segment" } else { "" };
                format!("the reader gets {got}{from}{left}")
            }
            Self::PassOver => "the reader goes on behind the segment".into(),
        }
    }
}

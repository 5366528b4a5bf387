//! Compares what workers were told with each other: a message in one live claim at most, deleted
//! exactly once, and gone for good.
//!
//! Between asking and being told, a worker does not know whether it has something. So a claim is
//! live for certain from when it was given to a ttl after it was asked for; two claims break the
//! rule only if both are live for certain at the same time.

use std::collections::BTreeMap;
use std::fmt;

use super::worker::{Answer, Entry};

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Breach {
    /// In two claims at the same time (Q7).
    Twice { id: String, claims: [String; 2], at: u64 },
    /// Given to somebody who asked after its delete was acked (Q8).
    CameBack { id: String, claim: String, deleted: u64, asked: u64 },
    /// Its delete was acked as one that found it, more than once.
    DeletedTwice { id: String, times: usize },
    /// Never deleted, and gone or still there (Q1).
    NeverDeleted { id: String },
    /// Not there although nobody can have deleted it (Q1).
    Vanished { id: String, claim: String },
    /// Taken from a claim that was live for certain.
    Withdrawn { id: String, claim: String, early_ms: u64 },
    /// In a claim, and never posted.
    Phantom { id: String, claim: String },
    /// What was still there in the end.
    Left { what: String },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice { id, claims: [first, second], at } => {
                write!(f, "{id} is in claims {first} and {second}, both live at {at}")
            }
            Self::CameBack { id, claim, deleted, asked } => {
                write!(f, "{id} was deleted at {deleted}; claim {claim}, asked at {asked}, has it")
            }
            Self::DeletedTwice { id, times } => write!(f, "{id} was deleted {times} times"),
            Self::NeverDeleted { id } => write!(f, "{id} was never deleted"),
            Self::Vanished { id, claim } => {
                write!(f, "{id} vanished from claim {claim}, and nobody deleted it")
            }
            Self::Withdrawn { id, claim, early_ms } => {
                write!(f, "{id} was taken from claim {claim} {early_ms} ms before its end")
            }
            Self::Phantom { id, claim } => write!(f, "{id} of claim {claim} was never posted"),
            Self::Left { what } => f.write_str(what),
        }
    }
}

/// A claim on one message.
struct Held<'a> {
    claim: &'a str,
    asked: u64,
    given: u64,
    until: u64,
}

/// What was done with one message.
#[derive(Default)]
struct Life<'a> {
    held: Vec<Held<'a>>,
    deletes: Vec<Attempt<'a>>,
}

struct Attempt<'a> {
    claim: &'a str,
    began: u64,
    ended: u64,
    answer: &'a Answer,
}

/// All breaches; none is what is hoped for. `posted`: the ids of all messages.
pub(crate) fn check(posted: &[String], entries: &[Entry]) -> Vec<Breach> {
    let mut lives: BTreeMap<&str, Life<'_>> =
        posted.iter().map(|id| (id.as_str(), Life::default())).collect();
    let mut breaches = Vec::new();
    for entry in entries {
        match entry {
            Entry::Granted { claim, asked, given, ttl, ids, .. } => {
                for id in ids {
                    let (asked, given, until) = (*asked, *given, asked + ttl);
                    match lives.get_mut(id.as_str()) {
                        Some(life) => life.held.push(Held { claim, asked, given, until }),
                        None => {
                            breaches.push(Breach::Phantom { id: id.clone(), claim: claim.clone() })
                        }
                    }
                }
            }
            Entry::Delete { claim, id, began, ended, answer, .. } => {
                let (began, ended) = (*began, *ended);
                if let Some(life) = lives.get_mut(id.as_str()) {
                    life.deletes.push(Attempt { claim, began, ended, answer });
                }
            }
            Entry::Failed { .. } => {}
        }
    }
    for (id, life) in lives {
        life.check(id, &mut breaches);
    }
    breaches
}

impl Life<'_> {
    fn check(mut self, id: &str, breaches: &mut Vec<Breach>) {
        self.held.sort_by_key(|held| held.given);
        self.exclusive(id, breaches);
        self.deleted_once(id, breaches);
        self.explained(id, breaches);
    }

    fn exclusive(&self, id: &str, breaches: &mut Vec<Breach>) {
        for (place, second) in self.held.iter().enumerate() {
            let live = |first: &&Held<'_>| {
                first.claim != second.claim && second.given < first.until.min(second.until)
            };
            if let Some(first) = self.held[..place].iter().find(live) {
                let claims = [first.claim.to_owned(), second.claim.to_owned()];
                breaches.push(Breach::Twice { id: id.to_owned(), claims, at: second.given });
            }
        }
    }

    fn deleted_once(&self, id: &str, breaches: &mut Vec<Breach>) {
        let deleted = || self.deletes.iter().filter(|attempt| *attempt.answer == Answer::Deleted);
        let unknown =
            self.deletes.iter().any(|attempt| matches!(attempt.answer, Answer::Unknown(_)));
        match deleted().count() {
            0 if !unknown => breaches.push(Breach::NeverDeleted { id: id.to_owned() }),
            0 | 1 => {}
            times => breaches.push(Breach::DeletedTwice { id: id.to_owned(), times }),
        }
        let Some(deleted) = deleted().map(|attempt| attempt.ended).min() else { return };
        for held in self.held.iter().filter(|held| held.asked > deleted) {
            breaches.push(Breach::CameBack {
                id: id.to_owned(),
                claim: held.claim.to_owned(),
                deleted,
                asked: held.asked,
            });
        }
    }

    /// Whether deletes that did not find the message have a reason.
    fn explained(&self, id: &str, breaches: &mut Vec<Breach>) {
        for (place, attempt) in self.deletes.iter().enumerate() {
            let others = || {
                let others = self.deletes.iter().enumerate();
                others.filter(|(other, _)| *other != place).map(|(_, other)| other)
            };
            // One that may have happened explains everything that began later or overlaps.
            let may_be_gone = others().any(|other| {
                matches!(other.answer, Answer::Deleted | Answer::Unknown(_))
                    && other.began <= attempt.ended
            });
            if may_be_gone {
                continue;
            }
            let claim = attempt.claim.to_owned();
            match attempt.answer {
                Answer::Absent => breaches.push(Breach::Vanished { id: id.to_owned(), claim }),
                Answer::NotHeld => {
                    let held = self.held.iter().find(|held| held.claim == attempt.claim);
                    let until = held.map_or(0, |held| held.until);
                    if attempt.ended < until {
                        let early_ms = until - attempt.ended;
                        let id = id.to_owned();
                        breaches.push(Breach::Withdrawn { id, claim, early_ms });
                    }
                }
                Answer::Deleted | Answer::Failed(_) | Answer::Unknown(_) => {}
            }
        }
    }
}

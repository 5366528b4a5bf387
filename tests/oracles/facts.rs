//! What follows for each message from a history: when it was posted, and when it may or must have
//! ended.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, Effect, Entry, History, Seen, What};

/// How long a pop claims what it is about to delete, in milliseconds.
const POP: u64 = 30_000;
/// A moment that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// What is known of all messages.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// By name.
    pub(crate) messages: BTreeMap<&'a str, Fact<'a>>,
    /// Names by id: of all that was acked or seen.
    pub(crate) names: BTreeMap<&'a str, &'a str>,
}

/// What is known of one message.
#[derive(Debug)]
pub(crate) struct Fact<'a> {
    pub(crate) queue: &'a str,
    /// When it was first asked to be stored, by a post that may have stored it if there is one.
    pub(crate) began: u64,
    /// When somebody was first told that it is stored.
    pub(crate) acked: Option<u64>,
    /// The ids under which it was acked.
    pub(crate) ids: BTreeSet<&'a str>,
    /// Whether a post may have stored it.
    pub(crate) is_possible: bool,
    /// The shortest of the posts that may have stored it.
    pub(crate) delay: u64,
    /// From when on it may be gone, for whatever reason.
    pub(crate) gone_from: u64,
    /// When deletes were under way that were refused in the end: until then one replica may have taken
    /// them, which was lost before it could speak for the others.
    pub(crate) contested: Vec<(u64, u64)>,
    /// When somebody was told that it was deleted or popped.
    pub(crate) deleted: u64,
    /// When somebody was told that its queue was deleted.
    pub(crate) removed: u64,
    /// When its life must be over, claims that made it longer included.
    pub(crate) expired: u64,
    /// Whether more was lost at once than copies are good for, after it was posted.
    pub(crate) excused: bool,
}

impl Fact<'_> {
    /// Whether nobody can tell if it is there: a delete or a pop of it has an unknown outcome, so some
    /// replicas may have it and others not, until somebody finishes the delete.
    pub(crate) fn is_uncertain(&self, at: u64) -> bool {
        self.excused
            || (self.gone_from <= at
                && self.deleted.min(self.removed) == NEVER
                && self.expired >= at)
    }

    /// Whether it was there for certain in all of this time.
    pub(crate) fn is_there(&self, from: u64, to: u64) -> bool {
        !self.excused
            && self.acked.is_some_and(|acked| acked < from)
            && self.gone_from > to
            && !self.is_contested(from, to)
    }

    /// Whether a delete that was refused in the end was under way in some of this time.
    pub(crate) fn is_contested(&self, from: u64, to: u64) -> bool {
        self.contested.iter().any(|(began, ended)| *began <= to && from <= *ended)
    }
}

impl<'a> Facts<'a> {
    pub(crate) fn of(history: &'a History) -> Self {
        let mut facts = Self { messages: BTreeMap::new(), names: BTreeMap::new() };
        history.entries.iter().for_each(|entry| facts.posted(entry, history));
        for entry in &history.entries {
            for seen in seen(entry) {
                facts.names.entry(&seen.id).or_insert(&seen.name);
            }
        }
        history.entries.iter().for_each(|entry| facts.changed(entry, history.late));
        facts
    }

    fn posted(&mut self, entry: &'a Entry, history: &History) {
        let What::Post { messages, ttl, delay, answer, .. } = &entry.what else { return };
        for (place, name) in messages.iter().enumerate() {
            let fact = self.messages.entry(name).or_insert_with(|| Fact {
                queue: &entry.queue,
                began: entry.began,
                acked: None,
                ids: BTreeSet::new(),
                is_possible: false,
                delay: *delay,
                gone_from: NEVER,
                contested: Vec::new(),
                deleted: NEVER,
                removed: NEVER,
                expired: NEVER,
                excused: false,
            });
            if !answer.is_possible() {
                // It stored nothing: when it was sent, and with what delay, says nothing either.
                continue;
            }
            if !fact.is_possible {
                (fact.began, fact.delay) = (entry.began, *delay);
            }
            fact.is_possible = true;
            // Of posts that have one key only one is stored, and nobody may know which.
            fact.began = fact.began.min(entry.began);
            fact.delay = fact.delay.min(*delay);
            let until = entry.began.saturating_add(*ttl).saturating_sub(history.early);
            fact.gone_from = fact.gone_from.min(until);
            let Answer::Done(ids) = answer else { continue };
            fact.acked = Some(fact.acked.map_or(entry.ended, |acked| acked.min(entry.ended)));
            // Of a post that was repeated the first answer tells when it was stored at the latest.
            let acked = fact.acked.unwrap_or(NEVER);
            fact.expired = acked.saturating_add(*ttl).saturating_add(history.late);
            if let Some(id) = ids.get(place) {
                fact.ids.insert(id);
                self.names.insert(id, name);
            }
        }
    }

    /// Takes in what may have ended messages or made them live longer.
    fn changed(&mut self, entry: &'a Entry, late: u64) {
        let lived =
            |ttl: &u64, grace: &u64| entry.ended.saturating_add(ttl + grace).saturating_add(late);
        match &entry.what {
            What::Delete { id, answer, .. } => {
                let Some(fact) = self.by_id(id) else { return };
                match answer {
                    Answer::Done(Effect::Done) => {
                        fact.gone_from = fact.gone_from.min(entry.began);
                        fact.deleted = fact.deleted.min(entry.ended);
                    }
                    Answer::Unknown(_) => fact.gone_from = fact.gone_from.min(entry.began),
                    Answer::Done(Effect::Claimed | Effect::NotHeld) => {
                        fact.contested.push((entry.began, entry.ended));
                    }
                    Answer::Done(_) | Answer::Refused(_) | Answer::NotApplied(_) => {}
                }
            }
            What::Pop { answer } => {
                self.of_queue(&entry.queue).for_each(|fact| fact.lives_until(lived(&POP, &0)));
                self.popped(entry, answer);
            }
            What::Remove { answer } if answer.is_possible() => {
                let done = matches!(answer, Answer::Done(_));
                for fact in self.of_queue(&entry.queue) {
                    // What was posted after it had been done is of the next life.
                    if done && entry.ended < fact.began {
                        continue;
                    }
                    fact.gone_from = fact.gone_from.min(entry.began.max(fact.began));
                    if done && fact.acked.is_some_and(|acked| acked < entry.began) {
                        fact.removed = fact.removed.min(entry.ended);
                    }
                }
            }
            // What was picked and given back again lives longer all the same.
            What::Claim { answer: Answer::Refused(_), .. } => {}
            What::Claim { ttl, grace, answer } => {
                let until = match answer {
                    Answer::Unknown(_) => NEVER,
                    _ => lived(ttl, grace),
                };
                self.of_queue(&entry.queue).for_each(|fact| fact.lives_until(until));
            }
            What::Renew { ttl, grace, .. } => {
                let until = lived(ttl, grace);
                self.of_queue(&entry.queue).for_each(|fact| fact.lives_until(until));
            }
            What::Excuse => {
                for fact in self.messages.values_mut().filter(|fact| fact.began <= entry.ended) {
                    fact.excused = true;
                }
            }
            _ => {}
        }
    }

    fn popped(&mut self, entry: &'a Entry, answer: &Answer<Vec<Seen>>) {
        match answer {
            Answer::Done(popped) => {
                for seen in popped {
                    let Some(fact) = self.by_id(&seen.id) else { continue };
                    fact.gone_from = fact.gone_from.min(entry.began);
                    fact.deleted = fact.deleted.min(entry.ended);
                }
            }
            Answer::Unknown(_) => {
                for fact in self.of_queue(&entry.queue) {
                    fact.gone_from = fact.gone_from.min(entry.began);
                }
            }
            Answer::Refused(_) | Answer::NotApplied(_) => {}
        }
    }

    pub(crate) fn of_id(&self, id: &str) -> Option<&Fact<'a>> {
        self.messages.get(self.names.get(id)?)
    }

    fn by_id(&mut self, id: &str) -> Option<&mut Fact<'a>> {
        self.messages.get_mut(self.names.get(id)?)
    }

    fn of_queue(&mut self, queue: &'a str) -> impl Iterator<Item = &mut Fact<'a>> {
        self.messages.values_mut().filter(move |fact| fact.queue == queue)
    }
}

impl Fact<'_> {
    fn lives_until(&mut self, until: u64) {
        if self.expired != NEVER {
            self.expired = self.expired.max(until);
        }
    }
}

/// The messages that a call gave.
pub(crate) fn seen(entry: &Entry) -> &[Seen] {
    match &entry.what {
        What::List { answer: Answer::Done(seen), .. }
        | What::Get { answer: Answer::Done(seen), .. }
        | What::Pop { answer: Answer::Done(seen) } => seen,
        What::Claim { answer: Answer::Done(Some(granted)), .. } => &granted.messages,
        _ => &[],
    }
}

//! Compares what posters were told with what readers found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::events::Origin;
use super::posters::Posted;
use super::readers::Walk;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Breach {
    /// Acked, and not listed (Q1, Q2).
    Lost { reader: String, event: Origin, id: String },
    /// Listed more than once (Q3).
    Repeated { reader: String, event: Origin, times: usize },
    /// Listed behind a later one of the same producer (Q4).
    Disordered { reader: String, event: Origin, behind: u64 },
    /// Listed, and never sent, or changed (Q5).
    Phantom { reader: String, id: String },
    /// Listed under another id than was acked.
    Renamed { reader: String, event: Origin, acked: String, listed: String },
    /// Listed, although the post said that it was not stored.
    NotApplied { reader: String, event: Origin },
    /// Acked twice, or neither acked nor refused.
    Unaccounted { event: Origin, times: usize },
    /// A reader was told of a loss or could not go on.
    Failed { reader: String, why: String },
    /// A reader got what another did not, although both came to the end (Q5).
    Disagreed { reader: String, event: Origin },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { reader, event, id } => {
                write!(f, "{reader}: {event} was acked as {id} and is not listed")
            }
            Self::Repeated { reader, event, times } => {
                write!(f, "{reader}: {event} is listed {times} times")
            }
            Self::Disordered { reader, event, behind } => {
                write!(f, "{reader}: {event} is listed behind its event {behind}")
            }
            Self::Phantom { reader, id } => {
                write!(f, "{reader}: {id} is listed and is nothing that was sent")
            }
            Self::Renamed { reader, event, acked, listed } => {
                write!(f, "{reader}: {event} was acked as {acked} and is listed as {listed}")
            }
            Self::NotApplied { reader, event } => {
                write!(f, "{reader}: {event} was refused as not applied and is listed")
            }
            Self::Unaccounted { event, times } => {
                write!(f, "{event} was acked or refused {times} times")
            }
            Self::Failed { reader, why } => write!(f, "{reader}: {why}"),
            Self::Disagreed { reader, event } => {
                write!(f, "{reader}: {event} is not listed, another reader got it")
            }
        }
    }
}

/// What a poster was told of one line.
enum Told<'a> {
    Acked(&'a str),
    NotApplied,
    Unknown,
}

/// All breaches; none is what is hoped for.
pub(crate) fn check(posted: &[Posted], walks: &[Walk]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let told = told(posted, &mut breaches);
    for walk in walks {
        check_walk(walk, posted, &told, &mut breaches);
    }
    disagreements(walks, &told, &mut breaches);
    breaches
}

fn told<'a>(posted: &'a [Posted], breaches: &mut Vec<Breach>) -> BTreeMap<Origin, Told<'a>> {
    let mut told = BTreeMap::new();
    for poster in posted {
        let producer = poster.producer;
        let mut times: BTreeMap<u64, usize> = (1..=poster.sent).map(|seq| (seq, 0)).collect();
        for acked in &poster.acked {
            *times.entry(acked.seq).or_default() += 1;
            told.insert(Origin { producer, seq: acked.seq }, Told::Acked(&acked.id));
        }
        for refused in &poster.refused {
            *times.entry(refused.seq).or_default() += 1;
            let what = if refused.unknown { Told::Unknown } else { Told::NotApplied };
            told.entry(Origin { producer, seq: refused.seq }).or_insert(what);
        }
        let wrong = times.into_iter().filter(|(_, times)| *times != 1);
        breaches.extend(
            wrong
                .map(|(seq, times)| Breach::Unaccounted { event: Origin { producer, seq }, times }),
        );
    }
    told
}

fn check_walk(
    walk: &Walk,
    posted: &[Posted],
    told: &BTreeMap<Origin, Told<'_>>,
    breaches: &mut Vec<Breach>,
) {
    let reader = || walk.name.clone();
    breaches.extend(
        walk.failures.iter().map(|why| Breach::Failed { reader: reader(), why: why.clone() }),
    );
    let sent = |event: &Origin| {
        posted.iter().any(|p| p.producer == event.producer && (1..=p.sent).contains(&event.seq))
    };
    let mut listed: BTreeMap<Origin, usize> = BTreeMap::new();
    let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
    for seen in &walk.seen {
        let Some((event, true)) = seen.event.filter(|(event, _)| sent(event)) else {
            breaches.push(Breach::Phantom { reader: reader(), id: seen.id.clone() });
            continue;
        };
        let times = listed.entry(event).or_default();
        *times += 1;
        if *times > 1 {
            continue;
        }
        let newest = newest.entry(event.producer).or_default();
        if event.seq < *newest {
            breaches.push(Breach::Disordered { reader: reader(), event, behind: *newest });
        }
        *newest = event.seq.max(*newest);
        match told.get(&event) {
            Some(Told::Acked(id)) if *id != seen.id => breaches.push(Breach::Renamed {
                reader: reader(),
                event,
                acked: (*id).to_owned(),
                listed: seen.id.clone(),
            }),
            Some(Told::NotApplied) => {
                breaches.push(Breach::NotApplied { reader: reader(), event });
            }
            _ => {}
        }
    }
    let repeated = listed.iter().filter(|(_, times)| **times > 1);
    breaches.extend(repeated.map(|(event, times)| Breach::Repeated {
        reader: reader(),
        event: *event,
        times: *times,
    }));
    for (event, told) in told {
        if let Told::Acked(id) = told
            && !listed.contains_key(event)
        {
            breaches.push(Breach::Lost { reader: reader(), event: *event, id: (*id).to_owned() });
        }
    }
}

/// What one reader got is there for all; acked ones are reported as lost already.
fn disagreements(walks: &[Walk], told: &BTreeMap<Origin, Told<'_>>, breaches: &mut Vec<Breach>) {
    let listed = |walk: &Walk| -> BTreeSet<Origin> {
        walk.seen.iter().filter_map(|seen| seen.event.map(|(event, _)| event)).collect()
    };
    let sets: Vec<BTreeSet<Origin>> = walks.iter().map(listed).collect();
    let all: BTreeSet<Origin> = sets.iter().flatten().copied().collect();
    for (walk, set) in walks.iter().zip(&sets) {
        for event in all.difference(set) {
            if matches!(told.get(event), Some(Told::Unknown)) {
                breaches.push(Breach::Disagreed { reader: walk.name.clone(), event: *event });
            }
        }
    }
}

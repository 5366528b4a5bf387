//! Readers that follow markers, with pages of changing sizes.

use std::time::Duration;

use roundelay::{ErrorKind, ListOptions, Marker, Queue};
use tokio::time::sleep;

use super::super::recorder::{Recorder, answer, seen, unheard};
use super::{AGAIN, MAIN, SHORT, Shared, Turn};
use crate::oracles::{Answer, Seen, What};

/// Markers that are kept for later.
const MARKERS: usize = 40;

/// After so many failures a walk is given up.
const FAILURES: u32 = 3;

/// Where a reader is.
#[derive(Debug)]
pub(super) struct Walk {
    queue: &'static str,
    number: u64,
    marker: Option<Marker>,
}

/// A page to ask for.
struct Ask<'a> {
    by: &'a str,
    name: &'static str,
    queue: Queue,
    walk: u64,
    limit: usize,
    wait: Duration,
    everything: bool,
}

/// Reads the next page.
pub(super) async fn read(turn: Turn<'_>, walk: &mut Option<Walk>) {
    let rng = &mut *turn.rng;
    if rng.u32(..40) == 0 {
        *walk = None;
    }
    let here = walk.get_or_insert_with(|| Walk {
        queue: [MAIN, MAIN, MAIN, SHORT, AGAIN][rng.usize(..5)],
        number: turn.shared.walk(),
        marker: None,
    });
    let wait = if rng.u32(..6) == 0 { rng.u64(20..300) } else { 0 };
    let ask = Ask {
        by: turn.name,
        name: here.queue,
        queue: turn.process.queue(here.queue),
        walk: here.number,
        limit: rng.usize(1..30),
        wait: Duration::from_millis(wait),
        everything: true,
    };
    match page(&turn.world.recorder, ask, here.marker.clone()).await {
        Ok((_, next)) => {
            here.marker = next;
            let mut known = turn.shared.known();
            if let Some(marker) = &here.marker
                && here.queue != AGAIN
                && known.markers.len() < MARKERS
                && rng.u32(..8) == 0
            {
                known.markers.push((here.queue, marker.clone()));
            }
        }
        Err(ErrorKind::Invalid) => {
            turn.world.sight.seen().reached.note("a marker of an earlier life refused");
            *walk = None;
        }
        Err(_) => {}
    }
}

/// What is ready, from the start.
pub(super) async fn ready(turn: Turn<'_>, name: &'static str) {
    let ask = Ask {
        by: turn.name,
        name,
        queue: turn.process.queue(name),
        walk: 0,
        limit: 20,
        wait: Duration::ZERO,
        everything: false,
    };
    drop(page(&turn.world.recorder, ask, None).await);
}

/// Walks everything from a marker on to the end. Returns whether it came there.
pub(crate) async fn walk_all(
    recorder: &Recorder,
    shared: &Shared,
    (by, queue): (&str, Queue),
    name: &'static str,
    mut marker: Option<Marker>,
    limit: usize,
) -> bool {
    let walk = shared.walk();
    let mut failures = 0;
    while failures < FAILURES {
        let (queue, wait) = (queue.clone(), Duration::ZERO);
        let ask = Ask { by, name, queue, walk, limit, wait, everything: true };
        match page(recorder, ask, marker.clone()).await {
            Ok((seen, _)) if seen.is_empty() => return true,
            Ok((_, next)) => marker = next,
            Err(_) => {
                failures += 1;
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
    false
}

async fn page(
    recorder: &Recorder,
    ask: Ask<'_>,
    marker: Option<Marker>,
) -> Result<(Vec<Seen>, Option<Marker>), ErrorKind> {
    let Ask { by, name, queue, walk, limit, wait, everything } = ask;
    let from = marker.as_ref().map(ToString::to_string);
    let what = What::List { walk, marker: from, next: None, everything, answer: unheard() };
    let call = recorder.begin(by, name, what);
    let options = ListOptions {
        marker,
        limit,
        include_claimed: everything,
        include_delayed: everything,
        not_from: None,
    };
    let result = queue.list_waiting(&options, wait).await;
    let told: Result<_, _> = match &result {
        Ok(page) => Ok((seen(&page.messages), page.marker.clone())),
        Err(error) => Err(error.kind()),
    };
    call.end(|what| {
        let What::List { next, answer: given, .. } = what else { return };
        if let Ok((_, marker)) = &told {
            *next = marker.as_ref().map(ToString::to_string);
        }
        *given = match answer(result.map(drop)) {
            Answer::Done(()) => {
                Answer::Done(told.as_ref().map_or(vec![], |(seen, _)| seen.clone()))
            }
            // Nothing is changed by a list.
            Answer::Refused(why) => Answer::Refused(why),
            Answer::NotApplied(why) | Answer::Unknown(why) => Answer::NotApplied(why),
        };
    });
    told
}

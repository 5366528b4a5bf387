//! Each oracle fires when the protocol is broken on purpose, in the simulator itself.

use std::time::Duration;

use super::lies;
use super::machine::plan::Plan;
use super::machine::run;
use super::machine::world::Lie;

/// Seeds that are tried: not every run meets every situation.
const SEEDS: u64 = 12;

/// The oracle fires in one of some runs on nodes that lie so.
fn fires(oracle: &str, lie: Lie) {
    let mut others = std::collections::BTreeSet::new();
    for seed in 0..SEEDS {
        let mut plan = Plan::of(seed);
        // What never succeeds on nodes that lie must not be tried for long.
        plan.config.deadline = Duration::from_secs(1);
        let breaches = run(plan, Some(lie)).breaches;
        if breaches.iter().any(|breach| breach.oracle == oracle) {
            return;
        }
        others.extend(breaches.into_iter().map(|breach| breach.oracle));
    }
    panic!("{oracle} did not fire; these did: {others:?}");
}

#[test]
fn lost_fires_on_nodes_that_forget_messages() {
    fires("lost", lies::forgets_messages);
}

#[test]
fn unseen_fires_on_nodes_that_show_messages_late() {
    fires("unseen", lies::shows_messages_late);
}

#[test]
fn poll_skip_fires_on_nodes_that_show_messages_late() {
    fires("poll_skip", lies::shows_messages_late);
}

#[test]
fn marker_stability_fires_on_nodes_that_skip_behind_offsets() {
    fires("marker_stability", lies::skips_behind_offsets);
}

#[test]
fn nonmonotonic_fires_on_nodes_that_show_messages_backwards() {
    fires("nonmonotonic", lies::shows_messages_backwards);
}

#[test]
fn phantom_fires_on_nodes_that_change_bodies() {
    fires("phantom", lies::changes_bodies);
}

#[test]
fn one_manifest_fires_on_keepers_that_forget() {
    fires("one_manifest", lies::keepers_forget);
}

#[test]
fn duplicated_fires_on_keepers_that_forget_keys() {
    fires("duplicated", lies::keepers_forget_keys);
}

#[test]
fn once_fires_on_keepers_that_forget_keys() {
    fires("once", lies::keepers_forget_keys);
}

#[test]
fn double_claim_fires_on_nodes_that_forget_claims() {
    fires("double_claim", lies::forgets_claims);
}

#[test]
fn stale_claim_fires_on_nodes_that_ignore_fencing() {
    fires("stale_claim", lies::ignores_fencing);
}

#[test]
fn early_delivery_fires_on_nodes_that_ignore_delays() {
    fires("early_delivery", lies::ignores_delays);
}

#[test]
fn resurrection_fires_on_nodes_that_ignore_deletes() {
    fires("resurrection", lies::ignores_deletes);
}

#[test]
fn ttl_overrun_fires_on_nodes_that_ignore_lives() {
    fires("ttl_overrun", lies::ignores_lives);
}

#[test]
fn stats_fires_on_nodes_that_miscount() {
    fires("stats", lies::miscounts);
}

#[test]
fn copies_restored_fires_on_nodes_that_take_no_copies() {
    fires("copies_restored", lies::takes_no_copies);
}

#[test]
fn progress_fires_on_nodes_that_are_never_sealed() {
    fires("progress", lies::is_never_sealed);
}

//! What a seed decides before anything runs.

use std::time::Duration;

use fastrand::Rng;
use roundelay::Config;

/// How a run is set up.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) nodes: usize,
    pub(crate) config: Config,
    /// Faults, at least.
    pub(crate) faults: u32,
    /// Calls of clients, at least.
    pub(crate) calls: usize,
    /// Whether more is lost at once than copies are good for.
    pub(crate) is_harsh: bool,
    /// Whether all processes are opened at the same time, on nodes that nobody has used.
    pub(crate) begin_together: bool,
    /// How often clients pause between two calls, on average, in milliseconds.
    pub(crate) pace: u64,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let rng = &mut Rng::with_seed(seed ^ 0x5ee_d0f);
        let is_harsh = rng.u32(..16) == 0;
        let nodes = if is_harsh { 5 } else { *pick(rng, &[3, 4, 4, 5]) };
        let mut config = Config::default();
        config.copies = if is_harsh { 2 } else { *pick(rng, &[2, 2, 3]) };
        config.copies_min = 2;
        config.segment_bytes = *pick(rng, &[400, 1_500, 6_000, 100_000]);
        config.block_messages = *pick(rng, &[1, 2, 8, 256]);
        config.blocks_in_flight = *pick(rng, &[1, 2, 4, 4]);
        config.deadline = Duration::from_secs(*pick(rng, &[2, 4, 10]));
        Self {
            seed,
            nodes,
            config,
            // Some of what is drawn finds nothing to do.
            faults: rng.u32(5..8),
            calls: 200,
            is_harsh,
            begin_together: rng.bool(),
            pace: *pick(rng, &[50, 100, 200]),
        }
    }
}

/// One of these.
pub(crate) fn pick<'a, T>(rng: &mut Rng, of: &'a [T]) -> &'a T {
    &of[rng.usize(..of.len())]
}

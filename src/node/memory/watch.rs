//! Which operations end the watches of which replicas. Refused ones do too: nobody is harmed.

use crate::id::Placement;
use crate::node::watch::Watchers;
use crate::node::{Append, Delete, Hold, Op, Open, Pick};

/// Wakes those who watch what `op` changes. They look at it only when the node can be asked again.
pub(super) fn tell(watchers: &mut Watchers<Placement>, op: &Op) {
    if watchers.is_empty() {
        return;
    }
    match op {
        Op::Open(Open { at, .. })
        | Op::Append(Append { at, .. })
        | Op::Hold(Hold { at, .. })
        | Op::Delete(Delete { at, .. })
        | Op::Note { at, .. }
        | Op::Seal { at, .. }
        | Op::TellEnd { at, .. }
        | Op::Release { at, .. }
        | Op::Renew { at, .. }
        | Op::CopyIn { at, .. }
        | Op::Fence { at, .. }
        | Op::Wipe { at } => watchers.wake(&at.placement),
        Op::Pick(Pick { placements, .. }) => {
            placements.iter().for_each(|placement| watchers.wake(placement));
        }
        // All replicas may be forgotten.
        Op::Admit { .. } => watchers.wake_all(),
        Op::Identity
        | Op::Read(_)
        | Op::Probe { .. }
        | Op::Get { .. }
        | Op::ReadClaim { .. }
        | Op::Stats { .. }
        | Op::CopyOut { .. }
        | Op::Due { .. }
        | Op::Defer { .. }
        | Op::Keep { .. }
        | Op::Restore { .. }
        | Op::Activate { .. }
        | Op::Dump { .. }
        | Op::Prepare { .. }
        | Op::Accept(_)
        | Op::ReadRegisters { .. }
        | Op::Changes { .. }
        | Op::ListIndex { .. } => {}
    }
}

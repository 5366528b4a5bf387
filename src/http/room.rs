//! Room for the bodies of all requests: so much for all, less for each project, and the last of it for
//! small ones only, so that a few who post much do not keep others from deleting and claiming.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Project;

/// Up to how many bytes a body is small.
const SMALL_BYTES: usize = 65_536;
/// The part of the room that one project may take, and the part that is for small bodies only.
const SHARE: usize = 4;
const RESERVE: usize = 8;

/// The room of a service.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    /// What one project may take, in bytes.
    share: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    by_project: BTreeMap<Project, usize>,
}

/// The room of one body, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<Room>,
    project: Project,
    bytes: usize,
}

impl Room {
    /// Room for `bytes`; `largest` is what the longest body may have, for which a project's share
    /// must do.
    pub(super) fn new(bytes: usize, largest: usize) -> Self {
        Self { bytes, share: (bytes / SHARE).max(largest), taken: Mutex::default() }
    }

    /// Begins a body: no room is taken yet.
    pub(super) fn hold(self: &Arc<Self>, project: &Project) -> Held {
        Held { room: Arc::clone(self), project: project.clone(), bytes: 0 }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Takes room for `more` bytes; false if there is none.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let reserve = if self.bytes + more > SMALL_BYTES { self.room.bytes / RESERVE } else { 0 };
        let mut taken = self.room.taken();
        let own = taken.by_project.get(&self.project).copied().unwrap_or_default() + more;
        if own > self.room.share || taken.bytes + more > self.room.bytes - reserve {
            return false;
        }
        taken.bytes += more;
        taken.by_project.insert(self.project.clone(), own);
        self.bytes += more;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut taken = self.room.taken();
        taken.bytes -= self.bytes;
        if let Some(own) = taken.by_project.get_mut(&self.project) {
            *own -= self.bytes;
            if *own == 0 {
                taken.by_project.remove(&self.project);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn held(room: &Arc<Room>, project: &str, bytes: usize) -> Option<Held> {
        let mut held = room.hold(&Project::new(project).unwrap());
        held.grow(bytes).then_some(held)
    }

    #[test]
    fn a_project_takes_its_share_and_leaves_the_rest_to_others() {
        let room = Arc::new(Room::new(16 * MIB, MIB));
        let busy = held(&room, "busy", 4 * MIB).unwrap();
        assert!(held(&room, "busy", 1).is_none());
        assert!(held(&room, "calm", 4 * MIB).is_some());
        drop(busy);
        assert!(held(&room, "busy", 4 * MIB).is_some());
        assert_eq!(room.taken().bytes, 0);
        assert!(room.taken().by_project.is_empty());
    }

    #[test]
    fn the_last_room_is_for_small_bodies() {
        let room = Arc::new(Room::new(16 * MIB, MIB));
        let large: Vec<_> = (0..14).filter_map(|n| held(&room, &n.to_string(), MIB)).collect();
        assert_eq!(large.len(), 14);
        assert!(held(&room, "large", MIB).is_none());
        assert!(held(&room, "small", SMALL_BYTES).is_some());
    }
}

//! Steps in words.

use super::{Claim, Delete, Deletes, Standing, State, Step};

fn replicas(mask: u8) -> String {
    let names: Vec<String> =
        (0..3).filter(|at| mask & (1 << *at) != 0).map(|at| format!("r{}", at + 1)).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn manifest(state: &State) -> String {
    let now = state.now();
    let mut told = format!("version {}: full {}", now.version, replicas(now.mask(Standing::Full)));
    for (standing, word) in [(Standing::Joining, "joining"), (Standing::Dropped, "dropped")] {
        if now.mask(standing) != 0 {
            told += &format!(", {word} {}", replicas(now.mask(standing)));
        }
    }
    told
}

fn by(view: u8, state: &State) -> String {
    match view == state.newest() {
        true => String::new(),
        false => format!(", by the manifest of version {}", state.view(view).version),
    }
}

impl Step {
    pub(super) fn told(&self, before: &State, after: &State) -> String {
        match *self {
            Self::Pick { claim, view } => {
                let at = before.view(view).with(Standing::Full).next().unwrap_or(0);
                let (what, rank) = match after.claims[claim] {
                    Claim::Holding { phantom: true, rank, .. } => ("x", rank),
                    Claim::Holding { rank, .. } => ("m", rank),
                    _ => ("nothing", (0, 0)),
                };
                format!(
                    "claim c{} picks {what} on r{} at rank {rank:?}{}",
                    claim + 1,
                    at + 1,
                    by(view, before)
                )
            }
            Self::Hold { claim, at } => match after.claims[claim] {
                Claim::Failed => format!("r{} refuses to hold for c{}", at + 1, claim + 1),
                _ => format!("r{} holds for c{}", at + 1, claim + 1),
            },
            Self::HoldAnew { claim } => {
                format!("c{} asks anew, by the newest manifest", claim + 1)
            }
            Self::Grant { claim } => format!("c{} is granted", claim + 1),
            Self::Expire { at } => {
                let claim = before.replicas[at].mark.map_or(0, |mark| mark.claim);
                format!("on r{} the mark of c{} expires", at + 1, claim + 1)
            }
            Self::Misjudge { at } => {
                format!("r{} takes its mark for expired, by a client's clock", at + 1)
            }
            Self::BeginDelete { view } => match after.delete {
                Delete::Running { guard: Deletes::Claimed, .. } => {
                    format!("a delete under c1 is sent{}", by(view, before))
                }
                _ => format!("a delete is sent{}", by(view, before)),
            },
            Self::Delete { at } => {
                let bit = 1 << at;
                let (took, has) = match after.delete {
                    Delete::Running { attempt, .. } => {
                        (attempt.took & bit != 0, before.replicas[at].has)
                    }
                    _ => (false, true),
                };
                match (took, has) {
                    (true, true) => format!("r{} takes the delete", at + 1),
                    (true, false) => {
                        format!("r{}, without the message yet, keeps a tombstone", at + 1)
                    }
                    (false, _) => format!("r{} refuses the delete", at + 1),
                }
            }
            Self::DeleteAnew => "the delete is sent anew, by the newest manifest".into(),
            Self::EndDelete => match after.delete {
                Delete::Acked => "the caller is told: deleted".into(),
                Delete::Refused => "the caller is told: not deleted".into(),
                _ => "one has it and another not: it is sent to all, to finish it".into(),
            },
            Self::TellEnd { at } => format!("r{} is told the end", at + 1),
            Self::Name => format!("r3 is opened and named ({})", manifest(after)),
            Self::Fence { at } => {
                format!("r{} is raised to version {}", at + 1, after.replicas[at].version)
            }
            Self::CopyOut { source } => {
                let known = match after.copy.taken {
                    Some((true, _)) => "m has ended".into(),
                    Some((false, Some(mark))) => format!("m has a mark of c{}", mark.claim + 1),
                    _ => "m is free".to_owned(),
                };
                format!("the copy is read from r{}: {known}", source + 1)
            }
            Self::CopyIn => "the copy is written to r3".into(),
            Self::Promote => format!("r3 becomes full ({})", manifest(after)),
            Self::GiveUp => format!("r3 is given up ({})", manifest(after)),
            Self::Wipe => "r3's key is wiped".into(),
            Self::Drop { at } => format!("r{} is dropped ({})", at + 1, manifest(after)),
            Self::Forget { at } => format!("the node of r{} forgets everything", at + 1),
            Self::TakeBack { at, heard } => {
                let heard = replicas(heard);
                format!("r{} is taken back, having heard {heard} ({})", at + 1, manifest(after))
            }
        }
    }
}

//! The registers of a keeper: promises, accepted values, the log of changes, the index (Q6).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::machine::at_least_one;
use crate::id::Epoch;
use crate::node::{
    Accept, Ballot, Changes, Dump, Index, KeeperState, Names, Promise, Refusal, RegisterDump,
    Registers,
};

/// A keeper.
#[derive(Debug, Clone)]
pub(super) struct Keeper {
    epoch: Epoch,
    keepers: Bytes,
    votes: bool,
    registers: BTreeMap<String, Register>,
    /// Each register by its latest change.
    changes: BTreeMap<u64, String>,
    counter: u64,
    listed: BTreeMap<String, BTreeSet<String>>,
}

/// One register.
#[derive(Debug, Clone, Default)]
struct Register {
    promised: Ballot,
    accepted: Option<(Ballot, Bytes)>,
    index: Option<Index>,
    /// Its latest change; 0: none.
    changed: u64,
}

impl Keeper {
    /// One that casts no vote yet.
    pub(super) fn new(epoch: Epoch, keepers: Bytes) -> Self {
        Self {
            epoch,
            keepers,
            votes: false,
            registers: BTreeMap::new(),
            changes: BTreeMap::new(),
            counter: 0,
            listed: BTreeMap::new(),
        }
    }

    pub(super) fn state(&self) -> KeeperState {
        KeeperState { epoch: self.epoch, keepers: self.keepers.clone(), active: self.votes }
    }

    pub(super) fn keep(&mut self, epoch: Epoch, keepers: Bytes) -> Result<(), Refusal> {
        if epoch < self.epoch {
            return Err(self.other_epoch());
        }
        if epoch > self.epoch {
            (self.epoch, self.keepers) = (epoch, keepers);
        }
        Ok(())
    }

    /// Q6: what was kept elsewhere comes before the first vote, or not at all.
    pub(super) fn restore_all(
        &mut self,
        epoch: Epoch,
        registers: Vec<RegisterDump>,
    ) -> Result<(), Refusal> {
        self.check_epoch(epoch)?;
        if !self.votes {
            registers.into_iter().for_each(|register| self.restore(register));
        }
        Ok(())
    }

    pub(super) fn activate(&mut self, epoch: Epoch) -> Result<(), Refusal> {
        self.check_epoch(epoch)?;
        self.votes = true;
        Ok(())
    }

    /// The keeper, if it votes in that epoch.
    pub(super) fn voting(&mut self, epoch: Epoch) -> Result<&mut Self, Refusal> {
        if !self.votes {
            return Err(Refusal::NotKeeper);
        }
        self.check_epoch(epoch)?;
        Ok(self)
    }

    fn check_epoch(&self, epoch: Epoch) -> Result<(), Refusal> {
        if epoch == self.epoch { Ok(()) } else { Err(self.other_epoch()) }
    }

    fn other_epoch(&self) -> Refusal {
        Refusal::Epoch { epoch: self.epoch, keepers: self.keepers.clone() }
    }

    pub(super) fn prepare(&mut self, name: String, ballot: Ballot) -> Result<Promise, Refusal> {
        let promised = self.promised(&name);
        if promised >= ballot {
            return Err(Refusal::Ballot { promised });
        }
        let register = self.registers.entry(name).or_default();
        register.promised = ballot;
        Ok(Promise { accepted: register.accepted.clone() })
    }

    pub(super) fn accept(&mut self, accept: Accept) -> Result<(), Refusal> {
        let promised = self.promised(&accept.name);
        if promised > accept.ballot {
            return Err(Refusal::Ballot { promised });
        }
        let register = self.registers.entry(accept.name.clone()).or_default();
        register.promised = accept.ballot;
        self.take(accept.name, (accept.ballot, accept.value), accept.index);
        Ok(())
    }

    fn promised(&self, name: &str) -> Ballot {
        self.registers.get(name).map(|register| register.promised).unwrap_or_default()
    }

    fn restore(&mut self, dump: RegisterDump) {
        let register = self.registers.entry(dump.name.clone()).or_default();
        register.promised = register.promised.max(dump.promised);
        let held = register.accepted.as_ref().map(|(ballot, _)| *ballot);
        if let Some((ballot, value)) = dump.accepted
            && held.is_none_or(|held| held < ballot)
        {
            self.take(dump.name, (ballot, value), dump.index);
        }
    }

    /// One change: the value, its place in the index, its place in the log of changes.
    fn take(&mut self, name: String, accepted: (Ballot, Bytes), index: Option<Index>) {
        if let Some(index) = &index {
            let names = self.listed.entry(index.project.clone()).or_default();
            if index.listed {
                names.insert(index.queue.clone());
            } else {
                names.remove(&index.queue);
                if names.is_empty() {
                    self.listed.remove(&index.project);
                }
            }
        }
        self.counter += 1;
        let register = self.registers.entry(name.clone()).or_default();
        register.accepted = Some(accepted);
        register.index = index.or(register.index.take());
        self.changes.remove(&register.changed);
        register.changed = self.counter;
        self.changes.insert(self.counter, name);
    }

    pub(super) fn read(&self, names: &[String]) -> Registers {
        let accepted = |name: &String| self.registers.get(name)?.accepted.clone();
        Registers { each: names.iter().map(accepted).collect() }
    }

    pub(super) fn list(&self, project: &str, after: &str, limit: u32) -> Names {
        let after = (Bound::Excluded(after), Bound::Unbounded::<&str>);
        let listed =
            self.listed.get(project).into_iter().flat_map(|names| names.range::<str, _>(after));
        Names { names: listed.take(at_least_one(limit)).cloned().collect() }
    }

    pub(super) fn changes_since(&self, since: u64, limit: u32) -> Changes {
        let since = if since > self.counter { 0 } else { since };
        let mut after = self.changes.range((Bound::Excluded(since), Bound::Unbounded));
        let told: Vec<_> = after.by_ref().take(at_least_one(limit)).collect();
        let complete = after.next().is_none();
        let upto = match told.last() {
            Some((last, _)) if !complete => **last,
            _ => self.counter,
        };
        Changes { upto, names: told.into_iter().map(|(_, name)| name.clone()).collect(), complete }
    }

    pub(super) fn dump(&self, after: String, limit: u32) -> Dump {
        let mut rest = self.registers.range((Bound::Excluded(after), Bound::Unbounded));
        let registers = rest
            .by_ref()
            .take(at_least_one(limit))
            .map(|(name, register)| RegisterDump {
                name: name.clone(),
                promised: register.promised,
                accepted: register.accepted.clone(),
                index: register.index.clone(),
            })
            .collect();
        Dump { registers, done: rest.next().is_none() }
    }
}

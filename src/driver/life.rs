//! A queue's life: creation, metadata, deletion, and the list of queues.

use std::sync::Arc;

use tokio::time::Instant;

use super::ask::{ask_all, unavailable};
use super::manifests::not_found;
use super::{Core, QueueState, locked};
use crate::error::Error;
use crate::id::ReplicaAt;
use crate::name::{Project, QueueName};
use crate::node::{Coverage, Op};
use crate::protocol::manifest::{Manifest, Standing};
use crate::queue::Metadata;

impl Core {
    /// Creates the queue; `false` if it exists.
    pub(crate) async fn create(
        &self,
        queue: &QueueState,
        metadata: &Metadata,
    ) -> Result<bool, Error> {
        self.open_or_error()?;
        if self.manifests.read(queue).await?.is_some() {
            return Ok(false);
        }
        let (_, created) = self
            .manifests
            .change_any(queue, |present| {
                Ok(match present {
                    Some(manifest) if manifest.alive => (manifest, false),
                    before => (Manifest::created(metadata.as_bytes(), before.as_ref()), true),
                })
            })
            .await?;
        Ok(created)
    }

    /// The queue's metadata.
    pub(crate) async fn metadata(&self, queue: &QueueState) -> Result<Metadata, Error> {
        self.open_or_error()?;
        let manifest = self.manifests.read(queue).await?.ok_or_else(|| not_found(queue))?;
        Metadata::new(manifest.metadata.clone())
    }

    /// Changes the metadata in one step.
    pub(crate) async fn update_metadata(
        &self,
        queue: &QueueState,
        mut change: impl FnMut(&Metadata) -> Result<Metadata, Error> + Send,
    ) -> Result<Metadata, Error> {
        self.open_or_error()?;
        let (manifest, _) = self
            .manifests
            .change_any(queue, |present| {
                let mut manifest =
                    present.filter(|manifest| manifest.alive).ok_or_else(|| not_found(queue))?;
                let new = change(&Metadata::new(manifest.metadata.clone())?)?;
                let changed =
                    new.as_bytes() != manifest.metadata && manifest.set_metadata(new.as_bytes());
                Ok((manifest, changed))
            })
            .await?;
        Metadata::new(manifest.metadata.clone())
    }

    /// Deletes the queue with all its messages; `false` if there was none.
    pub(crate) async fn delete_queue(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
    ) -> Result<bool, Error> {
        self.open_or_error()?;
        let deadline = Instant::now() + self.pool.config().deadline;
        loop {
            let Some(manifest) = self.manifests.read(queue).await? else { return Ok(false) };
            let open = manifest.open_segment().map(|segment| segment.no);
            self.seal_one(queue, &manifest, deadline).await?;
            let (_, deleted) = self
                .manifests
                .change_any(queue, |present| {
                    let Some(mut now) = present.filter(|now| now.alive) else {
                        return Ok(((*manifest).clone(), false));
                    };
                    // A segment opened since then would go on taking posts.
                    let same = now.generation == manifest.generation
                        && now.open_segment().map(|segment| segment.no) == open;
                    let deleted = same && now.delete();
                    Ok((now, deleted))
                })
                .await?;
            if deleted {
                locked(&queue.told_lost).clear();
                let pool = self.pool.id();
                let replicas = manifest.segments.iter().flat_map(|segment| &segment.replicas);
                self.wipe(replicas.map(|replica| replica.at(pool)).collect());
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Err(unavailable(&queue.name, "its segments change too fast", &[]));
            }
        }
    }

    /// Seals one replica of the open segment: enough to stop further acks.
    async fn seal_one(
        &self,
        queue: &QueueState,
        manifest: &Manifest,
        deadline: Instant,
    ) -> Result<(), Error> {
        let Some(open) = manifest.open_segment() else { return Ok(()) };
        let replicas: Vec<ReplicaAt> = self.addresses(open, Standing::Full);
        loop {
            let seals = replicas
                .iter()
                .map(|at| (at.cookie.node, Op::Seal { at: *at, by: self.pool.me() }))
                .collect();
            let answers = ask_all::<Coverage>(&self.pool, seals).await;
            let lost = replicas.iter().all(|at| self.pool.is_lost(at.cookie));
            if lost || answers.iter().any(Result::is_ok) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let failures: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
                return Err(unavailable(
                    &queue.name,
                    "no replica of the open segment answers",
                    &failures,
                ));
            }
            tokio::time::sleep(self.pool.config().suspect_after).await;
        }
    }

    /// A page of a project's queues with their metadata, by name.
    pub(crate) async fn queues(
        &self,
        project: &Project,
        after: Option<&QueueName>,
        limit: usize,
    ) -> Result<Vec<(QueueName, Metadata)>, Error> {
        self.open_or_error()?;
        let mut page = Vec::new();
        let mut after = after.map_or(String::new(), |name| name.as_str().to_owned());
        while page.len() < limit {
            let names =
                self.pool.registers().names(project.as_str(), &after, limit - page.len()).await?;
            let Some(last) = names.last() else { break };
            after.clone_from(last);
            let names: Vec<QueueName> =
                names.iter().filter_map(|name| QueueName::new(name).ok()).collect();
            let queues: Vec<_> = names.iter().map(|name| self.queue(project, name)).collect();
            // A keeper that missed a deletion still names the queue: the register decides.
            let reads = queues.iter().map(|queue| self.manifests.get(queue));
            let manifests = futures_util::future::join_all(reads).await;
            for (name, manifest) in names.into_iter().zip(manifests) {
                if let Some(manifest) = manifest? {
                    page.push((name, Metadata::new(manifest.metadata.clone())?));
                }
            }
        }
        Ok(page)
    }
}

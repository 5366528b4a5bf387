//! Roundelay as a library, on Redis servers or on nodes in memory.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use roundelay::{
    ClaimOptions, ContentType, DeleteWhere, ListOptions, Metadata, NewMessage, Project, Queue,
    QueueName, Store, StoreBuilder,
};

use super::COPIES;
use crate::redis_server::RedisServer;
use crate::target::{Answer, Cursor, Op, Page, Post, Target};

pub(crate) struct Roundelay {
    servers: Vec<RedisServer>,
    store: Store,
    queues: Vec<Queue>,
}

impl Roundelay {
    pub(crate) async fn on_redis(queues: usize) -> Result<Self, String> {
        let mut servers = Vec::new();
        let mut builder = Store::builder();
        for _ in 0..COPIES {
            let server = RedisServer::start().await;
            builder = builder.node(server.url());
            servers.push(server);
        }
        Self::open(servers, builder, queues).await.map_err(|error| error.to_string())
    }

    pub(crate) async fn embedded(queues: usize) -> Result<Self, String> {
        let builder = Store::builder().embedded(COPIES);
        Self::open(Vec::new(), builder, queues).await.map_err(|error| error.to_string())
    }

    async fn open(
        servers: Vec<RedisServer>,
        builder: StoreBuilder,
        count: usize,
    ) -> Result<Self, roundelay::Error> {
        let store = builder.open().await?;
        let mut queues = Vec::new();
        for number in 0..count {
            let name = QueueName::new(&format!("q{number}"))?;
            let queue = store.queue(&Project::new("load")?, &name);
            queue.create(&Metadata::default()).await?;
            queues.push(queue);
        }
        Ok(Self { servers, store, queues })
    }

    fn queue(&self, queue: usize) -> Result<&Queue, String> {
        self.queues.get(queue).ok_or_else(|| "no such queue".into())
    }
}

async fn post(queue: &Queue, post: Post) -> Result<(), roundelay::Error> {
    let messages: Result<Vec<NewMessage>, _> = (0..post.messages)
        .map(|_| NewMessage::new(ContentType::Bytes, post.body.clone()))
        .collect();
    queue.post(messages?, None).await.map(drop)
}

async fn list(queue: &Queue, from: Option<Cursor>, limit: usize) -> Result<Page, roundelay::Error> {
    let marker = match from {
        Some(Cursor::Marker(marker)) => Some(marker),
        _ => None,
    };
    let options = ListOptions { marker, limit, ..ListOptions::default() };
    let page = queue.list(&options).await?;
    let bodies = page.messages.into_iter().map(|message| message.body).collect();
    Ok(Page { bodies, cursor: page.marker.map(Cursor::Marker) })
}

async fn take(queue: &Queue, limit: usize) -> Result<usize, roundelay::Error> {
    let options = ClaimOptions { limit, ..ClaimOptions::default() };
    let Some(claim) = queue.claim(&options).await? else { return Ok(0) };
    let ids: Vec<_> = claim.messages.iter().map(|message| message.id).collect();
    queue.delete_messages(&ids, &DeleteWhere::ClaimedBy(vec![claim.id])).await
}

impl Target for Roundelay {
    fn post(&self, given: Post) -> Answer<'_, ()> {
        async move {
            let queue = self.queue(given.queue)?;
            post(queue, given).await.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn list(&self, queue: usize, from: Option<Cursor>, limit: usize) -> Answer<'_, Page> {
        async move {
            let queue = self.queue(queue)?;
            list(queue, from, limit).await.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn take(&self, _by: usize, queue: usize, limit: usize) -> Answer<'_, usize> {
        async move {
            let queue = self.queue(queue)?;
            take(queue, limit).await.map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn offers(&self, _: Op) -> bool {
        true
    }

    fn kill_one(&self) -> Result<(), String> {
        let server = self.servers.first().ok_or("nodes in memory are not killed")?;
        server.kill();
        Ok(())
    }

    fn redis(&self) -> &[RedisServer] {
        &self.servers
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close().boxed()
    }
}

//! The limit of the approach: what waits is gathered, and sent as one native `XADD` a block. No
//! ids, no checks, no claims.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{mpsc, oneshot};

use super::Three;
use super::raw::xadd;
use crate::redis_server::RedisServer;
use crate::target::{Answer, Post, Target};

/// A block's bytes, above which nothing is added.
const FULL: usize = 256 * 1024;

struct Waiting {
    body: Bytes,
    messages: usize,
    done: oneshot::Sender<Result<(), String>>,
}

pub(crate) struct Blob {
    three: Arc<Three>,
    queues: Vec<mpsc::UnboundedSender<Waiting>>,
}

impl Blob {
    pub(crate) async fn start(queues: usize) -> Result<Self, String> {
        let three = Arc::new(Three::start().await?);
        let queues = (0..queues).map(|queue| {
            let (sender, waiting) = mpsc::unbounded_channel();
            tokio::spawn(send(Arc::clone(&three), queue, waiting));
            sender
        });
        Ok(Self { queues: queues.collect(), three })
    }
}

/// Gathers what waits, sends it, and goes on with what came meanwhile.
async fn send(three: Arc<Three>, queue: usize, mut waiting: mpsc::UnboundedReceiver<Waiting>) {
    while let Some(first) = waiting.recv().await {
        let mut block = Vec::new();
        let mut told = Vec::new();
        let mut next = Some(first);
        while let Some(Waiting { body, messages, done }) = next {
            for _ in 0..messages {
                block.extend_from_slice(&body);
            }
            told.push(done);
            next = if block.len() < FULL { waiting.try_recv().ok() } else { None };
        }
        let outcome = three.all(&xadd(queue, &block)).await;
        for done in told {
            done.send(outcome.clone()).ok();
        }
    }
}

impl Target for Blob {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        async move {
            let (done, told) = oneshot::channel();
            let queue = self.queues.get(post.queue).ok_or("no such queue")?;
            let waiting = Waiting { body: post.body, messages: post.messages, done };
            queue.send(waiting).map_err(|_| "the sender ended")?;
            told.await.map_err(|_| "the sender ended")?
        }
        .boxed()
    }

    fn redis(&self) -> &[RedisServer] {
        &self.three.servers
    }
}

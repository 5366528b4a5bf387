//! Bytes and nothing else: each call's messages as one string under a fresh key on three servers.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;

use super::Three;
use crate::redis_server::RedisServer;
use crate::target::{Answer, Post, Target};

pub(crate) struct Set {
    three: Three,
    keys: AtomicU64,
}

impl Set {
    pub(crate) async fn start() -> Result<Self, String> {
        Ok(Self { three: Three::start().await?, keys: AtomicU64::new(0) })
    }
}

impl Target for Set {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        async move {
            let key = self.keys.fetch_add(1, Ordering::Relaxed);
            let mut command = redis::cmd("SET");
            command.arg(format!("b:{key}")).arg(post.body.repeat(post.messages));
            self.three.all(&command).await
        }
        .boxed()
    }

    fn redis(&self) -> &[RedisServer] {
        &self.three.servers
    }
}

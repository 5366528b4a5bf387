//! The suite's third environment: a Redis server of each case's own.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use roundelay::node::redis::RedisNode;

use super::env::{Implementation, Pace, Server, Started};
use crate::redis_server::RedisServer;

/// A node on a real server.
pub(crate) struct Redis;

impl Implementation for Redis {
    async fn start() -> Started {
        let server = RedisServer::start().await;
        let node = RedisNode::connect(&server.url()).expect("its own URL");
        Started {
            node: Arc::new(node),
            server: Box::new(server),
            pace: Pace::Real,
            guard: Box::new(()),
        }
    }
}

impl Server for RedisServer {
    fn restart_empty(&self) -> BoxFuture<'_, ()> {
        async {
            self.kill();
            self.start_again().await;
        }
        .boxed()
    }

    fn restart_with_data(&self) -> BoxFuture<'_, ()> {
        async {
            self.save().await;
            self.kill();
            self.start_again().await;
        }
        .boxed()
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        self.flush_all().boxed()
    }

    fn fill_memory(&self, full: bool) -> BoxFuture<'_, ()> {
        // Any server uses more than a byte.
        self.limit_memory(u64::from(full)).boxed()
    }
}

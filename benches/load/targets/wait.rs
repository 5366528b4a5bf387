//! Redis's own replication: one `XADD`, then `WAIT 2` for the two replicas of the server.
//!
//! `WAIT` holds up its connection, so each poster has one of its own.

use std::time::Duration;

use futures_util::FutureExt as _;
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use super::{Slots, connect, free_port, raw};
use crate::redis_server::RedisServer;
use crate::target::{Answer, Post, Target};

const REPLICAS: usize = 2;
const ATTACHED_WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct Wait {
    /// The master first.
    servers: Vec<RedisServer>,
    connections: Slots<MultiplexedConnection>,
}

impl Wait {
    pub(crate) async fn start() -> Result<Self, String> {
        let port = free_port()?.to_string();
        // Without a pause for further replicas, which the first copy waits for by default.
        let options = ["--port", &port, "--repl-diskless-sync-delay", "0"];
        let mut servers = vec![RedisServer::start_with(&options).await];
        for _ in 0..REPLICAS {
            let master = format!("127.0.0.1 {port}");
            servers.push(RedisServer::start_with(&["--replicaof", &master]).await);
        }
        let deadline = Instant::now() + ATTACHED_WITHIN;
        for replica in servers.iter().skip(1) {
            while !is_attached(replica).await {
                if Instant::now() >= deadline {
                    return Err("a replica did not attach".into());
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(Self { servers, connections: Slots::default() })
    }

    async fn connection(&self, by: usize) -> Result<MultiplexedConnection, String> {
        let make = async || connect(&self.servers.first().ok_or("no master")?.url()).await;
        self.connections.get(by, make).await.map(|open| (*open).clone())
    }
}

async fn is_attached(replica: &RedisServer) -> bool {
    let info: String = replica.run(&["INFO", "replication"]).await;
    info.contains("master_link_status:up")
}

impl Target for Wait {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        async move {
            let mut connection = self.connection(post.by).await?;
            let mut pipe = redis::pipe();
            for _ in 0..post.messages {
                pipe.add_command(raw::xadd(post.queue, &post.body)).ignore();
            }
            pipe.cmd("WAIT").arg(REPLICAS).arg(0);
            let (copies,): (usize,) =
                pipe.query_async(&mut connection).await.map_err(|error| error.to_string())?;
            if copies < REPLICAS {
                return Err(format!("{copies} replicas have it"));
            }
            Ok(())
        }
        .boxed()
    }

    fn redis(&self) -> &[RedisServer] {
        &self.servers
    }
}

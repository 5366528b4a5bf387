//! Row 8: what a message of 100 bytes needs on one server above its body.
//!
//! Two measures. Messages that are posted through the library: all keys of one of three servers, as
//! that server counts them, less the bodies. And one replica alone, with what the tests know of it
//! too: after deletes, empty, posted one by one.

use std::time::Duration;

use futures_util::future::try_join_all;
use roundelay::{
    ClaimOptions, ContentType, Error, Metadata, NewMessage, Project, Queue, QueueName, Store,
};
use serde_json::json;

use super::{Bound, Line, Outcome};
use crate::progress::Progress;
use crate::redis_server::RedisServer;
use crate::replica_space;
use crate::run::Settings;
use crate::target::Kind;

pub(super) const TURNS: usize = 3;
const MESSAGES: usize = 200_000;
const BODY: usize = 100;
const IN_A_POST: usize = 100;
const IN_A_CLAIM: usize = 20;
const CALLERS: usize = 8;
/// Blocks of the replica that is weighed alone.
const BLOCKS: usize = 2_000;

/// Bytes of all keys, with their places in the table of keys.
const SUM: &str = "local sum, cursor = 0, '0'
    repeat
        local page = redis.call('SCAN', cursor, 'COUNT', 1000)
        cursor = page[1]
        for _, key in ipairs(page[2]) do
            sum = sum + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) + 16
        end
    until cursor == '0'
    return sum";

pub(super) async fn run(settings: &Settings, progress: &Progress) -> Result<Outcome, String> {
    if let Some(missing) = Kind::Redis.missing() {
        return Err(missing);
    }
    let posts = (MESSAGES / IN_A_POST / settings.scale).max(CALLERS);
    progress.say("memory: posting");
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(RedisServer::start().await);
    }
    let (posted, claimed) = weigh(&servers, posts, progress).await?;
    progress.say("memory: one replica");
    let blocks = u32::try_from(BLOCKS / settings.scale).unwrap_or(1).max(20);
    let replica = replica_space::measure(blocks).await;
    progress.step();

    let title = format!(
        "memory of one copy: {} messages of {BODY} B, {IN_A_POST} a call",
        posts * IN_A_POST
    );
    let mut outcome = Outcome::new(8, &title);
    let line = |what: &str, found, bound| Line { what: what.into(), found: Ok(found), bound };
    outcome.lines = vec![
        line("B over a body, batches", posted, Bound::at_most(40.0, Some(20.0))),
        line("the same, claimed by 20", claimed, None),
    ];
    outcome.detail = format!(
        "  one replica alone, {blocks} blocks of 100 envelopes of 100 B; bytes above the envelope:\n  \
         posted {:.1}, claimed by 20 {:.1}, posted one by one {:.1}\n  \
         90 % deleted at random, times what the rest needs: {:.2}\n  \
         all deleted, bytes a block until the segment leaves: {:.1}\n  \
         an idle open replica, bytes: {:.0}\n",
        replica.posted,
        replica.claimed,
        replica.alone,
        replica.after_deletes,
        replica.stub,
        replica.idle
    );
    outcome.json = json!({
        "posted": posted,
        "claimed": claimed,
        "replica": {
            "posted": replica.posted, "claimed": replica.claimed, "alone": replica.alone,
            "after_deletes": replica.after_deletes, "stub": replica.stub, "idle": replica.idle,
        },
    });
    Ok(outcome)
}

/// Bytes a message above its body: posted, and claimed.
async fn weigh(
    servers: &[RedisServer],
    posts: usize,
    progress: &Progress,
) -> Result<(f64, f64), String> {
    let told = |error: Error| error.to_string();
    let mut builder = Store::builder();
    for server in servers {
        builder = builder.node(server.url());
    }
    let store = builder.open().await.map_err(told)?;
    let project = Project::new("load").map_err(told)?;
    let queue = store.queue(&project, &QueueName::new("q").map_err(told)?);
    queue.create(&Metadata::default()).await.map_err(told)?;
    try_join_all((0..CALLERS).map(|by| fill(&queue, (by..posts).step_by(CALLERS).count())))
        .await
        .map_err(told)?;
    progress.step();
    let server = servers.first().ok_or("no server")?;
    let messages = (posts * IN_A_POST) as f64;
    let weight = async || {
        let bytes: u64 = server.run(&["EVAL", SUM, "0"]).await;
        bytes as f64 / messages - BODY as f64
    };
    let posted = weight().await;
    progress.say("memory: claiming");
    let held = try_join_all((0..CALLERS).map(|_| claim(&queue))).await.map_err(told)?;
    let held: usize = held.into_iter().sum();
    if held != posts * IN_A_POST {
        return Err(format!("{held} of {messages} messages could be claimed"));
    }
    let claimed = weight().await;
    progress.step();
    store.close().await;
    Ok((posted, claimed))
}

async fn fill(queue: &Queue, posts: usize) -> Result<(), Error> {
    let message = NewMessage::new(ContentType::Bytes, vec![b'x'; BODY])?;
    for _ in 0..posts {
        queue.post(vec![message.clone(); IN_A_POST], None).await?;
    }
    Ok(())
}

/// Claims until there is nothing left; how many messages it holds.
async fn claim(queue: &Queue) -> Result<usize, Error> {
    let (limit, ttl) = (IN_A_CLAIM, Duration::from_secs(3600));
    let options = ClaimOptions { limit, ttl, ..ClaimOptions::default() };
    let mut held = 0;
    while let Some(claim) = queue.claim(&options).await? {
        held += claim.messages.len();
    }
    Ok(held)
}

//! What a program would do by itself: one `XADD` a message to each of three servers, at once.

use bytes::Bytes;
use futures_util::FutureExt as _;
use redis::Value;

use super::Three;
use crate::redis_server::RedisServer;
use crate::target::{Answer, Cursor, Op, Page, Post, Target};

/// Entries that a stream keeps, about: above the backlog of lists, so that these lose nothing.
const KEPT: usize = 100_000;

pub(crate) struct Raw {
    three: Three,
}

impl Raw {
    pub(crate) async fn start() -> Result<Self, String> {
        Ok(Self { three: Three::start().await? })
    }
}

pub(super) fn xadd(queue: usize, body: &[u8]) -> redis::Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(format!("q:{queue}")).arg("MAXLEN").arg("~").arg(KEPT).arg("*");
    command.arg("m").arg(body);
    command
}

impl Target for Raw {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        async move {
            if post.messages == 1 {
                return self.three.all(&xadd(post.queue, &post.body)).await;
            }
            let mut pipe = redis::pipe();
            for _ in 0..post.messages {
                pipe.add_command(xadd(post.queue, &post.body));
            }
            self.three.all_of(&pipe).await
        }
        .boxed()
    }

    fn list(&self, queue: usize, from: Option<Cursor>, limit: usize) -> Answer<'_, Page> {
        async move {
            let start = match &from {
                Some(Cursor::Id(id)) => format!("({id}"),
                _ => "-".into(),
            };
            let mut command = redis::cmd("XRANGE");
            command.arg(format!("q:{queue}")).arg(start).arg("+").arg("COUNT").arg(limit);
            page(self.three.ask(&command).await?, from).ok_or_else(|| "no page".into())
        }
        .boxed()
    }

    fn offers(&self, op: Op) -> bool {
        matches!(op, Op::Post | Op::List)
    }

    fn redis(&self) -> &[RedisServer] {
        &self.three.servers
    }
}

/// The answer to `XRANGE`: ids, each with its fields.
fn page(answer: Value, from: Option<Cursor>) -> Option<Page> {
    let Value::Array(entries) = answer else { return None };
    let mut page = Page { bodies: Vec::with_capacity(entries.len()), cursor: from };
    let mut last = None;
    for entry in entries {
        let Value::Array(parts) = entry else { return None };
        let mut parts = parts.into_iter();
        last = parts.next();
        let Some(Value::Array(fields)) = parts.next() else { return None };
        let Some(Value::BulkString(body)) = fields.into_iter().nth(1) else { return None };
        page.bodies.push(Bytes::from(body));
    }
    if let Some(Value::BulkString(id)) = last {
        page.cursor = Some(Cursor::Id(String::from_utf8(id).ok()?));
    }
    Some(page)
}

//! `GET /v2/health`: whether the storage answers, how the pool does, and whether each kind of call
//! works, tried on a queue made for it.
//!
//! It is for people and for monitoring, not for load balancers: it posts and deletes messages.
//! `/v2/ping` asks for little.

use std::time::Duration;

use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::timeout;
use uuid::Uuid;

use super::json;
use super::routes::Call;
use crate::time::Clock;
use crate::{
    ClaimOptions, DeleteWhere, Error, ListOptions, Metadata, NewMessage, Project, Queue, QueueName,
};

/// Messages that are posted for it.
const MESSAGES: usize = 100;
/// How long the look at all queues may take.
const LOOKING: Duration = Duration::from_secs(10);
/// Messages taken at once.
const SOME: usize = 10;
/// The project of the queues: no header can name it, since it has a line's end.
const PROJECT: &str = "roundelay\nhealth";

#[derive(Serialize)]
struct Health {
    storage_reachable: bool,
    pool: Option<OfPool>,
    operation_status: Map<String, Value>,
}

/// How the nodes and the copies do.
#[derive(Serialize)]
struct OfPool {
    healthy: bool,
    troubles: Vec<String>,
    repairer: Option<String>,
    repairs: bool,
    segments_under_replicated: u64,
    segments_lost: u64,
}

/// What became of one call.
#[derive(Serialize)]
struct Tried {
    succeeded: bool,
    seconds: f64,
    /// Names the failure in the service's log.
    r#ref: Option<String>,
}

/// Calls that are tried, one after the other.
struct Trial {
    clock: Clock,
    tried: Map<String, Value>,
}

impl Trial {
    /// Notes how long a call took and whether it failed; `None` if it did.
    async fn step<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Option<T> {
        let start = self.clock.now_ms();
        let result = work.await;
        let took = Duration::from_millis(self.clock.now_ms().saturating_sub(start));
        let reference = result.as_ref().err().map(|error| {
            let reference = Uuid::new_v4().to_string();
            tracing::warn!(%reference, operation = name, %error, "health check failed");
            reference
        });
        let tried =
            Tried { succeeded: result.is_ok(), seconds: took.as_secs_f64(), r#ref: reference };
        // Three plain fields can always be written.
        self.tried.insert(name.to_owned(), serde_json::to_value(tried).unwrap_or_default());
        result.ok()
    }

    /// Every kind of call once.
    async fn run(mut self, queue: Queue) -> Map<String, Value> {
        self.step("create_queue", queue.create(&Metadata::default())).await;
        let posted = self.step("post_messages", async { queue.post(messages()?, None).await });
        let ids = posted.await.unwrap_or_default();
        let minute = Duration::from_secs(60);
        let options = ClaimOptions { ttl: minute, grace: minute, limit: SOME };
        let claim = self.step("claim_messages", queue.claim(&options)).await.flatten();
        self.step("list_messages", queue.list(&ListOptions::default())).await;
        let delete_first = async {
            let Some(claim) = &claim else { return Ok(false) };
            let Some(first) = claim.messages.first() else { return Ok(false) };
            queue.delete_message(&first.id, Some(&claim.id)).await
        };
        self.step("delete_messages", delete_first).await;
        let release = async {
            match &claim {
                Some(claim) => queue.release(&claim.id).await,
                None => Ok(()),
            }
        };
        self.step("delete_claim", release).await;
        let all = queue.delete_messages(&ids, &DeleteWhere::Any);
        self.step("bulk_delete_messages", all).await;
        self.step("delete_queue", queue.delete()).await;
        self.tried
    }
}

fn messages() -> Result<Vec<NewMessage>, Error> {
    (0..MESSAGES)
        .map(|number| NewMessage::json(&Value::from(number))?.with_ttl(Duration::from_secs(60)))
        .collect()
}

/// Always 200: what does not work is told in the answer.
pub(super) async fn show(call: &Call) -> Response {
    let storage_reachable = call.store().ping().await.is_ok();
    let trial = Trial { clock: call.service.clock.clone(), tried: Map::new() };
    let mut tried = Map::new();
    let name = QueueName::new(&Uuid::new_v4().simple().to_string());
    if let (Ok(project), Ok(name)) = (Project::new(PROJECT), name) {
        let queue = call.store().queue(&project, &name);
        // A task of its own, bounded as its calls are: a client that goes away leaves no queue behind.
        match tokio::spawn(trial.run(queue)).await {
            Ok(all) => tried = all,
            Err(error) => tracing::error!(%error, "the health check did not end"),
        }
    }
    let pool = match timeout(LOOKING, call.store().admin().health()).await {
        Ok(Ok(health)) => Some(OfPool {
            healthy: health.healthy,
            troubles: health.troubles,
            repairer: health.repairer,
            repairs: call.store().status().repairs,
            segments_under_replicated: health.segments_under_replicated,
            segments_lost: health.segments_lost,
        }),
        Ok(Err(error)) => {
            tracing::warn!(%error, "how the pool does cannot be told");
            None
        }
        Err(_) => None,
    };
    json::ok(&Health { storage_reachable, pool, operation_status: tried })
}

//! A queue inside one program: three nodes in its own memory, no server needed.
//!
//! `cargo run --example embedded`

use std::error::Error;
use std::time::Duration;

use roundelay::{ClaimOptions, ListOptions, Metadata, NewMessage, Project, QueueName, Store};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // With real servers: `.node("redis://10.0.0.1")` three times instead.
    let store = Store::builder().embedded(3).open().await?;
    let queue = store.queue(&Project::new("")?, &QueueName::new("jobs")?);
    queue.create(&Metadata::default()).await?;

    // When `post` returns, each message is on three nodes.
    let messages = (1..=3)
        .map(|number| NewMessage::json(&json!({ "job": number })))
        .collect::<Result<Vec<_>, _>>()?;
    for id in queue.post(messages, None).await? {
        println!("posted {id}");
    }

    // Reading takes nothing away; from the marker on one would see what is posted later.
    let page = queue.list(&ListOptions::default()).await?;
    for message in &page.messages {
        println!("listed {}", String::from_utf8_lossy(&message.body));
    }

    // Claimed messages are nobody else's for a minute; deleting one says that it is done.
    let minute = Duration::from_secs(60);
    let options = ClaimOptions { ttl: minute, grace: minute, limit: 2 };
    if let Some(claim) = queue.claim(&options).await? {
        for message in &claim.messages {
            queue.delete_message(&message.id, Some(&claim.id)).await?;
            println!("done {}", String::from_utf8_lossy(&message.body));
        }
    }
    println!("left {}", queue.stats().await?.total());
    store.close().await;
    Ok(())
}

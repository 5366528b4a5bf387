//! The Zaqar v2 service within a program of one's own, beside its own routes.
//!
//! `cargo run --example service`, then in another terminal:
//!
//! ```sh
//! curl -i localhost:8888/about
//! curl -i localhost:8888/v2/queues/jobs/messages \
//!   -H 'Client-ID: 3381af92-2b9e-11e3-b191-71861300734c' -H 'X-Project-Id: demo' \
//!   -H 'Content-Type: application/json' -d '{"messages": [{"body": "hello"}]}'
//! ```

use std::error::Error;

use axum::routing::get;
use roundelay::Store;
use roundelay::http::{self, Connections, ServiceOptions};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = Store::builder().embedded(3).open().await?;
    let mut options = ServiceOptions::default();
    options.max_messages_per_page = 100;
    let router = http::router(store.clone(), options).route("/about", get(|| async { "mine\n" }));

    let listener = TcpListener::bind("127.0.0.1:8888").await?;
    println!("listening on http://{}", listener.local_addr()?);
    // Any future can end it: here Ctrl-C.
    let shutdown = async { drop(tokio::signal::ctrl_c().await) };
    http::serve(listener, router, Connections::default(), shutdown).await?;
    store.close().await;
    Ok(())
}

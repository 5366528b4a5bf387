//! What monitoring sees.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use roundelay::Store;
use roundelay::http::{Gate, Metrics, ServiceOptions, guarded_router};
use serde_json::json;
use tower::ServiceExt;

use crate::{Api, CLIENT};

async fn scrape(metrics: &Metrics) -> String {
    let request = Request::builder().uri("/metrics").body(Body::empty()).unwrap();
    let response = metrics.router().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The value of a line that starts so.
#[track_caller]
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn requests_are_counted_by_route_method_and_status() {
    let store = Store::builder().embedded(3).open().await.unwrap();
    let metrics = Metrics::new(store.clone());
    let router =
        guarded_router(store.clone(), ServiceOptions::default(), Gate::open(), metrics.clone());
    let headers = vec![("client-id", CLIENT.into()), ("x-project-id", "p".into())];
    let api = Api { store, router, headers };
    api.post_numbers("zebra", 0..1).await;
    api.post_numbers("okapi", 0..1).await;
    api.get("/v2/queues/zebra/messages/none").await.is(404);
    api.get("/v2/nowhere").await.is(404);
    api.send("FROB", "/v2/ping", "").await.is(405);
    api.post("/v2/queues/zebra/messages", json!({})).await.is(400);

    let text = scrape(&metrics).await;
    let posts = "route=\"/v2/queues/{queue}/messages\",method=\"POST\"";
    for (labels, count) in [
        (format!("{posts},status=\"201\""), 2.0),
        (format!("{posts},status=\"400\""), 1.0),
        (
            "route=\"/v2/queues/{queue}/messages/{message}\",method=\"GET\",status=\"404\"".into(),
            1.0,
        ),
        ("route=\"unknown\",method=\"GET\",status=\"404\"".into(), 1.0),
        ("route=\"/v2/ping\",method=\"other\",status=\"405\"".into(), 1.0),
    ] {
        assert_eq!(value(&text, &format!("roundelay_http_requests_total{{{labels}}}")), count);
    }
    let times = format!("roundelay_http_request_duration_seconds_count{{{posts}}}");
    assert_eq!(value(&text, &times), 3.0);
    assert_eq!(value(&text, "roundelay_http_requests_in_flight "), 0.0);
    assert_eq!(value(&text, "roundelay_node_up{node=\"embedded-1\"}"), 1.0);
    assert!(value(&text, "roundelay_keeper_epoch ") >= 1.0);
    assert!(text.ends_with("# EOF\n"));
    // Neither queues nor projects are named: there may be any number of them.
    assert!(!text.contains("zebra") && !text.contains("okapi"), "{text}");
}

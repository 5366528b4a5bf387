//! What monitoring sees.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use roundelay::Store;
use roundelay::http::{Gate, Metrics, ServiceOptions, guarded_router};
use serde_json::json;
use tower::ServiceExt;

use crate::{Api, CLIENT, id_of};

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

/// A service and what its monitoring sees.
async fn monitored() -> (Api, Metrics) {
    let store = Store::builder().embedded(3).open().await.unwrap();
    let metrics = Metrics::new(store.clone());
    let router =
        guarded_router(store.clone(), ServiceOptions::default(), Gate::open(), metrics.clone());
    let headers = vec![("client-id", CLIENT.into()), ("x-project-id", "p".into())];
    (Api { store, router, headers }, metrics)
}

/// A metric's type and labels, by its name with the unit and without what samples add.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

fn exposed(text: &str) -> Described {
    let mut all = Described::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            all.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (sample, labels) = line.split_once('{').unwrap_or((line, ""));
            // Values may have braces too.
            let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels);
            let keys = labels.split("\",").filter_map(|label| label.split_once('=')).map(|l| l.0);
            let keys: BTreeSet<_> = keys.filter(|key| *key != "le").map(str::to_owned).collect();
            let sample = sample.split(' ').next().unwrap();
            let suffixes = ["_total", "_sum", "_count", "_bucket", ""];
            let mut names = suffixes.iter().filter_map(|suffix| sample.strip_suffix(suffix));
            let name = names.find(|name| all.contains_key(*name)).unwrap();
            all.get_mut(name).unwrap().1.extend(keys);
        }
    }
    all
}

fn documented() -> Described {
    let page = include_str!("../../specs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `roundelay_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [name, kind, unit, labels, meaning, _] = cells[..] else { panic!("{row}") };
        assert!(!meaning.is_empty(), "{row}");
        let name = format!("roundelay_{}", name.trim_end_matches('`'));
        let name = match kind {
            "counter" => name.strip_suffix("_total").unwrap_or_else(|| panic!("{row}")),
            _ => &name,
        };
        assert!(name.ends_with(unit), "{row}");
        let labels = labels.split(", ").filter(|label| !label.is_empty());
        (name.to_owned(), (kind.to_owned(), labels.map(str::to_owned).collect()))
    })
    .collect()
}

#[tokio::test]
async fn what_is_documented_is_exposed_and_the_other_way_round() {
    let (api, metrics) = monitored().await;
    api.post_numbers("q", 0..1).await;
    api.get("/v2/queues/q/messages?wait=1&echo=true").await.is(200);
    let (documented, exposed) = (documented(), exposed(&scrape(&metrics).await));
    for (name, of) in &documented {
        assert_eq!(exposed.get(name), Some(of), "{name} is documented so");
    }
    for name in exposed.keys() {
        assert!(documented.contains_key(name), "{name} is exposed, and not documented");
    }
}

#[tokio::test(start_paused = true)]
async fn what_requests_wait_is_told_apart_from_how_long_others_take() {
    let (api, metrics) = monitored().await;
    let path = "/v2/queues/q/messages";
    api.get(path).await.is(200);
    api.get(&format!("{path}?wait=0")).await.is(200);
    api.get(&format!("{path}?wait=20")).await.is(200);
    api.post("/v2/queues/q/claims?wait=10", json!({})).await.is(204);
    let text = scrape(&metrics).await;
    let told = |name: &str, what: &str, labels: &str| {
        value(&text, &format!("roundelay_http_{name}_duration_seconds_{what}{{{labels}}}"))
    };
    let list = "route=\"/v2/queues/{queue}/messages\",method=\"GET\"";
    assert_eq!(told("request", "count", list), 2.0);
    assert!(told("request", "sum", list) < 5.0, "{text}");
    assert_eq!(told("wait", "count", list), 1.0);
    assert!((20.0..21.0).contains(&told("wait", "sum", list)), "{text}");
    let claim = "route=\"/v2/queues/{queue}/claims\",method=\"POST\"";
    assert!((10.0..11.0).contains(&told("wait", "sum", claim)), "{text}");
    assert!(!text.contains(&format!("request_duration_seconds_count{{{claim}")), "{text}");
}

#[tokio::test(start_paused = true)]
async fn work_and_messages_are_counted() {
    let (api, metrics) = monitored().await;
    let mut paths = api.post_numbers("q", 0..2).await;
    tokio::time::advance(std::time::Duration::from_secs(5)).await;
    paths.extend(api.post_numbers("q", 2..5).await);
    let delayed = json!({"messages": [{"body": 1, "delay": 900}]});
    api.post("/v2/queues/q/messages", delayed).await.is(201);
    api.post("/v2/queues/q/claims?limit=2", json!({"ttl": 60})).await.is(201);
    api.delete(&paths[4]).await.is(204);
    tokio::time::advance(std::time::Duration::from_secs(7)).await;
    let text = scrape(&metrics).await;
    for (name, wanted) in [
        ("roundelay_acked_messages_total ", 6.0),
        ("roundelay_acked_blocks_total ", 3.0),
        ("roundelay_resent_blocks_total ", 0.0),
        ("roundelay_claim_conflicts_total ", 0.0),
        ("roundelay_messages{state=\"active\"} ", 2.0),
        ("roundelay_messages{state=\"claimed\"} ", 2.0),
        ("roundelay_messages{state=\"delayed\"} ", 1.0),
        ("roundelay_segments{state=\"closed\"} ", 1.0),
        ("roundelay_segments{state=\"lost\"} ", 0.0),
        ("roundelay_under_replicated_segments ", 0.0),
        ("roundelay_uncounted_segments ", 0.0),
        ("roundelay_segment_changes_total{change=\"sealed\"} ", 1.0),
        ("roundelay_segment_changes_total{change=\"lost\"} ", 0.0),
    ] {
        assert_eq!(value(&text, name), wanted, "{name}: {text}");
    }
    assert!(value(&text, "roundelay_acked_bytes_total ") > 6.0, "{text}");
    // All have the same length.
    let bytes = |state| value(&text, &format!("roundelay_message_bytes{{state=\"{state}\"}} "));
    assert!(bytes("delayed") > 1.0, "{text}");
    for state in ["active", "claimed"] {
        assert_eq!(bytes(state), 2.0 * bytes("delayed"), "{text}");
    }
    // The first two are claimed: it is the third.
    let age = value(&text, "roundelay_oldest_unclaimed_age_seconds ");
    assert!((7.0..8.0).contains(&age), "{age}");
    for kind in ["append", "read", "claim", "delete", "segment", "register", "identity"] {
        let labels = format!("{{node=\"embedded-1\",kind=\"{kind}\"}}");
        let calls = format!("roundelay_node_call_duration_seconds_count{labels}");
        assert!(value(&text, &calls) >= 1.0, "{calls}: {text}");
        let failures = format!("roundelay_node_call_failures_total{labels}");
        assert_eq!(value(&text, &failures), 0.0, "{text}");
    }
    // A count stands for a while, and then is made anew.
    let ids: Vec<&str> = paths.iter().map(|path| id_of(path)).collect();
    api.delete(&format!("/v2/queues/q/messages?ids={}", ids.join(","))).await.is(204);
    let text = scrape(&metrics).await;
    assert_eq!(value(&text, "roundelay_messages{state=\"active\"} "), 2.0);
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    assert!(value(&scrape(&metrics).await, "roundelay_census_age_seconds ") < 1.0);
    let text = scrape(&metrics).await;
    assert_eq!(value(&text, "roundelay_messages{state=\"active\"} "), 0.0);
    assert_eq!(value(&text, "roundelay_message_bytes{state=\"active\"} "), 0.0);
    assert_eq!(value(&text, "roundelay_oldest_unclaimed_age_seconds "), 0.0);
    // With the queue its segments go.
    api.delete("/v2/queues/q").await.is(204);
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    let text = scrape(&metrics).await;
    let dropped = value(&text, "roundelay_segment_changes_total{change=\"dropped\"} ");
    let opened = value(&text, "roundelay_segment_changes_total{change=\"opened\"} ");
    assert!(opened >= 1.0 && opened == dropped, "{text}");
    for state in ["open", "closed"] {
        assert_eq!(value(&text, &format!("roundelay_segments{{state=\"{state}\"}} ")), 0.0);
    }
}

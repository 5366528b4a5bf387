//! Headers, unknown paths and methods, and which error comes first.

use super::{Api, CLIENT, OTHER_CLIENT, bodies};
use roundelay::http::{ClientIds, ServiceOptions};
use serde_json::json;

#[tokio::test]
async fn the_client_must_name_itself_with_a_uuid() {
    let api = Api::new().await;
    let missing = api.having("client-id", None).get("/v2/ping").await;
    let missing = missing.fails(400, "Missing header value").json();
    assert_eq!(missing["description"], "The \"Client-Id\" header is required.");
    let wrong = api.having("client-id", Some("me")).get("/v2/ping").await;
    let wrong = wrong.fails(400, "Wrong UUID value").json();
    assert_eq!(wrong["description"], "Malformed hexadecimal UUID.");
    api.having("client-id", Some(&CLIENT.replace('-', ""))).get("/v2/ping").await.is(204);
}

#[tokio::test]
async fn client_ids_may_be_set_free() {
    let mut options = ServiceOptions::default();
    options.client_ids = ClientIds::Any;
    let api = Api::with(options).await;
    api.having("client-id", Some("ten-letters")).get("/v2/ping").await.is(204);
    api.having("client-id", Some("short")).get("/v2/ping").await.is(400);
}

#[tokio::test]
async fn the_project_must_be_named() {
    let api = Api::new().await;
    let project = |value| api.having("x-project-id", value);
    project(None).get("/v2/queues").await.fails(400, "Project-Id Missing");
    project(Some("")).get("/v2/queues").await.fails(400, "Empty project header not allowed");
    let long = "x".repeat(257);
    project(Some(&long)).get("/v2/queues").await.fails(400, "Invalid API request");
    project(Some("JAM Project")).get("/v2/queues").await.is(200);
}

#[tokio::test]
async fn projects_do_not_see_each_other() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..1).await;
    let stranger = api.having("x-project-id", Some("other"));
    stranger.get(&paths[0]).await.is(404);
    stranger.delete(&paths[0]).await.is(204);
    stranger.delete("/v2/queues/q").await.is(204);
    api.get(&paths[0]).await.is(200);
}

#[tokio::test]
async fn a_client_is_one_whatever_its_id_looks_like() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    let shouting = api.having("client-id", Some(&CLIENT.to_uppercase().replace('-', "")));
    assert!(bodies(&shouting.get("/v2/queues/q/messages").await.is(200).json()).is_empty());
    let other = api.having("client-id", Some(OTHER_CLIENT));
    assert_eq!(bodies(&other.get("/v2/queues/q/messages").await.is(200).json()), [json!(0)]);
}

#[tokio::test]
async fn checks_come_in_order() {
    let api = Api::new().await.having("client-id", None).having("x-project-id", None);
    let form = api.having("content-type", Some("application/x-www-form-urlencoded"));
    let form = form.having("accept", Some("application/xml"));
    // The path comes first, then content type, accepted types, client, project, name, method.
    form.send("PATCH", "/v2/nowhere", "{}").await.fails(404, "404 Not Found");
    form.send("PATCH", "/v2/queues/$", "{}").await.fails(400, "Invalid Content-Type");
    let json = form.having("content-type", None);
    json.send("PATCH", "/v2/queues/$", "{}").await.is(406);
    let fine = json.having("accept", Some("*/*"));
    fine.get("/v2/queues/$").await.fails(400, "Missing header value");
    let client = fine.having("client-id", Some(CLIENT));
    client.get("/v2/queues/$").await.fails(400, "Project-Id Missing");
    let all = client.having("x-project-id", Some("p"));
    all.send("POST", "/v2/queues/$", "").await.fails(400, "Invalid queue identification");
    all.get("/v2/queues/").await.fails(400, "Invalid queue identification");
    all.send("POST", "/v2/queues/q", "").await.fails(405, "405 Method Not Allowed");
}

#[tokio::test]
async fn unknown_methods_are_told_the_known_ones() {
    let api = Api::new().await;
    let refused = api.send("POST", "/v2/queues/q", "").await.is(405);
    assert_eq!(refused.header("allow"), "DELETE, GET, PATCH, PUT, OPTIONS");
    api.send("HEAD", "/v2/queues/q", "").await.is(405);
    api.send("HEAD", "/v2/ping", "").await.is(204);
    let options = api.send("OPTIONS", "/v2/queues/q/messages", "").await.is(200);
    assert_eq!(options.header("allow"), "DELETE, GET, POST, OPTIONS");
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own() {
    let api = Api::new().await;
    let mut ids = Vec::new();
    for path in ["/", "/v2/ping", "/v2/nowhere", "/v2/queues/$", "/v2/queues/q"] {
        let id = api.get(path).await.header("x-openstack-request-id").to_owned();
        assert!(id.starts_with("req-") && id.len() == 40, "{id}");
        assert!(!ids.contains(&id));
        ids.push(id);
    }
}

#[tokio::test]
async fn what_is_not_served_yet_is_not_there() {
    let api = Api::new().await;
    for path in ["/v2/queues/q/subscriptions", "/v2/queues/q/share", "/v2/pools", "/v2/flavors"] {
        api.get(path).await.fails(404, "404 Not Found");
    }
}

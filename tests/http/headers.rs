//! Headers, unknown paths and methods, and which error comes first.

use crate::{Api, CLIENT, OTHER_CLIENT, RESOURCES, bodies, with_admin};
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
    options.client_id_uuid_safe = ClientIds::Off;
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
    // The role comes last.
    let admin = with_admin().await;
    admin.send("PUT", "/v2/health", "").await.is(405);
    admin.get("/v2/health").await.fails(403, "Not authorized");
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
async fn every_resource_tells_its_methods_and_refuses_others() {
    let api = with_admin().await;
    for (path, methods) in RESOURCES.into_iter().chain([("/", "GET")]) {
        let told = api.send("OPTIONS", path, "").await.is(200);
        assert_eq!(told.header("allow"), format!("{methods}, OPTIONS"), "{path}");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"] {
            if methods.split(", ").any(|known| known == method) {
                continue;
            }
            let refused = api.send(method, path, "").await.is(405);
            assert_eq!(refused.header("allow"), told.header("allow"), "{method} {path}");
            if method != "HEAD" {
                let title = refused.json()["title"].clone();
                assert_eq!(title, "405 Method Not Allowed", "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn a_slash_more_or_less_is_another_path() {
    let api = with_admin().await;
    for (path, _) in RESOURCES.into_iter().filter(|(path, _)| *path != "/v2/queues") {
        let other = match path.strip_suffix('/') {
            Some(without) => without.to_owned(),
            None => format!("{path}/"),
        };
        let refused = api.get(&other).await.fails(404, "404 Not Found");
        assert_eq!(refused.json().as_object().unwrap().len(), 1, "{other}");
    }
    // This one is a queue without a name.
    api.get("/v2/queues/").await.fails(400, "Invalid queue identification");
}

#[tokio::test]
async fn json_must_be_acceptable_everywhere_and_that_comes_before_who_asks() {
    let nobody = with_admin().await.having("client-id", None).having("x-project-id", None);
    for (path, methods) in RESOURCES {
        let method = methods.split(", ").next().unwrap();
        for wrong in ["application/xml", "plain/text"] {
            let picky = nobody.having("accept", Some(wrong));
            picky.send(method, path, "").await.fails(406, "Not acceptable");
        }
        for fine in [None, Some("*/*"), Some("application/json")] {
            let fine = nobody.having("accept", fine);
            fine.send(method, path, "").await.fails(400, "Missing header value");
        }
    }
}

#[tokio::test]
async fn a_body_is_json_whatever_its_type_says_unless_that_is_a_form() {
    let api = Api::new().await;
    let body = r#"{"messages": [{"body": 1}]}"#;
    for fine in [None, Some("text/plain"), Some("application/json; charset=utf-8")] {
        let api = api.having("content-type", fine);
        api.send("POST", "/v2/queues/q/messages", body).await.is(201);
    }
    let form = api.having("content-type", Some("application/x-www-form-urlencoded"));
    let refused = form.send("POST", "/v2/queues/q/messages", body).await;
    refused.fails(400, "Invalid Content-Type");
    form.send("PUT", "/v2/queues/q2", "").await.is(201);
}

#[tokio::test]
async fn roles_decide_who_is_an_administrator() {
    let api = Api::new().await.having("x-roles", Some("admin"));
    // Without `admin_mode` there is nothing to be seen.
    api.get("/v2/health").await.fails(404, "404 Not Found");
    let api = with_admin().await;
    for roles in [None, Some(""), Some("member,reader"), Some("administrator")] {
        api.having("x-roles", roles).get("/v2/health").await.fails(403, "Not authorized");
    }
    for roles in ["admin", "member, Admin"] {
        api.having("x-roles", Some(roles)).get("/v2/health").await.is(200);
    }
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
    for path in ["/v2/queues/q/subscriptions", "/v2/pools", "/v2/flavors", "/v2/topics"] {
        api.get(path).await.fails(404, "404 Not Found");
    }
}

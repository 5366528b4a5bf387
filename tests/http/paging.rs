//! Walks from link to link.

use serde_json::{Value, json};

use crate::{Api, OTHER_CLIENT, bodies, id_of};

/// Follows the links as they are until a page is empty; returns the bodies page by page.
async fn walk(api: &Api, start: &str) -> Vec<Vec<Value>> {
    let mut path = start.to_owned();
    let mut pages = Vec::new();
    loop {
        let page = api.get(&path).await.is(200).json();
        pages.push(bodies(&page));
        let links = page["links"].as_array().unwrap();
        match &links[..] {
            [] => return pages,
            [link] => path = link["href"].as_str().unwrap().to_owned(),
            _ => panic!("{links:?}"),
        }
        assert!(pages.len() < 100, "the walk does not end");
    }
}

#[tokio::test]
async fn ten_messages_by_three_are_four_pages_and_an_empty_one() {
    let api = Api::new().await;
    for n in 0..10 {
        api.post_numbers("q", n..n + 1).await;
    }
    let pages = walk(&api, "/v2/queues/q/messages?echo=true&limit=3").await;
    let lengths: Vec<usize> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [3, 3, 3, 1, 0]);
    let all: Vec<Value> = pages.concat();
    assert_eq!(Value::from(all), json!([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]));
}

#[tokio::test]
async fn a_walk_goes_on_where_it_ended() {
    let api = Api::new().await;
    api.post_numbers("q", 0..2).await;
    let first = api.get("/v2/queues/q/messages?echo=true").await.is(200).json();
    let next = first["links"][0]["href"].as_str().unwrap();
    assert_eq!(bodies(&api.get(next).await.is(200).json()), Vec::<Value>::new());
    api.post_numbers("q", 2..4).await;
    assert_eq!(bodies(&api.get(next).await.is(200).json()), [json!(2), json!(3)]);
}

#[tokio::test]
async fn a_walk_passes_what_the_reader_posted_and_what_is_claimed() {
    let api = Api::new().await;
    let other = api.having("client-id", Some(OTHER_CLIENT));
    for n in 0..6 {
        let poster = if n % 2 == 0 { &api } else { &other };
        poster.post_numbers("q", n..n + 1).await;
    }
    let pages = walk(&api, "/v2/queues/q/messages?limit=2").await;
    assert_eq!(Value::from(pages.concat()), json!([1, 3, 5]));
    api.post("/v2/queues/q/claims?limit=2", json!({})).await.is(201);
    let pages = walk(&api, "/v2/queues/q/messages?echo=true&limit=3").await;
    assert_eq!(Value::from(pages.concat()), json!([2, 3, 4, 5]));
    let pages = walk(&api, "/v2/queues/q/messages?echo=true&limit=3&include_claimed=true").await;
    assert_eq!(Value::from(pages.concat()), json!([0, 1, 2, 3, 4, 5]));
}

#[tokio::test]
async fn the_id_of_a_page_s_last_message_is_a_marker_too() {
    let api = Api::new().await;
    for n in 0..5 {
        api.post_numbers("q", n * 5..n * 5 + 5).await;
    }
    let mut seen = Vec::new();
    let mut path = "/v2/queues/q/messages?echo=true&limit=4".to_owned();
    loop {
        let page = api.get(&path).await.is(200).json();
        let Some(last) = page["messages"].as_array().unwrap().last() else { break };
        seen.extend(bodies(&page));
        let id = last["id"].as_str().unwrap();
        path = format!("/v2/queues/q/messages?echo=true&limit=4&marker={id}");
        assert!(seen.len() <= 25, "{seen:?}");
    }
    assert_eq!(seen, (0..25).map(|n| json!(n)).collect::<Vec<_>>());
    // What is claimed or deleted before it does not matter.
    let listed = api.get("/v2/queues/q/messages?echo=true&limit=8").await.json();
    let path = listed["messages"][7]["href"].as_str().unwrap().to_owned();
    let behind = format!("/v2/queues/q/messages?echo=true&marker={}", crate::id_of(&path));
    api.delete("/v2/queues/q/messages?pop=2").await.is(200);
    api.post("/v2/queues/q/claims?limit=7", json!({})).await.is(201);
    assert_eq!(bodies(&api.get(&behind).await.is(200).json())[0], 9);
    // A message that is no more is nowhere.
    let gone = crate::texts(&json!([listed["messages"][0]["href"]])).remove(0);
    let behind = format!("/v2/queues/q/messages?echo=true&marker={}", crate::id_of(&gone));
    assert_eq!(api.get(&behind).await.is(200).json(), json!({"messages": [], "links": []}));
}

#[tokio::test]
async fn parameters_out_of_range_and_malformed_markers_are_refused() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    for (query, title) in [
        ("limit=0", "Invalid API request"),
        ("limit=21", "Invalid API request"),
        ("limit=-1", "Invalid API request"),
        ("limit=three", "Invalid parameter"),
        ("limit=10000000000000000000", "Invalid parameter"),
        ("echo=maybe", "Invalid parameter"),
        ("include_claimed=TRUE", "Invalid parameter"),
        ("marker=nonsense", "Invalid parameter"),
    ] {
        api.get(&format!("/v2/queues/q/messages?{query}")).await.fails(400, title);
    }
    // An empty value counts as absent.
    api.get("/v2/queues/q/messages?limit=&marker=&echo=").await.is(200);
}

#[tokio::test]
async fn the_id_of_any_message_of_a_long_queue_is_a_marker() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..700).await;
    for at in [0, 15, 16, 47, 300, 698] {
        let marker = id_of(&paths[at]);
        let path = format!("/v2/queues/q/messages?echo=true&limit=1&marker={marker}");
        let page = api.get(&path).await.is(200).json();
        assert_eq!(bodies(&page), [json!(at + 1)]);
    }
}

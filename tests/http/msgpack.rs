//! MessagePack beside JSON.

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{Api, CLIENT, bodies};

const PACKED: &str = "application/msgpack";

/// Sends MessagePack and accepts nothing else; an empty answer is null.
async fn send(api: &Api, method: &str, path: &str, body: Vec<u8>) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("client-id", CLIENT)
        .header("x-project-id", "p")
        .header("content-type", PACKED)
        .header("accept", PACKED)
        .body(Body::from(body))
        .unwrap();
    let response = api.router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    if bytes.is_empty() {
        return (head.status.as_u16(), Value::Null);
    }
    assert_eq!(head.headers["content-type"], PACKED);
    (head.status.as_u16(), rmp_serde::from_slice(&bytes).unwrap())
}

fn packed(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).unwrap()
}

#[tokio::test]
async fn messages_go_in_and_out_as_messagepack_and_are_the_same_in_json() {
    let api = Api::new().await;
    let body = json!({"b": [1, -2, 0.5, null, true], "a": {"ä": "x".repeat(300)}});
    let messages = json!({"messages": [{"body": body, "ttl": 300}, {"body": "two"}]});
    let (status, posted) = send(&api, "POST", "/v2/queues/q/messages", packed(&messages)).await;
    assert_eq!((status, posted["resources"].as_array().unwrap().len()), (201, 2));
    let (_, listed) = send(&api, "GET", "/v2/queues/q/messages?echo=1", Vec::new()).await;
    assert_eq!(bodies(&listed), [body.clone(), json!("two")]);
    let (status, claim) = send(&api, "POST", "/v2/queues/q/claims", packed(&json!({}))).await;
    assert_eq!((status, bodies(&claim).len()), (201, 2));
    let listed = api.get("/v2/queues/q/messages?echo=1&include_claimed=1").await.is(200).json();
    assert_eq!(bodies(&listed), [body, json!("two")]);
    assert_eq!(send(&api, "PUT", "/v2/queues/q2", Vec::new()).await, (201, Value::Null));
}

#[tokio::test]
async fn errors_are_messagepack_too_and_what_json_cannot_say_is_one() {
    let api = Api::new().await;
    let (status, error) = send(&api, "GET", "/v2/queues?limit=0", Vec::new()).await;
    assert_eq!((status, &error["title"]), (400, &json!("Invalid API request")));
    // {"messages": [{"body": <three bytes>}]}
    let mut binary = vec![0x81, 0xa8];
    binary.extend_from_slice(b"messages\x91\x81\xa4body\xc4\x03\x01\x02\x03");
    let deep = vec![0x91; 200_000];
    for wrong in [binary, deep, vec![0xc1], vec![0x90, 0x90], packed(&json!([])), packed(&json!(1))]
    {
        let (status, error) = send(&api, "POST", "/v2/queues/q/messages", wrong).await;
        assert_eq!((status, &error["title"]), (400, &json!("Invalid request body")), "{error}");
    }
}

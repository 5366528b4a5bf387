//! The main calls over a socket, on Redis nodes, and two services on the same nodes.

use roundelay::http::{Connections, ServiceOptions, router, serve};
use roundelay::{
    ClaimOptions, DeadLetters, IdempotencyKey, ListOptions, Metadata, NewMessage, Project,
    QueueName, Store,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::redis_server::RedisServer;
use crate::{CLIENT, bodies, id_of, texts};

/// A service on the nodes, for as long as the test runs.
async fn service(servers: &[RedisServer]) -> std::net::SocketAddr {
    let builder =
        servers.iter().fold(Store::builder(), |builder, server| builder.node(server.url()));
    let store = builder.open().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(store, ServiceOptions::default());
    tokio::spawn(serve(listener, router, Connections::default(), std::future::pending()));
    address
}

/// One request on a connection of its own: status and body.
async fn send(to: std::net::SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nClient-ID: {CLIENT}\r\nX-Project-Id: p\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn two_services_on_the_same_redis_nodes_are_one() {
    let servers =
        [RedisServer::start().await, RedisServer::start().await, RedisServer::start().await];
    let (one, two) = (service(&servers).await, service(&servers).await);
    let messages = json!({"messages": [{"body": 1}, {"body": {"a": [2]}}, {"body": "drei"}]});
    assert_eq!(send(one, "PUT", "/v2/queues/q", r#"{"team": "a"}"#).await.0, 201);
    let (status, posted) = send(one, "POST", "/v2/queues/q/messages", &messages.to_string()).await;
    assert_eq!(status, 201);
    let paths = texts(&posted["resources"]);

    assert_eq!(send(two, "PUT", "/v2/queues/q", "").await.0, 204);
    let (_, shown) = send(two, "GET", "/v2/queues/q", "").await;
    assert_eq!(shown["team"], "a");
    let (_, listed) = send(two, "GET", "/v2/queues/q/messages?echo=true", "").await;
    assert_eq!(bodies(&listed), [json!(1), json!({"a": [2]}), json!("drei")]);
    let by_ids = format!("/v2/queues/q/messages?ids={}", id_of(&paths[1]));
    assert_eq!(bodies(&send(two, "GET", &by_ids, "").await.1), [json!({"a": [2]})]);

    let (status, claim) = send(two, "POST", "/v2/queues/q/claims?limit=2", "{}").await;
    assert_eq!((status, bodies(&claim).len()), (201, 2));
    let href = claim["messages"][0]["href"].as_str().unwrap();
    // The other service knows the claim: it refuses those without it, and obeys who has it.
    assert_eq!(send(one, "DELETE", &paths[0], "").await.0, 403);
    assert_eq!(send(one, "DELETE", href, "").await.0, 204);
    let (_, popped) = send(one, "DELETE", "/v2/queues/q/messages?pop=5", "").await;
    assert_eq!(bodies(&popped), [json!("drei")]);
    let claim_path = format!("/v2/queues/q/claims/{}", href.rsplit('=').next().unwrap());
    let (_, claim) = send(one, "GET", &claim_path, "").await;
    assert_eq!(bodies(&claim), [json!({"a": [2]})]);
    assert_eq!(send(one, "DELETE", &claim_path, "").await.0, 204);
    let (_, stats) = send(two, "GET", "/v2/queues/q/stats", "").await;
    assert_eq!((&stats["messages"]["free"], &stats["messages"]["total"]), (&json!(1), &json!(1)));
    assert_eq!(send(two, "POST", "/v2/queues/q/purge", "").await.0, 204);
    assert_eq!(send(two, "DELETE", "/v2/queues/q", "").await.0, 204);
    assert_eq!(send(one, "GET", "/v2/queues", "").await.1["queues"], json!([]));
}

#[tokio::test]
async fn keys_and_dead_letters_hold_on_redis_nodes_when_one_dies() {
    let mut servers =
        vec![RedisServer::start().await, RedisServer::start().await, RedisServer::start().await];
    let mut queues = Vec::new();
    for _ in 0..2 {
        let builder =
            servers.iter().fold(Store::builder(), |builder, server| builder.node(server.url()));
        let store = builder.open().await.unwrap();
        let project = Project::new("p").unwrap();
        let queue = |name| store.queue(&project, &QueueName::new(name).unwrap());
        queues.push((queue("q"), queue("dead"), store.clone()));
    }
    let [(one, _, _), (two, dead, _)] = &queues[..] else { panic!("two stores") };
    one.create(&Metadata::default()).await.unwrap();
    let messages = |count: usize| {
        let message = |n| NewMessage::json(&json!(n)).unwrap();
        (0..count).map(message).collect::<Vec<_>>()
    };
    let key = |text| IdempotencyKey::new(text).unwrap();
    let first = one.post_once(&key("a"), messages(300), None).await.unwrap();
    assert_eq!(two.post_once(&key("a"), messages(300), None).await.unwrap(), first);
    drop(servers.pop());
    assert_eq!(two.post_once(&key("a"), messages(300), None).await.unwrap(), first);
    let second = two.post_once(&key("b"), messages(1), None).await.unwrap();
    assert_eq!(one.post_once(&key("b"), messages(1), None).await.unwrap(), second);
    assert_eq!(two.stats().await.unwrap().total(), 301);

    let letters = DeadLetters { max_claims: 1, queue: dead.clone(), ttl: None, rewrite: None };
    let options = ClaimOptions { limit: 20, ..ClaimOptions::default() };
    let claim = two.claim_or_move(&options, &letters).await.unwrap().unwrap();
    let claimed = claim.messages.len();
    two.release(&claim.id).await.unwrap();
    let next = two.claim_or_move(&options, &letters).await.unwrap().unwrap();
    assert!(next.messages.iter().all(|message| message.claim_count == 1));
    let dead = dead.list(&ListOptions { limit: 100, ..ListOptions::default() }).await.unwrap();
    assert_eq!(dead.messages.len(), claimed);
    assert!(dead.messages.iter().all(|message| message.origin.as_ref().unwrap().queue == "q"));
    assert_eq!(two.stats().await.unwrap().total(), 301 - claimed as u64);
}

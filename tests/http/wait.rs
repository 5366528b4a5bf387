//! `wait`: requests that are answered as soon as there is something.

use std::time::Duration;

use roundelay::Store;
use roundelay::http::{Connections, ServiceOptions, router, serve};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::socket::{LONG, Server, answer, head, rest};
use crate::{Api, OTHER_CLIENT, bodies};

const MESSAGES: &str = "/v2/queues/q/messages";
const CLAIMS: &str = "/v2/queues/q/claims";

fn other(api: &Api) -> Api {
    api.having("client-id", Some(OTHER_CLIENT))
}

#[tokio::test]
async fn a_waiting_list_is_answered_as_soon_as_there_is_a_message() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    let first = other(&api).get(&format!("{MESSAGES}?wait=30")).await.is(200).json();
    assert_eq!(bodies(&first), [json!(0)]);
    let next = first["links"][0]["href"].as_str().unwrap().to_owned();
    assert!(next.contains("wait=30"), "{next}");
    let (start, reader) = (Instant::now(), other(&api));
    let waiting = tokio::spawn(async move { reader.get(&next).await });
    sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    api.post_numbers("q", 1..2).await;
    assert_eq!(bodies(&waiting.await.unwrap().is(200).json()), [json!(1)]);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_waiting_claim_is_answered_as_soon_as_there_is_a_message() {
    let api = Api::new().await;
    let worker = other(&api);
    let start = Instant::now();
    let path = format!("{CLAIMS}?wait=30&limit=2");
    let waiting = tokio::spawn(async move { worker.post(&path, json!({"ttl": 60})).await });
    sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    api.post_numbers("q", 0..3).await;
    let claim = waiting.await.unwrap().is(201);
    assert!(claim.header("location").starts_with(CLAIMS));
    assert_eq!(bodies(&claim.json()), [json!(0), json!(1)]);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn when_the_time_is_over_the_answer_is_that_of_an_empty_queue() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    let start = Instant::now();
    // Its own message does not count for a client that does not want it.
    let page = api.get(&format!("{MESSAGES}?wait=1")).await.is(200).json();
    assert_eq!(page, json!({"messages": [], "links": []}));
    assert!(start.elapsed() >= Duration::from_secs(1));
    api.post(CLAIMS, json!({})).await.is(201);
    let start = Instant::now();
    api.post(&format!("{CLAIMS}?wait=1"), json!({})).await.is(204);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let claimed = format!("{MESSAGES}?wait=30&echo=true&include_claimed=true");
    assert_eq!(bodies(&api.get(&claimed).await.is(200).json()), [json!(0)]);
}

#[tokio::test]
async fn how_long_to_wait_is_a_whole_number_of_seconds_within_the_limit() {
    let api = Api::new().await;
    for wrong in ["31", "-1", "1.5", "x", "10000000000000000000"] {
        let listed = api.get(&format!("{MESSAGES}?wait={wrong}")).await.is(400);
        assert!(listed.text.contains("wait is"), "{listed:?}");
        api.post(&format!("{CLAIMS}?wait={wrong}"), json!({})).await.is(400);
    }
    let refused = api.get(&format!("{MESSAGES}?wait=31")).await.json();
    assert_eq!(refused["description"], "wait is 31: it must be from 0 to 30.");
    for none in ["", "0"] {
        let start = Instant::now();
        api.get(&format!("{MESSAGES}?wait={none}")).await.is(200);
        api.post(&format!("{CLAIMS}?wait={none}"), json!({})).await.is(204);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
    let mut options = ServiceOptions::default();
    options.max_wait = 0;
    let api = Api::with(options).await;
    api.get(&format!("{MESSAGES}?wait=1")).await.is(400);
    api.get(&format!("{MESSAGES}?wait=0")).await.is(200);
}

/// A request that waits, as it is sent.
fn waiting(seconds: u32) -> String {
    head("GET", &format!("{MESSAGES}?wait={seconds}"), "")
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_place() {
    let mut connections = Connections::default();
    connections.max_connections = 2;
    let server = Server::with(ServiceOptions::default(), connections).await;
    for _ in 0..5 {
        let mut gone = Vec::new();
        for _ in 0..2 {
            let mut stream = connected(&server).await;
            stream.write_all(waiting(30).as_bytes()).await.unwrap();
            gone.push(stream);
        }
        // Both places are taken by those who wait.
        let mut third = server.connect().await;
        drop(third.write_all(head("GET", "/v2/ping", "").as_bytes()).await);
        assert!(answer(&mut third).await.starts_with("HTTP/1.1 503"));
        drop(gone);
    }
    let mut last = connected(&server).await;
    last.write_all(head("GET", "/v2/ping", "").as_bytes()).await.unwrap();
    assert!(answer(&mut last).await.starts_with("HTTP/1.1 204"));
}

/// A connection that has a place: a ping was answered on it.
async fn connected(server: &Server) -> TcpStream {
    let start = Instant::now();
    loop {
        let mut stream = server.connect().await;
        drop(stream.write_all(head("GET", "/v2/ping", "").as_bytes()).await);
        if answer(&mut stream).await.starts_with("HTTP/1.1 204") {
            return stream;
        }
        assert!(start.elapsed() < LONG, "no place becomes free");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn those_who_wait_are_answered_when_the_service_stops() {
    let Server { address, stop, task } = Server::start().await;
    let mut list = TcpStream::connect(address).await.unwrap();
    list.write_all(waiting(30).as_bytes()).await.unwrap();
    let mut claim = TcpStream::connect(address).await.unwrap();
    let request = head("POST", &format!("{CLAIMS}?wait=30"), "Content-Length: 0\r\n");
    claim.write_all(request.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    let start = Instant::now();
    stop.send(()).unwrap();
    let listed = rest(&mut list).await;
    assert!(listed.starts_with("HTTP/1.1 200") && listed.contains(r#""messages":[]"#), "{listed}");
    assert!(rest(&mut claim).await.starts_with("HTTP/1.1 204"));
    timeout(LONG, task).await.unwrap().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn no_timeout_of_the_service_cuts_a_wait_off() {
    let mut connections = Connections::default();
    (connections.head_timeout, connections.write_timeout) = (1, 1);
    let mut options = ServiceOptions::default();
    options.body_timeout = 1;
    let server = Server::with(options, connections).await;
    let mut stream = server.connect().await;
    let start = Instant::now();
    stream.write_all(waiting(3).as_bytes()).await.unwrap();
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn requests_that_wait_hold_no_room_for_bodies() {
    let mut options = ServiceOptions::default();
    // Room for one small body at a time.
    options.max_body_bytes_in_flight = options.max_messages_post_size;
    let server = Server::with(options, Connections::default()).await;
    let body = format!("{{\"ttl\": 60{}}}", " ".repeat(60_000));
    let more = format!("Content-Length: {}\r\n", body.len());
    let request = format!("{}{body}", head("POST", &format!("{CLAIMS}?wait=2"), &more));
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
        sleep(Duration::from_millis(20)).await;
    }
    for mut stream in streams {
        assert!(answer(&mut stream).await.starts_with("HTTP/1.1 204"));
    }
}

#[tokio::test]
async fn closing_the_store_answers_those_who_wait_with_503() {
    let store = Store::builder().embedded(3).open().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(store.clone(), ServiceOptions::default());
    tokio::spawn(serve(listener, router, Connections::default(), std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(waiting(30).as_bytes()).await.unwrap();
    sleep(Duration::from_millis(300)).await;
    store.close().await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 503"));
}

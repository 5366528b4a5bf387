//! Encrypted queues: what is stored, every way of reading it, and keys that are missing or wrong.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use roundelay::http::{EncryptionKeys, Gate, ServiceOptions};
use roundelay::{
    ContentType, DeleteWhere, ListOptions, Message, NewMessage, Project, Queue, QueueName, Store,
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{Answer, Api, OTHER_CLIENT, PATCH_TYPE, bodies, id_of, texts};

/// Longer than what the service takes to look at its file again.
const LONG_ENOUGH: Duration = Duration::from_secs(2);
const UNAVAILABLE: &str = "Service temporarily unavailable";
const BROKEN: &str = "Internal server error";

/// A file of keys: of each its id, and the byte that it is made of.
fn key_file(keys: &[(&str, u8)]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    write(&file, keys);
    file
}

fn write(file: &NamedTempFile, keys: &[(&str, u8)]) {
    let entries = keys.iter().map(|(id, byte)| json!({"id": id, "key": key(*byte)}));
    let entries: Vec<Value> = entries.collect();
    std::fs::write(file.path(), Value::from(entries).to_string()).unwrap();
}

fn key(byte: u8) -> String {
    format!("{byte:02x}").repeat(32)
}

/// A service on this store that has these keys.
fn with_keys(store: &Store, keys: &[(&str, u8)]) -> Api {
    let keys = EncryptionKeys::open(key_file(keys).path()).unwrap();
    Api::on(store.clone(), ServiceOptions::default(), Gate::open(), keys)
}

fn without_keys(store: &Store) -> Api {
    Api::on(store.clone(), ServiceOptions::default(), Gate::open(), EncryptionKeys::none())
}

/// A service with the key "a", and an encrypted queue.
async fn encrypted() -> Api {
    let store = Store::builder().embedded(3).open().await.unwrap();
    let api = with_keys(&store, &[("a", 1)]);
    let asked = json!({"_enable_encrypt_messages": true}).to_string();
    api.send("PUT", "/v2/queues/q", asked).await.is(201);
    api
}

async fn post(api: &Api, body: Value) -> String {
    let message = json!({"messages": [{"body": body, "ttl": 300}]});
    let posted = api.post("/v2/queues/q/messages", message).await.is(201).json();
    texts(&posted["resources"]).remove(0)
}

async fn ask_for_encryption(api: &Api, on: bool) -> Answer {
    let patch = json!([
        {"op": "replace", "path": "/metadata/_enable_encrypt_messages", "value": on},
    ]);
    let api = api.having("content-type", Some(PATCH_TYPE));
    api.send("PATCH", "/v2/queues/q", patch.to_string()).await
}

fn queue(api: &Api, project: &str, name: &str) -> Queue {
    api.store.queue(&Project::new(project).unwrap(), &QueueName::new(name).unwrap())
}

/// What is stored, as a program sees it that uses the library.
async fn stored(api: &Api, name: &str) -> Vec<Message> {
    queue(api, "p", name).list(&ListOptions::default()).await.unwrap().messages
}

async fn total(api: &Api) -> Value {
    api.get("/v2/queues/q/stats").await.is(200).json()["messages"].clone()
}

/// Every way of reading one message; none takes it away for good, but pop, which comes last.
async fn read_in_every_way(api: &Api, path: &str) -> Vec<(&'static str, Answer)> {
    let messages = "/v2/queues/q/messages";
    let other = api.having("client-id", Some(OTHER_CLIENT));
    let mut answers = vec![
        ("echo", api.get(&format!("{messages}?echo=true")).await),
        ("list", other.get(messages).await),
        ("id", api.get(path).await),
        ("ids", api.get(&format!("{messages}?ids={}", id_of(path))).await),
    ];
    let claim = api.post("/v2/queues/q/claims", json!({"ttl": 60})).await;
    if claim.status == 201 {
        let place = claim.header("location").to_owned();
        answers.push(("claim", claim));
        answers.push(("claim again", api.get(&place).await));
        let claimed = format!("{messages}?echo=true&include_claimed=true");
        answers.push(("claimed", api.get(&claimed).await));
        api.delete(&place).await.is(204);
    } else {
        answers.push(("claim", claim));
    }
    answers.push(("pop", api.delete(&format!("{messages}?pop=1")).await));
    answers
}

#[tokio::test]
async fn bodies_are_stored_encrypted_and_read_as_they_were_in_every_way() {
    let api = encrypted().await;
    assert_eq!(api.get("/v2/queues/q").await.json()["_enable_encrypt_messages"], json!(true));
    for body in [json!("plain text"), json!({"plain": ["text", 1, null]}), json!(null), json!(0.5)]
    {
        let path = post(&api, body.clone()).await;
        let seen = stored(&api, "q").await;
        assert_eq!(seen[0].content_type, ContentType::Encrypted);
        assert!(!seen[0].body.windows(5).any(|window| window == b"plain"));
        let answers = read_in_every_way(&api, &path).await;
        assert_eq!(answers.len(), 8, "{answers:?}");
        for (way, answer) in answers {
            let shown = answer.json();
            let shown = if way == "id" { vec![shown["body"].clone()] } else { bodies(&shown) };
            assert_eq!(shown, std::slice::from_ref(&body), "{way}: {answer:?}");
        }
        assert_eq!(total(&api).await["total"], 0);
    }
}

#[tokio::test]
async fn a_service_without_a_key_takes_no_encrypted_queue_and_no_message_for_one() {
    let api = encrypted().await;
    let without = without_keys(&api.store);
    let asked = json!({"_enable_encrypt_messages": true}).to_string();
    let refused = without.send("PUT", "/v2/queues/r", asked).await;
    let refused = refused.fails(400, "Invalid API request");
    assert!(refused.text.contains("no key"), "{refused:?}");
    without.send("PUT", "/v2/queues/r", "{}").await.is(201);
    let patch = json!([
        {"op": "add", "path": "/metadata/_enable_encrypt_messages", "value": true},
    ]);
    let patching = without.having("content-type", Some(PATCH_TYPE));
    let refused = patching.send("PATCH", "/v2/queues/r", patch.to_string()).await;
    refused.fails(400, "Invalid API request");
    assert_eq!(without.get("/v2/queues/r").await.json()["_enable_encrypt_messages"], json!(false));
    let message = json!({"messages": [{"body": "plain text"}]});
    let refused = without.post("/v2/queues/q/messages", message).await.fails(503, UNAVAILABLE);
    assert!(refused.text.contains("Nothing was changed"), "{refused:?}");
    refused.header("retry-after");
    assert_eq!(stored(&api, "q").await, []);
    // What asks for no encryption goes on, and asking no more is allowed.
    without.post_numbers("r", 0..1).await;
    ask_for_encryption(&without, false).await.is(200);
    post(&without, json!(1)).await;
    assert_eq!(stored(&api, "q").await[0].content_type, ContentType::Json);
}

#[tokio::test]
async fn what_a_queue_asks_for_decides_how_messages_are_stored_and_never_how_they_are_read() {
    let api = encrypted().await;
    let echo = "/v2/queues/q/messages?echo=true";
    ask_for_encryption(&api, false).await.is(200);
    post(&api, json!(1)).await;
    ask_for_encryption(&api, true).await.is(200);
    post(&api, json!(2)).await;
    ask_for_encryption(&api, false).await.is(200);
    post(&api, json!(3)).await;
    let kinds: Vec<_> =
        stored(&api, "q").await.iter().map(|message| message.content_type).collect();
    assert_eq!(kinds, [ContentType::Json, ContentType::Encrypted, ContentType::Json]);
    assert_eq!(bodies(&api.get(echo).await.json()), [json!(1), json!(2), json!(3)]);
    ask_for_encryption(&api, true).await.is(200);
    assert_eq!(bodies(&api.get(echo).await.json()), [json!(1), json!(2), json!(3)]);
}

#[tokio::test]
async fn keys_change_while_the_service_runs_and_old_ones_still_decrypt() {
    let store = Store::builder().embedded(3).open().await.unwrap();
    let file = key_file(&[("a", 1)]);
    let keys = EncryptionKeys::open(file.path()).unwrap();
    let api = Api::on(store, ServiceOptions::default(), Gate::open(), keys);
    api.send("PUT", "/v2/queues/q", json!({"_enable_encrypt_messages": true}).to_string())
        .await
        .is(201);
    post(&api, json!("first")).await;
    write(&file, &[("b", 2), ("a", 1)]);
    tokio::time::sleep(LONG_ENOUGH).await;
    post(&api, json!("second")).await;
    let echo = "/v2/queues/q/messages?echo=true";
    assert_eq!(bodies(&api.get(echo).await.json()), [json!("first"), json!("second")]);
    // The second one is the new key's: who has only the old one cannot read it, and only it.
    let old = with_keys(&api.store, &[("a", 1)]);
    assert_eq!(bodies(&old.get(&format!("{echo}&limit=1")).await.json()), [json!("first")]);
    let refused = old.get(echo).await.fails(503, UNAVAILABLE);
    assert!(refused.text.contains("\\\"b\\\""), "{refused:?}");
    // A file that cannot be read changes nothing.
    std::fs::write(file.path(), "[{").unwrap();
    tokio::time::sleep(LONG_ENOUGH).await;
    assert_eq!(bodies(&api.get(echo).await.json()), [json!("first"), json!("second")]);
}

/// What the service logs, from the call on.
fn logged() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    #[derive(Clone)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Arc::<Mutex<Vec<u8>>>::default();
    let writer = Log(Arc::clone(&log));
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn a_missing_or_wrong_key_is_an_error_in_every_way_of_reading_and_takes_nothing_away() {
    let api = encrypted().await;
    let path = post(&api, json!("plain text")).await;
    let id = id_of(&path);
    for (other, status, title) in [
        (without_keys(&api.store), 503, UNAVAILABLE),
        (with_keys(&api.store, &[("b", 1)]), 503, UNAVAILABLE),
        (with_keys(&api.store, &[("a", 2)]), 500, BROKEN),
    ] {
        let (log, guard) = logged();
        let answers = read_in_every_way(&other, &path).await;
        drop(guard);
        assert_eq!(answers.len(), 6, "{answers:?}");
        for (way, answer) in answers {
            let answer = answer.fails(status, title);
            assert!(answer.text.contains(id), "{way}: {answer:?}");
            assert_eq!(answer.headers.contains_key("retry-after"), status == 503, "{way}");
        }
        let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
        let told = log.lines().filter(|line| line.contains("cannot be decrypted"));
        assert!(told.clone().count() >= 6 && told.clone().all(|line| line.contains(id)), "{log}");
        assert!(!log.contains("plain text") && !log.contains(&key(2)), "{log}");
        // It is neither gone nor claimed.
        let counts = total(&api).await;
        assert_eq!((&counts["free"], &counts["total"]), (&json!(1), &json!(1)));
    }
    assert_eq!(api.get(&path).await.is(200).json()["body"], "plain text");
}

#[tokio::test]
async fn a_body_that_was_changed_or_moved_is_an_error_and_can_be_deleted() {
    let api = encrypted().await;
    post(&api, json!("plain text")).await;
    let original = stored(&api, "q").await.remove(0).body;
    queue(&api, "p", "q")
        .delete_messages(&[stored(&api, "q").await[0].id], &DeleteWhere::Any)
        .await
        .unwrap();
    let mut changed = original.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let asked = json!({"_enable_encrypt_messages": true}).to_string();
    api.send("PUT", "/v2/queues/r", asked.clone()).await.is(201);
    let elsewhere = api.having("x-project-id", Some("elsewhere"));
    elsewhere.send("PUT", "/v2/queues/q", asked).await.is(201);
    for (project, name, body) in [
        ("p", "q", changed),
        ("p", "q", original[..40].to_vec()),
        ("p", "q", b"{}".to_vec()),
        ("p", "r", original.to_vec()),
        ("elsewhere", "q", original.to_vec()),
    ] {
        let api = api.having("x-project-id", Some(project));
        let target = queue(&api, project, name);
        let message = NewMessage::new(ContentType::Encrypted, body).unwrap();
        let id = target.post(vec![message], None).await.unwrap().remove(0);
        let path = format!("/v2/queues/{name}/messages");
        for refused in [
            api.get(&format!("{path}?echo=true")).await,
            api.get(&format!("{path}/{id}")).await,
            api.post(&format!("/v2/queues/{name}/claims"), json!({})).await,
            api.delete(&format!("{path}?pop=3")).await,
        ] {
            let refused = refused.fails(500, BROKEN);
            assert!(refused.text.contains(&id.to_string()), "{refused:?}");
        }
        api.delete(&format!("{path}/{id}")).await.is(204);
        api.get(&format!("{path}/{id}")).await.is(404);
    }
    // The original in its own queue is as good as ever.
    let message = NewMessage::new(ContentType::Encrypted, original).unwrap();
    queue(&api, "p", "q").post(vec![message], None).await.unwrap();
    let listed = api.get("/v2/queues/q/messages?echo=true").await.is(200).json();
    assert_eq!(bodies(&listed), [json!("plain text")]);
}

#[tokio::test]
async fn a_message_that_is_moved_is_encrypted_anew_for_its_new_queue() {
    let api = encrypted().await;
    let file = key_file(&[("b", 2), ("a", 1)]);
    let keys = EncryptionKeys::open(file.path()).unwrap().now().await;
    let (project, from, to) =
        (Project::new("p").unwrap(), QueueName::new("q").unwrap(), QueueName::new("r").unwrap());
    post(&api, json!("plain text")).await;
    let message = stored(&api, "q").await.remove(0);
    let moved = keys.moved(&project, &from, &to, &message).unwrap();
    api.send("PUT", "/v2/queues/r", "{}").await.is(201);
    queue(&api, "p", "r").post(vec![moved], None).await.unwrap();
    assert_eq!(stored(&api, "r").await[0].content_type, ContentType::Encrypted);
    let both = with_keys(&api.store, &[("b", 2), ("a", 1)]);
    let path = "/v2/queues/r/messages?echo=true";
    assert_eq!(bodies(&both.get(path).await.is(200).json()), [json!("plain text")]);
    // It was of another queue, or nobody can read it: it is not passed on as it is.
    assert!(keys.moved(&project, &to, &from, &message).is_err());
    assert!(EncryptionKeys::none().now().await.moved(&project, &from, &to, &message).is_err());
    let mut plain = message.clone();
    plain.content_type = ContentType::Text;
    let moved = EncryptionKeys::none().now().await.moved(&project, &from, &to, &plain).unwrap();
    assert_eq!(moved, NewMessage::new(ContentType::Text, message.body).unwrap());
}

#[tokio::test]
async fn pop_gives_what_is_readable_and_leaves_the_rest() {
    let api = encrypted().await;
    let readable = [post(&api, json!(1)).await, post(&api, json!(2)).await];
    let other = with_keys(&api.store, &[("b", 2), ("a", 1)]);
    let unreadable = post(&other, json!(3)).await;
    post(&api, json!(4)).await;
    let pop = "/v2/queues/q/messages?pop=10";
    let popped = api.delete(pop).await.is(200).json();
    assert_eq!(bodies(&popped), [json!(1), json!(2)]);
    for path in readable {
        api.get(&path).await.is(404);
    }
    let refused = api.delete(pop).await.fails(503, UNAVAILABLE);
    assert!(refused.text.contains(id_of(&unreadable)), "{refused:?}");
    assert_eq!(bodies(&other.delete(pop).await.is(200).json()), [json!(3), json!(4)]);
}

#[tokio::test]
async fn messages_that_are_encrypted_go_in_and_out_as_messagepack_too() {
    let api = encrypted().await;
    post(&api, json!({"a": 1})).await;
    let api = api.having("accept", Some("application/msgpack"));
    let mut request = axum::http::Request::builder().uri("/v2/queues/q/messages?echo=1");
    for (name, value) in &api.headers {
        request = request.header(*name, value);
    }
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(api.router.clone(), request).await.unwrap();
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let shown: Value = rmp_serde::from_slice(&body).unwrap();
    assert_eq!(bodies(&shown), [json!({"a": 1})]);
}

#[tokio::test]
async fn a_checksum_of_the_body_is_shown_in_every_way_of_reading_if_the_service_is_told_to() {
    let mut options = ServiceOptions::default();
    options.enable_checksum = true;
    let store = Store::builder().embedded(3).open().await.unwrap();
    let keys = EncryptionKeys::open(key_file(&[("a", 1)]).path()).unwrap();
    let api = Api::on(store.clone(), options, Gate::open(), keys);
    for encrypt in [false, true] {
        let asked = json!({"_enable_encrypt_messages": encrypt}).to_string();
        api.send("PUT", "/v2/queues/q", asked).await.is(201);
        // As Python's json.dumps and hashlib make them.
        for (body, wanted) in [
            (json!(1), json!("MD5:c4ca4238a0b923820dcc509a6f75849b")),
            (json!("text"), json!("MD5:20cd815523e5806aec29a57282b0d49f")),
            (json!({"a": [1.5, "é"]}), json!("MD5:77e7c7e220eadbcdcd0d08e2a21e27b6")),
            (json!(null), Value::Null),
        ] {
            let path = post(&api, body.clone()).await;
            let answers = read_in_every_way(&api, &path).await;
            assert_eq!(answers.len(), 8, "{answers:?}");
            for (way, answer) in answers {
                let shown = answer.json();
                let shown = if way == "id" { &shown } else { &shown["messages"][0] };
                assert_eq!(shown.get("checksum").unwrap_or(&Value::Null), &wanted, "{way}");
            }
        }
        api.delete("/v2/queues/q").await.is(204);
    }
    let plain = without_keys(&store);
    let path = post(&plain, json!(1)).await;
    assert!(plain.get(&path).await.is(200).json().get("checksum").is_none());
}

#[test]
fn keys_are_not_shown() {
    let file = key_file(&[("a", 0xab)]);
    let shown = format!("{:?}", EncryptionKeys::open(file.path()).unwrap());
    assert!(!shown.contains("abab") && shown.contains("Some"), "{shown}");
    let error = EncryptionKeys::open("no such file").unwrap_err();
    assert!(error.to_string().contains("no such file"), "{error}");
}

#[tokio::test]
async fn an_encrypted_message_is_encrypted_anew_as_a_dead_letter_and_can_be_read_there() {
    let store = Store::builder().embedded(3).open().await.unwrap();
    let api = with_keys(&store, &[("a", 1)]);
    let asked = json!({
        "_enable_encrypt_messages": true,
        "_max_claim_count": 1,
        "_dead_letter_queue": "dead",
    });
    api.send("PUT", "/v2/queues/q", asked.to_string()).await.is(201);
    post(&api, json!("plain text")).await;
    let claim = api.post("/v2/queues/q/claims", json!({})).await.is(201);
    api.delete(claim.header("location")).await.is(204);
    api.post("/v2/queues/q/claims", json!({})).await.is(204);
    assert_eq!(stored(&api, "q").await, []);
    let letters = stored(&api, "dead").await;
    assert_eq!(letters[0].content_type, ContentType::Encrypted);
    assert!(!letters[0].body.windows(5).any(|window| window == b"plain"));
    let dead = api.get("/v2/queues/dead/messages?echo=true").await.is(200).json();
    assert_eq!(bodies(&dead), [json!("plain text")]);
}

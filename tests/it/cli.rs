//! The command as a process: what it says, how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::redis_server::RedisServer;

/// What the surroundings could tell the command.
const NAMES: [&str; 9] = [
    "LISTEN",
    "NODES",
    "COPIES",
    "COPIES_MIN",
    "KEEPERS",
    "CONFIG",
    "LOG",
    "PROJECT",
    "ENCRYPTION_KEYS",
];

/// The command, without what the surroundings would tell it.
fn roundelay(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
    for name in NAMES {
        command.env_remove(format!("ROUNDELAY_{name}"));
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A service that is ended when it is dropped.
struct Served {
    child: Child,
    line: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn serve(args: &[&str]) -> Served {
    let mut child = roundelay(args).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    Served { child, line }
}

#[test]
fn serving_without_nodes_says_what_that_means_and_ends_in_order() {
    for signal in ["-TERM", "-INT"] {
        let mut served = serve(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(served.line.contains("messages end with this process"), "{}", served.line);
        let address = served.line.split("http://").nth(1).unwrap().split(',').next().unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 300"), "{answer}");
        let id = served.child.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        assert_eq!(served.child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

/// Asks a service for something, and gives the whole answer.
fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Auth-Token: hidden\r\n\r\n"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_served_where_they_are_wanted_and_nowhere_else() {
    let address = "127.0.0.1:0";
    let args = ["serve", "--listen", address, "--metrics-listen", address];
    let args = [&args[..], &["--log", "warn,roundelay::access=info"]].concat();
    let mut child = roundelay(&args).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let (first, second) = (said.next().unwrap(), said.next().unwrap());
    let served = Served { child, line: first };
    let api = served.line.split("http://").nth(1).unwrap().split(',').next().unwrap();
    let metrics = second.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let shown = ask(metrics, "GET /metrics");
    assert!(shown.starts_with("HTTP/1.1 200") && shown.contains("roundelay_node_up"), "{shown}");
    assert!(ask(metrics, "GET /v2/ping").starts_with("HTTP/1.1 404"));
    assert!(ask(api, "GET /metrics").starts_with("HTTP/1.1 404"));

    // The access log has a line for what was asked of the service, without secrets.
    let line = said.find(|line| line.contains("roundelay::access")).unwrap();
    for told in ["GET", "/metrics", "404", "req-"] {
        assert!(line.contains(told), "{line}");
    }
    assert!(ask(api, "GET /v2/ping?x=hidden").starts_with("HTTP/1.1 400"));
    let line = said.find(|line| line.contains("/v2/ping")).unwrap();
    assert!(line.contains("400") && !line.contains("hidden"), "{line}");
}

#[test]
fn tools_do_not_work_on_embedded_nodes() {
    for args in [
        &["post", "--queue", "q"][..],
        &["list", "--queue", "q"],
        &["claim", "--queue", "q"],
        &["queue", "list"],
        &["pool", "status"],
    ] {
        let output = roundelay(args).env("ROUNDELAY_NODES", "").output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains("--node"), "{}", stderr(&output));
    }
}

#[test]
fn wrong_settings_are_told_in_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "copies = 3\ncopis_min = 2\n").unwrap();
    let path = file.path().to_str().unwrap();
    for (args, wanted) in [
        (&["serve", "--copies", "9"][..], "copies is 9"),
        (&["serve", "--config", path], "copis_min"),
        (&["serve", "--config", path], path),
        (&["--log", "?=x", "pool", "status"], "log"),
        (&["list", "--node", "redis://localhost", "--queue", "q", "--marker", "x"], "marker"),
    ] {
        let output = roundelay(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = stderr(&output);
        assert!(said.contains(wanted) && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn an_address_in_use_is_a_failure_in_one_line() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = roundelay(&["serve"]).env("ROUNDELAY_LISTEN", &address).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains(&address) && said.lines().count() == 1, "{said}");
}

/// Runs a tool on a pool of one server, with lines of input; returns what it printed, by line.
fn tool(server: &RedisServer, args: &[&str], input: &str) -> (Output, Vec<Value>) {
    let mut command = roundelay(args);
    command.args(["--copies", "1", "--keepers", "1"]).env("ROUNDELAY_NODES", server.url());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // One that fails does not read.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    let lines = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (output, lines)
}

#[tokio::test]
async fn tools_read_and_write_encrypted_queues_with_the_keys_and_say_so_without() {
    let server = RedisServer::start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let keys = json!([{"id": "a", "key": "ab".repeat(32)}]).to_string();
    std::fs::write(file.path(), keys).unwrap();
    let keys = ["--encryption-keys", file.path().to_str().unwrap()];
    let with_keys = |args: &[&str], input: &str| tool(&server, &[args, &keys].concat(), input);
    let metadata = r#"{"_enable_encrypt_messages": true}"#;
    let made = tool(&server, &["queue", "create", "--queue", "q", "--metadata", metadata], "");
    assert!(made.0.status.success(), "{}", stderr(&made.0));

    let (refused, _) = tool(&server, &["post", "--queue", "q"], "{\"plain\": 1}\n");
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--encryption-keys"), "{}", stderr(&refused));
    let (posted, ids) = with_keys(&["post", "--queue", "q"], "{\"plain\": 1}\n");
    assert!(posted.status.success() && ids.len() == 1, "{}", stderr(&posted));

    let (listed, lines) = with_keys(&["list", "--queue", "q"], "");
    assert!(listed.status.success(), "{}", stderr(&listed));
    assert_eq!(lines[0]["body"], json!({"plain": 1}));
    let (_, stats) = with_keys(&["queue", "stats", "--queue", "q"], "");
    assert_eq!(stats[0]["oldest"]["body"], json!({"plain": 1}));
    let (listed, lines) = tool(&server, &["list", "--queue", "q"], "");
    assert_eq!((listed.status.code(), lines.len()), (Some(1), 1));
    assert!(lines[0]["error"].as_str().unwrap().contains("\"a\""), "{lines:?}");
    assert!(lines[0].get("body").is_none(), "{lines:?}");

    // What nobody could read is not deleted.
    let (claimed, lines) = tool(&server, &["claim", "--queue", "q", "--delete"], "");
    assert_eq!(claimed.status.code(), Some(1));
    let claim = lines[0]["claim"].as_str().unwrap();
    assert!(lines[0]["messages"][0].get("error").is_some(), "{lines:?}");
    let (released, _) = tool(&server, &["claim", "release", "--queue", "q", claim], "");
    assert!(released.status.success(), "{}", stderr(&released));
    let (claimed, lines) = with_keys(&["claim", "--queue", "q", "--delete"], "");
    assert!(claimed.status.success(), "{}", stderr(&claimed));
    assert_eq!(lines[0]["messages"][0]["body"], json!({"plain": 1}));
    let (_, stats) = tool(&server, &["queue", "stats", "--queue", "q"], "");
    assert_eq!(stats[0]["total"], 0);
}

#[tokio::test]
async fn the_tool_moves_what_was_claimed_too_often_as_the_service_does() {
    let server = RedisServer::start().await;
    let metadata = r#"{"_max_claim_count": 1, "_dead_letter_queue": "dead"}"#;
    let made = tool(&server, &["queue", "create", "--queue", "q", "--metadata", metadata], "");
    assert!(made.0.status.success(), "{}", stderr(&made.0));
    let (_, posted) = tool(&server, &["post", "--queue", "q"], "\"first\"\n");
    let (_, claimed) = tool(&server, &["claim", "--queue", "q"], "");
    let claim = claimed[0]["claim"].as_str().unwrap();
    tool(&server, &["claim", "release", "--queue", "q", claim], "");
    tool(&server, &["post", "--queue", "q"], "\"second\"\n");

    let (again, claimed) = tool(&server, &["claim", "--queue", "q", "--limit", "1"], "");
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(claimed[0]["messages"][0]["body"], "second", "{claimed:?}");
    let (_, dead) = tool(&server, &["list", "--queue", "dead"], "");
    assert_eq!((dead.len(), &dead[0]["body"]), (1, &json!("first")), "{dead:?} {posted:?}");
    let (_, stats) = tool(&server, &["queue", "stats", "--queue", "q"], "");
    assert_eq!(stats[0]["total"], 1);
}

//! `roundelay pool` as a process, on real servers.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::redis_server::RedisServer;

/// Servers, and how the command is told of them.
struct Servers {
    servers: Vec<RedisServer>,
}

impl Servers {
    async fn start(count: usize) -> Self {
        let mut servers = Vec::new();
        for _ in 0..count {
            servers.push(RedisServer::start_with(&["--maxmemory", "100mb"]).await);
        }
        Self { servers }
    }

    fn urls(&self, which: std::ops::Range<usize>) -> String {
        self.servers[which].iter().map(RedisServer::url).collect::<Vec<_>>().join(",")
    }

    /// Runs the command on all servers.
    fn run(&self, args: &[&str]) -> Output {
        self.run_on(0..self.servers.len(), args, "")
    }

    fn run_on(&self, which: std::ops::Range<usize>, args: &[&str], input: &str) -> Output {
        use std::io::Write as _;
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
        for name in ["COPIES", "COPIES_MIN", "KEEPERS", "CONFIG", "LOG", "PROJECT"] {
            command.env_remove(format!("ROUNDELAY_{name}"));
        }
        command.args(args).args(["--copies", "2"]).env("ROUNDELAY_NODES", self.urls(which));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn worked(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", stdout(output), stderr(output));
    stdout(output)
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn posted(servers: &Servers, which: std::ops::Range<usize>, count: usize) {
    let input: String = (0..count).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    worked(&servers.run_on(which, &["post", "--queue", "q"], &input));
}

fn listed(servers: &Servers, which: std::ops::Range<usize>) -> Vec<u64> {
    let output = servers.run_on(which, &["list", "--queue", "q"], "");
    worked(&output);
    lines(&output).iter().map(|line| line["body"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_made_grown_emptied_and_shrunk_from_the_command_line() {
    let servers = Servers::start(4).await;
    let made = worked(&servers.run_on(0..3, &["pool", "init"], ""));
    assert!(made.contains("healthy") && made.contains("keeper epoch"), "{made}");
    posted(&servers, 0..3, 500);
    worked(&servers.run_on(0..3, &["pool", "status", "--wait", "10"], ""));

    let url = servers.servers[3].url();
    let added = worked(&servers.run_on(0..3, &["pool", "add", &url, "--json"], ""));
    assert!(added.contains("\"up\":true"), "{added}");
    let status = servers.run_on(0..3, &["pool", "status", "--json", "--wait", "10"], "");
    worked(&status);
    let status = &lines(&status)[0];
    assert_eq!(status["healthy"], true);
    assert_eq!(status["nodes"].as_array().unwrap().len(), 4);
    let used = |node: &&Value| node["replicas"].as_u64().unwrap() > 0;
    let node = status["nodes"].as_array().unwrap().iter().find(used).unwrap();
    let (id, name) = (node["id"].to_string(), node["name"].as_str().unwrap().to_owned());

    // It is used, so it cannot just be removed: two copies would become one.
    let dry = servers.run(&["pool", "remove", &name, "--dry-run", "--json"]);
    assert!(lines(&dry)[0]["messages_thin"].as_u64().unwrap() > 0, "{}", stdout(&dry));
    let refused = servers.run(&["pool", "remove", &name]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("drain it first"), "{}", stderr(&refused));

    let cancelled = servers.run(&["pool", "drain", &id, "--detach"]);
    worked(&cancelled);
    let cancelled = worked(&servers.run(&["pool", "drain", &id, "--cancel"]));
    assert!(cancelled.contains("used again"), "{cancelled}");
    let drained = servers.run(&["pool", "drain", &id]);
    assert!(worked(&drained).contains("is empty"), "{drained:?}");
    assert!(stderr(&drained).contains("replicas left"), "plain lines: {}", stderr(&drained));
    let removed = worked(&servers.run(&["pool", "remove", &id]));
    assert!(removed.contains("0 messages (0 segments) are lost"), "{removed}");
    assert!(removed.contains("is removed"), "{removed}");
    let at = servers.servers.iter().position(|server| server.url() == name).unwrap();
    servers.servers[at].kill();
    let status = servers.run(&["pool", "status", "--json", "--wait", "10"]);
    worked(&status);
    assert_eq!(lines(&status)[0]["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(listed(&servers, 0..4), (0..500).collect::<Vec<_>>());
}

/// Every server is restarted empty, one after the other, and nothing is waited for but the status.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_restarted_one_by_one_and_nothing_is_lost() {
    let servers = Servers::start(3).await;
    posted(&servers, 0..3, 2_000);
    for server in &servers.servers {
        worked(&servers.run(&["pool", "status", "--wait", "30"]));
        server.kill();
        let without = servers.run(&["pool", "status"]);
        assert_eq!(without.status.code(), Some(1));
        assert!(stdout(&without).contains("not healthy"), "{}", stdout(&without));
        server.start_again().await;
    }
    worked(&servers.run(&["pool", "status", "--wait", "30"]));
    assert_eq!(listed(&servers, 0..3), (0..2_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_says_which_copy_disagrees() {
    let servers = Servers::start(3).await;
    posted(&servers, 0..3, 300);
    let agreed = servers.run(&["pool", "verify"]);
    assert!(worked(&agreed).contains("300 messages compared, 0 disagree"), "{agreed:?}");

    // A claim closes the segment; then one server loses a block behind everybody's back.
    let claimed = servers.run(&["claim", "--queue", "q", "--limit", "1"]);
    worked(&claimed);
    worked(&servers.run(&["pool", "status", "--wait", "10"]));
    let mut spoilt = None;
    for server in &servers.servers {
        let keys: Vec<String> = server.run(&["KEYS", "*"]).await;
        for key in keys {
            let kind: String = server.run(&["TYPE", &key]).await;
            if kind == "string" && server.run::<u64>(&["STRLEN", &key]).await > 1_000 {
                let at = server.run::<u64>(&["STRLEN", &key]).await - 3;
                server.run::<u64>(&["SETRANGE", &key, &at.to_string(), "???"]).await;
                spoilt = Some(server.url());
                break;
            }
        }
        if spoilt.is_some() {
            break;
        }
    }
    let spoilt = spoilt.expect("a block on some server");
    let checked = servers.run(&["pool", "verify", "--json"]);
    assert_eq!(checked.status.code(), Some(1), "{}", stdout(&checked));
    let bad: Vec<Value> =
        lines(&checked).into_iter().filter(|line| line["agrees"] == false).collect();
    assert_eq!(bad.len(), 1, "{bad:?}");
    let replicas = bad[0]["replicas"].as_array().unwrap();
    assert!(replicas.iter().any(|replica| replica["node"] == spoilt.as_str()), "{replicas:?}");
    assert!(
        replicas.iter().any(|replica| replica["differing"] != 0 || !replica["error"].is_null())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_the_command_that_mends() {
    let servers = Servers::start(3).await;
    let fine = servers.run(&["pool", "doctor"]);
    let said = worked(&fine);
    assert!(
        said.contains("clock") && said.contains("memory") && said.contains("version"),
        "{said}"
    );
    servers.servers[1].run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    servers.servers[2].run::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let ill = servers.run(&["pool", "doctor"]);
    assert_eq!(ill.status.code(), Some(1));
    let said = stdout(&ill);
    assert!(said.contains("config set maxmemory-policy noeviction"), "{said}");
    assert!(said.contains("warning") && said.contains("no limit"), "{said}");
    let refused = servers.run(&["pool", "init"]);
    assert_eq!(refused.status.code(), Some(1));
    servers.servers[0].kill();
    let ill = servers.run(&["pool", "doctor", "--json"]);
    let down = lines(&ill)
        .into_iter()
        .find(|line| line["check"] == "reachable" && line["verdict"] == "problem");
    assert_eq!(down.unwrap()["node"], servers.servers[0].url());
}

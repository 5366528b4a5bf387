//! Who a server is and whether it may be used: asked of each connection before its first use, and
//! by [`Op::Identity`](crate::node::Op::Identity).
//!
//! What must not be used: a version without scripts that run on a full node, a replica of another
//! server, a policy that evicts (Q1). A server is durable only if all it acknowledges survives a
//! restart; that is checked here, never believed.

use std::collections::HashMap;

use redis::{Pipeline, Value};

use super::wire::stored_cookie;
use crate::id::Epoch;
use crate::node::{Identity, KeeperState, UnsafeSetting};

/// The oldest version that can be used: scripts with flags came with it.
const OLDEST_MAJOR: u64 = 7;
const SETTINGS: [&str; 5] = [
    "maxmemory-policy",
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "aof-load-truncated",
];

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Inspected {
    pub(super) run_id: String,
    pub(super) version: String,
    pub(super) loading: bool,
    pub(super) durable: bool,
    pub(super) unsafe_settings: Vec<UnsafeSetting>,
    memory: (u64, u64),
    now_ms: u64,
}

/// How people reach the server from a shell, for what mends a setting.
pub(super) fn with_address(mut settings: Vec<UnsafeSetting>, cli: &str) -> Vec<UnsafeSetting> {
    for setting in &mut settings {
        setting.mend = setting.mend.replace("redis-cli", cli);
    }
    settings
}

/// Appends the questions.
pub(super) fn ask(pipe: &mut Pipeline) {
    pipe.cmd("INFO");
    for setting in SETTINGS {
        pipe.cmd("CONFIG").arg("GET").arg(setting);
    }
}

/// How many answers there will be.
pub(super) const QUESTIONS: usize = 1 + SETTINGS.len();

/// Reads the answers to [`ask`].
pub(super) fn read(values: &[Value]) -> Result<Inspected, String> {
    let (first, settings) = values.split_first().ok_or("no answer")?;
    let info = info(first)?;
    let told = |field: &str| info.get(field).map(String::as_str).unwrap_or_default();
    let number = |field: &str| told(field).parse().unwrap_or(0);
    let settings: Vec<Option<String>> = settings.iter().map(setting).collect();
    let set = |at: usize| settings.get(at).and_then(Option::as_deref);
    let policy = set(0).unwrap_or_else(|| told("maxmemory_policy"));
    let mut inspected = Inspected {
        run_id: told("run_id").into(),
        version: told("redis_version").into(),
        loading: told("loading") == "1",
        durable: [set(1), set(2), set(3), set(4)]
            == [Some("yes"), Some("always"), Some("no"), Some("no")],
        unsafe_settings: Vec::new(),
        memory: (number("used_memory"), number("maxmemory")),
        now_ms: number("server_time_usec") / 1_000,
    };
    if inspected.run_id.is_empty() {
        return Err("it does not tell its run id".into());
    }
    let mut unsafe_setting = |setting: &str, found: &str, mend: String| {
        let (setting, found) = (setting.into(), found.into());
        inspected.unsafe_settings.push(UnsafeSetting { setting, found, mend });
    };
    if policy != "noeviction" {
        let mend = "redis-cli config set maxmemory-policy noeviction".into();
        unsafe_setting("maxmemory-policy", policy, mend);
    }
    if told("role") != "master" {
        let of = format!("{}:{}", told("master_host"), told("master_port"));
        unsafe_setting("replicaof", &of, "redis-cli replicaof no one".into());
    }
    if told("redis_mode") == "cluster" {
        let mend = "start the server with cluster-enabled no".into();
        unsafe_setting("cluster-enabled", "yes", mend);
    }
    let major = told("redis_version").split('.').next().and_then(|major| major.parse().ok());
    if major.is_none_or(|major: u64| major < OLDEST_MAJOR) {
        let mend = format!("run version {OLDEST_MAJOR}.0 or newer");
        unsafe_setting("redis_version", told("redis_version"), mend);
    }
    Ok(inspected)
}

/// The reply to `Identity`: the answers to [`ask`], then that of the script.
pub(super) fn identity(mut values: Vec<Value>) -> Result<Identity, String> {
    let script = values.pop().ok_or("no answer")?;
    let inspected = read(&values)?;
    let parts: Vec<String> = match &script {
        Value::Array(parts) => parts.iter().filter_map(text).collect(),
        // A server that is too old cannot run the script; what it holds does not matter.
        _ if !inspected.unsafe_settings.is_empty() => Vec::new(),
        Value::ServerError(error) => return Err(format!("{error:?}")),
        _ => return Err("the script's answer is no array".into()),
    };
    let keeper = match (&script, parts.get(1).and_then(|epoch| epoch.parse().ok())) {
        (Value::Array(raw), Some(epoch)) => Some(KeeperState {
            epoch: Epoch(epoch),
            keepers: raw.get(2).and_then(bytes).unwrap_or_default().into(),
            active: raw.get(3).and_then(text).as_deref() == Some("1"),
        }),
        _ => None,
    };
    Ok(Identity {
        run_id: inspected.run_id,
        cookie: parts.first().and_then(|held| stored_cookie(held)),
        durable: inspected.durable,
        unsafe_settings: inspected.unsafe_settings,
        keeper,
        memory: inspected.memory,
        now_ms: inspected.now_ms,
        version: inspected.version,
    })
}

fn info(value: &Value) -> Result<HashMap<String, String>, String> {
    match value {
        Value::ServerError(error) => {
            Err([error.code(), error.details().unwrap_or_default()].join(" "))
        }
        other => {
            let text = text(other).ok_or("it does not answer INFO with text")?;
            let lines = text.lines().filter_map(|line| line.split_once(':'));
            Ok(lines.map(|(field, value)| (field.into(), value.trim_end().into())).collect())
        }
    }
}

/// The value of one setting; `None` if the server does not tell.
fn setting(value: &Value) -> Option<String> {
    match value {
        Value::Array(pair) => pair.get(1).and_then(text),
        Value::Map(pairs) => pairs.first().and_then(|(_, value)| text(value)),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => Some(text.clone()),
        other => bytes(other).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes.clone()),
        _ => None,
    }
}

//! The doctor: looks at every node without using any of them, and says what mends what is wrong.
//!
//! It needs no pool that opens: a node that must not be used keeps one from opening.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::admin::{Finding, Verdict};
use crate::node::{Identity, Node, NodeError, Op, Reply};
use crate::time::Clock;

/// How long a node may take to say who it is.
const LIMIT: Duration = Duration::from_secs(2);
/// Clocks that differ by more are told, and are a problem.
const SKEW_MS: (u64, u64) = (500, 10_000);
/// Parts of the memory, in percent, from which on it is told, and a problem.
const USED: (u64, u64) = (75, 90);

/// Looks at these nodes. `now` is this process's clock.
pub(crate) async fn examine(nodes: &[Arc<dyn Node>], copies: usize, clock: &Clock) -> Vec<Finding> {
    let asked = nodes.iter().map(|node| ask(&**node, clock));
    let answers = join_all(asked).await;
    let mut findings = Vec::new();
    let mut known = Vec::new();
    for (node, answer) in nodes.iter().zip(answers) {
        match answer {
            Ok(seen) => {
                findings.extend(of_node(node.name(), &seen));
                known.push((node.name(), seen.identity));
            }
            Err(why) => findings.push(unreachable(node.name(), &why)),
        }
    }
    findings.extend(of_pool(&known, nodes.len(), copies));
    findings
}

/// What a node said, and when.
struct Seen {
    identity: Identity,
    /// This process's clock, in the middle of the question.
    at_ms: u64,
    took: Duration,
}

async fn ask(node: &dyn Node, clock: &Clock) -> Result<Seen, String> {
    // The first one pays for the connection.
    let mut seen = Err(String::new());
    for _ in 0..2 {
        let before = clock.now_ms();
        let answer = timeout(LIMIT, node.call(vec![Op::Identity])).await;
        let took_ms = clock.now_ms().saturating_sub(before);
        seen = match answer {
            Ok(Ok(mut replies)) => match replies.pop() {
                Some(Reply::Identity(identity)) => Ok(Seen {
                    identity,
                    at_ms: before + took_ms / 2,
                    took: Duration::from_millis(took_ms),
                }),
                _ => Err("it does not say who it is".into()),
            },
            Ok(Err(
                NodeError::Unreached { reason, .. }
                | NodeError::Unknown { reason, .. }
                | NodeError::Broken { reason, .. },
            )) => Err(reason),
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        };
    }
    seen
}

fn unreachable(node: &str, why: &str) -> Finding {
    let mend = "start the server, or mend its address, password and network; if it never comes back: \
                roundelay pool remove";
    finding(node, "reachable", Verdict::Problem, why, Some(mend.into()))
}

fn finding(
    node: &str,
    check: &'static str,
    verdict: Verdict,
    found: impl Into<String>,
    mend: Option<String>,
) -> Finding {
    Finding { node: node.to_owned(), check, verdict, found: found.into(), mend }
}

fn of_node(node: &str, seen: &Seen) -> Vec<Finding> {
    let Seen { identity, at_ms, took } = seen;
    let mut findings = vec![finding(
        node,
        "reachable",
        Verdict::Fine,
        format!("answers within {} ms", took.as_millis()),
        None,
    )];
    for bad in &identity.unsafe_settings {
        let found = format!("{} is {:?}", bad.setting, bad.found);
        let mend = Some(bad.mend.clone());
        findings.push(finding(node, "settings", Verdict::Problem, found, mend));
    }
    if identity.unsafe_settings.is_empty() {
        let kept = if identity.durable { "every write is kept on disk" } else { "in memory only" };
        findings.push(finding(node, "settings", Verdict::Fine, kept, None));
    }
    findings.push(memory(node, identity.memory));
    findings.push(clock_of(node, identity.now_ms, *at_ms));
    findings
}

fn memory(node: &str, (used, limit): (u64, u64)) -> Finding {
    let mebibytes = |bytes: u64| bytes / (1024 * 1024);
    if limit == 0 {
        let found = format!("{} MiB used, no limit", mebibytes(used));
        let mend = "redis-cli config set maxmemory <bytes>: without a limit the system may end the \
                    server when memory is short";
        return finding(node, "memory", Verdict::Warning, found, Some(mend.into()));
    }
    let percent = used.saturating_mul(100) / limit;
    let found = format!("{} of {} MiB used ({percent} %)", mebibytes(used), mebibytes(limit));
    let mend = || {
        Some(
            "raise maxmemory (redis-cli config set maxmemory <bytes>), or: roundelay pool add"
                .into(),
        )
    };
    match percent {
        full if full >= USED.1 => finding(node, "memory", Verdict::Problem, found, mend()),
        much if much >= USED.0 => finding(node, "memory", Verdict::Warning, found, mend()),
        _ => finding(node, "memory", Verdict::Fine, found, None),
    }
}

fn clock_of(node: &str, now_ms: u64, here_ms: u64) -> Finding {
    if now_ms == 0 {
        let found = "it does not tell its time";
        return finding(node, "clock", Verdict::Warning, found, None);
    }
    let (sign, off) = match now_ms >= here_ms {
        true => ('+', now_ms - here_ms),
        false => ('-', here_ms - now_ms),
    };
    let found = format!("{sign}{off} ms off this machine's clock");
    let mend =
        || Some("chronyc makestep, on that machine and this one; and keep NTP running".into());
    match off {
        far if far >= SKEW_MS.1 => finding(node, "clock", Verdict::Problem, found, mend()),
        some if some >= SKEW_MS.0 => finding(node, "clock", Verdict::Warning, found, mend()),
        _ => finding(node, "clock", Verdict::Fine, found, None),
    }
}

/// What shows only when nodes are held against each other.
fn of_pool(known: &[(&str, Identity)], given: usize, copies: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut pools: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, identity) in known {
        if let Some((cookie, _)) = &identity.cookie {
            pools.entry(cookie.pool.to_string()).or_default().push(node);
        }
        versions.entry(&identity.version).or_default().push(node);
    }
    let told = |groups: Vec<(String, &Vec<&str>)>| {
        let each = groups.iter().map(|(what, nodes)| format!("{what}: {}", nodes.join(", ")));
        each.collect::<Vec<_>>().join("; ")
    };
    let listed = told(pools.iter().map(|(pool, nodes)| (pool.clone(), nodes)).collect());
    findings.push(match pools.len() {
        0 => finding(
            "",
            "pool",
            Verdict::Warning,
            "no node is of a pool yet",
            Some("roundelay pool init".into()),
        ),
        1 => finding("", "pool", Verdict::Fine, format!("one pool, {listed}"), None),
        _ => {
            let mend =
                "name the nodes of one pool only, or empty those of the other: redis-cli flushall";
            finding(
                "",
                "pool",
                Verdict::Problem,
                format!("of different pools: {listed}"),
                Some(mend.into()),
            )
        }
    });
    findings.extend(twice(known));
    if versions.len() > 1 {
        let listed = told(versions.iter().map(|(of, nodes)| ((*of).to_owned(), nodes)).collect());
        let mend = "run the same version everywhere: restart one node after the other, each when roundelay \
                    pool status --wait says that the pool is healthy";
        findings.push(finding("", "version", Verdict::Warning, listed, Some(mend.into())));
    } else if let Some(version) = versions.keys().next() {
        findings.push(finding("", "version", Verdict::Fine, format!("{version} everywhere"), None));
    }
    let keepers =
        known.iter().filter(|(_, id)| id.keeper.as_ref().is_some_and(|keeper| keeper.active));
    let keepers = keepers.count();
    if !pools.is_empty() && keepers == 0 {
        let mend = "name the nodes that keep manifests too (roundelay pool status)";
        findings.push(finding(
            "",
            "pool",
            Verdict::Problem,
            "no keeper among them",
            Some(mend.into()),
        ));
    }
    if given <= copies {
        let found = format!(
            "{given} nodes for {copies} copies: when one is gone its copies cannot be made good"
        );
        let mend = Some("roundelay pool add <URL>".into());
        findings.push(finding("", "pool", Verdict::Warning, found, mend));
    }
    findings
}

/// Addresses that lead to the same server.
fn twice(known: &[(&str, Identity)]) -> Vec<Finding> {
    let mut runs = BTreeSet::new();
    let mut findings = Vec::new();
    for (node, identity) in known {
        if !runs.insert(&identity.run_id) {
            let mend = Some("name each server once".to_owned());
            let found = "another address leads to the same server";
            findings.push(finding(node, "membership", Verdict::Problem, found, mend));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_clocks_are_told_with_what_mends_them() {
        assert_eq!(memory("n", (10, 100)).verdict, Verdict::Fine);
        assert_eq!(memory("n", (80, 100)).verdict, Verdict::Warning);
        assert!(memory("n", (95, 100)).mend.unwrap().contains("maxmemory"));
        assert_eq!(memory("n", (95, 0)).verdict, Verdict::Warning, "no limit");
        assert_eq!(clock_of("n", 1_000_100, 1_000_000).verdict, Verdict::Fine);
        assert_eq!(clock_of("n", 999_000, 1_000_000).found, "-1000 ms off this machine's clock");
        assert_eq!(clock_of("n", 1_020_000, 1_000_000).verdict, Verdict::Problem);
    }
}

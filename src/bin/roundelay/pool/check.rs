//! `roundelay pool verify` and `doctor`.

use roundelay::{Finding, Verdict, Verified, VerifiedReplica};
use serde_json::json;

use super::Output;
use super::progress::Progress;
use crate::failure::Failure;
use crate::lines;
use crate::settings::Settings;

pub(super) async fn verify(settings: &Settings, output: Output) -> Result<(), Failure> {
    let store = settings.open().await?;
    let mut progress = Progress::new();
    let (mut segments, mut messages, mut bad) = (0_u64, 0_u64, Vec::new());
    let mut printed = Ok(());
    let compared = store
        .admin()
        .verify(|verified| {
            segments += 1;
            messages += verified.messages;
            if output.json && printed.is_ok() {
                printed = lines::print(&as_json(&verified));
            }
            if !verified.agrees {
                bad.push(verified);
            }
            if !output.json && segments % 100 == 0 {
                let said = format!("{segments} segments compared, {} disagree", bad.len());
                progress.at(0, 1, said);
            }
        })
        .await;
    progress.end();
    store.close().await;
    compared?;
    printed?;
    if !output.json {
        for verified in &bad {
            println!("{}", said(verified));
        }
        let count = bad.len();
        println!("{segments} segments with {messages} messages compared, {count} disagree");
    }
    if bad.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}

fn as_json(verified: &Verified) -> serde_json::Value {
    let (project, queue) = &verified.queue;
    let replica = |replica: &VerifiedReplica| {
        json!({
            "node": replica.node, "digest": replica.digest.as_ref().ok(),
            "error": replica.digest.as_ref().err(), "differing": replica.differing,
        })
    };
    json!({
        "project": project, "queue": queue, "segment": verified.segment,
        "messages": verified.messages, "agrees": verified.agrees,
        "replicas": verified.replicas.iter().map(replica).collect::<Vec<_>>(),
    })
}

fn said(verified: &Verified) -> String {
    let (project, queue) = &verified.queue;
    let each = verified.replicas.iter().map(|replica| match &replica.digest {
        Ok(digest) => {
            let start: String = digest.chars().take(8).collect();
            format!("{} has {start}, {} messages differ", replica.node, replica.differing)
        }
        Err(why) => format!("{} cannot be read: {why}", replica.node),
    });
    let each: Vec<String> = each.collect();
    format!(
        "queue {queue:?} of project {project:?}, segment {}: {}",
        verified.segment,
        each.join("; ")
    )
}

pub(super) async fn doctor(settings: &Settings, output: Output) -> Result<(), Failure> {
    let mut findings = settings.examine().await?;
    // Nodes that must not be used keep a store from opening, and empty ones would become a pool by it.
    // Else the pool tells more: also of nodes that settings do not name.
    let is_pool = |finding: &Finding| finding.check == "pool" && finding.verdict == Verdict::Fine;
    if !is_ill(&findings)
        && findings.iter().any(is_pool)
        && let Ok(store) = settings.open().await
    {
        let all = store.admin().examine().await;
        store.close().await;
        findings = all?;
    }
    print(&findings, output)?;
    match is_ill(&findings) {
        true => Err(Failure::Reported),
        false => Ok(()),
    }
}

fn is_ill(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.verdict == Verdict::Problem)
}

/// Prints what was found, one finding a line.
pub(super) fn print(findings: &[Finding], output: Output) -> Result<(), Failure> {
    for finding in findings {
        let Finding { node, check, found, mend, .. } = finding;
        let verdict = match finding.verdict {
            Verdict::Fine => "fine",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        };
        if output.json {
            lines::print(&json!({
                "node": node, "check": check, "verdict": verdict, "found": found, "mend": mend,
            }))?;
            continue;
        }
        let node = if node.is_empty() { "pool" } else { node };
        println!("{verdict:<8} {node} {check}: {found}");
        if let Some(mend) = mend {
            println!("         mend: {mend}");
        }
    }
    Ok(())
}

//! What the library counts, as Prometheus sees it: taken from the store at each scrape.
//!
//! `specs/metrics.md` lists all of them; a test holds the two together.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::{CallMetrics, Census, Metrics, NodeMetrics, Store};

/// Tells what a store counts.
#[derive(Debug)]
pub(super) struct OfStore(pub(super) Store);

impl Collector for OfStore {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metrics = self.0.metrics();
        nodes(&mut encoder, &metrics.nodes)?;
        counters(&mut encoder, &metrics)?;
        match &metrics.census {
            Some(counted) => census(&mut encoder, counted),
            None => Ok(()),
        }
    }
}

fn nodes(encoder: &mut DescriptorEncoder<'_>, nodes: &[NodeMetrics]) -> fmt::Result {
    let help = "Nodes that were up and came to be in doubt";
    let mut metric =
        encoder.encode_descriptor("node_suspicions", help, None, MetricType::Counter)?;
    for node in nodes {
        count(&mut metric.encode_family(&[("node", node.name.as_str())])?, node.suspicions)?;
    }
    let help = "Calls to nodes without an answer that could be used";
    let mut metric =
        encoder.encode_descriptor("node_call_failures", help, None, MetricType::Counter)?;
    for (labels, calls) in calls(nodes) {
        count(&mut metric.encode_family(&labels)?, calls.failures)?;
    }
    let (help, unit) = ("Time until a node answered a call", Some(&Unit::Seconds));
    let mut metric =
        encoder.encode_descriptor("node_call_duration", help, unit, MetricType::Histogram)?;
    for (labels, calls) in calls(nodes) {
        let bound = |bound: Duration| match bound {
            Duration::MAX => f64::INFINITY,
            bound => bound.as_secs_f64(),
        };
        let times: Vec<(f64, u64)> =
            calls.times.iter().map(|(upto, count)| (bound(*upto), *count)).collect();
        let count = times.iter().map(|(_, count)| count).sum();
        let sum = calls.total.as_secs_f64();
        metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &times, None)?;
    }
    Ok(())
}

fn calls(nodes: &[NodeMetrics]) -> impl Iterator<Item = ([(&'static str, &str); 2], &CallMetrics)> {
    nodes.iter().flat_map(|node| {
        let labels =
            move |calls: &CallMetrics| [("node", node.name.as_str()), ("kind", calls.kind)];
        node.calls.iter().map(move |calls| (labels(calls), calls))
    })
}

fn counters(encoder: &mut DescriptorEncoder<'_>, metrics: &Metrics) -> fmt::Result {
    for (name, help, unit, value) in [
        ("acked_blocks", "Blocks that were acknowledged", None, metrics.acked_blocks),
        ("acked_messages", "Messages that were acknowledged", None, metrics.acked_messages),
        ("acked", "Bytes that were acknowledged", Some(Unit::Bytes), metrics.acked_bytes),
        ("resent_blocks", "Blocks that were sent again", None, metrics.resent_blocks),
        (
            "claim_conflicts",
            "Messages picked for a claim that somebody else held",
            None,
            metrics.claim_conflicts,
        ),
    ] {
        let kind = MetricType::Counter;
        count(&mut encoder.encode_descriptor(name, help, unit.as_ref(), kind)?, value)?;
    }
    let help = "Bytes copied to restore copies, at once or no faster than set";
    let (unit, kind) = (Some(&Unit::Bytes), MetricType::Counter);
    let mut metric = encoder.encode_descriptor("repair_copied", help, unit, kind)?;
    for (speed, value) in
        [("urgent", metrics.copied_bytes_urgent), ("paced", metrics.copied_bytes_paced)]
    {
        count(&mut metric.encode_family(&[("speed", speed)])?, value)?;
    }
    let help = "Whether this process is the one that restores copies";
    gauge(encoder, "repairs", help, None, u64::from(metrics.repairs))?;
    let help = "Segments that this process opened, sealed, dropped, or gave up";
    let mut metric =
        encoder.encode_descriptor("segment_changes", help, None, MetricType::Counter)?;
    for (change, value) in [
        ("opened", metrics.segments_opened),
        ("sealed", metrics.segments_sealed),
        ("dropped", metrics.segments_dropped),
        ("lost", metrics.segments_lost),
    ] {
        count(&mut metric.encode_family(&[("change", change)])?, value)?;
    }
    Ok(())
}

fn census(encoder: &mut DescriptorEncoder<'_>, census: &Census) -> fmt::Result {
    let help = "Messages in the queues that this process has met";
    let states =
        [("active", census.active), ("claimed", census.claimed), ("delayed", census.delayed)];
    by_state(encoder, "messages", help, None, &states)?;
    let help = "Bytes of the messages in them; by state an estimate";
    let states = [
        ("active", census.active_bytes),
        ("claimed", census.claimed_bytes),
        ("delayed", census.delayed_bytes),
    ];
    by_state(encoder, "message", help, Some(&Unit::Bytes), &states)?;
    let help = "Segments of the queues that this process has met";
    let states = [
        ("open", census.segments_open),
        ("closed", census.segments_closed),
        ("lost", census.segments_lost),
    ];
    by_state(encoder, "segments", help, None, &states)?;
    let help = "Closed segments with fewer full copies than messages should have";
    gauge(encoder, "under_replicated_segments", help, None, census.segments_under_replicated)?;
    let help = "Segments whose messages are not among the messages counted";
    gauge(encoder, "uncounted_segments", help, None, census.segments_uncounted)?;
    let help = "Age of the oldest message that is neither claimed nor delayed; 0: there is none";
    let oldest = census.oldest_unclaimed.unwrap_or_default().as_secs_f64();
    gauge(encoder, "oldest_unclaimed_age", help, Some(&Unit::Seconds), oldest)?;
    let help = "Age of the oldest count that the numbers of messages rest on";
    gauge(encoder, "census_age", help, Some(&Unit::Seconds), census.age.as_secs_f64())
}

fn by_state(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    states: &[(&str, u64)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (state, value) in states {
        metric.encode_family(&[("state", *state)])?.encode_gauge(value)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: impl EncodeGaugeValue,
) -> fmt::Result {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

fn count(metric: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

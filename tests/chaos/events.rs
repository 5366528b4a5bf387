//! What is posted: events as a shop might log them, 200 to 2,000 bytes of JSON, made from a seed.
//!
//! Each says who posted it and as which of its own, so a reader can tell what it should look like
//! and notices a body that was changed.

use fastrand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};

const KINDS: [&str; 6] =
    ["page.viewed", "cart.changed", "order.placed", "user.signed_up", "mail.opened", "item.rated"];
const WORDS: [&str; 16] = [
    "late",
    "parcel",
    "blue",
    "second",
    "floor",
    "please",
    "ring",
    "twice",
    "the",
    "neighbour",
    "takes",
    "it",
    "not",
    "before",
    "noon",
    "café",
];

/// Who posted an event, and as which of its own, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub(crate) struct Origin {
    pub(crate) producer: u64,
    pub(crate) seq: u64,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event {} of producer {}", self.seq, self.producer)
    }
}

/// The event, always the same for the same seed and origin.
pub(crate) fn event(seed: u64, origin: Origin) -> String {
    let Origin { producer, seq } = origin;
    let mixed = seed ^ (producer << 48) ^ seq.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rng = Rng::with_seed(mixed);
    // Most events are short, as most are.
    let share = rng.f64();
    let wanted = 210 + (1700.0 * share * share) as usize;
    let mut event = json!({
        "producer": producer,
        "seq": seq,
        "event": KINDS[rng.usize(..KINDS.len())],
        "at_ms": 1_700_000_000_000_u64 + rng.u64(..1_000_000_000),
        "user": { "id": format!("u-{:07}", rng.u32(..10_000_000)), "plan": "free", "country": "SE" },
        "session": format!("{:032x}", rng.u128(..)),
        "device": { "kind": "phone", "os": "android", "version": [14, rng.u8(..9)] },
    });
    let mut items = Vec::new();
    let mut length = event.to_string().len();
    while length + 160 < wanted {
        let item = json!({
            "sku": format!("K-{:06}", rng.u32(..1_000_000)),
            "quantity": rng.u8(1..9),
            "price": { "amount": f64::from(rng.u32(99..99_999)) / 100.0, "currency": "SEK" },
            "gift": rng.bool(),
        });
        length += item.to_string().len() + 1;
        items.push(item);
    }
    let mut note = String::new();
    while length + note.len() + 30 < wanted || note.is_empty() {
        note.push_str(WORDS[rng.usize(..WORDS.len())]);
        note.push(' ');
    }
    event["items"] = Value::Array(items);
    event["note"] = Value::String(note);
    event.to_string()
}

/// Where a body claims to come from, and whether it is, byte for byte, what was sent from there.
pub(crate) fn recognise(seed: u64, body: &[u8]) -> Option<(Origin, bool)> {
    let origin: Origin = serde_json::from_slice(body).ok()?;
    Some((origin, event(seed, origin).as_bytes() == body))
}

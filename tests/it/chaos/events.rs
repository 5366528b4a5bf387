//! Events are what the harness says they are.

use super::harness::events::{Origin, event, recognise};

/// Bytes of the shortest and of the longest event.
const SIZES: std::ops::RangeInclusive<usize> = 200..=2000;

#[test]
fn events_have_their_sizes_and_are_recognised() {
    let (mut shortest, mut longest) = (usize::MAX, 0);
    for seq in 1..=5000 {
        let origin = Origin { producer: seq % 4, seq };
        let event = event(7, origin);
        assert_eq!(recognise(7, event.as_bytes()), Some((origin, true)));
        assert_eq!(recognise(8, event.as_bytes()), Some((origin, false)));
        shortest = shortest.min(event.len());
        longest = longest.max(event.len());
    }
    assert!(SIZES.contains(&shortest) && SIZES.contains(&longest), "{shortest} to {longest}");
    assert!(longest > 1500 && shortest < 400, "{shortest} to {longest}");
    assert_eq!(recognise(7, b"{}"), None);
}

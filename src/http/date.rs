//! Dates, as the API writes and reads them.

use time::format_description::well_known::Iso8601;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Seconds since the Unix epoch as `YYYY-MM-DDThh:mm:ss`, in UTC.
pub(super) fn utc(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    // Beyond the year 9999 there is nothing to be told apart.
    let at = OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap_or_else(|_| PrimitiveDateTime::MAX.assume_utc());
    let (date, time) = (at.date(), at.time());
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    )
}

/// Seconds since the Unix epoch of an ISO 8601 date and time, which is in UTC unless it says so.
pub(super) fn parse(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .or_else(|_| {
            PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).map(PrimitiveDateTime::assume_utc)
        })
        .ok()?;
    u64::try_from(at.unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_767_225_600, "2026-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(utc(seconds), text);
            assert_eq!(parse(text), Some(seconds));
        }
        assert_eq!(utc(u64::MAX), "9999-12-31T23:59:59");
    }

    #[test]
    fn dates_are_read_with_and_without_fractions_and_offsets() {
        for same in [
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.500000Z",
            "2026-01-01T01:00:00+01:00",
            "20260101T000000",
        ] {
            assert_eq!(parse(same), Some(1_767_225_600), "{same}");
        }
        for wrong in ["", "soon", "2026-02-30T00:00:00", "1767225600", "1969-01-01T00:00:00"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}

//! Checksums of bodies, as Zaqar makes them: of the text that Python's `json.dumps` would write, so that
//! a client in Python finds the same by writing the body that it read.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

use super::json::JsonBody;
use crate::Message;

/// Decimal exponents of floats that Python writes without one.
const WITHOUT_EXPONENT: std::ops::Range<i32> = -4..16;

/// The checksum of a message's body; none of null, and none of what is no JSON.
pub(super) fn of(message: &Message) -> Option<String> {
    let body = serde_json::to_value(JsonBody(message)).ok().filter(|body| !body.is_null())?;
    let digest = md5::compute(written(&body).ok()?);
    Some(format!("MD5:{digest:x}"))
}

fn written(body: &Value) -> serde_json::Result<Vec<u8>> {
    let mut text = Vec::new();
    body.serialize(&mut Serializer::with_formatter(&mut text, Python))?;
    Ok(text)
}

/// Python's way of writing JSON.
struct Python;

impl Python {
    fn separate<W: Write + ?Sized>(writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for Python {
    fn begin_array_value<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        Self::separate(to, first)
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        Self::separate(to, first)
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }

    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for letter in fragment.chars() {
            if matches!(letter, ' '..='~') {
                write!(to, "{letter}")?;
            } else {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    write!(to, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_f64<W: Write + ?Sized>(&mut self, to: &mut W, value: f64) -> io::Result<()> {
        let scientific = format!("{value:e}");
        let Some((digits, exponent)) = scientific.split_once('e') else {
            return to.write_all(scientific.as_bytes());
        };
        let exponent: i32 = exponent.parse().unwrap_or_default();
        if !WITHOUT_EXPONENT.contains(&exponent) {
            return write!(to, "{digits}e{exponent:+03}");
        }
        let plain = value.to_string();
        let fraction = if plain.contains('.') { "" } else { ".0" };
        write!(to, "{plain}{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn python(value: &Value) -> String {
        String::from_utf8(written(value).unwrap()).unwrap()
    }

    #[test]
    fn bodies_are_written_as_python_writes_them() {
        for (value, wanted) in [
            (json!({"b": [1, {"x": null}], "a": true}), r#"{"b": [1, {"x": null}], "a": true}"#),
            (json!([]), "[]"),
            (json!({}), "{}"),
            (json!("a\"\\/\n\u{1}\u{7f}"), r#""a\"\\/\n\u0001\u007f""#),
            (json!("é€😀"), r#""\u00e9\u20ac\ud83d\ude00""#),
            (json!([1.0, -0.0, 0.1, 1.5e300, 1e22]), "[1.0, -0.0, 0.1, 1.5e+300, 1e+22]"),
            (json!([1e15, 1e16, 123456789.125]), "[1000000000000000.0, 1e+16, 123456789.125]"),
            (json!([0.0001, 0.00001, 1.25e-7]), "[0.0001, 1e-05, 1.25e-07]"),
            (json!([i64::MAX, i64::MIN]), "[9223372036854775807, -9223372036854775808]"),
        ] {
            assert_eq!(python(&value), wanted);
        }
    }
}

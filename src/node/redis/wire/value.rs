//! Reading what a server sent, without trusting it.

use bytes::Bytes;
use redis::Value;

use crate::id::{ClaimKey, Fencing, ProducerId, Version};

/// What is wrong with an answer.
pub(super) type Wrong = String;

/// The elements of an array, one after the other.
#[derive(Debug)]
pub(super) struct Items(std::vec::IntoIter<Value>);

impl Items {
    pub(super) fn of(value: Value) -> Result<Self, Wrong> {
        match value {
            Value::Array(items) => Ok(Self(items.into_iter())),
            Value::ServerError(error) => Err(server_error(&error)),
            other => Err(format!("expected an array, found {}", kind(&other))),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn next(&mut self) -> Result<Value, Wrong> {
        self.0.next().ok_or_else(|| "the answer is too short".into())
    }

    /// What is left of them.
    pub(super) fn rest(self) -> impl Iterator<Item = Value> {
        self.0
    }

    pub(super) fn items(&mut self) -> Result<Self, Wrong> {
        Self::of(self.next()?)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, Wrong> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(bytes.into()),
            Value::SimpleString(text) => Ok(text.into()),
            Value::Okay => Ok(Bytes::from_static(b"OK")),
            Value::ServerError(error) => Err(server_error(&error)),
            other => Err(format!("expected bytes, found {}", kind(&other))),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, Wrong> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| "expected text in UTF-8".into())
    }

    /// A number, sent as such or as text.
    pub(super) fn number<T: TryFrom<u64>>(&mut self) -> Result<T, Wrong> {
        let number = match self.next()? {
            Value::Int(number) => u64::try_from(number).ok(),
            Value::BulkString(text) => {
                std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok())
            }
            other => return Err(format!("expected a number, found {}", kind(&other))),
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| "a number is out of range".into())
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "text",
        Value::Array(_) => "an array",
        _ => "something else",
    }
}

fn server_error(error: &redis::ServerError) -> Wrong {
    match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().into(),
    }
}

/// The text of an error with which the server says that it is not to be used now, if it is one:
/// restarted (it does not know our scripts), loading, or a replica by now.
pub(in crate::node::redis) fn refused_by_server(value: &Value) -> Option<String> {
    match value {
        Value::ServerError(error)
            if ["NOSCRIPT", "LOADING", "READONLY", "MASTERDOWN", "NOAUTH"]
                .contains(&error.code()) =>
        {
            Some(server_error(error))
        }
        Value::Array(items) => items.iter().find_map(refused_by_server),
        _ => None,
    }
}

/// Packed fields, one after the other.
#[derive(Debug)]
pub(super) struct Cut<'a>(pub(super) &'a [u8]);

impl<'a> Cut<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("a packed field is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Wrong> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, Wrong> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Wrong> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Wrong> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Ids are big-endian.
    pub(super) fn id(&mut self) -> Result<u64, Wrong> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(super) fn producer(&mut self) -> Result<ProducerId, Wrong> {
        self.id().map(ProducerId)
    }

    pub(super) fn claim(&mut self) -> Result<ClaimKey, Wrong> {
        self.id().map(ClaimKey)
    }

    pub(super) fn rank(&mut self) -> Result<Fencing, Wrong> {
        let version = Version(self.id()?);
        Ok(Fencing { version, count: u32::from_be_bytes(self.array()?) })
    }
}

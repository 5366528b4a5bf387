//! Operations as commands, answers as replies.
//!
//! What scripts take and give is packed here and in the scripts, nowhere else: ids as bytes,
//! big-endian (the order of bytes is the order of numbers), lengths and times little-endian.
//! No number above 2^53 passes through Lua as a number.

mod decode;
mod encode;
mod fetch;
mod pack;
mod shared;
mod value;

pub(super) use decode::{AppendAnswer, appends, replies, reply, stored_cookie};
pub(super) use encode::{Appends, Context, commands, note};
pub(super) use fetch::{Fetched, Slices};
pub(super) use shared::{Common, SharedCall};
pub(super) use value::refused_by_server;

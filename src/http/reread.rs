//! Files that are read again when they change: tokens, and keys of encryption.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::stamp::Stamp;

/// How long a change of a file may go unnoticed.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Longest file, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// What a file's bytes say, or what is wrong in them: told to people, so without its secrets.
type Parse<T> = fn(&[u8]) -> Result<T, String>;

/// The content of a file as it is now, or as it was when it could last be read.
#[derive(Debug)]
pub(super) struct Reread<T> {
    path: PathBuf,
    /// What the file has, for the log.
    what: &'static str,
    parse: Parse<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    content: Arc<T>,
    seen: Stamp,
    checked_at: Instant,
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("seen", &self.seen).finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Reread<T> {
    /// Reads the file, which must be there and in order.
    pub(super) fn open(path: PathBuf, what: &'static str, parse: Parse<T>) -> io::Result<Self> {
        let (seen, content) = read(&path, parse)?;
        let state = State { content: Arc::new(content), seen, checked_at: Instant::now() };
        Ok(Self { path, what, parse, state: Mutex::new(state) })
    }

    /// The content, read anew if the file has changed. What cannot be read changes nothing: a file
    /// that is just being written must not lock everybody out.
    pub(super) async fn now(&self) -> Arc<T> {
        let seen = {
            let mut state = self.lock();
            if state.checked_at.elapsed() < CHECK_EVERY {
                return Arc::clone(&state.content);
            }
            state.checked_at = Instant::now();
            state.seen
        };
        let (path, parse, what) = (self.path.clone(), self.parse, self.what);
        let changed = move || match Stamp::of(&path) {
            Ok(now) if now == seen => Ok(None),
            _ => read(&path, parse).map(Some),
        };
        match tokio::task::spawn_blocking(changed).await {
            Ok(Ok(Some((seen, content)))) => {
                tracing::info!("the file of {what} was read again");
                let mut state = self.lock();
                (state.seen, state.content) = (seen, Arc::new(content));
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the file of {what} cannot be read; the former ones hold");
            }
            Err(error) => tracing::error!(%error, "the file of {what} was not looked at"),
        }
        Arc::clone(&self.lock().content)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read<T>(path: &Path, parse: Parse<T>) -> io::Result<(Stamp, T)> {
    let shown = path.display();
    let wrong =
        |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{shown}: {what}"));
    let unread = |error: io::Error| io::Error::new(error.kind(), format!("{shown}: {error}"));
    // Before the content: a change in between is then noticed the next time.
    let stamp = Stamp::of(path).map_err(unread)?;
    if stamp.bytes > MAX_BYTES {
        return Err(wrong(format!("longer than {MAX_BYTES} bytes")));
    }
    let content = parse(&std::fs::read(path).map_err(unread)?).map_err(wrong)?;
    Ok((stamp, content))
}

/// A JSON array of entries. The parser's message may quote what it read, so only the place is told.
pub(super) fn entries<'de, E: serde::Deserialize<'de>>(
    bytes: &'de [u8],
    what: &str,
) -> Result<Vec<E>, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        format!("no array of {what} at line {}, column {}", error.line(), error.column())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_cannot_be_read_leaves_what_was_read_before() {
        let parse: Parse<u32> = |bytes| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
            text.parse().map_err(|_| "no number".to_owned())
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "1").unwrap();
        let numbers = Reread::open(file.path().into(), "numbers", parse).unwrap();
        for (text, wanted) in [("half", 1), ("", 1), ("2", 2)] {
            std::fs::write(file.path(), text).unwrap();
            tokio::time::advance(CHECK_EVERY).await;
            assert_eq!(*numbers.now().await, wanted, "{text:?}");
        }
    }
}

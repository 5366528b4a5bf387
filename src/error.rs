//! The one error type of the library.

use std::fmt;
use std::time::Duration;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why an operation did not succeed.
///
/// Two questions are answered apart: may the caller try again ([`Error::is_retryable`]), and may
/// the operation have taken effect all the same ([`Error::outcome`]).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    outcome: Outcome,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Source>,
}

/// What the caller can do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input is malformed or out of range: change it.
    Invalid,
    /// There is no such queue.
    QueueNotFound,
    /// There is no such claim, or it has expired.
    ClaimNotFound,
    /// A message is claimed, and the call named no claim or another one.
    MessageClaimed,
    /// A claim was named for a message that no live claim holds.
    MessageNotClaimed,
    /// Somebody else changed the same thing first: read it again.
    Conflict,
    /// An idempotency key was used for another request before: draw a new one.
    KeyReused,
    /// Too few nodes answer: try again later.
    Unavailable,
    /// The store is at its limits: slow down.
    Overloaded,
    /// The deadline passed.
    Timeout,
    /// Messages were lost for good, with every node that had them.
    Lost,
    /// A node must not be used as it is configured.
    UnsafeNode,
    /// The configuration cannot be used.
    Config,
    /// The store was closed.
    Closed,
    /// A defect of this library.
    Internal,
}

/// Whether a failed operation may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It has not, and will not.
    NotApplied,
    /// It may have, or may still.
    Unknown,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            outcome: Outcome::NotApplied,
            message: message.into(),
            retry_after: None,
            source: None,
        }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message).after(Duration::from_secs(1))
    }

    pub(crate) fn after(mut self, retry_after: Duration) -> Self {
        self.0.retry_after = Some(retry_after);
        self
    }

    pub(crate) fn unknown(mut self) -> Self {
        self.0.outcome = Outcome::Unknown;
        self
    }

    pub(crate) fn not_applied(mut self) -> Self {
        self.0.outcome = Outcome::NotApplied;
        self
    }

    pub(crate) fn because(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error for another caller; the source stays with the first.
    pub(crate) fn copy(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            outcome: self.0.outcome,
            message: self.0.message.clone(),
            retry_after: self.0.retry_after,
            source: None,
        }))
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the operation may have taken effect.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Unavailable
                | ErrorKind::Overloaded
                | ErrorKind::Timeout
                | ErrorKind::Conflict
        )
    }

    /// How long to wait before trying again, where that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("outcome", &self.0.outcome)
            .field("message", &self.0.message)
            .field("retry_after", &self.0.retry_after)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

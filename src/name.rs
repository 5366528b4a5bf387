//! Projects and queue names, checked once.

use std::fmt;

use crate::error::Error;

/// Longest queue name, in bytes.
pub(crate) const MAX_QUEUE_NAME_BYTES: usize = 64;
/// Longest project, in characters.
pub(crate) const MAX_PROJECT_CHARS: usize = 256;

/// Whose queues: up to 256 characters of any kind. Queues of different projects never meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Project(Box<str>);

impl Project {
    /// Takes a project; empty is allowed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is longer than 256 characters.
    pub fn new(project: &str) -> Result<Self, Error> {
        let chars = project.chars().count();
        if chars > MAX_PROJECT_CHARS {
            return Err(Error::invalid(format!(
                "project of {chars} characters: at most {MAX_PROJECT_CHARS} are allowed"
            )));
        }
        Ok(Self(project.into()))
    }

    /// As given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A queue's name within its project: 1 to 64 of `[A-Za-z0-9_.-]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Box<str>);

impl QueueName {
    /// Takes a name.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is empty, too long or has other
    /// characters.
    pub fn new(name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.len() > MAX_QUEUE_NAME_BYTES {
            return Err(Error::invalid(format!(
                "queue name of {} bytes: 1 to {MAX_QUEUE_NAME_BYTES} are allowed",
                name.len()
            )));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !name.bytes().all(allowed) {
            return Err(Error::invalid(format!(
                "queue name {name:?}: only letters, digits, '_', '.' and '-' are allowed"
            )));
        }
        Ok(Self(name.into()))
    }

    /// As given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a queue's register: the project's length first, so that no two pairs share one.
pub(crate) fn register_of(project: &Project, queue: &QueueName) -> String {
    format!("q:{}:{}:{}", project.as_str().len(), project.as_str(), queue.as_str())
}

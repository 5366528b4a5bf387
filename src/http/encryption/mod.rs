//! Encrypted queues: bodies are encrypted before they are posted, and decrypted wherever they are read.
//!
//! The library and the nodes never see such a body: to them it is bytes of
//! [`ContentType::Encrypted`], which carry all that is needed to read them but the key, so that it
//! does not matter what the queue asks for when they are read. Answers are made of [`Readable`]
//! messages alone, and only this module makes those: no way of reading can forget to decrypt.

mod keys;
mod sealed;

use std::fmt;
use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

pub use keys::KeyRing;

use super::error::ApiError;
use super::metadata::QueueMetadata;
use super::reread::Reread;
use crate::{ContentType, Error, Message, Metadata, NewMessage, Project, QueueName};
use sealed::{Place, Sealed};

/// The keys of a service: none, or those of a file, which is read again when it changes.
#[derive(Debug, Clone, Default)]
pub struct EncryptionKeys(Option<Arc<Reread<KeyRing>>>);

impl EncryptionKeys {
    /// No keys: queues cannot be encrypted, and what was encrypted cannot be read.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The keys in this file: a JSON array of objects with `id` (1 to 32 printable ASCII characters)
    /// and `key` (64 hexadecimal digits). The first encrypts; all of them decrypt.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        Ok(Self(Some(Arc::new(Reread::open(path.into(), "keys", keys::parse)?))))
    }

    /// The keys as they are now.
    pub async fn now(&self) -> Arc<KeyRing> {
        match &self.0 {
            Some(file) => file.now().await,
            None => Arc::default(),
        }
    }
}

/// Whether a queue with these metadata wants its messages encrypted.
#[must_use]
pub fn wants_encryption(metadata: &Metadata) -> bool {
    QueueMetadata::read(metadata).is_some_and(|metadata| metadata.wants_encryption())
}

/// Why a body was not encrypted.
#[derive(Debug)]
pub enum SealError {
    /// There is no key.
    NoKey,
    /// The system gave no random bytes.
    NoRandomness,
    /// It cannot be posted.
    Message(Error),
    /// It is encrypted already, and cannot be decrypted.
    Unreadable(Unreadable),
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => f.write_str("there is no key of encryption"),
            Self::NoRandomness => f.write_str("the system gave no random bytes"),
            Self::Message(error) => error.fmt(f),
            Self::Unreadable(why) => write!(f, "it cannot be decrypted: {why}"),
        }
    }
}

impl std::error::Error for SealError {}

impl From<Unreadable> for SealError {
    fn from(why: Unreadable) -> Self {
        Self::Unreadable(why)
    }
}

impl From<Error> for SealError {
    fn from(error: Error) -> Self {
        Self::Message(error)
    }
}

/// Why a body cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// The key with this id is not among the keys.
    NoKey(String),
    /// The key with this id is another one, or the body was changed or is of another queue.
    Wrong(String),
    /// It is not in a form that this version knows.
    Form,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey(id) => write!(f, "it needs the key {id:?}, which is not there"),
            Self::Wrong(id) => write!(
                f,
                "it was changed, is of another queue, or the key {id:?} is not the one it was \
                 encrypted with"
            ),
            Self::Form => f.write_str("its form is unknown"),
        }
    }
}

impl std::error::Error for Unreadable {}

impl KeyRing {
    /// A message of this JSON text, encrypted for this queue.
    ///
    /// # Errors
    /// There is no key, no randomness, or the text is longer than a body may be.
    pub fn seal(
        &self,
        project: &Project,
        queue: &QueueName,
        json: &str,
    ) -> Result<NewMessage, SealError> {
        let key = self.first().ok_or(SealError::NoKey)?;
        let place = Place { project, queue };
        let sealed = sealed::seal(&key.id, &key.secret, place, json.as_bytes())
            .map_err(|_| SealError::NoRandomness)?;
        Ok(NewMessage::new(ContentType::Encrypted, sealed)?)
    }

    /// What a message of one queue is in another one of the same project: encrypted anew if it is
    /// encrypted, since a body can be read in its own queue only. Times are those of any new message.
    ///
    /// # Errors
    /// It cannot be decrypted, or not be encrypted anew.
    pub fn moved(
        &self,
        project: &Project,
        from: &QueueName,
        to: &QueueName,
        message: &Message,
    ) -> Result<NewMessage, SealError> {
        if message.content_type != ContentType::Encrypted {
            return Ok(NewMessage::new(message.content_type, message.body.clone())?);
        }
        let message = self.open(project, from, message.clone())?;
        // It is JSON text.
        self.seal(project, to, &String::from_utf8_lossy(&message.body))
    }

    /// A message of this queue as it was posted; one that is not encrypted is left as it is.
    ///
    /// # Errors
    /// The key is missing or another, or the body is not what was posted to this queue.
    pub fn open(
        &self,
        project: &Project,
        queue: &QueueName,
        message: Message,
    ) -> Result<Message, Unreadable> {
        if message.content_type != ContentType::Encrypted {
            return Ok(message);
        }
        let sealed = Sealed::parse(&message.body).ok_or(Unreadable::Form)?;
        let id = || sealed.key_id.to_owned();
        let key = self.of(sealed.key_id).ok_or_else(|| Unreadable::NoKey(id()))?;
        let body = sealed.open(&key.secret, Place { project, queue });
        let body = body.map_err(|_| Unreadable::Wrong(id()))?.into();
        Ok(Message { body, content_type: ContentType::Json, ..message })
    }
}

/// Messages as they were posted.
#[derive(Debug)]
pub(super) struct Readable(Vec<Message>);

impl Deref for Readable {
    type Target = [Message];

    fn deref(&self) -> &[Message] {
        &self.0
    }
}

impl Readable {
    /// Decrypts what is encrypted. One message that cannot be read fails all: to leave it out would
    /// hide it.
    pub(super) fn of(
        keys: &KeyRing,
        project: &Project,
        queue: &QueueName,
        messages: Vec<Message>,
    ) -> Result<Self, ApiError> {
        let opened = messages.into_iter().map(|message| {
            let id = message.id;
            keys.open(project, queue, message).map_err(|why| {
                tracing::error!(%queue, message = %id, %why, "a message cannot be decrypted");
                ApiError::unreadable(&id, &why)
            })
        });
        opened.collect::<Result<_, _>>().map(Self)
    }
}

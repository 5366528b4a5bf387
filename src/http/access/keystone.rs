//! Tokens of Keystone's, version 3: validated by it, and believed for a while.
//!
//! <https://docs.openstack.org/api-ref/identity/v3/#validate-and-show-information-for-token>

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use super::upstream::{Answer, Secret, Upstream};
use super::{Digest, Identity, digest_of};
use crate::Project;
use crate::http::date;
use crate::http::error::ApiError;
use crate::time::Clock;

/// Questions to Keystone at once.
const QUESTIONS: usize = 16;
/// Answers remembered.
const MAX_CACHED: usize = 10_000;
/// How long a token that Keystone does not know is refused without asking again, in seconds.
const REFUSED_S: u64 = 10;
/// Longest token that is passed on, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Where Keystone is, and how the service presents itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeystoneOptions {
    /// Its version 3, as `http://keystone:5000/v3`.
    pub url: String,
    /// The service's own user, who may validate tokens. Without one a token validates itself,
    /// which Keystone allows by default.
    pub user: Option<KeystoneUser>,
    /// How long an answer is believed, in seconds; never beyond the token's own end. Default 300.
    #[serde(default = "default_cache_time")]
    pub token_cache_time: u64,
}

/// The service's own user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeystoneUser {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: Secret,
    /// The project it works for.
    pub project_name: String,
    /// The domain of the user. Default `Default`.
    #[serde(default = "default_domain")]
    pub user_domain_name: String,
    /// The domain of the project. Default `Default`.
    #[serde(default = "default_domain")]
    pub project_domain_name: String,
}

fn default_cache_time() -> u64 {
    300
}

fn default_domain() -> String {
    "Default".to_owned()
}

#[derive(Debug)]
pub(super) struct Keystone {
    upstream: Upstream,
    options: KeystoneOptions,
    clock: Clock,
    questions: Semaphore,
    cache: Mutex<BTreeMap<Digest, Known>>,
    /// The service's own token.
    own: tokio::sync::Mutex<Option<String>>,
}

/// What Keystone said of a token.
#[derive(Debug, Clone)]
struct Known {
    /// `None`: it is not valid.
    identity: Option<Identity>,
    until_ms: u64,
}

/// The part of a token that matters here.
#[derive(Deserialize)]
struct Shown {
    token: ShownToken,
}

#[derive(Deserialize)]
struct ShownToken {
    expires_at: String,
    project: Option<Named>,
    #[serde(default)]
    roles: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
}

impl Keystone {
    pub(super) fn new(options: KeystoneOptions) -> io::Result<Self> {
        Ok(Self {
            upstream: Upstream::new(&options.url)?,
            options,
            clock: Clock::system(),
            questions: Semaphore::new(QUESTIONS),
            cache: Mutex::default(),
            own: tokio::sync::Mutex::new(None),
        })
    }

    pub(super) async fn identify(&self, token: &str) -> Result<Identity, ApiError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(ApiError::unauthorized());
        }
        let digest = digest_of(token);
        let known = match self.cached(&digest) {
            Some(known) => known,
            None => {
                let _turn = self.questions.acquire().await;
                // Somebody may have asked while this request waited.
                match self.cached(&digest) {
                    Some(known) => known,
                    None => self.ask_and_keep(digest, token).await?,
                }
            }
        };
        known.identity.ok_or_else(ApiError::unauthorized)
    }

    fn cached(&self, digest: &Digest) -> Option<Known> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(digest).filter(|known| known.until_ms > self.clock.now_ms()).cloned()
    }

    async fn ask_and_keep(&self, digest: Digest, token: &str) -> Result<Known, ApiError> {
        let known = self.validate(token).await.map_err(|reason| {
            tracing::error!(reason, "Keystone cannot be asked");
            ApiError::keystone_unavailable()
        })?;
        let now_ms = self.clock.now_ms();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MAX_CACHED {
            cache.retain(|_, known| known.until_ms > now_ms);
        }
        // Full of living answers: this one is asked for again next time.
        if cache.len() < MAX_CACHED {
            cache.insert(digest, known.clone());
        }
        Ok(known)
    }

    /// Asks Keystone; `Err` says why there was no answer.
    async fn validate(&self, token: &str) -> Result<Known, String> {
        let mut renewed = false;
        loop {
            let own = match &self.options.user {
                Some(user) => self.own_token(user).await?,
                None => token.to_owned(),
            };
            let headers = [("x-auth-token", own.as_str()), ("x-subject-token", token)];
            let answer =
                self.upstream.send("GET", "/auth/tokens?nocatalog", &headers, Bytes::new());
            let answer = answer.await.map_err(|error| error.to_string())?;
            match answer.status {
                StatusCode::OK => return self.read(&answer),
                // The service's own token has ended; once is enough to get another.
                StatusCode::UNAUTHORIZED if self.options.user.is_some() && !renewed => {
                    renewed = true;
                    *self.own.lock().await = None;
                }
                StatusCode::UNAUTHORIZED if self.options.user.is_some() => {
                    return Err("it does not accept the service's own token".to_owned());
                }
                StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => return Ok(self.refused()),
                other => return Err(format!("it answered {other}")),
            }
        }
    }

    fn refused(&self) -> Known {
        Known { identity: None, until_ms: self.clock.now_ms() + REFUSED_S * 1000 }
    }

    /// What a validated token stands for.
    fn read(&self, answer: &Answer) -> Result<Known, String> {
        let shown: Shown = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("its answer cannot be read: {error}"))?;
        let ends_ms = date::parse(&shown.token.expires_at)
            .ok_or("its answer does not say when the token ends")?
            .saturating_mul(1000);
        let now_ms = self.clock.now_ms();
        // A token that is not for a project stands for no queues.
        let project = shown.token.project.filter(|project| !project.id.is_empty());
        let (Some(project), true) = (project, ends_ms > now_ms) else {
            return Ok(self.refused());
        };
        let identity = Identity {
            project: Project::new(&project.id).map_err(|error| error.to_string())?,
            roles: shown.token.roles.into_iter().map(|role| role.name).collect(),
        };
        let believed_ms = now_ms.saturating_add(self.options.token_cache_time * 1000);
        Ok(Known { identity: Some(identity), until_ms: believed_ms.min(ends_ms) })
    }

    /// The service's own token, by password if there is none.
    async fn own_token(&self, user: &KeystoneUser) -> Result<String, String> {
        let mut own = self.own.lock().await;
        if let Some(token) = &*own {
            return Ok(token.clone());
        }
        let request = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": user.username,
                "domain": {"name": user.user_domain_name},
                "password": user.password.expose(),
            }}},
            "scope": {"project": {
                "name": user.project_name,
                "domain": {"name": user.project_domain_name},
            }},
        }});
        let answer = self.upstream.send("POST", "/auth/tokens", &[], request.to_string().into());
        let answer = answer.await.map_err(|error| error.to_string())?;
        if answer.status != StatusCode::CREATED {
            return Err(format!("the service's own user was answered {}", answer.status));
        }
        let token = answer.headers.get("x-subject-token").and_then(|token| token.to_str().ok());
        let token = token.ok_or("it gave the service's own user no token")?.to_owned();
        *own = Some(token.clone());
        Ok(token)
    }
}

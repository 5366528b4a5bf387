//! Tokens of Keystone's, version 3: validated by it, and believed for a while.
//!
//! <https://docs.openstack.org/api-ref/identity/v3/#validate-and-show-information-for-token>

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::remembered::Remembered;
use super::upstream::{Answer, Secret, Upstream};
use super::{Digest, Identity, digest_of};
use crate::Project;
use crate::http::date;
use crate::http::error::ApiError;
use crate::time::{Clock, WallClock};

/// Questions to Keystone at once.
const QUESTIONS: usize = 16;
/// Requests that wait for an answer of Keystone's at once, and for how long each does, its turn
/// included.
const PLACES: usize = 1_024;
const PATIENCE: Duration = Duration::from_secs(6);
/// How long nobody tries again after the service could not present itself, in milliseconds.
const LOGIN_PAUSE_MS: u64 = 1_000;
/// Answers remembered: tokens that are valid, and those that are not. They are kept apart: made-up
/// tokens must not drive out others.
const MAX_ACCEPTED: usize = 10_000;
const MAX_REFUSED: usize = 1_000;
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
    places: Semaphore,
    questions: Semaphore,
    accepted: Mutex<Remembered<Identity>>,
    refused: Mutex<Remembered<()>>,
    own: tokio::sync::Mutex<Own>,
}

/// The service's own token.
#[derive(Debug, Default)]
struct Own {
    token: Option<String>,
    /// When it could not be had, and why.
    failed: Option<(u64, String)>,
}

/// What Keystone said of a token.
struct Known {
    /// `None`: it is not valid.
    identity: Option<Identity>,
    /// How long that may be believed, in milliseconds.
    for_ms: u64,
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
            upstream: Upstream::new("keystone", &options.url)?,
            options,
            clock: Clock::system(),
            places: Semaphore::new(PLACES),
            questions: Semaphore::new(QUESTIONS),
            accepted: Mutex::new(Remembered::new(MAX_ACCEPTED)),
            refused: Mutex::new(Remembered::new(MAX_REFUSED)),
            own: tokio::sync::Mutex::default(),
        })
    }

    pub(super) async fn identify(
        &self,
        token: &str,
        wall: &WallClock,
    ) -> Result<Identity, ApiError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(ApiError::unauthorized());
        }
        let digest = digest_of(token);
        let known = match self.cached(&digest) {
            Some(known) => known,
            None => {
                // Strangers must not take all places of those who are known.
                let place = self.places.try_acquire();
                let _place = place.map_err(|_| ApiError::keystone_unavailable())?;
                let asked = timeout(PATIENCE, self.ask_in_turn(digest, token, wall)).await;
                asked.unwrap_or_else(|_| Err(ApiError::keystone_unavailable()))?
            }
        };
        known.ok_or_else(ApiError::unauthorized)
    }

    fn cached(&self, digest: &Digest) -> Option<Option<Identity>> {
        let now_ms = self.clock.now_ms();
        if let Some(identity) = locked(&self.accepted).get(digest, now_ms) {
            return Some(Some(identity.clone()));
        }
        locked(&self.refused).get(digest, now_ms).map(|()| None)
    }

    async fn ask_in_turn(
        &self,
        digest: Digest,
        token: &str,
        wall: &WallClock,
    ) -> Result<Option<Identity>, ApiError> {
        let _turn = self.questions.acquire().await;
        // Somebody may have asked while this request waited.
        if let Some(known) = self.cached(&digest) {
            return Ok(known);
        }
        let known = self.validate(token, wall).await.map_err(|reason| {
            tracing::error!(reason, "Keystone cannot be asked");
            ApiError::keystone_unavailable()
        })?;
        let until_ms = self.clock.now_ms().saturating_add(known.for_ms);
        match &known.identity {
            Some(identity) => locked(&self.accepted).insert(digest, identity.clone(), until_ms),
            None => locked(&self.refused).insert(digest, (), until_ms),
        }
        Ok(known.identity)
    }

    /// Asks Keystone; `Err` says why there was no answer.
    async fn validate(&self, token: &str, wall: &WallClock) -> Result<Known, String> {
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
                StatusCode::OK => return self.read(&answer, wall.now_ms()),
                // The service's own token has ended; once is enough to get another.
                StatusCode::UNAUTHORIZED if self.options.user.is_some() && !renewed => {
                    renewed = true;
                    // Others may have got another one meanwhile.
                    let mut held = self.own.lock().await;
                    held.token.take_if(|token| *token == own);
                }
                StatusCode::UNAUTHORIZED if self.options.user.is_some() => {
                    return Err("it does not accept the service's own token".to_owned());
                }
                StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND => return Ok(refused()),
                other => return Err(format!("it answered {other}")),
            }
        }
    }

    /// What a validated token stands for. It ends by the time of day, `now_ms`.
    fn read(&self, answer: &Answer, now_ms: u64) -> Result<Known, String> {
        let shown: Shown = serde_json::from_slice(&answer.body)
            .map_err(|error| format!("its answer cannot be read: {error}"))?;
        let ends_ms = date::parse(&shown.token.expires_at)
            .ok_or("its answer does not say when the token ends")?
            .saturating_mul(1000);
        // A token that is not for a project stands for no queues.
        let project = shown.token.project.filter(|project| !project.id.is_empty());
        let (Some(project), true) = (project, ends_ms > now_ms) else {
            return Ok(refused());
        };
        let identity = Identity {
            project: Project::new(&project.id).map_err(|error| error.to_string())?,
            roles: shown.token.roles.into_iter().map(|role| role.name).collect(),
        };
        let believed_ms = self.options.token_cache_time.saturating_mul(1000);
        Ok(Known { identity: Some(identity), for_ms: believed_ms.min(ends_ms - now_ms) })
    }

    /// The service's own token, by password if there is none.
    async fn own_token(&self, user: &KeystoneUser) -> Result<String, String> {
        let mut own = self.own.lock().await;
        if let Some(token) = &own.token {
            return Ok(token.clone());
        }
        // Else all who wait here would find out one after the other.
        if let Some((at_ms, reason)) = &own.failed
            && self.clock.now_ms().saturating_sub(*at_ms) < LOGIN_PAUSE_MS
        {
            return Err(reason.clone());
        }
        let got = self.log_in(user).await;
        match &got {
            Ok(token) => *own = Own { token: Some(token.clone()), failed: None },
            Err(reason) => own.failed = Some((self.clock.now_ms(), reason.clone())),
        }
        got
    }

    async fn log_in(&self, user: &KeystoneUser) -> Result<String, String> {
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
        Ok(token.ok_or("it gave the service's own user no token")?.to_owned())
    }
}

fn refused() -> Known {
    Known { identity: None, for_ms: REFUSED_S * 1000 }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Zaqar itself: its Redis driver on one Redis server, its WSGI application in two processes of
//! uWSGI behind uWSGI's own HTTP router, which keeps connections open.
//!
//! It comes from PyPI, in a virtual environment:
//!
//! ```text
//! python3 -m venv target/zaqar && target/zaqar/bin/pip install zaqar uwsgi redis
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use futures_util::FutureExt as _;
use tempfile::TempDir;

use super::free_port;
use super::http::Http;
use crate::redis_server::RedisServer;
use crate::target::{Answer, Post, Target};

const ENVIRONMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/zaqar");
/// How it gets there.
const INSTALL: &str =
    "python3 -m venv target/zaqar && target/zaqar/bin/pip install zaqar uwsgi redis";
const PROCESSES: &str = "2";

pub(crate) struct Zaqar {
    http: Http,
    _home: TempDir,
}

fn program() -> PathBuf {
    Path::new(ENVIRONMENT).join("bin/uwsgi")
}

/// Why it cannot be started, if it cannot.
pub(crate) fn missing() -> Option<String> {
    let library = Path::new(ENVIRONMENT).join("bin/zaqar-server");
    let is_there = program().is_file() && library.is_file();
    (!is_there).then(|| format!("it is not installed: {INSTALL}"))
}

/// As its installation guide has it, without Keystone; no pools.
fn configuration(redis: u16) -> String {
    format!(
        "[DEFAULT]\n\
         auth_strategy =\n\
         pooling = False\n\
         [drivers]\n\
         transport = wsgi\n\
         message_store = redis\n\
         management_store = redis\n\
         [drivers:message_store:redis]\n\
         uri = redis://127.0.0.1:{redis}\n\
         [drivers:management_store:redis]\n\
         uri = redis://127.0.0.1:{redis}\n"
    )
}

impl Zaqar {
    pub(crate) async fn start(queues: usize) -> Result<Self, String> {
        let port = free_port()?;
        let words = ["--port", &port.to_string(), "--bind", "127.0.0.1"];
        let redis = RedisServer::start_with(&words).await;
        // It looks for its configuration in the home.
        let home = tempfile::tempdir().map_err(|error| error.to_string())?;
        let folder = home.path().join(".zaqar");
        std::fs::create_dir(&folder).map_err(|error| error.to_string())?;
        std::fs::write(folder.join("zaqar.conf"), configuration(port))
            .map_err(|error| error.to_string())?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        let mut command = Command::new(program());
        command.args(["--http", &address.to_string(), "--http-keepalive"]);
        command.args(["--processes", PROCESSES, "--master", "--need-app", "--disable-logging"]);
        command.args(["--module", "zaqar.transport.wsgi.app:app"]).env("HOME", home.path());
        let http = Http::of(&mut command, address, vec![redis], queues).await?;
        Ok(Self { http, _home: home })
    }
}

impl Target for Zaqar {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        self.http.post(post).boxed()
    }

    fn processes(&self) -> Vec<u32> {
        self.http.processes()
    }

    fn redis(&self) -> &[RedisServer] {
        self.http.redis()
    }
}

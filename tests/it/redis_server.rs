//! A Redis server of one test's own: in a temporary folder, killed when it is dropped.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

/// How long a server may take to answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A running server.
#[derive(Debug)]
pub(crate) struct RedisServer {
    folder: TempDir,
    options: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl RedisServer {
    /// A server without persistence on a Unix socket.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with further options, as on the command line.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = options.iter().map(|&option| option.into()).collect();
        let server = Self { folder, options, process: Mutex::new(None) };
        server.start_again().await;
        server
    }

    /// Its socket, which stays the same.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Where it keeps files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Starts it after [`kill`](Self::kill), with what was [saved](Self::save).
    pub(crate) async fn start_again(&self) {
        self.start_again_with(&[]).await;
    }

    /// The same with further options, for this time only.
    pub(crate) async fn start_again_with(&self, more: &[&str]) {
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
        command.arg("--unixsocket").arg(self.socket()).arg("--dir").arg(self.folder.path());
        command.args(&self.options).args(more).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("redis-server cannot be started ({error}): these tests need it in the PATH")
        });
        *self.process.lock().expect("no panic before") = Some(process);
        let deadline = Instant::now() + DEADLINE;
        while !self.answers().await {
            assert!(Instant::now() < deadline, "redis-server does not answer");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn answers(&self) -> bool {
        let Ok(client) = redis::Client::open(self.url()) else { return false };
        let Ok(mut connection) = client.get_multiplexed_async_connection().await else {
            return false;
        };
        match redis::cmd("PING").query_async::<redis::Value>(&mut connection).await {
            Ok(_) => true,
            // It asks for a password: it is there.
            Err(error) => error.code() == Some("NOAUTH"),
        }
    }

    /// Ends it at once, as a crash does.
    pub(crate) fn kill(&self) {
        if let Some(mut process) = self.process.lock().expect("no panic before").take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// Stops it where it stands; what is sent to it waits.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.lock().expect("no panic before");
        let Some(process) = &*process else { return };
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(process.id().to_string())
            .status()
            .expect("the command kill");
        assert!(status.success(), "kill -{signal} failed");
    }

    /// Runs a command.
    pub(crate) async fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).expect("its own URL");
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE));
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connection.await.expect("a connection to it");
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        command.query_async(&mut connection).await.expect("an answer")
    }

    /// Writes all data to a file that the next start reads; by default it keeps nothing.
    pub(crate) async fn save(&self) {
        self.run::<()>(&["SAVE"]).await;
    }

    /// Deletes everything, the cookie too.
    pub(crate) async fn flush_all(&self) {
        self.run::<()>(&["FLUSHALL"]).await;
    }

    /// Sets a limit so that nothing more can be written; 0: no limit.
    pub(crate) async fn limit_memory(&self, bytes: u64) {
        self.run::<()>(&["CONFIG", "SET", "maxmemory", &bytes.to_string()]).await;
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

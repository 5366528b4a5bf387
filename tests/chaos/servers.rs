//! The servers of a run, each behind a wire of its own, and what can be done to one.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use super::proxy::{Proxy, Wire};
use crate::redis_server::RedisServer;

/// What a full server can still take, in bytes.
const ROOM: u64 = 128 * 1024;
/// What is cut off from the end of a journal at most, in bytes.
const CUT_OFF: u64 = 64 * 1024;
/// Where Redis keeps its journal, below its folder.
const JOURNAL: &str = "appendonlydir";
/// How long a server may take to begin a journal.
const JOURNAL_WITHIN: Duration = Duration::from_secs(20);
const JOURNAL_ON: [&str; 4] = ["--appendonly", "yes", "--aof-load-truncated", "yes"];

/// A server without persistence and the wire to it.
#[derive(Debug)]
pub(crate) struct Server {
    redis: RedisServer,
    proxy: Proxy,
}

impl Server {
    pub(crate) async fn start() -> Result<Self, String> {
        let redis = RedisServer::start().await;
        let proxy = Proxy::start(redis.socket()).await.map_err(|error| error.to_string())?;
        Ok(Self { redis, proxy })
    }

    /// Its address as everybody knows it: that of the wire.
    pub(crate) fn url(&self) -> String {
        self.proxy.url()
    }

    /// Killed (SIGKILL), and started again empty after a while.
    pub(crate) async fn kill(&self, down: Duration) {
        self.redis.kill();
        sleep(down).await;
        self.redis.start_again().await;
    }

    /// Stopped (SIGSTOP) for a while.
    pub(crate) async fn pause(&self, lasts: Duration) {
        self.redis.pause();
        sleep(lasts).await;
        self.redis.resume();
    }

    /// Emptied (FLUSHALL).
    pub(crate) async fn flush(&self) {
        self.redis.flush_all().await;
    }

    /// Its memory limit is reached for a while.
    pub(crate) async fn fill(&self, lasts: Duration) {
        let used = number(&self.redis, "memory", "used_memory").await;
        self.redis.limit_memory(used + ROOM).await;
        sleep(lasts).await;
        self.redis.limit_memory(0).await;
    }

    /// The wire does something else for a while; in the end all connections may break.
    pub(crate) async fn wire(&self, change: impl Fn(&mut Wire), lasts: Duration, breaks: bool) {
        self.proxy.set(&change);
        sleep(lasts).await;
        if breaks {
            self.proxy.break_all();
        }
        self.proxy.set(|wire| {
            wire.holds_requests = false;
            wire.holds_answers = false;
            wire.refuses = false;
            wire.delay = Duration::ZERO;
        });
    }

    /// From now on what it writes is journalled.
    pub(crate) async fn begin_journal(&self) -> Result<(), String> {
        for (name, value) in [
            ("auto-aof-rewrite-percentage", "0"),
            ("appendfsync", "everysec"),
            ("appendonly", "yes"),
        ] {
            self.redis.run::<()>(&["CONFIG", "SET", name, value]).await;
        }
        let deadline = Instant::now() + JOURNAL_WITHIN;
        while number(&self.redis, "persistence", "aof_rewrite_in_progress").await
            + number(&self.redis, "persistence", "aof_rewrite_scheduled").await
            > 0
        {
            if Instant::now() > deadline {
                return Err("a server does not begin its journal".into());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Killed, its journal loses its end, and it is started again with what is left.
    pub(crate) async fn truncate(&self, down: Duration, rng: &mut Rng) -> Result<(), String> {
        self.redis.kill();
        let folder = self.redis.folder().join(JOURNAL);
        cut_off(&folder, rng).map_err(|error| format!("{}: {error}", folder.display()))?;
        sleep(down).await;
        self.redis.start_again_with(&JOURNAL_ON).await;
        Ok(())
    }

    /// Keeps no journal any more.
    pub(crate) async fn end_journal(&self) {
        self.redis.run::<()>(&["CONFIG", "SET", "appendonly", "no"]).await;
        fs::remove_dir_all(self.redis.folder().join(JOURNAL)).ok();
    }
}

/// A number from what the server tells of itself.
async fn number(redis: &RedisServer, section: &str, name: &str) -> u64 {
    let info: String = redis.run(&["INFO", section]).await;
    let told = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    told.and_then(|told| told.trim().parse().ok()).unwrap_or(0)
}

/// Cuts off the end of the newest file with changes.
fn cut_off(folder: &Path, rng: &mut Rng) -> std::io::Result<()> {
    let mut changes: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .collect();
    changes.sort();
    let Some(newest) = changes.pop() else { return Err(std::io::ErrorKind::NotFound.into()) };
    let length = File::open(&newest)?.metadata()?.len();
    let lost = rng.u64(1..=CUT_OFF).min(length);
    OpenOptions::new().write(true).open(&newest)?.set_len(length - lost)
}

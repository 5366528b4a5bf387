//! The service processes of a run: `roundelay serve`, as it is shipped.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

/// How long a service may take to say where it is.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Messages in one page and ids in one request at most, as the services of a run are told.
pub(crate) const MAX_PAGE: usize = 200;

/// A service that can be killed and started again.
#[derive(Debug)]
pub(crate) struct Service {
    arguments: Vec<String>,
    log: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    address: SocketAddr,
}

impl Service {
    /// Starts it on these nodes; what it logs goes to the file.
    pub(crate) async fn start(
        nodes: &[String],
        copies: usize,
        level: &str,
        log: PathBuf,
    ) -> Result<Self, String> {
        let config = log.with_extension("toml");
        let settings = format!("[service]\nmax_messages_per_page = {MAX_PAGE}\n");
        std::fs::write(&config, settings).map_err(|error| error.to_string())?;
        let arguments = [
            ["--node", &nodes.join(",")],
            ["--copies", &copies.to_string()],
            ["--copies-min", "2"],
            ["--log", level],
            ["--config", &config.display().to_string()],
            ["--listen", "127.0.0.1:0"],
        ];
        let arguments = arguments.iter().flatten().map(|&argument| argument.into()).collect();
        let service = Self { arguments, log, running: Mutex::default() };
        service.start_again().await?;
        Ok(service)
    }

    /// Starts it after [`kill`](Self::kill); on another port, as the old one may be taken.
    pub(crate) async fn start_again(&self) -> Result<(), String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
        command.arg("serve").args(&self.arguments).env("NO_COLOR", "1");
        command.env_remove("ROUNDELAY_NODES").env_remove("ROUNDELAY_CONFIG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("no service: {error}"))?;
        let Some(said) = child.stderr.take() else { return Err("a service without a pipe".into()) };
        let (tell, told) = mpsc::channel();
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.map_err(|error| format!("{}: {error}", self.log.display()))?;
        std::thread::spawn(move || keep(BufReader::new(said), log, &tell));
        let address = tokio::task::spawn_blocking(move || told.recv_timeout(READY_WITHIN)).await;
        let address = address.ok().and_then(Result::ok);
        // Held by what is dropped with this, so that it does not outlive a failure.
        let mut running = Running { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        running.address = address.ok_or("a service does not say where it is")?;
        *self.running() = Some(running);
        Ok(())
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is; `None`: it does not run.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.running().as_ref().map(|running| running.address)
    }

    /// Ends it at once (SIGKILL).
    pub(crate) fn kill(&self) {
        self.running().take();
    }

    /// Stops it where it stands (SIGSTOP), or lets it go on.
    pub(crate) fn freeze(&self, stands: bool) -> Result<(), String> {
        let running = self.running();
        let Some(running) = &*running else { return Err("no service to stop".into()) };
        signal(&running.child, if stands { "-STOP" } else { "-CONT" })
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends a signal to a process of ours.
pub(crate) fn signal(child: &Child, signal: &str) -> Result<(), String> {
    let status = Command::new("kill").arg(signal).arg(child.id().to_string()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("kill {signal}: {status}")),
        Err(error) => Err(format!("kill: {error}")),
    }
}

/// Writes down what a service says, and tells where it is as soon as it says so.
fn keep(said: impl std::io::BufRead, mut log: File, tell: &mpsc::Sender<SocketAddr>) {
    for line in said.lines().map_while(Result::ok) {
        if let Some(rest) = line.split("listening on http://").nth(1)
            && let Some(Ok(address)) = rest.split(',').next().map(str::parse)
        {
            tell.send(address).ok();
        }
        writeln!(log, "{line}").ok();
    }
}

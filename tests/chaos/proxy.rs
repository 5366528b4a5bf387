//! The wire to one server: a TCP proxy that can cut it in one direction or both, slow it down, or
//! break all connections. No privileges are needed, and the address stays while the server dies.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Bytes that are passed on in one piece.
const PIECE: usize = 64 * 1024;

/// What the wire does at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wire {
    /// Whether what is sent to the server is held back.
    pub(crate) holds_requests: bool,
    /// Whether what the server answers is held back.
    pub(crate) holds_answers: bool,
    /// Whether connections are refused.
    pub(crate) refuses: bool,
    /// How long each piece takes, beyond what it takes anyway.
    pub(crate) delay: Duration,
    /// Raised to break all connections; what was held back on them is gone.
    broken: u64,
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy)]
enum Way {
    ToServer,
    ToClient,
}

impl Wire {
    fn holds(&self, way: Way) -> bool {
        match way {
            Way::ToServer => self.holds_requests,
            Way::ToClient => self.holds_answers,
        }
    }
}

/// A proxy in front of a server's socket; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    wire: watch::Sender<Wire>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of this machine, and passes on to this Unix socket.
    pub(crate) async fn start(socket: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let wire = watch::Sender::new(Wire::default());
        let task = tokio::spawn(accept(listener, socket, wire.subscribe()));
        Ok(Self { address, wire, task })
    }

    /// Where nodes are to be reached.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Changes what the wire does; connections stay.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Wire)) {
        self.wire.send_modify(change);
    }

    /// Breaks all connections, and loses what was held back.
    pub(crate) fn break_all(&self) {
        self.set(|wire| wire.broken += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, wire: watch::Receiver<Wire>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            // No descriptor is left, say.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        connections.spawn(connection(client, socket.clone(), wire.clone()));
    }
}

/// Passes on both ways until either side ends, or all connections are broken.
async fn connection(client: TcpStream, socket: PathBuf, mut wire: watch::Receiver<Wire>) {
    let begun = *wire.borrow_and_update();
    let broken = async |mut wire: watch::Receiver<Wire>| {
        let is_over = |wire: &Wire| wire.broken != begun.broken || wire.refuses;
        wire.wait_for(is_over).await.map(drop).ok();
    };
    let through = async {
        client.set_nodelay(true).ok()?;
        // Whoever connects to a server that is cut off waits.
        wire.clone().wait_for(|wire| !wire.holds_requests).await.ok()?;
        let server = UnixStream::connect(socket).await.ok()?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::select! {
            _ = pass(from_client, to_server, Way::ToServer, wire.clone()) => {}
            _ = pass(from_server, to_client, Way::ToClient, wire.clone()) => {}
        }
        Some(())
    };
    tokio::select! {
        biased;
        () = broken(wire.clone()) => {}
        _ = through => {}
    }
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    mut wire: watch::Receiver<Wire>,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        let delay = wire.borrow_and_update().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if wire.borrow().holds(way) {
            wire.wait_for(|wire| !wire.holds(way)).await.map_err(io::Error::other)?;
        }
        to.write_all(&piece[..length]).await?;
    }
}

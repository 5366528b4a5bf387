//! Where a server is, from a URL; shown without its credentials.

use std::io;

use futures_util::future::select_ok;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, TlsCertificates,
};

use tokio::net::{TcpStream, lookup_host};

use crate::error::{Error, ErrorKind};

/// A server's address, checked but not called.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) client: Client,
    /// Without credentials.
    pub(super) name: String,
    /// How people reach it from a shell.
    pub(super) cli: String,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Address").field(&self.name).finish()
    }
}

impl Address {
    /// Reads a URL: `redis://`, `rediss://`, `unix://`, or the same with `valkey`.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let parsed = redis::parse_redis_url(url).ok_or_else(|| {
            config(
                "the URL of a node must be redis://[user:password@]host[:port][/db], \
                 rediss://… or unix:///path",
            )
        })?;
        let ca = parsed.query_pairs().find(|(name, _)| name == "ca").map(|(_, path)| path.into());
        let info = parsed.into_connection_info().map_err(|error| {
            // The text of the error is the library's own and holds nothing of the URL but the
            // protocol that was asked for.
            config("the URL of a node cannot be used").because(error)
        })?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        // RESP3: the only protocol in which the library tells that a connection has ended.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        let (name, cli) = names(&info);
        let client = open(info, &name, ca)?;
        Ok(Self { client, name, cli })
    }

    /// Where it is, if it is reached without TLS.
    pub(super) fn plain(&self) -> Option<Plain<'_>> {
        match self.client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) => Some(Plain::Tcp(host, *port)),
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => Some(Plain::Unix(path)),
            _ => None,
        }
    }
}

/// A socket without TLS.
pub(super) enum Plain<'a> {
    Tcp(&'a str, u16),
    #[cfg(unix)]
    Unix(&'a std::path::Path),
}

/// Connects to the address of a host that answers first, without Nagle's delay.
pub(super) async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses = lookup_host((host, port)).await?.peekable();
    if addresses.peek().is_none() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
    }
    let (socket, _) = select_ok(addresses.map(|at| Box::pin(TcpStream::connect(at)))).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn open(info: ConnectionInfo, name: &str, ca: Option<String>) -> Result<Client, Error> {
    let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    if tls {
        // Fails if there is one already, which will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    let client = match ca {
        None => Client::open(info),
        Some(_) if !tls => {
            return Err(config(format!("node {name}: ca is of use with rediss:// only")));
        }
        Some(path) => {
            let pem = std::fs::read(&path).map_err(|error| {
                config(format!("node {name}: the certificates in {path} cannot be read"))
                    .because(error)
            })?;
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
            Client::build_with_tls(info, certificates)
        }
    };
    client.map_err(|error| config(format!("node {name} cannot be used")).because(error))
}

fn names(info: &ConnectionInfo) -> (String, String) {
    let db = info.redis_settings().db();
    match info.addr() {
        ConnectionAddr::Unix(path) => {
            let path = path.display();
            let (query, option) = if db == 0 {
                (String::new(), String::new())
            } else {
                (format!("?db={db}"), format!(" -n {db}"))
            };
            (format!("unix://{path}{query}"), format!("redis-cli -s {path}{option}"))
        }
        other => {
            let scheme =
                if matches!(other, ConnectionAddr::TcpTls { .. }) { "rediss" } else { "redis" };
            let path = if db == 0 { String::new() } else { format!("/{db}") };
            let name = format!("{scheme}://{other}{path}");
            let cli = format!("redis-cli -u {name}");
            (name, cli)
        }
    }
}

fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

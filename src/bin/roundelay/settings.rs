//! What a run is told: flags before environment before configuration file before defaults.

use std::path::{Path, PathBuf};

use clap::Args;
use roundelay::http::{Connections, EncryptionKeys, ServiceOptions};
use roundelay::{Config, Finding, Project, Queue, QueueName, Store, StoreBuilder};
use serde::Deserialize;

use crate::auth::Auth;
use crate::failure::Failure;
use crate::lines::Reader;
use crate::tls::TlsFiles;
use crate::traces::Detail;

/// Embedded nodes when none are given: as many as a message has copies.
const EMBEDDED: usize = 3;
const QUIET: &str = "warn";

/// Options of all subcommands
#[derive(Debug, Args)]
#[command(next_help_heading = "Pool and settings")]
pub(crate) struct StoreArgs {
    /// A node: redis://, rediss:// or unix:// URL; repeat it, or separate with commas
    #[arg(long = "node", value_name = "URL", global = true, value_delimiter = ',')]
    #[arg(env = "ROUNDELAY_NODES", hide_env_values = true)]
    nodes: Vec<String>,
    /// Nodes that each message is stored on [default: 3]
    #[arg(long, value_name = "N", global = true, env = "ROUNDELAY_COPIES")]
    copies: Option<usize>,
    /// Nodes below which nothing is acknowledged [default: 2]
    #[arg(long, value_name = "N", global = true, env = "ROUNDELAY_COPIES_MIN")]
    copies_min: Option<usize>,
    /// Nodes that keep the list of queues, when the pool is new [default: 3]
    #[arg(long, value_name = "N", global = true, env = "ROUNDELAY_KEEPERS")]
    keepers: Option<usize>,
    /// Bytes a second that are copied at most to restore copies; 0: no limit [default: 64 MiB]
    #[arg(long, value_name = "BYTES", global = true, env = "ROUNDELAY_REPAIR_BYTES_PER_SECOND")]
    repair_bytes_per_second: Option<u64>,
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", global = true, env = "ROUNDELAY_CONFIG")]
    config: Option<PathBuf>,
    /// File of the keys by which bodies of encrypted queues are written and read (JSON)
    #[arg(long, value_name = "FILE", global = true, env = "ROUNDELAY_ENCRYPTION_KEYS")]
    encryption_keys: Option<PathBuf>,
    /// What to log on standard error, as "info" or "roundelay=debug" [default: warn]
    #[arg(long, value_name = "FILTER", global = true, env = "ROUNDELAY_LOG")]
    log: Option<String>,
}

/// The queue that a subcommand works on
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// The project that the queue belongs to
    #[arg(long, default_value = "", env = "ROUNDELAY_PROJECT", hide_default_value = true)]
    pub(crate) project: String,
    /// The queue
    #[arg(long, value_name = "NAME")]
    pub(crate) queue: String,
}

/// A configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    listen: Option<String>,
    metrics_listen: Option<String>,
    otlp_endpoint: Option<String>,
    otlp_detail: Option<Detail>,
    nodes: Vec<String>,
    copies: Option<usize>,
    copies_min: Option<usize>,
    keepers: Option<usize>,
    repair_bytes_per_second: Option<u64>,
    encryption_keys: Option<PathBuf>,
    log: Option<String>,
    service: ServiceOptions,
    connections: Connections,
    auth: Auth,
    tls: TlsFiles,
}

/// What a run is told.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: Option<String>,
    pub(crate) metrics_listen: Option<String>,
    pub(crate) otlp_endpoint: Option<String>,
    pub(crate) otlp_detail: Option<Detail>,
    pub(crate) nodes: Vec<String>,
    pub(crate) config: Config,
    pub(crate) service: ServiceOptions,
    pub(crate) connections: Connections,
    pub(crate) auth: Auth,
    encryption_keys: Option<PathBuf>,
    pub(crate) tls: TlsFiles,
    pub(crate) log: String,
}

impl StoreArgs {
    pub(crate) fn settings(self) -> Result<Settings, Failure> {
        // An empty variable in the environment is one node without a name: none.
        let given: Vec<String> = self.nodes.into_iter().filter(|url| !url.is_empty()).collect();
        let file = self.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
        let mut config = Config::default();
        config.copies = self.copies.or(file.copies).unwrap_or(config.copies);
        // A pool of one copy must not need two.
        let copies_min = config.copies_min.min(config.copies);
        config.copies_min = self.copies_min.or(file.copies_min).unwrap_or(copies_min);
        config.keepers = self.keepers.or(file.keepers).unwrap_or(config.keepers);
        let pace = self.repair_bytes_per_second.or(file.repair_bytes_per_second);
        config.repair_bytes_per_second = pace.unwrap_or(config.repair_bytes_per_second);
        config.check().map_err(|error| Failure::Usage(error.to_string()))?;
        Ok(Settings {
            listen: file.listen,
            metrics_listen: file.metrics_listen,
            otlp_endpoint: file.otlp_endpoint,
            otlp_detail: file.otlp_detail,
            nodes: if given.is_empty() { file.nodes } else { given },
            config,
            service: file.service,
            connections: file.connections,
            auth: file.auth,
            encryption_keys: self.encryption_keys.or(file.encryption_keys),
            tls: file.tls,
            log: self.log.or(file.log).unwrap_or_else(|| QUIET.to_owned()),
        })
    }
}

impl File {
    fn read(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::Usage(format!("{shown}: {error}")))?;
        toml::from_str(&text).map_err(|error: toml::de::Error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = text.bytes().take(start).filter(|byte| *byte == b'\n').count() + 1;
            let message = error.message().replace('\n', " ");
            Failure::Usage(format!("{shown}:{line}: {message}"))
        })
    }
}

impl Settings {
    /// The keys of encryption, if a file of them was named.
    pub(crate) fn keys(&self) -> Result<EncryptionKeys, Failure> {
        let Some(path) = &self.encryption_keys else { return Ok(EncryptionKeys::none()) };
        EncryptionKeys::open(path)
            .map_err(|error| Failure::Usage(format!("keys of encryption: {error}")))
    }

    fn builder(&self) -> StoreBuilder {
        let builder = Store::builder().config(self.config.clone());
        self.nodes.iter().fold(builder, StoreBuilder::node)
    }

    /// The store on the nodes, or on embedded ones if there are none.
    pub(crate) async fn open_or_embed(&self) -> Result<Store, Failure> {
        let builder = self.builder();
        let builder = if self.nodes.is_empty() { builder.embedded(EMBEDDED) } else { builder };
        Ok(builder.open().await?)
    }

    /// The store on the nodes.
    pub(crate) async fn open(&self) -> Result<Store, Failure> {
        self.need_nodes()?;
        Ok(self.builder().open().await?)
    }

    /// What a look at the nodes finds, without opening a store.
    pub(crate) async fn examine(&self) -> Result<Vec<Finding>, Failure> {
        self.need_nodes()?;
        Ok(self.builder().examine().await?)
    }

    fn need_nodes(&self) -> Result<(), Failure> {
        if self.nodes.is_empty() {
            return Err(Failure::Usage(
                "no nodes: give --node URL, ROUNDELAY_NODES or nodes in a --config file \
                 (embedded nodes belong to one process, so there would be nothing in them)"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

impl QueueArgs {
    pub(crate) fn of(&self, store: &Store) -> Result<Queue, Failure> {
        let (project, queue) = self.names()?;
        Ok(store.queue(&project, &queue))
    }

    pub(crate) fn names(&self) -> Result<(Project, QueueName), Failure> {
        Ok((project(&self.project)?, QueueName::new(&self.queue).map_err(usage)?))
    }

    /// What shows the queue's messages.
    pub(crate) async fn reader(&self, settings: &Settings) -> Result<Reader, Failure> {
        let (project, queue) = self.names()?;
        Ok(Reader { keys: settings.keys()?.now().await, project, queue })
    }
}

pub(crate) fn project(name: &str) -> Result<Project, Failure> {
    Project::new(name).map_err(usage)
}

/// A value on the command line that the library refuses.
pub(crate) fn usage(error: roundelay::Error) -> Failure {
    Failure::Usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn args(config: Option<PathBuf>) -> StoreArgs {
        StoreArgs {
            nodes: Vec::new(),
            copies: None,
            copies_min: None,
            keepers: None,
            repair_bytes_per_second: None,
            config,
            encryption_keys: None,
            log: None,
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn flags_come_before_the_file_and_the_file_before_defaults() {
        let file =
            file("copies = 2\nkeepers = 1\nnodes = ['redis://a']\n[service]\nmax_claim_ttl = 90");
        let args = StoreArgs { copies: Some(3), ..args(Some(file.path().into())) };
        let settings = args.settings().unwrap();
        assert_eq!((settings.config.copies, settings.config.keepers), (3, 1));
        assert_eq!(settings.config.copies_min, 2);
        assert_eq!(settings.nodes, ["redis://a"]);
        assert_eq!(settings.service.max_claim_ttl, 90);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file_and_line() {
        for (text, key, line) in
            [("\ncopis = 2", "copis", 2), ("[service]\nmax_claim = 1\n", "max_claim", 2)]
        {
            let file = file(text);
            let Err(Failure::Usage(message)) = args(Some(file.path().into())).settings() else {
                panic!("{text} was accepted");
            };
            let place = format!("{}:{line}: ", file.path().display());
            assert!(message.starts_with(&place), "{message}");
            assert!(message.contains(key) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn settings_that_disagree_are_refused() {
        let args = StoreArgs { copies: Some(2), copies_min: Some(3), ..args(None) };
        assert!(matches!(args.settings(), Err(Failure::Usage(_))));
        let args = StoreArgs { copies: Some(1), ..self::args(None) };
        assert_eq!(args.settings().unwrap().config.copies_min, 1);
    }
}

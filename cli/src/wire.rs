//! Composition: environment → home → configuration → catalog → broker, or a client of a server. Everything else is
//! handed its parts.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orch_manifests::Catalog;
use orch_server::{
    Api, Broker, Caller, Config, Environment, Failure, Home, KeySources, Kind, Mode, Parts, Peer, Service,
    Simulate,
};
use orch_vault::{Secret, VaultLocation};
use tokio::runtime::Runtime;

use crate::client::{Channel, Client, Credentials, Handler, Place, ServerUrl, tls};
use crate::custody;

/// The workspace of a local installation. Servers have more of them.
const WORKSPACE: &str = "default";

/// What is installed on this machine, read but not changed.
pub(crate) struct Installation {
    pub(crate) environment: Environment,
    pub(crate) home: Home,
    pub(crate) config: Config,
    pub(crate) catalog: Catalog,
    pub(crate) vault: VaultLocation,
}

impl Installation {
    /// Finds the folders and reads the configuration; creates nothing.
    pub(crate) fn open() -> Result<Self, Failure> {
        let environment = Environment::Process;
        let home = Home::locate(&environment)?;
        let config = Config::load(&home)?.with_environment(&environment);
        let catalog = config.catalog()?;
        let vault = VaultLocation {
            store: home.vault(),
            key_file: home.vault_key(),
            workspace: WORKSPACE.to_owned(),
            custody: custody::looked_for(&environment, config.vault_key),
        };
        Ok(Self { environment, home, config, catalog, vault })
    }

    /// Checks the folders that a vault lives in, and creates those that a new one needs.
    pub(crate) fn prepare_vault(&self) -> Result<(), Failure> {
        self.home.check_vault()?;
        for file in [&self.vault.store, &self.vault.key_file] {
            if let Some(folder) = file.parent() {
                self.home.ensure(folder)?;
            }
        }
        Ok(())
    }

    /// Whether providers are asked about keys.
    pub(crate) fn checks_keys(&self) -> bool {
        self.environment.checks_keys()
    }

    /// Where keys lie, below the command line.
    pub(crate) fn key_sources(&self) -> KeySources<'_> {
        KeySources::new(&self.environment, &self.catalog, &self.vault)
    }

    /// The keys in this environment, under the names that a catalog has for them.
    pub(crate) fn env_keys(&self, catalog: &Catalog) -> BTreeMap<String, Secret> {
        let names = catalog.everybody().flat_map(|provider| &provider.env);
        names.filter_map(|name| Some((name.clone(), self.environment.provider_key(name, catalog)?))).collect()
    }

    /// The broker of this installation, whose workers are this same binary.
    pub(crate) fn broker(self) -> Result<Broker, Failure> {
        let program = this_program()?;
        Ok(Broker::new(self.environment, self.home, self.config, self.catalog, self.vault, &program))
    }

    /// The server that was named, by `ORCH_SERVER` before the configuration, and by which of them.
    ///
    /// # Errors
    /// When what was named is no server's URL.
    pub(crate) fn configured_server(&self) -> Result<Option<(ServerUrl, &'static str)>, Failure> {
        let by = |text: &str, source: &'static str| -> Result<_, Failure> {
            let url = text.parse().map_err(|failure: Failure| failure.hint(format!("{source} says so")))?;
            Ok(Some((url, source)))
        };
        if let Some(text) = self.environment.get("ORCH_SERVER") {
            return by(&text.to_string_lossy(), "ORCH_SERVER");
        }
        match &self.config.server_url {
            Some(text) => by(text, "server.url in config.yaml"),
            None => Ok(None),
        }
    }

    /// Where commands go: the server that was named, else the one that listens in this home. None is for whoever asks
    /// to replace: by a server in this process, or by the files of this home.
    ///
    /// # Errors
    /// When the named server cannot be addressed: its URL, the stored tokens or the certificates are wrong.
    pub(crate) async fn server(&self) -> Result<Option<Client>, Failure> {
        if let Some((url, source)) = self.configured_server()? {
            let token = self.token(&url)?;
            let client = self.client_of(&url, token)?;
            return Ok(Some(
                client.hint_when_unreachable(format!("{source} names this server; is it running?")),
            ));
        }
        self.neighbour().await
    }

    /// The server of this home, when one listens. Where there is none, the vault is what commands turn to next.
    ///
    /// # Errors
    /// When the folders of this home are not its owner's alone: then neither what listens there nor what is kept there is.
    pub(crate) async fn neighbour(&self) -> Result<Option<Client>, Failure> {
        self.home.check_vault()?;
        let socket = self.home.server_socket();
        // One that nobody listens on was left by a server that is gone.
        if tokio::net::UnixStream::connect(&socket).await.is_err() {
            return Ok(None);
        }
        let channel = Channel::to(Place::Unix(socket));
        Ok(Some(
            Client::trusted(channel, "the server of this home")
                .hint_when_unreachable("start it again: orch serve"),
        ))
    }

    /// A client of the server at a URL.
    ///
    /// # Errors
    /// When a certificate of the configuration cannot be used.
    pub(crate) fn client_of(&self, url: &ServerUrl, token: Option<Secret>) -> Result<Client, Failure> {
        let tls = url.https().then(|| tls(&self.config.server_roots)).transpose()?;
        let channel = Channel::to(Place::Tcp(url.clone(), tls));
        Ok(Client::of_url(url, channel, token))
    }

    /// The token for a server: `ORCH_TOKEN`, else what `orch login` stored for exactly this one.
    fn token(&self, url: &ServerUrl) -> Result<Option<Secret>, Failure> {
        use std::os::unix::ffi::OsStringExt as _;
        match self.environment.get("ORCH_TOKEN") {
            Some(token) => Ok(Some(Secret::new(token.into_vec()))),
            None => Credentials::at(&self.home.credentials_file()).token(url),
        }
    }

    /// What a server of this installation is made of; with a scenario, its providers are simulated for everybody.
    ///
    /// # Errors
    /// When the system does not tell which program this is.
    pub(crate) fn parts(self, simulate: Option<Simulate>) -> Result<Parts, Failure> {
        let program = this_program()?;
        let Self { environment, home, config, catalog, vault } = self;
        Ok(Parts { home, config, catalog, vault, program, simulate, environment })
    }
}

fn this_program() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|e| Failure::defect(format!("cannot tell which program this is: {e}")))
}

/// A server inside this process, for as long as the command: no listener, and its caller is the owner.
struct Embedded {
    service: Arc<Service>,
    client: Client,
}

impl Embedded {
    async fn open(here: Installation) -> Result<Self, Failure> {
        let service = Service::open(here.parts(None)?, Mode::Embedded).await?;
        let api = Api::new(Arc::clone(&service));
        let handler: Handler = Arc::new(move |request| {
            let api = api.clone();
            Box::pin(async move { api.call(Some(Caller::owner()), Peer::InProcess, request).await })
        });
        Ok(Self { service, client: Client::trusted(Channel::InProcess(handler), "this home") })
    }

    /// Ends what a command left behind: nothing, unless it was interrupted.
    async fn close(self) {
        self.service.drain(Duration::ZERO).await;
        // What a command promises to have on record it has waited for; this is for the rest.
        let _ = self.service.settle().await;
    }
}

/// Does something with the server that commands go to: the named one, the one of this home, or one in this process.
///
/// # Errors
/// As `work`, and when there is no server to speak to.
pub(crate) fn with_client<T>(
    here: &Installation,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    runtime()?.block_on(async {
        if let Some(client) = here.server().await? {
            return work(&client).await;
        }
        // It has its own copy of everything: it may outlive what the command looks at.
        let embedded = Box::pin(Embedded::open(Installation::open()?)).await?;
        let done = work(&embedded.client).await;
        // Whoever interrupted twice does not want to wait for anything; the next server reports what was cut off.
        if !matches!(&done, Err(failure) if failure.kind() == Kind::Interrupted) {
            embedded.close().await;
        }
        done
    })
}

/// The runtime of a command.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::defect(format!("cannot start the runtime: {e}")))
}

/// The runtime of a run in this process alone. It is this thread: there is one run, whose guest has a process of its own,
/// and threads that wake each other cost a short run more than they spare a long one.
pub(crate) fn runtime_of_one_run() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::defect(format!("cannot start the runtime: {e}")))
}

/// A reader that went away, as in `orch … | head -1`, is no failure of the command.
#[expect(clippy::needless_pass_by_value, reason = "for `or_else`")]
pub(crate) fn broken_pipe(error: io::Error) -> Result<(), Failure> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::usage("output_failed", format!("cannot write the result: {error}"))),
    }
}

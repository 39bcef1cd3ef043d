//! The life of a server: from its configuration, through its ports, to the last answer.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::signal::unix::Signal;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::archive::FetchRules;
use crate::archive::FileInTheWay;
use crate::archive::LoadModels;
use crate::archive::Package;
use crate::archive::Store;
use crate::config::Address;
use crate::config::ServerConfig;
use crate::config::WatchConfig;
use crate::http;
use crate::http::Api;
use crate::http::Apis;
use crate::http::BodyLimits;
use crate::http::Tokens;
use crate::metrics::Metrics;
use crate::metrics::SystemMetrics;
use crate::model::Accelerators;
use crate::model::Runtime;
use crate::plugin::Canary;
use crate::plugin::Catalogue;
use crate::plugin::Keeper;
use crate::plugin::LibraryStore;
use crate::plugin::own_thread;
use crate::reload::Listing;
use crate::reload::Places;
use crate::reload::Reloader;
use crate::serving::Endpoint;
use crate::serving::Loader;
use crate::serving::NewModel;
use crate::serving::Origin;
use crate::serving::Registry;

/// A server that is configured and has no port yet.
#[derive(Debug)]
pub struct App {
    config: ServerConfig,
    registry: Arc<Registry>,
    /// Private copies and unpacked archives; removed when this is dropped.
    work_dir: TempDir,
}

/// What is told of a server's life, as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// One of the APIs `Inference`, `Management` and `Metrics` has its port.
    Bound { api: &'static str, address: SocketAddr },
    /// Requests are answered, though models may still be loading.
    Started,
    /// A signal came: what was taken in is answered, and nothing further.
    Ending,
}

/// An address that is listened on, and what answers there.
#[derive(Debug)]
struct Port {
    apis: Apis,
    listener: TcpListener,
}

/// The files that are watched.
struct Watching {
    config: WatchConfig,
    places: Places,
    /// As they were before the models were loaded, so that no change is missed.
    before: Listing,
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// How long connections may take to end after the last answer.
const FAREWELL: Duration = Duration::from_secs(5);

/// The name of a work folder begins so; the server's process id follows.
const WORK_DIR: &str = "sconce-";

// === impl App ===

impl App {
    /// Starts libtorch and makes what loading needs; binds no port.
    ///
    /// The keeper, where there is one, saves the first trial the start of another.
    pub fn new(config: ServerConfig, keeper: Option<Keeper>) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Workers share the cores; one that uses them all by itself would only take them from the others.
        let workers = config.default_workers_per_model.unwrap_or(cores).max(1);
        let runtime = Runtime::start(Accelerators::All, (cores / workers).max(1))?;
        let work_dir = work_dir(config.work_dir.as_deref())?;
        let loader = Loader::new(
            runtime,
            Catalogue::new(config.plugins_path.clone()),
            // The file behind this name is this very program, even where another has been put in its place meanwhile.
            Canary::new(PathBuf::from("/proc/self/exe"), keeper),
            LibraryStore::new(work_dir.path())?,
            Metrics::new(&config.metrics)?,
            &config,
            work_dir.path(),
        );
        Ok(Self { registry: Arc::new(Registry::new(loader, config.clone(), cores)), config, work_dir })
    }

    /// What is served, for those who drive it.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Serves until SIGTERM or SIGINT, then answers what it has taken in and returns.
    pub async fn run(self, mut tell: impl FnMut(Progress)) -> anyhow::Result<()> {
        let mut signals = Signals::new()?;
        // The ports first: with one that is taken, nothing else needs to begin. Clients wait at them until the models are registered.
        let ports = self.bind(&mut tell).await?;
        // Only who has the ports writes the key file: it may be that of a server that runs.
        let tokens = self.tokens()?;
        let watching = self.watching()?;
        let endpoints = self.register_startup_models()?;
        let (ended, end) = watch::channel(false);
        let servers: Vec<_> = ports.into_iter().map(|port| self.serve(port, tokens.as_ref(), end.clone())).collect();
        self.on_a_thread("load", move |registry| registry.load_all(&endpoints))?;
        self.on_a_thread("watchdog", Registry::watch)?;
        let _measuring = self.measure_the_machine()?;
        let reloader = watching.map(|watching| watching.start(&self.registry)).transpose()?;
        tell(Progress::Started);
        let name = signals.next().await;
        tell(Progress::Ending);
        tracing::info!("{name}: answering what was taken in, refusing the rest");
        drop(reloader);
        // On a thread that ends: handlers may run to their end on it.
        let closed = self.on_a_thread("close", |registry| registry.close())?;
        tokio::select! {
            _ = closed => {}
            name = signals.next() => anyhow::bail!("{name} again: ended before all requests were answered"),
        }
        ended.send_replace(true);
        for server in servers {
            if tokio::time::timeout(FAREWELL, server).await.is_err() {
                tracing::warn!("a client kept its connection open; closed it");
            }
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// The keys that clients need; they last until this is dropped.
    fn tokens(&self) -> anyhow::Result<Option<Tokens>> {
        let Some(config) = &self.config.access.tokens else { return Ok(None) };
        let tokens = Tokens::start(config).with_context(|| {
            format!(
                "can't write the tokens to {}: start in a folder that can be written, or with --disable-token-auth",
                config.key_file.display()
            )
        })?;
        tracing::info!(
            "clients need a token, sent as `Authorization: Bearer KEY`. Key file located at {}. Start with --disable-token-auth to ask nobody",
            tokens.file().display()
        );
        Ok(Some(tokens))
    }

    /// What there is to watch; `None` where the operator wants none of it.
    fn watching(&self) -> anyhow::Result<Option<Watching>> {
        let Some(config) = self.config.swap.watch.clone() else { return Ok(None) };
        let places = Places::of(&self.config)?;
        let before = Listing::take(&places);
        Ok(Some(Watching { config, places, before }))
    }

    /// Looks at the machine until what this gives is dropped; `None` where the operator wants none of it.
    fn measure_the_machine(&self) -> anyhow::Result<Option<mpsc::Sender<()>>> {
        let Some(interval) = self.config.metrics.system_interval else { return Ok(None) };
        let system = SystemMetrics::new(self.registry.metrics())?;
        let (measuring, end) = mpsc::channel();
        std::thread::Builder::new().name("machine".to_owned()).spawn(move || {
            own_thread();
            system.watch(interval, &end);
        })?;
        Ok(Some(measuring))
    }

    /// Opens the archives, to be loaded next; one that fails is told, and doesn't keep the others.
    fn register_startup_models(&self) -> anyhow::Result<Vec<Arc<Endpoint>>> {
        let Some(wanted) = LoadModels::parse(&self.config.load_models)? else {
            tracing::info!("no models to load: name some with --models, or all with --models all");
            return Ok(Vec::new());
        };
        let folder = self.config.model_store.clone();
        let store =
            Store::new(folder.context("missing mandatory parameter --model-store: the folder with the archives")?);
        let items: Vec<_> = match wanted {
            LoadModels::All => {
                let paths = store.candidates()?;
                if paths.is_empty() {
                    tracing::warn!(folder = %store.folder().display(), "the model store holds no archive: make one with `sconce archive`");
                }
                paths.into_iter().map(|path| (None, file_name(&path), Ok(path))).collect()
            }
            LoadModels::Listed(models) => models
                .into_iter()
                .map(|model| {
                    // A server that starts again has it from the last time.
                    let rules = FetchRules { file_in_the_way: FileInTheWay::Used, ..FetchRules::default() };
                    let urls = &self.config.access.allowed_urls;
                    let path = store.obtain(&model.url, &|url| urls.allow(url), &rules);
                    (model.name, model.url, path)
                })
                .collect(),
        };
        if !items.is_empty() {
            self.registry.expect_loads();
        }
        let mut endpoints = Vec::new();
        for (name, url, path) in items {
            let package = path.and_then(|path| Package::open(&path, self.work_dir.path()));
            let registered = package.map_err(Into::into).and_then(|package| {
                let url = url.clone();
                self.registry.register(NewModel { name, url, package: Arc::new(package), origin: Origin::Startup })
            });
            match registered {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) => tracing::error!(%url, %error, "failed to load model"),
            }
        }
        Ok(endpoints)
    }

    /// Listens on every configured address, and says where.
    async fn bind(&self, tell: &mut impl FnMut(Progress)) -> anyhow::Result<Vec<Port>> {
        let config = &self.config;
        let mut ports: Vec<(&Address, Port)> = Vec::new();
        for (api, address, apis) in [
            ("Inference", Some(&config.inference_address), Apis { inference: true, ..Apis::default() }),
            ("Management", Some(&config.management_address), Apis { management: true, ..Apis::default() }),
            (
                "Metrics",
                config.enable_metrics_api.then_some(&config.metrics_address),
                Apis { metrics: true, ..Apis::default() },
            ),
        ] {
            let Some(address) = address else { continue };
            // One address may have several APIs; port 0 is another port each time.
            let shared = ports.iter_mut().find(|(other, _)| *other == address && address.port != 0);
            let address = if let Some((_, port)) = shared {
                port.apis = port.apis.and(apis);
                port.listener.local_addr()?
            } else {
                let listener = listen(address).await?;
                let bound = listener.local_addr()?;
                ports.push((address, Port { apis, listener }));
                bound
            };
            tell(Progress::Bound { api, address });
        }
        Ok(ports.into_iter().map(|(_, port)| port).collect())
    }

    /// Answers at a port until `end` says so.
    fn serve(&self, port: Port, tokens: Option<&Tokens>, end: watch::Receiver<bool>) -> JoinHandle<()> {
        let api = Api {
            registry: Arc::clone(&self.registry),
            model_api: self.config.access.enable_model_api,
            body_limits: BodyLimits { size: self.config.max_request_size, silence: self.config.requests.slow_client },
            envelope: self.config.requests.envelope,
            tokens: tokens.map(Tokens::ring),
        };
        let head_time = self.config.requests.slow_client;
        tokio::spawn(http::serve(head_time, port.listener, http::entrance(port.apis, api), end))
    }

    /// Works on the registry on a thread of its own, and tells when that is done.
    fn on_a_thread(
        &self,
        name: &str,
        work: impl FnOnce(&Arc<Registry>) + Send + 'static,
    ) -> anyhow::Result<oneshot::Receiver<()>> {
        let (done, receiver) = oneshot::channel();
        let registry = Arc::clone(&self.registry);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            work(&registry);
            let _ = done.send(());
        })?;
        Ok(receiver)
    }
}

// === impl Watching ===

impl Watching {
    fn start(self, registry: &Arc<Registry>) -> std::io::Result<Reloader> {
        let registry: Arc<Registry> = Arc::clone(registry);
        Reloader::start(registry, self.places, &self.config, self.before)
    }
}

// === impl Signals ===

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

async fn listen(address: &Address) -> anyhow::Result<TcpListener> {
    let place = (address.host.as_str(), address.port);
    TcpListener::bind(place).await.with_context(|| {
        format!("can't listen on {address}: choose another port in config.properties, or 0 for any that is free")
    })
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Makes a private folder for this run, below `parent` or the system's temporary folder, and removes those that killed servers have left there.
fn work_dir(parent: Option<&Path>) -> anyhow::Result<TempDir> {
    let parent = parent.map_or_else(std::env::temp_dir, Path::to_owned);
    std::fs::create_dir_all(&parent).with_context(|| format!("can't make the work folder {}", parent.display()))?;
    for entry in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(WORK_DIR).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Another user's can't be removed, and needn't be.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{WORK_DIR}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent).with_context(|| {
        format!("can't make a folder for private copies in {}: choose another with --work-dir", parent.display())
    })
}

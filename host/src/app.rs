//! The life of a server: from its configuration, through its ports, to the last answer.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::ServiceExt;
use axum::extract::Request;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::watch;
use tower::Layer;
use tower_http::normalize_path::NormalizePathLayer;

use crate::archive::LoadModels;
use crate::archive::Package;
use crate::archive::Store;
use crate::config::Address;
use crate::config::ServerConfig;
use crate::http;
use crate::http::Api;
use crate::http::Doors;
use crate::metrics::Metrics;
use crate::model::Accelerators;
use crate::model::Runtime;
use crate::plugin::Canary;
use crate::plugin::Catalogue;
use crate::plugin::LibraryStore;
use crate::serving::Loader;
use crate::serving::Registry;
use crate::serving::StartupModel;

/// A server that is configured and has no port yet.
#[derive(Debug)]
pub struct App {
    config: ServerConfig,
    registry: Arc<Registry>,
    /// Held for its drop: private copies and unpacked archives.
    work_dir: WorkDir,
}

/// An address that is listened on, and what answers there.
#[derive(Debug)]
struct Door {
    doors: Doors,
    listener: TcpListener,
}

#[derive(Debug)]
enum WorkDir {
    Own(tempfile::TempDir),
    Given(PathBuf),
}

/// How long connections may take to end after the last answer.
const FAREWELL: Duration = Duration::from_secs(5);

// === impl App ===

impl App {
    /// Starts libtorch and makes what loading needs; binds no port.
    pub fn new(config: ServerConfig) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Workers share the cores; one that uses them all by itself would only take them from the others.
        let workers = config.default_workers_per_model.unwrap_or(cores).max(1);
        let runtime = Runtime::start(Accelerators::All, (cores / workers).max(1))?;
        let work_dir = WorkDir::new(config.work_dir.clone())?;
        let loader = Loader::new(
            runtime,
            Catalogue::new(config.plugins_path.clone()),
            // The file behind this name is this very program, even where another has been put in its place meanwhile.
            Canary::new(PathBuf::from("/proc/self/exe")),
            LibraryStore::new(work_dir.path())?,
            Metrics::new()?,
            config.default_service_handler.clone(),
        );
        Ok(Self {
            registry: Arc::new(Registry::new(loader, config.clone(), cores)),
            config,
            work_dir,
        })
    }

    /// Serves until SIGTERM or SIGINT, then answers what it has taken in and returns.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        self.register_startup_models()?;
        let doors = self.bind().await?;
        let (ended, end) = watch::channel(false);
        let mut servers = Vec::new();
        for door in doors {
            let api = Api {
                registry: Arc::clone(&self.registry),
                max_request_size: self.config.max_request_size,
            };
            let mut end = end.clone();
            // A path with a slash at its end is the same path.
            let routes = NormalizePathLayer::trim_trailing_slash().layer(http::router(door.doors, api));
            // An answer leaves at once, rather than waiting for the client's acknowledgement of its head.
            let listener = door.listener.tap_io(|stream| drop(stream.set_nodelay(true)));
            let server = axum::serve(listener, ServiceExt::<Request>::into_make_service(routes));
            let server = server.with_graceful_shutdown(async move {
                // The sender lives as long as this function.
                let _ = end.wait_for(|ended| *ended).await;
            });
            servers.push(tokio::spawn(server.into_future()));
        }
        say("Model server started.");
        let registry = Arc::clone(&self.registry);
        let watchdog = tokio::spawn(async move { registry.watch().await });
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        };
        tracing::info!("{name}: answering what was taken in, refusing the rest");
        tokio::select! {
            () = self.close_registry() => {}
            _ = interrupt.recv() => anyhow::bail!("a second signal ended the server before all requests were answered"),
            _ = terminate.recv() => anyhow::bail!("a second signal ended the server before all requests were answered"),
        }
        watchdog.abort();
        ended.send_replace(true);
        for server in servers {
            if tokio::time::timeout(FAREWELL, server).await.is_err() {
                tracing::warn!("a client kept its connection open; closed it");
            }
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Opens the archives, and begins to load them; one that fails is told, and doesn't keep the others.
    fn register_startup_models(&self) -> anyhow::Result<()> {
        let Some(wanted) = LoadModels::parse(&self.config.load_models)? else {
            tracing::info!("no models to load: name some with --models, or all with --models all");
            return Ok(());
        };
        let folder = self.config.model_store.clone();
        let store = Store::new(
            folder.context("missing mandatory parameter --model-store: it names the folder with the archives")?,
        );
        let items: Vec<_> = match wanted {
            LoadModels::All => {
                let paths = store.candidates()?;
                paths
                    .into_iter()
                    .map(|path| (None, file_name(&path), Ok(path)))
                    .collect()
            }
            LoadModels::Listed(models) => models
                .into_iter()
                .map(|model| {
                    let path = store.resolve(&model.url);
                    (model.name, model.url, path)
                })
                .collect(),
        };
        let mut endpoints = Vec::new();
        for (name, url, path) in items {
            let package = path.and_then(|path| Package::open(&path, self.work_dir.path()));
            let registered = package.map_err(Into::into).and_then(|package| {
                let url = url.clone();
                self.registry.register(StartupModel { name, url, package })
            });
            match registered {
                Ok(endpoint) => endpoints.push(endpoint),
                Err(error) => tracing::error!(%url, %error, "failed to load model"),
            }
        }
        let registry = Arc::clone(&self.registry);
        std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || registry.load_all(&endpoints))?;
        Ok(())
    }

    /// Listens on every configured address, and says where.
    async fn bind(&self) -> anyhow::Result<Vec<Door>> {
        let config = &self.config;
        let mut doors: Vec<(&Address, Doors, Door)> = Vec::new();
        for (name, address, wanted) in [
            (
                "Inference",
                Some(&config.inference_address),
                Doors {
                    inference: true,
                    ..Doors::default()
                },
            ),
            (
                "Management",
                Some(&config.management_address),
                Doors {
                    management: true,
                    ..Doors::default()
                },
            ),
            (
                "Metrics",
                config.enable_metrics_api.then_some(&config.metrics_address),
                Doors {
                    metrics: true,
                    ..Doors::default()
                },
            ),
        ] {
            let Some(address) = address else { continue };
            // One address may have several APIs; port 0 is another port each time.
            let shared = doors
                .iter_mut()
                .find(|(other, ..)| *other == address && address.port != 0);
            let bound = if let Some((_, doors, door)) = shared {
                *doors = doors.and(wanted);
                door.listener.local_addr()?
            } else {
                let listener = listen(address).await?;
                let bound = listener.local_addr()?;
                doors.push((
                    address,
                    wanted,
                    Door {
                        doors: wanted,
                        listener,
                    },
                ));
                bound
            };
            say(&format!("{name} API bind to: http://{bound}"));
        }
        Ok(doors
            .into_iter()
            .map(|(_, doors, door)| Door { doors, ..door })
            .collect())
    }

    async fn close_registry(&self) {
        let registry = Arc::clone(&self.registry);
        let (done, closed) = tokio::sync::oneshot::channel();
        // Not a thread of tokio's: libraries are let go on it.
        let closing = std::thread::Builder::new().name("close".to_owned()).spawn(move || {
            registry.close();
            let _ = done.send(());
        });
        match closing {
            Ok(_) => drop(closed.await),
            Err(error) => tracing::error!(%error, "no thread to close on; requests in flight are lost"),
        }
    }
}

/// A line on standard output, where scripts look for it; a server goes on when nobody reads there any more.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn listen(address: &Address) -> anyhow::Result<TcpListener> {
    let place = (address.host.as_str(), address.port);
    TcpListener::bind(place).await.with_context(|| {
        format!("can't listen on {address}: choose another port in config.properties, or 0 for any that is free")
    })
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

// === impl WorkDir ===

impl WorkDir {
    fn new(given: Option<PathBuf>) -> anyhow::Result<Self> {
        match given {
            Some(path) => {
                std::fs::create_dir_all(&path)
                    .with_context(|| format!("can't make the work folder {}", path.display()))?;
                Ok(Self::Given(path))
            }
            None => {
                let folder = tempfile::Builder::new().prefix("sconce-").tempdir();
                let folder = folder.context(
                    "can't make a folder for private copies under the system's temporary folder: set sconce_work_dir",
                )?;
                Ok(Self::Own(folder))
            }
        }
    }

    fn path(&self) -> &std::path::Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Given(path) => path,
        }
    }
}

//! TorchServe and mosec: installed from PyPI, and set up as their users do it.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use super::contestant::Model;
use super::contestant::Place;
use crate::process;
use crate::python::Environment;
use crate::workspace;

/// The environment with both.
#[derive(Debug)]
pub(super) struct Peers {
    python: PathBuf,
}

/// How TorchServe is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tuning {
    /// As its documentation has it start.
    Default,
    /// As many workers as cores with one thread each, and batches.
    Tuned,
}

const FOLDER: &str = "bench/peers";

/// Without what it asks for: that list holds what its own tests need, too.
const TORCHSERVE: &str = "torchserve==0.12.0";

/// A process of theirs that computes has one thread.
const ONE_THREAD: [&str; 2] = ["OMP_NUM_THREADS", "MKL_NUM_THREADS"];

// === impl Peers ===

impl Peers {
    /// Installs both, unless an interpreter that has them is named.
    pub(super) fn ready(python: Option<&Path>) -> Result<Self> {
        if let Some(python) = python {
            return Ok(Self { python: python.to_owned() });
        }
        let environment = Environment {
            folder: workspace::target_folder()?.join("bench/peers"),
            requirements: workspace::root().join(FOLDER).join("requirements.txt"),
            alone: &[TORCHSERVE],
            what: "PyTorch, TorchServe and mosec",
            why: "The peers are written in Python; without --peers the comparison needs none.",
        };
        Ok(Self { python: environment.ready()? })
    }

    /// Where the programs are that come with it.
    pub(super) fn programs(&self) -> Option<&Path> {
        self.python.parent()
    }

    /// What is installed, as `name==version`.
    pub(super) fn versions(&self) -> Vec<String> {
        const TOLD: [&str; 7] = ["torch", "torchvision", "torchserve", "mosec", "numpy", "pillow", "Python"];
        let said = |arguments: &[&str]| {
            let output = Command::new(&self.python).args(arguments).output().ok();
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
        };
        let listed = said(&["-m", "pip", "list", "--format", "freeze", "--disable-pip-version-check"]);
        let python = said(&["--version"]).trim().replace(' ', "==");
        let name = |line: &&str| line.split("==").next().is_some_and(|name| TOLD.contains(&name));
        listed.lines().chain([python.as_str()]).filter(name).map(str::to_owned).collect()
    }

    /// Why TorchServe can't be measured here; `None` where it can.
    pub(super) fn without_java() -> Option<&'static str> {
        let search = env::var_os("PATH").unwrap_or_default();
        let java = process::find_program(OsStr::new("java"), &search);
        java.is_none()
            .then_some("TorchServe's front is Java, and there is no java on PATH: install a JRE of 11 or newer")
    }

    /// Runs a script of `bench/peers` that writes a file.
    pub(super) fn make(&self, script: &str, file: &Path) -> Result<()> {
        let mut command = Command::new(&self.python);
        command.current_dir(workspace::root()).arg(Path::new(FOLDER).join(script)).arg(file);
        process::run(command.env("PYTHONDONTWRITEBYTECODE", "1"))
    }

    pub(super) fn torchserve(&self, model: &Model, tuning: Tuning, place: &Place) -> Result<Command> {
        let store = place.folder.join("store");
        fs::create_dir_all(&store).with_context(|| format!("{} can't be made", store.display()))?;
        self.pack(model, tuning, &store)?;
        let [inference, management, metrics, grpc_inference, grpc_management] = place.ports;
        let config = place.folder.join("config.properties");
        let text = format!(
            "inference_address=http://127.0.0.1:{inference}\nmanagement_address=http://127.0.0.1:{management}\n\
             metrics_address=http://127.0.0.1:{metrics}\ngrpc_inference_port={grpc_inference}\n\
             grpc_management_port={grpc_management}\n"
        );
        fs::write(&config, text).with_context(|| format!("{} can't be written", config.display()))?;
        let mut command = Command::new(self.beside("torchserve")?);
        command.args(["--start", "--foreground", "--ncs", "--disable-token-auth", "--enable-model-api"]);
        command.arg("--ts-config").arg(config).arg("--model-store").arg(store);
        command.args(["--models", &format!("{0}={0}.mar", model.name)]);
        // It keeps its logs in the current folder, and allows one server for each temporary folder: one name is its
        // launcher's, the other its server's.
        command.current_dir(&place.folder).env("TMPDIR", &place.folder).env("TEMP", &place.folder);
        self.with_search_path(&mut command)?;
        if tuning == Tuning::Tuned {
            command.envs(ONE_THREAD.map(|name| (name, "1")));
        }
        Ok(command)
    }

    pub(super) fn mosec(&self, model: &Model, place: &Place) -> Result<Command> {
        let file = model.file.as_ref().context("mosec serves model files only")?;
        let mut command = Command::new(&self.python);
        command.current_dir(&place.folder).env("TMPDIR", &place.folder);
        command.envs(ONE_THREAD.map(|name| (name, "1")));
        command.env("BENCH_MODEL", file).env("BENCH_KIND", model.name).env("BENCH_BATCH", model.batch.to_string());
        command.arg(workspace::root().join(FOLDER).join("mosec_server.py"));
        command.args(["--address", "127.0.0.1", "--port", &place.ports[0].to_string(), "--log-level", "warning"]);
        self.with_search_path(&mut command)?;
        Ok(command)
    }

    fn pack(&self, model: &Model, tuning: Tuning, store: &Path) -> Result<()> {
        let handler = match model.name {
            "mnist" => workspace::root().join(FOLDER).join("mnist_handler.py"),
            _ => PathBuf::from("image_classifier"),
        };
        let file = model.file.as_ref().context("TorchServe serves model files only")?;
        let mut command = Command::new(self.beside("torch-model-archiver")?);
        command.args(["--model-name", model.name, "--version", "1.0", "--force", "--handler"]).arg(handler);
        command.arg("--serialized-file").arg(file).arg("--export-path").arg(store);
        if tuning == Tuning::Tuned {
            let config = store.with_extension("yaml");
            let text = format!("minWorkers: 2\nmaxWorkers: 2\nbatchSize: {}\nmaxBatchDelay: 5\n", model.batch);
            fs::write(&config, text).with_context(|| format!("{} can't be written", config.display()))?;
            command.arg("--config-file").arg(config);
        }
        let output = command.output().with_context(|| format!("`{}` can't be started", process::shown(&command)))?;
        if !output.status.success() {
            bail!("`{}` failed: {}", process::shown(&command), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// A program that was installed together with the interpreter.
    fn beside(&self, program: &str) -> Result<PathBuf> {
        let path = self.python.with_file_name(program);
        if !path.exists() {
            bail!("there is no {} beside {}", program, self.python.display());
        }
        Ok(path)
    }

    /// What is installed beside the interpreter comes first, as in an environment that was activated.
    fn with_search_path(&self, command: &mut Command) -> Result<()> {
        let own = self.python.parent().map(Path::to_owned);
        let search = env::var_os("PATH").unwrap_or_default();
        let folders = own.into_iter().chain(env::split_paths(&search));
        command.env("PATH", env::join_paths(folders).context("PATH has a folder with a colon in its name")?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model {
            name: "mnist",
            handler: "mnist_digit_classifier",
            file: Some("/m.pt".into()),
            package: None,
            input: "/7.png".into(),
            shape: "1,28,28",
            batch: 16,
        }
    }

    #[test]
    fn a_tuned_worker_has_one_thread() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place { folder: folder.path().to_owned(), ports: [1, 2, 3, 4, 5] };
        let peers = Peers { python: "/env/bin/python".into() };
        let command = peers.mosec(&model(), &place).unwrap();
        let shown = process::shown(&command);
        for expected in ["OMP_NUM_THREADS=\"1\"", "BENCH_MODEL=\"/m.pt\"", "--port 1 "] {
            assert!(shown.contains(expected), "{shown}");
        }
        // Set, and not shown: results are read on other machines.
        let path = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value).unwrap();
        assert!(path.to_string_lossy().starts_with("/env/bin:") && !shown.contains("PATH"), "{shown}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let peers = Peers { python: "/env/bin/python".into() };
        let message = peers.beside("torchserve").unwrap_err().to_string();
        assert_eq!(message, "there is no torchserve beside /env/bin/python");
    }
}

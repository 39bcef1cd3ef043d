//! What comes with scale: the memory of more workers, and the cost of a request where many models are loaded.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;

use super::Bench;
use super::ceiling;
use super::contestant::Model;
use super::contestant::Place;
use super::contestant::Running;
use super::contestant::pack;
use super::contestant::serve;
use super::results::Round;
use crate::bench::figures::Spread;
use crate::bench::load::Load;

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Scale {
    pub(super) workers: Vec<Workers>,
    pub(super) crowds: Vec<Crowd>,
    /// What libtorch alone takes for a request, by the number of models.
    pub(super) alone: Vec<(usize, f64)>,
}

/// One model with so many workers.
#[derive(Debug)]
pub(super) struct Workers {
    pub(super) count: usize,
    /// Under load.
    pub(super) resident_bytes: u64,
}

/// So many models, asked one after the other.
#[derive(Debug)]
pub(super) struct Crowd {
    pub(super) model: &'static str,
    pub(super) models: usize,
    pub(super) batching: Batching,
    pub(super) rounds: Vec<Round>,
    pub(super) resident_bytes: u64,
    pub(super) seconds_to_start: f64,
}

/// Whether requests to one model may share a call of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batching {
    /// As a new user has it.
    Automatic,
    /// None: what many models cost by themselves, since with more models fewer requests are for the same one.
    Off,
}

/// A crowd that is running.
struct Standing {
    crowd: Crowd,
    running: Running,
    load: Load,
}

const WORKERS: [usize; 2] = [1, 4];
const CONNECTIONS: usize = 32;
/// At most: starting many models takes long enough.
const ROUNDS: usize = 2;

// === impl Scale ===

impl Scale {
    /// Measures the memory of one worker and of several.
    pub(super) fn workers(&mut self, bench: &Bench, model: &Model) -> Result<()> {
        println!("\n== workers of {}", model.name);
        for count in WORKERS {
            bench.check_interrupted()?;
            let place = Place::new(bench.folder.join(format!("{}-workers-{count}", model.name)))?;
            let store = place.folder.join("store");
            pack(model, &bench.programs, &store, &format!("minWorkers: {count}\nmaxWorkers: {count}\n"))?;
            let urls = [url(&place, model.name)];
            let running = match start(bench, model, &place, &store, &urls) {
                Ok(running) => running,
                Err(error) => {
                    bench.check_interrupted()?;
                    eprintln!("  {count} workers: {error:#}");
                    continue;
                }
            };
            if let Err(error) = load(bench, model, urls.to_vec(), bench.plan.round).run() {
                bench.check_interrupted()?;
                eprintln!("  {count} workers: {error:#}");
                continue;
            }
            let resident_bytes = running.group.taken().resident_bytes;
            println!("  {count} workers: {:.0} MB resident", resident_bytes as f64 / 1e6);
            self.workers.push(Workers { count, resident_bytes });
        }
        Ok(())
    }

    /// Measures libtorch alone, with more and more copies of the model.
    pub(super) fn alone(&mut self, bench: &Bench, model: &Model) {
        println!("\n== libtorch alone, many models");
        for &count in bench.plan.models {
            match ceiling::cost(bench, model, count) {
                Ok(cost) => {
                    println!("  {count:3} models: {cost:.0} µs of processor time a call");
                    self.alone.push((count, cost));
                }
                Err(error) => eprintln!("  {count} models: {error:#}"),
            }
        }
    }

    /// Measures one model's requests among more and more models.
    pub(super) fn models(&mut self, bench: &Bench, model: &Model, batchings: &[Batching]) -> Result<()> {
        for &batching in batchings {
            println!("\n== many models of {}, batching {}", model.name, batching.shown());
            let mut standing = Vec::new();
            for &count in bench.plan.models {
                match Standing::start(bench, model, count, batching) {
                    Ok(one) => standing.push(one),
                    Err(error) => {
                        bench.check_interrupted()?;
                        eprintln!("  {count} models: {error:#}");
                    }
                }
            }
            for _ in 0..bench.plan.rounds.min(ROUNDS) {
                let mut still = Vec::new();
                for mut one in standing {
                    bench.check_interrupted()?;
                    match one.round() {
                        Ok(()) => still.push(one),
                        Err(error) => eprintln!("  {} models: {error:#}", one.crowd.models),
                    }
                }
                standing = still;
            }
            self.crowds.extend(standing.into_iter().map(|one| {
                let resident_bytes = one.running.group.taken().resident_bytes;
                Crowd { resident_bytes, ..one.crowd }
            }));
        }
        Ok(())
    }

    /// The cost of a request with so many models, as a multiple of what it is with one.
    pub(super) fn cost_ratio(&self, model: &str, models: usize, batching: Batching) -> Option<f64> {
        let cost = |models| {
            let same = |crowd: &&Crowd| (crowd.model, crowd.models, crowd.batching) == (model, models, batching);
            let crowd = self.crowds.iter().find(same)?;
            Some(crowd.cost()?.median)
        };
        Some(cost(models)? / cost(1)?)
    }

    /// The memory of the most workers, as a multiple of that of one.
    pub(super) fn memory_ratio(&self) -> Option<f64> {
        let resident = |count| Some(self.workers.iter().find(|workers| workers.count == count)?.resident_bytes as f64);
        Some(resident(WORKERS[1])? / resident(WORKERS[0])?)
    }

    pub(super) fn json(&self) -> Value {
        let workers = self.workers.iter().map(|one| json!({"workers": one.count, "residentBytes": one.resident_bytes}));
        let crowds = self.crowds.iter().map(|crowd| {
            json!({
                "model": crowd.model,
                "models": crowd.models,
                "batching": crowd.batching.shown(),
                "requestsPerSecond": crowd.rounds.iter().map(Round::throughput).collect::<Vec<_>>(),
                "cpuMicrosecondsPerRequest": crowd.rounds.iter().map(Round::cpu_per_request).collect::<Vec<_>>(),
                "errors": crowd.rounds.iter().map(|round| round.seen.errors).sum::<u64>(),
                "residentBytes": crowd.resident_bytes,
                "secondsToAllAnswered": crowd.seconds_to_start,
            })
        });
        let alone =
            self.alone.iter().map(|(models, cost)| json!({"models": models, "cpuMicrosecondsPerRequest": cost}));
        json!({
            "workers": workers.collect::<Vec<_>>(),
            "manyModels": crowds.collect::<Vec<_>>(),
            "manyModelsLibtorchAlone": alone.collect::<Vec<_>>(),
        })
    }
}

// === impl Crowd ===

impl Crowd {
    /// Microseconds of processor time for a request.
    pub(super) fn cost(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(Round::cpu_per_request))
    }
}

// === impl Batching ===

impl Batching {
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Off => "off",
        }
    }

    /// Lines of a model-config.yaml.
    fn config(self) -> &'static str {
        match self {
            Self::Automatic => "",
            Self::Off => "batchSize: 1\n",
        }
    }
}

// === impl Standing ===

impl Standing {
    fn start(bench: &Bench, model: &Model, count: usize, batching: Batching) -> Result<Self> {
        let name = format!("{}-models-{count}-{}", model.name, batching.shown());
        let place = Place::new(bench.folder.join(name))?;
        let store = place.folder.join("store");
        let names: Vec<String> = (0..count).map(|number| format!("{}_{number}", model.name)).collect();
        for (number, name) in names.iter().enumerate() {
            bench.check_interrupted()?;
            let own = another(model, number, &place.folder)?;
            // The name is the archive's only here, so that each model's is its own.
            let model = Model { name: name.clone().leak(), ..own };
            pack(&model, &bench.programs, &store, batching.config())?;
        }
        let urls: Vec<String> = names.iter().map(|name| url(&place, name)).collect();
        let running = start(bench, model, &place, &store, &urls)?;
        println!("  {count} models answer {:.2} s after the start", running.seconds);
        let load = load(bench, model, urls, bench.plan.round);
        // Each model's code settles in its first calls.
        load.run()?;
        running.group.pause();
        let crowd = Crowd {
            model: model.name,
            models: count,
            batching,
            rounds: Vec::new(),
            resident_bytes: 0,
            seconds_to_start: running.seconds,
        };
        Ok(Self { crowd, running, load })
    }

    fn round(&mut self) -> Result<()> {
        let group = &self.running.group;
        group.resume();
        let before = group.taken().cpu_seconds;
        let seen = self.load.run()?;
        let round = Round { seen, cpu_seconds: group.taken().cpu_seconds - before };
        group.pause();
        println!(
            "  {:3} models: {:8.0} requests/s, {:.0} µs of processor time each",
            self.crowd.models,
            round.throughput(),
            round.cpu_per_request()
        );
        self.crowd.rounds.push(round);
        Ok(())
    }
}

fn start(bench: &Bench, model: &Model, place: &Place, store: &Path, urls: &[String]) -> Result<Running> {
    let command = serve(&bench.programs, place, store)?;
    Running::start(command, urls, &model.input, place, &bench.interrupted)
}

fn url(place: &Place, name: &str) -> String {
    format!("http://127.0.0.1:{}/predictions/{name}", place.ports[0])
}

fn load(bench: &Bench, model: &Model, urls: Vec<String>, time: Duration) -> Load {
    let body = model.input.clone();
    Load { generator: bench.closed_loop.clone(), urls, body, connections: CONNECTIONS, time, rate: None }
}

/// The same model in a file of its own: the host, which keeps equal files once, takes it for another.
fn another(model: &Model, number: usize, folder: &Path) -> Result<Model> {
    let Some(file) = &model.file else { return Ok(model.clone()) };
    let content = fs::read(file).with_context(|| format!("{} can't be read", file.display()))?;
    fs::create_dir_all(folder).with_context(|| format!("{} can't be made", folder.display()))?;
    let path = folder.join(format!("{number}.pt"));
    fs::write(&path, commented(content, number)?).with_context(|| format!("{} can't be written", path.display()))?;
    Ok(Model { file: Some(path), ..model.clone() })
}

/// A zip file with a comment at its end.
fn commented(mut zip: Vec<u8>, number: usize) -> Result<Vec<u8>> {
    const END: &[u8] = b"PK\x05\x06";
    const END_LENGTH: usize = 22;
    let end = zip.len().checked_sub(END_LENGTH).filter(|place| zip[*place..].starts_with(END));
    if end.is_none() {
        bail!("the model is no zip file without a comment, as TorchScript writes it");
    }
    let comment = format!("number {number:05}");
    let length = zip.len() - 2;
    zip[length] = comment.len() as u8;
    zip.extend_from_slice(comment.as_bytes());
    Ok(zip)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::results::tests::entry;
    use super::*;

    pub(in super::super) fn scale() -> Scale {
        let crowd = |models, cpu_seconds| {
            let mut rounds = entry("a", &[1000.0]).closed.remove(0).rounds;
            rounds[0].cpu_seconds = cpu_seconds;
            Crowd {
                model: "mnist",
                models,
                batching: Batching::Off,
                rounds,
                resident_bytes: 1_000_000,
                seconds_to_start: 1.0,
            }
        };
        Scale {
            workers: vec![
                Workers { count: 1, resident_bytes: 100_000_000 },
                Workers { count: 4, resident_bytes: 120_000_000 },
            ],
            crowds: vec![crowd(1, 0.1), crowd(64, 0.11)],
            alone: vec![(1, 200.0), (64, 400.0)],
        }
    }

    #[test]
    fn ratios_are_to_one() {
        let scale = scale();
        assert_eq!(scale.memory_ratio(), Some(1.2));
        assert!((scale.cost_ratio("mnist", 64, Batching::Off).unwrap() - 1.1).abs() < 1e-9);
        assert_eq!(scale.cost_ratio("mnist", 64, Batching::Automatic), None);
        assert_eq!(scale.json()["manyModels"][1]["models"], 64);
    }

    #[test]
    fn the_same_model_becomes_another_file() {
        let mut zip = b"content PK\x05\x06".to_vec();
        zip.extend([0; 18]);
        let (one, two) = (commented(zip.clone(), 1).unwrap(), commented(zip.clone(), 2).unwrap());
        assert_ne!(one, two);
        assert_eq!(one[..zip.len() - 2], zip[..zip.len() - 2]);
        assert_eq!(usize::from(one[zip.len() - 2]), one.len() - zip.len());
        assert!(commented(one, 3).is_err());
    }
}

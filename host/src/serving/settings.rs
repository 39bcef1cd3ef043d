//! How one model is served: what a client asked for over the archive's config over the server's `models` over its defaults.

use std::time::Duration;

use handler_sdk::Device;

use super::batcher::BatchPolicy;
use super::queue::QueueLimits;
use crate::archive::DeviceType;
use crate::archive::ModelSettings;
use crate::archive::Runtime;
use crate::config::ModelDefaults;
use crate::config::ServerConfig;
use crate::model::Optimization;

/// The settings of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    pub scale: Scale,
    pub batch: BatchPolicy,
    pub response_timeout: Duration,
    pub startup_timeout: Duration,
    /// How long a client waits, counted from the request's arrival; `None` is for ever.
    pub client_timeout: Option<Duration>,
    /// For how long a model that can't be served leaves the server healthy.
    pub max_retry_timeout: Duration,
    pub queue: QueueLimits,
    pub device: Device,
    pub device_ids: Option<Vec<u32>>,
    pub optimization: Optimization,
    /// That the workers share.
    pub cores: usize,
    /// Threads beside the workers that prepare requests while these call the model; `None` leaves it to the server.
    pub preprocess_workers: Option<usize>,
}

/// How many workers an endpoint has: `min`, and up to `max` while requests wait. With 0 it has none, and refuses requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    pub min: usize,
    /// At least `min`.
    pub max: usize,
}

/// What a client asked for when it registered or scaled a model: it wins over the archive and the configuration, and outlives swaps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    pub handler: Option<String>,
    pub runtime: Option<Runtime>,
    pub batch_size: Option<usize>,
    pub max_batch_delay: Option<Duration>,
    pub response_timeout: Option<Duration>,
    pub startup_timeout: Option<Duration>,
    pub scale: Option<Scale>,
}

/// What the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) cuda_devices: usize,
}

// === impl Scale ===

impl Scale {
    /// Each worker is a thread: a slip of the pen must not take all that the system has.
    pub const MOST: usize = 1024;

    pub fn fixed(workers: usize) -> Self {
        Self { min: workers, max: workers }
    }

    /// Whether no worker is wanted at all.
    pub fn is_none(self) -> bool {
        self.min == 0
    }
}

// === impl EndpointSettings ===

impl EndpointSettings {
    /// `asked` is there where a client registered the model, which then has no workers unless somebody says so.
    pub(super) fn resolve(
        asked: Option<&Asked>,
        archive: &ModelSettings,
        models: Option<&ModelDefaults>,
        server: &ServerConfig,
        machine: Machine,
    ) -> Self {
        let none = ModelDefaults::default();
        let models = models.unwrap_or(&none);
        let gpus = server.number_of_gpu.map_or(machine.cuda_devices, |limit| limit.min(machine.cuda_devices));
        let wants_gpu = archive.device_type != Some(DeviceType::Cpu) && gpus > 0;
        let device = if wants_gpu {
            let first = archive.device_ids.as_ref().and_then(|ids| ids.first());
            Device::Cuda(first.map_or(0, |&id| id as usize))
        } else {
            Device::Cpu
        };
        let by_machine = match (asked, wants_gpu) {
            (Some(_), _) => 0,
            (None, true) => gpus,
            (None, false) => machine.cores,
        };
        let none = Asked::default();
        let asked = asked.unwrap_or(&none);
        let scale = asked
            .scale
            .or_else(|| archive.workers().map(|(min, max)| Scale { min, max }))
            .or_else(|| models.min_workers.map(|min| Scale { min, max: models.max_workers.unwrap_or(min).max(min) }))
            .unwrap_or_else(|| Scale::fixed(server.default_workers_per_model.unwrap_or(by_machine)));
        Self {
            scale,
            batch: BatchPolicy {
                size: asked.batch_size.or(archive.batch_size).or(models.batch_size),
                delay: asked.max_batch_delay.or(archive.max_batch_delay).or(models.max_batch_delay),
                target_latency: archive.target_latency,
            },
            optimization: archive.optimization.and_then(Optimization::parse).unwrap_or_default(),
            cores: machine.cores,
            preprocess_workers: archive.preprocess_workers,
            response_timeout: asked
                .response_timeout
                .or(archive.response_timeout)
                .or(models.response_timeout)
                .unwrap_or(server.default_response_timeout)
                .min(LONGEST_TIMEOUT),
            startup_timeout: asked
                .startup_timeout
                .or(archive.startup_timeout)
                .or(models.startup_timeout)
                .unwrap_or(server.default_startup_timeout)
                .min(LONGEST_TIMEOUT),
            client_timeout: archive.client_timeout,
            max_retry_timeout: archive.max_retry_timeout.unwrap_or(DEFAULT_MAX_RETRY_TIMEOUT),
            queue: QueueLimits {
                capacity: archive.job_queue_size.unwrap_or(server.job_queue_size),
                tickets: archive.use_job_ticket,
            },
            device,
            device_ids: archive.device_ids.clone(),
        }
    }
}

const DEFAULT_MAX_RETRY_TIMEOUT: Duration = Duration::from_secs(300);

/// A hundred years; the end of a time that is much longer is beyond what a clock can show.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::OPTIMIZATIONS;

    const MACHINE: Machine = Machine { cores: 4, cuda_devices: 0 };

    #[test]
    fn what_was_asked_for_wins_over_the_archive_over_models_over_defaults() {
        let server = ServerConfig::default();
        let resolve = |archive: &ModelSettings, models: Option<&ModelDefaults>| {
            EndpointSettings::resolve(None, archive, models, &server, MACHINE)
        };
        let plain = resolve(&ModelSettings::default(), None);
        assert_eq!((plain.scale.min, plain.batch.size, plain.queue.capacity), (4, None, 100));
        assert_eq!(plain.device, Device::Cpu);

        let models = ModelDefaults { batch_size: Some(8), min_workers: Some(2), ..ModelDefaults::default() };
        let by_models = resolve(&ModelSettings::default(), Some(&models));
        assert_eq!((by_models.scale, by_models.batch.size), (Scale::fixed(2), Some(8)));

        let archive = ModelSettings {
            batch_size: Some(16),
            min_workers: Some(3),
            max_workers: Some(3),
            ..ModelSettings::default()
        };
        let by_archive = resolve(&archive, Some(&models));
        assert_eq!((by_archive.scale, by_archive.batch.size), (Scale::fixed(3), Some(16)));

        let asked = Asked { batch_size: Some(4), scale: Some(Scale { min: 1, max: 5 }), ..Asked::default() };
        let by_client = EndpointSettings::resolve(Some(&asked), &archive, Some(&models), &server, MACHINE);
        assert_eq!((by_client.scale, by_client.batch.size), (Scale { min: 1, max: 5 }, Some(4)));
    }

    #[test]
    fn every_word_for_a_form_is_known_to_the_archive_and_to_the_model() {
        assert_eq!(OPTIMIZATIONS, Optimization::WORDS);
    }

    #[test]
    fn no_timeout_ends_beyond_the_clock() {
        let longest = Some(Duration::from_secs(u64::MAX));
        let asked = Asked { response_timeout: longest, startup_timeout: longest, ..Asked::default() };
        let settings =
            EndpointSettings::resolve(Some(&asked), &ModelSettings::default(), None, &ServerConfig::default(), MACHINE);
        for timeout in [settings.response_timeout, settings.startup_timeout] {
            assert!(std::time::Instant::now().checked_add(timeout).is_some_and(|end| end > std::time::Instant::now()));
        }
    }

    #[test]
    fn a_model_that_a_client_registers_has_no_workers_unless_somebody_says_so() {
        let scale = |asked: &Asked, archive: &ModelSettings, default_workers_per_model| {
            let server = ServerConfig { default_workers_per_model, ..ServerConfig::default() };
            EndpointSettings::resolve(Some(asked), archive, None, &server, MACHINE).scale
        };
        let (nobody, nothing) = (Asked::default(), ModelSettings::default());
        let yaml = ModelSettings { min_workers: Some(2), max_workers: Some(3), ..ModelSettings::default() };
        assert!(scale(&nobody, &nothing, None).is_none());
        assert_eq!(scale(&nobody, &nothing, Some(6)), Scale::fixed(6));
        assert_eq!(scale(&nobody, &yaml, Some(6)), Scale { min: 2, max: 3 });
    }

    #[test]
    fn a_gpu_is_used_where_there_is_one_and_nobody_objects() {
        let gpus = Machine { cuda_devices: 2, ..MACHINE };
        let device = |device_type, device_ids: Option<Vec<u32>>, number_of_gpu| {
            let archive = ModelSettings { device_type, device_ids, ..ModelSettings::default() };
            let server = ServerConfig { number_of_gpu, ..ServerConfig::default() };
            EndpointSettings::resolve(None, &archive, None, &server, gpus).device
        };
        assert_eq!(device(None, None, None), Device::Cuda(0));
        assert_eq!(device(None, Some(vec![1]), None), Device::Cuda(1));
        assert_eq!(device(Some(DeviceType::Cpu), None, None), Device::Cpu);
        assert_eq!(device(Some(DeviceType::Gpu), None, Some(0)), Device::Cpu);
    }
}

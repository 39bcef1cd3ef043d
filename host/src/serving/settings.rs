//! How one model is served: the archive's config over the server's `models` over its defaults.

use std::time::Duration;

use handler_sdk::Device;

use super::batcher::BatchPolicy;
use super::queue::QueueLimits;
use crate::archive::DeviceType;
use crate::archive::ModelSettings;
use crate::config::ModelDefaults;
use crate::config::ServerConfig;

/// The settings of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSettings {
    pub min_workers: usize,
    pub max_workers: usize,
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
}

/// What the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) cuda_devices: usize,
}

// === impl EndpointSettings ===

impl EndpointSettings {
    pub(super) fn resolve(
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
        let default_workers = server.default_workers_per_model.unwrap_or(if wants_gpu { gpus } else { machine.cores });
        let (min_workers, max_workers) = archive
            .workers()
            .or_else(|| models.min_workers.map(|min| (min, models.max_workers.unwrap_or(min).max(min))))
            .unwrap_or((default_workers, default_workers));
        Self {
            min_workers,
            max_workers,
            batch: BatchPolicy {
                size: archive.batch_size.or(models.batch_size).unwrap_or(1),
                delay: archive.max_batch_delay.or(models.max_batch_delay).unwrap_or(DEFAULT_BATCH_DELAY),
            },
            response_timeout: archive
                .response_timeout
                .or(models.response_timeout)
                .unwrap_or(server.default_response_timeout),
            startup_timeout: archive
                .startup_timeout
                .or(models.startup_timeout)
                .unwrap_or(server.default_startup_timeout),
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

const DEFAULT_BATCH_DELAY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { cores: 4, cuda_devices: 0 };

    #[test]
    fn the_archive_wins_over_models_over_defaults() {
        let server = ServerConfig::default();
        let resolve = |archive: &ModelSettings, models: Option<&ModelDefaults>| {
            EndpointSettings::resolve(archive, models, &server, MACHINE)
        };
        let plain = resolve(&ModelSettings::default(), None);
        assert_eq!((plain.min_workers, plain.batch.size, plain.queue.capacity), (4, 1, 100));
        assert_eq!(plain.device, Device::Cpu);

        let models = ModelDefaults { batch_size: Some(8), min_workers: Some(2), ..ModelDefaults::default() };
        let by_models = resolve(&ModelSettings::default(), Some(&models));
        assert_eq!((by_models.min_workers, by_models.max_workers, by_models.batch.size), (2, 2, 8));

        let archive = ModelSettings {
            batch_size: Some(16),
            min_workers: Some(3),
            max_workers: Some(3),
            ..ModelSettings::default()
        };
        let by_archive = resolve(&archive, Some(&models));
        assert_eq!((by_archive.min_workers, by_archive.max_workers, by_archive.batch.size), (3, 3, 16));
    }

    #[test]
    fn a_gpu_is_used_where_there_is_one_and_nobody_objects() {
        let gpus = Machine { cuda_devices: 2, ..MACHINE };
        let device = |device_type, device_ids: Option<Vec<u32>>, number_of_gpu| {
            let archive = ModelSettings { device_type, device_ids, ..ModelSettings::default() };
            let server = ServerConfig { number_of_gpu, ..ServerConfig::default() };
            EndpointSettings::resolve(&archive, None, &server, gpus).device
        };
        assert_eq!(device(None, None, None), Device::Cuda(0));
        assert_eq!(device(None, Some(vec![1]), None), Device::Cuda(1));
        assert_eq!(device(Some(DeviceType::Cpu), None, None), Device::Cpu);
        assert_eq!(device(Some(DeviceType::Gpu), None, Some(0)), Device::Cpu);
    }
}

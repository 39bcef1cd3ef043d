//! What NVIDIA's library tells of the machine's GPUs; where there is none, nothing is told.

use nvml_wrapper::Nvml;

/// The library, where the machine has it and at least one GPU.
#[derive(Debug)]
pub(super) struct Gpus(Nvml);

/// One GPU at this moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GpuUse {
    pub(super) index: u32,
    pub(super) utilization_percent: f64,
    pub(super) memory_used: u64,
    pub(super) memory_total: u64,
}

// === impl Gpus ===

impl Gpus {
    pub(super) fn find() -> Option<Self> {
        let nvml = Nvml::init().ok()?;
        (nvml.device_count().ok()? > 0).then_some(Self(nvml))
    }

    /// What each does now; one that doesn't tell is left out.
    pub(super) fn look(&self) -> Vec<GpuUse> {
        let look = |index| {
            let device = self.0.device_by_index(index).ok()?;
            let memory = device.memory_info().ok()?;
            let utilization_percent = device.utilization_rates().ok()?.gpu.into();
            Some(GpuUse { index, utilization_percent, memory_used: memory.used, memory_total: memory.total })
        };
        (0..self.0.device_count().unwrap_or(0)).filter_map(look).collect()
    }
}

//! The machine: processor, memory, disk and GPUs, looked at from time to time.

use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::statvfs;
use sysinfo::MINIMUM_CPU_UPDATE_INTERVAL;
use sysinfo::System;

use super::Metrics;
use super::MetricsError;
use super::family::Series;
use super::gpu::Gpus;

/// The metrics of the machine, with what they are read from.
#[derive(Debug)]
pub struct SystemMetrics {
    metrics: Metrics,
    system: System,
    gpus: Option<Gpus>,
    cpu: Series,
    memory: Share,
    disk: Share,
}

/// How much of something is used.
#[derive(Debug)]
struct Share {
    used: Series,
    available: Series,
    percent: Series,
}

const MEGABYTE: f64 = 1_048_576.0;
const GIGABYTE: f64 = 1_073_741_824.0;

// === impl SystemMetrics ===

impl SystemMetrics {
    /// Looks at memory and disk, so that they are told from the start.
    pub fn new(metrics: &Metrics) -> Result<Self, MetricsError> {
        let of_host = |name| metrics.host_series(name, &["Host"]);
        let share = |used, available, percent| {
            Ok::<_, MetricsError>(Share {
                used: of_host(used)?,
                available: of_host(available)?,
                percent: of_host(percent)?,
            })
        };
        let mut made = Self {
            system: System::new(),
            gpus: None,
            cpu: of_host("CPUUtilization")?,
            memory: share("MemoryUsed", "MemoryAvailable", "MemoryUtilization")?,
            disk: share("DiskUsage", "DiskAvailable", "DiskUtilization")?,
            metrics: metrics.clone(),
        };
        made.look();
        Ok(made)
    }

    /// Looks whenever so much time has passed, until the other end of the channel is dropped. Blocks.
    pub fn watch(mut self, interval: Duration, end: &mpsc::Receiver<()>) {
        self.system.refresh_cpu_usage();
        // Its own start may take a second.
        self.gpus = Gpus::find();
        self.look_at_gpus();
        // A processor's use is a difference between two looks.
        let mut pause = MINIMUM_CPU_UPDATE_INTERVAL;
        while end.recv_timeout(pause) == Err(mpsc::RecvTimeoutError::Timeout) {
            self.system.refresh_cpu_usage();
            self.cpu.record(self.system.global_cpu_usage().into());
            if pause == interval {
                self.look();
                self.look_at_gpus();
            }
            pause = interval;
        }
    }

    #[allow(clippy::cast_precision_loss)] // Exact up to 2⁵³ bytes.
    fn look(&mut self) {
        self.system.refresh_memory();
        let (total, available) = (self.system.total_memory() as f64, self.system.available_memory() as f64);
        self.memory.record(total - available, available, MEGABYTE);
        if let Ok(root) = statvfs("/") {
            let block = root.f_frsize as f64;
            let used = (root.f_blocks - root.f_bfree) as f64 * block;
            self.disk.record(used, root.f_bavail as f64 * block, GIGABYTE);
        }
    }

    #[allow(clippy::cast_precision_loss)] // Exact up to 2⁵³ bytes.
    fn look_at_gpus(&self) {
        for gpu in self.gpus.iter().flat_map(Gpus::look) {
            let index = gpu.index.to_string();
            let (used, total) = (gpu.memory_used as f64, gpu.memory_total as f64);
            for (name, value) in [
                ("GPUUtilization", gpu.utilization_percent),
                ("GPUMemoryUsed", used / MEGABYTE),
                ("GPUMemoryUtilization", percent(used, total)),
            ] {
                match self.metrics.host_series(name, &["Host", &index]) {
                    Ok(series) => series.record(value),
                    Err(error) => tracing::error!(%error, "a GPU isn't measured"),
                }
            }
        }
    }
}

// === impl Share ===

impl Share {
    fn record(&self, used: f64, available: f64, unit: f64) {
        self.used.record(used / unit);
        self.available.record(available / unit);
        self.percent.record(percent(used, used + available));
    }
}

/// The memory of this process that is in RAM, in bytes; workers are threads of it, and share it all.
pub fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn percent(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole * 100.0 } else { 0.0 }
}

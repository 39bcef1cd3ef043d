//! The threads of a generation that prepare requests beside its workers: when they come, and what becomes of those that hang.

use std::sync::mpsc;

use handler_sdk::Device;

use super::EndpointSettings;
use super::Generation;
use super::Scale;
use super::crew::Crew;
use super::crew::MOST_STUCK;
use super::worker::Role;

/// Where a GPU waits for requests, so many threads prepare them unless somebody says otherwise.
const USUAL_BESIDE_A_GPU: usize = 4;

// === impl EndpointSettings ===

impl EndpointSettings {
    /// How many threads prepare requests beside the workers; none where these have all cores to compute on.
    pub fn preparers(&self) -> usize {
        let usual = match self.device {
            Device::Cpu => 0,
            _ => self.cores.min(USUAL_BESIDE_A_GPU),
        };
        self.preprocess_workers.unwrap_or(usual).min(Scale::MOST)
    }
}

// === impl Generation ===

impl Generation {
    /// Starts them once a batch has shown that the handler's steps can be called one by one, and others in place of those that are gone.
    ///
    /// Where too many are gone, the workers prepare their requests themselves.
    pub(super) fn look_after_preparers(&self, crew: &mut Crew) {
        let wanted = self.settings().preparers();
        if wanted == 0 || !self.gate.has_steps() {
            return;
        }
        for preparer in crew.preparers.extract_if(.., |preparer| preparer.is_finished()) {
            preparer.join_finished();
        }
        let at_work = crew.preparers.iter().filter(|preparer| preparer.is_at_work()).count();
        let may_come = (wanted + MOST_STUCK).saturating_sub(crew.preparers_started);
        for _ in 0..wanted.saturating_sub(at_work).min(may_come) {
            let number = crew.preparers_started;
            crew.preparers_started += 1;
            match self.start_thread((Role::Preparer, number), mpsc::channel().0) {
                Ok(preparer) => crew.preparers.push(preparer),
                Err(error) => {
                    let plan = self.plan();
                    tracing::error!(model = %plan.model, version = %plan.version, %error, "no thread could be started to prepare requests");
                }
            }
        }
    }
}

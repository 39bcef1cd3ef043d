//! What a worker does between two batches: it takes state over, or hands it on.

use handler_sdk::Error as HandlerError;
use handler_sdk::abi::instance::CallError;

use super::Work;
use crate::model::InferenceMode;
use crate::serving::hand_over::Errand;
use crate::serving::hand_over::HandlerState;

// === impl Work ===

impl Work {
    /// Exports or imports state; `false` where whoever asked has stopped waiting, so that this worker has been replaced.
    pub(super) fn run_errand(&mut self) -> bool {
        let Some(errand) = self.shared.begin_errand() else { return true };
        let _mode = InferenceMode::enter();
        // It is out of hand before anybody hears of it: who asked may give up what is still begun, and then takes this worker for one that hangs.
        match errand {
            Errand::Export(exported) => {
                let state = self.export_state();
                let is_wanted = self.shared.lock().take().is_some();
                let _ = exported.send(state);
                is_wanted
            }
            Errand::Import { states, done } => {
                let imported = self.import_state(&states);
                let is_wanted = self.shared.lock().take().is_some();
                let _ = done.send(imported);
                is_wanted
            }
        }
    }

    fn export_state(&mut self) -> Result<Option<HandlerState>, HandlerError> {
        let Some(instance) = &mut self.instance else {
            return Ok(None);
        };
        let Some(version) = instance.state_version() else {
            return Ok(None);
        };
        let exported = instance.export_state(&self.plan.services);
        let bytes = exported.map_err(|error| self.take_failure(error, 0))?;
        Ok(Some(HandlerState { version, bytes }))
    }

    fn import_state(&mut self, states: &[HandlerState]) -> Result<(), HandlerError> {
        let instance = self.instance.as_mut().ok_or_else(|| HandlerError::new("the object that was made is gone"))?;
        for state in states {
            let imported = instance.import_state(state.version, &state.bytes, &self.plan.services);
            imported.map_err(|error| match error {
                CallError::Failed(error) | CallError::Panicked(error) => error,
            })?;
        }
        Ok(())
    }
}

//! The models in memory, by content: whoever asks for the same file on the same device gets the same copy.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use handler_sdk::Device;

use super::Model;
use super::ModelError;
use super::Optimization;
use crate::ids::Digest;

/// What makes two models the same one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelKey {
    /// The file's content.
    pub digest: Digest,
    pub device: Device,
    pub options: ModelOptions,
}

/// How a model is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ModelOptions {
    pub optimization: Optimization,
}

/// Whether a model had to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It was in memory.
    Resident,
    Loaded,
}

/// Empty until the first load has succeeded.
type Slot = Mutex<Option<Weak<dyn Model>>>;

/// Reads a model that nobody else will ask for.
pub fn load(path: &Path, device: Device, options: ModelOptions) -> Result<Arc<dyn Model>, ModelError> {
    #[cfg(feature = "torch")]
    return super::torch::load(path, device, options);
    #[cfg(not(feature = "torch"))]
    {
        let _ = (device, options);
        Err(ModelError::NoTorch { path: path.to_owned() })
    }
}

/// Every model in memory; one is freed when its last user lets go.
#[derive(Debug, Default)]
pub struct ModelStore {
    /// Each slot has a lock of its own, so that two users of one file wait for one load, and those of another don't.
    slots: Mutex<HashMap<ModelKey, Arc<Slot>>>,
    loads: AtomicU64,
}

// === impl ModelStore ===

impl ModelStore {
    /// The model of that key, loaded from `path` if nobody has it.
    pub fn get(&self, key: &ModelKey, path: &Path) -> Result<(Arc<dyn Model>, Place), ModelError> {
        self.get_with(key, || load(path, key.device, key.options))
    }

    /// How many times a file was read into memory since the start.
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// How many models are in memory.
    pub fn resident(&self) -> usize {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.values().filter(|slot| is_used(slot)).count()
    }

    fn get_with(
        &self,
        key: &ModelKey,
        load: impl FnOnce() -> Result<Arc<dyn Model>, ModelError>,
    ) -> Result<(Arc<dyn Model>, Place), ModelError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.retain(|other, slot| other == key || Arc::strong_count(slot) > 1 || is_used(slot));
            Arc::clone(slots.entry(key.clone()).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = slot.as_ref().and_then(Weak::upgrade) {
            return Ok((model, Place::Resident));
        }
        let model = load()?;
        self.loads.fetch_add(1, Ordering::Relaxed);
        *slot = Some(Arc::downgrade(&model));
        Ok((model, Place::Loaded))
    }
}

fn is_used(slot: &Slot) -> bool {
    let model = slot.try_lock();
    model.is_ok_and(|model| model.as_ref().is_some_and(|model| model.strong_count() > 0))
}

#[cfg(test)]
mod tests {
    use handler_sdk::ModelKind;
    use handler_sdk::abi::raw::RawDoor;
    use handler_sdk::abi::raw::RawEvent;
    use handler_sdk::abi::raw::RawGradients;

    use super::*;
    use crate::model::Footprint;
    use crate::model::Schema;

    #[derive(Debug)]
    struct Empty;

    impl Model for Empty {
        fn kind(&self) -> ModelKind {
            ModelKind::StateDict
        }

        fn forward(
            &self,
            _: &str,
            _: &[RawEvent<'_>],
            _: RawDoor,
            _: &mut dyn FnMut(&RawEvent<'_>),
        ) -> Result<(), String> {
            Err("it has no code".to_owned())
        }

        fn layer(
            &self,
            _: &str,
            _: &str,
            _: &[RawEvent<'_>],
            _: RawDoor,
            _: &mut dyn FnMut(&RawEvent<'_>),
        ) -> Result<(), String> {
            Err("it has no code".to_owned())
        }

        fn gradients(&self, _: &RawGradients<'_>, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
            Err("it has no code".to_owned())
        }

        fn schema(&self, _: &str) -> Result<Schema, String> {
            Err("it has no code".to_owned())
        }

        fn weights(&self, _: RawDoor, _: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
            Ok(())
        }

        fn footprint(&self) -> Footprint {
            Footprint::default()
        }
    }

    fn key(byte: u8, device: Device) -> ModelKey {
        ModelKey { digest: Digest([byte; 32]), device, options: ModelOptions::default() }
    }

    #[test]
    fn the_same_content_on_the_same_device_is_one_copy() {
        let store = ModelStore::default();
        let get = |key: &ModelKey| store.get_with(key, || Ok(Arc::new(Empty))).unwrap().0;
        let first = get(&key(1, Device::Cpu));
        let again = get(&key(1, Device::Cpu));
        assert!(Arc::ptr_eq(&first, &again));
        let _other_file = get(&key(2, Device::Cpu));
        let _other_device = get(&key(1, Device::Cuda(0)));
        assert_eq!(store.loads(), 3);
        assert_eq!(store.resident(), 3);
        drop((first, again));
        let _anew = get(&key(1, Device::Cpu));
        assert_eq!(store.loads(), 4);
    }

    #[test]
    fn a_failed_load_leaves_the_slot_free() {
        let store = ModelStore::default();
        let key = key(1, Device::Cpu);
        let path = || ModelError::UnknownFormat { path: "model.bin".into() };
        assert!(store.get_with(&key, || Err(path())).is_err());
        assert!(store.get_with(&key, || Ok(Arc::new(Empty))).is_ok());
        assert_eq!(store.loads(), 1);
    }

    #[cfg(not(feature = "torch"))]
    #[test]
    fn without_libtorch_weights_are_refused() {
        let error = ModelStore::default().get(&key(1, Device::Cpu), Path::new("mnist.pt")).unwrap_err();
        assert!(error.to_string().contains("mnist.pt is for libtorch, and this sconce was built without libtorch"));
    }
}

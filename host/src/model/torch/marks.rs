//! What stands between the tensors of a package's output, which its code gives one after the other.

use handler_sdk::abi::raw::RawEvent;
use handler_sdk::abi::raw::RawEventKind;

use crate::model::package::Spec;

/// What stands between the tensors of an output: where lists and dicts begin and end.
pub(super) struct Marks(std::vec::IntoIter<(RawEventKind, String)>);

impl Marks {
    pub(super) fn new(spec: &Spec) -> Self {
        fn walk(spec: &Spec, name: &str, steps: &mut Vec<(RawEventKind, String)>) {
            match spec {
                Spec::Tensor => steps.push((RawEventKind::TENSOR, name.to_owned())),
                Spec::List(items) => {
                    steps.push((RawEventKind::BEGIN_LIST, name.to_owned()));
                    items.iter().for_each(|item| walk(item, "", steps));
                    steps.push((RawEventKind::END, String::new()));
                }
                Spec::Dict(entries) => {
                    steps.push((RawEventKind::BEGIN_DICT, name.to_owned()));
                    entries.iter().for_each(|(key, item)| walk(item, key, steps));
                    steps.push((RawEventKind::END, String::new()));
                }
            }
        }
        let mut steps = Vec::new();
        walk(spec, "", &mut steps);
        Self(steps.into_iter())
    }

    /// Hands over the marks before the next tensor, and gives its name.
    pub(super) fn next(&mut self, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<String, String> {
        for (kind, name) in self.0.by_ref() {
            if kind == RawEventKind::TENSOR {
                return Ok(name);
            }
            emit(&RawEvent::mark(kind, &name));
        }
        Err("the package gives more tensors than it says".to_owned())
    }

    pub(super) fn end(self, emit: &mut dyn FnMut(&RawEvent<'_>)) -> Result<(), String> {
        for (kind, name) in self.0 {
            if kind == RawEventKind::TENSOR {
                return Err("the package gives fewer tensors than it says".to_owned());
            }
            emit(&RawEvent::mark(kind, &name));
        }
        Ok(())
    }
}

// === impl Gate ===

impl Gate {
    fn enter(&self) -> Pass<'_> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let mut free = self.freed.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Pass(self)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

//! An opened library: the one place that maps and unmaps code.

use std::fmt;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::AbiHeaderRef;
use abi_stable::library::LibraryError;
use abi_stable::library::ROOT_MODULE_LOADER_NAME_WITH_NUL;
use abi_stable::std_types::RSlice;
use handler_sdk::ContextInfo;
use handler_sdk::abi::instance::CallError;
use handler_sdk::abi::instance::Clients;
use handler_sdk::abi::instance::HostServices;
use handler_sdk::abi::instance::Instance;
use handler_sdk::abi::instance::Outcome;
use handler_sdk::abi::raw::RawBatch;
use handler_sdk::abi::raw::RawExport;
use handler_sdk::abi::raw::RawPluginRef;
use handler_sdk::abi::raw::RawVerb;
use libloading::os::unix;

use super::PluginError;
use super::Prepared;
use super::Request;
use super::Residue;
use super::StagedLibrary;
use super::mapping;
use super::prepared::Returned;
use super::request::View;
use super::residue::Elders;
use super::residue::PATIENCE;
use super::residue::left_in;
use crate::config::Unload;

/// How far a library is checked when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// The layout of everything that crosses is compared.
    /// Only for a process that ends soon: abi_stable keeps pointers into every library it has checked.
    Layout,
    /// Nothing more: another process has checked the same bytes.
    AlreadyPassed,
}

/// Code that is mapped.
///
/// Its functions are called only on threads of the generation that it belongs to.
pub struct Library {
    root: RawPluginRef,
    /// The author's file, for messages.
    source: PathBuf,
    /// The private copy; a trial opens another's.
    staged: Option<Arc<StagedLibrary>>,
    // Drop order is significant: freeing what is left runs the library's code.
    pub(super) returned: Returned,
    code: Code,
}

/// A mapped file. When it is dropped it stays mapped: what it has left behind would run in nothing.
#[derive(Debug)]
struct Code {
    path: PathBuf,
    handle: ManuallyDrop<unix::Library>,
    elders: Elders,
}

/// A handler object that keeps its library mapped; made, called and dropped on one thread.
#[derive(Debug)]
pub struct LibraryInstance {
    // Drop order is significant: dropping the object runs the library's code.
    instance: Instance,
    library: Arc<Library>,
}

// === impl Library ===

impl Library {
    /// Opens a private copy whose bytes another process has tried. The library's own start-up code runs on the calling thread.
    ///
    /// A copy is opened once: the loader would take a second opening for the first.
    pub fn open(staged: impl Into<Arc<StagedLibrary>>) -> Result<Self, PluginError> {
        let staged = staged.into();
        if staged.set_opened() {
            let reason = format!("its copy {} is open already; this is a bug", staged.path().display());
            return Err(PluginError::Open { path: staged.source().to_owned(), reason });
        }
        let library = Self::map(staged.path(), staged.source(), Check::AlreadyPassed)?;
        Ok(Self { staged: Some(staged), ..library })
    }

    /// Opens a file where it lies and checks the layout in full: only for a process that ends soon.
    pub(super) fn open_for_trial(path: &Path) -> Result<Self, PluginError> {
        Self::map(path, path, Check::Layout)
    }

    /// Opens another copy of what is open already, as a swap does.
    pub(super) fn open_again_for_trial(path: &Path) -> Result<Self, PluginError> {
        Self::map(path, path, Check::AlreadyPassed)
    }

    fn map(path: &Path, source: &Path, check: Check) -> Result<Self, PluginError> {
        let fail = |reason: String| PluginError::Open { path: source.to_owned(), reason };
        let code = Code::open(path).map_err(|error| fail(error.to_string()))?;
        // SAFETY: an SDK's library has an abi_stable header under this name; its magic and version are compared before anything behind it is used.
        let header = unsafe { code.handle.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL.as_bytes()) };
        let header = *header.map_err(|error| fail(error.to_string()))?;
        let root = root(header, check).map_err(|bad| match bad {
            BadRoot::Start(reason) => fail(reason),
            BadRoot::Layout(reason) => {
                PluginError::Layout { path: source.to_owned(), sdk: handler_sdk::abi::SDK_VERSION, reason }
            }
        })?;
        Ok(Self { root, source: source.to_owned(), staged: None, returned: Returned::default(), code })
    }

    /// Unmaps the library if that is wanted and nothing is left in it, and tells what became of it.
    ///
    /// Call it when every thread of its generation was joined, on a thread that ends afterwards and has never called the library.
    /// It may take seconds.
    pub fn close(self, unload: Unload) -> Residue {
        // What was prepared, and came back when no object was left to free it.
        self.returned.free();
        let residue = self.code.close(unload);
        if let (Residue::Gone, Some(staged)) = (&residue, &self.staged) {
            staged.set_gone();
        }
        residue
    }

    /// The bytes of it that are mapped, as far as /proc tells.
    pub fn mapped(&self) -> u64 {
        self.code.mapped()
    }

    /// The author's file.
    pub fn source(&self) -> &Path {
        &self.source
    }

    /// Makes an object of the handler with that name.
    pub fn instantiate(
        self: &Arc<Self>,
        name: &str,
        services: &dyn HostServices,
    ) -> Result<LibraryInstance, PluginError> {
        let exports = self.root.handlers().as_slice();
        let export =
            exports.iter().find(|export| export.name.as_str() == name).ok_or_else(|| PluginError::NoSuchHandler {
                path: self.source().to_owned(),
                name: name.to_owned(),
                found: exports.iter().map(|export| export.name.as_str().to_owned()).collect(),
            })?;
        let instance = self.create(export, services).map_err(|error| PluginError::TrialFailed {
            path: self.source().to_owned(),
            step: super::Step::Create,
            reason: match error {
                CallError::Failed(error) | CallError::Panicked(error) => error.log_text().to_owned(),
            },
        })?;
        Ok(LibraryInstance { instance, library: Arc::clone(self) })
    }

    fn create(&self, export: &RawExport, services: &dyn HostServices) -> Result<Instance, CallError> {
        // SAFETY: the instance is put beside an `Arc` of this library, and dropped before it; so is all that it prepares, or given back to the library, which frees it before its code goes.
        unsafe { Instance::create(export, services) }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("source", &self.source).finish_non_exhaustive()
    }
}

// === impl Code ===

impl Code {
    fn open(path: &Path) -> Result<Self, libloading::Error> {
        let elders = Elders::now();
        // Now, so that no missing symbol is found in the middle of a request; local, so that generations don't see each other's symbols.
        let flags = unix::RTLD_NOW | unix::RTLD_LOCAL;
        // SAFETY: opening runs the library's start-up code, which the operator trusts by putting the file in place.
        let handle = unsafe { unix::Library::open(Some(path), flags) }?;
        Ok(Self { path: path.to_owned(), handle: ManuallyDrop::new(handle), elders })
    }

    fn close(self, unload: Unload) -> Residue {
        if unload == Unload::Retain {
            return Residue::Retained { bytes: self.mapped() };
        }
        if let Some(why) = left_in(&self.path, &self.elders, PATIENCE) {
            return Residue::InUse { bytes: self.mapped(), why };
        }
        let Self { path, handle, .. } = self;
        // Not the loader's word decides, but what is mapped afterwards: it says that all went well also where it keeps the library.
        let closed = ManuallyDrop::into_inner(handle).close();
        match (closed, mapping::of(&path)) {
            (Ok(()), Ok(left)) if !left.iter().any(|mapping| mapping.executable) => Residue::Gone,
            _ => Residue::Pinned { bytes: mapping::bytes(&path).unwrap_or_default() },
        }
    }

    fn mapped(&self) -> u64 {
        mapping::bytes(&self.path).unwrap_or_default()
    }
}

/// Why a library's root can't be used.
enum BadRoot {
    Layout(String),
    Start(String),
}

fn root(header: AbiHeaderRef, check: Check) -> Result<RawPluginRef, BadRoot> {
    let header = header.upgrade().map_err(|error| BadRoot::Layout(error.to_string()))?;
    if check == Check::Layout {
        let of_plugin = header.layout().ok_or_else(|| BadRoot::Layout("it describes no layout".to_owned()))?;
        // The plugin stands as the interface, the host as what implements it: so a host whose tables have grown takes the plugins of before.
        // `init_root_module` would compare the other way round; plugins of a later ABI have been refused by their note.
        let of_host = <RawPluginRef as StableAbi>::LAYOUT;
        check_layout_compatibility(of_plugin, of_host).map_err(|errors| BadRoot::Layout(errors.to_string()))?;
    }
    // SAFETY: the layout was compared, here or by a process of its own that opened the same bytes (their digest is the key).
    let root = unsafe { header.init_root_module_with_unchecked_layout() };
    root.map_err(|error: LibraryError| BadRoot::Start(error.to_string()))
}

// === impl LibraryInstance ===

impl LibraryInstance {
    /// Tells the handler its place.
    pub fn initialize(&mut self, context: &ContextInfo, services: &dyn HostServices) -> Result<(), CallError> {
        self.instance.initialize(context, services)
    }

    /// Runs the handler's own test.
    pub fn self_test(&mut self, services: &dyn HostServices) -> Result<(), CallError> {
        self.instance.self_test(services)
    }

    /// The version of the state that the handler hands over; `None` where it hands none.
    pub fn state_version(&self) -> Option<u32> {
        self.instance.state_version()
    }

    /// The object's state, copied.
    pub fn export_state(&mut self, services: &dyn HostServices) -> Result<Vec<u8>, CallError> {
        self.instance.export_state(services)
    }

    /// Gives the object a state that one of the code before has exported.
    pub fn import_state(&mut self, version: u32, state: &[u8], services: &dyn HostServices) -> Result<(), CallError> {
        self.instance.import_state(version, state, services)
    }

    /// Answers a batch of requests with one verb; the outcomes stand in the order of the requests, whether or not the call as a whole failed.
    pub fn handle(
        &mut self,
        batch: &[&Request],
        services: &dyn HostServices,
        clients: &dyn Clients,
    ) -> (Vec<Outcome>, Result<(), CallError>) {
        let views: Vec<_> = batch.iter().map(|request| request.view()).collect();
        let requests: Vec<_> = views.iter().map(View::raw).collect();
        let verb = batch.first().map_or(RawVerb::PREDICT, |request| request.verb.raw());
        let raw = RawBatch { verb, requests: RSlice::from_slice(&requests) };
        self.library.returned.free();
        self.instance.handle(&raw, services, clients)
    }

    /// Whether objects of this handler may be asked for each step alone, which one of them knows after its first batch.
    pub fn has_steps(&self) -> bool {
        self.instance.has_steps()
    }

    /// Runs `preprocess` for one request, which is number 0 to the clients; an error of its own is its outcome in the end.
    pub fn prepare(
        &mut self,
        request: &Request,
        services: &dyn HostServices,
        clients: &dyn Clients,
    ) -> Result<Prepared, CallError> {
        self.library.returned.free();
        let prepared = self.instance.prepare(&request.view().raw(), services, clients)?;
        Ok(Prepared::new(prepared, Arc::clone(&self.library)))
    }

    /// Runs `inference` for a batch of prepared requests; after an error they are to be prepared anew.
    pub fn infer(&mut self, batch: &mut [Prepared], services: &dyn HostServices) -> Result<(), CallError> {
        self.instance.infer(batch.iter_mut().filter_map(Prepared::of_plugin), services)
    }

    /// Runs `postprocess` for each request, with what came of it, and frees that; the outcomes stand in the order of the requests.
    pub fn finish(
        &mut self,
        batch: &[&Request],
        mut prepared: Vec<Prepared>,
        services: &dyn HostServices,
        clients: &dyn Clients,
    ) -> (Vec<Outcome>, Result<(), CallError>) {
        let views: Vec<_> = batch.iter().map(|request| request.view()).collect();
        let requests: Vec<_> = views.iter().map(View::raw).collect();
        let raw = RawBatch { verb: RawVerb::PREDICT, requests: RSlice::from_slice(&requests) };
        let of_plugin = prepared.iter_mut().filter_map(Prepared::of_plugin);
        let finished = self.instance.finish(&raw, of_plugin, services, clients);
        drop(prepared);
        self.library.returned.free();
        finished
    }
}

impl Drop for LibraryInstance {
    fn drop(&mut self) {
        self.library.returned.free();
    }
}

#[cfg(test)]
mod tests;

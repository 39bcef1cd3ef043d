// AOTInductor packages: compiled models, unpacked to a folder of their own. See shim.cpp for the rules of all of the shim.
//
// Nothing is checked here of what the code is called with, nor by the code itself: that is done before it gets here.

#include <dlfcn.h>

#include <torch/csrc/inductor/aoti_runner/model_container_runner.h>

#include "shim.h"

using namespace sconce;

namespace {

typedef void (*SetLevels)(int);
typedef int (*GetLevels)();

// The runner is the first to go: its code is the library's.
struct Package {
  void *library = nullptr;
  std::unique_ptr<torch::inductor::AOTIModelContainerRunner> runner;

  ~Package() {
    try {
      runner.reset();
    } catch (...) {
      // What can't be ended stays in memory, with its code.
      library = nullptr;
    }
    if (library != nullptr)
      dlclose(library);
  }
};

// Compiled code asks for libtorch.so, which stands beside the libtorch_cpu in use and isn't linked by anybody else.
void open_libtorch() {
  static const bool opened = [] {
    Dl_info info;
    if (dladdr(reinterpret_cast<void *>(&at::globalContext), &info) == 0)
      return false;
    std::string path(info.dli_fname);
    path.resize(path.find_last_of('/') + 1);
    return dlopen((path + "libtorch.so").c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr;
  }();
  (void)opened;
}

// While it lives, code on this thread that asks for several threads gets one: levels of teams are this thread's own.
class OneThread {
public:
  explicit OneThread(bool wanted) {
    // libtorch's OpenMP is the process's; asked for by name, it needn't be known when this is linked.
    static const auto get = reinterpret_cast<GetLevels>(dlsym(RTLD_DEFAULT, "omp_get_max_active_levels"));
    static const auto set = reinterpret_cast<SetLevels>(dlsym(RTLD_DEFAULT, "omp_set_max_active_levels"));
    if (!wanted || get == nullptr || set == nullptr)
      return;
    restore = set;
    levels = get();
    set(0);
  }
  OneThread(const OneThread &) = delete;
  OneThread &operator=(const OneThread &) = delete;
  ~OneThread() {
    if (restore != nullptr)
      restore(levels);
  }

private:
  SetLevels restore = nullptr;
  int levels = 0;
};

// A tensor over memory of the library would outlive it.
at::Tensor owned(const at::Tensor &tensor) {
  return tensor.has_storage() && tensor.storage().allocator() == nullptr ? tensor.clone() : tensor;
}

} // namespace

extern "C" {

// Loads compiled code for `runners` calls at a time, which share one copy of the weights; more than that wait.
char *sconce_package_load(const char *path, const char *kind, const char *device, const char *folder, size_t runners, void **out) {
  return guarded([&] {
    const c10::InferenceMode off(false);
    open_libtorch();
    auto package = std::make_unique<Package>();
    // With all symbols at once: one that this libtorch lacks must not be missed in the middle of a call.
    package->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (package->library == nullptr)
      throw std::runtime_error(dlerror());
    const auto &known = torch::inductor::getAOTIModelRunnerRegistry();
    const auto make = known.find(kind);
    if (make == known.end())
      throw std::runtime_error(c10::str("this libtorch runs no packages for ", kind));
    package->runner = make->second(path, runners, device, folder, false);
    *out = package.release();
  });
}

void sconce_package_free(void *package) { delete static_cast<Package *>(package); }

// Gives the JSON of the structures of its inputs and outputs as the names of two steps.
char *sconce_package_specs(const void *package, void *sink, Emit emit) {
  return guarded([&] {
    for (const std::string &spec : static_cast<const Package *>(package)->runner->get_call_spec())
      emit(sink, END, spec.c_str(), nullptr);
  });
}

// Calls the code; each tensor that it gives is a step, an empty list where it gives none.
char *sconce_package_run(const void *package, const at::Tensor *const *inputs, size_t count, bool one_thread, void *sink, Emit emit) {
  return guarded([&] {
    const c10::InferenceMode mode;
    std::vector<at::Tensor> tensors;
    for (size_t index = 0; index < count; ++index)
      tensors.push_back(*inputs[index]);
    std::vector<at::Tensor> outputs;
    {
      const OneThread limit(one_thread);
      outputs = static_cast<const Package *>(package)->runner->boxed_run(std::move(tensors));
    }
    for (const at::Tensor &output : outputs) {
      if (!output.defined()) {
        emit(sink, BEGIN_LIST, "", nullptr);
        continue;
      }
      const at::Tensor given = owned(output);
      emit(sink, TENSOR, "", &given);
    }
  });
}

// Gives every weight that is still one: those that the compiler has computed with are gone.
char *sconce_package_weights(const void *package, bool copies, void *sink, Emit emit) {
  return guarded([&] {
    const c10::InferenceMode off(false);
    const auto &runner = *static_cast<const Package *>(package)->runner;
    const auto names = runner.getConstantNamesToOriginalFQNs();
    const std::map<std::string, std::string> sorted(names.begin(), names.end());
    const auto constants = runner.extract_constants_map(false);
    for (const auto &[name, original] : sorted) {
      auto found = constants.find(original);
      if (found == constants.end())
        found = constants.find(name);
      if (found == constants.end())
        continue;
      const at::Tensor given = copies ? in_a_row(found->second).clone() : found->second;
      emit(sink, TENSOR, (original.empty() ? name : original).c_str(), &given);
    }
  });
}

} // extern "C"

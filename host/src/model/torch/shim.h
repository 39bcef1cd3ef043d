// What the parts of the shim share. See shim.cpp for the rules of all of them.

#pragma once

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch/script.h>

namespace sconce {

// The same numbers as RawEventKind in handler-sdk/src/abi/raw.rs.
enum EventKind { TENSOR = 0, BEGIN_LIST = 1, BEGIN_DICT = 2, END = 3 };

typedef void (*Emit)(void *sink, int kind, const char *name, const at::Tensor *tensor);

// One step through what a method is called with; the same as RawInput in shim.rs.
struct Input {
  int kind;
  const char *name;
  const at::Tensor *tensor;
};

// A module in another form, which gives the same and may be faster.
struct Form {
  torch::jit::Module module;
  // Whether pictures are handed to it channels last.
  bool channels_last = false;
};

// TorchScript, or a state dict's tensors alone. Never changed once it is loaded, unless its own code does.
struct Model {
  std::optional<torch::jit::Module> module;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  // Whether the module's code assigns to its attributes; then one thread at a time runs it.
  bool assigns = false;
  mutable std::mutex alone;
  // The form that its method forward runs in, and its owner; null for the module as it was loaded.
  mutable std::atomic<const Form *> kept{nullptr};
  std::unique_ptr<Form> form;
  // Variants of its methods that gradients.cpp has made, by method and layer.
  mutable std::mutex making;
  mutable std::map<std::string, std::shared_ptr<torch::jit::GraphExecutor>> variants;
};

// The same numbers in plain memory: a tensor may be sparse, or in an order of oneDNN's.
inline at::Tensor in_a_row(const at::Tensor &tensor) { return tensor.layout() == at::kStrided ? tensor : tensor.to_dense(); }

template <typename Work> char *guarded(Work work) {
  try {
    work();
    return nullptr;
  } catch (const c10::Error &error) {
    // Without the C++ backtrace, which says nothing to a user.
    return strdup(error.what_without_backtrace());
  } catch (const std::exception &error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception of unknown type");
  }
}

// The module of a model; raises where it is a state dict.
const torch::jit::Module &module_of(const Model &model);

// The inputs of a method, as the types of its parameters want them; the first of `arguments` is the module itself.
std::vector<c10::IValue> read_all(const Input *inputs, size_t count, const std::vector<c10::Argument> &arguments);

// Puts oneDNN's kernels for whole layers into a frozen graph; raises where there is nothing to put them for.
void fuse(std::shared_ptr<torch::jit::Graph> &graph);

// Pools and flattens what convolutions give without leaving the order that they give it in; of these nodes, all of a graph's.
void stay_channels_last(const std::vector<torch::jit::Node *> &nodes);

// Calls a method of a form, or of the module as it was loaded where that is null.
c10::IValue call(const Model &model, const Form *form, const std::string &method, const Input *inputs, size_t count);

// Calls the method forward in the form that is kept; one that fails where the module as it was loaded doesn't is given up.
c10::IValue call_kept(const Model &model, const Input *inputs, size_t count);

// Gives each step through a value to `emit`.
void walk(const std::string &name, const c10::IValue &value, void *sink, Emit emit);

// Registers the operators of operators.cpp unless they are known from elsewhere; whether this call did it.
bool register_operators();

} // namespace sconce

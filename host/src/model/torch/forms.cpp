// The forms that a TorchScript module can be brought into so that it runs faster: frozen, optimised, fused, channels last.
//
// What a form gives is never trusted here: forms.rs compares it with what the module gives as it was loaded.

#include <torch/csrc/jit/runtime/graph_executor.h>

#include "shim.h"

using namespace sconce;

namespace {

// The same numbers as in forms.rs; 0 is the module as it was loaded, which is no form of its own.
enum FormKind { FROZEN = 1, OPTIMIZED = 2, CHANNELS_LAST = 3, FUSED = 4 };

bool is_picture(const at::Tensor &tensor) { return tensor.dim() == 4 && tensor.is_floating_point(); }

at::Tensor channels_last(const at::Tensor &tensor) {
  return is_picture(tensor) ? tensor.contiguous(at::MemoryFormat::ChannelsLast) : tensor;
}

// With copies of the weights of convolutions that lie as these want them; the module's own stay as they are.
torch::jit::Module with_weights_channels_last(const torch::jit::Module &module) {
  const torch::jit::Module copy = module.clone();
  for (at::Tensor parameter : copy.parameters())
    parameter.set_data(channels_last(parameter));
  return copy;
}

std::unique_ptr<Form> make(const torch::jit::Module &module, int kind) {
  auto form = std::make_unique<Form>();
  if (kind == CHANNELS_LAST) {
    form->module = torch::jit::freeze(with_weights_channels_last(module));
    form->channels_last = true;
    return form;
  }
  form->module = torch::jit::freeze(module);
  if (kind == FUSED) {
    std::shared_ptr<torch::jit::Graph> graph = form->module.get_method("forward").graph();
    fuse(graph);
  }
  if (kind == OPTIMIZED || kind == FUSED)
    form->module = torch::jit::optimize_for_inference(form->module);
  return form;
}

// Waits until the device has done what it was told: a GPU works on while the host goes on.
void wait_for(const c10::IValue &value) {
  std::vector<at::Tensor> tensors;
  value.visit([&](const c10::IValue &part) {
    if (part.isTensor())
      tensors.push_back(part.toTensor());
    return false;
  });
  for (const at::Tensor &tensor : tensors)
    if (tensor.defined() && !tensor.is_cpu() && tensor.numel() > 0)
      tensor.flatten()[0].cpu();
}

} // namespace

namespace sconce {

c10::IValue call(const Model &model, const Form *form, const std::string &method, const Input *inputs, size_t count) {
  const torch::jit::Method as_loaded = module_of(model).get_method(method);
  std::vector<c10::IValue> values = read_all(inputs, count, as_loaded.function().getSchema().arguments());
  if (form != nullptr) {
    if (form->channels_last)
      for (c10::IValue &value : values)
        if (value.isTensor())
          value = channels_last(value.toTensor());
    return torch::jit::Method(form->module.get_method(method))(std::move(values));
  }
  std::unique_lock<std::mutex> alone(model.alone, std::defer_lock);
  if (model.assigns)
    alone.lock();
  // Copying a method copies pointers; a call is not const, because code may assign to attributes.
  return torch::jit::Method(as_loaded)(std::move(values));
}

c10::IValue call_kept(const Model &model, const Input *inputs, size_t count) {
  const Form *const kept = model.kept.load(std::memory_order_acquire);
  if (kept == nullptr)
    return call(model, nullptr, "forward", inputs, count);
  std::string failure;
  try {
    return call(model, kept, "forward", inputs, count);
  } catch (const std::exception &error) {
    failure = error.what();
  }
  c10::IValue value = call(model, nullptr, "forward", inputs, count);
  // The form can't do what the module can: it isn't used again.
  model.kept.store(nullptr, std::memory_order_release);
  return value;
}

} // namespace sconce

extern "C" {

// For a process without a GPU: the executor then neither watches the first calls nor makes kernels of its own.
void sconce_profiling_executor_off() { torch::jit::getProfilingMode() = false; }

// For one with: shapes that change, as the sizes of batches do, don't make kernels anew.
void sconce_fusion_dynamic() {
  torch::jit::FusionStrategy strategy{{torch::jit::FusionBehavior::DYNAMIC, 2}};
  torch::jit::setFusionStrategy(strategy);
}

char *sconce_form_make(const void *model, int kind, void **out) {
  return guarded([&] {
    const c10::InferenceMode off(false);
    const Model &loaded = *static_cast<const Model *>(model);
    if (loaded.assigns)
      throw std::runtime_error("its code assigns to its attributes, which a frozen module can't");
    *out = make(module_of(loaded), kind).release();
  });
}

void sconce_form_free(void *form) { delete static_cast<Form *>(form); }

// Calls the method forward of a form, null for the module as it was loaded; the walk through its value is given to `emit`.
char *sconce_form_forward(const void *model, const void *form, const Input *inputs, size_t count, void *sink, Emit emit) {
  return guarded([&] {
    const c10::InferenceMode mode;
    walk("", call(*static_cast<const Model *>(model), static_cast<const Form *>(form), "forward", inputs, count), sink, emit);
  });
}

// The same so many times; the values are dropped.
char *sconce_form_repeat(const void *model, const void *form, const Input *inputs, size_t count, size_t times) {
  return guarded([&] {
    const c10::InferenceMode mode;
    for (size_t time = 0; time < times; ++time) {
      const c10::IValue value =
          call(*static_cast<const Model *>(model), static_cast<const Form *>(form), "forward", inputs, count);
      if (time + 1 == times)
        wait_for(value);
    }
  });
}

// From now on the model's method forward is this form's; called once at most. The model owns the form.
void sconce_form_keep(void *model, void *form) {
  Model &loaded = *static_cast<Model *>(model);
  loaded.form.reset(static_cast<Form *>(form));
  loaded.kept.store(loaded.form.get(), std::memory_order_release);
}

// The form in use; null where the module runs as it was loaded.
const void *sconce_form_kept(const void *model) {
  return static_cast<const Model *>(model)->kept.load(std::memory_order_acquire);
}

} // extern "C"

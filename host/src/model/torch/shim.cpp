// What tch lacks, as plain C functions: every exception ends here and becomes text.
//
// A function that can fail returns null, or a message that the caller frees with sconce_message_free.
// Tensors are passed as at::Tensor *, which is what tch's C_tensor * is too; they are borrowed for the call.

#include <dlfcn.h>
#include <malloc.h>

#include <fstream>

#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/runtime/graph_iterator.h>

#include "shim.h"

// The program's allocator is jemalloc (main.rs); that of the library's tests is the system's.
extern "C" int mallctl(const char *name, void *old, size_t *old_size, void *changed, size_t size) __attribute__((weak));

using namespace sconce;

namespace {

// What a parameter of a method takes; the same numbers as in shim.rs.
enum ParameterKind { TAKES_TENSOR = 0, TAKES_LIST = 1, TAKES_DICT = 2, TAKES_OTHER = 3 };

typedef void (*Tell)(void *sink, int kind, const char *name, bool is_optional);

bool is_tensor(const c10::TypePtr &type) { return type->isSubtypeOf(*c10::TensorType::get()); }

bool is_list_of_tensors(const c10::TypePtr &type) {
  return type->kind() == c10::TypeKind::ListType && is_tensor(type->expectRef<c10::ListType>().getElementType());
}

// Puts a batch together that came as a list, for a method that takes it as one tensor.
at::Tensor stack(const std::vector<c10::IValue> &items) {
  std::vector<at::Tensor> tensors;
  for (const c10::IValue &item : items) {
    tensors.push_back(item.toTensor());
    if (tensors.back().sizes() != tensors.front().sizes())
      throw std::runtime_error(c10::str("the model takes one tensor, and tensors of shapes ", tensors.front().sizes(), " and ",
                                        tensors.back().sizes(), " can't be put together"));
  }
  return at::stack(tensors);
}

// Reads one value, whose steps begin at `next`, as the type that the method wants there.
c10::IValue read(const Input *&next, const Input *end, const c10::TypePtr &wanted) {
  const Input *const step = next++;
  if (step->kind == TENSOR) {
    if (wanted && is_list_of_tensors(wanted) && step->tensor->dim() > 0)
      return c10::List<at::Tensor>(step->tensor->unbind());
    return *step->tensor;
  }
  if (step->kind == BEGIN_LIST) {
    std::vector<c10::IValue> items;
    while (next != end && next->kind != END)
      items.push_back(read(next, end, nullptr));
    ++next;
    if (wanted && wanted->kind() == c10::TypeKind::TupleType)
      return c10::ivalue::Tuple::create(std::move(items));
    if (wanted && wanted->kind() == c10::TypeKind::TensorType && !items.empty())
      return stack(items);
    c10::List<at::Tensor> tensors;
    for (const c10::IValue &item : items)
      tensors.push_back(item.toTensor());
    return tensors;
  }
  if (step->kind == BEGIN_DICT) {
    c10::Dict<std::string, at::Tensor> dict;
    while (next != end && next->kind != END) {
      const std::string name = next->name;
      dict.insert(name, read(next, end, nullptr).toTensor());
    }
    ++next;
    return dict;
  }
  throw std::runtime_error("the inputs of the model are out of order; this is a bug");
}

// Whether running the module's code can change the module: then two threads must not run it at once.
bool assigns_to_attributes(const torch::jit::Module &module) {
  for (const torch::jit::Method &method : module.get_methods()) {
    auto graph = method.graph()->copy();
    torch::jit::Inline(*graph);
    torch::jit::DepthFirstGraphNodeIterator nodes(graph);
    for (auto *node = nodes.next(); node != nullptr; node = nodes.next())
      if (node->kind() == c10::prim::SetAttr)
        return true;
  }
  return false;
}

// What torchvision's detectors call besides libtorch's own operators is there from the first model on that needs it.
torch::jit::Module load_module(const char *path, at::Device device) {
  try {
    return torch::jit::load(path, device);
  } catch (const std::exception &error) {
    if (std::string(error.what()).find("torchvision::") == std::string::npos || !register_operators())
      throw;
  }
  return torch::jit::load(path, device);
}

at::Device device_of(int index) {
  return index < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index));
}

bool are_tensors(c10::ArrayRef<c10::TypePtr> types) {
  for (const c10::TypePtr &type : types)
    if (!is_tensor(type))
      return false;
  return true;
}

ParameterKind kind_of(const c10::TypePtr &type) {
  if (is_tensor(type))
    return TAKES_TENSOR;
  switch (type->kind()) {
  case c10::TypeKind::OptionalType:
    return kind_of(type->expectRef<c10::OptionalType>().getElementType());
  case c10::TypeKind::ListType:
    return is_list_of_tensors(type) ? TAKES_LIST : TAKES_OTHER;
  case c10::TypeKind::TupleType:
    return are_tensors(type->expectRef<c10::TupleType>().elements()) ? TAKES_LIST : TAKES_OTHER;
  case c10::TypeKind::DictType: {
    const auto &dict = type->expectRef<c10::DictType>();
    return dict.getKeyType()->kind() == c10::TypeKind::StringType && is_tensor(dict.getValueType()) ? TAKES_DICT : TAKES_OTHER;
  }
  default:
    return TAKES_OTHER;
  }
}

} // namespace

namespace sconce {

const torch::jit::Module &module_of(const Model &model) {
  if (!model.module)
    throw std::runtime_error("a state dict has no code to call");
  return *model.module;
}

std::vector<c10::IValue> read_all(const Input *inputs, size_t count, const std::vector<c10::Argument> &arguments) {
  std::vector<c10::IValue> values;
  const Input *next = inputs;
  while (next != inputs + count) {
    const size_t place = values.size() + 1;
    values.push_back(read(next, inputs + count, place < arguments.size() ? arguments[place].type() : nullptr));
  }
  return values;
}

// What is None becomes an empty list: a model may leave a part of its output out.
void walk(const std::string &name, const c10::IValue &value, void *sink, Emit emit) {
  if (value.isTensor()) {
    // Pictures lie as anyone expects them to, whatever form of the model has made them.
    const at::Tensor &given = value.toTensor();
    const at::Tensor tensor = given.dim() == 4 && given.is_contiguous(at::MemoryFormat::ChannelsLast) ? given.contiguous() : given;
    emit(sink, TENSOR, name.c_str(), &tensor);
  } else if (value.isTuple()) {
    emit(sink, BEGIN_LIST, name.c_str(), nullptr);
    for (const c10::IValue &item : value.toTupleRef().elements())
      walk("", item, sink, emit);
    emit(sink, END, "", nullptr);
  } else if (value.isList()) {
    emit(sink, BEGIN_LIST, name.c_str(), nullptr);
    for (const c10::IValue &item : value.toListRef())
      walk("", item, sink, emit);
    emit(sink, END, "", nullptr);
  } else if (value.isGenericDict()) {
    emit(sink, BEGIN_DICT, name.c_str(), nullptr);
    for (const auto &entry : value.toGenericDict()) {
      const c10::IValue &key = entry.key();
      walk(key.isString() ? key.toStringRef() : key.isInt() ? std::to_string(key.toInt()) : key.tagKind(), entry.value(), sink,
           emit);
    }
    emit(sink, END, "", nullptr);
  } else if (value.isDouble()) {
    const at::Tensor tensor = torch::scalar_tensor(value.toDouble(), torch::kFloat64);
    emit(sink, TENSOR, name.c_str(), &tensor);
  } else if (value.isBool()) {
    const at::Tensor tensor = torch::scalar_tensor(value.toBool(), torch::kBool);
    emit(sink, TENSOR, name.c_str(), &tensor);
  } else if (value.isNone()) {
    emit(sink, BEGIN_LIST, name.c_str(), nullptr);
    emit(sink, END, "", nullptr);
  } else if (value.isInt()) {
    const at::Tensor tensor = torch::scalar_tensor(value.toInt(), torch::kInt64);
    emit(sink, TENSOR, name.c_str(), &tensor);
  } else {
    throw std::runtime_error("the model returned a " + value.tagKind() +
                             ", where only tensors, numbers, and lists, tuples and dicts of them can be handed over");
  }
}

} // namespace sconce

extern "C" {

void sconce_message_free(char *message) { free(message); }

// Opens libtorch_cuda beside the libtorch_cpu in use, if it is there: its initialisers register CUDA.
// `*opened` says whether it was there.
char *sconce_cuda_open(bool *opened) {
  return guarded([&] {
    *opened = false;
    Dl_info info;
    if (dladdr(reinterpret_cast<void *>(&at::globalContext), &info) == 0)
      return;
    std::string path(info.dli_fname);
    path.resize(path.find_last_of('/') + 1);
    path += "libtorch_cuda.so";
    if (!std::ifstream(path).good())
      return;
    if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr)
      throw std::runtime_error(dlerror());
    *opened = true;
  });
}

// Opens a library of operators as torch.ops.load_library does: libraries that come later may use its symbols.
char *sconce_library_open(const char *path) {
  return guarded([&] {
    if (dlopen(path, RTLD_NOW | RTLD_GLOBAL) == nullptr)
      throw std::runtime_error(dlerror());
  });
}

void *sconce_inference_mode_enter() { return new c10::InferenceMode(); }

void sconce_inference_mode_leave(void *mode) { delete static_cast<c10::InferenceMode *>(mode); }

// Loads TorchScript.
char *sconce_model_load(const char *path, int device, void **out) {
  return guarded([&] {
    // Tensors made in inference mode could never have gradients; explanations need those of the input.
    const c10::InferenceMode off(false);
    auto model = std::make_unique<Model>();
    model->module = load_module(path, device_of(device));
    model->module->eval();
    for (at::Tensor parameter : model->module->parameters())
      parameter.requires_grad_(false);
    model->assigns = assigns_to_attributes(*model->module);
    *out = model.release();
  });
}

// An empty state dict, to be filled with sconce_model_add before it is used.
void *sconce_state_dict_new() { return new Model(); }

char *sconce_state_dict_add(void *model, const char *name, const at::Tensor *tensor, int device) {
  return guarded([&] {
    const c10::InferenceMode off(false);
    // As in sconce_model_load; what was made in inference mode stays so unless it is copied.
    const at::Tensor own = tensor->is_inference() ? tensor->clone() : tensor->detach();
    static_cast<Model *>(model)->tensors.emplace_back(name, own.to(device_of(device)));
  });
}

void sconce_model_free(void *model) { delete static_cast<Model *>(model); }

// Calls a method; the walk through its value is given to `emit`.
char *sconce_model_forward(const void *model, const char *method, const Input *inputs, size_t count, void *sink, Emit emit) {
  return guarded([&] {
    const c10::InferenceMode mode;
    const Model &loaded = *static_cast<const Model *>(model);
    const bool is_forward = std::strcmp(method, "forward") == 0;
    walk("", is_forward ? call_kept(loaded, inputs, count) : call(loaded, nullptr, method, inputs, count), sink, emit);
  });
}

// Tells a method's parameters in order, and how many tensors it gives; -1 where its type doesn't say.
char *sconce_model_schema(const void *model, const char *method, void *sink, Tell tell, int *outputs) {
  return guarded([&] {
    const Model &loaded = *static_cast<const Model *>(model);
    const torch::jit::Method function = module_of(loaded).get_method(method);
    const c10::FunctionSchema &schema = function.function().getSchema();
    // The first argument is the module itself.
    for (size_t place = 1; place < schema.arguments().size(); ++place) {
      const c10::Argument &argument = schema.arguments()[place];
      tell(sink, kind_of(argument.type()), argument.name().c_str(), argument.default_value().has_value());
    }
    *outputs = -1;
    if (schema.returns().size() != 1)
      return;
    const c10::TypePtr &given = schema.returns()[0].type();
    if (is_tensor(given))
      *outputs = 1;
    else if (given->kind() == c10::TypeKind::TupleType && kind_of(given) == TAKES_LIST)
      *outputs = static_cast<int>(given->expectRef<c10::TupleType>().elements().size());
  });
}

// Gives every named tensor to `emit`: a state dict's own, or a module's parameters and buffers.
char *sconce_model_tensors(const void *model, void *sink, Emit emit) {
  return guarded([&] {
    const Model &loaded = *static_cast<const Model *>(model);
    for (const auto &[name, tensor] : loaded.tensors)
      emit(sink, TENSOR, name.c_str(), &tensor);
    if (loaded.module) {
      for (const auto &parameter : loaded.module->named_parameters())
        emit(sink, TENSOR, parameter.name.c_str(), &parameter.value);
      for (const auto &buffer : loaded.module->named_buffers())
        emit(sink, TENSOR, buffer.name.c_str(), &buffer.value);
    }
  });
}

// Gives memory that was freed back to the system: a model that has gone, forms that were tried and not kept. The allocator
// itself keeps what calls free, for the next one.
void sconce_memory_trim() {
  // 4096 stands for all arenas.
  if (mallctl != nullptr)
    mallctl("arena.4096.purge", nullptr, nullptr, nullptr, 0);
  else
    malloc_trim(0);
}

} // extern "C"

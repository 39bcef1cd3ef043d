// Records the operators that libtorch runs on one thread, as plain C functions. See shim.cpp for the rules of all of them.
//
// libtorch tells of each operator where it is dispatched, on the thread that dispatches it; what a GPU makes of it later isn't seen.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/record_function.h>
#include <c10/core/ScalarType.h>

namespace {

// The same numbers as in profile.rs.
enum OperandKind { IS_TENSOR = 0, IS_SCALAR = 1, IS_OTHER = 2, BEGINS_LIST = 3, ENDS_LIST = 4 };

typedef void (*TellOperator)(void *sink, const char *name, int scope, int64_t began, int64_t took, size_t depth);
typedef void (*TellOperand)(void *sink, int kind, const char *dtype, const int64_t *shape, size_t dimensions);

struct Operand {
  OperandKind kind;
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::vector<int64_t> shape;
};

struct Operator {
  std::string name;
  at::RecordScope scope;
  int64_t began;
  // Below 0 while it runs.
  int64_t took;
  size_t depth;
  std::vector<Operand> operands;
};

struct Recording {
  size_t most;
  size_t dropped = 0;
  size_t depth = 0;
  // In the order in which they began.
  std::vector<Operator> operators;
  at::CallbackHandle handle = 0;
};

// What is carried from an operator's beginning to its end.
struct Place : at::ObserverContext {
  explicit Place(size_t index) : index(index) {}
  size_t index;
};

// libtorch hands callbacks on to threads that it runs a part of the work on; those find nothing here.
thread_local Recording *current = nullptr;

// Of a list, only so many are told.
constexpr size_t MOST_OPERANDS = 64;

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Operand of_tensor(const at::Tensor &tensor) {
  if (!tensor.defined())
    return {IS_OTHER};
  Operand operand{IS_TENSOR, tensor.scalar_type()};
  // A nested tensor has no one shape, and a symbolic one no numbers.
  if (!tensor.is_nested() && !tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides())
    operand.shape = tensor.sizes().vec();
  return operand;
}

void take(const c10::IValue &value, std::vector<Operand> &operands) {
  if (value.isTensor()) {
    operands.push_back(of_tensor(value.toTensor()));
  } else if (value.isTensorList()) {
    operands.push_back({BEGINS_LIST});
    size_t taken = 0;
    for (const at::Tensor &tensor : value.toTensorList()) {
      if (++taken > MOST_OPERANDS)
        break;
      operands.push_back(of_tensor(tensor));
    }
    operands.push_back({ENDS_LIST});
  } else {
    operands.push_back({value.isScalar() ? IS_SCALAR : IS_OTHER});
  }
}

// Its own inputs: TorchScript's interpreter passes all of its stack, at whose end they are.
c10::ArrayRef<const c10::IValue> inputs_of(const at::RecordFunction &function) {
  const c10::ArrayRef<const c10::IValue> all = function.inputs();
  const size_t count = std::min(all.size(), function.num_inputs());
  return all.slice(all.size() - count, std::min(count, MOST_OPERANDS));
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction &function) {
  Recording *const recording = current;
  if (recording == nullptr)
    return nullptr;
  if (recording->operators.size() >= recording->most) {
    ++recording->dropped;
    return nullptr;
  }
  try {
    Operator one{function.name(), function.scope(), 0, -1, recording->depth, {}};
    for (const c10::IValue &value : inputs_of(function))
      take(value, one.operands);
    auto place = std::make_unique<Place>(recording->operators.size());
    recording->operators.push_back(std::move(one));
    ++recording->depth;
    recording->operators.back().began = now();
    return place;
  } catch (...) {
    // A profile must not be what makes a model fail.
    ++recording->dropped;
    return nullptr;
  }
}

void end(const at::RecordFunction &, at::ObserverContext *context) {
  const int64_t ended = now();
  Recording *const recording = current;
  auto *const place = static_cast<Place *>(context);
  if (recording == nullptr || place == nullptr || place->index >= recording->operators.size())
    return;
  Operator &one = recording->operators[place->index];
  one.took = ended - one.began;
  recording->depth = one.depth;
}

// As Python calls them, where it has a name.
const char *name_of(c10::ScalarType dtype) {
  switch (dtype) {
  case c10::ScalarType::Bool:
    return "bool";
  case c10::ScalarType::Byte:
    return "uint8";
  case c10::ScalarType::Char:
    return "int8";
  case c10::ScalarType::Short:
    return "int16";
  case c10::ScalarType::Int:
    return "int32";
  case c10::ScalarType::Long:
    return "int64";
  case c10::ScalarType::Half:
    return "float16";
  case c10::ScalarType::BFloat16:
    return "bfloat16";
  case c10::ScalarType::Float:
    return "float32";
  case c10::ScalarType::Double:
    return "float64";
  default:
    return c10::toString(dtype);
  }
}

} // namespace

extern "C" {

// The clock of a recording, in nanoseconds.
int64_t sconce_recording_now() { return now(); }

// Begins to record on this thread, at most that many operators. Null where this thread is recorded already, or where it can't be.
void *sconce_recording_begin(size_t most) {
  if (current != nullptr)
    return nullptr;
  try {
    auto recording = std::make_unique<Recording>();
    recording->most = most;
    const auto callback = at::RecordFunctionCallback(begin, end).needsInputs(true).scopes(
        {at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::TORCHSCRIPT_FUNCTION,
         at::RecordScope::USER_SCOPE});
    recording->handle = at::addThreadLocalCallback(callback);
    current = recording.get();
    return recording.release();
  } catch (...) {
    return nullptr;
  }
}

// Ends it, on the same thread, unless it has ended; what was recorded stays.
void sconce_recording_end(void *pointer) {
  if (current != pointer)
    return;
  current = nullptr;
  try {
    at::removeCallback(static_cast<Recording *>(pointer)->handle);
  } catch (...) {
    // A callback that can't be removed finds no recording.
  }
}

// Tells each operator in the order in which they began, and after each its inputs; gives how many there was no place for.
size_t sconce_recording_walk(const void *pointer, void *sink, TellOperator tell_operator, TellOperand tell_operand) {
  const Recording &recording = *static_cast<const Recording *>(pointer);
  for (const Operator &one : recording.operators) {
    // One that hasn't ended has no duration.
    if (one.took < 0)
      continue;
    tell_operator(sink, one.name.c_str(), static_cast<int>(one.scope), one.began, one.took, one.depth);
    for (const Operand &operand : one.operands)
      tell_operand(sink, operand.kind, operand.kind == IS_TENSOR ? name_of(operand.dtype) : "", operand.shape.data(),
                   operand.shape.size());
  }
  return recording.dropped;
}

void sconce_recording_free(void *recording) { delete static_cast<Recording *>(recording); }

} // extern "C"

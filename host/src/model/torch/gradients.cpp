// Gradients of a TorchScript model: of its output to its input, or to what a layer inside it gives.
//
// A layer is entered by way of the method's graph: the call of the submodule is found and cut out, so that another
// value can stand in for what it gives, or its value is given as the method's own.

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>

#include "shim.h"

using namespace sconce;

namespace {

using torch::jit::Block;
using torch::jit::Graph;
using torch::jit::GraphExecutor;
using torch::jit::Node;
using torch::jit::Stack;
using torch::jit::Value;

enum class Variant { GIVES_LAYER, TAKES_LAYER };

// The path of the submodule that a value is, `encoder.embedding` say; none where it isn't one.
std::optional<std::string> path_of(const Value *value, const Graph &graph) {
  if (value == graph.inputs()[0])
    return "";
  if (value->node()->kind() != c10::prim::GetAttr)
    return std::nullopt;
  const std::optional<std::string> outer = path_of(value->node()->input(), graph);
  const std::string &name = value->node()->s(c10::attr::name);
  return !outer ? outer : outer->empty() ? name : *outer + "." + name;
}

// The calls of submodules on the way to the layer, and those of the layer itself.
void collect_calls(Block *block, const Graph &graph, const std::string &layer, std::vector<Node *> &outer, std::vector<Node *> &found) {
  for (Node *node : block->nodes()) {
    for (Block *inner : node->blocks())
      collect_calls(inner, graph, layer, outer, found);
    if (node->kind() != c10::prim::CallMethod)
      continue;
    const std::optional<std::string> path = path_of(node->input(0), graph);
    if (!path)
      continue;
    if (*path == layer)
      found.push_back(node);
    else if (path->empty() || layer.compare(0, path->size() + 1, *path + ".") == 0)
      outer.push_back(node);
  }
}

// The one call of the layer in a graph, whose callers are inlined until it is reached.
Node *call_of(const std::shared_ptr<Graph> &graph, const std::string &layer) {
  while (true) {
    std::vector<Node *> outer;
    std::vector<Node *> found;
    collect_calls(graph->block(), *graph, layer, outer, found);
    for (Node *call : outer) {
      const auto &type = call->input(0)->type()->expectRef<c10::ClassType>();
      torch::jit::GraphFunction &callee = torch::jit::toGraphFunction(type.getMethod(call->s(c10::attr::name)));
      // Its graph as it was written: by default it would come with all that it calls inlined.
      torch::jit::inlineCallTo(call, &callee, callee.graph().get());
    }
    if (!outer.empty())
      continue;
    if (found.size() != 1)
      throw std::runtime_error(c10::str("the model calls its layer \"", layer, "\" ", found.size(),
                                        " times, and one call of it is needed: name a submodule that is called once"));
    return found[0];
  }
}

std::shared_ptr<GraphExecutor> make_variant(const torch::jit::Method &function, const std::string &layer, Variant variant) {
  std::shared_ptr<Graph> graph = torch::jit::toGraphFunction(function.function()).graph()->copy();
  Node *call = call_of(graph, layer);
  if (!call->output()->type()->isSubtypeOf(*c10::TensorType::get()))
    throw std::runtime_error(c10::str("the layer \"", layer, "\" gives a ", call->output()->type()->repr_str(), ", and a tensor is needed"));
  if (variant == Variant::TAKES_LAYER) {
    call->output()->replaceAllUsesWith(graph->addInput("layer")->setType(c10::TensorType::get()));
    call->destroy();
  } else {
    if (call->owningBlock() != graph->block())
      throw std::runtime_error(c10::str("the model calls its layer \"", layer, "\" in a branch or a loop, where its value can't be taken"));
    while (!graph->outputs().empty())
      graph->eraseOutput(0);
    graph->registerOutput(call->output());
  }
  torch::jit::EliminateDeadCode(graph);
  return std::make_shared<GraphExecutor>(graph, function.name() + " at " + layer);
}

std::shared_ptr<GraphExecutor> variant_of(const Model &model, const torch::jit::Method &function, const std::string &layer, Variant variant) {
  const std::string key = function.name() + (variant == Variant::TAKES_LAYER ? "<" : ">") + layer;
  const std::lock_guard<std::mutex> making(model.making);
  auto &kept = model.variants[key];
  if (!kept)
    kept = make_variant(function, layer, variant);
  return kept;
}

// The stack that a method's graph starts from: the module, the inputs, and the defaults of those that weren't given.
Stack stack_for(const Model &model, const torch::jit::Method &function, std::vector<c10::IValue> inputs) {
  Stack stack = {module_of(model)._ivalue()};
  stack.insert(stack.end(), std::make_move_iterator(inputs.begin()), std::make_move_iterator(inputs.end()));
  function.function().getSchema().checkAndNormalizeInputs(stack, {});
  return stack;
}

// The same numbers in a tensor that can have gradients.
at::Tensor leaf(const at::Tensor &tensor) {
  if (!tensor.is_floating_point())
    throw std::runtime_error(c10::str("gradients are of floating-point numbers, and the input holds ", tensor.scalar_type(),
                                      ": ask for those of a layer"));
  return (tensor.is_inference() ? tensor.clone() : tensor.detach()).requires_grad_(true);
}

// What was made in inference mode may not take part in what gradients are made of.
void leave_inference_mode(std::vector<c10::IValue> &values) {
  for (c10::IValue &value : values)
    if (value.isTensor() && value.toTensor().is_inference())
      value = value.toTensor().clone();
}

// The tensor among what a method gives: the first of a tuple, or what a dict has under `logits`; the SDK's classes::among.
c10::IValue among(const c10::IValue &output) {
  if (output.isTuple() && !output.toTupleRef().elements().empty())
    return output.toTupleRef().elements()[0];
  if (output.isGenericDict() && output.toGenericDict().contains("logits"))
    return output.toGenericDict().at("logits");
  return output;
}

// The sum over the rows of one column of an output [rows, columns, …].
at::Tensor column(const c10::IValue &output, int64_t target) {
  const c10::IValue found = among(output);
  if (!found.isTensor())
    throw std::runtime_error("gradients need a model that gives one tensor, and this one gives a " + found.tagKind());
  const at::Tensor &scores = found.toTensor();
  if (scores.dim() < 2)
    throw std::runtime_error(c10::str("gradients need an output of shape [rows, columns], and the model gives ", scores.sizes()));
  if (target >= scores.size(1))
    throw std::runtime_error(c10::str("the output has ", scores.size(1), " columns, so there is no column ", target));
  return scores.select(1, target).sum();
}

} // namespace

extern "C" {

// Gives what the layer gives while the method runs.
char *sconce_model_layer(const void *model, const char *method, const char *layer, const Input *inputs, size_t count, void *sink,
                         Emit emit) {
  return guarded([&] {
    const c10::InferenceMode mode;
    const Model &loaded = *static_cast<const Model *>(model);
    const torch::jit::Method function = module_of(loaded).get_method(method);
    Stack stack = stack_for(loaded, function, read_all(inputs, count, function.function().getSchema().arguments()));
    const auto variant = variant_of(loaded, function, layer, Variant::GIVES_LAYER);
    std::unique_lock<std::mutex> alone(loaded.alone, std::defer_lock);
    if (loaded.assigns)
      alone.lock();
    variant->run(stack);
    walk("", stack.at(0), sink, emit);
  });
}

// Gives the gradients of the sum of one column of the output: to the method's first input, or, where a layer is named,
// to what the layer gives; then the first of the inputs stands in for that.
char *sconce_model_gradients(const void *model, const char *method, const char *layer, const Input *inputs, size_t count,
                             int64_t target, void *sink, Emit emit) {
  return guarded([&] {
    const c10::InferenceMode off(false);
    const at::AutoGradMode on(true);
    const Model &loaded = *static_cast<const Model *>(model);
    const torch::jit::Method function = module_of(loaded).get_method(method);
    const auto &arguments = function.function().getSchema().arguments();
    const bool at_layer = *layer != '\0';
    if (count == 0 || inputs[0].kind != TENSOR)
      throw std::runtime_error("gradients need a tensor as the first input");
    const at::Tensor subject = leaf(*inputs[0].tensor);
    std::unique_lock<std::mutex> alone(loaded.alone, std::defer_lock);
    if (loaded.assigns)
      alone.lock();
    c10::IValue output;
    if (at_layer) {
      std::vector<c10::IValue> values = read_all(inputs + 1, count - 1, arguments);
      leave_inference_mode(values);
      Stack stack = stack_for(loaded, function, std::move(values));
      stack.push_back(subject);
      variant_of(loaded, function, layer, Variant::TAKES_LAYER)->run(stack);
      output = stack.at(0);
    } else {
      std::vector<c10::IValue> values = read_all(inputs, count, arguments);
      leave_inference_mode(values);
      values.at(0) = subject;
      output = torch::jit::Method(function)(std::move(values));
    }
    const auto gradients = torch::autograd::grad({column(output, target)}, {subject}, {}, std::nullopt, false, true);
    const at::Tensor found = gradients.at(0).defined() ? gradients.at(0) : at::zeros_like(subject);
    walk("", found.detach(), sink, emit);
  });
}

} // extern "C"

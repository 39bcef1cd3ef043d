// Convolutions and linear layers that carry what follows them: one oneDNN kernel each, with weights that lie as it wants them.
//
// libtorch has these kernels for its compiler (torch.compile, AOTInductor); here TorchScript's graph calls them, after freezing has made the weights constants.

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/constant_pooling.h>
#include <torch/csrc/jit/passes/dead_code_elimination.h>
#include <torch/csrc/jit/passes/remove_mutation.h>

#include "shim.h"

using namespace torch::jit;

namespace {

// Below that many weights libtorch's own matrix product is faster: oneDNN takes longer to begin.
constexpr int64_t FEW_WEIGHTS = 1 << 16;

// What a kernel does with its result before it writes it: oneDNN's name, its numbers, and which variant of it.
struct After {
  std::string name = "none";
  std::vector<double> numbers;
  std::string variant;
};

// One layer and the nodes that its kernel takes over.
struct Layer {
  Node *node;
  at::Tensor weight;
  // What is added to its result; null for none.
  Value *added = nullptr;
  After after;
  // The last node taken over: the kernel takes its place.
  Node *last;
};

// Without operators that don't exist in every build of libtorch: looked up by name.
at::Tensor reordered(const char *op, Stack arguments) {
  c10::Dispatcher::singleton().findSchemaOrThrow(op, "").callBoxed(&arguments);
  return arguments.back().toTensor();
}

std::optional<at::Tensor> constant_tensor(Value *value) {
  const std::optional<c10::IValue> constant = toIValue(value);
  if (!constant || !(constant->isNone() || constant->isTensor()))
    return std::nullopt;
  return constant->isNone() ? at::Tensor() : constant->toTensor();
}

bool is_weight(const std::optional<at::Tensor> &tensor, int64_t dimensions) {
  return tensor && tensor->defined() && tensor->dim() == dimensions && tensor->scalar_type() == at::kFloat &&
         tensor->layout() == at::kStrided && tensor->is_cpu();
}

std::optional<std::vector<int64_t>> constant_sizes(Value *value) {
  const std::optional<c10::IValue> constant = toIValue(value);
  if (!constant || !constant->isIntList())
    return std::nullopt;
  return constant->toIntVector();
}

std::optional<double> constant_number(Value *value) {
  const std::optional<c10::IValue> constant = toIValue(value);
  if (!constant || !constant->isScalar())
    return std::nullopt;
  return constant->toScalar().toDouble();
}

bool is_tensor(const Value *value) { return value->type()->isSubtypeOf(*c10::TensorType::get()); }

// The one node that a node's value goes to, where it is in the same block.
Node *only_user(Node *node) {
  const use_list &uses = node->output()->uses();
  if (uses.size() != 1 || uses[0].user->owningBlock() != node->owningBlock() || uses[0].user->kind() == prim::Return)
    return nullptr;
  return uses[0].user;
}

std::optional<After> after_of(Node *node) {
  static const std::map<Symbol, std::string> plain{
      {aten::relu, "relu"}, {aten::sigmoid, "sigmoid"}, {aten::tanh, "tanh"}, {aten::silu, "swish"}, {aten::hardswish, "hardswish"}};
  const auto known = plain.find(node->kind());
  if (known != plain.end())
    return After{known->second, {}, ""};
  if (node->kind() == aten::relu6)
    return After{"hardtanh", {0, 6}, ""};
  if (node->kind() == aten::hardtanh) {
    const auto low = constant_number(node->input(1)), high = constant_number(node->input(2));
    if (low && high)
      return After{"hardtanh", {*low, *high}, ""};
  }
  if (node->kind() == aten::gelu) {
    const std::optional<c10::IValue> variant = toIValue(node->input(1));
    if (variant && variant->isString())
      return After{"gelu", {}, variant->toStringRef()};
  }
  return std::nullopt;
}

void take_over_activation(Layer &layer) {
  Node *const next = only_user(layer.last);
  std::optional<After> after = next == nullptr ? std::nullopt : after_of(next);
  // What comes after a sum can be ReLU only.
  if (!after || (layer.added != nullptr && after->name != "relu"))
    return;
  layer.after = std::move(*after);
  layer.last = next;
}

void take_over_addition(Layer &layer) {
  Node *const next = only_user(layer.node);
  if (next == nullptr || next->kind() != aten::add || next->inputs().size() != 3 || !is_tensor(next->input(0)) ||
      !is_tensor(next->input(1)) || constant_number(next->input(2)) != 1.0)
    return;
  Value *const other = next->input(0) == layer.node->output() ? next->input(1) : next->input(0);
  // The kernel is made for a tensor of the result's own shape; a mean, or a constant, is likely to be broadcast.
  const Node *const source = other->node();
  if (toIValue(other) || source->kind() == aten::mean || source->kind() == aten::adaptive_avg_pool2d)
    return;
  layer.added = other;
  layer.last = next;
}

// The value of a node that is put before `layer.last`.
Value *insert(Node *node) { return node->owningGraph()->insertNode(node)->output(); }

// A constant that lies as oneDNN wants it; an ordinary one can't hold it.
Value *insert_weight(Graph &graph, const at::Tensor &weight) {
  Node *const node = graph.create(Symbol::prim("ConstantMKLDNNTensor"));
  node->t_(attr::value, weight);
  return insert(node);
}

void put_in_place(Layer &layer, const char *op, std::vector<Value *> arguments) {
  Graph &graph = *layer.node->owningGraph();
  c10::impl::GenericList numbers(c10::OptionalType::create(c10::NumberType::get()));
  for (const double number : layer.after.numbers)
    numbers.push_back(number);
  Value *const no_value = graph.insertConstant(c10::IValue());
  if (layer.added == nullptr) {
    arguments.push_back(graph.insertConstant(layer.after.name));
  } else {
    arguments.insert(arguments.begin() + 1, layer.added);
    arguments.push_back(graph.insertConstant(std::string("add")));
    arguments.push_back(no_value);
    arguments.push_back(layer.after.name == "none" ? no_value : graph.insertConstant(layer.after.name));
  }
  arguments.push_back(graph.insertConstant(std::move(numbers)));
  arguments.push_back(layer.added == nullptr ? graph.insertConstant(layer.after.variant) : no_value);
  Value *const result = insert(graph.create(Symbol::fromQualString(op), arguments));
  result->setType(layer.last->output()->type());
  layer.last->output()->replaceAllUsesWith(result);
}

bool fuse_linear(Node *node) {
  const auto weight = constant_tensor(node->input(1)), bias = constant_tensor(node->input(2));
  if (!is_weight(weight, 2) || !bias || weight->numel() < FEW_WEIGHTS)
    return false;
  Layer layer{node, reordered("mkldnn::_reorder_linear_weight", {weight->contiguous(), c10::IValue()}), nullptr, {}, node};
  take_over_activation(layer);
  const WithInsertPoint place(layer.last);
  put_in_place(layer, "mkldnn::_linear_pointwise",
               {node->input(0), insert_weight(*node->owningGraph(), layer.weight), node->input(2)});
  return true;
}

bool fuse_convolution(Node *node) {
  // Traced models have the one with more parameters: transposed at 6, groups at 8.
  const bool is_traced = node->kind() == aten::_convolution;
  Value *const groups = node->input(is_traced ? 8 : 6);
  const auto weight = constant_tensor(node->input(1)), bias = constant_tensor(node->input(2));
  const auto stride = constant_sizes(node->input(3)), padding = constant_sizes(node->input(4)),
             dilation = constant_sizes(node->input(5));
  const std::optional<c10::IValue> transposed =
      is_traced ? toIValue(node->input(6)) : std::optional<c10::IValue>(false);
  if (!is_weight(weight, 4) || !bias || !stride || !padding || !dilation || !constant_number(groups) || !transposed ||
      transposed->toBool())
    return false;
  Layer layer{node,
              reordered("mkldnn::_reorder_convolution_weight",
                        {weight->contiguous(), *padding, *stride, *dilation, *toIValue(groups), c10::IValue()}),
              nullptr,
              {},
              node};
  take_over_addition(layer);
  take_over_activation(layer);
  const WithInsertPoint place(layer.last);
  put_in_place(layer, "mkldnn::_convolution_pointwise",
               {node->input(0), insert_weight(*node->owningGraph(), layer.weight), node->input(2), node->input(4),
                node->input(3), node->input(5), groups});
  return true;
}

// Every node, those of branches and loops among them.
void collect(Block *block, std::vector<Node *> &nodes) {
  for (Node *const node : block->nodes()) {
    nodes.push_back(node);
    for (Block *const inner : node->blocks())
      collect(inner, nodes);
  }
}

bool writes(const Node *node) {
  const c10::FunctionSchema *const schema = node->maybeSchema();
  return schema != nullptr && schema->is_mutable();
}

} // namespace

namespace sconce {

void fuse(std::shared_ptr<Graph> &graph) {
  RemoveTensorMutation(graph);
  std::vector<Node *> nodes;
  collect(graph->block(), nodes);
  size_t fused = 0;
  for (Node *const node : nodes) {
    // A kernel stands where the last of its nodes stood; what is written in between would be missed.
    if (writes(node))
      throw std::runtime_error("its code writes into a tensor in place (" + std::string(node->kind().toQualString()) + ")");
  }
  sconce::stay_channels_last(nodes);
  for (Node *const node : nodes) {
    if (node->kind() == aten::linear)
      fused += fuse_linear(node);
    else if (node->kind() == aten::conv2d || node->kind() == aten::_convolution)
      fused += fuse_convolution(node);
  }
  if (fused == 0)
    throw std::runtime_error("it has no convolution over pictures and no large linear layer with 32-bit weights on the CPU");
  EliminateDeadCode(graph);
  ConstantPooling(graph);
}

} // namespace sconce

// Pooling and flattening of pictures that lie channels last, as oneDNN's convolutions give them.
//
// libtorch's pooling also writes where each maximum was, which nobody reads here: two thirds of its memory and most of
// its time. Its flattening copies a picture into another order, which the weights of the layer behind take instead.

#include <ATen/Parallel.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/runtime/custom_operator.h>

#include "shim.h"

using namespace torch::jit;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

namespace {

// Along one dimension.
struct Pooling {
  int64_t kernel, stride, padding;

  // How many results a line gives, as libtorch counts them: with `ceil_mode`, windows that begin inside may end outside.
  int64_t results(int64_t length, bool ceil_mode) const {
    const int64_t room = length + 2 * padding - kernel + (ceil_mode ? stride - 1 : 0);
    const int64_t count = room / stride + 1;
    return ceil_mode && (count - 1) * stride >= length + padding ? count - 1 : count;
  }
  int64_t begin(int64_t result) const { return std::max<int64_t>(0, result * stride - padding); }
  int64_t end(int64_t result, int64_t length) const { return std::min(length, result * stride - padding + kernel); }
};

// One line of results: the largest number of each window, by channel; one that is no number wins, as in libtorch.
FOR_EACH_PROCESSOR
void pool_line(const float *lines, int64_t count, int64_t width, int64_t channels, Pooling across, int64_t results, float *__restrict__ out) {
  for (int64_t result = 0; result < results; ++result, out += channels) {
    const int64_t begin = across.begin(result), end = across.end(result, width);
    std::memcpy(out, lines + begin * channels, channels * sizeof(float));
    for (int64_t line = 0; line < count; ++line)
      for (int64_t place = begin; place < end; ++place) {
        const float *__restrict__ const numbers = lines + (line * width + place) * channels;
        for (int64_t channel = 0; channel < channels; ++channel) {
          const float number = numbers[channel], best = out[channel];
          out[channel] = (number > best) | (number != number) ? number : best;
        }
      }
  }
}

at::Tensor max_pool2d(const at::Tensor &pictures, const std::vector<int64_t> &kernel, const std::vector<int64_t> &stride,
                      const std::vector<int64_t> &padding, const std::vector<int64_t> &dilation, bool ceil_mode) {
  const auto at = [](const std::vector<int64_t> &sizes, size_t place) { return sizes[sizes.size() == 1 ? 0 : place]; };
  const std::vector<int64_t> &step = stride.empty() ? kernel : stride;
  const Pooling down{at(kernel, 0), at(step, 0), at(padding, 0)}, across{at(kernel, 1), at(step, 1), at(padding, 1)};
  const auto usual = [](const Pooling &one) {
    return one.kernel > 0 && one.stride > 0 && one.padding >= 0 && 2 * one.padding <= one.kernel;
  };
  if (pictures.dim() != 4 || !pictures.is_cpu() || pictures.scalar_type() != at::kFloat || pictures.numel() == 0 ||
      !pictures.is_contiguous(at::MemoryFormat::ChannelsLast) || at(dilation, 0) != 1 || at(dilation, 1) != 1 ||
      !usual(down) || !usual(across) || pictures.size(2) + 2 * down.padding < down.kernel ||
      pictures.size(3) + 2 * across.padding < across.kernel)
    return at::max_pool2d(pictures, kernel, stride, padding, dilation, ceil_mode);
  const int64_t channels = pictures.size(1), height = pictures.size(2), width = pictures.size(3);
  const int64_t lines = down.results(height, ceil_mode), results = across.results(width, ceil_mode);
  at::Tensor pooled = at::empty({pictures.size(0), channels, lines, results}, pictures.options(), at::MemoryFormat::ChannelsLast);
  const float *const from = pictures.const_data_ptr<float>();
  float *const to = pooled.mutable_data_ptr<float>();
  // Smaller pieces than that aren't worth another thread.
  const int64_t grain = std::max<int64_t>(1, 32768 / (results * channels * down.kernel * across.kernel));
  at::parallel_for(0, pictures.size(0) * lines, grain, [&](int64_t first, int64_t last) {
    for (int64_t place = first; place < last; ++place) {
      const int64_t picture = place / lines, begin = down.begin(place % lines), end = down.end(place % lines, height);
      pool_line(from + (picture * height + begin) * width * channels, end - begin, width, channels, across, results,
                to + place * results * channels);
    }
  });
  return pooled;
}

// The numbers of each picture in a row, channels last: a view, where they lie so.
at::Tensor rows(const at::Tensor &pictures, int64_t channels, int64_t width) {
  TORCH_CHECK(pictures.dim() == 4 && pictures.size(1) == channels && channels * pictures.size(2) * pictures.size(3) == width,
              "the layer behind takes pictures of ", channels, " channels and ", width, " numbers, and this is ", pictures.sizes());
  return pictures.permute({0, 2, 3, 1}).reshape({pictures.size(0), width});
}

const RegisterOperators operators({
    Operator(
        "sconce::max_pool2d(Tensor self, int[] kernel_size, int[] stride, int[] padding, int[] dilation, bool ceil_mode) -> Tensor",
        [](Stack &stack) {
          const bool ceil_mode = pop(stack).toBool();
          const auto dilation = pop(stack).toIntVector(), padding = pop(stack).toIntVector(), stride = pop(stack).toIntVector(),
                     kernel = pop(stack).toIntVector();
          push(stack, max_pool2d(pop(stack).toTensor(), kernel, stride, padding, dilation, ceil_mode));
        },
        c10::AliasAnalysisKind::FROM_SCHEMA),
    // It may be a view.
    Operator(
        "sconce::rows(Tensor(a) self, int channels, int width) -> Tensor(a)",
        [](Stack &stack) {
          const int64_t width = pop(stack).toInt(), channels = pop(stack).toInt();
          push(stack, rows(pop(stack).toTensor(), channels, width));
        },
        c10::AliasAnalysisKind::FROM_SCHEMA),
});

void put_in_place(Node *node, const char *op, std::vector<Value *> arguments) {
  const WithInsertPoint place(node);
  Graph &graph = *node->owningGraph();
  Value *const result = graph.insertNode(graph.create(Symbol::fromQualString(op), arguments))->output();
  result->setType(node->output()->type());
  node->output()->replaceAllUsesWith(result);
}

// The channels of a value that a convolution gives, by way of what works on each channel by itself; 0 where it isn't known.
int64_t channels_of(const Value *value) {
  static const std::set<Symbol> by_channel{aten::relu, aten::dropout, aten::max_pool2d, aten::avg_pool2d, aten::adaptive_avg_pool2d};
  const Node *node = value->node();
  while (by_channel.count(node->kind()) != 0)
    node = node->input(0)->node();
  const bool transposes = node->kind() == aten::_convolution && toIValue(node->input(6)) != c10::IValue(false);
  if ((node->kind() != aten::conv2d && node->kind() != aten::_convolution) || transposes)
    return 0;
  const std::optional<c10::IValue> weight = toIValue(node->input(1));
  return weight && weight->isTensor() ? weight->toTensor().size(0) : 0;
}

// Whether it makes one row of each picture.
bool flattens(Node *node) {
  if (node->kind() == aten::flatten) {
    const std::optional<c10::IValue> last = toIValue(node->input(2));
    return toIValue(node->input(1)) == c10::IValue(1) && (last == c10::IValue(-1) || last == c10::IValue(3));
  }
  if (node->kind() != aten::view && node->kind() != aten::reshape)
    return false;
  const std::optional<c10::IValue> sizes = toIValue(node->input(1));
  return sizes && sizes->isIntList() && sizes->toIntVector().size() == 2 && sizes->toIntVector()[0] == -1;
}

void flatten_as_it_lies(Node *node) {
  if (!flattens(node) || node->output()->uses().size() != 1)
    return;
  Node *const layer = node->output()->uses()[0].user;
  const std::optional<c10::IValue> constant = layer->kind() == aten::linear ? toIValue(layer->input(1)) : std::nullopt;
  if (!constant || !constant->isTensor() || layer->input(0) != node->output())
    return;
  const at::Tensor weight = constant->toTensor();
  const int64_t channels = channels_of(node->input(0));
  // With one number for each channel there is but one order.
  if (channels <= 1 || weight.dim() != 2 || weight.size(1) % channels != 0 || weight.size(1) == channels)
    return;
  const int64_t width = weight.size(1);
  const WithInsertPoint place(node);
  Graph &graph = *node->owningGraph();
  const at::Tensor reordered = weight.view({weight.size(0), channels, -1}).transpose(1, 2).reshape({-1, width});
  Value *const new_weight = graph.insertConstant(reordered);
  put_in_place(node, "sconce::rows", {node->input(0), graph.insertConstant(channels), graph.insertConstant(width)});
  layer->replaceInput(1, new_weight);
}

} // namespace

namespace sconce {

void stay_channels_last(const std::vector<Node *> &nodes) {
  for (Node *const node : nodes)
    flatten_as_it_lies(node);
  for (Node *const node : nodes)
    if (node->kind() == aten::max_pool2d)
      put_in_place(node, "sconce::max_pool2d", node->inputs().vec());
}

} // namespace sconce

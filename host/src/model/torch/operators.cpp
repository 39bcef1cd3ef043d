// The two operators that torchvision's detectors need in TorchScript and libtorch doesn't have: nms and roi_align, with
// the arithmetic of torchvision 0.26. The library of torchvision's own wheel needs Python and CUDA, so it can't be opened
// beside a libtorch without them; and an archive that was made for TorchServe doesn't name one.
//
// They compute on the CPU, wherever their tensors are. Where a model's config names torchvision's own library, that one
// comes first, and these aren't registered.

#include <atomic>

#include <torch/library.h>

#include "shim.h"

using namespace sconce;

namespace {

// Boxes as [x1, y1, x2, y2]; gives the indices of those that are kept, best first.
template <typename Number> at::Tensor nms_on_cpu(const at::Tensor &boxes, const at::Tensor &scores, double most_overlap) {
  const at::Tensor order = std::get<1>(scores.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true));
  const int64_t count = boxes.size(0);
  const Number *const box = boxes.const_data_ptr<Number>();
  const int64_t *const ranked = order.const_data_ptr<int64_t>();
  const auto area = [&](int64_t i) { return (box[4 * i + 2] - box[4 * i]) * (box[4 * i + 3] - box[4 * i + 1]); };
  std::vector<char> gone(count, 0);
  std::vector<int64_t> kept;
  for (int64_t place = 0; place < count; ++place) {
    const int64_t i = ranked[place];
    if (gone[i])
      continue;
    kept.push_back(i);
    for (int64_t later = place + 1; later < count; ++later) {
      const int64_t j = ranked[later];
      if (gone[j])
        continue;
      const Number width = std::min(box[4 * i + 2], box[4 * j + 2]) - std::max(box[4 * i], box[4 * j]);
      const Number height = std::min(box[4 * i + 3], box[4 * j + 3]) - std::max(box[4 * i + 1], box[4 * j + 1]);
      const Number both = std::max(Number(0), width) * std::max(Number(0), height);
      gone[j] = both / (area(i) + area(j) - both) > most_overlap;
    }
  }
  return at::tensor(kept, at::kLong);
}

at::Tensor nms(const at::Tensor &boxes, const at::Tensor &scores, double most_overlap) {
  TORCH_CHECK(boxes.dim() == 2 && boxes.size(1) == 4, "boxes must be [n, 4], and they are ", boxes.sizes());
  TORCH_CHECK(scores.dim() == 1 && scores.size(0) == boxes.size(0), "scores must be [", boxes.size(0), "], and they are ",
              scores.sizes());
  TORCH_CHECK(boxes.scalar_type() == scores.scalar_type(), "boxes and scores must be of one type, and they are ",
              boxes.scalar_type(), " and ", scores.scalar_type());
  const at::Tensor at_hand = boxes.cpu().contiguous();
  const at::Tensor ranks = scores.cpu().contiguous();
  at::Tensor kept;
  AT_DISPATCH_FLOATING_TYPES(boxes.scalar_type(), "nms", [&] { kept = nms_on_cpu<scalar_t>(at_hand, ranks, most_overlap); });
  return kept.to(boxes.device());
}

// A point between four pixels; zero outside of the picture.
template <typename Number> Number between(const Number *pixels, int64_t height, int64_t width, Number y, Number x) {
  if (y < -1 || y > height || x < -1 || x > width)
    return 0;
  y = std::max(y, Number(0));
  x = std::max(x, Number(0));
  int64_t low_y = static_cast<int64_t>(y), low_x = static_cast<int64_t>(x), high_y = low_y + 1, high_x = low_x + 1;
  if (low_y >= height - 1) {
    low_y = high_y = height - 1;
    y = static_cast<Number>(low_y);
  }
  if (low_x >= width - 1) {
    low_x = high_x = width - 1;
    x = static_cast<Number>(low_x);
  }
  const Number down = y - low_y, right = x - low_x, up = 1 - down, left = 1 - right;
  return up * left * pixels[low_y * width + low_x] + up * right * pixels[low_y * width + high_x] +
         down * left * pixels[high_y * width + low_x] + down * right * pixels[high_y * width + high_x];
}

// From features [n, channels, height, width] and regions [k, 5] (picture, x1, y1, x2, y2) to [k, channels, rows, columns].
template <typename Number>
void align(const at::Tensor &features, const at::Tensor &regions, double scale, int64_t samples, bool aligned, at::Tensor &pooled) {
  const int64_t channels = features.size(1), height = features.size(2), width = features.size(3);
  const int64_t rows = pooled.size(2), columns = pooled.size(3);
  const Number *const from = features.const_data_ptr<Number>();
  const Number *const region = regions.const_data_ptr<Number>();
  Number *to = pooled.mutable_data_ptr<Number>();
  const Number shift = aligned ? Number(0.5) : Number(0), zoom = static_cast<Number>(scale);
  for (int64_t k = 0; k < regions.size(0); ++k) {
    const Number *const r = region + 5 * k;
    const int64_t picture = static_cast<int64_t>(r[0]);
    TORCH_CHECK(picture >= 0 && picture < features.size(0), "region ", k, " is of picture ", picture, ", and there are ",
                features.size(0));
    const Number left = r[1] * zoom - shift, top = r[2] * zoom - shift;
    Number across = r[3] * zoom - shift - left, down = r[4] * zoom - shift - top;
    if (!aligned) {
      across = std::max(across, Number(1));
      down = std::max(down, Number(1));
    }
    const Number cell_height = down / rows, cell_width = across / columns;
    const int64_t steps_y = samples > 0 ? samples : static_cast<int64_t>(std::ceil(cell_height));
    const int64_t steps_x = samples > 0 ? samples : static_cast<int64_t>(std::ceil(cell_width));
    const Number points = static_cast<Number>(std::max<int64_t>(steps_y * steps_x, 1));
    for (int64_t channel = 0; channel < channels; ++channel) {
      const Number *const pixels = from + (picture * channels + channel) * height * width;
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t column = 0; column < columns; ++column) {
          Number sum = 0;
          for (int64_t step_y = 0; step_y < steps_y; ++step_y) {
            const Number y = top + row * cell_height + (step_y + Number(0.5)) * cell_height / steps_y;
            for (int64_t step_x = 0; step_x < steps_x; ++step_x) {
              const Number x = left + column * cell_width + (step_x + Number(0.5)) * cell_width / steps_x;
              sum += between(pixels, height, width, y, x);
            }
          }
          *to++ = sum / points;
        }
    }
  }
}

at::Tensor roi_align(const at::Tensor &features, const at::Tensor &regions, double scale, int64_t rows, int64_t columns,
                     int64_t samples, bool aligned) {
  TORCH_CHECK(features.dim() == 4, "features must be [n, channels, height, width], and they are ", features.sizes());
  TORCH_CHECK(regions.dim() == 2 && regions.size(1) == 5, "regions must be [k, 5], and they are ", regions.sizes());
  TORCH_CHECK(features.scalar_type() == regions.scalar_type(), "features and regions must be of one type, and they are ",
              features.scalar_type(), " and ", regions.scalar_type());
  const at::Tensor at_hand = features.cpu().contiguous();
  const at::Tensor wanted = regions.cpu().contiguous();
  at::Tensor pooled = at::empty({regions.size(0), features.size(1), rows, columns}, at_hand.options());
  AT_DISPATCH_FLOATING_TYPES(features.scalar_type(), "roi_align",
                             [&] { align<scalar_t>(at_hand, wanted, scale, samples, aligned, pooled); });
  return pooled.to(features.device());
}

bool exists(const char *name) { return c10::Dispatcher::singleton().findSchema({name, ""}).has_value(); }

// Never destroyed: models refer to what is registered as long as they live.
std::atomic<torch::Library *> library = nullptr;

} // namespace

namespace sconce {

bool register_operators() {
  static std::mutex registering;
  const std::lock_guard<std::mutex> alone(registering);
  if (library != nullptr || exists("torchvision::nms") || exists("torchvision::roi_align"))
    return false;
  auto *ours = new torch::Library(torch::Library::FRAGMENT, "torchvision", std::nullopt, __FILE__, __LINE__);
  ours->def("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor", nms);
  ours->def("roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
            "int sampling_ratio, bool aligned) -> Tensor",
            roi_align);
  library = ours;
  return true;
}

} // namespace sconce

extern "C" {

// Registers them as a model does that needs them.
char *sconce_operators_register() {
  return guarded([] { register_operators(); });
}

// Whether they are registered.
bool sconce_operators_registered() { return library != nullptr; }

} // extern "C"

// What a worker needs of its device: memory on it, and on a GPU a stream of its own.
//
// Everything goes through libtorch's own interface to devices, so that it builds without CUDA's headers and runs with them absent.
// Nothing here waits for a whole device: other workers' streams go on.

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "shim.h"

using namespace sconce;

namespace {

c10::impl::VirtualGuardImpl device_of(const at::Device &device) { return c10::impl::VirtualGuardImpl(device.type()); }

// Memory of the host that a GPU copies from and to by itself, while both work on; libtorch keeps it for the next time.
at::Tensor staging(at::IntArrayRef sizes, at::ScalarType type) {
  return at::empty(sizes, at::TensorOptions(at::kCPU).dtype(type).pinned_memory(true));
}

} // namespace

extern "C" {

// From now on this thread works on its device in a stream of its own, beside those of others. Nothing on a CPU.
char *sconce_stream_enter(int device) {
  return guarded([&] {
    if (device < 0)
      return;
    const at::Device wanted(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    const c10::impl::VirtualGuardImpl guard = device_of(wanted);
    guard.setDevice(wanted);
    guard.exchangeStream(guard.getStreamFromGlobalPool(wanted, false));
  });
}

// A copy of plain memory on a device. A GPU fetches it while this thread goes on.
char *sconce_tensor_place(const void *bytes, size_t length, const int64_t *sizes, size_t dimensions, int type, int device,
                          at::Tensor **out) {
  return guarded([&] {
    const at::IntArrayRef shape(sizes, dimensions);
    const auto dtype = static_cast<at::ScalarType>(type);
    at::Tensor tensor = device < 0 ? at::empty(shape, at::TensorOptions(at::kCPU).dtype(dtype)) : staging(shape, dtype);
    if (tensor.nbytes() != length)
      throw std::runtime_error(c10::str("a tensor of shape ", shape, " needs ", tensor.nbytes(), " bytes, and ", length, " came"));
    if (length > 0)
      std::memcpy(tensor.data_ptr(), bytes, length);
    if (device >= 0)
      tensor = tensor.to(at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(device)), /*non_blocking=*/true);
    *out = new at::Tensor(std::move(tensor));
  });
}

// Where its memory begins; null for a tensor whose numbers don't lie in a row: sparse ones, and those in an order of oneDNN's.
const void *sconce_tensor_address(const at::Tensor *tensor) {
  return tensor->has_storage() ? tensor->const_data_ptr() : nullptr;
}

// The same tensor in contiguous memory of the host; waits for this thread's stream alone.
char *sconce_tensor_fetch(const at::Tensor *tensor, at::Tensor **out) {
  return guarded([&] {
    const at::Tensor source = in_a_row(*tensor).detach().contiguous();
    if (source.is_cpu()) {
      *out = new at::Tensor(source);
      return;
    }
    at::Tensor target = staging(source.sizes(), source.scalar_type());
    target.copy_(source, /*non_blocking=*/true);
    device_of(source.device()).getStream(source.device()).synchronize();
    *out = new at::Tensor(std::move(target));
  });
}

// Whether a device still computes: after some errors a GPU refuses everything until the process has ended.
bool sconce_device_works(int device) {
  if (device < 0)
    return true;
  char *const message = guarded([&] {
    const at::Device wanted(at::kCUDA, static_cast<c10::DeviceIndex>(device));
    at::ones({1}, at::TensorOptions(wanted)).add_(1).cpu();
  });
  free(message);
  return message == nullptr;
}

} // extern "C"

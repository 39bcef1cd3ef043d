// An operator that libtorch doesn't have, in a library as users write them for their models: golden::temper.
// make/models.py registers the same in Python, to make a model that calls it.

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <torch/library.h>

namespace {

// Scores that are less sure of themselves, the higher the temperature is.
at::Tensor temper(const at::Tensor &scores, double temperature) { return scores / temperature; }

} // namespace

TORCH_LIBRARY(golden, library) { library.def("temper(Tensor scores, float temperature) -> Tensor", temper); }

// What a kernel needs of a dense tensor, read where it lies: of a thousand tensors, a call of Paddle's
// for each thing that is asked would be felt in every step.
#ifndef RADAM_CODEGEN_OPERATOR_DENSE_TENSOR_H
#define RADAM_CODEGEN_OPERATOR_DENSE_TENSOR_H

#include <cstdint>

#include "paddle/phi/api/include/tensor.h"
#include "paddle/phi/core/dense_tensor.h"

namespace radam_codegen {

// The dense tensor that a tensor is; nullptr where it is something else, or nothing.
inline const phi::DenseTensor *dense_tensor_in(const paddle::Tensor &tensor) {
  if (!tensor.defined() || !tensor.is_dense_tensor()) {
    return nullptr;
  }
  return static_cast<const phi::DenseTensor *>(tensor.impl().get());
}

// Whether a kernel can work on numel elements of a tensor; sets their address, NULL if there are none.
inline bool find_elements(const phi::DenseTensor &tensor, int64_t numel, void **address) {
  *address = nullptr;
  if (numel == 0) {
    return true;
  }
  const phi::Allocation *memory = tensor.Holder().get();
  if (memory == nullptr || memory->place().GetType() != phi::AllocationType::CPU ||
      memory->size() < tensor.meta().offset + numel * phi::SizeOf(tensor.meta().dtype)) {
    return false;
  }
  *address = static_cast<char *>(memory->ptr()) + tensor.meta().offset;
  return true;
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_DENSE_TENSOR_H

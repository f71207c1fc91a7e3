// Where tensors of dynamic graph are, by the Python objects that hold them.
#ifndef RADAM_CODEGEN_OPERATOR_OBJECT_TENSORS_H
#define RADAM_CODEGEN_OPERATOR_OBJECT_TENSORS_H

#include <dlfcn.h>
#include <sys/types.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "paddle/phi/api/include/tensor.h"
#include "paddle/phi/core/dense_tensor.h"

#include <radam_codegen/operator.h>

#include "dense_tensor.h"

namespace radam_codegen {

// What Paddle declares in paddle/utils/pybind.h, which wants the headers of Python: the tensor in a
// Python object, or an exception. By its linker name, as it is looked up in a module that other
// versions of Paddle may lack it in, and that nothing else here needs.
using TensorOfObject = paddle::Tensor &(*)(void *object, ssize_t position);
constexpr char kTensorOfObject[] = "_ZN6paddle6pybind16CastPyArg2TensorEP7_objectl";
inline std::atomic<TensorOfObject> g_tensor_of_object{nullptr};

// Takes it from the module; false when it is missing.
inline bool read_objects_with(void *module) {
  const auto found = reinterpret_cast<TensorOfObject>(dlsym(module, kTensorOfObject));
  g_tensor_of_object.store(found, std::memory_order_release);
  return found != nullptr;
}

// The dense tensor in a Python object; nullptr where there is something else in it, or nothing.
inline const phi::DenseTensor *dense_tensor_of(TensorOfObject tensor_of, void *object) {
  return object == nullptr ? nullptr : dense_tensor_in(tensor_of(object, 0));
}

inline bool is_same(const phi::DDim &one, const phi::DDim &other) {
  return one.size() == other.size() && std::equal(one.Get(), one.Get() + one.size(), other.Get());
}

constexpr int64_t kRoles = RADAM_MASTER + 1;

// Reads one row; returns the role of the first object that cannot be used, or -1.
inline int32_t read_row(TensorOfObject tensor_of, const radam_objects &objects, void *grad,
                        radam_tensor *row, int32_t *dtypes) {
  void *const in_order[] = {objects.param, grad, objects.moment1, objects.moment2, objects.master};
  void *addresses[] = {nullptr, nullptr, nullptr, nullptr, nullptr};
  const int64_t roles = objects.master == nullptr ? int64_t{RADAM_MASTER} : kRoles;
  dtypes[RADAM_MASTER] = 0;
  const phi::DenseTensor *param = nullptr;
  int64_t numel = 0;
  int32_t role = RADAM_PARAM;
  try {
    for (; role < roles; ++role) {
      const phi::DenseTensor *tensor = dense_tensor_of(tensor_of, in_order[role]);
      if (tensor == nullptr) {
        return role;
      }
      if (role == RADAM_PARAM) {
        param = tensor;
        numel = param->numel();
        if (!param->meta().is_contiguous()) {
          return role;
        }
      } else if (!is_same(tensor->meta().dims, param->meta().dims) ||
                 !(is_same(tensor->meta().strides, param->meta().strides) ||
                   tensor->meta().is_contiguous())) {
        return role;
      }
      if (!find_elements(*tensor, numel, &addresses[role])) {
        return role;
      }
      dtypes[role] = static_cast<int32_t>(tensor->meta().dtype);
    }
  } catch (...) {  // not a tensor
    return role;
  }
  *row = radam_tensor{addresses[RADAM_PARAM],   addresses[RADAM_GRAD],   addresses[RADAM_MOMENT1],
                      addresses[RADAM_MOMENT2], addresses[RADAM_MASTER], numel};
  return -1;
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_OBJECT_TENSORS_H

// What an operator is given, checked before a kernel gets to see it.
#ifndef RADAM_CODEGEN_OPERATOR_INPUTS_H
#define RADAM_CODEGEN_OPERATOR_INPUTS_H

#include <cstdint>
#include <string>
#include <utility>

#include "paddle/phi/api/ext/op_meta_info.h"
#include "paddle/phi/api/include/tensor.h"

#include "dense_tensor.h"
#include "group.h"
#include "raise.h"

namespace radam_codegen {

using paddle::CustomOpKernelContext;
using paddle::DataType;
using paddle::Tensor;

// Numbers of the inputs of radam_codegen_step.
enum StepInput : size_t {
  kParam,
  kGrad,
  kMoment1,
  kMoment2,
  kStep,
  kLearningRate,
  kMaster,
  kFoundInf,
  kWeightDecay
};

// By radam_cuda_dtype.
constexpr DataType kDataTypes[] = {DataType::FLOAT64, DataType::FLOAT32, DataType::BFLOAT16,
                                   DataType::FLOAT16};

inline std::string dtype_name(DataType dtype) {
  switch (dtype) {
    case DataType::FLOAT64:
      return "float64";
    case DataType::FLOAT32:
      return "float32";
    case DataType::BFLOAT16:
      return "bfloat16";
    case DataType::FLOAT16:
      return "float16";
    default:
      return "of Paddle's data type number " + std::to_string(static_cast<int>(dtype));
  }
}

inline std::string count_of(int64_t count, const char *noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// Input number `input` of an operator: one tensor, or the tensors of a Vec.
class Input {
 public:
  // The place is where the kernel works.
  Input(const CustomOpKernelContext &context, size_t input, const char *role,
        const phi::Place &place = phi::CPUPlace())
      : context_(context), range_(context.InputRangeAt(input)), role_(role), place_(place) {}

  int64_t count() const { return static_cast<int64_t>(range_.second - range_.first); }

  // An optional input that was left out is one tensor without anything in it.
  bool absent() const {
    return count() == 0 || (count() == 1 && !tensor(0).defined());
  }

  void check_count(int64_t expected) const {
    if (count() != expected) {
      throw_invalid_argument("radam_codegen: the group wants " + count_of(expected, role_) +
                             ", but got " + std::to_string(count()) + ".");
    }
  }

  int64_t numel(int64_t index) const {
    const phi::DenseTensor *dense = dense_tensor_in(tensor(index));
    return dense != nullptr && dense->Holder() != nullptr ? dense->numel() : checked(index).numel();
  }

  DataType dtype() const { return tensor(0).dtype(); }

  // Likewise for a tensor whose elements must be of a type: a radam_cuda_dtype.
  void *address(int64_t index, int64_t numel, int32_t dtype) const {
    // As it is in every step but one that goes wrong.
    const phi::DenseTensor *dense = dense_tensor_in(tensor(index));
    void *elements = nullptr;
    if (dense != nullptr && dense->meta().dtype == kDataTypes[dtype] && dense->numel() == numel &&
        place_.GetType() == phi::AllocationType::CPU && find_elements(*dense, numel, &elements) &&
        elements != nullptr) {
      return elements;
    }
    const DataType found = tensor(index).dtype();
    if (found != kDataTypes[dtype]) {
      throw_invalid_argument("radam_codegen: " + name(index) + " is " + dtype_name(found) +
                             ", but the kernel was generated for " + dtype_name(kDataTypes[dtype]) +
                             ". Was a state of another type loaded?");
    }
    return address(index, numel);
  }

  // Address of the elements of one tensor, which must have numel of them; NULL where there are none.
  // In-place outputs share the memory of their inputs, so this is also where results are written.
  void *address(int64_t index, int64_t numel) const {
    const Tensor &tensor = checked(index);
    if (tensor.numel() != numel) {
      throw_invalid_argument("radam_codegen: " + name(index) + " has " +
                             count_of(tensor.numel(), "element") + " where " +
                             std::to_string(numel) + " must be.");
    }
    if (numel == 0) {
      return nullptr;
    }
    if (tensor.place() != place_) {
      throw_invalid_argument("radam_codegen: " + name(index) + " is not on " + here() + ".");
    }
    return const_cast<void *>(tensor.data());
  }

  // The only tensor, which must be there.
  const Tensor &only() const {
    check_count(1);
    return checked(0);
  }

  [[noreturn]] void throw_wrong_dtype(const char *expected) const {
    throw_invalid_argument("radam_codegen: " + name(0) + " must be " + expected + ", but is " +
                           dtype_name(dtype()) + ".");
  }

 private:
  const Tensor &tensor(int64_t index) const {
    return context_.InputAt(range_.first + static_cast<size_t>(index));
  }

  const Tensor &checked(int64_t index) const {
    const Tensor &checked = tensor(index);
    if (!checked.has_allocation() && (!checked.defined() || checked.numel() != 0)) {
      throw_invalid_argument("radam_codegen: " + name(index) +
                             " holds no memory. Run the startup program, or load the state, before "
                             "the first step.");
    }
    return checked;
  }

  std::string name(int64_t index) const {
    return count() == 1 ? std::string("the ") + role_
                        : std::string(role_) + " " + std::to_string(index);
  }

  std::string here() const {
    return place_.GetType() == phi::AllocationType::CPU
               ? "the CPU, for which this kernel was generated"
               : "GPU " + std::to_string(place_.GetDeviceId()) + ", where the step counts are";
  }

  const CustomOpKernelContext &context_;
  const std::pair<size_t, size_t> range_;
  const char *role_;
  const phi::Place place_;
};

inline int64_t *step_counts(const CustomOpKernelContext &context, size_t input,
                            int64_t tensor_count, const phi::Place &place) {
  const Input step(context, input, "tensor of step counts", place);
  int64_t *counts = static_cast<int64_t *>(step.address(0, tensor_count));
  if (step.dtype() != DataType::INT64) {
    step.throw_wrong_dtype("int64");
  }
  return counts;
}

// Where a group's kernel works: on the CPU, or on the GPU that the step counts are on.
inline phi::Place place_of(Group *group, const CustomOpKernelContext &context, size_t step) {
  if (group->cuda() == nullptr) {
    return phi::CPUPlace();
  }
  const Tensor &counts = Input(context, step, "tensor of step counts").only();
  if (counts.place().GetType() != phi::AllocationType::GPU) {
    throw_invalid_argument(
        "radam_codegen: the tensor of step counts is not on a GPU, for which this kernel was "
        "generated. Run both programs with an Executor for a GPU, or build them with target='c'.");
  }
  return counts.place();
}

// The entries of Moment1 and Moment2 that hold a tensor's moments, of which one holds those of many.
class Storage {
 public:
  Storage(const CustomOpKernelContext &context, const phi::Place &place)
      : moment1s_(context, kMoment1, "moment1", place),
        moment2s_(context, kMoment2, "moment2", place) {}

  void check_count(int64_t expected) const {
    moment1s_.check_count(expected);
    moment2s_.check_count(expected);
  }

  // Sets where the moments of a tensor of numel elements are.
  void find(const radam_operator_inputs &expected, int64_t numel, radam_tensor *tensor) {
    const int64_t size = expected.storage_size < 0 ? numel : expected.storage_size;
    if (expected.storage != storage_ || expected.moment_dtype != dtype_ || size != size_) {
      moment1_ = moment1s_.address(expected.storage, size, expected.moment_dtype);
      moment2_ = moment2s_.address(expected.storage, size, expected.moment_dtype);
      storage_ = expected.storage;
      dtype_ = expected.moment_dtype;
      size_ = size;
    }
    if (expected.offset > size - numel) {
      throw_invalid_argument("radam_codegen: a parameter has " + count_of(numel, "element") +
                             ", which is more than its moments have.");
    }
    tensor->moment1 = element(moment1_, expected);
    tensor->moment2 = element(moment2_, expected);
  }

 private:
  static void *element(void *begin, const radam_operator_inputs &expected) {
    const int64_t width = expected.moment_dtype == RADAM_CUDA_FLOAT64 ? 8 : 4;
    return begin == nullptr ? nullptr : static_cast<char *>(begin) + expected.offset * width;
  }

  const Input moment1s_;
  const Input moment2s_;
  // The storage that was looked at last.
  int64_t storage_ = -1;
  int64_t size_ = -1;
  int32_t dtype_ = -1;
  void *moment1_ = nullptr;
  void *moment2_ = nullptr;
};

// Where the tensors of a step are, in the group's order.
inline void read_tensors(const CustomOpKernelContext &context, const Group &group,
                         const phi::Place &place, radam_tensor *tensors) {
  const int64_t count = group.tensor_count();
  const Input params(context, kParam, "parameter", place);
  const Input grads(context, kGrad, "gradient", place);
  Storage storage(context, place);
  const Input masters(context, kMaster, "master weight", place);
  params.check_count(count);
  grads.check_count(count);
  storage.check_count(group.storage_count());
  if (group.master_count() > 0 || !masters.absent()) {
    masters.check_count(group.master_count());
  }
  int64_t master = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t numel = params.numel(i);
    const radam_operator_inputs &expected = group.inputs(i);
    radam_tensor &tensor = tensors[i];
    tensor.numel = numel;
    tensor.param = params.address(i, numel, expected.param_dtype);
    tensor.grad = grads.address(i, numel, expected.grad_dtype);
    storage.find(expected, numel, &tensor);
    tensor.master = expected.master != 0
                        ? masters.address(master++, numel, RADAM_CUDA_FLOAT32)
                        : nullptr;
  }
}

// A number in host memory.
inline double read_number(const Input &number) {
  const void *data = number.address(0, 1);
  switch (number.dtype()) {
    case DataType::FLOAT32:
      return *static_cast<const float *>(data);
    case DataType::FLOAT64:
      return *static_cast<const double *>(data);
    case DataType::BFLOAT16:
      return static_cast<float>(*static_cast<const phi::dtype::bfloat16 *>(data));
    case DataType::FLOAT16:
      return static_cast<float>(*static_cast<const phi::dtype::float16 *>(data));
    default:
      number.throw_wrong_dtype("float32, float64, bfloat16 or float16");
  }
}

// A flag of one byte, in host memory or on a GPU; NULL where it was left out.
inline const uint8_t *flag_address(const Input &flag) {
  if (flag.absent()) {
    return nullptr;
  }
  const void *data = flag.address(0, 1);
  if (flag.dtype() != DataType::BOOL) {
    flag.throw_wrong_dtype("bool");
  }
  return static_cast<const uint8_t *>(data);
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_INPUTS_H

// The part of Paddle that only its builds for CUDA have, as far as the operator asks for it, on host
// memory: tensors that say that they are on a GPU, Paddle's allocator, and its stream. The operator
// finds these functions before Paddle's own where this library is loaded first, for all to see.
// Beside them, a way to run the operator radam_codegen_step as Paddle does.

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "paddle/phi/api/ext/op_meta_info.h"
#include "paddle/phi/api/include/api.h"
#include "paddle/phi/core/dense_tensor.h"

namespace {

constexpr size_t kAlignment = 256;  // that of Paddle's allocator

int64_t live_bytes;   // taken from the allocator and not given back
int64_t taken_bytes;  // the last time
int64_t fills;        // tensors that were filled with a number
int stream;

phi::DenseTensorMeta meta_of(phi::DataType dtype, int64_t numel) {
  return phi::DenseTensorMeta(dtype, common::make_ddim({numel}));
}

paddle::Tensor tensor_of(std::shared_ptr<phi::Allocation> memory, phi::DataType dtype,
                         int64_t numel) {
  return paddle::Tensor(
      std::make_shared<phi::DenseTensor>(std::move(memory), meta_of(dtype, numel)));
}

void give_back(phi::Allocation *memory) {
  live_bytes -= static_cast<int64_t>(memory->size());
  std::memset(memory->ptr(), 0xCD, memory->size());
  std::free(memory->ptr());
}

// Memory of the GPU, full of what was in it before.
paddle::Tensor take(int64_t numel, phi::DataType dtype, const phi::Place &place) {
  const size_t bytes = static_cast<size_t>(numel) * phi::SizeOf(dtype);
  void *memory = std::aligned_alloc(kAlignment, (bytes / kAlignment + 1) * kAlignment);
  std::memset(memory, 0xAB, bytes);
  live_bytes += static_cast<int64_t>(bytes);
  taken_bytes = static_cast<int64_t>(bytes);
  return tensor_of(std::make_shared<phi::Allocation>(memory, bytes, give_back, place), dtype,
                   numel);
}

// Paddle's own function of a name, behind ours.
template <typename Function>
Function next(const char *name) {
  void *core = dlopen("libphi_core.so", RTLD_LAZY | RTLD_NOLOAD);
  return reinterpret_cast<Function>(dlsym(core, name));
}

bool is_gpu(const phi::Place &place) { return place.GetType() == phi::AllocationType::GPU; }

}  // namespace

__attribute__((visibility("default"))) void *stream_of(const paddle::Tensor *) __asm__(
    "_ZNK6paddle6Tensor6streamEv");
void *stream_of(const paddle::Tensor *) { return &stream; }

namespace paddle::experimental {

Tensor empty(const IntArray &shape, DataType dtype, const Place &place,
             paddle::optional<Tensor *> out) {
  if (is_gpu(place)) {
    return take(shape.GetData()[0], dtype, place);
  }
  return next<decltype(&empty)>(
      "_ZN6paddle12experimental5emptyERKNS0_12IntArrayBaseINS_6TensorEEEN3phi8DataTypeERKNS6_"
      "5PlaceENS_8optionalIPS2_EE")(shape, dtype, place, out);
}

Tensor full(const IntArray &shape, const Scalar &value, DataType dtype, const Place &place,
            paddle::optional<Tensor *> out) {
  if (is_gpu(place)) {
    fills += 1;
    Tensor tensor = take(shape.GetData()[0], dtype, place);
    if (dtype == DataType::BOOL) {
      *static_cast<bool *>(tensor.data()) = value.to<double>() != 0;
    } else {
      *static_cast<double *>(tensor.data()) = value.to<double>();
    }
    return tensor;
  }
  return next<decltype(&full)>(
      "_ZN6paddle12experimental4fullERKNS0_12IntArrayBaseINS_6TensorEEERKNS0_10ScalarBaseIS2_"
      "EEN3phi8DataTypeERKNSA_5PlaceENS_8optionalIPS2_EE")(shape, value, dtype, place, out);
}

}  // namespace paddle::experimental

extern "C" {
#pragma GCC visibility push(default)

struct GivenTensor {
  void *memory;
  int64_t numel;
  int32_t dtype;   // Paddle's number
  int32_t device;  // -1: the CPU
  int32_t input;   // its number; those that take a list have a row for each tensor
  int32_t listed;  // whether it takes a list
};

// Runs an operator on tensors in the order of its inputs; returns 0, or writes Paddle's message.
int32_t run_operator(const char *name, int64_t key, const char *launch, const GivenTensor *given,
                     int64_t count, char *message, int64_t size) {
  paddle::CustomOpKernelContext context;
  for (int64_t i = 0; i < count;) {
    std::vector<paddle::Tensor> tensors;
    const int64_t first = i;
    for (; i < count && given[i].input == given[first].input; ++i) {
      const GivenTensor &each = given[i];
      const auto dtype = static_cast<phi::DataType>(each.dtype);
      const phi::Place place = each.device < 0 ? phi::Place(phi::CPUPlace())
                                               : phi::Place(phi::GPUPlace(each.device));
      const size_t bytes = static_cast<size_t>(each.numel) * phi::SizeOf(dtype);
      tensors.push_back(tensor_of(std::make_shared<phi::Allocation>(each.memory, bytes, place),
                                  dtype, each.numel));
    }
    if (given[first].listed != 0) {
      context.EmplaceBackInputs(tensors);
    } else {
      context.EmplaceBackInput(tensors.front());
    }
  }
  context.EmplaceBackAttr(key);
  context.EmplaceBackAttr(std::string(launch));
  try {
    const auto &all = paddle::OpMetaInfoMap::Instance().GetMap();
    paddle::OpMetaInfoHelper::GetKernelFn(all.at(name).front())(&context);
    return 0;
  } catch (const std::exception &error) {
    const std::string text = error.what();
    const size_t length = std::min(text.size(), static_cast<size_t>(size - 1));
    std::memcpy(message, text.data(), length);
    message[length] = '\0';
    return 1;
  }
}

void *gpu_stream(void) { return &stream; }
int64_t gpu_live_bytes(void) { return live_bytes; }
int64_t gpu_taken_bytes(void) { return taken_bytes; }
int64_t gpu_fills(void) { return fills; }

#pragma GCC visibility pop
}

// One step of a group on a GPU, started on Paddle's stream; the host waits for nothing.
//
// The workspace comes from Paddle's allocator for each step, and goes back to it when the step has
// been started, as the temporary memory of Paddle's own kernels does: whoever gets it next works on
// the same stream, after the step. So steps on different streams or GPUs never share one, and a
// CUDA graph that captures a step keeps its own, in the memory that Paddle sets aside for the graph.
//
// Learning rate, weight decay and found_inf are read on the GPU. One that is in host memory is
// written to the GPU by a kernel that has it as its argument: no copy from host memory, which could
// have to wait, and would be done anew by every run of a captured graph. Such a graph keeps the
// number that it was captured with.
#ifndef RADAM_CODEGEN_OPERATOR_CUDA_STEP_H
#define RADAM_CODEGEN_OPERATOR_CUDA_STEP_H

#include <string>
#include <vector>

#include "paddle/phi/api/include/api.h"

#include "cuda_group.h"
#include "inputs.h"

namespace radam_codegen {

// Paddle's `gpuStream_t Tensor::stream() const`, by its linker name: Paddle declares it only to who
// has the headers of CUDA, which a machine that runs what was compiled elsewhere need not have.
__attribute__((visibility("default"))) void *stream_of(const Tensor *tensor) __asm__(
    "_ZNK6paddle6Tensor6streamEv");

// A copy on the GPU of what is in host memory; keeps the memory.
inline const void *put_on(const phi::Place &place, double number, DataType dtype,
                          std::vector<Tensor> *keeper) {
  keeper->push_back(paddle::experimental::full({1}, number, dtype, place));
  return keeper->back().data();
}

inline bool is_on_cpu(const Input &input) {
  return input.only().place().GetType() == phi::AllocationType::CPU;
}

inline radam_cuda_dtype cuda_dtype(const Input &number) {
  switch (number.dtype()) {
    case DataType::FLOAT64:
      return RADAM_CUDA_FLOAT64;
    case DataType::FLOAT32:
      return RADAM_CUDA_FLOAT32;
    case DataType::BFLOAT16:
      return RADAM_CUDA_BFLOAT16;
    case DataType::FLOAT16:
      return RADAM_CUDA_FLOAT16;
    default:
      number.throw_wrong_dtype("float32, float64, bfloat16 or float16");
  }
}

inline DeviceNumber number_on(const phi::Place &place, const CustomOpKernelContext &context,
                              size_t input, const char *role, std::vector<Tensor> *keeper) {
  const Input number(context, input, role, place);
  if (is_on_cpu(number)) {
    const double value = read_number(Input(context, input, role));
    return {put_on(place, value, DataType::FLOAT64, keeper), RADAM_CUDA_FLOAT64};
  }
  return {number.address(0, 1), cuda_dtype(number)};
}

inline const uint8_t *found_inf_on(const phi::Place &place, const CustomOpKernelContext &context,
                                   std::vector<Tensor> *keeper) {
  const char *role = "found_inf flag";
  const Input flag(context, kFoundInf, role, place);
  if (flag.absent() || !is_on_cpu(flag)) {
    return flag_address(flag);
  }
  const bool found = *flag_address(Input(context, kFoundInf, role)) != 0;
  return static_cast<const uint8_t *>(put_on(place, found, DataType::BOOL, keeper));
}

inline void run_cuda_step(const CustomOpKernelContext &context, int64_t key, CudaGroup *group) {
  const phi::Place place = place_of(group, context, kStep);
  const std::string why_not = group->why_not();
  if (!why_not.empty()) {
    throw_precondition_not_met("radam_codegen: " + why_not + ".");
  }
  std::vector<Tensor> keeper;
  CudaStep step;
  step.tensors.resize(group->tensor_count());
  read_tensors(context, *group, place, step.tensors.data());
  const std::string refusal = group->why_not_in_any_order(step.tensors);
  if (!refusal.empty()) {
    throw_shared_memory(key, refusal);
  }
  step.step = step_counts(context, kStep, group->tensor_count(), place);
  step.lr = number_on(place, context, kLearningRate, "learning rate", &keeper);
  if (group->wants_weight_decay()) {
    step.weight_decay = number_on(place, context, kWeightDecay, "weight decay", &keeper);
  }
  step.found_inf = found_inf_on(place, context, &keeper);

  const uint64_t bytes = group->workspace_size(step);
  Tensor workspace =
      paddle::experimental::empty({static_cast<int64_t>(bytes)}, DataType::UINT8, place);
  void *stream = stream_of(&Input(context, kStep, "tensor of step counts", place).only());
  const std::string failure = group->start(step, workspace.data(), bytes, stream);
  if (!failure.empty()) {
    throw_external("radam_codegen: " + failure + ".");
  }
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_CUDA_STEP_H

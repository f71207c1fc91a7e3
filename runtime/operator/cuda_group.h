// A group whose kernel runs on a GPU. Nothing here knows CUDA: the kernel does what needs it.
#ifndef RADAM_CODEGEN_OPERATOR_CUDA_GROUP_H
#define RADAM_CODEGEN_OPERATOR_CUDA_GROUP_H

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include <radam_codegen/cuda_kernel.h>

#include "free_ranges.h"
#include "group.h"
#include "update_order.h"

namespace radam_codegen {

// A number in device memory.
struct DeviceNumber {
  const void *address = nullptr;
  radam_cuda_dtype dtype = RADAM_CUDA_FLOAT64;
};

// What one step is given; all addresses but that of the vector are of device memory.
struct CudaStep {
  std::vector<radam_tensor> tensors;
  int64_t *step = nullptr;
  DeviceNumber lr;
  DeviceNumber weight_decay;  // without an address where no tensor's decay comes with the step
  const uint8_t *found_inf = nullptr;
};

class CudaGroup final : public Group {
 public:
  CudaGroup(const radam_cuda_kernel *kernel, const radam_numbers &numbers,
            const radam_tensor_numbers *tensor_numbers, const radam_operator_inputs *inputs,
            int64_t tensor_count)
      : Group(numbers, tensor_numbers, inputs, tensor_count), kernel_(kernel) {
    for (const radam_operator_inputs &each : inputs_) {
      decay_at_run_time_.push_back(each.weight_decay != 0 ? 1 : 0);
    }
  }

  CudaGroup *cuda() override { return this; }

  // Why no step can run: the kernel finds no GPU; empty where it finds one.
  std::string why_not() const {
    if (found_device_.load(std::memory_order_relaxed)) {
      return "";
    }
    int32_t count = 0;
    const int32_t status = kernel_->device_count(&count);
    if (status != 0) {
      return describe("cannot run", status);
    }
    if (count < 1) {
      return std::string("CUDA kernel ") + kernel_->name + " cannot run: there is no GPU";
    }
    found_device_.store(true, std::memory_order_relaxed);
    return "";
  }

  // What of these tensors shares memory, as blocks of threads would update it in any order; empty where
  // nothing does.
  std::string why_not_in_any_order(const std::vector<radam_tensor> &tensors) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (ranges_.hold_apart(tensors, inputs_)) {
      return "";
    }
    UpdateOrder order;
    order.find(tensors, inputs_);
    return order.refusal().empty() ? order.example() + "; kernels for a GPU update in no order, so " +
                                         "give each memory of its own"
                                   : order.refusal();
  }

  // Bytes of device memory, aligned to 16 bytes, that a step needs besides the state.
  uint64_t workspace_size(const CudaStep &step) const {
    const radam_cuda_group group = group_of(step);
    return kernel_->workspace_size(&group);
  }

  // Starts one step on a stream, a cudaStream_t of the current device; returns what went wrong, or
  // nothing. The host waits for nothing.
  std::string start(const CudaStep &step, void *workspace, uint64_t workspace_bytes,
                    void *stream) const {
    radam_cuda_group group = group_of(step);
    group.workspace = workspace;
    group.workspace_bytes = workspace_bytes;
    const int32_t status = kernel_->step(&group, stream);
    return status == 0 ? "" : describe("was not started", status);
  }

 private:
  radam_cuda_group group_of(const CudaStep &step) const {
    radam_cuda_group group = {};
    group.tensors = step.tensors.data();
    group.tensor_numbers = tensor_numbers_.data();
    group.decay_at_run_time = wants_weight_decay() ? decay_at_run_time_.data() : nullptr;
    group.tensor_count = tensor_count();
    group.numbers = numbers_;
    group.step = step.step;
    group.lr = step.lr.address;
    group.lr_dtype = step.lr.dtype;
    group.weight_decay = step.weight_decay.address;
    group.weight_decay_dtype = step.weight_decay.dtype;
    group.found_inf = step.found_inf;
    return group;
  }

  std::string describe(const char *what, int32_t status) const {
    return std::string("CUDA kernel ") + kernel_->name + " " + what + ": CUDA error " +
           std::to_string(status) + ", " + kernel_->error_text(status);
  }

  const radam_cuda_kernel *kernel_;
  std::vector<uint8_t> decay_at_run_time_;
  mutable std::atomic<bool> found_device_{false};
  std::mutex mutex_;
  FreeRanges ranges_;
};

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_CUDA_GROUP_H

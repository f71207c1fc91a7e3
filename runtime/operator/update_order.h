// In which order tensors are updated that share memory, or why they cannot be.
//
// Native RAdam updates one parameter after the other. What is clipped, or gets a decay term, was computed
// by then from all gradients and parameters as they were before. This comes to the same, and refuses
// what one pass over the elements cannot do.
#ifndef RADAM_CODEGEN_OPERATOR_UPDATE_ORDER_H
#define RADAM_CODEGEN_OPERATOR_UPDATE_ORDER_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include <radam_codegen/operator.h>

#include "free_ranges.h"

namespace radam_codegen {

class UpdateOrder {
 public:
  // When the copy of a gradient is made that the update reads in its place.
  enum class Copy : uint8_t {
    kNone,
    kBeforeAll,
    kBeforeItsBatch  // with what earlier tensors have written
  };

  void find(const std::vector<radam_tensor> &tensors,
            const std::vector<radam_operator_inputs> &inputs) {
    inputs_ = inputs.data();
    refusal_.clear();
    example_.clear();
    batches_.clear();
    copies_.assign(tensors.size(), Copy::kNone);
    after_.assign(tensors.size(), -1);
    std::vector<Array> open;
    for (const Array &array : sorted(tensors)) {
      open.erase(std::remove_if(open.begin(), open.end(),
                                [&](const Array &each) { return each.end <= array.begin; }),
                 open.end());
      for (const Array &each : open) {
        share(each, array);
      }
      open.push_back(array);
    }
    const auto count = static_cast<int64_t>(tensors.size());
    for (int64_t i = 0; i < count; ++i) {
      if (batches_.empty() || after_[i] >= batches_.back()) {
        batches_.push_back(i);
      }
    }
    batches_.push_back(count);
  }

  // Why there is no order; empty where there is one.
  const std::string &refusal() const { return refusal_; }

  // Two of those that share memory.
  const std::string &example() const { return example_; }

  // The first tensor of each batch, and the number of tensors: neighbours that share nothing.
  const std::vector<int64_t> &batches() const { return batches_; }

  Copy copy_of(int64_t tensor) const { return copies_[tensor]; }

 private:
  struct Array {
    uintptr_t begin;
    uintptr_t end;
    int64_t tensor;
    radam_role role;
  };

  std::vector<Array> sorted(const std::vector<radam_tensor> &tensors) const {
    std::vector<Array> arrays;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const radam_tensor &tensor = tensors[i];
      const auto add = [&](const void *address, int32_t dtype, radam_role role) {
        if (tensor.numel > 0 && address != nullptr) {
          const ByteRange range = bytes_at(address, tensor.numel, dtype);
          arrays.push_back({range.begin, range.end, static_cast<int64_t>(i), role});
        }
      };
      add(tensor.param, inputs_[i].param_dtype, RADAM_PARAM);
      add(tensor.grad, inputs_[i].grad_dtype, RADAM_GRAD);
      add(tensor.moment1, inputs_[i].moment_dtype, RADAM_MOMENT1);
      add(tensor.moment2, inputs_[i].moment_dtype, RADAM_MOMENT2);
      add(tensor.master, RADAM_CUDA_FLOAT32, RADAM_MASTER);
    }
    std::sort(arrays.begin(), arrays.end(),
              [](const Array &a, const Array &b) { return a.begin < b.begin; });
    return arrays;
  }

  void share(const Array &one, const Array &other) {
    if (one.role == RADAM_GRAD && other.role == RADAM_GRAD) {
      return;
    }
    if (example_.empty()) {
      example_ = said_of(one, other);
    }
    if (one.tensor == other.tensor) {
      share_within(one, other);
      return;
    }
    const Array &first = one.tensor < other.tensor ? one : other;
    const Array &second = one.tensor < other.tensor ? other : one;
    after_[second.tensor] = std::max(after_[second.tensor], first.tensor);
    const radam_operator_inputs &wanted = inputs_[second.tensor];
    if (second.role == RADAM_GRAD && (wanted.clipped != 0 || wanted.decay_term != 0)) {
      copies_[second.tensor] = Copy::kBeforeAll;
    }
    if (first.role != RADAM_GRAD && wanted.decay_term != 0 &&
        (second.role == RADAM_PARAM || second.role == RADAM_MASTER)) {
      refuse(second, first,
             ", and its decay term is that of before the other's update, which is done first. Leave "
             "the decay away, or take decoupled_weight_decay");
    }
  }

  // Of one tensor, of which all arrays are taken to be apart by the loop over its elements.
  void share_within(const Array &one, const Array &other) {
    const Array &read = one.role == RADAM_GRAD ? one : other;
    const Array &written = one.role == RADAM_GRAD ? other : one;
    const bool is_value = written.role == RADAM_PARAM || written.role == RADAM_MASTER;
    if (read.role != RADAM_GRAD || !is_value) {
      refuse(one, other, "; give each memory of its own");
    } else if (copies_[read.tensor] == Copy::kNone) {
      const radam_operator_inputs &wanted = inputs_[read.tensor];
      const bool is_early = wanted.clipped != 0 || wanted.decay_term != 0;
      copies_[read.tensor] = is_early ? Copy::kBeforeAll : Copy::kBeforeItsBatch;
    }
  }

  void refuse(const Array &one, const Array &other, const char *why) {
    if (refusal_.empty()) {
      refusal_ = said_of(one, other) + why;
    }
  }

  static std::string said_of(const Array &one, const Array &other) {
    return name(one) + " shares memory with " + name(other);
  }

  static std::string name(const Array &array) {
    constexpr const char *kNames[] = {"tensor ", "the gradient of tensor ", "moment1 of tensor ",
                                      "moment2 of tensor ", "the master weight of tensor "};
    return kNames[array.role] + std::to_string(array.tensor);
  }

  const radam_operator_inputs *inputs_ = nullptr;
  std::string refusal_;
  std::string example_;
  std::vector<int64_t> batches_;
  std::vector<Copy> copies_;
  std::vector<int64_t> after_;  // the last tensor before each one that it shares memory with
};

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_UPDATE_ORDER_H

// Whether what a step reads lies outside of what it writes; made to be asked in every step.
#ifndef RADAM_CODEGEN_OPERATOR_FREE_RANGES_H
#define RADAM_CODEGEN_OPERATOR_FREE_RANGES_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <radam_codegen/operator.h>

namespace radam_codegen {

// Bytes per element of a radam_cuda_dtype.
inline uintptr_t width_of(int32_t dtype) {
  switch (dtype) {
    case RADAM_CUDA_FLOAT64:
      return 8;
    case RADAM_CUDA_FLOAT32:
      return 4;
    default:
      return 2;
  }
}

struct ByteRange {
  uintptr_t begin;
  uintptr_t end;
};

inline ByteRange bytes_at(const void *address, int64_t numel, int32_t dtype) {
  const auto begin = reinterpret_cast<uintptr_t>(address);
  return {begin, begin + static_cast<uintptr_t>(numel) * width_of(dtype)};
}

// Parameters and state rarely move, gradients do so in most steps. So the ranges between all that is
// written are kept; of a gradient it is then enough to see that it lies in one of them, as a rule in
// the one in which it lay before.
class FreeRanges {
 public:
  // Whether no array that is written shares memory with any other of these tensors.
  bool hold_apart(const std::vector<radam_tensor> &tensors,
                  const std::vector<radam_operator_inputs> &inputs) {
    if (!is_same_state(tensors)) {
      lay_out(tensors, inputs);
    }
    return apart_ && holds_gradients(tensors, inputs);
  }

 private:
  bool is_same_state(const std::vector<radam_tensor> &tensors) const {
    if (tensors.size() != known_.size()) {
      return false;
    }
    // All of them, as that is faster than a branch for each.
    uintptr_t changes = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const radam_tensor &now = tensors[i];
      const radam_tensor &before = known_[i];
      changes |= difference(now.param, before.param) | difference(now.moment1, before.moment1) |
                 difference(now.moment2, before.moment2) | difference(now.master, before.master) |
                 static_cast<uintptr_t>(now.numel ^ before.numel);
    }
    return changes == 0;
  }

  static uintptr_t difference(const void *one, const void *other) {
    return reinterpret_cast<uintptr_t>(one) ^ reinterpret_cast<uintptr_t>(other);
  }

  void lay_out(const std::vector<radam_tensor> &tensors,
               const std::vector<radam_operator_inputs> &inputs) {
    known_.clear();  // so that a half-done layout is never taken for a good one
    uintptr_t smallest = UINTPTR_MAX;
    std::vector<ByteRange> written;
    for (size_t i = 0; i < tensors.size(); ++i) {
      const radam_tensor &tensor = tensors[i];
      const radam_operator_inputs &types = inputs[i];
      if (tensor.numel == 0) {
        continue;
      }
      written.push_back(bytes_at(tensor.param, tensor.numel, types.param_dtype));
      written.push_back(bytes_at(tensor.moment1, tensor.numel, types.moment_dtype));
      written.push_back(bytes_at(tensor.moment2, tensor.numel, types.moment_dtype));
      if (tensor.master != nullptr) {
        written.push_back(bytes_at(tensor.master, tensor.numel, RADAM_CUDA_FLOAT32));
      }
      const ByteRange grad = bytes_at(tensor.grad, tensor.numel, types.grad_dtype);
      smallest = std::min(smallest, grad.end - grad.begin);
    }
    std::sort(written.begin(), written.end(),
              [](const ByteRange &a, const ByteRange &b) { return a.begin < b.begin; });
    apart_ = true;
    begins_.clear();
    ends_.clear();
    uintptr_t last = 0;
    for (const ByteRange &range : written) {
      apart_ = apart_ && range.begin >= last;
      keep(last, range.begin, smallest);
      last = std::max(last, range.end);
    }
    keep(last, UINTPTR_MAX, 0);
    place_.assign(tensors.size(), 0);
    known_ = tensors;
  }

  // A range that is too small for any gradient is none that one could lie in.
  void keep(uintptr_t begin, uintptr_t end, uintptr_t smallest) {
    if (end > begin && end - begin >= smallest) {
      begins_.push_back(begin);
      ends_.push_back(end);
    }
  }

  bool holds_gradients(const std::vector<radam_tensor> &tensors,
                       const std::vector<radam_operator_inputs> &inputs) {
    uint32_t last = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].numel == 0) {
        continue;
      }
      const ByteRange grad = bytes_at(tensors[i].grad, tensors[i].numel, inputs[i].grad_dtype);
      // Where it was in the step before, where its neighbour is, or wherever it begins.
      if (!lies_in(place_[i], grad)) {
        place_[i] = lies_in(last, grad) ? last : find(grad.begin);
        if (!lies_in(place_[i], grad)) {
          return false;
        }
      }
      last = place_[i];
    }
    return true;
  }

  bool lies_in(uint32_t place, const ByteRange &range) const {
    return begins_[place] <= range.begin && range.end <= ends_[place];
  }

  // The last range that begins at the address or before it, without a branch that could be mispredicted.
  uint32_t find(uintptr_t address) const {
    const uintptr_t *first = begins_.data();
    for (size_t left = begins_.size(); left > 1;) {
      const size_t half = left / 2;
      first += first[half] <= address ? half : 0;
      left -= half;
    }
    return static_cast<uint32_t>(first - begins_.data());
  }

  bool apart_ = false;
  std::vector<radam_tensor> known_;  // what the ranges were laid out for
  std::vector<uintptr_t> begins_;    // of the free ranges, in their order
  std::vector<uintptr_t> ends_;
  std::vector<uint32_t> place_;  // in which of them each gradient was last
};

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_FREE_RANGES_H

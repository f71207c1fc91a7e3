// What is registered under a key, whatever its kernel runs on.
#ifndef RADAM_CODEGEN_OPERATOR_GROUP_H
#define RADAM_CODEGEN_OPERATOR_GROUP_H

#include <algorithm>
#include <cstdint>
#include <vector>

#include <radam_codegen/operator.h>

namespace radam_codegen {

class CpuGroup;
class CudaGroup;

class Group {
 public:
  Group(const radam_numbers &numbers, const radam_tensor_numbers *tensor_numbers,
        const radam_operator_inputs *inputs, int64_t tensor_count)
      : numbers_(numbers),
        tensor_numbers_(tensor_numbers, tensor_numbers + tensor_count),
        inputs_(inputs, inputs + tensor_count) {
    for (const radam_operator_inputs &each : inputs_) {
      master_count_ += each.master != 0 ? 1 : 0;
      wants_weight_decay_ = wants_weight_decay_ || each.weight_decay != 0;
      storage_count_ = std::max<int64_t>(storage_count_, each.storage + 1);
    }
  }
  virtual ~Group() = default;
  Group(const Group &) = delete;
  Group &operator=(const Group &) = delete;

  // The group as what it is; the other one is NULL.
  virtual CpuGroup *cpu() { return nullptr; }
  virtual CudaGroup *cuda() { return nullptr; }

  int64_t tensor_count() const { return static_cast<int64_t>(tensor_numbers_.size()); }

  // How many tensors have a master weight.
  int64_t master_count() const { return master_count_; }

  // Entries of Moment1, and of Moment2.
  int64_t storage_count() const { return storage_count_; }

  // What a step must be given for a tensor.
  const radam_operator_inputs &inputs(int64_t tensor) const { return inputs_[tensor]; }

  // Whether a tensor's decay coefficient is only known when a step runs.
  bool wants_weight_decay() const { return wants_weight_decay_; }

 protected:
  const radam_numbers numbers_;
  const std::vector<radam_tensor_numbers> tensor_numbers_;
  const std::vector<radam_operator_inputs> inputs_;

 private:
  int64_t master_count_ = 0;
  int64_t storage_count_ = 0;
  bool wants_weight_decay_ = false;
};

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_GROUP_H

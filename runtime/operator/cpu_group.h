// A group whose kernel runs on the CPU.
#ifndef RADAM_CODEGEN_OPERATOR_CPU_GROUP_H
#define RADAM_CODEGEN_OPERATOR_CPU_GROUP_H

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <radam_codegen/launcher.h>

#include "group.h"
#include "threads.h"

namespace radam_codegen {

// What one step writes besides the state; kept from step to step, as sizes rarely change.
struct Workspace {
  std::vector<radam_tensor> tensors;
  std::vector<radam_tensor_numbers> tensor_numbers;  // only where a decay comes with the step
  std::vector<int64_t> numels;  // the sizes that chunks and bounds were laid out for
  std::vector<radam_chunk> chunks;
  std::vector<int64_t> bounds;
  std::vector<double> chunk_sums;
  std::vector<std::max_align_t> scalars;
  int32_t threads = 0;  // the setting that bounds were laid out for
  int32_t parts = 0;
};

class CpuGroup final : public Group {
 public:
  CpuGroup(const radam_kernel *kernel, const radam_numbers &numbers,
           const radam_tensor_numbers *tensor_numbers, const radam_operator_inputs *inputs,
           int64_t tensor_count, bool drops_results)
      : Group(numbers, tensor_numbers, inputs, tensor_count),
        kernel_(kernel),
        drops_results_(drops_results) {}
  ~CpuGroup() override { delete kept_.load(std::memory_order_acquire); }

  CpuGroup *cpu() override { return this; }

  // Whether nobody reads the results of the operator, which are tensors of their own.
  bool drops_results() const { return drops_results_; }

  // A workspace that nobody else uses. Several executors may run one group at a time.
  std::unique_ptr<Workspace> take_workspace() {
    // One executor, as there is as a rule, takes no lock.
    if (Workspace *kept = kept_.exchange(nullptr, std::memory_order_acquire)) {
      return std::unique_ptr<Workspace>(kept);
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<Workspace> workspace = std::move(free_.back());
        free_.pop_back();
        return workspace;
      }
    }
    auto workspace = std::make_unique<Workspace>();
    workspace->tensors.resize(tensor_numbers_.size());
    workspace->scalars.resize(
        (tensor_numbers_.size() * kernel_->scalar_size + sizeof(std::max_align_t) - 1) /
        sizeof(std::max_align_t));
    return workspace;
  }

  void give_back(std::unique_ptr<Workspace> workspace) {
    Workspace *none = nullptr;
    if (kept_.compare_exchange_strong(none, workspace.get(), std::memory_order_release,
                                      std::memory_order_relaxed)) {
      (void)workspace.release();  // it is kept
      return;
    }
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(std::move(workspace));
  }

  // One step over workspace.tensors, which the caller has filled.
  void run(Workspace *workspace, int64_t *step, double lr, double weight_decay,
           int32_t found_inf) const {
    lay_out(workspace);
    radam_group group;
    group.tensors = workspace->tensors.data();
    group.tensor_numbers = numbers_of_step(workspace, weight_decay);
    group.step = step;
    group.tensor_count = tensor_count();
    group.chunks = workspace->chunks.data();
    group.chunk_count = static_cast<int64_t>(workspace->chunks.size());
    group.chunk_sums = workspace->chunk_sums.data();
    group.scalars = workspace->scalars.data();
    group.numbers = numbers_;
    group.lr = lr;
    group.found_inf = found_inf;
    radam_launch(kernel_, &group, workspace->bounds.data(), workspace->parts, parallel_for);
  }

 private:
  void lay_out(Workspace *workspace) const {
    const std::vector<radam_tensor> &tensors = workspace->tensors;
    const int32_t threads = g_threads.load(std::memory_order_relaxed);
    bool same = threads == workspace->threads && workspace->numels.size() == tensors.size();
    for (size_t i = 0; same && i < tensors.size(); ++i) {
      same = workspace->numels[i] == tensors[i].numel;
    }
    if (same) {
      return;
    }
    workspace->threads = 0;  // so that a half-done layout is never taken for a good one
    const int64_t count = tensor_count();
    workspace->chunks.resize(radam_count_chunks(tensors.data(), count));
    workspace->chunk_sums.resize(workspace->chunks.size());
    const int64_t elements = radam_fill_chunks(tensors.data(), count, workspace->chunks.data());
    const int64_t chunk_count = static_cast<int64_t>(workspace->chunks.size());
    workspace->parts = count_parts(elements, chunk_count, threads);
    workspace->bounds.resize(workspace->parts + 1);
    radam_split_chunks(workspace->chunks.data(), chunk_count, elements, workspace->parts,
                       workspace->bounds.data());
    workspace->numels.resize(tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      workspace->numels[i] = tensors[i].numel;
    }
    workspace->threads = threads;
  }

  // Several parts for each thread, as far as they are worth it: what a thread is late with can be taken
  // over in parts.
  static int32_t count_parts(int64_t elements, int64_t chunk_count, int32_t threads) {
    constexpr int64_t kElements = 128 << 10;  // some hundred microseconds
    constexpr int64_t kMostEach = 256;
    const int32_t shares = radam_count_parts(elements, chunk_count, threads);
    if (shares == 1) {
      return 1;
    }
    const int64_t each = std::clamp<int64_t>(elements / shares / kElements, 1, kMostEach);
    return radam_count_parts(elements, chunk_count, static_cast<int32_t>(shares * each));
  }

  const radam_tensor_numbers *numbers_of_step(Workspace *workspace, double weight_decay) const {
    if (!wants_weight_decay()) {
      return tensor_numbers_.data();
    }
    workspace->tensor_numbers = tensor_numbers_;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i].weight_decay != 0) {
        workspace->tensor_numbers[i].decay = weight_decay;
      }
    }
    return workspace->tensor_numbers.data();
  }

  const radam_kernel *kernel_;
  const bool drops_results_;
  std::atomic<Workspace *> kept_{nullptr};
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

// Takes a workspace for the length of one step.
class WorkspaceLease {
 public:
  explicit WorkspaceLease(CpuGroup *group) : group_(group), workspace_(group->take_workspace()) {}
  ~WorkspaceLease() { group_->give_back(std::move(workspace_)); }
  WorkspaceLease(const WorkspaceLease &) = delete;
  WorkspaceLease &operator=(const WorkspaceLease &) = delete;
  Workspace *get() { return workspace_.get(); }

 private:
  CpuGroup *group_;
  std::unique_ptr<Workspace> workspace_;
};

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_CPU_GROUP_H

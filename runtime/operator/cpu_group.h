// A group whose kernel runs on the CPU.
#ifndef RADAM_CODEGEN_OPERATOR_CPU_GROUP_H
#define RADAM_CODEGEN_OPERATOR_CPU_GROUP_H

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include <radam_codegen/launcher.h>

#include "free_ranges.h"
#include "group.h"
#include "threads.h"
#include "update_order.h"

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
  FreeRanges ranges;
  UpdateOrder order;  // of tensors that are not apart
  std::vector<std::vector<char>> copies;  // of gradients, where the order wants them
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

  // Why no step over workspace.tensors, which the caller has filled, can be run; empty where it can.
  std::string why_not(Workspace *workspace) const {
    if (workspace->ranges.hold_apart(workspace->tensors, inputs_)) {
      return "";
    }
    workspace->order.find(workspace->tensors, inputs_);
    return workspace->order.refusal();
  }

  // One step over workspace.tensors, which the caller has filled. Returns why there was none, or nothing.
  std::string run(Workspace *workspace, int64_t *step, double lr, double weight_decay,
                  int32_t found_inf) const {
    const bool apart = workspace->ranges.hold_apart(workspace->tensors, inputs_);
    if (!apart) {
      workspace->order.find(workspace->tensors, inputs_);
      if (!workspace->order.refusal().empty()) {
        return workspace->order.refusal();
      }
    }
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
    if (apart) {
      radam_launch(kernel_, &group, workspace->bounds.data(), workspace->parts, parallel_for);
    } else {
      run_in_order(workspace, group);
    }
    return "";
  }

 private:
  // As radam_launch, but for the updates: a batch of tensors after the other.
  void run_in_order(Workspace *workspace, const radam_group &group) const {
    const UpdateOrder &order = workspace->order;
    workspace->copies.resize(workspace->tensors.size());
    copy_gradients(workspace, 0, group.tensor_count, UpdateOrder::Copy::kBeforeAll);
    if (kernel_->reduce != nullptr) {
      radam_launch_phase reduce{&group, workspace->bounds.data(), kernel_->reduce};
      radam_launch_over_parts(&reduce, workspace->parts, parallel_for);
    }
    if (radam_launch_scalar(kernel_, &group) == 0) {
      return;
    }
    const std::vector<radam_chunk> &chunks = workspace->chunks;
    std::vector<int64_t> bounds;
    int64_t first = 0;  // chunk of the batch
    for (size_t i = 0; i + 1 < order.batches().size(); ++i) {
      const int64_t end_tensor = order.batches()[i + 1];
      copy_gradients(workspace, order.batches()[i], end_tensor, UpdateOrder::Copy::kBeforeItsBatch);
      int64_t count = 0;
      int64_t elements = 0;
      while (first + count < group.chunk_count && chunks[first + count].tensor < end_tensor) {
        elements += chunks[first + count].end - chunks[first + count].begin;
        ++count;
      }
      const int32_t parts = count_parts(elements, count, workspace->threads);
      bounds.resize(parts + 1);
      radam_split_chunks(chunks.data() + first, count, elements, parts, bounds.data());
      for (int64_t &bound : bounds) {
        bound += first;
      }
      radam_launch_phase each{&group, bounds.data(), kernel_->each};
      radam_launch_over_parts(&each, parts, parallel_for);
      first += count;
    }
  }

  // Has tensors [begin, end) read copies of their gradients where the order wants them made now.
  void copy_gradients(Workspace *workspace, int64_t begin, int64_t end,
                      UpdateOrder::Copy wanted) const {
    for (int64_t i = begin; i < end; ++i) {
      if (workspace->order.copy_of(i) != wanted) {
        continue;
      }
      radam_tensor &tensor = workspace->tensors[i];
      std::vector<char> &copy = workspace->copies[i];
      copy.resize(static_cast<size_t>(tensor.numel) * width_of(inputs_[i].grad_dtype));
      std::memcpy(copy.data(), tensor.grad, copy.size());
      tensor.grad = copy.data();
    }
  }

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

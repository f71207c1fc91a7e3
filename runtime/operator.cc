// The Paddle operators of radam_codegen, and the registry that they look their kernels up in.
//
//   radam_codegen_build   in a startup program: has a group's kernel built and registered
//   radam_codegen_step    in a main program: one fused RAdam step over a group of tensors
//
// Both carry the group's key, and a text (opaque here) from which the builder can make the group
// anew. The builder is Python, called through a C function pointer; nothing here knows Python.

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <shared_mutex>
#include <string>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "paddle/common/enforce.h"
#include "paddle/phi/api/ext/op_meta_info.h"
#include "paddle/phi/api/include/tensor.h"
#include "paddle/phi/core/dense_tensor.h"

#include <radam_codegen/launcher.h>
#include <radam_codegen/operator.h>

namespace {

// ---- Threads ------------------------------------------------------------------------------------

struct OpenMp {
  // What `#pragma omp parallel` becomes in GCC's calling convention, which Intel's runtime has too.
  void (*parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags);
  int (*thread_number)();
  int (*thread_count)();
};

OpenMp g_openmp_entry_points;
std::atomic<const OpenMp *> g_openmp{nullptr};
std::atomic<int32_t> g_threads{1};

struct Team {
  void (*body)(void *data, int32_t part);
  void *data;
  int32_t parts;
  const OpenMp *openmp;
};

void run_team_member(void *raw) {
  const Team &team = *static_cast<const Team *>(raw);
  // The runtime may give fewer threads than were asked for.
  const int32_t threads = team.openmp->thread_count();
  for (int32_t part = team.openmp->thread_number(); part < team.parts; part += threads) {
    team.body(team.data, part);
  }
}

void parallel_for(void (*body)(void *data, int32_t part), void *data, int32_t parts) {
  if (const OpenMp *openmp = g_openmp.load(std::memory_order_acquire)) {
    Team team{body, data, parts, openmp};
    openmp->parallel(run_team_member, &team, static_cast<unsigned>(parts), 0);
    return;
  }
  std::vector<std::thread> threads;
  int32_t part = 1;
  try {
    threads.reserve(parts - 1);
    for (; part < parts; ++part) {
      threads.emplace_back(body, data, part);
    }
  } catch (const std::exception &) {
    // No more threads to be had: the parts that are left are done here.
  }
  for (; part < parts; ++part) {
    body(data, part);
  }
  body(data, 0);
  for (std::thread &thread : threads) {
    thread.join();
  }
}

// ---- Groups -------------------------------------------------------------------------------------

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

class Group {
 public:
  Group(const radam_kernel *kernel, const radam_numbers &numbers,
        const radam_tensor_numbers *tensor_numbers, const radam_operator_inputs *inputs,
        int64_t tensor_count)
      : kernel_(kernel),
        numbers_(numbers),
        tensor_numbers_(tensor_numbers, tensor_numbers + tensor_count),
        inputs_(inputs, inputs + tensor_count) {
    for (const radam_operator_inputs &each : inputs_) {
      master_count_ += each.master != 0 ? 1 : 0;
      wants_weight_decay_ = wants_weight_decay_ || each.weight_decay != 0;
    }
  }

  int64_t tensor_count() const { return static_cast<int64_t>(tensor_numbers_.size()); }

  // How many tensors have a master weight, and whether a tensor does.
  int64_t master_count() const { return master_count_; }
  bool has_master(int64_t tensor) const { return inputs_[tensor].master != 0; }

  // Whether a tensor's decay coefficient is only known when a step runs.
  bool wants_weight_decay() const { return wants_weight_decay_; }

  // A workspace that nobody else uses. Several executors may run one group at a time.
  std::unique_ptr<Workspace> take_workspace() {
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
    workspace->parts = radam_count_parts(elements, chunk_count, threads);
    workspace->bounds.resize(workspace->parts + 1);
    radam_split_chunks(workspace->chunks.data(), chunk_count, elements, workspace->parts,
                       workspace->bounds.data());
    workspace->numels.resize(tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      workspace->numels[i] = tensors[i].numel;
    }
    workspace->threads = threads;
  }

  const radam_tensor_numbers *numbers_of_step(Workspace *workspace, double weight_decay) const {
    if (!wants_weight_decay_) {
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
  const radam_numbers numbers_;
  const std::vector<radam_tensor_numbers> tensor_numbers_;
  const std::vector<radam_operator_inputs> inputs_;
  int64_t master_count_ = 0;
  bool wants_weight_decay_ = false;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
};

// Takes a workspace for the length of one step.
class WorkspaceLease {
 public:
  explicit WorkspaceLease(Group *group) : group_(group), workspace_(group->take_workspace()) {}
  ~WorkspaceLease() { group_->give_back(std::move(workspace_)); }
  WorkspaceLease(const WorkspaceLease &) = delete;
  WorkspaceLease &operator=(const WorkspaceLease &) = delete;
  Workspace *get() { return workspace_.get(); }

 private:
  Group *group_;
  std::unique_ptr<Workspace> workspace_;
};

std::shared_mutex g_groups_mutex;
std::atomic<radam_operator_builder> g_builder{nullptr};

// Never destroyed: an executor's thread may still run while the process exits.
std::unordered_map<int64_t, std::shared_ptr<Group>> &groups() {
  static auto *map = new std::unordered_map<int64_t, std::shared_ptr<Group>>();
  return *map;
}

std::shared_ptr<Group> find_group(int64_t key) {
  std::shared_lock<std::shared_mutex> lock(g_groups_mutex);
  const auto found = groups().find(key);
  return found == groups().end() ? nullptr : found->second;
}

void write_message(char *message, int64_t size, const std::string &text) {
  if (message == nullptr || size < 1) {
    return;
  }
  const size_t length = std::min(text.size(), static_cast<size_t>(size - 1));
  std::memcpy(message, text.data(), length);
  message[length] = '\0';
}

// ---- Tensors of dynamic graph -------------------------------------------------------------------

// What Paddle declares in paddle/utils/pybind.h, which wants the headers of Python: the tensor in a
// Python object, or an exception. By its linker name, as it is looked up in a module that other
// versions of Paddle may lack it in, and that nothing else here needs.
using TensorOfObject = paddle::Tensor &(*)(void *object, ssize_t position);
constexpr char kTensorOfObject[] = "_ZN6paddle6pybind16CastPyArg2TensorEP7_objectl";
std::atomic<TensorOfObject> g_tensor_of_object{nullptr};

// The dense tensor in a Python object; nullptr where there is something else in it, or nothing.
const phi::DenseTensor *dense_tensor_of(TensorOfObject tensor_of, void *object) {
  if (object == nullptr) {
    return nullptr;
  }
  const paddle::Tensor &tensor = tensor_of(object, 0);
  if (!tensor.defined() || !tensor.is_dense_tensor()) {
    return nullptr;
  }
  return static_cast<const phi::DenseTensor *>(tensor.impl().get());
}

bool is_same(const phi::DDim &one, const phi::DDim &other) {
  return one.size() == other.size() && std::equal(one.Get(), one.Get() + one.size(), other.Get());
}

// Whether a kernel can work on numel elements of a tensor; sets their address, NULL if there are none.
bool find_elements(const phi::DenseTensor &tensor, int64_t numel, void **address) {
  *address = nullptr;
  if (numel == 0) {
    return true;
  }
  const phi::Allocation *memory = tensor.Holder().get();
  if (memory == nullptr || memory->place().GetType() != phi::AllocationType::CPU ||
      memory->size() < tensor.meta().offset + numel * phi::SizeOf(tensor.meta().dtype)) {
    return false;
  }
  *address = static_cast<char *>(memory->ptr()) + tensor.meta().offset;
  return true;
}

constexpr int64_t kRoles = RADAM_MASTER + 1;

// Reads one row; returns the role of the first object that cannot be used, or -1.
int32_t read_row(TensorOfObject tensor_of, const radam_objects &objects, void *grad,
                 radam_tensor *row, int32_t *dtypes) {
  void *const in_order[] = {objects.param, grad, objects.moment1, objects.moment2, objects.master};
  void *addresses[] = {nullptr, nullptr, nullptr, nullptr, nullptr};
  const int64_t roles = objects.master == nullptr ? RADAM_MASTER : kRoles;
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

}  // namespace

// ---- C interface --------------------------------------------------------------------------------

extern "C" {

uint32_t radam_operator_abi_version(void) { return RADAM_CODEGEN_ABI_VERSION; }

int32_t radam_operator_register(int64_t key, const radam_kernel *kernel,
                                const radam_numbers *numbers,
                                const radam_tensor_numbers *tensor_numbers,
                                const radam_operator_inputs *inputs, int64_t tensor_count) {
  if (kernel == nullptr || numbers == nullptr || tensor_count < 0 ||
      ((tensor_numbers == nullptr || inputs == nullptr) && tensor_count > 0)) {
    return 3;
  }
  if (kernel->abi_version != RADAM_CODEGEN_ABI_VERSION || kernel->chunk != RADAM_CODEGEN_CHUNK) {
    return 1;
  }
  for (int64_t i = 0; i < tensor_count; ++i) {
    if (tensor_numbers[i].body < 0 ||
        static_cast<uint32_t>(tensor_numbers[i].body) >= kernel->body_count) {
      return 2;
    }
  }
  auto group = std::make_shared<Group>(kernel, *numbers, tensor_numbers, inputs, tensor_count);
  std::unique_lock<std::shared_mutex> lock(g_groups_mutex);
  groups()[key] = std::move(group);
  return 0;
}

int32_t radam_operator_forget(int64_t key) {
  std::unique_lock<std::shared_mutex> lock(g_groups_mutex);
  return groups().erase(key) == 1 ? 0 : 1;
}

int32_t radam_operator_contains(int64_t key) { return find_group(key) == nullptr ? 0 : 1; }

void radam_operator_set_builder(radam_operator_builder builder) {
  g_builder.store(builder, std::memory_order_release);
}

void radam_operator_set_threads(int32_t threads) {
  g_threads.store(std::max(threads, 1), std::memory_order_relaxed);
}

int32_t radam_operator_set_openmp(const char *path) {
  // The handle is kept: closing it could unload the runtime under our feet.
  void *handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) {
    return 1;
  }
  OpenMp found;
  found.parallel = reinterpret_cast<decltype(found.parallel)>(dlsym(handle, "GOMP_parallel"));
  found.thread_number =
      reinterpret_cast<decltype(found.thread_number)>(dlsym(handle, "omp_get_thread_num"));
  found.thread_count =
      reinterpret_cast<decltype(found.thread_count)>(dlsym(handle, "omp_get_num_threads"));
  if (found.parallel == nullptr || found.thread_number == nullptr ||
      found.thread_count == nullptr) {
    return 2;
  }
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (g_openmp.load(std::memory_order_relaxed) == nullptr) {
    g_openmp_entry_points = found;
    g_openmp.store(&g_openmp_entry_points, std::memory_order_release);
  }
  return 0;
}

int32_t radam_operator_run(int64_t key, const radam_tensor *tensors, int64_t count, int64_t *step,
                           double lr, int32_t found_inf, char *message, int64_t message_size) {
  try {
    const std::shared_ptr<Group> group = find_group(key);
    if (group == nullptr) {
      write_message(message, message_size,
                    "no group is registered under the key " + std::to_string(key));
      return 1;
    }
    if (count != group->tensor_count()) {
      write_message(message, message_size,
                    "the group has " + std::to_string(group->tensor_count()) + " tensors, but " +
                        std::to_string(count) + " were given");
      return 2;
    }
    WorkspaceLease workspace(group.get());
    std::copy(tensors, tensors + count, workspace.get()->tensors.begin());
    // Whoever calls this registers the coefficient of the day, so that there is none to give.
    group->run(workspace.get(), step, lr, 0.0, found_inf);
    return 0;
  } catch (const std::bad_alloc &) {
    write_message(message, message_size, "out of memory");
    return 3;
  }
}

int32_t radam_operator_set_python_module(const char *path) {
  // The handle is kept, as in radam_operator_set_openmp.
  void *handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) {
    return 1;
  }
  const auto found = reinterpret_cast<TensorOfObject>(dlsym(handle, kTensorOfObject));
  g_tensor_of_object.store(found, std::memory_order_release);
  return found == nullptr ? 2 : 0;
}

int64_t radam_operator_read_tensors(const radam_objects *objects, void *const *grads, int64_t count,
                                    radam_tensor *tensors, int32_t *dtypes) {
  const TensorOfObject tensor_of = g_tensor_of_object.load(std::memory_order_acquire);
  if (tensor_of == nullptr) {
    return -1;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int32_t unusable = read_row(tensor_of, objects[i], grads[i], &tensors[i], dtypes + kRoles * i);
    if (unusable >= 0) {
      return 1 + kRoles * i + unusable;
    }
  }
  return 0;
}

}  // extern "C"

// ---- Paddle operators ---------------------------------------------------------------------------

namespace {

using paddle::CustomOpKernelContext;
using paddle::DataType;
using paddle::Tensor;

// One function per kind of error keeps Paddle's formatting templates, which are slow to compile, to
// one use each. Paddle raises these in Python as ValueError, RuntimeError and OSError.
[[noreturn]] void throw_invalid_argument(const std::string &message) {
  PADDLE_THROW(common::errors::InvalidArgument("%s", message));
}

[[noreturn]] void throw_precondition_not_met(const std::string &message) {
  PADDLE_THROW(common::errors::PreconditionNotMet("%s", message));
}

[[noreturn]] void throw_builder_failure(const std::string &message) {
  PADDLE_THROW(common::errors::External("%s", message));
}

std::string count_of(int64_t count, const char *noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// Has the builder register the key's group; returns the group or throws the builder's message.
std::shared_ptr<Group> build_group(int64_t key, const std::string &launch) {
  const radam_operator_builder builder = g_builder.load(std::memory_order_acquire);
  if (builder == nullptr) {
    throw_precondition_not_met(
        "radam_codegen: this process has no builder of kernels, although the operator is loaded. "
        "Load the operator through radam_codegen, not by itself.");
  }
  // Long enough for a compiler's first error with its source line, command and log.
  std::vector<char> message(1 << 16, '\0');
  const int32_t status =
      builder(key, launch.c_str(), message.data(), static_cast<int64_t>(message.size()));
  if (status != 0) {
    throw_builder_failure(message.data());
  }
  std::shared_ptr<Group> group = find_group(key);
  if (group == nullptr) {
    throw_precondition_not_met("radam_codegen: the builder registered no group under the key " +
                               std::to_string(key) + ".");
  }
  return group;
}

int64_t key_of(const CustomOpKernelContext &context) { return context.AttrAt<int64_t>(0); }

const std::string &launch_of(const CustomOpKernelContext &context) {
  // By reference: the text can be long, and a step reads it only when its group is missing.
  return *paddle::any_cast<std::string>(&context.Attrs().at(1));
}

// Input number `input` of an operator: one tensor, or the tensors of a Vec.
class Input {
 public:
  Input(const CustomOpKernelContext &context, size_t input, const char *role)
      : context_(context), range_(context.InputRangeAt(input)), role_(role) {}

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

  int64_t numel(int64_t index) const { return checked(index).numel(); }

  DataType dtype() const { return tensor(0).dtype(); }

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
    if (!tensor.is_cpu()) {
      throw_invalid_argument("radam_codegen: " + name(index) +
                             " is not on the CPU, for which this kernel was generated.");
    }
    return const_cast<void *>(tensor.data());
  }

  [[noreturn]] void throw_wrong_dtype(const char *expected) const {
    throw_invalid_argument("radam_codegen: " + name(0) + " must be " + expected +
                           ", but is of Paddle's data type number " +
                           std::to_string(static_cast<int>(dtype())) + ".");
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

  const CustomOpKernelContext &context_;
  const std::pair<size_t, size_t> range_;
  const char *role_;
};

int64_t *step_counts(const CustomOpKernelContext &context, size_t input, int64_t tensor_count) {
  const Input step(context, input, "tensor of step counts");
  int64_t *counts = static_cast<int64_t *>(step.address(0, tensor_count));
  if (step.dtype() != DataType::INT64) {
    step.throw_wrong_dtype("int64");
  }
  return counts;
}

double read_number(const Input &number) {
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

int32_t read_found_inf(const CustomOpKernelContext &context, size_t input) {
  const Input found_inf(context, input, "found_inf flag");
  if (found_inf.absent()) {
    return 0;
  }
  const void *data = found_inf.address(0, 1);
  if (found_inf.dtype() != DataType::BOOL) {
    found_inf.throw_wrong_dtype("bool");
  }
  return *static_cast<const bool *>(data) ? 1 : 0;
}

void run_build(CustomOpKernelContext *context) {
  // Always asked for, also when the group is there: a startup program that runs again after a
  // failure must try again, and what the builder finds done costs it next to nothing.
  const std::shared_ptr<Group> group = build_group(key_of(*context), launch_of(*context));
  step_counts(*context, 0, group->tensor_count());
}

void run_step(CustomOpKernelContext *context) {
  const int64_t key = key_of(*context);
  std::shared_ptr<Group> group = find_group(key);
  if (group == nullptr) {
    group = build_group(key, launch_of(*context));
  }
  const int64_t count = group->tensor_count();
  const Input params(*context, 0, "parameter");
  const Input grads(*context, 1, "gradient");
  const Input moment1s(*context, 2, "moment1");
  const Input moment2s(*context, 3, "moment2");
  const Input masters(*context, 6, "master weight");
  params.check_count(count);
  grads.check_count(count);
  moment1s.check_count(count);
  moment2s.check_count(count);
  if (group->master_count() > 0 || !masters.absent()) {
    masters.check_count(group->master_count());
  }
  int64_t *step = step_counts(*context, 4, count);
  const double lr = read_number(Input(*context, 5, "learning rate"));
  const double weight_decay = group->wants_weight_decay()
                                  ? read_number(Input(*context, 8, "weight decay"))
                                  : 0.0;
  const int32_t found_inf = read_found_inf(*context, 7);

  WorkspaceLease workspace(group.get());
  std::vector<radam_tensor> &tensors = workspace.get()->tensors;
  int64_t master = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t numel = params.numel(i);
    radam_tensor &tensor = tensors[i];
    tensor.numel = numel;
    tensor.param = params.address(i, numel);
    tensor.grad = grads.address(i, numel);
    tensor.moment1 = moment1s.address(i, numel);
    tensor.moment2 = moment2s.address(i, numel);
    tensor.master = group->has_master(i) ? masters.address(master++, numel) : nullptr;
  }
  group->run(workspace.get(), step, lr, weight_decay, found_inf);
}

}  // namespace

PD_BUILD_OP(radam_codegen_build)
    .Inputs({"Step"})
    .Outputs({"StepOut"})
    .SetInplaceMap({{"Step", "StepOut"}})
    .Attrs({"key: int64_t", "launch: std::string"})
    .SetKernelFn(run_build);

PD_BUILD_OP(radam_codegen_step)
    .Inputs({paddle::Vec("Param"), paddle::Vec("Grad"), paddle::Vec("Moment1"),
             paddle::Vec("Moment2"), "Step", "LearningRate",
             paddle::Optional(paddle::Vec("Master")), paddle::Optional("FoundInf"),
             paddle::Optional("WeightDecay")})
    .Outputs({paddle::Vec("ParamOut"), paddle::Vec("Moment1Out"), paddle::Vec("Moment2Out"),
              "StepOut", paddle::Optional(paddle::Vec("MasterOut"))})
    .SetInplaceMap({{paddle::Vec("Param"), paddle::Vec("ParamOut")},
                    {paddle::Vec("Moment1"), paddle::Vec("Moment1Out")},
                    {paddle::Vec("Moment2"), paddle::Vec("Moment2Out")},
                    {"Step", "StepOut"},
                    {paddle::Optional(paddle::Vec("Master")),
                     paddle::Optional(paddle::Vec("MasterOut"))}})
    .Attrs({"key: int64_t", "launch: std::string"})
    .SetKernelFn(run_step);

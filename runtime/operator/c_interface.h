// The functions of <radam_codegen/operator.h>.
#ifndef RADAM_CODEGEN_OPERATOR_C_INTERFACE_H
#define RADAM_CODEGEN_OPERATOR_C_INTERFACE_H

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include <radam_codegen/operator.h>

#include "cpu_group.h"
#include "cuda_group.h"
#include "freed_memory.h"
#include "object_tensors.h"
#include "program_fingerprint.h"
#include "registry.h"
#include "threads.h"

namespace radam_codegen {

inline void write_message(char *message, int64_t size, const std::string &text) {
  if (message == nullptr || size < 1) {
    return;
  }
  const size_t length = std::min(text.size(), static_cast<size_t>(size - 1));
  std::memcpy(message, text.data(), length);
  message[length] = '\0';
}

// What is wrong with a group, as radam_operator_register says it; 0 where nothing is.
inline int32_t check_registration(const radam_numbers *numbers,
                                  const radam_tensor_numbers *tensor_numbers,
                                  const radam_operator_inputs *inputs, int64_t tensor_count,
                                  uint32_t body_count) {
  if (numbers == nullptr || tensor_count < 0 ||
      ((tensor_numbers == nullptr || inputs == nullptr) && tensor_count > 0)) {
    return 3;
  }
  for (int64_t i = 0; i < tensor_count; ++i) {
    if (tensor_numbers[i].body < 0 ||
        static_cast<uint32_t>(tensor_numbers[i].body) >= body_count) {
      return 2;
    }
    if (inputs[i].storage < 0 || inputs[i].offset < 0) {
      return 5;
    }
  }
  return 0;
}

// Calls work, which returns why it refused, with the group of a key, and a workspace that holds the
// tensors. Returns as radam_operator_run does.
template <typename Work>
int32_t with_workspace(int64_t key, const radam_tensor *tensors, int64_t count, char *message,
                       int64_t message_size, const Work &work) {
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
    CpuGroup *cpu = group->cpu();
    if (cpu == nullptr) {
      write_message(message, message_size, "its kernel is for a GPU");
      return 4;
    }
    WorkspaceLease workspace(cpu);
    std::copy(tensors, tensors + count, workspace.get()->tensors.begin());
    const std::string refusal = work(cpu, workspace.get());
    if (!refusal.empty()) {
      write_message(message, message_size, refusal);
      return 5;
    }
    return 0;
  } catch (const std::bad_alloc &) {
    write_message(message, message_size, "out of memory");
    return 3;
  }
}

}  // namespace radam_codegen

extern "C" {

uint32_t radam_operator_abi_version(void) { return RADAM_CODEGEN_ABI_VERSION; }

int32_t radam_operator_register(int64_t key, const radam_kernel *kernel,
                                const radam_numbers *numbers,
                                const radam_tensor_numbers *tensor_numbers,
                                const radam_operator_inputs *inputs, int64_t tensor_count,
                                int32_t drops_results) {
  using namespace radam_codegen;
  if (kernel == nullptr) {
    return 3;
  }
  if (kernel->abi_version != RADAM_CODEGEN_ABI_VERSION || kernel->chunk != RADAM_CODEGEN_CHUNK) {
    return 1;
  }
  const int32_t fault =
      check_registration(numbers, tensor_numbers, inputs, tensor_count, kernel->body_count);
  if (fault == 0) {
    keep_group(key, std::make_shared<CpuGroup>(kernel, *numbers, tensor_numbers, inputs,
                                               tensor_count, drops_results != 0));
  }
  return fault;
}

int32_t radam_operator_register_cuda(int64_t key, const radam_cuda_kernel *kernel,
                                     const radam_numbers *numbers,
                                     const radam_tensor_numbers *tensor_numbers,
                                     const radam_operator_inputs *inputs, int64_t tensor_count) {
  using namespace radam_codegen;
#ifndef RADAM_CODEGEN_WITH_CUDA
  (void)key, (void)kernel, (void)numbers, (void)tensor_numbers, (void)inputs, (void)tensor_count;
  return 4;
#else
  if (kernel == nullptr) {
    return 3;
  }
  if (kernel->abi_version != RADAM_CODEGEN_CUDA_ABI_VERSION) {
    return 1;
  }
  const int32_t fault =
      check_registration(numbers, tensor_numbers, inputs, tensor_count, kernel->body_count);
  if (fault == 0) {
    keep_group(key, std::make_shared<CudaGroup>(kernel, *numbers, tensor_numbers, inputs,
                                                tensor_count));
  }
  return fault;
#endif
}

int32_t radam_operator_forget(int64_t key) { return radam_codegen::forget_group(key) ? 0 : 1; }

int32_t radam_operator_contains(int64_t key) {
  return radam_codegen::find_group(key) == nullptr ? 0 : 1;
}

void radam_operator_set_builder(radam_operator_builder builder) {
  radam_codegen::g_builder.store(builder, std::memory_order_release);
}

void radam_operator_set_threads(int32_t threads) {
  radam_codegen::g_threads.store(std::max(threads, 1), std::memory_order_relaxed);
}

int32_t radam_operator_keep_freed_memory(void) {
  return radam_codegen::keep_freed_memory() ? 0 : 1;
}

int32_t radam_operator_set_openmp(const char *path) { return radam_codegen::use_openmp(path); }

int32_t radam_operator_run(int64_t key, const radam_tensor *tensors, int64_t count, int64_t *step,
                           double lr, int32_t found_inf, char *message, int64_t message_size) {
  // Whoever calls this registers the coefficient of the day, so that there is none to give.
  return radam_codegen::with_workspace(
      key, tensors, count, message, message_size, [&](auto *group, auto *workspace) {
        return group->run(workspace, step, lr, 0.0, found_inf);
      });
}

int32_t radam_operator_check(int64_t key, const radam_tensor *tensors, int64_t count, char *message,
                             int64_t message_size) {
  return radam_codegen::with_workspace(
      key, tensors, count, message, message_size,
      [](auto *group, auto *workspace) { return group->why_not(workspace); });
}

int32_t radam_operator_set_python_module(const char *path) {
  // The handle is kept, as in use_openmp.
  void *module = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (module == nullptr) {
    return 1;
  }
  const bool objects = radam_codegen::read_objects_with(module);
  const bool programs = radam_codegen::read_programs_with(module);
  return objects && programs ? 0 : 2;
}

int32_t radam_operator_fingerprint(const void *block, uint64_t *fingerprint) {
  try {
    return radam_codegen::fingerprint(static_cast<const pir::Block *>(block), fingerprint);
  } catch (const std::bad_alloc &) {
    return -1;
  }
}

int64_t radam_operator_read_tensors(const radam_objects *objects, void *const *grads, int64_t count,
                                    radam_tensor *tensors, int32_t *dtypes) {
  using namespace radam_codegen;
  const TensorOfObject tensor_of = g_tensor_of_object.load(std::memory_order_acquire);
  if (tensor_of == nullptr) {
    return -1;
  }
  for (int64_t i = 0; i < count; ++i) {
    const int32_t unusable =
        read_row(tensor_of, objects[i], grads[i], &tensors[i], dtypes + kRoles * i);
    if (unusable >= 0) {
      return 1 + kRoles * i + unusable;
    }
  }
  return 0;
}

}  // extern "C"

#endif  // RADAM_CODEGEN_OPERATOR_C_INTERFACE_H

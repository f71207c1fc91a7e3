// One step of a group on the CPU.
#ifndef RADAM_CODEGEN_OPERATOR_CPU_STEP_H
#define RADAM_CODEGEN_OPERATOR_CPU_STEP_H

#include <string>

#include "cpu_group.h"
#include "inputs.h"

namespace radam_codegen {

inline void run_cpu_step(const CustomOpKernelContext &context, int64_t key, CpuGroup *group) {
  const phi::Place place = phi::CPUPlace();
  WorkspaceLease workspace(group);
  read_tensors(context, *group, place, workspace.get()->tensors.data());
  int64_t *step = step_counts(context, kStep, group->tensor_count(), place);
  const double lr = read_number(Input(context, kLearningRate, "learning rate"));
  const double weight_decay =
      group->wants_weight_decay() ? read_number(Input(context, kWeightDecay, "weight decay")) : 0.0;
  const uint8_t *found_inf = flag_address(Input(context, kFoundInf, "found_inf flag"));
  const std::string refusal =
      group->run(workspace.get(), step, lr, weight_decay, found_inf != nullptr && *found_inf != 0);
  if (!refusal.empty()) {
    throw_shared_memory(key, refusal);
  }
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_CPU_STEP_H

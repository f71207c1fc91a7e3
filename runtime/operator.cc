// The Paddle operators of radam_codegen, and the registry that they look their kernels up in.
//
//   radam_codegen_build   in a startup program: has a group's kernel built and registered
//   radam_codegen_step    in a main program: one fused RAdam step over a group of tensors
//
// Both carry the group's key, and a text (opaque here) from which the builder can make the group
// anew. The builder is Python, called through a C function pointer; nothing here knows Python.
//
// One file is compiled, as every other one would read Paddle's headers anew. Groups of CUDA kernels
// are known where RADAM_CODEGEN_WITH_CUDA is defined, which wants none of CUDA's headers.

#include <memory>
#include <string>
#include <vector>

#include "paddle/phi/api/ext/op_meta_info.h"

#include "operator/c_interface.h"
#include "operator/cpu_step.h"
#ifdef RADAM_CODEGEN_WITH_CUDA
#include "operator/cuda_step.h"
#endif
#include "operator/inputs.h"
#include "operator/raise.h"
#include "operator/registry.h"
#include "operator/results.h"

namespace radam_codegen {
namespace {

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
    throw_external(message.data());
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

void run_build(CustomOpKernelContext *context) {
  // Always asked for, also when the group is there: a startup program that runs again after a
  // failure must try again, and what the builder finds done costs it next to nothing.
  const std::shared_ptr<Group> group = build_group(key_of(*context), launch_of(*context));
  step_counts(*context, 0, group->tensor_count(), place_of(group.get(), *context, 0));
}

void run_step(CustomOpKernelContext *context) {
  const int64_t key = key_of(*context);
  std::shared_ptr<Group> group = find_group(key);
  if (group == nullptr) {
    group = build_group(key, launch_of(*context));
  }
#ifdef RADAM_CODEGEN_WITH_CUDA
  if (CudaGroup *cuda = group->cuda()) {
    run_cuda_step(*context, key, cuda);
    return;
  }
#endif
  run_cpu_step(*context, key, group->cpu());
  if (group->cpu()->drops_results()) {
    drop_results(context);
  }
}

}  // namespace
}  // namespace radam_codegen

PD_BUILD_OP(radam_codegen_build)
    .Inputs({"Step"})
    .Outputs({"StepOut"})
    .SetInplaceMap({{"Step", "StepOut"}})
    .Attrs({"key: int64_t", "launch: std::string"})
    .SetKernelFn(radam_codegen::run_build);

// In the order of StepInput.
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
    .SetKernelFn(radam_codegen::run_step);

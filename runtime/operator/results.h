// What becomes of the results of a step when nobody reads them.
#ifndef RADAM_CODEGEN_OPERATOR_RESULTS_H
#define RADAM_CODEGEN_OPERATOR_RESULTS_H

#include "inputs.h"

namespace radam_codegen {

// The inputs that the results are in place of, in the order of the results.
constexpr StepInput kInputsOfResults[] = {kParam, kMoment1, kMoment2, kStep, kMaster};

// Lets go of the memory of all results: that of the inputs, which stay as they are.
//
// In a PIR program a result is a tensor of its own, which the executor has share the memory of its
// input in every run. Afterwards it has another thread free them all, a task for each, and to wake
// that thread takes longer than a step over some ten thousand elements. It passes over a tensor
// without memory.
inline void drop_results(CustomOpKernelContext *context) {
  size_t result = 0;
  for (const StepInput input : kInputsOfResults) {
    const auto inputs = context->InputRangeAt(input);
    const auto results = context->OutputRangeAt(result++);
    for (size_t i = results.first; i < results.second; ++i) {
      const Tensor *tensor = context->MutableOutputAt(i);
      const size_t of = inputs.first + (i - results.first);
      // Nothing is let go of that the input itself would lose.
      if (dense_tensor_in(*tensor) != nullptr && of < inputs.second &&
          tensor->impl() != context->InputAt(of).impl()) {
        static_cast<phi::DenseTensor *>(tensor->impl().get())->MoveMemoryHolder();
      }
    }
  }
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_RESULTS_H

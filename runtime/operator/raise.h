// Errors as Paddle raises them. One function per kind keeps Paddle's formatting templates, which are
// slow to compile, to one use each. In Python these are ValueError, RuntimeError and OSError.
#ifndef RADAM_CODEGEN_OPERATOR_RAISE_H
#define RADAM_CODEGEN_OPERATOR_RAISE_H

#include <cstdint>
#include <string>

#include "paddle/common/enforce.h"

namespace radam_codegen {

[[noreturn]] inline void throw_invalid_argument(const std::string &message) {
  PADDLE_THROW(common::errors::InvalidArgument("%s", message));
}

// Python puts names for the numbers of tensors, in the group of the key.
[[noreturn]] inline void throw_shared_memory(int64_t key, const std::string &refusal) {
  throw_invalid_argument("radam_codegen: in group " + std::to_string(key) + ", " + refusal + ".");
}

[[noreturn]] inline void throw_precondition_not_met(const std::string &message) {
  PADDLE_THROW(common::errors::PreconditionNotMet("%s", message));
}

[[noreturn]] inline void throw_external(const std::string &message) {
  PADDLE_THROW(common::errors::External("%s", message));
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_RAISE_H

// Errors as Paddle raises them. One function per kind keeps Paddle's formatting templates, which are
// slow to compile, to one use each. In Python these are ValueError, RuntimeError and OSError.
#ifndef RADAM_CODEGEN_OPERATOR_RAISE_H
#define RADAM_CODEGEN_OPERATOR_RAISE_H

#include <string>

#include "paddle/common/enforce.h"

namespace radam_codegen {

[[noreturn]] inline void throw_invalid_argument(const std::string &message) {
  PADDLE_THROW(common::errors::InvalidArgument("%s", message));
}

[[noreturn]] inline void throw_precondition_not_met(const std::string &message) {
  PADDLE_THROW(common::errors::PreconditionNotMet("%s", message));
}

[[noreturn]] inline void throw_external(const std::string &message) {
  PADDLE_THROW(common::errors::External("%s", message));
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_RAISE_H

// In the place of Paddle's header of this name, which wants the headers of cuBLAS, cuDNN, cuFFT,
// cuRAND, cuSPARSE and Thrust where PADDLE_WITH_CUDA is defined: for what goes wrong in those
// libraries, of which the operator calls none.
#pragma once

#include "paddle/common/enforce.h"

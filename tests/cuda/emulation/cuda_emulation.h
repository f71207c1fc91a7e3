/* Stands in for CUDA's own header where g++ compiles a generated kernel, as it is, to run it on the
 * CPU:
 *
 *   g++ -x c++ -include cuda_emulation.h -DCUDART_VERSION=12000 -shared ... kernel.cu
 *
 * It declares what generated kernels use, and no more: whatever else CUDA offers does not compile. The
 * process that loads such a library runs its threads; see scheduler.h. */
#ifndef CUDA_EMULATION_H
#define CUDA_EMULATION_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cfenv>

#ifndef CUDART_VERSION
#error "define CUDART_VERSION: it decides how many bytes of arguments a kernel takes"
#endif

namespace emulation {

struct Index {
    unsigned x, y, z;
};

/* A launch that was asked for. Nothing runs before the driver says so, as on a stream. */
struct Launch {
    Index grid;
    Index block;
    void *stream;
    size_t argument_bytes;
    const void *kernel;
    void (*run)(const void *call); /* one thread of it */
    const void *call;              /* kernel and copies of its arguments */
    char *shared_begin;            /* the library's shared memory */
    char *shared_end;
};

int enqueue(const Launch &launch);
unsigned thread_index();
unsigned block_index();
unsigned block_size();
unsigned grid_size();
void barrier(int line);
uint64_t shuffle_down(int line, unsigned mask, uint64_t bits, unsigned delta, int width);

/* A variable that each thread has its own value of. */
template <unsigned (*value)()>
struct PerThread {
    struct {
        operator unsigned() const { return value(); }
    } x;
};

/* Where an operation is rounded towards zero. */
class TowardsZero {
public:
    TowardsZero() : before_(std::fegetround()) { std::fesetround(FE_TOWARDZERO); }
    ~TowardsZero() { std::fesetround(before_); }

private:
    int before_;
};

} // namespace emulation

/* ---- The language ---------------------------------------------------------------------------- */

#define __host__
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
/* One memory for all blocks, which the scheduler changes over from block to block. */
#define __shared__ static __attribute__((section("emulated_shared")))

static const emulation::PerThread<emulation::thread_index> threadIdx = {};
static const emulation::PerThread<emulation::block_index> blockIdx = {};
static const emulation::PerThread<emulation::block_size> blockDim = {};
static const emulation::PerThread<emulation::grid_size> gridDim = {};

#define __syncthreads() (emulation::barrier(__LINE__))
#define __shfl_down_sync(...) (emulation_shuffle_down(__LINE__, __VA_ARGS__))

static inline double emulation_shuffle_down(
    int line, unsigned mask, double value, unsigned delta, int width = 32)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = emulation::shuffle_down(line, mask, bits, delta, width);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- Arithmetic: what the CPU does, too, is rounded to nearest --------------------------------- */

static inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
static inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
static inline double __dsqrt_rn(double a) { return __builtin_sqrt(a); }

static inline float __fmaf_rz(float a, float b, float c)
{
    const emulation::TowardsZero rounding;
    volatile float result = __builtin_fmaf(a, b, c);
    return result;
}

static inline float __fdiv_rz(float a, float b)
{
    const emulation::TowardsZero rounding;
    volatile float dividend = a;
    volatile float result = dividend / b;
    return result;
}

/* ---- The host's side ---------------------------------------------------------------------------- */

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorLaunchOutOfResources = 701
};

typedef struct emulated_stream *cudaStream_t;

struct cudaLaunchConfig_t {
    dim3 gridDim;
    dim3 blockDim;
    size_t dynamicSmemBytes;
    cudaStream_t stream;
};

cudaError_t cudaGetDeviceCount(int *count);
const char *cudaGetErrorString(cudaError_t error);

/* The linker's names for the ends of a section; null in a kernel that has no shared memory. */
extern "C" char __start_emulated_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_emulated_shared[] __attribute__((weak, visibility("hidden")));

template <typename... Parameters, typename... Arguments>
static cudaError_t cudaLaunchKernelEx(
    const cudaLaunchConfig_t *config, void (*kernel)(Parameters...), const Arguments &...arguments)
{
    const auto call = [=]() __attribute__((no_sanitize("thread"))) { kernel(arguments...); };
    typedef decltype(call) Call;
    emulation::Launch launch = {};
    launch.grid = {config->gridDim.x, config->gridDim.y, config->gridDim.z};
    launch.block = {config->blockDim.x, config->blockDim.y, config->blockDim.z};
    launch.stream = config->stream;
    launch.argument_bytes = (sizeof(Parameters) + ...);
    launch.kernel = reinterpret_cast<const void *>(kernel);
    launch.run = [](const void *of) __attribute__((no_sanitize("thread"))) {
        (*static_cast<const Call *>(of))();
    };
    launch.call = new Call(call); /* stays: a graph may run it again */
    launch.shared_begin = __start_emulated_shared;
    launch.shared_end = __stop_emulated_shared;
    return static_cast<cudaError_t>(emulation::enqueue(launch));
}

#endif /* CUDA_EMULATION_H */

/* Finds CUDA kernels by name in a library that was built from standalone sources.
 *
 * What `radam-codegen aot --standalone --target cuda` writes implements these functions; a kernel
 * that is a shared library of its own has radam_codegen_cuda_kernel() of cuda_kernel.h instead.
 */
#ifndef RADAM_CODEGEN_CUDA_REGISTRY_H
#define RADAM_CODEGEN_CUDA_REGISTRY_H

#include <radam_codegen/cuda_kernel.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* The kernel of a name, such as "radam_no_clip__f32_no_decay"; NULL where there is none. */
const radam_cuda_kernel *radam_find_cuda_kernel(const char *name);

/* Number of kernels in the library. */
int64_t radam_cuda_kernel_count(void);

/* Kernels by number, from 0, in the order of their names; NULL for any other number. */
const radam_cuda_kernel *radam_cuda_kernel_at(int64_t number);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif /* RADAM_CODEGEN_CUDA_REGISTRY_H */

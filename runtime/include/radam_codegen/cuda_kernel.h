/* Public C header of the radam_codegen kernel ABI for CUDA.
 *
 * A CUDA kernel is a shared library that exports one function, radam_codegen_cuda_kernel(), which
 * describes one fused RAdam step over a group of tensors in device memory. Loading the library needs
 * neither a GPU nor a driver; device_count() says whether there is one.
 *
 * step() starts everything on a stream and returns. It allocates nothing, waits for nothing, and
 * reads no device memory on the host, so it can be captured in a CUDA graph: step counts, learning
 * rate, run-time weight decay and found_inf are read on the device when the graph runs. A graph keeps
 * the addresses and the host's numbers that it was captured with.
 *
 * Results are the same for every GPU and every grid, and those of the C kernel of the same IR: norms
 * are summed over the same chunks in the same order.
 *
 * Plain C without CUDA's headers. The part between the two cffi marks is read by cffi as it stands.
 */
#ifndef RADAM_CODEGEN_CUDA_KERNEL_H
#define RADAM_CODEGEN_CUDA_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include <radam_codegen/kernel.h>

/* Raised whenever a struct here, or one of kernel.h that is used here, or the meaning of a function
 * changes. A kernel of another version is refused when it is loaded. */
#define RADAM_CODEGEN_CUDA_ABI_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* cffi: begin */

/* Type of a number in device memory. */
typedef enum radam_cuda_dtype {
    RADAM_CUDA_FLOAT64 = 0,
    RADAM_CUDA_FLOAT32 = 1,
    RADAM_CUDA_BFLOAT16 = 2,
    RADAM_CUDA_FLOAT16 = 3
} radam_cuda_dtype;

typedef struct radam_cuda_group {
    /* In host memory; not read once step() has returned. */
    const radam_tensor *tensors;                /* tensor_count entries, of device addresses */
    const radam_tensor_numbers *tensor_numbers; /* tensor_count entries */
    const uint8_t *decay_at_run_time; /* tensor_count entries, not 0: weight_decay stands in for the
                                         tensor's decay; NULL: no tensor has that */
    int64_t tensor_count;
    radam_numbers numbers;

    /* In device memory; must stay until the step has run. */
    int64_t *step;             /* tensor_count entries: steps done so far, counted up in place */
    const void *lr;            /* learning rate of this step, one number of type lr_dtype */
    const void *weight_decay;  /* one number of type weight_decay_dtype; NULL where none is read */
    const uint8_t *found_inf;  /* not 0: skip the step (kernels with the skip flag only); NULL: go on */
    void *workspace;           /* aligned to 16 bytes; nothing in it lasts from step to step */

    uint64_t workspace_bytes;  /* at least workspace_size() */
    int32_t lr_dtype;          /* a radam_cuda_dtype */
    int32_t weight_decay_dtype;
} radam_cuda_group;

/* Functions that return int32_t return 0 or the number of a cudaError. */
typedef struct radam_cuda_kernel {
    uint32_t abi_version;  /* RADAM_CODEGEN_CUDA_ABI_VERSION of the header it was compiled with */
    uint32_t body_count;   /* valid values of radam_tensor_numbers.body: 0 to body_count - 1 */
    const char *name;      /* readable identifier of the kernel's structure */
    const char *ir_sha256; /* hash of the IR that the source was rendered from */

    /* Bytes of workspace that a step needs; of the group, only the tensors' sizes are read. */
    uint64_t (*workspace_size)(const radam_cuda_group *group);
    /* Starts one step on a stream, a cudaStream_t, of the current device. */
    int32_t (*step)(const radam_cuda_group *group, void *stream);
    /* Counts the GPUs. 35: no driver, or one that is too old; 100: no GPU. */
    int32_t (*device_count)(int32_t *count);
    /* What CUDA says that an error means. */
    const char *(*error_text)(int32_t error);
} radam_cuda_kernel;

const radam_cuda_kernel *radam_codegen_cuda_kernel(void);

/* cffi: end */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif /* RADAM_CODEGEN_CUDA_KERNEL_H */

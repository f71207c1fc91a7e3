/* Public C header of the radam_codegen kernel ABI.
 *
 * A kernel is a shared library that exports one function, radam_codegen_kernel(), which describes
 * three phases of one fused RAdam step over a group of tensors. A launcher calls, in this order:
 *
 *   reduce(group, begin, end)   over disjoint ranges that cover all chunks, on any threads;
 *                               skipped where the pointer is NULL (no norm is needed)
 *   scalar(group)               once, on one thread; returns 0 when the step must be skipped
 *   each(group, begin, end)     over disjoint ranges that cover all chunks, on any threads
 *
 * Results do not depend on how the chunks are spread over threads: every chunk writes its own
 * partial sum, and scalar() adds them up in chunk order.
 *
 * The part between the two cffi marks is plain C declarations, read by cffi as they stand.
 */
#ifndef RADAM_CODEGEN_KERNEL_H
#define RADAM_CODEGEN_KERNEL_H

#include <stdint.h>

/* Raised whenever a struct or the meaning of a phase changes. A kernel of another version is
 * refused when it is loaded. */
#define RADAM_CODEGEN_ABI_VERSION 1

/* Longest range of one tensor that a chunk covers; part of the ABI, as the order in which norms
 * are summed follows from it. */
#define RADAM_CODEGEN_CHUNK 16384

#ifdef __cplusplus
extern "C" {
#endif

/* Kernels are compiled with everything hidden but what this header declares. */
#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* cffi: begin */

/* Where one parameter and its state live. All arrays hold numel elements, are contiguous, and are
 * aligned to their element type. */
typedef struct radam_tensor {
    void *param;      /* updated in place */
    const void *grad; /* only read */
    void *moment1;    /* updated in place */
    void *moment2;    /* updated in place */
    void *master;     /* float32 master weight, updated in place; NULL where there is none */
    int64_t numel;
} radam_tensor;

/* What distinguishes one parameter from its neighbours in the group. */
typedef struct radam_tensor_numbers {
    double lr_scale;   /* multiplies the group's learning rate */
    double decay;      /* coefficient of the L2 or L1 term; unused where the body has no decay */
    int32_t need_clip; /* 0: this gradient is neither clipped nor counted in the group's norm */
    int32_t body;      /* which of the kernel's bodies updates this tensor */
} radam_tensor_numbers;

/* Hyperparameters of the group; unused ones are 0. */
typedef struct radam_numbers {
    double beta1;
    double beta2;
    double epsilon;
    double clip_bound; /* largest norm (clip by norm) or largest value (clip by value) */
    double clip_lower; /* smallest value, clip by value only */
} radam_numbers;

/* Elements [begin, end) of one tensor. Chunks are in tensor order, then in element order; a tensor
 * without elements has no chunk. */
typedef struct radam_chunk {
    int64_t tensor;
    int64_t begin;
    int64_t end;
} radam_chunk;

typedef struct radam_group {
    const radam_tensor *tensors;                /* tensor_count entries */
    const radam_tensor_numbers *tensor_numbers; /* tensor_count entries */
    int64_t *step;                              /* tensor_count entries: steps done so far */
    int64_t tensor_count;
    const radam_chunk *chunks; /* chunk_count entries */
    int64_t chunk_count;
    double *chunk_sums; /* chunk_count entries, written by reduce, read by scalar */
    void *scalars;      /* tensor_count records of scalar_size bytes, written by scalar, read by each */
    radam_numbers numbers;
    double lr;          /* learning rate of this step */
    int32_t found_inf;  /* not 0: skip the step (kernels with the skip flag only) */
} radam_group;

typedef struct radam_kernel {
    uint32_t abi_version;  /* RADAM_CODEGEN_ABI_VERSION of the header it was compiled with */
    uint32_t scalar_size;  /* bytes per record in radam_group.scalars */
    uint32_t body_count;   /* valid values of radam_tensor_numbers.body: 0 to body_count - 1 */
    uint32_t chunk;        /* RADAM_CODEGEN_CHUNK of the header it was compiled with */
    const char *name;      /* readable identifier of the kernel's structure */
    const char *ir_sha256; /* hash of the IR that the source was rendered from */
    void (*reduce)(const radam_group *group, int64_t chunk_begin, int64_t chunk_end);
    int32_t (*scalar)(const radam_group *group);
    void (*each)(const radam_group *group, int64_t chunk_begin, int64_t chunk_end);
} radam_kernel;

const radam_kernel *radam_codegen_kernel(void);

/* cffi: end */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif /* RADAM_CODEGEN_KERNEL_H */

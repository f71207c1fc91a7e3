/* C interface of the operator library: what Python calls through cffi.
 *
 * The library holds a registry from a key to a group: a loaded kernel and the numbers that its
 * tensors need. The Paddle operators radam_codegen_build and radam_codegen_step name a group by its
 * key alone; a group that is missing is asked for from the builder.
 *
 * Functions that return int32_t return 0 for success unless they say otherwise. All of them may be
 * called from any thread.
 */
#ifndef RADAM_CODEGEN_OPERATOR_H
#define RADAM_CODEGEN_OPERATOR_H

#include <radam_codegen/cuda_kernel.h>
#include <radam_codegen/kernel.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif

/* cffi: begin */

/* RADAM_CODEGEN_ABI_VERSION of the header that the library was compiled with. */
uint32_t radam_operator_abi_version(void);

/* What the operator radam_codegen_step is given for one tensor of a group. Types are those of
 * radam_cuda_dtype, on every device. */
typedef struct radam_operator_inputs {
    int32_t param_dtype;
    int32_t grad_dtype;
    int32_t moment_dtype; /* of both moments */
    int32_t master;       /* not 0: the next entry of Master, a float32 tensor, belongs to this one */
    int32_t weight_decay; /* not 0: its decay coefficient is the value of WeightDecay */
    int32_t clipped;      /* not 0: the group clips its gradient */
    int32_t decay_term;   /* not 0: a multiple of its value, or of the sign, is added to its gradient */
    int32_t storage;      /* which entry of Moment1, and of Moment2, its moments are in */
    int64_t offset;       /* elements of that entry before them */
    int64_t storage_size; /* elements of that entry; -1: as many as the parameter has */
} radam_operator_inputs;

/* Makes a group known under a key, in place of one that had the key before. The arrays, which have
 * tensor_count entries, are copied; the kernel must stay loaded for as long as the process runs.
 * drops_results is not 0 where the results of the operator are tensors of their own, beside the inputs
 * that they share memory with, and nobody reads them: a step lets go of that memory then.
 * Returns 1 when the kernel's ABI is not this library's, 2 when a body number is out of range, 3 for
 * a NULL pointer, 5 for a storage or an offset below 0. */
int32_t radam_operator_register(int64_t key, const radam_kernel *kernel,
                                const radam_numbers *numbers,
                                const radam_tensor_numbers *tensor_numbers,
                                const radam_operator_inputs *inputs, int64_t tensor_count,
                                int32_t drops_results);

/* Likewise for a kernel that runs on a GPU, of which the steps find all tensors; results are left as
 * they are. 1 stands for the CUDA kernel ABI. Returns 4 where the library was compiled without RADAM_CODEGEN_WITH_CUDA. */
int32_t radam_operator_register_cuda(int64_t key, const radam_cuda_kernel *kernel,
                                     const radam_numbers *numbers,
                                     const radam_tensor_numbers *tensor_numbers,
                                     const radam_operator_inputs *inputs, int64_t tensor_count);

/* Forgets a group; a step that is running with it finishes. Returns 1 when there was none. */
int32_t radam_operator_forget(int64_t key);

/* 1 when a group is registered under the key, else 0. */
int32_t radam_operator_contains(int64_t key);

/* Called with the key and launch attributes of an operator whose group is wanted; registers the
 * group and returns 0, or writes a message (at most size bytes with the closing NUL, UTF-8) and
 * returns anything else. */
typedef int32_t (*radam_operator_builder)(int64_t key, const char *launch, char *message,
                                          int64_t size);

/* Sets the builder for the whole process; NULL takes it away. */
void radam_operator_set_builder(radam_operator_builder builder);

/* Largest number of threads that one step uses; values below 1 count as 1. */
void radam_operator_set_threads(int32_t threads);

/* Uses the OpenMP runtime at the path for the threads of a step. It must be loaded already, so that
 * the process never gets a second runtime. Returns 1 when it is not loaded, 2 when it lacks an entry
 * point; steps then start threads of their own. */
int32_t radam_operator_set_openmp(const char *path);

/* Has the C library keep the memory that the process frees, instead of giving it back to the system: the
 * next training step wants it again. It cannot be taken back. Returns 1 where the C library cannot be
 * told to. */
int32_t radam_operator_keep_freed_memory(void);

/* One step of a registered group on plain pointers, in the order of its tensor numbers. step has
 * count entries and is updated in place. Tensors that share memory are updated one after the other.
 * Returns 0, or writes a message and returns 1 when the key is unknown, 2 when the count is not the
 * group's, 3 when memory ran out, 4 when the group's kernel is for a GPU, 5 when tensors share memory in
 * such a way that no order gives what one update after the other would: nothing was updated, and the
 * message calls each "tensor" with its number. */
int32_t radam_operator_run(int64_t key, const radam_tensor *tensors, int64_t count, int64_t *step,
                           double lr, int32_t found_inf, char *message, int64_t message_size);

/* Tells whether such a step could be run on these tensors: returns what it would return, and updates
 * nothing. */
int32_t radam_operator_check(int64_t key, const radam_tensor *tensors, int64_t count, char *message,
                             int64_t message_size);

/* Takes the means to read tensors of dynamic graph, and PIR programs, from Paddle's Python module at
 * the path, which must be loaded already. Returns 1 when it is not loaded, 2 when it lacks an entry
 * point; there are no means to do the one or the other then. */
int32_t radam_operator_set_python_module(const char *path);

/* The Python objects of one row: tensors of dynamic graph. */
typedef struct radam_objects {
    void *param;
    void *moment1;
    void *moment2;
    void *master; /* NULL where there is none */
} radam_objects;

/* What of a row of objects cannot be used. */
typedef enum radam_role {
    RADAM_PARAM = 0,
    RADAM_GRAD = 1,
    RADAM_MOMENT1 = 2,
    RADAM_MOMENT2 = 3,
    RADAM_MASTER = 4
} radam_role;

/* Reads where tensors of dynamic graph are, and writes Paddle's number of each one's data type (0
 * where there is no master weight) to dtypes, which has 5 entries per row, in the order of
 * radam_role. Returns 0; -1 when there are no means to read them; or 1 + 5 * row + role of the first
 * object that is no tensor, or a tensor that a kernel cannot take as it is: one that is not dense, not
 * contiguous, not on the CPU, without memory, or of another shape than the row's parameter.
 *
 * The caller holds Python's lock and keeps the objects alive; the addresses are good for as long as
 * nobody changes the tensors. */
int64_t radam_operator_read_tensors(const radam_objects *objects, void *const *grads, int64_t count,
                                    radam_tensor *tensors, int32_t *dtypes);

/* Writes 128 bits (two numbers) that tell the present state of a PIR program from all other programs
 * and all other states of it: what is in it and in which order, in the blocks of its operators too.
 * block: the address of its global pir::Block. Returns 1 when operators of this library are in it, 0
 * when not, or -1 when there are no means to read it.
 *
 * The caller holds Python's lock, and nobody changes the program meanwhile. */
int32_t radam_operator_fingerprint(const void *block, uint64_t *fingerprint);

/* cffi: end */

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#ifdef __cplusplus
}
#endif

#endif /* RADAM_CODEGEN_OPERATOR_H */

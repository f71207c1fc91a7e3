/* A CUDA kernel of which the host is the GPU: it runs a C kernel on the memory that it is given, and
 * keeps what it was given.
 */
#include <stdlib.h>

#include <radam_codegen/cuda_kernel.h>
#include <radam_codegen/launcher.h>

#pragma GCC visibility push(default)

/* What it does; what device_count() and step() answer. */
const radam_kernel *host_kernel;
int32_t device_status;
int32_t step_status;

/* What the last step was given. */
radam_cuda_group last_group;
void *last_stream;
int64_t step_calls;

#pragma GCC visibility pop

static int64_t chunks_of(const radam_cuda_group *group)
{
    return radam_count_chunks(group->tensors, group->tensor_count);
}

static uint64_t workspace_size(const radam_cuda_group *group)
{
    return chunks_of(group) * sizeof(double) + group->tensor_count * host_kernel->scalar_size;
}

static double number(const void *address, int32_t dtype)
{
    uint32_t bits;
    float wide;
    switch (dtype) {
    case RADAM_CUDA_FLOAT64:
        return *(const double *)address;
    case RADAM_CUDA_FLOAT32:
        return *(const float *)address;
    case RADAM_CUDA_BFLOAT16:
        bits = (uint32_t)*(const uint16_t *)address << 16;
        __builtin_memcpy(&wide, &bits, sizeof wide);
        return wide;
    default:
        abort();
    }
}

static int32_t step(const radam_cuda_group *given, void *stream)
{
    const int64_t chunk_count = chunks_of(given);
    const int64_t bounds[2] = {0, chunk_count};
    last_group = *given;
    last_stream = stream;
    step_calls += 1;
    if (step_status != 0) {
        return step_status;
    }
    if (given->workspace_bytes < workspace_size(given) || (uintptr_t)given->workspace % 16 != 0) {
        return 1;
    }
    radam_chunk *chunks = calloc(chunk_count + 1, sizeof *chunks);
    radam_tensor_numbers *numbers = calloc(given->tensor_count, sizeof *numbers);
    radam_fill_chunks(given->tensors, given->tensor_count, chunks);
    for (int64_t i = 0; i < given->tensor_count; ++i) {
        numbers[i] = given->tensor_numbers[i];
        if (given->decay_at_run_time != NULL && given->decay_at_run_time[i] != 0) {
            numbers[i].decay = number(given->weight_decay, given->weight_decay_dtype);
        }
    }
    const radam_group group = {
        .tensors = given->tensors,
        .tensor_numbers = numbers,
        .step = given->step,
        .tensor_count = given->tensor_count,
        .chunks = chunks,
        .chunk_count = chunk_count,
        .chunk_sums = given->workspace,
        .scalars = (double *)given->workspace + chunk_count,
        .numbers = given->numbers,
        .lr = number(given->lr, given->lr_dtype),
        .found_inf = given->found_inf != NULL && *given->found_inf != 0,
    };
    radam_launch(host_kernel, &group, bounds, 1, NULL);
    free(chunks);
    free(numbers);
    return 0;
}

static int32_t device_count(int32_t *count)
{
    *count = device_status == 0 ? 1 : 0;
    return device_status;
}

static const char *error_text(int32_t error)
{
    (void)error;
    return "out of luck";
}

const radam_cuda_kernel *radam_codegen_cuda_kernel(void)
{
    static const radam_cuda_kernel kernel = {
        RADAM_CODEGEN_CUDA_ABI_VERSION, 8, "on_the_host", "0", workspace_size, step, device_count,
        error_text,
    };
    return &kernel;
}

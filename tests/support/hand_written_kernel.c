/* A kernel written by hand, for tests of what builds, loads and launches kernels.
 *
 *   moment1 += grad;  moment2 += clipped grad squared;  param -= lr * lr_scale * grad * scale
 *
 * where scale is clip_bound / norm of the group's gradients if clip_bound is positive and the norm
 * is larger, else 1. Body 0 is for float32, body 1 for float64. The step is skipped on found_inf.
 * A master weight, where there is one, counts the updates in its first element.
 */
#include <math.h>
#include <radam_codegen/kernel.h>

typedef struct scalars {
    double step_size;
    double scale;
} scalars;

#define DEFINE_BODY(type, suffix)                                                            \
    static double reduce_##suffix(const radam_tensor *tensor, int64_t begin, int64_t end) {  \
        const type *grad = (const type *)tensor->grad;                                       \
        double sum = 0.0;                                                                    \
        for (int64_t i = begin; i < end; ++i) {                                              \
            sum += (double)grad[i] * (double)grad[i];                                        \
        }                                                                                    \
        return sum;                                                                          \
    }                                                                                        \
    static void each_##suffix(const radam_tensor *tensor, const scalars *s, int64_t begin,   \
                              int64_t end) {                                                 \
        type *param = (type *)tensor->param;                                                 \
        const type *grad = (const type *)tensor->grad;                                       \
        type *moment1 = (type *)tensor->moment1;                                             \
        type *moment2 = (type *)tensor->moment2;                                             \
        for (int64_t i = begin; i < end; ++i) {                                              \
            const type scaled = grad[i] * (type)s->scale;                                    \
            moment1[i] += grad[i];                                                           \
            moment2[i] += scaled * scaled;                                                   \
            param[i] -= (type)s->step_size * scaled;                                         \
        }                                                                                    \
        if (tensor->master != 0 && begin == 0) {                                             \
            ((float *)tensor->master)[0] += 1.0f;                                            \
        }                                                                                    \
    }

DEFINE_BODY(float, float32)
DEFINE_BODY(double, float64)

static void reduce(const radam_group *group, int64_t chunk_begin, int64_t chunk_end) {
    for (int64_t c = chunk_begin; c < chunk_end; ++c) {
        const radam_chunk *chunk = &group->chunks[c];
        const radam_tensor *tensor = &group->tensors[chunk->tensor];
        group->chunk_sums[c] = group->tensor_numbers[chunk->tensor].body == 0
                                   ? reduce_float32(tensor, chunk->begin, chunk->end)
                                   : reduce_float64(tensor, chunk->begin, chunk->end);
    }
}

static int32_t scalar(const radam_group *group) {
    double sum = 0.0;
    double norm;
    if (group->found_inf) {
        return 0;
    }
    for (int64_t c = 0; c < group->chunk_count; ++c) {
        sum += group->chunk_sums[c];
    }
    norm = sqrt(sum);
    for (int64_t t = 0; t < group->tensor_count; ++t) {
        scalars *s = (scalars *)group->scalars + t;
        const double bound = group->numbers.clip_bound;
        s->step_size = group->lr * group->tensor_numbers[t].lr_scale;
        s->scale = bound > 0.0 && norm > bound ? bound / norm : 1.0;
        group->step[t] += 1;
    }
    return 1;
}

static void each(const radam_group *group, int64_t chunk_begin, int64_t chunk_end) {
    for (int64_t c = chunk_begin; c < chunk_end; ++c) {
        const radam_chunk *chunk = &group->chunks[c];
        const radam_tensor *tensor = &group->tensors[chunk->tensor];
        const scalars *s = (const scalars *)group->scalars + chunk->tensor;
        if (group->tensor_numbers[chunk->tensor].body == 0) {
            each_float32(tensor, s, chunk->begin, chunk->end);
        } else {
            each_float64(tensor, s, chunk->begin, chunk->end);
        }
    }
}

static const radam_kernel kernel = {
    RADAM_CODEGEN_ABI_VERSION,
    sizeof(scalars),
    2,
    RADAM_CODEGEN_CHUNK,
    "hand_written",
    "0000000000000000000000000000000000000000000000000000000000000000",
    reduce,
    scalar,
    each,
};

__attribute__((visibility("default"))) const radam_kernel *radam_codegen_kernel(void) {
    return &kernel;
}

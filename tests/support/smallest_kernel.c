/* The smallest kernel there can be, for tests that compile it hundreds of times: param -= lr. */
#include <radam_codegen/kernel.h>

static int32_t scalar(const radam_group *group) {
    group->step[0] += 1;
    return 1;
}

static void each(const radam_group *group, int64_t chunk_begin, int64_t chunk_end) {
    for (int64_t c = chunk_begin; c < chunk_end; ++c) {
        const radam_chunk *chunk = &group->chunks[c];
        float *param = (float *)group->tensors[chunk->tensor].param;
        for (int64_t i = chunk->begin; i < chunk->end; ++i) {
            param[i] -= (float)group->lr;
        }
    }
}

static const radam_kernel kernel = {
    RADAM_CODEGEN_ABI_VERSION, 8, 1, RADAM_CODEGEN_CHUNK, "smallest", "0", 0, scalar, each,
};

__attribute__((visibility("default"))) const radam_kernel *radam_codegen_kernel(void) {
    return &kernel;
}

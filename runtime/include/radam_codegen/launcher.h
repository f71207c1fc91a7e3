/* Runs one step of a kernel over a group of tensors, on one thread or on many.
 *
 * Plain C that C++ can include too; it allocates nothing and knows no thread library. A caller
 * fills its tensors, lays out the chunks once per set of sizes, and calls radam_launch() per step.
 */
#ifndef RADAM_CODEGEN_LAUNCHER_H
#define RADAM_CODEGEN_LAUNCHER_H

#include <fenv.h>

#include <radam_codegen/kernel.h>

/* A group with fewer elements is faster on one thread than a team is at starting. */
#define RADAM_CODEGEN_SERIAL_ELEMENTS 32768

/* Calls body(data, part) once for every part in [0, parts), on any threads, and returns when all
 * of them are done. */
typedef void (*radam_parallel_for)(void (*body)(void *data, int32_t part), void *data,
                                   int32_t parts);

/* Number of chunks that the tensors are cut into. */
static inline int64_t radam_count_chunks(const radam_tensor *tensors, int64_t tensor_count) {
    int64_t count = 0;
    for (int64_t i = 0; i < tensor_count; ++i) {
        count += tensors[i].numel / RADAM_CODEGEN_CHUNK + (tensors[i].numel % RADAM_CODEGEN_CHUNK != 0);
    }
    return count;
}

/* Writes radam_count_chunks() chunks and returns the number of elements in them. */
static inline int64_t radam_fill_chunks(const radam_tensor *tensors, int64_t tensor_count,
                                        radam_chunk *chunks) {
    int64_t elements = 0;
    for (int64_t i = 0; i < tensor_count; ++i) {
        const int64_t numel = tensors[i].numel;
        for (int64_t begin = 0; begin < numel; begin += RADAM_CODEGEN_CHUNK) {
            const int64_t rest = numel - begin;
            chunks->tensor = i;
            chunks->begin = begin;
            chunks->end = begin + (rest < RADAM_CODEGEN_CHUNK ? rest : RADAM_CODEGEN_CHUNK);
            ++chunks;
        }
        elements += numel;
    }
    return elements;
}

/* Into how many parts a step of this many elements is worth splitting, given at most max_threads
 * threads; at least 1. */
static inline int32_t radam_count_parts(int64_t elements, int64_t chunk_count, int32_t max_threads) {
    int64_t parts = max_threads;
    if (elements < RADAM_CODEGEN_SERIAL_ELEMENTS) {
        return 1;
    }
    if (parts > chunk_count) {
        parts = chunk_count;
    }
    return parts < 1 ? 1 : (int32_t)parts;
}

/* Splits the chunks into contiguous parts of nearly equal numbers of elements: part p covers the
 * chunks [bounds[p], bounds[p + 1]). bounds has parts + 1 entries. */
static inline void radam_split_chunks(const radam_chunk *chunks, int64_t chunk_count,
                                      int64_t elements, int32_t parts, int64_t *bounds) {
    int64_t chunk = 0;
    int64_t before = 0; /* elements in the chunks that are already given out */
    bounds[0] = 0;
    for (int32_t part = 1; part < parts; ++part) {
        /* elements * part / parts, without the overflow of the product */
        const int64_t target =
            elements / parts * part + elements % parts * (int64_t)part / parts;
        while (chunk < chunk_count) {
            const int64_t size = chunks[chunk].end - chunks[chunk].begin;
            /* A chunk belongs to the side on which more than half of it lies. */
            if (before + size / 2 >= target) {
                break;
            }
            before += size;
            ++chunk;
        }
        bounds[part] = chunk;
    }
    bounds[parts] = chunk_count;
}

/* What one phase hands to its parts. */
typedef struct radam_launch_phase {
    const radam_group *group;
    const int64_t *bounds;
    void (*run)(const radam_group *group, int64_t chunk_begin, int64_t chunk_end);
} radam_launch_phase;

static inline void radam_launch_part(void *data, int32_t part) {
    const radam_launch_phase *phase = (const radam_launch_phase *)data;
    const int64_t begin = phase->bounds[part];
    const int64_t end = phase->bounds[part + 1];
    fenv_t callers;
    if (begin >= end) {
        return;
    }
    /* Rounding mode and flush-to-zero belong to the thread; results must not depend on which
     * thread a chunk lands on, nor on what its owner has set. */
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    phase->run(phase->group, begin, end);
    fesetenv(&callers);
}

static inline int32_t radam_launch_scalar(const radam_kernel *kernel, const radam_group *group) {
    fenv_t callers;
    int32_t go_on;
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    go_on = kernel->scalar(group);
    fesetenv(&callers);
    return go_on;
}

static inline void radam_launch_over_parts(radam_launch_phase *phase, int32_t parts,
                                           radam_parallel_for parallel_for) {
    if (parts > 1 && parallel_for != 0) {
        parallel_for(radam_launch_part, phase, parts);
        return;
    }
    for (int32_t part = 0; part < parts; ++part) {
        radam_launch_part(phase, part);
    }
}

/* One step: reduce where the kernel has it, scalar, each. Returns 0 when the kernel skipped the
 * step, and then nothing has been updated. parallel_for may be NULL: one thread does it all. */
static inline int32_t radam_launch(const radam_kernel *kernel, const radam_group *group,
                                   const int64_t *bounds, int32_t parts,
                                   radam_parallel_for parallel_for) {
    radam_launch_phase phase;
    phase.group = group;
    phase.bounds = bounds;
    if (kernel->reduce != 0) {
        phase.run = kernel->reduce;
        radam_launch_over_parts(&phase, parts, parallel_for);
    }
    if (!radam_launch_scalar(kernel, group)) {
        return 0;
    }
    phase.run = kernel->each;
    radam_launch_over_parts(&phase, parts, parallel_for);
    return 1;
}

#endif /* RADAM_CODEGEN_LAUNCHER_H */

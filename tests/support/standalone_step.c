/* Steps of a kernel over tensors that a file describes; writes them back.
 *
 * Usage: standalone_step NAME FILE
 *
 * FILE: int64 tensors, steps; double beta1, beta2, epsilon, clip_bound, clip_lower, lr; then per tensor
 * int64 numel, step, need_clip, body; double lr_scale, decay; int64 bytes of param, grad, moment1,
 * moment2, master; and these bytes. It is read into memory, and all that a step changes is changed
 * there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <radam_codegen/launcher.h>
#include <radam_codegen/registry.h>

static char *at;

static void *take(int64_t bytes)
{
    void *taken = bytes != 0 ? at : NULL;
    at += bytes;
    return taken;
}

static int64_t take_int(void)
{
    int64_t value;
    memcpy(&value, take(8), 8);
    return value;
}

static double take_double(void)
{
    double value;
    memcpy(&value, take(8), 8);
    return value;
}

int main(int argc, char **argv)
{
    const radam_kernel *kernel = argc == 3 ? radam_find_kernel(argv[1]) : NULL;
    FILE *file = kernel != NULL ? fopen(argv[2], "r+b") : NULL;
    if (file == NULL) {
        return 2;
    }
    fseek(file, 0, SEEK_END);
    const size_t size = (size_t)ftell(file);
    rewind(file);
    char *const memory = malloc(size);
    if (fread(memory, 1, size, file) != size) {
        return 3;
    }
    at = memory;
    const int64_t count = take_int(), steps = take_int();
    radam_group group = {.tensor_count = count};
    group.numbers.beta1 = take_double();
    group.numbers.beta2 = take_double();
    group.numbers.epsilon = take_double();
    group.numbers.clip_bound = take_double();
    group.numbers.clip_lower = take_double();
    group.lr = take_double();
    radam_tensor *tensors = calloc((size_t)count, sizeof(*tensors));
    radam_tensor_numbers *numbers = calloc((size_t)count, sizeof(*numbers));
    int64_t *step = calloc((size_t)count, sizeof(*step));
    void *step_in_file[64];
    for (int64_t i = 0; i < count; ++i) {
        tensors[i].numel = take_int();
        step_in_file[i] = at;
        step[i] = take_int();
        numbers[i].need_clip = (int32_t)take_int();
        numbers[i].body = (int32_t)take_int();
        numbers[i].lr_scale = take_double();
        numbers[i].decay = take_double();
        void *arrays[5];
        int64_t bytes[5];
        for (int slot = 0; slot < 5; ++slot) {
            bytes[slot] = take_int();
        }
        for (int slot = 0; slot < 5; ++slot) {
            arrays[slot] = take(bytes[slot]);
        }
        tensors[i].param = arrays[0];
        tensors[i].grad = arrays[1];
        tensors[i].moment1 = arrays[2];
        tensors[i].moment2 = arrays[3];
        tensors[i].master = arrays[4];
    }
    group.tensors = tensors;
    group.tensor_numbers = numbers;
    group.step = step;
    group.chunk_count = radam_count_chunks(tensors, count);
    radam_chunk *chunks = calloc((size_t)group.chunk_count, sizeof(*chunks));
    const int64_t elements = radam_fill_chunks(tensors, count, chunks);
    group.chunks = chunks;
    group.chunk_sums = calloc((size_t)group.chunk_count, sizeof(double));
    group.scalars = calloc((size_t)count, kernel->scalar_size);
    int64_t bounds[4];
    radam_split_chunks(chunks, group.chunk_count, elements, 3, bounds);
    for (int64_t i = 0; i < steps; ++i) {
        radam_launch(kernel, &group, bounds, 3, NULL);
    }
    for (int64_t i = 0; i < count; ++i) {
        memcpy(step_in_file[i], &step[i], 8);
    }
    rewind(file);
    return fwrite(memory, 1, size, file) == size && fclose(file) == 0 ? 0 : 4;
}

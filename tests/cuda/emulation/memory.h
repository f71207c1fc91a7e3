/* Device memory and shared memory, and who has touched them.
 *
 * Kernels are compiled with -fsanitize=thread, which calls a function before every access; memory.cc
 * has these functions in place of the sanitizer's own library. They find
 *
 *   - an access beside an array, or to memory of the host, or by the host to memory of the device;
 *   - an access that is not aligned to its size;
 *   - a write to what is only to be read, and a read of what nothing has written;
 *   - two threads that touch the same memory, one of them writing, without a barrier between them:
 *     in a launch, nothing is ordered but what the barriers of a block order.
 *
 * Compiled without the sanitizer, or with another, kernels are not watched. */
#ifndef MEMORY_H
#define MEMORY_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace emulation {

/* Who touched a piece of memory last. */
struct Touch {
    uint32_t launch = 0; /* 0: nobody */
    uint32_t block = 0;
    uint32_t epoch = 0; /* barriers that the block had passed */
    uint16_t thread = 0;
    bool more_threads = false; /* other threads of the block, too, in the same epoch */
    bool more_blocks = false;  /* other blocks, too, in the same launch */
};

/* Two bytes of memory: the smallest element has as many. */
struct Cell {
    Touch read;
    Touch write;
    bool exists = false;
    bool written = false;
    bool read_only = false;
};

const size_t CELL = 2;

/* Byte of memory that holds nothing: not a number, in every type. */
const char RUBBISH = static_cast<char>(0xff);

enum class Holds { values, inputs, nothing };

/* Memory of the device for `bytes` bytes, `offset` bytes behind a multiple of 64. */
void *allocate(size_t bytes, size_t offset, Holds holds);
/* Makes a piece of device memory as if nothing had written it, and fills it with rubbish. */
void forget(void *memory, size_t bytes);
/* Gives back all memory of the device. */
void release_all();

/* How often running kernels accessed device memory. */
struct Traffic {
    int64_t packets; /* 16 bytes at once */
    int64_t singles;
};
extern Traffic traffic;

} // namespace emulation

#endif /* MEMORY_H */

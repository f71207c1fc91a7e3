/* Runs the threads of launches on one thread of the CPU, as fibers: one runs until it waits for
 * others, in an order that can be chosen.
 *
 * It finds barriers that some threads of a block never reach, or that they reach at different lines,
 * and shuffles without all the lanes that their mask names. */
#ifndef SCHEDULER_H
#define SCHEDULER_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda_emulation.h"
#include "memory.h"

namespace emulation {

/* In which order blocks run, and the threads of a block between two barriers. */
enum class Order {
    ascending,
    descending,
    shuffled,
    interleaved /* several blocks at once; where accesses are watched, threads change there, too */
};

struct Schedule {
    Order order = Order::ascending;
    uint64_t seed = 0;
    uint32_t most_blocks = 0;  /* launches no more than these, not 0 */
    uint32_t most_threads = 0; /* per block, not 0 */
    int64_t failing_launch = -1; /* that one is refused */
};

/* Launches that are asked for from now on; none is run. */
void begin_recording(const Schedule &schedule, void *stream);
/* Runs what was recorded, which can be done more than once. */
void run_recorded();
size_t recorded();

/* The order of the launches that follow. */
void choose(const Schedule &schedule);
/* Runs all blocks of a launch to their end. */
void run_launch(const Launch &launch);

/* The thread that runs, for those who watch it; null on the host. */
struct Running {
    uint32_t launch;
    uint32_t block;
    uint32_t epoch;
    uint16_t thread;
    const char *stack_begin;
    const char *stack_end;
    const char *shared_begin;
    const char *shared_end;
    Cell *shared_cells;
};
const Running *running();
/* Its kernel; null where no launch runs. */
const void *kernel_that_runs();
/* Lets another thread run, now and then, where the order is interleaved. */
void may_change();

} // namespace emulation

#endif /* SCHEDULER_H */

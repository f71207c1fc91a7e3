/* Pieces of work with stacks of their own, which take turns on one thread of the CPU. */
#ifndef FIBER_H
#define FIBER_H

#include <cstddef>

#include <ucontext.h>

namespace emulation {

const size_t STACK_BYTES = size_t(1) << 18; /* a thread's arguments take up to 32 KiB of it */

struct Fiber {
    ucontext_t context;
    char *stack;
};

/* A fiber that nobody uses; entered, it calls run_thread() and leaves. */
Fiber *take_fiber();
/* Takes a fiber back that has run its thread to the end. */
void give_back(Fiber *fiber);

/* Goes on where the fiber left, and comes back when it leaves. */
void enter(Fiber *fiber);
/* From within a fiber: back to where it was entered. */
void leave();

/* The scheduler's: runs the thread that it has chosen. */
void run_thread();

} // namespace emulation

#endif /* FIBER_H */

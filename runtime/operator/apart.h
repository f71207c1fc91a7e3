// Keeps the threads of a team from sharing a CPU.
//
// A thread that slept may be woken on the CPU of the thread that woke it. Where both give way to each
// other while they wait, as those of OpenMP do, Linux sees little to balance and can leave them there for
// as long as steps follow each other, while another CPU has nothing to do.
#ifndef RADAM_CODEGEN_OPERATOR_APART_H
#define RADAM_CODEGEN_OPERATOR_APART_H

#include <cstdint>

#if defined(__linux__)
#include <sched.h>
#endif

namespace radam_codegen {

// The CPU that this thread runs on; -1 where that cannot be told.
inline int32_t cpu_of_this_thread() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// Has this thread leave a CPU that it was found on again and again, for any other that it may run on.
inline void stay_off(int32_t cpu) {
#if defined(__linux__)
  // By itself, Linux may do it sooner; and a team with more threads than CPUs cannot be helped.
  constexpr int32_t kPatience = 8;
  thread_local int32_t met = 0;
  if (cpu < 0 || sched_getcpu() != cpu) {
    met = 0;
    return;
  }
  if (++met % kPatience != 0) {
    return;
  }
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0 || CPU_COUNT(&allowed) < 2) {
    return;
  }
  cpu_set_t others = allowed;
  CPU_CLR(cpu, &others);
  if (sched_setaffinity(0, sizeof(others), &others) == 0) {
    sched_setaffinity(0, sizeof(allowed), &allowed);
  }
#else
  (void)cpu;
#endif
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_APART_H

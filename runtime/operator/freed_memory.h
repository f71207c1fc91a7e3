// What becomes of the memory that a training step frees.
//
// A fused step needs all gradients at once, so they are all freed after it, and glibc gives memory that
// is free at the end of a heap, and large blocks, back to the system. The next step has it mapped and
// cleared anew, page by page, which can take longer than the update itself.
#ifndef RADAM_CODEGEN_OPERATOR_FREED_MEMORY_H
#define RADAM_CODEGEN_OPERATOR_FREED_MEMORY_H

#include <limits.h>
#include <stdlib.h>  // says whether this is glibc
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace radam_codegen {

// Has malloc keep what is freed, for the whole process; false where it cannot be told to.
inline bool keep_freed_memory() {
#ifdef __GLIBC__
  // Blocks up to this size are taken from a heap. Some versions allow no more than the second.
  constexpr int kLargest = 1 << 30, kLargestOfSome = 32 << 20;
  // An executor's threads share one heap: in heaps of their own each would keep as much as the step
  // takes in all, as any operator may run on any thread. Threads that have a heap already stay there.
  return mallopt(M_ARENA_MAX, 1) != 0 && mallopt(M_TRIM_THRESHOLD, INT_MAX) != 0 &&
         (mallopt(M_MMAP_THRESHOLD, kLargest) != 0 ||
          mallopt(M_MMAP_THRESHOLD, kLargestOfSome) != 0);
#else
  return false;
#endif
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_FREED_MEMORY_H

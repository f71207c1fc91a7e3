// The way that a walk through linked objects takes, so that the next one has them read beforehand.
#ifndef RADAM_CODEGEN_OPERATOR_TRAIL_H
#define RADAM_CODEGEN_OPERATOR_TRAIL_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace radam_codegen {

// After a step little of a program is left in the caches, and each object tells only where the next
// one is: nearly all of a walk is waiting for memory. Remembering the places of the last walk makes
// it five times faster. They are hints: to prefetch a place that is no longer there does nothing.
class Trail {
 public:
  void begin() { at_ = 0; }

  // The walk comes by here, and will look at the next hundred bytes or so.
  void pass(uintptr_t place) {
    if (at_ + kAhead < places_.size()) {
      const char *ahead = reinterpret_cast<const char *>(places_[at_ + kAhead]);
      __builtin_prefetch(ahead);
      __builtin_prefetch(ahead + kLine);
    }
    if (at_ < places_.size()) {
      places_[at_] = place;
    } else {
      places_.push_back(place);
    }
    ++at_;
  }

  void end() { places_.resize(at_); }

 private:
  static constexpr size_t kAhead = 16;
  static constexpr size_t kLine = 64;
  std::vector<uintptr_t> places_;
  size_t at_ = 0;
};

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_TRAIL_H

// The parts of a team's work, shared out so that nobody waits for a slow thread for long.
#ifndef RADAM_CODEGEN_OPERATOR_SHARES_H
#define RADAM_CODEGEN_OPERATOR_SHARES_H

#include <atomic>
#include <cstdint>
#include <vector>

namespace radam_codegen {

// Neighbouring parts that nobody has taken yet. Their thread takes them in their order, so that it moves
// through memory as it would alone; one that has no more of its own takes them from the other end.
class alignas(64) Share {
 public:
  Share() = default;
  Share(const Share &) : Share() {}  // wanted by vectors; there is nothing in it yet

  void fill(int32_t first, int32_t end) { range_.store(packed(first, end), std::memory_order_relaxed); }

  // The next part, or -1 when there is none. What parts write becomes visible when the team joins.
  int32_t take(bool own) {
    uint64_t range = range_.load(std::memory_order_relaxed);
    for (;;) {
      const auto first = static_cast<int32_t>(range >> 32);
      const auto end = static_cast<int32_t>(range & 0xffffffffU);
      if (first >= end) {
        return -1;
      }
      const uint64_t rest = own ? packed(first + 1, end) : packed(first, end - 1);
      if (range_.compare_exchange_weak(range, rest, std::memory_order_relaxed)) {
        return own ? first : end - 1;
      }
    }
  }

 private:
  static uint64_t packed(int32_t first, int32_t end) {
    return static_cast<uint64_t>(static_cast<uint32_t>(first)) << 32 | static_cast<uint32_t>(end);
  }

  std::atomic<uint64_t> range_{0};
};

// All parts, a share for each thread. Kept by the thread that starts teams: no step allocates any.
class Shares {
 public:
  void fill(int32_t parts, int32_t count) {
    if (shares_.size() < static_cast<size_t>(count)) {
      shares_.resize(count);
    }
    count_ = count;
    for (int32_t i = 0; i < count; ++i) {
      shares_[i].fill(boundary(parts, i), boundary(parts, i + 1));
    }
  }

  // Does parts, those of a thread's own share first, until there are none left to take.
  void work(int32_t number, void (*body)(void *data, int32_t part), void *data) {
    for (int32_t i = 0; i < count_; ++i) {
      Share &share = shares_[(number + i) % count_];
      for (int32_t part; (part = share.take(i == 0)) >= 0;) {
        body(data, part);
      }
    }
  }

 private:
  int32_t boundary(int32_t parts, int32_t share) const {
    return static_cast<int32_t>(static_cast<int64_t>(parts) * share / count_);
  }

  std::vector<Share> shares_;
  int32_t count_ = 0;
};

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_SHARES_H

// Fingerprints of PIR programs: what tells one state of a program from every other one.
//
// Paddle's Executor knows a program by its text, and prints it at every run, which takes longer than
// many a step. A fingerprint is made of all that the text is made of, without printing it: in PIR
// types, attributes and what an operation is are unique objects that are never changed and never
// freed, so that a pointer stands for the content of each. Every operation has a number that no other
// one of the process gets, so no two programs have the same fingerprint, living or freed.
#ifndef RADAM_CODEGEN_OPERATOR_PROGRAM_FINGERPRINT_H
#define RADAM_CODEGEN_OPERATOR_PROGRAM_FINGERPRINT_H

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>

#include "paddle/pir/include/core/block.h"
#include "paddle/pir/include/core/operation.h"
#include "paddle/pir/include/core/region.h"

#include "trail.h"

namespace radam_codegen {

// What Paddle's headers only declare. It is defined in the module of Python, with which nothing can
// be linked; a version of Paddle may lack an entry.
struct ProgramReader {
  pir::Value (*operand)(const pir::Operation *, uint32_t);
  pir::Value (*result)(const pir::Operation *, uint32_t);
  pir::Block *(*successor)(const pir::Operation *, uint32_t);
  pir::Type (*type)(const pir::Value *);
  const pir::AttributeMap &(*argument_attributes)(const pir::Value *);
  const char *(*name)(const pir::OpInfo *);
};

inline ProgramReader g_program_reader_entry_points;
inline std::atomic<const ProgramReader *> g_program_reader{nullptr};

template <typename Function>
bool find_entry(void *module, const char *name, Function *entry) {
  *entry = reinterpret_cast<Function>(dlsym(module, name));
  return *entry != nullptr;
}

// Takes the entries from the module, by their linker names; false when one is missing.
inline bool read_programs_with(void *module) {
  ProgramReader &reader = g_program_reader_entry_points;
  const bool found =
      find_entry(module, "_ZNK3pir9Operation14operand_sourceEj", &reader.operand) &&
      find_entry(module, "_ZNK3pir9Operation6resultEj", &reader.result) &&
      find_entry(module, "_ZNK3pir9Operation9successorEj", &reader.successor) &&
      find_entry(module, "_ZNK3pir5Value4typeEv", &reader.type) &&
      find_entry(module, "_ZNK3pir13BlockArgument10attributesB5cxx11Ev",
                 &reader.argument_attributes) &&
      find_entry(module, "_ZNK3pir6OpInfo4nameEv", &reader.name);
  g_program_reader.store(found ? &reader : nullptr, std::memory_order_release);
  return found;
}

// A hash of 128 bits over pairs of words, in two halves that are mixed in different ways.
class Digest {
 public:
  void add(uint64_t one, uint64_t other) {
    low_ = folded(low_ ^ one, other ^ 0x9e3779b97f4a7c15U) + one;
    high_ = folded(high_ + other, one ^ 0xd6e8feb86659fd93U) ^ other;
  }
  void add(const void *one, const void *other) { add(word(one), word(other)); }
  void add(uint64_t one, const void *other) { add(one, word(other)); }
  void add(const std::string &text) {
    for (size_t at = 0; at < text.size(); at += 2 * sizeof(uint64_t)) {
      uint64_t words[2] = {0, 0};
      std::memcpy(words, text.data() + at, std::min(sizeof(words), text.size() - at));
      add(words[0], words[1]);
    }
  }
  uint64_t low() const { return low_; }
  uint64_t high() const { return high_; }

 private:
  static uint64_t word(const void *pointer) { return reinterpret_cast<uintptr_t>(pointer); }
  static uint64_t folded(uint64_t one, uint64_t other) {
    const auto product = static_cast<unsigned __int128>(one) * other;
    return static_cast<uint64_t>(product >> 64) ^ static_cast<uint64_t>(product);
  }
  uint64_t low_ = 0x243f6a8885a308d3U;
  uint64_t high_ = 0x13198a2e03707344U;
};

class Fingerprinter {
 public:
  Fingerprinter(const ProgramReader &reader, Trail *trail) : reader_(reader), trail_(*trail) {}

  // Every list starts with its length, so that nothing passes from one to the next unseen.
  void take(const pir::Block &block) {
    digest_.add(block.size(), &block);
    digest_.add(block.args_size(), block.kwargs_size());
    for (const pir::Value &argument : block.args()) {
      take_argument(argument);
    }
    for (const auto &[keyword, argument] : block.kwargs()) {
      digest_.add(keyword);
      digest_.add(keyword.size(), nullptr);
      take_argument(argument);
    }
    for (const pir::Operation &operation : block) {
      take(operation);
    }
  }

  const Digest &digest() const { return digest_; }

  // Whether an operation is one of this library.
  bool found_ours() const { return found_ours_; }

 private:
  void take(const pir::Operation &operation) {
    // Its results lie before an operation, its operands behind it.
    const auto place = reinterpret_cast<uintptr_t>(&operation);
    trail_.pass(place - 64);
    trail_.pass(place + 64);
    const pir::OpInfo info = operation.info();
    found_ours_ = found_ours_ || is_ours(info);
    digest_.add(operation.id(), static_cast<void *>(info));
    take(operation.attributes());
    digest_.add(operation.num_operands(), operation.num_results());
    for (uint32_t i = 0; i < operation.num_operands(); ++i) {
      digest_.add(i, reader_.operand(&operation, i).impl());
    }
    for (uint32_t i = 0; i < operation.num_results(); ++i) {
      take(reader_.result(&operation, i));
    }
    digest_.add(operation.num_successors(), operation.num_regions());
    for (uint32_t i = 0; i < operation.num_successors(); ++i) {
      digest_.add(i, reader_.successor(&operation, i));
    }
    for (const pir::Region &region : operation) {
      digest_.add(region.size(), nullptr);
      for (const pir::Block *block : region.blocks()) {
        take(*block);
      }
    }
  }

  void take(const pir::AttributeMap &attributes) {
    digest_.add(attributes.size(), nullptr);
    for (const auto &entry : attributes) {
      trail_.pass(reinterpret_cast<uintptr_t>(&entry));
      digest_.add(entry.first);
      digest_.add(entry.first.size(), entry.second.storage());
    }
  }

  // Operands name a value by its address.
  void take(const pir::Value &value) { digest_.add(value.impl(), reader_.type(&value).storage()); }

  void take_argument(const pir::Value &argument) {
    take(argument);
    take(reader_.argument_attributes(&argument));
  }

  bool is_ours(const pir::OpInfo &info) const {
    constexpr char prefix[] = "custom_op.radam_codegen_";
    return info && std::strncmp(reader_.name(&info), prefix, sizeof(prefix) - 1) == 0;
  }

  const ProgramReader &reader_;
  Trail &trail_;
  Digest digest_;
  bool found_ours_ = false;
};

// The trail through a block. As many are kept as Paddle keeps programs ready; the caller holds
// Python's lock.
inline Trail *trail_through(const pir::Block *block) {
  static struct {
    const pir::Block *block = nullptr;
    Trail trail;
  } kept[8];
  static size_t next = 0;
  for (auto &each : kept) {
    if (each.block == block) {
      return &each.trail;
    }
  }
  auto &oldest = kept[next++ % (sizeof(kept) / sizeof(kept[0]))];
  oldest.block = block;
  return &oldest.trail;
}

// Returns what radam_operator_fingerprint does.
inline int32_t fingerprint(const pir::Block *block, uint64_t *halves) {
  const ProgramReader *reader = g_program_reader.load(std::memory_order_acquire);
  if (reader == nullptr) {
    return -1;
  }
  Trail *trail = trail_through(block);
  trail->begin();
  Fingerprinter fingerprinter(*reader, trail);
  fingerprinter.take(*block);
  trail->end();
  halves[0] = fingerprinter.digest().low();
  halves[1] = fingerprinter.digest().high();
  return fingerprinter.found_ours() ? 1 : 0;
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_PROGRAM_FINGERPRINT_H

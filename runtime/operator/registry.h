// The groups of the process by their keys, and who can make the ones that are missing.
#ifndef RADAM_CODEGEN_OPERATOR_REGISTRY_H
#define RADAM_CODEGEN_OPERATOR_REGISTRY_H

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <unordered_map>
#include <utility>

#include "group.h"

namespace radam_codegen {

inline std::shared_mutex g_groups_mutex;
inline std::atomic<radam_operator_builder> g_builder{nullptr};

// Never destroyed: an executor's thread may still run while the process exits.
inline std::unordered_map<int64_t, std::shared_ptr<Group>> &groups() {
  static auto *map = new std::unordered_map<int64_t, std::shared_ptr<Group>>();
  return *map;
}

// Another one whenever a group was made known or forgotten.
inline std::atomic<uint64_t> g_groups_version{1};

// What a thread found last, good as long as the version is that of the groups.
struct FoundGroup {
  int64_t key = 0;
  uint64_t version = 0;
  std::shared_ptr<Group> group;
};

// Threads that run the same programs over and over take no lock: each remembers a few groups.
inline std::shared_ptr<Group> find_group(int64_t key) {
  constexpr uint64_t kRemembered = 8;
  thread_local FoundGroup remembered[kRemembered];
  FoundGroup &found = remembered[static_cast<uint64_t>(key) % kRemembered];
  if (found.key == key && found.version == g_groups_version.load(std::memory_order_acquire)) {
    return found.group;
  }
  std::shared_lock<std::shared_mutex> lock(g_groups_mutex);
  const auto place = groups().find(key);
  found.key = key;
  found.version = g_groups_version.load(std::memory_order_relaxed);  // changes under the lock only
  found.group = place == groups().end() ? nullptr : place->second;
  return found.group;
}

inline void keep_group(int64_t key, std::shared_ptr<Group> group) {
  std::unique_lock<std::shared_mutex> lock(g_groups_mutex);
  groups()[key] = std::move(group);
  g_groups_version.fetch_add(1, std::memory_order_release);
}

inline bool forget_group(int64_t key) {
  std::unique_lock<std::shared_mutex> lock(g_groups_mutex);
  g_groups_version.fetch_add(1, std::memory_order_release);
  return groups().erase(key) == 1;
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_REGISTRY_H

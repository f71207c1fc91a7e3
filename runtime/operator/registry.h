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

inline std::shared_ptr<Group> find_group(int64_t key) {
  std::shared_lock<std::shared_mutex> lock(g_groups_mutex);
  const auto found = groups().find(key);
  return found == groups().end() ? nullptr : found->second;
}

inline void keep_group(int64_t key, std::shared_ptr<Group> group) {
  std::unique_lock<std::shared_mutex> lock(g_groups_mutex);
  groups()[key] = std::move(group);
}

inline bool forget_group(int64_t key) {
  std::unique_lock<std::shared_mutex> lock(g_groups_mutex);
  return groups().erase(key) == 1;
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_REGISTRY_H

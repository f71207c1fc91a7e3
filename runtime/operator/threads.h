// Threads of a step on the CPU: Paddle's own OpenMP runtime where there is one, else new threads.
#ifndef RADAM_CODEGEN_OPERATOR_THREADS_H
#define RADAM_CODEGEN_OPERATOR_THREADS_H

#include <dlfcn.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "apart.h"

namespace radam_codegen {

struct OpenMp {
  // What `#pragma omp parallel` becomes in GCC's calling convention, which Intel's runtime has too.
  void (*parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags);
  int (*thread_number)();
  int (*thread_count)();
};

inline OpenMp g_openmp_entry_points;
inline std::atomic<const OpenMp *> g_openmp{nullptr};
inline std::atomic<int32_t> g_threads{1};

struct Team {
  void (*body)(void *data, int32_t part);
  void *data;
  int32_t parts;
  const OpenMp *openmp;
  int32_t cpu;  // of the thread that started the team
};

inline void run_team_member(void *raw) {
  const Team &team = *static_cast<const Team *>(raw);
  // The runtime may give fewer threads than were asked for.
  const int32_t threads = team.openmp->thread_count();
  const int32_t number = team.openmp->thread_number();
  if (number > 0) {
    stay_off(team.cpu);
  }
  for (int32_t part = number; part < team.parts; part += threads) {
    team.body(team.data, part);
  }
}

inline void parallel_for(void (*body)(void *data, int32_t part), void *data, int32_t parts) {
  if (const OpenMp *openmp = g_openmp.load(std::memory_order_acquire)) {
    Team team{body, data, parts, openmp, cpu_of_this_thread()};
    openmp->parallel(run_team_member, &team, static_cast<unsigned>(parts), 0);
    return;
  }
  std::vector<std::thread> threads;
  int32_t part = 1;
  try {
    threads.reserve(parts - 1);
    for (; part < parts; ++part) {
      threads.emplace_back(body, data, part);
    }
  } catch (const std::exception &) {
    // No more threads to be had: the parts that are left are done here.
  }
  for (; part < parts; ++part) {
    body(data, part);
  }
  body(data, 0);
  for (std::thread &thread : threads) {
    thread.join();
  }
}

// Uses the OpenMP runtime at a path; returns what radam_operator_set_openmp does.
inline int32_t use_openmp(const char *path) {
  // The handle is kept: closing it could unload the runtime under our feet.
  void *handle = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) {
    return 1;
  }
  OpenMp found;
  found.parallel = reinterpret_cast<decltype(found.parallel)>(dlsym(handle, "GOMP_parallel"));
  found.thread_number =
      reinterpret_cast<decltype(found.thread_number)>(dlsym(handle, "omp_get_thread_num"));
  found.thread_count =
      reinterpret_cast<decltype(found.thread_count)>(dlsym(handle, "omp_get_num_threads"));
  if (found.parallel == nullptr || found.thread_number == nullptr ||
      found.thread_count == nullptr) {
    return 2;
  }
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (g_openmp.load(std::memory_order_relaxed) == nullptr) {
    g_openmp_entry_points = found;
    g_openmp.store(&g_openmp_entry_points, std::memory_order_release);
  }
  return 0;
}

}  // namespace radam_codegen

#endif  // RADAM_CODEGEN_OPERATOR_THREADS_H

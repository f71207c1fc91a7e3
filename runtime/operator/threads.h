// Threads of a step on the CPU: Paddle's own OpenMP runtime where there is one, else new threads.
#ifndef RADAM_CODEGEN_OPERATOR_THREADS_H
#define RADAM_CODEGEN_OPERATOR_THREADS_H

#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "apart.h"
#include "shares.h"

namespace radam_codegen {

struct OpenMp {
  // What `#pragma omp parallel` becomes in GCC's calling convention, which Intel's runtime has too.
  void (*parallel)(void (*body)(void *), void *data, unsigned threads, unsigned flags);
  int (*thread_number)();
};

inline OpenMp g_openmp_entry_points;
inline std::atomic<const OpenMp *> g_openmp{nullptr};
inline std::atomic<int32_t> g_threads{1};

struct Team {
  void (*body)(void *data, int32_t part);
  void *data;
  Shares *shares;
  const OpenMp *openmp;
  int32_t cpu;  // of the thread that started the team
};

// The runtime may give fewer threads than were asked for: their shares are done by the others.
inline void run_team_member(void *raw) {
  const Team &team = *static_cast<const Team *>(raw);
  const int32_t number = team.openmp->thread_number();
  if (number > 0) {
    stay_off(team.cpu);
  }
  team.shares->work(number, team.body, team.data);
}

inline void parallel_for(void (*body)(void *data, int32_t part), void *data, int32_t parts) {
  thread_local Shares shares;
  const int32_t wanted = std::min(parts, g_threads.load(std::memory_order_relaxed));
  shares.fill(parts, wanted);
  if (const OpenMp *openmp = g_openmp.load(std::memory_order_acquire)) {
    Team team{body, data, &shares, openmp, cpu_of_this_thread()};
    openmp->parallel(run_team_member, &team, static_cast<unsigned>(wanted), 0);
    return;
  }
  std::vector<std::thread> threads;
  try {
    threads.reserve(wanted - 1);
    for (int32_t number = 1; number < wanted; ++number) {
      threads.emplace_back(&Shares::work, &shares, number, body, data);
    }
  } catch (const std::exception &) {
    // No more threads to be had: what is left is done here.
  }
  shares.work(0, body, data);
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
  if (found.parallel == nullptr || found.thread_number == nullptr) {
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

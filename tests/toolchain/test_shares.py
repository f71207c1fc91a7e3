"""Every part of a team's work is done once, and what a late thread has not begun others do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from radam_codegen._resources import runtime_dir

SOURCE = """
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "operator/shares.h"

struct Work {
  std::unique_ptr<std::atomic<int>[]> times;
  std::vector<int> order;  // of a single thread
  int late;                // the part that takes long; -1: none does
};

static thread_local int done_here = 0;

static void body(void *data, int32_t part) {
  Work &work = *static_cast<Work *>(data);
  work.times[part].fetch_add(1);
  ++done_here;
  if (work.late < 0) {
    work.order.push_back(part);
  } else if (part == work.late) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

static Work work_of(int parts, int late) {
  Work work{std::make_unique<std::atomic<int>[]>(parts), {}, late};
  for (int part = 0; part < parts; ++part) {
    work.times[part] = 0;
  }
  return work;
}

// Prints in which order a thread does everything when the others never come.
static void alone(int parts, int count, int number) {
  Work work = work_of(parts, -1);
  radam_codegen::Shares shares;
  shares.fill(parts, count);
  shares.work(number, body, &work);
  for (const int part : work.order) {
    std::printf("%d ", part);
  }
}

// Prints how many parts were not done once, and how many the thread did whose first takes long.
static void together(int parts, int count) {
  Work work = work_of(parts, 0);
  radam_codegen::Shares shares;
  shares.fill(parts, count);
  std::vector<std::thread> threads;
  for (int number = 1; number < count; ++number) {
    threads.emplace_back(&radam_codegen::Shares::work, &shares, number, body, &work);
  }
  shares.work(0, body, &work);
  for (std::thread &thread : threads) {
    thread.join();
  }
  int wrong = 0;
  for (int part = 0; part < parts; ++part) {
    wrong += work.times[part] != 1;
  }
  std::printf("%d %d", wrong, done_here);
}

int main(int count, char **words) {
  const int parts = std::atoi(words[1]), threads = std::atoi(words[2]);
  if (count == 4) {
    alone(parts, threads, std::atoi(words[3]));
  } else {
    together(parts, threads);
  }
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shares")
    source, program = folder / "shares.cc", folder / "shares"
    source.write_text(SOURCE)
    include = ["-I", str(runtime_dir())]
    flags = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    subprocess.run(["g++", *flags, *include, str(source), "-o", str(program)], check=True)
    return program


def said(program: Path, *numbers: int) -> list[int]:
    words = [str(program), *map(str, numbers)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    return [int(word) for word in done.stdout.split()]


def test_own_parts_come_in_order_and_those_of_others_from_their_end(program: Path) -> None:
    assert said(program, 10, 3, 1) == [3, 4, 5, 9, 8, 7, 6, 2, 1, 0]
    assert said(program, 4, 4, 3) == [3, 0, 1, 2]
    assert said(program, 5, 1, 0) == [0, 1, 2, 3, 4]
    assert said(program, 0, 2, 0) == []


@pytest.mark.parametrize(("parts", "threads"), [(2, 2), (64, 2), (1000, 3), (999, 8)])
def test_every_part_is_done_once(program: Path, parts: int, threads: int) -> None:
    for _ in range(5):
        wrong, _ = said(program, parts, threads)
        assert wrong == 0


def test_nobody_waits_for_what_a_late_thread_has_not_begun(program: Path) -> None:
    wrong, of_late_thread = said(program, 64, 2)
    assert wrong == 0
    # It sleeps in the first of its 32; all others were done before it had slept.
    assert of_late_thread < 32

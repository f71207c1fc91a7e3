#include "scheduler.h"

#include <algorithm>
#include <memory>

#include "fault.h"
#include "fiber.h"

#if defined(__SANITIZE_ADDRESS__)
#define UNWATCHED __attribute__((no_sanitize("address")))
#else
#define UNWATCHED
#endif

namespace emulation {

namespace {

const unsigned WARP = 32;
const size_t RESIDENT_BLOCKS = 3;           /* at once, where blocks are interleaved */
const unsigned CHANGE_ONE_IN = 16;          /* accesses */

class Random {
public:
    explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 1) {}

    uint32_t below(size_t bound)
    {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return (state_ >> 33) % bound;
    }

private:
    uint64_t state_;
};

enum class State { ready, at_barrier, at_shuffle, ended };

struct Thread {
    State state = State::ready;
    Fiber *fiber = nullptr; /* once it has begun */
    int line = 0;           /* where it waits */
    unsigned mask = 0;      /* of a shuffle */
    uint64_t bits = 0;      /* what it brings there, and what it gets */
    unsigned delta = 0;
};

struct Block {
    uint32_t number;
    uint32_t epoch = 0;
    std::vector<Thread> threads;
    std::vector<uint16_t> ready; /* the last one is next */
    size_t ended = 0;
    size_t at_barrier = 0;
    std::vector<char> shared; /* while another block runs */
    std::vector<Cell> cells;
};

Schedule schedule;
uint32_t runs; /* launches that were run */
Random choices(0);

const Launch *launch;
Block *in_memory; /* the block whose shared memory is in place */
Thread *thread;
Running now;

/* ---- Shared memory -------------------------------------------------------------------------------- */

/* Word by word, as the gaps between a library's variables may be forbidden to memcpy. */
UNWATCHED void copy(char *to, const char *from, size_t bytes)
{
    for (size_t k = 0; k < bytes; ++k) {
        static_cast<volatile char *>(to)[k] = from[k];
    }
}

void put_in_memory(Block *wanted)
{
    if (in_memory == wanted) {
        return;
    }
    const size_t bytes = launch->shared_end - launch->shared_begin;
    if (in_memory != nullptr) {
        copy(in_memory->shared.data(), launch->shared_begin, bytes);
    }
    if (wanted != nullptr) {
        copy(launch->shared_begin, wanted->shared.data(), bytes);
    }
    in_memory = wanted;
}

/* ---- Blocks --------------------------------------------------------------------------------------- */

template <typename T>
void arrange(std::vector<T> &ascending)
{
    if (schedule.order == Order::ascending) {
        std::reverse(ascending.begin(), ascending.end()); /* the last one is next */
    } else if (schedule.order != Order::descending) {
        for (size_t k = ascending.size(); k > 1; --k) {
            std::swap(ascending[k - 1], ascending[choices.below(k)]);
        }
    }
}

std::unique_ptr<Block> new_block(uint32_t number)
{
    std::unique_ptr<Block> made(new Block);
    const size_t bytes = launch->shared_end - launch->shared_begin;
    made->number = number;
    made->threads.resize(launch->block.x);
    for (uint32_t k = 0; k < launch->block.x; ++k) {
        made->ready.push_back(static_cast<uint16_t>(k));
    }
    arrange(made->ready);
    made->shared.assign(bytes, RUBBISH);
    Cell cell;
    cell.exists = true;
    made->cells.assign((bytes + CELL - 1) / CELL, cell);
    return made;
}

/* No thread of a block can run, and some have not ended. */
[[noreturn]] void stuck(const Block &in)
{
    size_t waiting = 0;
    const Thread *first = nullptr;
    for (const Thread &each : in.threads) {
        if (each.state == State::at_shuffle) {
            fault("divergence: a shuffle in line %d waits for lanes that its mask %#x names", each.line,
                each.mask);
        }
        if (each.state == State::at_barrier) {
            waiting += 1;
            if (first == nullptr) {
                first = &each;
            }
            if (each.line != first->line) {
                fault("deadlock: threads wait at different barriers, in line %d and in line %d",
                    first->line, each.line);
            }
        }
    }
    fault("deadlock: %zu threads wait at a barrier in line %d that %zu never reach", waiting,
        first == nullptr ? 0 : first->line, in.ended);
}

/* All threads of a block have arrived at a barrier: they go on where they came to the same one. */
void release_barrier(Block &in)
{
    for (const Thread &each : in.threads) {
        if (each.line != in.threads[0].line) {
            stuck(in);
        }
    }
    in.ready.clear();
    for (size_t k = 0; k < in.threads.size(); ++k) {
        in.threads[k].state = State::ready;
        in.ready.push_back(static_cast<uint16_t>(k));
    }
    arrange(in.ready);
    in.at_barrier = 0;
    in.epoch += 1;
}

/* Exchanges values where all lanes of a mask have arrived at the same shuffle. */
void try_shuffle(Block &in, size_t lane_zero, unsigned mask, int line)
{
    uint64_t brought[WARP] = {};
    for (unsigned lane = 0; lane < WARP; ++lane) {
        if ((mask >> lane & 1) == 0) {
            continue;
        }
        if (lane_zero + lane >= in.threads.size()) {
            fault("divergence: the mask %#x in line %d names lanes that the block lacks", mask, line);
        }
        const Thread &each = in.threads[lane_zero + lane];
        if (each.state != State::at_shuffle || each.line != line || each.mask != mask) {
            return;
        }
        brought[lane] = each.bits;
    }
    std::vector<uint16_t> released;
    for (unsigned lane = 0; lane < WARP; ++lane) {
        if ((mask >> lane & 1) == 0) {
            continue;
        }
        Thread &each = in.threads[lane_zero + lane];
        const unsigned source = lane + each.delta < WARP ? lane + each.delta : lane;
        if ((mask >> source & 1) == 0) {
            fault("divergence: a shuffle in line %d reads lane %u, which its mask %#x leaves out", line,
                source, mask);
        }
        each.bits = brought[source];
        each.state = State::ready;
        released.push_back(static_cast<uint16_t>(lane_zero + lane));
    }
    arrange(released);
    in.ready.insert(in.ready.end(), released.begin(), released.end());
}

/* Runs one ready thread until it waits, ends, or lets another one run. */
void run_one(Block &in)
{
    if (schedule.order == Order::interleaved) {
        std::swap(in.ready[choices.below(in.ready.size())], in.ready.back());
    }
    const uint16_t number = in.ready.back();
    in.ready.pop_back();
    put_in_memory(&in);
    thread = &in.threads[number];
    if (thread->fiber == nullptr) {
        thread->fiber = take_fiber();
    }
    now = {runs, in.number, in.epoch, number, thread->fiber->stack, thread->fiber->stack + STACK_BYTES,
        launch->shared_begin, launch->shared_end, in.cells.data()};
    enter(thread->fiber);
    if (thread->state == State::ready) {
        in.ready.push_back(number);
    } else if (thread->state == State::ended) {
        give_back(thread->fiber);
        in.ended += 1;
    } else if (thread->state == State::at_barrier) {
        in.at_barrier += 1;
        if (in.at_barrier == in.threads.size()) {
            release_barrier(in);
        }
    } else {
        try_shuffle(in, number / WARP * WARP, thread->mask, thread->line);
    }
    thread = nullptr;
}

} // namespace

/* What a fiber runs: one thread, to its end. */
void run_thread()
{
    launch->run(launch->call);
    thread->state = State::ended;
}

/* ---- What kernels call ---------------------------------------------------------------------------- */

unsigned thread_index() { return now.thread; }
unsigned block_index() { return now.block; }
unsigned block_size() { return launch->block.x; }
unsigned grid_size() { return launch->grid.x; }

void barrier(int line)
{
    thread->state = State::at_barrier;
    thread->line = line;
    leave();
}

uint64_t shuffle_down(int line, unsigned mask, uint64_t bits, unsigned delta, int width)
{
    if (width != static_cast<int>(WARP)) {
        fault("a shuffle in line %d of %d lanes: only whole warps are emulated", line, width);
    }
    if ((mask >> now.thread % WARP & 1) == 0) {
        fault("divergence: lane %u shuffles in line %d, but the mask %#x leaves it out",
            now.thread % WARP, line, mask);
    }
    thread->state = State::at_shuffle;
    thread->line = line;
    thread->mask = mask;
    thread->bits = bits;
    thread->delta = delta;
    leave();
    return thread->bits;
}

/* ---- What stands around the scheduler ---------------------------------------------------------- */

void run_launch(const Launch &wanted)
{
    launch = &wanted;
    runs += 1;
    std::vector<uint32_t> waiting;
    for (uint32_t k = 0; k < wanted.grid.x; ++k) {
        waiting.push_back(k);
    }
    arrange(waiting);
    const bool interleaved = schedule.order == Order::interleaved;
    std::vector<std::unique_ptr<Block>> resident;
    while (!waiting.empty() || !resident.empty()) {
        while (!waiting.empty() && resident.size() < (interleaved ? RESIDENT_BLOCKS : 1)) {
            resident.push_back(new_block(waiting.back()));
            waiting.pop_back();
        }
        const size_t at = interleaved ? choices.below(resident.size()) : 0;
        Block &in = *resident[at];
        while (!in.ready.empty()) {
            run_one(in);
            if (interleaved && choices.below(CHANGE_ONE_IN) == 0) {
                break;
            }
        }
        if (in.ready.empty()) {
            if (in.ended != in.threads.size()) {
                stuck(in);
            }
            put_in_memory(nullptr);
            resident.erase(resident.begin() + static_cast<std::ptrdiff_t>(at));
        }
    }
    launch = nullptr;
}

void choose(const Schedule &wanted)
{
    schedule = wanted;
    choices = Random(wanted.seed);
}

const Running *running() { return thread == nullptr ? nullptr : &now; }

void may_change()
{
    if (schedule.order == Order::interleaved && choices.below(CHANGE_ONE_IN) == 0) {
        leave();
    }
}

const void *kernel_that_runs() { return launch == nullptr ? nullptr : launch->kernel; }

} // namespace emulation

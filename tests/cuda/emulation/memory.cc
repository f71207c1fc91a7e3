#include "memory.h"

#include <cstring>

#include <sys/mman.h>

#include "fault.h"
#include "scheduler.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define HIDE(address, bytes) ASAN_POISON_MEMORY_REGION(address, bytes)
#define SHOW(address, bytes) ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#else
#define HIDE(address, bytes) ((void)(address), (void)(bytes))
#define SHOW(address, bytes) ((void)(address), (void)(bytes))
#endif

namespace emulation {

Traffic traffic;

namespace {

const size_t ARENA_BYTES = size_t(1) << 26;
const size_t GAP = 64; /* between two arrays, at least */

template <typename T>
T *reserve(size_t count)
{
    void *memory = mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        fault("no memory for the device");
    }
    return static_cast<T *>(memory);
}

char *arena;
Cell *arena_cells; /* all zero is an empty cell */
size_t used;

size_t cells(size_t bytes) { return (bytes + CELL - 1) / CELL; }

Cell *cells_at(const void *memory)
{
    return &arena_cells[(static_cast<const char *>(memory) - arena) / CELL];
}

/* Whether the thread that runs touches what another one touched before it, unordered. */
bool unordered(const Touch &before, const Running &now)
{
    if (before.launch != now.launch) {
        return false;
    }
    return before.more_blocks || before.block != now.block
        || (before.epoch == now.epoch && (before.more_threads || before.thread != now.thread));
}

void note(Touch &touch, const Running &now)
{
    const bool same_launch = touch.launch == now.launch;
    const bool same_block = same_launch && touch.block == now.block;
    const bool same_epoch = same_block && touch.epoch == now.epoch;
    touch.more_blocks = same_launch && (touch.more_blocks || !same_block);
    touch.more_threads = same_epoch && (touch.more_threads || touch.thread != now.thread);
    touch.launch = now.launch;
    touch.block = now.block;
    touch.epoch = now.epoch;
    touch.thread = now.thread;
}

[[noreturn]] void race(bool write, const Touch &before, const char *did, const Running &now)
{
    fault("race: thread %u of block %u %s what thread %u of block %u %s, and no barrier orders them",
        now.thread, now.block, write ? "writes" : "reads", before.thread, before.block, did);
}

void touch(Cell &cell, bool write, const Running &now)
{
    if (!cell.exists) {
        fault("out of bounds: thread %u of block %u %s beside an array", now.thread, now.block,
            write ? "writes" : "reads");
    }
    if (write && cell.read_only) {
        fault("thread %u of block %u writes to an input", now.thread, now.block);
    }
    if (unordered(cell.write, now)) {
        race(write, cell.write, "writes", now);
    }
    if (write && unordered(cell.read, now)) {
        race(write, cell.read, "reads", now);
    }
    note(write ? cell.write : cell.read, now);
    cell.written = cell.written || write;
}

/* Whether something has been written to a piece of memory. What a function returns is written where
 * it belongs without a call of ours, so rubbish that is no longer there counts as written over. */
bool is_written(const Cell &cell, const char *address)
{
    return cell.written || address[0] != RUBBISH || address[1] != RUBBISH;
}

/* How many of the cells of an access nothing has written. */
size_t unwritten(const Cell *cell, const char *address, size_t count)
{
    size_t found = 0;
    for (size_t k = 0; k < count; ++k) {
        found += is_written(cell[k], address + k * CELL) ? 0 : 1;
    }
    return found;
}

bool within(const char *address, const char *begin, const char *end)
{
    return address >= begin && address < end;
}

/* Before every access of a kernel's library, by the code at `place`. `align` is 1 where nothing is
 * promised. */
void access(const void *memory, size_t bytes, bool write, size_t align, const void *place)
{
    code_that_runs(place);
    const char *address = static_cast<const char *>(memory);
    const Running *now = running();
    const bool on_device = within(address, arena, arena + ARENA_BYTES);
    if (now == nullptr) {
        if (on_device) {
            fault("the host %s memory of the device", write ? "writes" : "reads");
        }
        return;
    }
    if (within(address, now->stack_begin, now->stack_end)) {
        return;
    }
    const bool shared = within(address, now->shared_begin, now->shared_end);
    if (!on_device && !shared) {
        fault("out of bounds: thread %u of block %u %s neither memory of the device nor shared memory",
            now->thread, now->block, write ? "writes" : "reads");
    }
    if (reinterpret_cast<uintptr_t>(address) % align != 0) {
        fault("misaligned: thread %u of block %u %s %zu bytes at an address that is no multiple of it",
            now->thread, now->block, write ? "writes" : "reads", bytes);
    }
    if (on_device) {
        ++(bytes == 16 ? traffic.packets : traffic.singles);
    }
    Cell *cell = shared ? &now->shared_cells[(address - now->shared_begin) / CELL] : cells_at(address);
    const size_t count = cells(bytes);
    for (size_t k = 0; k < count; ++k) {
        touch(cell[k], write, *now);
    }
    /* A struct that is copied may have gaps that nobody writes. */
    const size_t tolerated = align == 1 ? count - 1 : 0;
    const char *first = address - reinterpret_cast<uintptr_t>(address) % CELL;
    if (!write && unwritten(cell, first, count) > tolerated) {
        fault("uninitialised: thread %u of block %u reads what nothing has written", now->thread,
            now->block);
    }
    may_change();
}

} // namespace

void *allocate(size_t bytes, size_t offset, Holds holds)
{
    if (arena == nullptr) {
        arena = reserve<char>(ARENA_BYTES);
        arena_cells = reserve<Cell>(ARENA_BYTES / CELL);
        HIDE(arena, ARENA_BYTES);
    }
    const size_t begin = (used + GAP + 63) / 64 * 64 + offset;
    used = begin + bytes;
    if (used + GAP > ARENA_BYTES) {
        fault("a case needs more than the device's %zu bytes", ARENA_BYTES);
    }
    SHOW(arena + begin, bytes);
    for (size_t k = 0; k < cells(bytes); ++k) {
        Cell &cell = arena_cells[begin / CELL + k];
        cell.exists = true;
        cell.written = holds != Holds::nothing;
        cell.read_only = holds == Holds::inputs;
    }
    return arena + begin;
}

void forget(void *memory, size_t bytes)
{
    memset(memory, RUBBISH, bytes);
    for (size_t k = 0; k < cells(bytes); ++k) {
        cells_at(memory)[k].written = false;
    }
}

void release_all()
{
    if (arena != nullptr) {
        memset(static_cast<void *>(arena_cells), 0, cells(used) * sizeof(Cell));
        HIDE(arena, used);
    }
    used = 0;
}

} // namespace emulation

/* ---- What the compiler calls under -fsanitize=thread -------------------------------------------- */

#define WATCH(name, write, bytes, align)                                                           \
    void __tsan_##name(void *memory)                                                               \
    {                                                                                              \
        emulation::access(memory, bytes, write, align, __builtin_return_address(0));               \
    }

extern "C" {

WATCH(read1, false, 1, 1)
WATCH(read2, false, 2, 2)
WATCH(read4, false, 4, 4)
WATCH(read8, false, 8, 8)
WATCH(read16, false, 16, 16)
WATCH(write1, true, 1, 1)
WATCH(write2, true, 2, 2)
WATCH(write4, true, 4, 4)
WATCH(write8, true, 8, 8)
WATCH(write16, true, 16, 16)

void __tsan_read_range(void *memory, size_t bytes)
{
    emulation::access(memory, bytes, false, 1, __builtin_return_address(0));
}

void __tsan_write_range(void *memory, size_t bytes)
{
    emulation::access(memory, bytes, true, 1, __builtin_return_address(0));
}

void __tsan_init() {}

} /* extern "C" */

/* Runs steps of generated kernels that were compiled for emulation.
 *
 *   driver CASES RESULTS
 *
 * Both are files of numbers, one case after the other, as tests/support/cuda_emulation.py writes and
 * reads them. A fault ends the process; the results of the cases before it are written by then. */
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <dlfcn.h>

#include <radam_codegen/cuda_kernel.h>

#include "fault.h"
#include "memory.h"
#include "scheduler.h"

using emulation::Holds;
using emulation::fault;

namespace {

const int SLOTS = 5; /* param, grad, moment1, moment2, master */
const int GRAD = 1;

class Reader {
public:
    explicit Reader(const char *path)
    {
        std::FILE *file = std::fopen(path, "rb");
        if (file == nullptr) {
            fault("cannot read %s", path);
        }
        char some[1 << 16];
        for (size_t got; (got = std::fread(some, 1, sizeof some, file)) != 0;) {
            bytes_.insert(bytes_.end(), some, some + got);
        }
        std::fclose(file);
    }

    bool at_end() const { return at_ == bytes_.size(); }

    void read(void *into, size_t bytes)
    {
        if (bytes > bytes_.size() - at_) {
            fault("a case ends early");
        }
        std::copy_n(bytes_.data() + at_, bytes, static_cast<char *>(into));
        at_ += bytes;
    }

    int64_t integer() { return number<int64_t>(); }
    double real() { return number<double>(); }

    std::string text()
    {
        std::string found(static_cast<size_t>(integer()), ' ');
        read(&found[0], found.size());
        return found;
    }

private:
    template <typename T>
    T number()
    {
        T found;
        read(&found, sizeof found);
        return found;
    }

    std::vector<char> bytes_;
    size_t at_ = 0;
};

class Writer {
public:
    explicit Writer(const char *path) : file_(std::fopen(path, "wb"))
    {
        if (file_ == nullptr) {
            fault("cannot write %s", path);
        }
    }
    ~Writer() { std::fclose(file_); }

    void write(const void *from, size_t bytes) { std::fwrite(from, 1, bytes, file_); }
    void integer(int64_t number) { write(&number, sizeof number); }
    void flush() { std::fflush(file_); }

private:
    std::FILE *file_;
};

struct Array {
    void *memory;
    size_t bytes;
};

const radam_cuda_kernel *kernel_of(const std::string &library)
{
    void *handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
        fault("%s", dlerror());
    }
    typedef const radam_cuda_kernel *Describe(void);
    Describe *describe = reinterpret_cast<Describe *>(dlsym(handle, "radam_codegen_cuda_kernel"));
    if (describe == nullptr) {
        fault("%s", dlerror());
    }
    return describe();
}

/* A number that a kernel reads on the device; where it is absent, it has no bytes. */
Array device_number(Reader &from)
{
    const size_t bytes = static_cast<size_t>(from.integer());
    return {bytes == 0 ? nullptr : emulation::allocate(bytes, bytes, Holds::inputs), bytes};
}

void run_case(Reader &from, Writer &to)
{
    emulation::release_all();
    emulation::traffic = {};
    const radam_cuda_kernel *kernel = kernel_of(from.text());
    emulation::Schedule schedule;
    schedule.order = static_cast<emulation::Order>(from.integer());
    schedule.seed = static_cast<uint64_t>(from.integer());
    schedule.most_blocks = static_cast<uint32_t>(from.integer());
    schedule.most_threads = static_cast<uint32_t>(from.integer());
    schedule.failing_launch = from.integer();
    const int64_t less_workspace = from.integer();

    radam_cuda_group group = {};
    group.numbers.beta1 = from.real();
    group.numbers.beta2 = from.real();
    group.numbers.epsilon = from.real();
    group.numbers.clip_bound = from.real();
    group.numbers.clip_lower = from.real();
    group.lr_dtype = static_cast<int32_t>(from.integer());
    const Array lr = device_number(from);
    group.weight_decay_dtype = static_cast<int32_t>(from.integer());
    const Array weight_decay = device_number(from);
    const Array found_inf = device_number(from);
    group.lr = lr.memory;
    group.weight_decay = weight_decay.memory;
    group.found_inf = static_cast<const uint8_t *>(found_inf.memory);

    const size_t count = static_cast<size_t>(from.integer());
    const bool any_at_run_time = from.integer() != 0;
    std::vector<radam_tensor> tensors(count);
    std::vector<radam_tensor_numbers> numbers(count);
    std::vector<uint8_t> at_run_time(count);
    std::vector<Array> arrays;
    std::vector<Array> results;
    for (size_t k = 0; k < count; ++k) {
        tensors[k].numel = from.integer();
        numbers[k].lr_scale = from.real();
        numbers[k].decay = from.real();
        numbers[k].need_clip = static_cast<int32_t>(from.integer());
        numbers[k].body = static_cast<int32_t>(from.integer());
        at_run_time[k] = static_cast<uint8_t>(from.integer());
        void *slots[SLOTS] = {};
        for (int slot = 0; slot < SLOTS; ++slot) {
            const int64_t element = from.integer(); /* bytes; 0: there is no such array */
            const size_t offset = static_cast<size_t>(from.integer());
            if (element == 0) {
                continue;
            }
            const size_t bytes = static_cast<size_t>(tensors[k].numel * element);
            const Holds holds = slot == GRAD ? Holds::inputs : Holds::values;
            slots[slot] = emulation::allocate(bytes, offset, holds);
            arrays.push_back({slots[slot], bytes});
            if (slot != GRAD) {
                results.push_back(arrays.back());
            }
        }
        tensors[k].param = slots[0];
        tensors[k].grad = slots[GRAD];
        tensors[k].moment1 = slots[2];
        tensors[k].moment2 = slots[3];
        tensors[k].master = slots[4];
    }
    const Array step = {emulation::allocate(count * sizeof(int64_t), 8, Holds::values),
        count * sizeof(int64_t)};
    group.step = static_cast<int64_t *>(step.memory);
    from.read(step.memory, step.bytes);
    for (const Array &each : arrays) {
        from.read(each.memory, each.bytes);
    }

    group.tensors = tensors.data();
    group.tensor_numbers = numbers.data();
    group.decay_at_run_time = any_at_run_time ? at_run_time.data() : nullptr;
    group.tensor_count = static_cast<int64_t>(count);
    const Array workspace = {nullptr, kernel->workspace_size(&group)};
    group.workspace_bytes = workspace.bytes - static_cast<uint64_t>(less_workspace);
    group.workspace = emulation::allocate(workspace.bytes, 16, Holds::nothing);

    char stream;
    emulation::begin_recording(schedule, &stream);
    const int32_t status = kernel->step(&group, &stream);
    /* What is in host memory is not read from now on. */
    std::memset(static_cast<void *>(tensors.data()), 0xff, count * sizeof tensors[0]);
    std::memset(static_cast<void *>(numbers.data()), 0xff, count * sizeof numbers[0]);
    std::memset(at_run_time.data(), 0xff, count);
    const void *workspace_memory = group.workspace;
    std::memset(static_cast<void *>(&group), 0xff, sizeof group);

    /* Like a graph that was captured once: each time with the numbers of its step. */
    const int64_t steps = from.integer();
    for (int64_t k = 0; k < steps; ++k) {
        emulation::forget(const_cast<void *>(workspace_memory), workspace.bytes);
        for (const Array &each : {lr, weight_decay, found_inf}) {
            from.read(each.memory, each.bytes);
        }
        if (status == 0) {
            emulation::run_recorded();
        }
    }

    to.integer(status);
    to.integer(static_cast<int64_t>(emulation::recorded()));
    to.integer(emulation::traffic.packets);
    to.integer(emulation::traffic.singles);
    to.write(step.memory, step.bytes);
    for (const Array &each : results) {
        to.write(each.memory, each.bytes);
    }
    to.integer(static_cast<int64_t>(workspace.bytes));
    to.write(workspace_memory, workspace.bytes);
    to.flush();
}

} // namespace

int main(int count, char **arguments)
{
    if (count != 3) {
        fault("usage: driver CASES RESULTS");
    }
    Reader from(arguments[1]);
    Writer to(arguments[2]);
    while (!from.at_end()) {
        run_case(from, to);
    }
    return EXIT_SUCCESS;
}

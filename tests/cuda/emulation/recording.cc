/* Launches are recorded first and run afterwards, as on a stream or by a graph. */
#include <algorithm>
#include <vector>

#include "fault.h"
#include "scheduler.h"

namespace emulation {

namespace {

Schedule schedule;
void *expected_stream;
std::vector<Launch> launches;

} // namespace

int enqueue(const Launch &wanted)
{
    const size_t most_bytes = CUDART_VERSION >= 12010 ? 32764 : 4096;
    if (wanted.stream != expected_stream) {
        fault("a launch on another stream than the step's");
    }
    if (wanted.argument_bytes > most_bytes) {
        fault("a launch with %zu bytes of arguments", wanted.argument_bytes);
    }
    if (wanted.grid.x == 0 || wanted.grid.x > 0x7fffffff || wanted.grid.y != 1 || wanted.grid.z != 1) {
        fault("a launch of %u x %u x %u blocks", wanted.grid.x, wanted.grid.y, wanted.grid.z);
    }
    if (wanted.block.x == 0 || wanted.block.x > 1024 || wanted.block.y != 1 || wanted.block.z != 1) {
        fault("a launch of %u x %u x %u threads", wanted.block.x, wanted.block.y, wanted.block.z);
    }
    if (static_cast<int64_t>(launches.size()) == schedule.failing_launch) {
        return cudaErrorLaunchOutOfResources;
    }
    Launch each = wanted;
    if (schedule.most_blocks != 0) {
        each.grid.x = std::min(each.grid.x, schedule.most_blocks);
    }
    if (schedule.most_threads != 0) {
        each.block.x = std::min(each.block.x, schedule.most_threads);
    }
    launches.push_back(each);
    return cudaSuccess;
}

void begin_recording(const Schedule &wanted, void *stream)
{
    schedule = wanted;
    expected_stream = stream;
    launches.clear();
    choose(wanted);
}

void run_recorded()
{
    for (const Launch &each : launches) {
        run_launch(each);
    }
}

size_t recorded() { return launches.size(); }

} // namespace emulation

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaSuccess ? "no error" : "an error of the emulation";
}

#include "fault.h"

#include <cstdarg>
#include <cstdio>

#include <dlfcn.h>
#include <unistd.h>

#include "scheduler.h"

namespace emulation {

namespace {

const void *code;

} // namespace

void code_that_runs(const void *place) { code = place; }

void fault(const char *format, ...)
{
    std::va_list arguments;
    va_start(arguments, format);
    std::fputs("emulation: ", stderr);
    std::vfprintf(stderr, format, arguments);
    va_end(arguments);
    std::fputs("\n", stderr);
    Dl_info info;
    if (kernel_that_runs() != nullptr && dladdr(kernel_that_runs(), &info) != 0) {
        std::fprintf(stderr, "in %s\n", info.dli_sname == nullptr ? "a kernel" : info.dli_sname);
    }
    if (code != nullptr && dladdr(code, &info) != 0) {
        const char *begin = static_cast<const char *>(info.dli_fbase);
        std::fprintf(stderr, "at %s %#tx\n", info.dli_fname, static_cast<const char *>(code) - begin);
    }
    std::fflush(stderr);
    _exit(3);
}

} // namespace emulation

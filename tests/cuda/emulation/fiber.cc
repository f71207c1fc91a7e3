#include "fiber.h"

#include <vector>

#include <sys/mman.h>

#include "fault.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

namespace {

std::vector<Fiber *> idle;
ucontext_t host;
Fiber *entered;

#if defined(__SANITIZE_ADDRESS__)
const void *host_stack;
size_t host_stack_bytes;
#endif

void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &host_stack, &host_stack_bytes);
#endif
    for (;;) {
        run_thread();
        leave();
    }
}

Fiber *new_fiber()
{
    void *stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) {
        fault("no memory for a thread's stack");
    }
    Fiber *fiber = new Fiber;
    fiber->stack = static_cast<char *>(stack);
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = stack;
    fiber->context.uc_stack.ss_size = STACK_BYTES;
    fiber->context.uc_link = nullptr;
    makecontext(&fiber->context, fiber_main, 0);
    return fiber;
}

} // namespace

Fiber *take_fiber()
{
    if (idle.empty()) {
        return new_fiber();
    }
    Fiber *fiber = idle.back();
    idle.pop_back();
    return fiber;
}

void give_back(Fiber *fiber) { idle.push_back(fiber); }

void enter(Fiber *fiber)
{
    entered = fiber;
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, fiber->stack, STACK_BYTES);
#endif
    swapcontext(&host, &fiber->context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void leave()
{
#if defined(__SANITIZE_ADDRESS__)
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, host_stack, host_stack_bytes);
#endif
    swapcontext(&entered->context, &host);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake, &host_stack, &host_stack_bytes);
#endif
}

} // namespace emulation

/* How a run ends in which a kernel does what it must not. */
#ifndef FAULT_H
#define FAULT_H

namespace emulation {

/* Says what is wrong, and where, and ends the process with status 3. */
[[noreturn]] void fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Where the code is that runs, for the message of a fault. */
void code_that_runs(const void *place);

} // namespace emulation

#endif /* FAULT_H */

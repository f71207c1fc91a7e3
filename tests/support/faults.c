/* Preloaded into a process, this lets the Nth of its calls that change files fail.
 *
 * It counts the system calls that write below one folder: those of the process, of its threads and
 * of every program that it starts, be they made by libc itself, by a compiler or by an assembler.
 * The kernel hands each to a handler here (a seccomp filter that traps), which makes the call, makes
 * it fail, or ends the processes. What to do stands in a file that all of them share; faults.py
 * writes it. The same file moves the clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum action { PASS, FAIL, SHORT, KILL_ALL, KILL_CALLER, KILL_PARENT };

/* Laid out as faults.py packs it. */
struct state {
    char folder[1024];      /* calls below it count, with a slash at its end */
    char log[1024];         /* each counted call becomes a line here; empty: no log */
    int64_t parent;         /* process under test */
    int64_t nth;            /* which call fails, from 1; 0: none */
    int64_t action;         /* enum action */
    int64_t error;          /* errno of FAIL */
    int64_t lasting;        /* whether all calls after the Nth fail, too */
    int64_t clock_seconds;  /* added to what clocks say */
    _Atomic int64_t count;  /* counted calls so far */
    _Atomic int64_t struck; /* calls that did not go through as they were */
};

static struct state *state;

/* The filter lets a call through whose unused sixth argument is this. */
#define OURS 0x7261646dUL

static long plainly(long number, const unsigned long *a) {
    const int before = errno;
    long result = syscall(number, a[0], a[1], a[2], a[3], a[4], OURS);
    if (result == -1) {
        result = -errno;
    }
    errno = before;
    return result;
}

/* ---- What is counted ------------------------------------------------------------------------ */

/* Where a call's path is: in a file descriptor (FD), in an argument (PATH), or in an argument that
 * is relative to the descriptor before it (AT). */
enum where { FD, PATH, AT };

static const struct counted {
    long number;
    const char *name;
    enum where where;
    int argument; /* that holds the path, or the descriptor */
    int flags;    /* argument with the flags of an open; -1: none */
} counted[] = {
    {SYS_write, "write", FD, 0, -1},
    {SYS_pwrite64, "pwrite", FD, 0, -1},
    {SYS_writev, "writev", FD, 0, -1},
    {SYS_pwritev, "pwritev", FD, 0, -1},
    {SYS_sendfile, "sendfile", FD, 0, -1},
    {SYS_copy_file_range, "copy_file_range", FD, 2, -1},
    {SYS_fsync, "fsync", FD, 0, -1},
    {SYS_fdatasync, "fdatasync", FD, 0, -1},
    {SYS_ftruncate, "ftruncate", FD, 0, -1},
    {SYS_fchmod, "fchmod", FD, 0, -1},
    {SYS_flock, "flock", FD, 0, -1},
    {SYS_openat, "open", AT, 1, 2},
    {SYS_renameat, "rename", AT, 3, -1},
    {SYS_renameat2, "rename", AT, 3, -1},
    {SYS_mkdirat, "mkdir", AT, 1, -1},
    {SYS_unlinkat, "unlink", AT, 1, -1},
    {SYS_linkat, "link", AT, 3, -1},
    {SYS_symlinkat, "symlink", AT, 2, -1},
    {SYS_fchmodat, "chmod", AT, 1, -1},
    {SYS_utimensat, "utime", AT, 1, -1},
#ifdef SYS_open /* newer machines have none of these */
    {SYS_open, "open", PATH, 0, 1},
    {SYS_creat, "open", PATH, 0, -1},
    {SYS_rename, "rename", PATH, 1, -1},
    {SYS_mkdir, "mkdir", PATH, 0, -1},
    {SYS_unlink, "unlink", PATH, 0, -1},
    {SYS_rmdir, "rmdir", PATH, 0, -1},
    {SYS_link, "link", PATH, 1, -1},
    {SYS_symlink, "symlink", PATH, 1, -1},
    {SYS_chmod, "chmod", PATH, 0, -1},
#endif
};
#define COUNTED (sizeof counted / sizeof counted[0])

static const struct counted *find(long number) {
    for (size_t i = 0; i < COUNTED; ++i) {
        if (counted[i].number == number) {
            return &counted[i];
        }
    }
    return NULL;
}

/* Write the path of a call into `path`; 0 when it has none. */
static int path_of(const struct counted *call, const unsigned long *a, char path[PATH_MAX]) {
    char link[64];
    long folder = -1;
    const char *given = NULL;
    ssize_t length = 0;
    if (call->where == FD) {
        folder = (int)a[call->argument];
    } else {
        given = (const char *)a[call->argument];
        folder = call->where == AT ? (int)a[call->argument - 1] : AT_FDCWD;
    }
    if (given == NULL || given[0] != '/') {
        if (folder == AT_FDCWD) {
            snprintf(link, sizeof link, "/proc/self/cwd");
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%ld", folder);
        }
        length = readlink(link, path, PATH_MAX - 1);
        if (length < 0) {
            return 0;
        }
    }
    path[length] = '\0';
    if (given != NULL) {
        snprintf(path + length, PATH_MAX - (size_t)length, "%s%s", length > 0 ? "/" : "", given);
    }
    return 1;
}

static void write_log(const struct counted *call, int64_t number, const char *path) {
    char line[PATH_MAX + 128];
    const int length =
        snprintf(line, sizeof line, "%lld %s %s %s\n", (long long)number,
                 getpid() == state->parent ? "process" : "compiler", call->name, path);
    const unsigned long opened[5] = {(unsigned long)AT_FDCWD, (unsigned long)state->log,
                                     O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600, 0};
    const long log = plainly(SYS_openat, opened);
    if (log >= 0) {
        const unsigned long written[5] = {(unsigned long)log, (unsigned long)line,
                                          (unsigned long)length, 0, 0};
        plainly(SYS_write, written);
        close((int)log);
    }
}

/* ---- What becomes of it --------------------------------------------------------------------- */

static void kill_all(void) {
    kill((pid_t)state->parent, SIGKILL);
    kill(0, SIGKILL); /* the group of the caller, which a compiler may have of its own */
}

static long half(const struct counted *call, const unsigned long *a) {
    if (call->number == SYS_write || call->number == SYS_pwrite64) {
        const unsigned long halved[5] = {a[0], a[1], a[2] / 2, a[3], a[4]};
        return a[2] < 2 ? -ENOSPC : plainly(call->number, halved);
    }
    return -ENOSPC;
}

static long act(const struct counted *call, const unsigned long *a, int first) {
    switch ((enum action)state->action) {
        case FAIL:
            return -state->error;
        case SHORT: /* then the disk is full */
            return first ? half(call, a) : -ENOSPC;
        case KILL_ALL:
            kill_all();
            break;
        case KILL_CALLER:
            kill(getpid(), SIGKILL);
            break;
        case KILL_PARENT:
            kill((pid_t)state->parent, SIGKILL);
            break;
        case PASS:
            break;
    }
    return plainly(call->number, a);
}

static long handle(long number, const unsigned long *a) {
    char path[PATH_MAX];
    const struct counted *call = find(number);
    if (call == NULL || state->folder[0] == '\0' || !path_of(call, a, path) ||
        strncmp(path, state->folder, strlen(state->folder)) != 0) {
        return plainly(number, a);
    }
    const int64_t current = ++state->count;
    if (state->log[0] != '\0') {
        write_log(call, current, path);
    }
    const int first = current == state->nth;
    if (state->nth > 0 && (first || (state->lasting && current > state->nth))) {
        ++state->struck;
        return act(call, a, first);
    }
    return plainly(number, a);
}

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
static void on_trap(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned long a[5] = {
        (unsigned long)registers[REG_RDI], (unsigned long)registers[REG_RSI],
        (unsigned long)registers[REG_RDX], (unsigned long)registers[REG_R10],
        (unsigned long)registers[REG_R8],
    };
    (void)signal;
    registers[REG_RAX] = handle(info->si_syscall, a);
}
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
static void on_trap(int signal, siginfo_t *info, void *context) {
    unsigned long long *registers = ((ucontext_t *)context)->uc_mcontext.regs;
    const unsigned long a[5] = {registers[0], registers[1], registers[2], registers[3],
                                registers[4]};
    (void)signal;
    registers[0] = (unsigned long long)handle(info->si_syscall, a);
}
#else
#error "which registers hold a system call's arguments is known for x86-64 and aarch64"
#endif

/* ---- Getting there -------------------------------------------------------------------------- */

static int install_filter(void) {
    struct sock_filter program[8 + 5 * COUNTED];
    unsigned short length = 0;
    const unsigned int number = offsetof(struct seccomp_data, nr);
#define ADD(...) program[length++] = (struct sock_filter)__VA_ARGS__
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5])));
    ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OURS, 0, 1));
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, number));
    for (size_t i = 0; i < COUNTED; ++i) {
        if (counted[i].flags < 0) {
            ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)counted[i].number, 0, 1));
            ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
            continue;
        }
        /* A program opens files for reading before this library is there to handle a trap. */
        ADD(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)counted[i].number, 0, 4));
        ADD(BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                     (unsigned int)offsetof(struct seccomp_data, args[0]) +
                         8 * (unsigned int)counted[i].flags));
        ADD(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_WRONLY | O_RDWR | O_CREAT, 0, 1));
        ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
        ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
    ADD(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
#undef ADD
    const struct sock_fprog filter = {length, program};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_STATE");
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER};
    const unsigned long opened[5] = {(unsigned long)AT_FDCWD, (unsigned long)path, O_RDWR | O_CLOEXEC, 0, 0};
    const int file = path == NULL ? -1 : (int)plainly(SYS_openat, opened);
    if (file < 0) {
        return;
    }
    void *shared = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared == MAP_FAILED || sigaction(SIGSYS, &action, NULL) != 0) {
        abort();
    }
    state = shared;
    /* A program that another one starts has its filter already. */
    if (getenv("FAULTS_TRAPPED") == NULL) {
        if (!install_filter()) {
            perror("faults.c: the kernel takes no filter");
            _exit(125);
        }
        setenv("FAULTS_TRAPPED", "1", 1);
    }
}

/* ---- The clock ------------------------------------------------------------------------------ */

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "clock_gettime");
    }
    const int result = real(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && state != NULL) {
        time->tv_sec += state->clock_seconds;
    }
    return result;
}

time_t time(time_t *result) {
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (result != NULL) {
        *result = now.tv_sec;
    }
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact = {0, 0};
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

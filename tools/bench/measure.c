/* What steps are measured against, and with: the same traffic with next to no arithmetic, the same with
 * a step's division and square root and nothing else, and a clock around each step of a kernel.
 *
 * The threads of the ceiling spin between steps, which no library that shares its process may do: a
 * step cannot start and end its threads faster.
 */
#define _POSIX_C_SOURCE 200809L

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <radam_codegen/operator.h>

/* Lanes of the sums, so that adding them up never waits for the addition before. */
#define LANES 64
/* Shares begin where a cache line does. */
#define LINE_FLOATS 16

typedef struct arrays {
    float *param;
    const float *grad;
    float *moment1;
    float *moment2;
    int64_t numel;
} arrays;

typedef struct share {
    arrays *pieces;
    int64_t count;
    float sum;
} share;

typedef struct team {
    share *shares;
    int32_t threads;
    int32_t with_norm; /* read the gradients once before */
    int32_t with_root; /* divide by a square root per element */
    float zero;        /* which the compiler does not know */
    _Atomic int64_t phase;
    _Atomic int64_t done;
    _Atomic int32_t end;
} team;

typedef struct member {
    team *team;
    int32_t number;
    pthread_t thread;
} member;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static float read_gradient(const float *restrict grad, int64_t numel) {
    float sums[LANES] = {0};
    float sum = 0;
    int64_t i = 0;
    for (; i + LANES <= numel; i += LANES) {
        for (int lane = 0; lane < LANES; ++lane) {
            sums[lane] += grad[i + lane];
        }
    }
    for (; i < numel; ++i) {
        sum += grad[i];
    }
    for (int lane = 0; lane < LANES; ++lane) {
        sum += sums[lane];
    }
    return sum;
}

/* Moves the elements of a piece; with_root also has each divided by a square root, which are the two
 * operations of a step that a core cannot start anew in every cycle. */
static inline __attribute__((always_inline)) void move(const arrays *piece, float zero,
                                                       int with_root) {
    float *restrict param = piece->param;
    const float *restrict grad = piece->grad;
    float *restrict moment1 = piece->moment1;
    float *restrict moment2 = piece->moment2;
    for (int64_t i = 0; i < piece->numel; ++i) {
        /* Stores come last: a load waits for those before it whose addresses end alike, as they do
         * where arrays begin on pages. */
        const float nothing = zero * grad[i];
        const float new_moment1 = moment1[i] + nothing;
        const float new_moment2 = moment2[i] + nothing;
        const float quotient = with_root ? new_moment1 / (sqrtf(new_moment2) + 1.0f) : grad[i];
        const float new_param = param[i] + zero * quotient;
        param[i] = new_param;
        moment1[i] = new_moment1;
        moment2[i] = new_moment2;
    }
}

static void do_share(const team *team, share *share, int64_t phase) {
    const int reads = team->with_norm && phase % 2 == 0;
    for (int64_t i = 0; i < share->count; ++i) {
        if (reads) {
            share->sum += read_gradient(share->pieces[i].grad, share->pieces[i].numel);
        } else if (team->with_root) {
            move(&share->pieces[i], team->zero, 1);
        } else {
            move(&share->pieces[i], team->zero, 0);
        }
    }
}

static void *run_member(void *data) {
    const member *self = data;
    team *team = self->team;
    for (int64_t phase = 0;; ++phase) {
        while (atomic_load_explicit(&team->phase, memory_order_acquire) <= phase) {
            pause_briefly();
        }
        if (atomic_load_explicit(&team->end, memory_order_relaxed)) {
            return NULL;
        }
        do_share(team, &team->shares[self->number], phase);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
    }
}

static void run_phase(team *team, int64_t phase) {
    atomic_store_explicit(&team->done, 0, memory_order_relaxed);
    atomic_store_explicit(&team->phase, phase + 1, memory_order_release);
    do_share(team, &team->shares[0], phase);
    while (atomic_load_explicit(&team->done, memory_order_acquire) < team->threads - 1) {
        pause_briefly();
    }
}

/* Cuts the elements of all tensors into shares of equal length; 0 when there is no memory. */
static int cut(const arrays *tensors, int64_t count, share *shares, int32_t threads) {
    int64_t elements = 0;
    int64_t before = 0;
    for (int64_t i = 0; i < count; ++i) {
        elements += tensors[i].numel;
    }
    const int64_t length = (elements / threads / LINE_FLOATS + 1) * LINE_FLOATS;
    for (int32_t part = 0; part < threads; ++part) {
        shares[part].pieces = malloc((size_t)count * sizeof(arrays));
        if (shares[part].pieces == NULL) {
            return 0;
        }
    }
    for (int64_t i = 0; i < count; ++i) {
        for (int64_t begin = 0; begin < tensors[i].numel;) {
            share *share = &shares[before / length];
            const int64_t room = length - before % length;
            const int64_t rest = tensors[i].numel - begin;
            const int64_t size = rest < room ? rest : room;
            share->pieces[share->count++] =
                (arrays){tensors[i].param + begin, tensors[i].grad + begin,
                         tensors[i].moment1 + begin, tensors[i].moment2 + begin, size};
            begin += size;
            before += size;
        }
    }
    return 1;
}

/* Times steps that only move what a step moves: per element 28 bytes, or 32 with a norm; with_root has
 * them divide and take roots, too. All values stay as they are, if no second moment is below 0. Returns
 * 0, or 1 when threads or memory are not to be had. */
__attribute__((visibility("default"))) int32_t bench_ceiling(const arrays *tensors, int64_t count,
                                                             int32_t threads, int32_t with_norm,
                                                             int32_t with_root, float zero,
                                                             int64_t steps, double *seconds) {
    team team = {
        .threads = threads, .with_norm = with_norm, .with_root = with_root, .zero = zero};
    int32_t started = 1;
    int32_t status = 1;
    member *members = calloc((size_t)threads, sizeof(member));
    team.shares = calloc((size_t)threads, sizeof(share));
    if (members == NULL || team.shares == NULL || !cut(tensors, count, team.shares, threads)) {
        goto done;
    }
    for (; started < threads; ++started) {
        members[started].team = &team;
        members[started].number = started;
        if (pthread_create(&members[started].thread, NULL, run_member, &members[started]) != 0) {
            goto done;
        }
    }
    const int64_t phases = with_norm ? 2 : 1;
    /* The first one does not count: new threads may have to wait for a core of their own. */
    for (int64_t step = 0; step <= steps; ++step) {
        const double begin = now();
        for (int64_t phase = 2 - phases; phase < 2; ++phase) {
            /* Phases count up; whether one reads or moves is told by its parity. */
            run_phase(&team, with_norm ? 2 * step + phase : step);
        }
        if (step > 0) {
            seconds[step - 1] = now() - begin;
        }
    }
    status = 0;
done:
    atomic_store(&team.end, 1);
    atomic_store(&team.phase, INT64_MAX);
    for (int32_t each = 1; members != NULL && each < started; ++each) {
        pthread_join(members[each].thread, NULL);
    }
    for (int32_t each = 0; team.shares != NULL && each < threads; ++each) {
        free(team.shares[each].pieces);
    }
    free(team.shares);
    free(members);
    return status;
}

typedef int32_t (*operator_run)(int64_t key, const radam_tensor *tensors, int64_t count,
                                int64_t *step, double lr, int32_t found_inf, char *message,
                                int64_t message_size);

/* Times steps of a registered group; returns what radam_operator_run does. */
__attribute__((visibility("default"))) int32_t bench_kernel(operator_run run, int64_t key,
                                                            const radam_tensor *tensors,
                                                            int64_t count, int64_t *step, double lr,
                                                            int64_t steps, double *seconds) {
    char message[256];
    for (int64_t i = 0; i < steps; ++i) {
        const double begin = now();
        const int32_t status = run(key, tensors, count, step, lr, 0, message, sizeof message);
        seconds[i] = now() - begin;
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* The thread pool.
 *
 * A thread that has a large step to run posts it as a job, and itself runs one piece of it after the other, as do the
 * pool's helpers that are idle: the next piece is a counter that all of them advance.  Pieces are many more than a few
 * threads, so that all end at about the same time.  Several runs may have jobs at once; a helper goes to the one with
 * the fewest.
 *
 * Helpers are started by the first job that wants them.  Between the steps of a run they watch out for the next one for
 * some microseconds, since to wake a thread takes as long as many a step; after that, and after the run, they sleep.
 */
#define _GNU_SOURCE /* sched_getaffinity; clock_gettime, posix_memalign */
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* A few times what it takes to wake a thread (4 to 9 us, as measured), which is what watching for so long may save. */
static const int64_t WATCH_NS = 20000;

typedef struct job {
    ad_piece_run *run;
    void *work;
    int64_t n;
    _Atomic int64_t next;     /* piece */
    _Atomic uint32_t helpers; /* that are at it; changed under the pool's lock */
    struct job *other;
} job;

struct ad_pool {
    pthread_mutex_t lock;
    pthread_cond_t wanted; /* what helpers sleep on */
    pthread_cond_t done;   /* what the posters of jobs sleep on: a job has lost its last helper, or the pool one */
    job *jobs;
    _Atomic uint32_t size;    /* threads of a run, the calling one among them */
    _Atomic uint32_t posted;  /* how often something was posted: a job, or another size */
    _Atomic uint32_t entered; /* runs that may post more */
    uint32_t n_helpers, n_asleep;
    uint32_t forks;
    ad_pool *other;
};

int64_t ad_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* --- jobs --- */

static void take_pieces(job *job, char *scratch) {
    for (int64_t i; (i = atomic_fetch_add(&job->next, 1)) < job->n;) job->run(job->work, i, scratch);
}

static job *neediest(const ad_pool *pool) {
    job *found = NULL;
    for (job *job = pool->jobs; job; job = job->other)
        if (atomic_load(&job->next) < job->n && (!found || job->helpers < found->helpers)) found = job;
    return found;
}

/* Whether something is posted soon, while a run may post a job. */
static bool watch(const ad_pool *pool, uint32_t posted) {
    const int64_t end = ad_now() + WATCH_NS;
    do
        for (int i = 0; i < 32; i++) {
            if (atomic_load(&pool->posted) != posted) return true;
            if (!atomic_load(&pool->entered)) return false;
            relax();
        }
    while (ad_now() < end);
    return false;
}

typedef struct helper {
    ad_pool *pool;
    _Alignas(64) char scratch[AD_POOL_SCRATCH];
} helper;

static void *help(void *argument) {
    helper *self = argument;
    ad_pool *pool = self->pool;
    pthread_mutex_lock(&pool->lock);
    while (pool->n_helpers < atomic_load(&pool->size)) {
        const uint32_t posted = atomic_load(&pool->posted);
        job *job = neediest(pool);
        if (job) {
            job->helpers++;
            pthread_mutex_unlock(&pool->lock);
            take_pieces(job, self->scratch);
            pthread_mutex_lock(&pool->lock);
            if (--job->helpers == 0) pthread_cond_broadcast(&pool->done);
            continue;
        }
        pthread_mutex_unlock(&pool->lock);
        const bool more = watch(pool, posted);
        pthread_mutex_lock(&pool->lock);
        if (more || atomic_load(&pool->posted) != posted) continue;
        pool->n_asleep++;
        pthread_cond_wait(&pool->wanted, &pool->lock);
        pool->n_asleep--;
    }
    pool->n_helpers--;
    pthread_cond_broadcast(&pool->done);
    pthread_mutex_unlock(&pool->lock);
    free(self);
    return NULL;
}

/* One more helper, to which signals are not delivered; whether there is one. */
static bool start_helper(ad_pool *pool) {
    void *memory; /* touched where it is used only */
    pthread_t thread;
    sigset_t all, before;
    if (posix_memalign(&memory, _Alignof(helper), sizeof(helper))) return false;
    ((helper *)memory)->pool = pool;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool started = pthread_create(&thread, NULL, help, memory) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started) pthread_detach(thread);
    if (!started) free(memory);
    pool->n_helpers += started;
    return started;
}

/* --- runs --- */

uint32_t ad_pool_enter(ad_pool *pool) {
    pthread_mutex_lock(&pool->lock);
    const uint32_t forks = pool->forks;
    atomic_fetch_add(&pool->entered, 1);
    pthread_mutex_unlock(&pool->lock);
    return forks;
}

void ad_pool_leave(ad_pool *pool, uint32_t entered) {
    pthread_mutex_lock(&pool->lock);
    if (pool->forks == entered) atomic_fetch_sub(&pool->entered, 1);
    pthread_mutex_unlock(&pool->lock);
}

bool ad_pool_share(ad_pool *pool, int64_t n, ad_piece_run *run, void *work, char *scratch) {
    job job = {.run = run, .work = work, .n = n};
    pthread_mutex_lock(&pool->lock);
    const uint32_t forks = pool->forks, size = atomic_load(&pool->size);
    const uint32_t helpers = n < size ? (uint32_t)n - 1 : size - 1;
    while (pool->n_helpers < helpers && start_helper(pool)) {}
    job.other = pool->jobs;
    pool->jobs = &job;
    atomic_fetch_add(&pool->posted, 1);
    uint32_t wake = helpers < pool->n_asleep ? helpers : pool->n_asleep;
    pthread_mutex_unlock(&pool->lock);
    while (wake-- > 0) pthread_cond_signal(&pool->wanted);

    take_pieces(&job, scratch);
    pthread_mutex_lock(&pool->lock);
    if (pool->forks == forks) {
        struct job **link = &pool->jobs;
        while (*link != &job) link = &(*link)->other;
        *link = job.other;
        pthread_mutex_unlock(&pool->lock);
        for (const int64_t end = ad_now() + WATCH_NS; atomic_load(&job.helpers) && ad_now() < end;) relax();
        pthread_mutex_lock(&pool->lock);
        while (atomic_load(&job.helpers)) pthread_cond_wait(&pool->done, &pool->lock);
    }
    const bool whole = pool->forks == forks;
    pthread_mutex_unlock(&pool->lock);
    return whole;
}

/* --- pools; a forked process has only the thread that forked --- */

static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;
static ad_pool *pools;

static void make_empty(ad_pool *pool) {
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wanted, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->jobs = NULL;
    pool->n_helpers = pool->n_asleep = 0;
    atomic_store(&pool->entered, 0);
}

static void before_fork(void) {
    pthread_mutex_lock(&pools_lock);
    for (ad_pool *pool = pools; pool; pool = pool->other) pthread_mutex_lock(&pool->lock);
}

static void after_fork(void) {
    for (ad_pool *pool = pools; pool; pool = pool->other) pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&pools_lock);
}

static void in_child(void) {
    for (ad_pool *pool = pools; pool; pool = pool->other) {
        make_empty(pool);
        pool->forks++;
    }
    pthread_mutex_init(&pools_lock, NULL);
}

static void watch_forks(void) { pthread_atfork(before_fork, after_fork, in_child); }

ad_pool *ad_pool_create(uint32_t threads) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    ad_pool *pool = threads ? calloc(1, sizeof *pool) : NULL;
    if (!pool || pthread_once(&once, watch_forks)) return NULL;
    make_empty(pool);
    atomic_store(&pool->size, threads);
    pthread_mutex_lock(&pools_lock);
    pool->other = pools;
    pools = pool;
    pthread_mutex_unlock(&pools_lock);
    return pool;
}

static void set_size(ad_pool *pool, uint32_t threads) {
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->size, threads);
    atomic_fetch_add(&pool->posted, 1);
    pthread_cond_broadcast(&pool->wanted); /* those that are too many end */
    while (threads == 0 && pool->n_helpers) pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void ad_pool_free(ad_pool *pool) {
    if (!pool) return;
    pthread_mutex_lock(&pools_lock);
    ad_pool **link = &pools;
    while (*link != pool) link = &(*link)->other;
    *link = pool->other;
    pthread_mutex_unlock(&pools_lock);
    set_size(pool, 0);
    pthread_cond_destroy(&pool->wanted);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

ad_status ad_pool_resize(ad_pool *pool, uint32_t threads) {
    if (!pool || !threads) return AD_ERROR_ARGUMENT;
    set_size(pool, threads);
    return AD_OK;
}

uint32_t ad_pool_size(const ad_pool *pool) { return pool ? atomic_load(&pool->size) : 1; }

uint32_t ad_processors(void) {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return (uint32_t)CPU_COUNT(&set);
#endif
    const long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

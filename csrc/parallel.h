/* Threads that share the pieces of a step: see parallel.c. */
#ifndef AD_PARALLEL_H
#define AD_PARALLEL_H

#include "autodiff.h"

#include <stdbool.h>

/* Bytes of scratch that each of a pool's threads has: twice what a product of matrices takes on any instruction set, as
 * what is never touched costs nothing.  Steps that need more are not shared. */
enum { AD_POOL_SCRATCH = 8 << 20 };

/* Nanoseconds on a clock that is never set. */
int64_t ad_now(void);

/* Runs piece `i`; `scratch` is the calling thread's own or that of one of the pool's. */
typedef void ad_piece_run(void *work, int64_t i, char *scratch);

/* Run pieces 0 ... n - 1, begun in this order, on this thread and on those of the pool that have time; returns when all
 * are done.  False if the process has forked meanwhile: then pieces are lost. */
bool ad_pool_share(ad_pool *pool, int64_t n, ad_piece_run *run, void *work, char *scratch);

/* Around all that one run shares: until it leaves, the pool's threads watch out for its next step for a while. */
uint32_t ad_pool_enter(ad_pool *pool);
void ad_pool_leave(ad_pool *pool, uint32_t entered);

#endif

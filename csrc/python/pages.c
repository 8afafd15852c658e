/* A large array's first touch costs more than computing it: the system clears each page.  Blocks that arrays have left
 * are kept here, the last one left on top, and given to later arrays of about their size.  A block comes here when its
 * array is gone, and no view can outlive the array that owns the memory.
 */
#define _DEFAULT_SOURCE /* madvise, posix_memalign */
#include "pages.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MOST_BLOCKS = 64, HEAD = 64, PAGE = 1 << 12, HUGE_PAGE = 1 << 21 };
static const size_t MOST_BYTES = (size_t)256 << 20;

/* What precedes the data. */
typedef struct block {
    size_t capacity; /* bytes of data */
} block;

static block *idle[MOST_BLOCKS]; /* the oldest first */
static int n_idle;
static size_t idle_bytes;
static atomic_flag lock = ATOMIC_FLAG_INIT; /* held for a few instructions, and by one thread alone under a GIL */

static void acquire(void) {
    while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire)) {}
}

static void release(void) { atomic_flag_clear_explicit(&lock, memory_order_release); }

static block *take(int i) {
    block *taken = idle[i];
    idle_bytes -= taken->capacity;
    memmove(&idle[i], &idle[i + 1], (size_t)(--n_idle - i) * sizeof *idle);
    return taken;
}

static block *block_of(void *data) { return (block *)((char *)data - HEAD); }

void *ad_pages_malloc(void *context, size_t size) {
    (void)context;
    block *found = NULL;
    acquire();
    for (int i = n_idle; i-- > 0 && !found;)
        if (idle[i]->capacity >= size && idle[i]->capacity - size <= size / 8) found = take(i);
    release();
    if (!found) {
        if (size > SIZE_MAX / 2) return NULL;
        size_t alignment = size >= HUGE_PAGE ? HUGE_PAGE : PAGE;
        size_t total = (HEAD + size + PAGE - 1) / PAGE * PAGE;
        void *memory;
        if (posix_memalign(&memory, alignment, total)) return NULL;
#ifdef MADV_HUGEPAGE
        if (alignment == HUGE_PAGE) madvise(memory, total, MADV_HUGEPAGE); /* a tenth of the faults' time; may fail */
#endif
        found = memory;
        found->capacity = total - HEAD;
    }
    return (char *)found + HEAD;
}

void *ad_pages_calloc(void *context, size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return NULL;
    void *data = ad_pages_malloc(context, count * size);
    return data ? memset(data, 0, count * size) : NULL;
}

void *ad_pages_realloc(void *context, void *data, size_t size) {
    if (data && block_of(data)->capacity >= size && size >= block_of(data)->capacity / 2) return data;
    void *larger = ad_pages_malloc(context, size);
    if (larger && data) {
        size_t kept = block_of(data)->capacity;
        memcpy(larger, data, kept < size ? kept : size);
        ad_pages_free(context, data, kept);
    }
    return larger;
}

void ad_pages_free(void *context, void *data, size_t size) {
    (void)context, (void)size;
    if (!data) return;
    block *left = block_of(data), *surplus[MOST_BLOCKS];
    int n_surplus = 0;
    if (left->capacity > MOST_BYTES) {
        free(left);
        return;
    }
    acquire();
    while (n_idle == MOST_BLOCKS || idle_bytes + left->capacity > MOST_BYTES) surplus[n_surplus++] = take(0);
    idle[n_idle++] = left;
    idle_bytes += left->capacity;
    release();
    while (n_surplus) free(surplus[--n_surplus]);
}

size_t ad_pages_idle(void) {
    acquire();
    size_t bytes = idle_bytes;
    release();
    return bytes;
}

void ad_pages_trim(void) {
    block *surplus[MOST_BLOCKS];
    acquire();
    int n_surplus = n_idle;
    memcpy(surplus, idle, sizeof surplus);
    n_idle = 0;
    idle_bytes = 0;
    release();
    while (n_surplus) free(surplus[--n_surplus]);
}

/* Which instruction set runs a plan, and the tables of opcodes and messages.  The only reader of the environment. */
#include "kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const ad_opcode opcodes[AD_N_OPCODES] = { /* by number, with gaps */
#define AD_OP(name, number, arity, domain, expression) [number] = {#name, number, arity, #domain},
#include "opcodes.def"
#undef AD_OP
};

const ad_opcode *ad_opcode_at(uint32_t i) {
    for (uint32_t number = 0; number < AD_N_OPCODES; number++)
        if (opcodes[number].name && i-- == 0) return &opcodes[number];
    return NULL;
}

const ad_opcode *ad_opcode_numbered(uint32_t number) {
    return number < AD_N_OPCODES && opcodes[number].name ? &opcodes[number] : NULL;
}

const char *ad_status_message(uint32_t status) {
    static const char *const messages[] = {
        [AD_OK] = "no error",
        [AD_ERROR_MEMORY] = "out of memory",
        [AD_ERROR_PLAN] = "not a valid plan",
        [AD_ERROR_ARGUMENT] = "the run does not fit the plan",
        [AD_ERROR_INDEX] = "index out of range",
        [AD_ERROR_NEGATIVE_POWER] = "an integer is raised to a negative integer power",
        [AD_ERROR_HOST] = "a host function failed",
        [AD_ERROR_WORK] = "the plan needs more work than the run allows",
        [AD_INTERRUPTED] = "interrupted",
    };
    return status < sizeof messages / sizeof *messages ? messages[status] : "unknown status";
}

static const char *const superops[] = {
#define AD_SUPEROP(name, leaves, tree) #tree,
#include "superops.def"
#undef AD_SUPEROP
};

const char *ad_superop_at(uint32_t i) { return i < AD_N_SUPEROPS ? superops[i] : NULL; }

static bool runs_base(void) { return true; }

#if defined(__x86_64__)
static bool runs_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool runs_avx512(void) {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

static const struct {
    const ad_kernels *kernels;
    bool (*runs)(void);
} sets[] = {
    {&ad_kernels_base, runs_base},
#if defined(__x86_64__)
    {&ad_kernels_avx2, runs_avx2},
    {&ad_kernels_avx512, runs_avx512},
#endif
};
enum { N_SETS = sizeof sets / sizeof *sets };

static const ad_kernels *available(uint32_t i) {
    for (uint32_t k = 0; k < N_SETS; k++)
        if (sets[k].runs() && i-- == 0) return sets[k].kernels;
    return NULL;
}

static const ad_kernels *named(const char *name) {
    for (uint32_t i = 0; available(i); i++)
        if (!strcmp(available(i)->name, name)) return available(i);
    return NULL;
}

static const ad_kernels *best(void) {
    const ad_kernels *kernels = NULL;
    for (uint32_t i = 0; available(i); i++) kernels = available(i);
    return kernels;
}

static _Atomic(const ad_kernels *) selected;

const ad_kernels *ad_kernels_selected(void) {
    const ad_kernels *kernels = atomic_load(&selected);
    if (kernels) return kernels;
    const char *wanted = getenv("AUTODIFF_ISA");
    kernels = wanted ? named(wanted) : NULL;
    if (!kernels) kernels = best();
    const ad_kernels *none = NULL; /* another thread may have selected one meanwhile */
    return atomic_compare_exchange_strong(&selected, &none, kernels) ? kernels : none;
}

const char *ad_isa_at(uint32_t i) {
    const ad_kernels *kernels = available(i);
    return kernels ? kernels->name : NULL;
}

const char *ad_isa_selected(void) { return ad_kernels_selected()->name; }

ad_status ad_isa_select(const char *name) {
    const ad_kernels *kernels = name ? named(name) : NULL;
    if (!kernels) return AD_ERROR_ARGUMENT;
    atomic_store(&selected, kernels);
    return AD_OK;
}

static _Atomic bool no_superops;
static _Atomic uint32_t tile_bytes;

bool ad_superops_selected(void) { return !atomic_load(&no_superops); }

int64_t ad_tile_selected(void) { return atomic_load(&tile_bytes); }

ad_status ad_tiles_select(uint32_t superops, uint32_t bytes) {
    if (superops > 1 || bytes % AD_TILE_LEAST || bytes > AD_TILE_MOST) return AD_ERROR_ARGUMENT;
    atomic_store(&no_superops, !superops);
    atomic_store(&tile_bytes, bytes);
    return AD_OK;
}

static _Atomic uint64_t shared_from;
static _Atomic uint32_t pieces_at_most;

uint64_t ad_shared_from(void) { return atomic_load(&shared_from); }
int64_t ad_pieces_at_most(void) { return atomic_load(&pieces_at_most); }

void ad_pieces_select(uint64_t nanoseconds, uint32_t pieces) {
    atomic_store(&shared_from, nanoseconds);
    atomic_store(&pieces_at_most, pieces);
}

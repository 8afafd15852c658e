/* Makes of a checked plan what runs: merged dimensions, registers that point into memory, tile sizes, scratch. */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

/* An op's loop costs 2 to 4 cycles a 64 bytes and some 15 cycles to begin and end, so tiles are long, but all that a
 * program touches in one, registers and operands in memory, has to be in the first level cache until the last op. */
static const int64_t TILES_BYTES = 32 << 10; /* of the first level cache: all, as the first operands are read but once */
static const int64_t TILE_LEAST = 1024;      /* shorter, and to begin costs more than a load from the second level */
static const int64_t STRIP_BYTES = 128 << 10;  /* accumulators of column reductions, in the second level */
static const int64_t STREAM_LEAST = 512 << 10; /* bytes of an operand that will not be in the second level */
static const int64_t PAST_CACHES = 4 << 20;    /* bytes of a result that will not be in any when it is wanted */
static const uint32_t STREAM_OPS = 4;          /* instrs; with fewer, the hardware's prefetching does better alone */
static const int64_t LINE_MOST = 256;          /* elements of a line that is packed with others into a tile */

typedef struct maker {
    const ad_plan *plan;
    const ad_kernels *kernels;
    ad_arg *args; /* the next free ones */
    ad_op *ops;
    int64_t *dims;
    ad_value *values; /* room for those of one program */
} maker;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

static int64_t product(const int64_t *shape, uint32_t from, uint32_t to) {
    int64_t n = 1;
    for (uint32_t d = from; d < to; d++) n *= shape[d];
    return n;
}

static uint64_t saturating(uint64_t a, uint64_t b) {
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static uint64_t saturating_product(uint64_t a, uint64_t b) {
    uint64_t result;
    return __builtin_mul_overflow(a, b, &result) ? UINT64_MAX : result;
}

ad_lane ad_lane_of(uint32_t dtype, uint32_t bytes) {
    switch (dtype) {
    case AD_U8: return AD_LANE_U8;
    case AD_I32: return AD_LANE_I32;
    case AD_I64: return AD_LANE_I64;
    case AD_F32: return AD_LANE_F32;
    case AD_F64: return AD_LANE_F64;
    default: return bytes == 1 ? AD_LANE_M8 : bytes == 4 ? AD_LANE_M32 : AD_LANE_M64;
    }
}

/* Whether every operand walks dimension d of the step as the tail of the task's last dimension. */
static bool merges(const ad_task *task, const int64_t *const *strides, int64_t size, uint32_t d) {
    for (uint32_t i = 0; i < task->n_args; i++)
        if (task->args[i].strides[task->rank - 1] != strides[i][d] * task->args[i].size * size) return false;
    return true;
}

/* The step's shape and strides, in bytes, without dimensions of size 1 and with those merged that all operands walk as
 * one; kept and reduced dimensions stay apart. */
static void merge_dims(maker *m, ad_task *task, ad_arg *args) {
    const ad_step *step = task->step;
    const int64_t *shape = m->plan->dims + step->shape;
    const int64_t *from[AD_MAX_ARGS];
    int64_t *merged = m->dims, *to[AD_MAX_ARGS];
    uint32_t most = step->rank ? step->rank : 1;
    m->dims += most;
    for (uint32_t i = 0; i < task->n_args; i++) {
        from[i] = m->plan->dims + m->plan->operands[step->operand + i].strides;
        args[i].strides = to[i] = m->dims;
        m->dims += most;
    }
    task->shape = merged;
    const uint32_t ends[3] = {step->n_outer, step->n_outer + step->n_reduced, step->rank};
    uint32_t at[3], d = 0;
    for (uint32_t group = 0; group < 3; group++) {
        uint32_t first = task->rank;
        for (; d < ends[group]; d++) {
            if (shape[d] == 1) continue;
            if (task->rank > first && merges(task, from, shape[d], d))
                merged[task->rank - 1] *= shape[d];
            else
                merged[task->rank++] = shape[d];
            for (uint32_t i = 0; i < task->n_args; i++) to[i][task->rank - 1] = from[i][d] * args[i].size;
        }
        at[group] = task->rank;
    }
    task->n_outer = at[0];
    task->n_reduced = at[1] - at[0];
    if (task->rank == 0) { /* one element: tiles and rows want a last dimension */
        merged[task->rank++] = 1;
        for (uint32_t i = 0; i < task->n_args; i++) to[i][0] = 0;
        task->n_outer = 1;
    }
    task->size = product(merged, 0, task->rank);
}

/* A task with its operands' places in memory; NULL-initialised otherwise. */
static ad_arg *begin(maker *m, ad_task *task, const ad_step *step) {
    ad_arg *args = m->args;
    m->args += step->n_operands;
    *task = (ad_task){.step = step, .args = args, .n_args = step->n_operands, .cost = 1};
    for (uint32_t i = 0; i < step->n_operands; i++) {
        const ad_operand *operand = &m->plan->operands[step->operand + i];
        int64_t size = ad_dtype_size[operand->dtype];
        args[i] = (ad_arg){.buffer = &m->plan->buffers[operand->buffer],
                           .offset = operand->offset * size,
                           .role = (uint8_t)operand->role,
                           .dtype = (uint8_t)operand->dtype,
                           .size = (uint8_t)size};
    }
    return args;
}

/* --- MAP --- */

/* How an operand moves between memory and its register. */
static void choose_access(const maker *m, const ad_task *task, ad_arg *arg, const ad_operand *operand) {
    ad_lane lane = ad_lane_of(operand->reg_dtype, task->lane);
    bool alike = operand->dtype == operand->reg_dtype && operand->dtype != AD_BOOL;
    if (!alike)
        arg->convert = arg->role == AD_READ ? m->kernels->load[operand->dtype][lane]
                                            : m->kernels->store[lane][operand->dtype];
    bool dense = true, still = true;
    int64_t stride = arg->size;
    for (uint32_t d = task->rank; d-- > 0;) {
        dense = dense && arg->strides[d] == stride;
        still = still && arg->strides[d] == 0;
        stride *= task->shape[d];
    }
    arg->access = dense ? AD_ACCESS_DENSE : still && arg->role == AD_READ ? AD_ACCESS_ONCE : AD_ACCESS_WALK;
}

/* A mask's maximum is the minimum of the integers that it is made of, but for those of a byte. */
static const ad_reducer *choose_reducer(const maker *m, const ad_operand *operand, uint32_t bytes) {
    static const uint8_t numbers[] = {AD_LANE_U8, AD_LANE_I32, AD_LANE_I64};
    ad_lane lane = ad_lane_of(operand->reg_dtype, bytes);
    uint32_t role = operand->role;
    if (lane >= AD_LANE_M8) {
        if (lane != AD_LANE_M8) role = role == AD_MAX ? AD_MIN : AD_MAX;
        lane = (ad_lane)numbers[lane - AD_LANE_M8];
    }
    return &m->kernels->reducers[lane][role - AD_SUM];
}

/* How many lines of `length` to pack into a tile: a number that gives whole vectors, if there is one. */
static int64_t pack(int64_t length, int64_t tile, int64_t vector, int64_t lines) {
    if (lines < 2 || length > LINE_MOST || length * 4 > tile) return 1;
    int64_t most = tile / length, unit = vector / common_divisor(length, vector);
    return smaller(lines, most >= unit ? most / unit * unit : most);
}

static uint32_t levels_of(int64_t count) { /* of a binary counter that counts so far */
    uint32_t levels = 1;
    while (count >>= 1) levels++;
    return levels;
}

/* How long a tile may be; operands that are one vector take no room. */
static int64_t tile_bytes(const ad_task *task) {
    int64_t bytes = AD_TILE_MOST, n = task->n_registers;
    if (ad_tile_selected()) return ad_tile_selected();
    for (uint32_t i = 0; i < task->n_args; i++) n += task->args[i].owns_slot && task->args[i].access != AD_ACCESS_ONCE;
    while (bytes > TILE_LEAST && bytes * n > TILES_BYTES) bytes /= 2;
    return bytes;
}

/* Whether a READ operand is the same number for all of a tile, and nothing but ops looks at its register. */
static bool is_still(const ad_task *task, const ad_arg *args, const ad_arg *arg) {
    int64_t inside = 1, least = task->group > 1 ? task->size : task->line;
    if (arg->role != AD_READ || arg->access == AD_ACCESS_DENSE) return false;
    for (uint32_t d = task->rank; d-- > 0 && inside < least; inside *= task->shape[d])
        if (arg->strides[d] != 0) return false;
    for (uint32_t i = 0; i < task->n_args; i++)
        if (args[i].role != AD_READ && args[i].slot == arg->slot) return false;
    return true;
}

/* Cut the space into lines and tiles, and lay out the scratch: tiles, a staging area, accumulators. */
static void cut(const maker *m, ad_task *task, ad_arg *args) {
    int64_t vector = m->kernels->vector / task->lane;
    uint32_t reduced_end = task->n_outer + task->n_reduced;
    task->tile = tile_bytes(task) / task->lane;

    for (uint32_t i = 0; i < task->n_args; i++) {
        task->reduces |= args[i].role > AD_WRITE;
        task->walks |= args[i].role <= AD_WRITE && args[i].access == AD_ACCESS_WALK;
    }
    task->by_column = task->reduces && reduced_end < task->rank;
    task->outer = 1;
    if (task->by_column) {
        task->outer = product(task->shape, 0, task->n_outer);
        task->rows = product(task->shape, task->n_outer, reduced_end);
        task->line = product(task->shape, reduced_end, task->rank);
    } else if (task->reduces) {
        task->rows = product(task->shape, 0, task->n_outer);
        task->line = product(task->shape, task->n_outer, task->rank);
    } else {
        task->line = task->walks ? task->shape[task->rank - 1] : task->size;
        task->rows = task->line ? task->size / task->line : 0;
    }
    task->group = task->size ? pack(task->line, task->tile, vector, task->outer * task->rows) : 1;
    if (task->group > 1) { /* what only moves within the line is the same in every tile of whole lines */
        for (uint32_t i = 0; i < task->n_args; i++) {
            uint32_t d = task->rank;
            int64_t inside = 1;
            while (d && inside < task->line) inside *= task->shape[--d];
            while (d && args[i].strides[d - 1] == 0) d--;
            bool walked = args[i].role == AD_READ && args[i].access == AD_ACCESS_WALK;
            if (d == 0 && walked) args[i].access = AD_ACCESS_ONCE;
        }
    }

    uint32_t levels = levels_of(task->by_column ? task->rows / AD_BLOCK_ROWS + 1 : task->line / AD_CHUNK + 1), n = 0;
    for (uint32_t i = 0; i < task->n_args; i++) n += args[i].role > AD_WRITE;
    task->strip = task->line;
    int64_t most = n ? STRIP_BYTES / (n * (levels + 1) * task->lane) / task->tile * task->tile : 0;
    if (task->by_column && task->group == 1) task->strip = smaller(task->line, most ? most : task->tile);

    task->streams = task->size * task->lane >= STREAM_LEAST && task->step->n_instrs >= STREAM_OPS;
    for (uint32_t i = 0; i < task->n_args; i++)
        args[i].streams = task->streams && args[i].role == AD_WRITE && args[i].buffer->kind == AD_OUTPUT &&
                          args[i].access == AD_ACCESS_DENSE && task->size * args[i].size >= PAST_CACHES;
    for (uint32_t i = 0; i < task->n_args; i++) args[i].still = is_still(task, args, &args[i]);
    ad_number_slots(task, args, m->ops);
    /* No gap between tiles: a load stalls on a store shortly before it to the same place modulo 4096. */
    task->tile_stride = smaller(task->tile, round_up(task->size, AD_VECTOR_MAX)) * task->lane;
    task->stills = task->n_tiles * (uint64_t)task->tile_stride;
    task->staging = task->stills + (task->n_slots - task->n_tiles) * AD_VECTOR_MAX;
    task->staging_size = (uint64_t)(task->tile * 8 + AD_VECTOR_MAX);
    task->scratch = task->staging + 2 * task->staging_size;
    /* Accumulators: of a strip's columns; of a chunk's lanes, or of as many lines as a tile may hold. */
    int64_t lanes = task->by_column ? task->strip : task->group > AD_VECTOR_MAX ? task->group : AD_VECTOR_MAX;
    task->state_stride = round_up(lanes, AD_VECTOR_MAX) * task->lane;
    for (uint32_t i = 0; i < task->n_args; i++) {
        if (args[i].role <= AD_WRITE) continue;
        args[i].state = task->scratch;
        task->scratch += (uint64_t)task->state_stride * (levels + 1);
    }
}

static void make_map(maker *m, ad_task *task, const ad_step *step) {
    ad_arg *args = begin(m, task, step);
    const ad_operand *operands = m->plan->operands + step->operand;
    merge_dims(m, task, args);
    task->lane = step->lane;
    ad_op *end = ad_make_program(m->plan, m->kernels, task, args, m->ops, m->values);
    for (uint32_t i = 0; i < task->n_args; i++) {
        choose_access(m, task, &args[i], &operands[i]);
        if (args[i].role > AD_WRITE) args[i].reducer = choose_reducer(m, &operands[i], step->lane);
    }
    cut(m, task, args);
    m->ops = end;
    task->cost = 1 + (int64_t)step->n_instrs + task->n_args;
    task->run = m->kernels->map;
}

/* --- the other kinds --- */

static void make_gemm(maker *m, ad_task *task, const ad_step *step) {
    const int64_t *shape = m->plan->dims + step->shape;
    uint32_t rank = step->rank;
    int64_t rows = shape[rank - 3], columns = shape[rank - 2], depth = shape[rank - 1];
    ad_arg *args = begin(m, task, step);
    for (uint32_t i = 0; i < 3; i++) args[i].strides = m->plan->dims + m->plan->operands[step->operand + i].strides;
    task->shape = shape;
    task->rank = rank;
    task->size = product(shape, 0, rank - 3); /* how many products */
    task->cost = rows * columns * (depth ? depth : 1);
    task->by_column = columns > 1 && args[2].strides[rank - 2] != 1; /* then c's transpose is computed */
    task->scratch = task->by_column ? m->kernels->gemm_scratch(columns, rows, depth, args[0].size)
                                    : m->kernels->gemm_scratch(rows, columns, depth, args[0].size);
    task->run = ad_run_gemm;
}

static void make_task(maker *m, ad_task *task, const ad_step *step) {
    ad_arg *args;
    switch (step->kind) {
    case AD_MAP: make_map(m, task, step); return;
    case AD_GEMM: make_gemm(m, task, step); return;
    case AD_COPY:
        args = begin(m, task, step);
        merge_dims(m, task, args);
        task->run = m->kernels->copy;
        return;
    case AD_ARG_REDUCE:
        args = begin(m, task, step);
        merge_dims(m, task, args);
        task->run = m->kernels->arg_reduce;
        return;
    case AD_IOTA:
        args = begin(m, task, step);
        merge_dims(m, task, args);
        task->run = m->kernels->iota;
        return;
    }
    begin(m, task, step);
    task->shape = m->plan->dims + step->shape;
    task->rank = step->rank;
    switch (step->kind) {
    case AD_GATHER: task->run = m->kernels->gather; return;
    case AD_SCATTER_ADD:
    case AD_SCATTER_SET: task->run = m->kernels->scatter; return;
    default:
        task->run = ad_run_host;
        task->scratch = step->n_operands * sizeof(void *);
    }
}

/* An upper bound of a task's elementary operations. */
static uint64_t work_of(const ad_task *task) {
    const int64_t *shape = task->shape;
    uint64_t n = 1;
    switch (task->step->kind) {
    case AD_HOST: return 1;
    case AD_GATHER:
    case AD_SCATTER_ADD:
    case AD_SCATTER_SET:
        n = saturating_product((uint64_t)shape[0], (uint64_t)shape[1] + task->n_args);
        if (task->step->kind == AD_GATHER) return saturating(n, 1);
        return saturating(n, (uint64_t)product(shape, 1, task->rank) + 1);
    case AD_GEMM: n = (uint64_t)task->size; break;
    default: /* what is kept counts also where nothing is reduced */
        for (uint32_t d = 0; d < task->rank; d++) n *= (uint64_t)(shape[d] ? shape[d] : 1);
    }
    return saturating(saturating_product(n, (uint64_t)task->cost), 1);
}

ad_status ad_prepare(ad_prepared *prepared) {
    const ad_plan *plan = &prepared->plan;
    const ad_plan_header *header = plan->header;
    size_t n_steps = (size_t)header->steps.count, n_dims = 0, n_values = 0;
    for (size_t i = 0; i < n_steps; i++) {
        const ad_step *step = &plan->steps[i];
        if (step->kind == AD_MAP || step->kind == AD_COPY || step->kind == AD_ARG_REDUCE || step->kind == AD_IOTA)
            n_dims += (1 + (size_t)step->n_operands) * (step->rank ? step->rank : 1);
        if (step->kind == AD_MAP && (size_t)step->n_operands + step->n_instrs > n_values)
            n_values = (size_t)step->n_operands + step->n_instrs;
    }
    /* All in one block; an int_pow takes two ops. */
    size_t ops = n_steps * sizeof(ad_task), args = ops + 2 * (size_t)header->instrs.count * sizeof(ad_op);
    size_t dims = args + (size_t)header->operands.count * sizeof(ad_arg), size = dims + n_dims * sizeof(int64_t);
    char *memory = calloc(1, size ? size : 1);
    ad_value *values = malloc(n_values ? n_values * ad_value_size() : 1);
    prepared->memory = memory;
    if (!memory || !values) {
        free(values);
        return AD_ERROR_MEMORY;
    }
    prepared->tasks = (ad_task *)memory;
    maker m = {.plan = plan,
               .kernels = prepared->kernels,
               .args = (ad_arg *)(memory + args),
               .ops = (ad_op *)(memory + ops),
               .dims = (int64_t *)(memory + dims),
               .values = values};
    for (size_t i = 0; i < n_steps; i++) {
        ad_task *task = &prepared->tasks[i];
        make_task(&m, task, &plan->steps[i]);
        if (task->scratch > prepared->scratch) prepared->scratch = task->scratch;
        prepared->work = saturating(prepared->work, work_of(task));
    }
    free(values);
    return AD_OK;
}

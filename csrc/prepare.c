/* Makes of a checked plan what runs: merged dimensions, registers that point into memory, tile sizes, scratch. */
#include "prepare.h"

#include <stdlib.h>
#include <string.h>

/* An op's loop costs 2 to 4 cycles a 64 bytes and some 15 cycles to begin and end, so tiles are long, but all that a
 * program touches in one, registers and operands in memory, has to be in the first level cache until the last op. */
static const int64_t TILES_BYTES = 32 << 10; /* of the first level cache: all, as the first operands are read but once */
static const int64_t TILE_LEAST = 1024;      /* shorter, and to begin costs more than a load from the second level */
static const int64_t STREAM_LEAST = 512 << 10; /* bytes of an operand that will not be in the second level */
static const int64_t PAST_CACHES = 4 << 20;    /* bytes of a result that will not be in any when it is wanted */
static const uint32_t STREAM_OPS = 4;          /* instrs; with fewer, the hardware's prefetching does better alone */
static const int64_t LINE_MOST = AD_CHUNK;     /* elements of a line that is packed with others into a tile */
static const int64_t BARE_BYTES = 16 << 10;    /* of a tile that no op touches */

static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }

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

/* An operand's strides and window, over the step's shape. */
typedef struct layout {
    const int64_t *strides, *window;
} layout;

/* Whether every operand walks dimension d of the step as the tail of the task's last dimension, with no border of a
 * window along d. */
static bool merges(const ad_task *task, const layout *from, int64_t size, uint32_t d) {
    for (uint32_t i = 0; i < task->n_args; i++) {
        if (task->args[i].strides[task->rank - 1] != from[i].strides[d] * task->args[i].size * size) return false;
        if (from[i].window && (from[i].window[2 * d] > 0 || from[i].window[2 * d + 1] < size)) return false;
    }
    return true;
}

/* A window with nothing in it has nothing in it along any dimension. */
static bool is_empty(const int64_t *window, uint32_t rank) {
    for (uint32_t d = 0; window && d < rank; d++)
        if (window[2 * d] == window[2 * d + 1]) return true;
    return false;
}

void ad_merge_dims(ad_maker *m, ad_task *task, ad_arg *args) {
    const ad_step *step = task->step;
    const int64_t *shape = m->plan->dims + step->shape;
    layout from[AD_MAX_ARGS];
    int64_t *merged = m->dims, *to[AD_MAX_ARGS], *window[AD_MAX_ARGS];
    uint32_t most = step->rank ? step->rank : 1;
    m->dims += most;
    for (uint32_t i = 0; i < task->n_args; i++) {
        const ad_operand *operand = &m->plan->operands[step->operand + i];
        from[i].strides = m->plan->dims + operand->strides;
        from[i].window = operand->windowed ? m->plan->dims + operand->window : NULL;
        args[i].strides = to[i] = m->dims;
        m->dims += most;
        window[i] = m->dims;
        if (from[i].window) args[i].window = window[i];
        m->dims += from[i].window ? 2 * most : 0;
    }
    task->shape = merged;
    const uint32_t ends[3] = {step->n_outer, step->n_outer + step->n_reduced, step->rank};
    uint32_t at[3], d = 0;
    for (uint32_t group = 0; group < 3; group++) {
        uint32_t first = task->rank;
        for (; d < ends[group]; d++) {
            if (shape[d] == 1) continue;
            bool merge = task->rank > first && merges(task, from, shape[d], d);
            if (merge)
                merged[task->rank - 1] *= shape[d];
            else
                merged[task->rank++] = shape[d];
            for (uint32_t i = 0; i < task->n_args; i++) {
                to[i][task->rank - 1] = from[i].strides[d] * args[i].size;
                if (!from[i].window) continue;
                int64_t *limits = window[i] + 2 * (task->rank - 1);
                limits[0] = merge ? limits[0] * shape[d] : from[i].window[2 * d];
                limits[1] = merge ? limits[1] * shape[d] : from[i].window[2 * d + 1];
            }
        }
        at[group] = task->rank;
    }
    task->n_outer = at[0];
    task->n_reduced = at[1] - at[0];
    if (task->rank == 0) { /* one element: tiles and rows want a last dimension */
        merged[task->rank++] = 1;
        for (uint32_t i = 0; i < task->n_args; i++) {
            to[i][0] = 0;
            if (from[i].window) window[i][0] = 0, window[i][1] = 1;
        }
        task->n_outer = 1;
    }
    for (uint32_t i = 0; i < task->n_args; i++) {
        if (!from[i].window) continue;
        task->windows = true;
        for (uint32_t d = 0; d < task->rank; d++) {
            if (is_empty(from[i].window, step->rank)) window[i][2 * d] = window[i][2 * d + 1] = 0;
            args[i].corner += window[i][2 * d] * to[i][d];
        }
    }
    task->size = ad_product(merged, 0, task->rank);
}

ad_arg *ad_begin_task(ad_maker *m, ad_task *task, const ad_step *step) {
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

/* What moves an operand between memory and its register; NULL where they are alike. */
static ad_convert *converter(const ad_maker *m, const ad_operand *operand, uint32_t bytes) {
    ad_lane lane = ad_lane_of(operand->reg_dtype, bytes);
    if (operand->dtype == operand->reg_dtype && operand->dtype != AD_BOOL) return NULL;
    return operand->role == AD_READ ? m->kernels->load[operand->dtype][lane] : m->kernels->store[lane][operand->dtype];
}

void ad_choose_access(const ad_maker *m, const ad_task *task, ad_arg *arg, const ad_operand *operand) {
    arg->convert = converter(m, operand, task->lane);
    bool dense = true, still = true;
    int64_t stride = arg->size;
    for (uint32_t d = task->rank; d-- > 0;) {
        dense = dense && arg->strides[d] == stride;
        still = still && arg->strides[d] == 0;
        stride *= task->shape[d];
        if (arg->window && d > 0) dense = dense && arg->window[2 * d] == 0 && arg->window[2 * d + 1] == task->shape[d];
    }
    bool once = still && arg->role == AD_READ && !arg->window;
    arg->uniform = still;
    arg->access = dense ? AD_ACCESS_DENSE : once ? AD_ACCESS_ONCE : AD_ACCESS_WALK;
    for (int k = 0; k < 2 && dense && arg->window; k++) arg->window[k] *= ad_product(task->shape, 1, task->rank);
}

void ad_choose_access_once(const ad_task *task, ad_arg *arg) {
    uint32_t d = task->rank;
    int64_t inside = 1;
    while (d && inside < task->line) inside *= task->shape[--d];
    while (d && arg->strides[d - 1] == 0) d--;
    if (d == 0 && arg->role == AD_READ && arg->access == AD_ACCESS_WALK && !arg->window) arg->access = AD_ACCESS_ONCE;
}

/* A mask's maximum is the minimum of the integers that it is made of, but for those of a byte. */
const ad_reducer *ad_reducer_of(const ad_kernels *kernels, uint32_t role, uint32_t dtype, uint32_t bytes) {
    static const uint8_t numbers[] = {AD_LANE_U8, AD_LANE_I32, AD_LANE_I64};
    ad_lane lane = ad_lane_of(dtype, bytes);
    if (lane >= AD_LANE_M8) {
        if (lane != AD_LANE_M8) role = role == AD_MAX ? AD_MIN : AD_MAX;
        lane = (ad_lane)numbers[lane - AD_LANE_M8];
    }
    return &kernels->reducers[lane][role - AD_SUM];
}

int64_t ad_pack(int64_t length, int64_t tile, int64_t vector, int64_t lines) {
    if (lines < 2 || length > LINE_MOST || length * 2 > tile) return 1;
    int64_t most = tile / length, unit = vector / common_divisor(length, vector);
    return ad_smaller(lines, most >= unit ? most / unit * unit : most);
}

uint32_t ad_levels_of(int64_t count) {
    uint32_t levels = 1;
    while (count >>= 1) levels++;
    return levels;
}

/* How long a tile may be; operands that are one vector take no room. */
static int64_t tile_bytes(const ad_task *task) {
    int64_t bytes = AD_TILE_MOST, n = task->n_registers;
    if (ad_tile_selected()) return ad_tile_selected();
    if (task->n_ops == 0 && task->step->n_reduced) return BARE_BYTES;
    for (uint32_t i = 0; i < task->n_args; i++) n += task->args[i].owns_slot && task->args[i].access != AD_ACCESS_ONCE;
    while (bytes > TILE_LEAST && bytes * n > TILES_BYTES) bytes /= 2;
    return bytes;
}

/* Whether a READ operand is the same number for all of a tile, and nothing but ops looks at its register. */
static bool is_still(const ad_task *task, const ad_arg *args, const ad_arg *arg) {
    int64_t inside = 1, least = task->group > 1 ? task->size : task->line;
    if (arg->role != AD_READ || arg->access == AD_ACCESS_DENSE || arg->window) return false;
    for (uint32_t d = task->rank; d-- > 0 && inside < least; inside *= task->shape[d])
        if (arg->strides[d] != 0) return false;
    for (uint32_t i = 0; i < task->n_args; i++)
        if (args[i].role != AD_READ && args[i].slot == arg->slot) return false;
    return true;
}

/* Cut the space into lines and tiles, and lay out the scratch: tiles, a staging area, accumulators. */
static void cut(const ad_maker *m, ad_task *task, ad_arg *args) {
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
        task->outer = ad_product(task->shape, 0, task->n_outer);
        task->rows = ad_product(task->shape, task->n_outer, reduced_end);
        task->line = ad_product(task->shape, reduced_end, task->rank);
    } else if (task->reduces) {
        task->rows = ad_product(task->shape, 0, task->n_outer);
        task->line = ad_product(task->shape, task->n_outer, task->rank);
    } else {
        task->line = task->walks ? task->shape[task->rank - 1] : task->size;
        task->rows = task->line ? task->size / task->line : 0;
    }
    task->group = task->size ? ad_pack(task->line, task->tile, vector, task->outer * task->rows) : 1;
    for (uint32_t i = 0; task->group > 1 && i < task->n_args; i++) ad_choose_access_once(task, &args[i]);

    uint32_t levels = ad_levels_of(task->by_column ? task->rows / AD_BLOCK_ROWS + 1 : task->line / AD_CHUNK + 1);
    task->streams = task->size * task->lane >= STREAM_LEAST && task->step->n_instrs >= STREAM_OPS;
    for (uint32_t i = 0; i < task->n_args; i++)
        args[i].streams = task->streams && args[i].role == AD_WRITE && args[i].buffer->kind == AD_OUTPUT &&
                          args[i].access == AD_ACCESS_DENSE && task->size * args[i].size >= PAST_CACHES;
    for (uint32_t i = 0; i < task->n_args; i++) args[i].still = is_still(task, args, &args[i]);
    ad_number_slots(task, args, m->ops);
    /* No gap between tiles: a load stalls on a store shortly before it to the same place modulo 4096. */
    task->tile_stride = ad_round_up(ad_smaller(task->tile, task->size), AD_VECTOR_MAX) * task->lane;
    task->stills = task->n_tiles * (uint64_t)task->tile_stride;
    task->zeros = task->stills + (task->n_slots - task->n_tiles) * AD_VECTOR_MAX;
    task->staging = task->zeros + (task->windows ? (uint64_t)task->tile_stride : 0);
    task->staging_size = (uint64_t)(task->tile * 8 + AD_VECTOR_MAX);
    task->scratch = task->staging + 2 * task->staging_size;
    /* Accumulators: of a tile's columns; of a chunk's lanes, or of as many lines as a tile may hold. */
    int64_t lanes = task->by_column ? ad_smaller(task->line, task->tile) : task->group;
    task->state_stride = ad_round_up(lanes, AD_VECTOR_MAX) * task->lane;
    for (uint32_t i = 0; i < task->n_args; i++) {
        if (args[i].role <= AD_WRITE) continue;
        args[i].state = task->scratch;
        task->scratch += (uint64_t)task->state_stride * (levels + 1);
        bool computed = task->by_column && task->group == 1;
        for (uint32_t j = 0; j < task->n_args; j++) computed &= !args[j].owns_slot || args[j].slot != args[i].slot;
        if (!computed) continue;
        args[i].ring = task->scratch;
        task->scratch += (uint64_t)(AD_ROWS_AT_ONCE * task->tile_stride);
    }
}

static void make_map(ad_maker *m, ad_task *task, const ad_step *step) {
    ad_arg *args = ad_begin_task(m, task, step);
    const ad_operand *operands = m->plan->operands + step->operand;
    ad_merge_dims(m, task, args);
    task->lane = step->lane;
    ad_op *end = ad_make_program(m->plan, m->kernels, task, args, m->ops, m->values);
    for (uint32_t i = 0; i < task->n_args; i++) {
        ad_choose_access(m, task, &args[i], &operands[i]);
        if (args[i].role > AD_WRITE)
            args[i].reducer = ad_reducer_of(m->kernels, args[i].role, operands[i].reg_dtype, step->lane);
    }
    cut(m, task, args);
    m->ops = end;
    task->cost = 1 + (int64_t)step->n_instrs + task->n_args;
    task->run = m->kernels->map;
}

/* --- the other kinds --- */

/* For a product, and for a narrow piece of it, which may be computed the other way round. */
static uint64_t scratch_of_product(const ad_maker *m, int64_t rows, int64_t columns, int64_t depth, uint32_t size) {
    const int64_t narrow = 64; /* of no instruction set are narrow pieces wider */
    uint64_t whole = m->kernels->gemm_scratch(rows, columns, depth, size);
    uint64_t high = m->kernels->gemm_scratch(rows, ad_smaller(columns, narrow), depth, size);
    uint64_t wide = m->kernels->gemm_scratch(ad_smaller(rows, narrow), columns, depth, size);
    uint64_t piece = high > wide ? high : wide;
    return whole > piece ? whole : piece;
}

static void make_gemm(ad_maker *m, ad_task *task, const ad_step *step) {
    const int64_t *shape = m->plan->dims + step->shape;
    uint32_t rank = step->rank;
    int64_t rows = shape[rank - 3], columns = shape[rank - 2], depth = shape[rank - 1];
    ad_arg *args = ad_begin_task(m, task, step);
    for (uint32_t i = 0; i < 3; i++) args[i].strides = m->plan->dims + m->plan->operands[step->operand + i].strides;
    task->shape = shape;
    task->rank = rank;
    task->size = ad_product(shape, 0, rank - 3); /* how many products */
    task->cost = rows * columns * (depth ? depth : 1);
    task->by_column = columns > 1 && args[2].strides[rank - 2] != 1; /* then c's transpose is computed */
    task->scratch = task->by_column ? scratch_of_product(m, columns, rows, depth, args[0].size)
                                    : scratch_of_product(m, rows, columns, depth, args[0].size);
    task->run = ad_run_gemm;
}

static ad_status make_scalars(ad_maker *m, ad_task *task, const ad_step *step) {
    ad_arg *args = ad_begin_task(m, task, step);
    task->size = 1;
    task->lane = step->lane;
    task->cost = 1 + (int64_t)step->n_instrs + step->n_operands;
    task->run = m->kernels->scalars;
    for (uint32_t i = 0; i < task->n_args; i++)
        args[i].convert = converter(m, &m->plan->operands[step->operand + i], step->lane);
    return ad_prepare_scalars(m->plan, m->kernels, task);
}

static ad_status make_task(ad_maker *m, ad_task *task, const ad_step *step) {
    ad_arg *args;
    switch (step->kind) {
    case AD_MAP: make_map(m, task, step); return AD_OK;
    case AD_SCALARS: return make_scalars(m, task, step);
    case AD_ROWS: ad_make_rows(m, task, step); return AD_OK;
    case AD_GEMM: make_gemm(m, task, step); return AD_OK;
    case AD_COPY:
        args = ad_begin_task(m, task, step);
        ad_merge_dims(m, task, args);
        task->run = m->kernels->copy;
        return AD_OK;
    case AD_ARG_REDUCE:
        args = ad_begin_task(m, task, step);
        ad_merge_dims(m, task, args);
        task->run = m->kernels->arg_reduce;
        return AD_OK;
    case AD_IOTA:
        args = ad_begin_task(m, task, step);
        ad_merge_dims(m, task, args);
        task->run = m->kernels->iota;
        return AD_OK;
    }
    ad_begin_task(m, task, step);
    task->shape = m->plan->dims + step->shape;
    task->rank = step->rank;
    switch (step->kind) {
    case AD_GATHER: task->run = m->kernels->gather; return AD_OK;
    case AD_SCATTER_ADD:
    case AD_SCATTER_SET: task->run = m->kernels->scatter; return AD_OK;
    default:
        task->run = ad_run_host;
        task->scratch = step->n_operands * sizeof(void *);
        return AD_OK;
    }
}

ad_status ad_prepare(ad_prepared *prepared) {
    const ad_plan *plan = &prepared->plan;
    const ad_plan_header *header = plan->header;
    size_t n_steps = (size_t)header->steps.count, n_dims = 0, n_ops = 2 * (size_t)header->instrs.count, n_values = 0, rows = 0;
    for (size_t i = 0; i < n_steps; i++) {
        const ad_step *step = &plan->steps[i];
        if (step->kind == AD_MAP || step->kind == AD_COPY || step->kind == AD_ARG_REDUCE || step->kind == AD_IOTA ||
            step->kind == AD_ROWS)
            n_dims += (1 + 3 * (size_t)step->n_operands) * (step->rank ? step->rank : 1);
        if ((step->kind == AD_MAP || step->kind == AD_ROWS) && (size_t)step->n_operands + step->n_instrs > n_values)
            n_values = (size_t)step->n_operands + step->n_instrs;
        if (step->kind != AD_ROWS) continue;
        n_ops += ad_rows_ops(step);
        rows += ad_rows_memory(step);
    }
    /* All in one block; an int_pow takes two ops. */
    size_t ops = n_steps * sizeof(ad_task), args = ops + n_ops * sizeof(ad_op);
    size_t dims = args + (size_t)header->operands.count * sizeof(ad_arg), programs = dims + n_dims * sizeof(int64_t),
           size = programs + rows;
    char *memory = calloc(1, size ? size : 1);
    ad_value *values = malloc(n_values ? n_values * sizeof(ad_value) : 1);
    prepared->memory = memory;
    if (!memory || !values) {
        free(values);
        return AD_ERROR_MEMORY;
    }
    prepared->tasks = (ad_task *)memory;
    prepared->n_tasks = n_steps;
    ad_maker m = {.plan = plan,
                  .kernels = prepared->kernels,
                  .args = (ad_arg *)(memory + args),
                  .ops = (ad_op *)(memory + ops),
                  .dims = (int64_t *)(memory + dims),
                  .rows = memory + programs,
                  .values = values};
    for (size_t i = 0; i < n_steps; i++) {
        ad_task *task = &prepared->tasks[i];
        ad_arg *taken = m.args;
        ad_status status = make_task(&m, task, &plan->steps[i]);
        if (status != AD_OK) {
            free(values);
            return status;
        }
        ad_cut_task(plan, task, taken);
        if (task->scratch > prepared->scratch) prepared->scratch = task->scratch;
        const uint64_t work = ad_work_of(task);
        prepared->work = work < UINT64_MAX - prepared->work ? prepared->work + work : UINT64_MAX;
    }
    free(values);
    return AD_OK;
}

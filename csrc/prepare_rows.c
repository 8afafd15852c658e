/* Makes of a checked ROWS step what runs: passes over a block of rows, slots for elements and for numbers, scratch. */
#include "prepare.h"

static const int64_t PIECE_BYTES = 4096;       /* of elements that short rows are packed into */
static const int64_t SHORT_ROW = 256;          /* elements; in longer ones a number had better be one vector a row */
static const int64_t BLOCK_BYTES = 128 << 10;  /* of the second level cache that a block keeps from pass to pass */
static const int64_t BLOCK_MOST = 64;          /* lines; more make an op on numbers no cheaper */
static const int64_t STREAM_LEAST = 512 << 10; /* bytes of an operand that will not be in the second level */

bool ad_moves(const ad_plan *plan, const ad_step *step, const ad_operand *operand, uint32_t from) {
    for (uint32_t d = from; d < step->rank; d++)
        if (plan->dims[operand->strides + d]) return true;
    return false;
}

uint64_t ad_rows_ops(const ad_step *step) { return 6 * (uint64_t)step->n_instrs + step->n_operands; }

/* Each value has its own slot, and a number may have one that it is spread to, and one vector. */
static uint64_t most_slots(const ad_step *step) {
    return (uint64_t)ad_smaller(AD_MAX_ROW_SLOTS, 3 * ((int64_t)step->n_instrs + step->n_operands));
}

static uint64_t most_passes(const ad_step *step) { return 2 + (uint64_t)step->n_instrs; }

uint64_t ad_rows_memory(const ad_step *step) {
    uint64_t by_slot = sizeof(uint64_t) + sizeof(bool);
    return (sizeof(ad_rows) + most_passes(step) * sizeof(ad_pass) + 2 * step->n_operands * sizeof(ad_op) +
            most_slots(step) * by_slot + 7) / 8 * 8;
}

/* Cut the rows into blocks and those into pieces, and lay out the scratch. */
static void cut(ad_task *task, ad_arg *args, ad_rows *rows, uint64_t *tiles) {
    ad_task *numbers = &rows->numbers;
    const int64_t lane = task->lane;
    int64_t n_kept = 1;
    for (uint32_t slot = 0; slot < task->n_tiles; slot++) n_kept += rows->kept[slot];
    task->tile = task->group * task->line;
    task->tile_stride = ad_round_up(task->tile * lane, AD_VECTOR_MAX);
    int64_t pieces = ad_larger(1, ad_smaller(BLOCK_BYTES / (n_kept * task->tile_stride), BLOCK_MOST / task->group));
    if (pieces > AD_ROWS_AT_ONCE) pieces -= pieces % AD_ROWS_AT_ONCE;
    rows->block = numbers->tile = ad_smaller(pieces * task->group, task->rows);
    pieces = (rows->block + task->group - 1) / task->group;
    numbers->tile_stride = ad_round_up(rows->block * lane, AD_VECTOR_MAX);

    uint64_t at = numbers->n_slots * (uint64_t)numbers->tile_stride;
    for (uint32_t slot = 0; slot < task->n_slots; slot++) {
        tiles[slot] = at;
        at += slot >= task->n_tiles ? AD_VECTOR_MAX : (uint64_t)((rows->kept[slot] ? pieces : 1) * task->tile_stride);
    }
    task->staging = numbers->staging = at;
    task->staging_size = numbers->staging_size = (uint64_t)(ad_larger(task->tile, numbers->tile) * 8 + AD_VECTOR_MAX);
    at += 2 * task->staging_size;
    at = rows->state = (uint64_t)ad_round_up((int64_t)at, AD_VECTOR_MAX);
    at += (uint64_t)(AD_VECTOR_MAX * lane * (ad_levels_of(task->line / AD_CHUNK + 1) + 1));
    task->state_stride = ad_round_up(task->line, AD_VECTOR_MAX) * lane;
    for (uint32_t i = 0; i < task->n_args; i++) {
        ad_arg *arg = &args[i];
        if (arg->role <= AD_WRITE) continue;
        int64_t parts = arg->whole ? (arg->by_number ? task->rows : task->size) / AD_CHUNK : task->rows / AD_BLOCK_ROWS;
        arg->state = at;
        at += (uint64_t)((arg->whole ? AD_VECTOR_MAX * lane : task->state_stride) * (ad_levels_of(parts + 1) + 1));
    }
    rows->table = at;
    task->scratch = at + sizeof(char *) * (numbers->n_slots + (uint64_t)pieces * task->n_slots);
}

void ad_make_rows(ad_maker *m, ad_task *task, const ad_step *step) {
    static const int64_t one[] = {1};
    ad_arg *args = ad_begin_task(m, task, step);
    const ad_operand *operands = m->plan->operands + step->operand;
    ad_rows *rows = (ad_rows *)m->rows;
    ad_row_program made = {.rows = rows, .spreads = (ad_op *)(rows + 1)};
    made.passes = (ad_pass *)(made.spreads + 2 * step->n_operands);
    uint64_t *tiles = (uint64_t *)(made.passes + most_passes(step));
    made.kept = (bool *)(tiles + most_slots(step));
    m->rows += ad_rows_memory(step);

    ad_merge_dims(m, task, args);
    task->lane = step->lane;
    task->outer = 1;
    task->rows = ad_product(task->shape, 0, task->n_outer);
    task->line = ad_product(task->shape, task->n_outer, task->rank);
    const int64_t vector = m->kernels->vector / task->lane;
    task->group = task->line > SHORT_ROW ? 1 : ad_pack(task->line, PIECE_BYTES / task->lane, vector, task->rows);
    task->streams = task->size * task->lane >= STREAM_LEAST;
    rows->numbers = *task;
    rows->numbers.rank = task->n_outer ? task->n_outer : 1;
    rows->numbers.shape = task->n_outer ? task->shape : one;
    rows->numbers.size = task->rows;
    rows->numbers.streams = false;
    for (uint32_t i = 0; i < task->n_args; i++) {
        ad_arg *arg = &args[i];
        arg->by_number = arg->role <= AD_WRITE && !ad_moves(m->plan, step, &operands[i], step->n_outer);
        bool moves = task->line > 1 && ad_moves(m->plan, step, &operands[i], step->n_outer);
        arg->whole = arg->role > AD_WRITE && !moves; /* rows of one element are summed as the numbers they are */
        arg->position = operands[i].reg_dtype == AD_POSITION;
        if (arg->position) continue;
        ad_choose_access(m, arg->by_number ? &rows->numbers : task, arg, &operands[i]);
        if (!arg->by_number) ad_choose_access_once(task, arg);
        if (arg->role > AD_WRITE)
            arg->reducer = ad_reducer_of(m->kernels, arg->role, operands[i].reg_dtype, step->lane);
    }
    ad_program program = {.plan = m->plan, .kernels = m->kernels, .step = step, .operands = operands, .task = task,
                          .args = args, .values = m->values, .n_args = step->n_operands,
                          .n_values = step->n_operands + step->n_instrs};
    m->ops = ad_make_row_program(&program, task, &made, m->ops);
    rows->passes = made.passes;
    rows->spreads = made.spreads;
    rows->tiles = tiles;
    rows->kept = made.kept;
    cut(task, args, rows, tiles);
    task->program = rows;
    task->cost = 1 + (int64_t)step->n_instrs + task->n_args;
    task->run = m->kernels->rows;
}

/* Makes of a checked ROWS step what runs: passes over a block of rows, slots for elements and for numbers, scratch. */
#include "prepare.h"

static const int64_t PIECE_BYTES = 4096;       /* of elements that short rows are packed into */
static const int64_t BLOCK_BYTES = 128 << 10;  /* of the second level cache that a block keeps from pass to pass */
static const int64_t BLOCK_MOST = 64;          /* lines; more make an op on numbers no cheaper */
static const int64_t STREAM_LEAST = 512 << 10; /* bytes of an operand that will not be in the second level */

/* Where a register's value is. */
typedef struct holder {
    bool by_number;
    uint16_t slot;
    int32_t spread; /* the slot of elements that a number has been spread to, or -1 */
    int32_t still;  /* the operand that is the same number for all rows, or -1 */
} holder;

typedef struct rows_maker {
    ad_maker *m;
    const ad_step *step;
    ad_task *task;
    ad_arg *args;
    ad_rows *rows;
    ad_pass *passes;
    ad_op *spreads;
    bool *kept, *used; /* by slot of elements */
    uint32_t *made;    /* the pass over elements that filled a slot, or ONCE */
    uint32_t n_element_passes;
    holder held[AD_MAX_REGISTERS];
} rows_maker;

static const uint32_t ONCE = UINT32_MAX;

bool ad_moves(const ad_plan *plan, const ad_step *step, const ad_operand *operand, uint32_t from) {
    for (uint32_t d = from; d < step->rank; d++)
        if (plan->dims[operand->strides + d]) return true;
    return false;
}

/* Each register may have a slot of its own, be spread to one, and each operand have both as well. */
static uint32_t most_slots(const ad_step *step) { return 2 * (step->n_registers + step->n_operands); }
static uint64_t most_passes(const ad_step *step) { return 1 + ad_rows_ops(step) + step->n_instrs; }

uint64_t ad_rows_ops(const ad_step *step) { return 3 * (uint64_t)step->n_instrs + step->n_operands; }

uint64_t ad_rows_memory(const ad_step *step) {
    uint64_t by_slot = sizeof(uint64_t) + sizeof(uint32_t) + 2 * sizeof(bool);
    return (sizeof(ad_rows) + most_passes(step) * sizeof(ad_pass) + step->n_operands * sizeof(ad_op) +
            most_slots(step) * by_slot + 7) / 8 * 8;
}

/* The pass that the next op belongs to: the last one, if that is of its kind. */
static void enter_pass(rows_maker *r, bool by_number) {
    if (r->rows->n_passes && r->passes[r->rows->n_passes - 1].by_number == by_number) return;
    if (!by_number) r->n_element_passes++;
    r->passes[r->rows->n_passes++] = (ad_pass){.ops = r->m->ops, .by_number = by_number};
}

/* Once per element pass that reads a slot; the passes are counted from 1, and operands are there before the first. */
static void use(rows_maker *r, uint16_t slot) {
    r->used[slot] = true;
    if (r->made[slot] != ONCE && r->made[slot] != r->n_element_passes) r->kept[slot] = true;
}

static void make(rows_maker *r, uint16_t slot) {
    r->used[slot] = true;
    r->made[slot] = r->n_element_passes;
}

/* The slot of a register's elements; of a number's, which is spread to them at first. */
static uint16_t elements_of(rows_maker *r, uint32_t reg) {
    holder *held = &r->held[reg];
    if (!held->by_number) return held->slot;
    if (held->spread >= 0) return (uint16_t)held->spread;
    ad_op op = {.a = held->slot, .kind = AD_ROW_SPREAD};
    if (held->still >= 0) {
        op.dst = (uint16_t)(2 * r->step->n_registers + r->step->n_operands + (uint32_t)held->still);
        r->made[op.dst] = ONCE;
        r->spreads[r->rows->n_spreads++] = op;
    } else {
        op.dst = (uint16_t)(r->step->n_registers + reg);
        *r->m->ops++ = op;
        make(r, op.dst);
    }
    held->spread = op.dst;
    return op.dst;
}

static void append_instr(rows_maker *r, const ad_instr *instr, int32_t store, int32_t number_store) {
    const ad_opcode *opcode = ad_opcode_numbered(instr->opcode);
    const uint32_t sources[3] = {instr->a, instr->b, instr->c};
    const uint32_t role = ad_row_reduction(instr->opcode);
    const bool picks = instr->opcode == AD_OPCODE_pick, places = instr->opcode == AD_OPCODE_place;
    bool elements = role || picks || places;
    for (uint32_t k = 0; k < opcode->arity; k++) elements = elements || !r->held[sources[k]].by_number;
    enter_pass(r, !elements);
    uint16_t slots[3];
    for (uint32_t k = 0; k < 3; k++) {
        uint32_t source = sources[k < opcode->arity ? k : 0];
        bool takes_elements = elements && !places && !(picks && k == 1);
        slots[k] = takes_elements ? elements_of(r, source) : r->held[source].slot;
        if (takes_elements) use(r, slots[k]);
    }
    for (uint32_t i = 0; (picks || places) && i < r->task->n_args; i++)
        if (r->args[i].position && r->args[i].slot == slots[1]) r->args[i].line = instr->line;

    bool by_number = role || picks || !elements;
    int32_t target = by_number ? number_store : store;
    uint16_t dst = target < 0 ? (uint16_t)instr->dst : r->args[target].slot;
    if (!by_number) make(r, dst);
    ad_op op = {.dst = dst, .a = slots[0], .b = slots[1], .c = slots[2], .line = instr->line};
    if (role) {
        op.kind = AD_ROW_REDUCE;
        op.reducer = ad_choose_reducer(r->m, role, instr->dtype, r->step->lane);
        *r->m->ops++ = op;
    } else if (picks || places) {
        op.kind = picks ? AD_ROW_PICK : AD_ROW_PLACE;
        op.c = instr->dtype;
        *r->m->ops++ = op;
    } else {
        op.kind = by_number ? AD_ROW_NUMBERS : AD_ROW_ELEMENTS;
        ad_append_op(r->m, instr, r->step->lane, op);
    }
    r->held[instr->dst] = (holder){.by_number = by_number, .slot = dst, .spread = -1, .still = -1};
}

/* The passes, and each operand's slot. */
static void make_passes(rows_maker *r) {
    const ad_step *step = r->step;
    const ad_operand *operands = r->m->plan->operands + step->operand;
    const ad_instr *instrs = r->m->plan->instrs + step->instr;
    int64_t writer[AD_MAX_REGISTERS];              /* the last instr to write a register */
    int32_t store[AD_MAX_REGISTERS][2];            /* and the operand that stores its elements, or its number, or -1 */
    for (uint32_t reg = 0; reg < step->n_registers; reg++) writer[reg] = store[reg][0] = store[reg][1] = -1;
    for (uint32_t i = 0; i < step->n_instrs; i++) writer[instrs[i].dst] = i;
    for (uint32_t i = 0; i < step->n_operands; i++) {
        ad_arg *arg = &r->args[i];
        uint32_t reg = operands[i].reg;
        arg->slot = (uint16_t)(2 * step->n_registers + i);
        if (arg->role == AD_READ) {
            arg->owns_slot = !arg->position;
            bool still = arg->access == AD_ACCESS_ONCE;
            r->made[arg->slot] = still ? ONCE : 1;
            r->used[arg->slot] = !arg->by_number;
            r->held[reg] = (holder){arg->by_number, arg->slot, -1, still && arg->by_number ? (int32_t)i : -1};
        } else if (arg->role == AD_WRITE && writer[reg] >= 0) {
            store[reg][arg->by_number] = (int32_t)i;
        }
    }
    for (uint32_t i = 0; i < step->n_instrs; i++) {
        const int32_t *to = store[instrs[i].dst];
        bool last = writer[instrs[i].dst] == i;
        append_instr(r, &instrs[i], last ? to[0] : -1, last ? to[1] : -1);
    }
    if (r->n_element_passes == 0) enter_pass(r, false);
    for (uint32_t i = 0; i < step->n_operands; i++) {
        ad_arg *arg = &r->args[i];
        const holder *held = &r->held[operands[i].reg];
        if (arg->role == AD_READ) continue;
        if (arg->whole) arg->by_number = held->by_number;
        if (!arg->by_number && held->by_number && held->spread < 0) enter_pass(r, false);
        uint16_t slot = arg->by_number ? held->slot : elements_of(r, operands[i].reg);
        arg->owns_slot = arg->role == AD_WRITE && slot == arg->slot;
        arg->slot = slot;
    }
    for (uint32_t i = 0; i < step->n_operands; i++)
        if (r->args[i].role != AD_READ && !r->args[i].by_number) {
            const uint16_t slot = r->args[i].slot;
            use(r, slot);
            if (r->args[i].role > AD_WRITE && !r->args[i].whole && r->made[slot] != ONCE) r->kept[slot] = true;
        }

    const ad_op *end = r->m->ops;
    for (uint32_t p = r->rows->n_passes; p-- > 0; end = r->passes[p].ops) {
        r->passes[p].n_ops = (uint32_t)(end - r->passes[p].ops);
        if (r->passes[p].by_number) continue;
        r->rows->first = p;
        if (r->rows->last < p) r->rows->last = p;
    }
}

/* Cut the rows into blocks and those into pieces, and lay out the scratch. */
static void cut(rows_maker *r, uint64_t *tiles) {
    ad_task *task = r->task, *numbers = &r->rows->numbers;
    const int64_t lane = task->lane;
    int64_t n_kept = 1;
    for (uint32_t slot = 0; slot < task->n_slots; slot++) n_kept += r->kept[slot];
    task->tile = task->group * task->line;
    task->tile_stride = ad_round_up(task->tile * lane, AD_VECTOR_MAX);
    int64_t pieces = ad_larger(1, ad_smaller(BLOCK_BYTES / (n_kept * task->tile_stride), BLOCK_MOST / task->group));
    if (pieces > AD_ROWS_AT_ONCE) pieces -= pieces % AD_ROWS_AT_ONCE;
    r->rows->block = numbers->tile = ad_smaller(pieces * task->group, task->rows);
    pieces = (r->rows->block + task->group - 1) / task->group;
    numbers->tile_stride = ad_round_up(r->rows->block * lane, AD_VECTOR_MAX);

    uint64_t at = numbers->n_slots * (uint64_t)numbers->tile_stride;
    for (uint32_t slot = 0; slot < task->n_slots; slot++) {
        tiles[slot] = at;
        if (r->used[slot]) at += (uint64_t)((r->kept[slot] ? pieces : 1) * task->tile_stride);
    }
    task->staging = numbers->staging = at;
    task->staging_size = numbers->staging_size = (uint64_t)(ad_larger(task->tile, numbers->tile) * 8 + AD_VECTOR_MAX);
    at += 2 * task->staging_size;
    at = r->rows->state = (uint64_t)ad_round_up((int64_t)at, AD_VECTOR_MAX);
    at += (uint64_t)(AD_VECTOR_MAX * lane * (ad_levels_of(task->line / AD_CHUNK + 1) + 1));
    task->state_stride = ad_round_up(task->line, AD_VECTOR_MAX) * lane;
    for (uint32_t i = 0; i < task->n_args; i++) {
        ad_arg *arg = &r->args[i];
        if (arg->role <= AD_WRITE) continue;
        int64_t parts = arg->whole ? (arg->by_number ? task->rows : task->size) / AD_CHUNK : task->rows / AD_BLOCK_ROWS;
        arg->state = at;
        at += (uint64_t)((arg->whole ? AD_VECTOR_MAX * lane : task->state_stride) * (ad_levels_of(parts + 1) + 1));
    }
    r->rows->table = at;
    task->scratch = at + sizeof(char *) * (numbers->n_slots + (uint64_t)pieces * task->n_slots);
}

void ad_make_rows(ad_maker *m, ad_task *task, const ad_step *step) {
    static const int64_t one[] = {1};
    rows_maker r = {.m = m, .step = step, .task = task, .args = ad_begin_task(m, task, step)};
    const ad_operand *operands = m->plan->operands + step->operand;
    const uint32_t n_slots = most_slots(step);
    ad_rows *rows = r.rows = (ad_rows *)m->rows;
    r.spreads = (ad_op *)(rows + 1);
    r.passes = (ad_pass *)(r.spreads + step->n_operands);
    uint64_t *tiles = (uint64_t *)(r.passes + most_passes(step));
    r.made = (uint32_t *)(tiles + n_slots);
    r.kept = (bool *)(r.made + n_slots);
    r.used = r.kept + n_slots;
    m->rows += ad_rows_memory(step);

    ad_merge_dims(m, task, r.args);
    task->lane = step->lane;
    task->n_slots = task->n_tiles = n_slots;
    task->outer = 1;
    task->rows = ad_product(task->shape, 0, task->n_outer);
    task->line = ad_product(task->shape, task->n_outer, task->rank);
    task->group = ad_pack(task->line, PIECE_BYTES / task->lane, m->kernels->vector / task->lane, task->rows);
    task->streams = task->size * task->lane >= STREAM_LEAST;
    rows->numbers = *task;
    rows->numbers.rank = task->n_outer ? task->n_outer : 1;
    rows->numbers.shape = task->n_outer ? task->shape : one;
    rows->numbers.size = task->rows;
    rows->numbers.streams = false;
    for (uint32_t i = 0; i < task->n_args; i++) {
        ad_arg *arg = &r.args[i];
        arg->by_number = arg->role <= AD_WRITE && !ad_moves(m->plan, step, &operands[i], step->n_outer);
        bool moves = task->line > 1 && ad_moves(m->plan, step, &operands[i], step->n_outer);
        arg->whole = arg->role > AD_WRITE && !moves; /* rows of one element are summed as the numbers they are */
        arg->position = operands[i].reg_dtype == AD_POSITION;
        if (arg->position) continue;
        ad_choose_access(m, arg->by_number ? &rows->numbers : task, arg, &operands[i]);
        if (!arg->by_number) ad_choose_access_once(task, arg);
        if (arg->role > AD_WRITE) arg->reducer = ad_choose_reducer(m, arg->role, operands[i].reg_dtype, step->lane);
    }
    task->ops = m->ops;
    make_passes(&r);
    task->n_ops = (uint32_t)(m->ops - task->ops);
    cut(&r, tiles);
    rows->passes = r.passes;
    rows->spreads = r.spreads;
    rows->tiles = tiles;
    rows->kept = r.kept;
    task->program = rows;
    task->cost = 1 + (int64_t)task->n_ops + task->n_args;
    task->run = m->kernels->rows;
}

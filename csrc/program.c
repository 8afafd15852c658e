/* From the instrs of a program to the ops of the tile VM: superinstructions are chosen, and, for a MAP, slots given out.
 */
#include "program.h"

#include <string.h>

enum { LEAF = AD_N_OPCODES, MOST_SYMBOLS = 12, MOST_INNER = 4 };

static const uint32_t NONE = UINT32_MAX;

static bool commutes(uint16_t opcode) { return opcode == AD_OPCODE_add || opcode == AD_OPCODE_mul; }

/* Whether a value may be one vector for a whole tile, which loops take best as the last operand. */
static bool may_be_still(const ad_program *p, uint32_t value) {
    return p->values[value].by_number || (value < p->n_args && p->args[value].strides[p->task->rank - 1] == 0);
}

void ad_read_values(ad_program *p) {
    uint32_t held[AD_MAX_REGISTERS] = {0}; /* the value that is in each register just now */
    uint32_t pass = 0;
    memset(p->values, 0, p->n_values * sizeof *p->values);
    for (uint32_t i = 0; i < p->n_args; i++) {
        if (p->args[i].role != AD_READ) continue;
        held[p->operands[i].reg] = i;
        p->values[i].by_number = p->args[i].by_number;
    }
    for (uint32_t i = p->n_args; i < p->n_values; i++) {
        const ad_instr *instr = &p->plan->instrs[p->step->instr + i - p->n_args];
        const uint32_t sources[3] = {instr->a, instr->b, instr->c};
        ad_value *value = &p->values[i];
        value->opcode = instr->opcode;
        value->dtype = instr->dtype;
        value->line = instr->line;
        value->run = p->kernels->ops[ad_lane_of(instr->dtype, p->step->lane)][instr->opcode];
        value->n_leaves = (uint8_t)ad_opcode_numbered(instr->opcode)->arity;
        value->by_number = true;
        for (uint32_t k = 0; k < value->n_leaves; k++) {
            value->leaves[k] = held[sources[k]];
            p->values[value->leaves[k]].uses++;
            value->by_number &= p->values[value->leaves[k]].by_number;
        }
        if (instr->opcode >= AD_OPCODE_row_sum) value->by_number = instr->opcode != AD_OPCODE_place;
        const bool on_numbers = value->by_number && instr->opcode < AD_OPCODE_row_sum;
        value->pass = pass += on_numbers != (pass & 1);
        if (commutes(value->opcode) && may_be_still(p, value->leaves[0])) {
            value->leaves[0] = value->leaves[1];
            value->leaves[1] = held[instr->a];
        }
        held[instr->dst] = i;
    }
    for (uint32_t i = 0; i < p->n_args; i++) {
        if (p->args[i].role == AD_READ) continue;
        p->stored[i] = held[p->operands[i].reg];
        p->values[p->stored[i]].last = AD_VALUE_STORED;
        p->values[p->stored[i]].uses++;
    }
}

/* --- superinstructions --- */

/* A tree of superops.def in Polish notation: opcodes, and LEAF, LEAF + 1 ... for a, b ... */
typedef struct tree {
    uint8_t n_leaves, symbols[MOST_SYMBOLS];
} tree;

static const tree *tree_at(uint32_t i) {
    enum { a = LEAF, b, c, d };
    static const tree trees[] = {
#define OP(name, ...) AD_OPCODE_##name, __VA_ARGS__
#define AD_SUPEROP(name, leaves, tree) {leaves, {tree}},
#include "superops.def"
#undef AD_SUPEROP
#undef OP
    };
    return &trees[i];
}

/* How far a tree has been found in the program: what its leaves and inner nodes are. */
typedef struct match {
    const uint8_t *symbol; /* the next one */
    uint32_t leaves[AD_MOST_LEAVES];
    uint32_t inner[MOST_INNER];
    uint32_t n_inner;
} match;

static bool finds(const ad_program *p, match *m, uint32_t number, uint16_t dtype);

static bool finds_operands(const ad_program *p, match *m, const uint32_t *operands, uint32_t n, uint16_t dtype) {
    for (uint32_t k = 0; k < n; k++)
        if (!finds(p, m, operands[k], dtype)) return false;
    return true;
}

/* Whether the value is what the tree has next. */
static bool finds(const ad_program *p, match *m, uint32_t number, uint16_t dtype) {
    const ad_value *value = &p->values[number];
    uint8_t symbol = *m->symbol++;
    if (symbol >= LEAF) {
        uint32_t *leaf = &m->leaves[symbol - LEAF];
        if (*leaf == NONE) *leaf = number;
        return *leaf == number;
    }
    if (value->opcode != symbol || value->dtype != dtype || value->absorbed) return false;
    if (m->n_inner == MOST_INNER) return false;
    m->inner[m->n_inner++] = number;
    const match before = *m;
    const uint32_t turned[2] = {value->leaves[1], value->leaves[0]};
    if (finds_operands(p, m, value->leaves, value->n_leaves, dtype)) return true;
    *m = before;
    return commutes(symbol) && finds_operands(p, m, turned, 2, dtype);
}

/* Whether the two may be the same memory: in the arena, or where an argument is given away for a result. */
static bool may_overlap(const ad_buffer *x, const ad_buffer *y) {
    if (x->kind == AD_INPUT && y->kind == AD_OUTPUT) return true;
    if (x->kind != y->kind || x->index != y->index) return false;
    return x->offset < y->offset + y->size && y->offset < x->offset + x->size;
}

/* Whether what value `from` reads from memory could be overwritten by then if it were computed as late as `to`. */
static bool may_be_lost(const ad_program *p, uint32_t from, uint32_t to) {
    const ad_value *value = &p->values[from];
    for (uint32_t i = 0; i < p->n_args; i++) {
        if (p->args[i].role != AD_WRITE || p->stored[i] <= from || p->stored[i] >= to) continue;
        for (uint32_t k = 0; k < value->n_leaves; k++)
            if (value->leaves[k] < p->n_args && may_overlap(p->args[value->leaves[k]].buffer, p->args[i].buffer))
                return true;
    }
    return false;
}

static bool is_comparison(uint16_t opcode) { return opcode >= AD_OPCODE_eq && opcode <= AD_OPCODE_ge; }

/* Whether the values inside of the tree can be computed where its root is.  What others need as well had better be
 * computed again if it is a comparison: that costs less than a mask that goes through memory. */
static bool may_absorb(const ad_program *p, const match *m) {
    const ad_value *root = &p->values[m->inner[0]];
    for (uint32_t i = 1; i < m->n_inner; i++) {
        const ad_value *value = &p->values[m->inner[i]];
        uint32_t uses = 0;
        for (uint32_t k = 1; k < m->n_inner; k++) uses += m->inner[k] == m->inner[i];
        const bool again = is_comparison(value->opcode) && value->by_number == root->by_number;
        if (!again && (value->uses != uses || value->pass != root->pass)) return false;
        if (may_be_lost(p, m->inner[i], m->inner[0])) return false;
    }
    return true;
}

/* Inside of what needs it: one user less, which needs its operands instead. */
static void compute_inside(ad_program *p, ad_value *value) {
    value->absorbed = --value->uses == 0;
    for (uint32_t k = 0; !value->absorbed && k < value->n_leaves; k++) p->values[value->leaves[k]].uses++;
}

/* Compute a value and those that only it needs in one loop, if there is one. */
static void absorb(ad_program *p, uint32_t root) {
    ad_value *value = &p->values[root];
    ad_op_run *const *superops = NULL;
    if (ad_lane_of(value->dtype, p->step->lane) < AD_N_NUMBER_LANES)
        superops = p->kernels->superops[ad_lane_of(value->dtype, p->step->lane)];
    for (uint32_t i = 0; superops && i < AD_N_SUPEROPS; i++) {
        const tree *tree = tree_at(i);
        if (tree->symbols[0] != value->opcode) continue;
        match m = {.symbol = tree->symbols, .leaves = {NONE, NONE, NONE, NONE}};
        if (!finds(p, &m, root, value->dtype) || !may_absorb(p, &m)) continue;
        for (uint32_t k = 1; k < m.n_inner; k++) compute_inside(p, &p->values[m.inner[k]]);
        memcpy(value->leaves, m.leaves, sizeof value->leaves);
        value->n_leaves = tree->n_leaves;
        value->run = superops[i];
        return;
    }
}

void ad_choose_superops(ad_program *p) {
    for (uint32_t i = p->n_values; ad_superops_selected() && i-- > p->n_args;)
        if (!p->values[i].absorbed) absorb(p, i);
}

void ad_find_last_uses(ad_program *p) {
    ad_value *values = p->values;
    for (uint32_t i = p->n_args; i < p->n_values; i++)
        for (uint32_t k = 0; !values[i].absorbed && k < values[i].n_leaves; k++)
            if (values[values[i].leaves[k]].last != AD_VALUE_STORED) values[values[i].leaves[k]].last = i;
}

ad_op *ad_put_op(const ad_program *p, ad_op *ops, const ad_value *value, ad_op op) {
    ad_op_run *check = p->kernels->check_exponents[ad_lane_of(value->dtype, p->step->lane)];
    op.line = value->line;
    op.run = check;
    if (value->opcode == AD_OPCODE_int_pow && check) *ops++ = op;
    op.run = value->run;
    *ops++ = op;
    return ops;
}

/* --- slots --- */

/* A slot for each value: memory's own for what is loaded or stored without conversion, a register for the others, used
 * again after its value's last use.  False if they take more registers than there are. */
static bool assign_slots(ad_program *p, ad_task *task) {
    uint16_t free[AD_MAX_REGISTERS];
    uint32_t n_free = 0;
    ad_value *values = p->values;
    task->n_registers = 0;
    for (uint32_t i = 0; i < p->n_args; i++) { /* operands' slots are numbered behind the registers */
        values[i].slot = (uint16_t)(AD_MAX_REGISTERS + i);
        p->args[i].owns_slot = p->args[i].role == AD_READ;
    }
    for (uint32_t i = p->n_args; i < p->n_values; i++) values[i].slot = AD_MAX_SLOTS;
    ad_find_last_uses(p);
    for (uint32_t i = 0; i < p->n_args; i++) {
        ad_value *value = &values[p->args[i].role == AD_READ ? i : p->stored[i]];
        if (p->args[i].role != AD_WRITE || value->slot != AD_MAX_SLOTS) continue;
        p->args[i].owns_slot = true;
        value->slot = (uint16_t)(AD_MAX_REGISTERS + i);
    }
    for (uint32_t i = p->n_args; i < p->n_values; i++) {
        ad_value *value = &values[i];
        if (value->absorbed) continue;
        for (uint32_t k = 0; k < value->n_leaves; k++) {
            ad_value *leaf = &values[value->leaves[k]];
            if (leaf->last != i || leaf->slot >= AD_MAX_REGISTERS) continue;
            free[n_free++] = leaf->slot;
            leaf->last = AD_VALUE_STORED; /* it may be named twice */
        }
        if (value->slot != AD_MAX_SLOTS) continue;
        if (n_free == 0 && task->n_registers == AD_MAX_REGISTERS) return false;
        value->slot = n_free ? free[--n_free] : (uint16_t)task->n_registers++;
        if (value->uses == 0) free[n_free++] = value->slot;
    }
    for (uint32_t i = 0; i < p->n_args; i++)
        p->args[i].slot = values[p->args[i].role == AD_READ ? i : p->stored[i]].slot;
    return true;
}

static ad_op *put_ops(const ad_program *p, ad_op *ops) {
    for (uint32_t i = p->n_args; i < p->n_values; i++) {
        const ad_value *value = &p->values[i];
        if (value->absorbed) continue;
        uint16_t slots[AD_MOST_LEAVES] = {value->slot, value->slot, value->slot, value->slot};
        for (uint32_t k = 0; k < value->n_leaves; k++) slots[k] = p->values[value->leaves[k]].slot;
        ad_op op = {.dst = value->slot, .a = slots[0], .b = slots[1], .c = slots[2], .d = slots[3]};
        ops = ad_put_op(p, ops, value, op);
    }
    return ops;
}

ad_op *ad_make_program(const ad_plan *plan, const ad_kernels *kernels, ad_task *task, ad_arg *args, ad_op *ops,
                       ad_value *values) {
    const ad_step *step = task->step;
    ad_program p = {.plan = plan, .kernels = kernels, .step = step, .operands = plan->operands + step->operand,
                 .task = task, .args = args, .values = values, .n_args = step->n_operands,
                 .n_values = step->n_operands + step->n_instrs};
    ad_read_values(&p);
    ad_choose_superops(&p);
    if (!assign_slots(&p, task)) { /* what is computed later keeps its operands for longer */
        ad_read_values(&p);
        assign_slots(&p, task);
    }
    ad_op *end = put_ops(&p, ops);
    task->ops = ops;
    task->n_ops = (uint32_t)(end - ops);
    return end;
}

/* Slots in the order they lie in: registers, operands that take a tile, operands that are one vector for all of it. */
void ad_number_slots(ad_task *task, ad_arg *args, ad_op *ops) {
    uint16_t number[AD_MAX_SLOTS] = {0};
    uint16_t still = (uint16_t)task->n_registers;
    for (uint16_t i = 0; i < task->n_registers; i++) number[i] = i;
    for (uint32_t i = 0; i < task->n_args; i++)
        if (args[i].owns_slot && !args[i].still) number[args[i].slot] = still++;
    task->n_slots = task->n_tiles = still;
    for (uint32_t i = 0; i < task->n_args; i++)
        if (args[i].owns_slot && args[i].still) number[args[i].slot] = (uint16_t)task->n_slots++;
    for (uint32_t i = 0; i < task->n_args; i++) args[i].slot = number[args[i].slot];
    for (uint32_t i = 0; i < task->n_ops; i++) {
        ad_op *op = &ops[i];
        uint16_t *slots[] = {&op->a, &op->b, &op->c, &op->d};
        op->dst = number[op->dst];
        for (uint32_t k = 0; k < AD_MOST_LEAVES; k++) {
            *slots[k] = number[*slots[k]];
            if (*slots[k] >= still) op->still |= (uint16_t)(1 << k);
        }
    }
}

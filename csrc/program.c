/* From the instrs of a MAP to the ops of the tile VM: superinstructions are chosen, then slots are given out.
 *
 * Registers that are written again and again stand in the way of moving an op to its user, so a program is first read
 * as values: operand i loads value i, instr i computes value n_args + i.
 */
#include "kernels.h"

#include <string.h>

enum { LEAF = AD_N_OPCODES, MOST_SYMBOLS = 12, MOST_LEAVES = 4, MOST_INNER = 4 };

static const uint32_t NONE = UINT32_MAX, END = UINT32_MAX - 1;

struct ad_value {
    ad_op_run *run;
    uint32_t leaves[MOST_LEAVES]; /* the values it is computed from */
    uint32_t uses;                /* by instrs and stores */
    uint32_t last;                /* the value whose computation is the last to need it; END: it is stored */
    uint32_t line;
    uint16_t opcode, dtype;
    uint16_t slot;
    uint8_t n_leaves;
    bool absorbed; /* computed inside of the value that needs it */
};

size_t ad_value_size(void) { return sizeof(ad_value); }

typedef struct program {
    const ad_plan *plan;
    const ad_kernels *kernels;
    const ad_step *step;
    const ad_operand *operands;
    const ad_task *task;
    ad_arg *args;
    ad_value *values;
    uint32_t n_args, n_values;
    uint32_t stored[AD_MAX_ARGS]; /* by operand: the value that it stores */
} program;

static bool commutes(uint16_t opcode) { return opcode == AD_OPCODE_add || opcode == AD_OPCODE_mul; }

/* Whether a value may be one vector for a whole tile, which loops take best as the last operand. */
static bool may_be_still(const program *p, uint32_t value) {
    return value < p->n_args && p->args[value].strides[p->task->rank - 1] == 0;
}

static void read_values(program *p) {
    uint32_t held[AD_MAX_REGISTERS] = {0}; /* the value that is in each register just now */
    memset(p->values, 0, p->n_values * sizeof *p->values);
    for (uint32_t i = 0; i < p->n_args; i++)
        if (p->args[i].role == AD_READ) held[p->operands[i].reg] = i;
    for (uint32_t i = p->n_args; i < p->n_values; i++) {
        const ad_instr *instr = &p->plan->instrs[p->step->instr + i - p->n_args];
        const uint32_t sources[3] = {instr->a, instr->b, instr->c};
        ad_value *value = &p->values[i];
        value->opcode = instr->opcode;
        value->dtype = instr->dtype;
        value->line = instr->line;
        value->run = p->kernels->ops[ad_lane_of(instr->dtype, p->step->lane)][instr->opcode];
        value->n_leaves = (uint8_t)ad_opcode_numbered(instr->opcode)->arity;
        for (uint32_t k = 0; k < value->n_leaves; k++) {
            value->leaves[k] = held[sources[k]];
            p->values[value->leaves[k]].uses++;
        }
        if (commutes(value->opcode) && may_be_still(p, value->leaves[0])) {
            value->leaves[0] = value->leaves[1];
            value->leaves[1] = held[instr->a];
        }
        held[instr->dst] = i;
    }
    for (uint32_t i = 0; i < p->n_args; i++) {
        if (p->args[i].role == AD_READ) continue;
        p->stored[i] = held[p->operands[i].reg];
        p->values[p->stored[i]].last = END;
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
    uint32_t leaves[MOST_LEAVES];
    uint32_t inner[MOST_INNER];
    uint32_t n_inner;
} match;

static bool finds(const program *p, match *m, uint32_t number, uint16_t dtype);

static bool finds_operands(const program *p, match *m, const uint32_t *operands, uint32_t n, uint16_t dtype) {
    for (uint32_t k = 0; k < n; k++)
        if (!finds(p, m, operands[k], dtype)) return false;
    return true;
}

/* Whether the value is what the tree has next. */
static bool finds(const program *p, match *m, uint32_t number, uint16_t dtype) {
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
static bool may_be_lost(const program *p, uint32_t from, uint32_t to) {
    const ad_value *value = &p->values[from];
    for (uint32_t i = 0; i < p->n_args; i++) {
        if (p->args[i].role != AD_WRITE || p->stored[i] <= from || p->stored[i] >= to) continue;
        for (uint32_t k = 0; k < value->n_leaves; k++)
            if (value->leaves[k] < p->n_args && may_overlap(p->args[value->leaves[k]].buffer, p->args[i].buffer))
                return true;
    }
    return false;
}

/* Whether nothing but the tree needs the values inside of it, and they can be computed where its root is. */
static bool may_absorb(const program *p, const match *m) {
    for (uint32_t i = 1; i < m->n_inner; i++) {
        uint32_t number = m->inner[i], uses = 0;
        for (uint32_t k = 1; k < m->n_inner; k++) uses += m->inner[k] == number;
        if (p->values[number].uses != uses || may_be_lost(p, number, m->inner[0])) return false;
    }
    return true;
}

/* Compute a value and those that only it needs in one loop, if there is one. */
static void absorb(program *p, uint32_t root) {
    ad_value *value = &p->values[root];
    ad_op_run *const *superops = NULL;
    if (ad_lane_of(value->dtype, p->step->lane) < AD_N_NUMBER_LANES)
        superops = p->kernels->superops[ad_lane_of(value->dtype, p->step->lane)];
    for (uint32_t i = 0; superops && i < AD_N_SUPEROPS; i++) {
        const tree *tree = tree_at(i);
        if (tree->symbols[0] != value->opcode) continue;
        match m = {.symbol = tree->symbols, .leaves = {NONE, NONE, NONE, NONE}};
        if (!finds(p, &m, root, value->dtype) || !may_absorb(p, &m)) continue;
        for (uint32_t k = 1; k < m.n_inner; k++) p->values[m.inner[k]].absorbed = true;
        memcpy(value->leaves, m.leaves, sizeof value->leaves);
        value->n_leaves = tree->n_leaves;
        value->run = superops[i];
        return;
    }
}

/* --- slots --- */

/* A slot for each value: memory's own for what is loaded or stored without conversion, a register for the others, used
 * again after its value's last use.  False if they take more registers than there are. */
static bool assign_slots(const program *p, ad_task *task) {
    uint16_t free[AD_MAX_REGISTERS];
    uint32_t n_free = 0;
    ad_value *values = p->values;
    task->n_registers = 0;
    for (uint32_t i = 0; i < p->n_args; i++) { /* operands' slots are numbered behind the registers */
        values[i].slot = (uint16_t)(AD_MAX_REGISTERS + i);
        p->args[i].owns_slot = p->args[i].role == AD_READ;
    }
    for (uint32_t i = p->n_args; i < p->n_values; i++) {
        values[i].slot = AD_MAX_SLOTS;
        if (values[i].absorbed) continue;
        for (uint32_t k = 0; k < values[i].n_leaves; k++)
            if (values[values[i].leaves[k]].last != END) values[values[i].leaves[k]].last = i;
    }
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
            leaf->last = END; /* it may be named twice */
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

static ad_op *put_ops(const program *p, ad_op *ops) {
    for (uint32_t i = p->n_args; i < p->n_values; i++) {
        const ad_value *value = &p->values[i];
        if (value->absorbed) continue;
        uint16_t slots[MOST_LEAVES] = {value->slot, value->slot, value->slot, value->slot};
        for (uint32_t k = 0; k < value->n_leaves; k++) slots[k] = p->values[value->leaves[k]].slot;
        ad_op op = {.run = value->run, .dst = value->slot, .a = slots[0], .b = slots[1], .c = slots[2], .d = slots[3],
                    .line = value->line};
        ad_op_run *check = p->kernels->check_exponents[ad_lane_of(value->dtype, p->step->lane)];
        if (value->opcode == AD_OPCODE_int_pow && check) {
            *ops = op;
            ops++->run = check;
        }
        *ops++ = op;
    }
    return ops;
}

ad_op *ad_make_program(const ad_plan *plan, const ad_kernels *kernels, ad_task *task, ad_arg *args, ad_op *ops,
                       ad_value *values) {
    const ad_step *step = task->step;
    program p = {.plan = plan, .kernels = kernels, .step = step, .operands = plan->operands + step->operand,
                 .task = task, .args = args, .values = values, .n_args = step->n_operands,
                 .n_values = step->n_operands + step->n_instrs};
    read_values(&p);
    for (uint32_t i = p.n_values; ad_superops_selected() && i-- > p.n_args;)
        if (!values[i].absorbed) absorb(&p, i);
    if (!assign_slots(&p, task)) { /* what is computed later keeps its operands for longer */
        read_values(&p);
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
        for (uint32_t k = 0; k < MOST_LEAVES; k++) {
            *slots[k] = number[*slots[k]];
            if (*slots[k] >= still) op->still |= (uint16_t)(1 << k);
        }
    }
}

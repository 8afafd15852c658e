/* From the instrs of a ROWS step to passes of ops: where numbers are spread to elements, and slots for both. */
#include "program.h"

#include <string.h>

/* Slots of elements that are one vector: numbered behind the others once it is known how many those are. */
static const uint16_t VECTOR = 1 << 15;

/* Slots that are free to be used again; those that keep elements from one pass to another apart from the others. */
typedef struct pool {
    uint16_t slots[AD_MAX_ROW_SLOTS + AD_MOST_LEAVES];
    uint32_t n;
} pool;

typedef struct maker {
    const ad_program *p;
    ad_task *task;
    ad_row_program *out;
    ad_op *ops;         /* the next free one */
    pool local, kept, numbers, vectors;
    uint32_t n_elements, n_numbers, n_vectors;
    uint32_t pass, last; /* the one that is being made; the last one over elements */
    bool full;
} maker;

static bool is_row_op(const ad_value *value) { return value->opcode >= AD_OPCODE_row_sum; }
static bool is_once(const maker *m, uint32_t v) {
    return v < m->p->n_args && m->p->args[v].access == AD_ACCESS_ONCE && !m->p->args[v].position;
}

/* Whether elements that pass `made` computes are needed in a later one. */
static bool is_kept(const maker *m, const ad_value *value, uint32_t made) {
    return (value->last == AD_VALUE_STORED ? m->last : m->p->values[value->last].pass) > made;
}

static uint16_t take(maker *m, pool *from, uint32_t *n) {
    if (from->n) return from->slots[--from->n];
    m->full |= *n == AD_MAX_ROW_SLOTS;
    return (uint16_t)(m->full ? 0 : (*n)++);
}

static uint16_t take_elements(maker *m, bool kept) {
    uint16_t slot = take(m, kept ? &m->kept : &m->local, &m->n_elements);
    m->out->kept[slot] = kept;
    return slot;
}

static void give(pool *to, uint16_t slot) { to->slots[to->n++] = slot; }

static void give_elements(maker *m, uint16_t slot) { give(m->out->kept[slot] ? &m->kept : &m->local, slot); }

/* A value that nothing needs any more, unless it is in an operand's own slot. */
static void release(maker *m, uint32_t v) {
    const ad_value *value = &m->p->values[v];
    if (value->spread && !is_once(m, v)) give_elements(m, (uint16_t)(value->spread - 1));
    if (value->vector && !is_once(m, v)) give(&m->vectors, (uint16_t)(value->vector - 1));
    if (v < m->p->n_args) return;
    if (value->by_number)
        give(&m->numbers, value->slot);
    else
        give_elements(m, value->slot);
}

/* A number's elements, all of them, or one vector of them; filled again in each pass, unless the tile is kept. */
static uint16_t spread(maker *m, uint32_t v) {
    ad_value *value = &m->p->values[v];
    if (!value->by_number) return value->slot;
    if (value->spread) return (uint16_t)(value->spread - 1);
    const bool once = is_once(m, v);
    pool none = {.n = 0}; /* what is the same for all rows is filled before the first, and stays */
    const uint16_t slot = once ? take(m, &none, &m->n_elements) : take_elements(m, is_kept(m, value, m->pass));
    if (once) m->out->kept[slot] = false;
    *(once ? m->out->spreads++ : m->ops++) = (ad_op){.dst = slot, .a = value->slot, .kind = AD_ROW_SPREAD};
    value->spread = (uint16_t)(slot + 1);
    return slot;
}

static uint16_t vector_of(maker *m, uint32_t v) {
    ad_value *value = &m->p->values[v];
    const bool once = is_once(m, v);
    pool none = {.n = 0}; /* as above: no number of a row may have been there before, or come after */
    if (!value->vector) value->vector = (uint16_t)(take(m, once ? &none : &m->vectors, &m->n_vectors) + 1);
    const uint16_t slot = (uint16_t)(value->vector - 1);
    if (value->filled != m->pass + 1 && !(once && value->filled)) {
        value->filled = m->pass + 1;
        *(once ? m->out->spreads++ : m->ops++) = (ad_op){.dst = slot | VECTOR, .a = value->slot, .kind = AD_ROW_SPLAT};
    }
    return slot | VECTOR;
}

static void begin_pass(maker *m) { m->out->passes[m->pass] = (ad_pass){.ops = m->ops, .by_number = m->pass & 1}; }

/* What is stored as elements but is numbers is spread in the last pass over elements. */
static void end_pass(maker *m) {
    for (uint32_t i = 0; m->pass == m->last && i < m->p->n_args; i++)
        if (m->p->args[i].role != AD_READ && !m->p->args[i].by_number) spread(m, m->p->stored[i]);
    m->out->passes[m->pass].n_ops = (uint32_t)(m->ops - m->out->passes[m->pass].ops);
    m->pass++;
}

static void put(maker *m, uint32_t v) {
    ad_value *value = &m->p->values[v];
    const bool on_numbers = m->pass & 1, packed = m->task->group > 1;
    uint16_t slots[AD_MOST_LEAVES] = {0};
    for (uint32_t k = 0; k < value->n_leaves; k++) {
        const uint32_t leaf = value->leaves[k];
        const bool is_number = m->p->values[leaf].by_number;
        if (on_numbers || value->opcode == AD_OPCODE_place || (value->opcode == AD_OPCODE_pick && k == 1))
            slots[k] = m->p->values[leaf].slot;
        else
            slots[k] = is_number && !packed && !is_row_op(value) ? vector_of(m, leaf) : spread(m, leaf);
        if (leaf < m->p->n_args && m->p->args[leaf].position) m->p->args[leaf].line = value->line;
    }
    for (uint32_t k = value->n_leaves; k < AD_MOST_LEAVES; k++) slots[k] = slots[0];
    for (uint32_t k = 0; k < value->n_leaves; k++) {
        ad_value *leaf = &m->p->values[value->leaves[k]];
        if (leaf->last != v) continue;
        release(m, value->leaves[k]);
        leaf->last = AD_VALUE_STORED; /* it may be named twice */
    }
    if (value->slot == AD_MAX_ROW_SLOTS) {
        value->slot = value->by_number ? take(m, &m->numbers, &m->n_numbers)
                                       : take_elements(m, value->uses && is_kept(m, value, m->pass));
        if (value->uses == 0) release(m, v);
    }
    ad_op op = {.dst = value->slot, .a = slots[0], .b = slots[1], .c = slots[2], .d = slots[3], .line = value->line};
    switch (value->opcode) {
    case AD_OPCODE_row_sum:
    case AD_OPCODE_row_max:
    case AD_OPCODE_row_min:
        op.kind = AD_ROW_REDUCE;
        op.reducer = ad_reducer_of(m->p->kernels, ad_row_reduction(value->opcode), value->dtype, m->task->lane);
        *m->ops++ = op;
        return;
    case AD_OPCODE_pick:
    case AD_OPCODE_place:
        op.kind = value->opcode == AD_OPCODE_pick ? AD_ROW_PICK : AD_ROW_PLACE;
        op.c = value->dtype;
        *m->ops++ = op;
        return;
    }
    op.kind = on_numbers ? AD_ROW_NUMBERS : AD_ROW_ELEMENTS;
    m->ops = ad_put_op(m->p, m->ops, value, op);
}

/* Operands' own slots: of all that is loaded, and of what is computed to be stored. */
static void begin(maker *m) {
    const ad_program *p = m->p;
    ad_value *values = p->values;
    for (uint32_t i = p->n_args; i < p->n_values; i++) values[i].slot = AD_MAX_ROW_SLOTS;
    m->last = p->n_values > p->n_args ? values[p->n_values - 1].pass & ~1u : 0;
    for (uint32_t i = 0; i < p->n_args; i++) {
        if (p->args[i].role == AD_READ) continue;
        const ad_value *value = &values[p->stored[i]];
        if (p->args[i].whole) p->args[i].by_number = value->by_number;
        if (!p->args[i].by_number && value->by_number && m->last < value->pass) m->last = value->pass + 1;
    }
    for (uint32_t i = 0; i < p->n_args; i++) {
        ad_arg *arg = &p->args[i];
        const bool reads = arg->role == AD_READ;
        ad_value *value = &values[reads ? i : p->stored[i]];
        arg->owns_slot = reads ? !arg->position
                               : arg->role == AD_WRITE && value->slot == AD_MAX_ROW_SLOTS &&
                                     value->by_number == arg->by_number;
        if (!reads && !arg->owns_slot) continue;
        value->slot = (uint16_t)(arg->by_number ? m->n_numbers++ : m->n_elements);
        if (arg->by_number) continue;
        const bool used = value->uses > 0 && value->last != 0;
        m->out->kept[m->n_elements++] = used && arg->access != AD_ACCESS_ONCE && is_kept(m, value, value->pass);
    }
}

/* Vectors' slots lie behind those of tiles. */
static void number_vectors(const maker *m, ad_op *op) {
    uint16_t *slots[] = {&op->dst, &op->a, &op->b, &op->c, &op->d};
    if (op->kind != AD_ROW_ELEMENTS && op->kind != AD_ROW_SPLAT) return;
    for (uint32_t k = 0; k < (op->kind == AD_ROW_SPLAT ? 1 : 5); k++) {
        if (!(*slots[k] & VECTOR)) continue;
        *slots[k] = (uint16_t)((*slots[k] & ~VECTOR) + m->n_elements);
        if (k > 0) op->still |= (uint16_t)(1 << (k - 1));
    }
}

static ad_op *make(const ad_program *p, ad_task *task, const ad_row_program *to, ad_op *ops) {
    ad_row_program out = *to;
    maker m = {.p = p, .task = task, .out = &out, .ops = ops};
    ad_op *first_spread = out.spreads;
    begin(&m);
    begin_pass(&m);
    for (uint32_t v = p->n_args; v < p->n_values && !m.full; v++) {
        if (p->values[v].absorbed) continue;
        while (m.pass < p->values[v].pass) {
            end_pass(&m);
            begin_pass(&m);
        }
        put(&m, v);
    }
    while (m.pass < m.last) {
        end_pass(&m);
        begin_pass(&m);
    }
    end_pass(&m);
    if (m.full || m.n_elements + m.n_vectors > AD_MAX_ROW_SLOTS) return NULL;
    for (uint32_t i = 0; i < p->n_args; i++) {
        ad_arg *arg = &p->args[i];
        const ad_value *value = &p->values[arg->role == AD_READ ? i : p->stored[i]];
        const bool spread = value->by_number && !arg->by_number;
        arg->slot = spread ? (uint16_t)(value->spread - 1) : value->slot;
        const bool waits = arg->role > AD_WRITE && !arg->whole && task->group == 1; /* to be added with other rows */
        if (waits && !is_once(&m, p->stored[i])) out.kept[arg->slot] = true;
    }
    for (ad_op *op = ops; op < m.ops; op++) number_vectors(&m, op);
    for (ad_op *op = first_spread; op < out.spreads; op++) number_vectors(&m, op);
    out.rows->n_spreads = (uint32_t)(out.spreads - first_spread);
    out.rows->n_passes = m.pass;
    out.rows->last = m.last;
    out.rows->numbers.n_slots = out.rows->numbers.n_tiles = m.n_numbers;
    task->n_tiles = m.n_elements;
    task->n_slots = m.n_elements + m.n_vectors;
    return m.ops;
}

ad_op *ad_make_row_program(ad_program *p, ad_task *task, const ad_row_program *to, ad_op *ops) {
    ad_read_values(p);
    ad_choose_superops(p);
    ad_find_last_uses(p);
    ad_op *end = make(p, task, to, ops);
    if (end) return end;
    ad_read_values(p); /* what is computed later keeps its operands for longer */
    ad_find_last_uses(p);
    return make(p, task, to, ops);
}

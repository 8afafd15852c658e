/* Makes of a program on single numbers what runs: few runs of equal operations.
 *
 * To call an operation costs several times what it takes to add two numbers, so operations are put in an order in which
 * many equal ones follow each other.  Next run all those of one kind whose operands are there; the kind is that of the
 * most urgent operation, the one that begins the longest chain, so what is not urgent waits until there is more of its
 * kind.  Products that only a sum wants are one operation with it.  Programs that repeat themselves, as unrolled loops
 * do, get an order that repeats itself, which the processor's branch prediction learns.
 *
 * Each number has a slot of the table to itself.  Those that are loaded come first, sorted by where they lie in memory,
 * so that one transfer brings many; the others lie in the order in which they are computed.
 */
#include "kernels.h"

#include <stdlib.h>

enum { ABSORBED = AD_SCALARS_N_CODES }; /* the code of a product that became part of its user */

/* An instr, or several in one. */
typedef struct node {
    uint32_t operands[4]; /* registers */
    uint8_t arity, lane;
    uint16_t code, kind;
    uint32_t line;
} node;

/* Operations that can share a run, and a list of those whose operands are there. */
typedef struct kind {
    uint32_t first, last, count, urgency;
} kind;

enum { MOST_KINDS = AD_N_LANES * AD_SCALARS_N_CODES };

typedef struct scheduler {
    const ad_step *step;
    const ad_operand *operands;
    const ad_instr *instrs;
    const ad_kernels *kernels;
    uint32_t n_reads, n; /* registers that are loaded, that are computed */
    node *nodes;
    uint32_t *uses;       /* of each register */
    uint32_t *height;     /* of each node: how long the longest chain is that begins with it */
    uint32_t *waiting;    /* for how many operands each node waits */
    uint32_t *next;       /* node in the list of a kind */
    uint32_t *users;      /* of the first node, of the second ... */
    uint32_t *users_from; /* where in these each node's begin */
    uint32_t *order;      /* nodes in the order they run in */
    uint32_t *run_from;   /* where in the order each run begins */
    uint32_t *slots;      /* of each register */
    uint32_t n_kinds, n_runs, n_ordered;
    kind kinds[MOST_KINDS];
} scheduler;

static ad_scalar_loop *loop_of(const ad_kernels *kernels, uint8_t lane, uint32_t code) {
    ad_scalar_loop *const *loops = kernels->scalar_loops[lane];
    return loops ? loops[code] : NULL;
}

/* --- nodes --- */

/* The product that is a node's operand k, if nothing else wants it. */
static node *own_product(const scheduler *s, const node *user, uint32_t k) {
    uint32_t r = user->operands[k];
    if (r < s->n_reads || s->uses[r] != 1) return NULL;
    node *operand = &s->nodes[r - s->n_reads];
    return operand->code == AD_OPCODE_mul ? operand : NULL;
}

/* Make a sum or difference one with the products that only it wants: their operands come first, then what is left. */
static void absorb_products(const scheduler *s, node *sum) {
    bool adds = sum->code == AD_OPCODE_add;
    node *products[] = {own_product(s, sum, 0), own_product(s, sum, 1)};
    uint32_t terms[] = {sum->operands[0], sum->operands[1]}, n = 0;
    if (products[0] && products[1])
        sum->code = adds ? AD_SCALARS_MUL_ADD_MUL : AD_SCALARS_MUL_SUB_MUL;
    else if (products[0] || products[1])
        sum->code = adds ? AD_SCALARS_MUL_ADD : products[0] ? AD_SCALARS_MUL_SUB : AD_SCALARS_SUB_MUL;
    for (uint32_t k = 0; k < 2; k++) {
        if (!products[k]) continue;
        sum->operands[n++] = products[k]->operands[0];
        sum->operands[n++] = products[k]->operands[1];
        products[k]->code = ABSORBED;
        products[k]->arity = 0;
    }
    for (uint32_t k = 0; k < 2; k++)
        if (!products[k]) sum->operands[n++] = terms[k];
    sum->arity = (uint8_t)n;
}

static void make_nodes(scheduler *s) {
    uint16_t kinds[AD_N_LANES][AD_SCALARS_N_CODES] = {{0}}; /* their numbers + 1 */
    for (uint32_t i = 0; i < s->n; i++) {
        const ad_instr *instr = &s->instrs[i];
        uint32_t arity = ad_opcode_numbered(instr->opcode)->arity;
        s->nodes[i] = (node){.operands = {instr->a, instr->b, instr->c},
                             .arity = (uint8_t)arity,
                             .lane = (uint8_t)ad_lane_of(instr->dtype, s->step->lane),
                             .code = instr->opcode,
                             .line = instr->line};
        for (uint32_t k = 0; k < arity; k++) s->uses[s->nodes[i].operands[k]]++;
    }
    for (uint32_t i = s->n_reads; i < s->step->n_operands; i++) s->uses[s->operands[i].reg]++;
    for (uint32_t i = 0; i < s->n; i++) {
        node *node = &s->nodes[i];
        bool is_sum = node->code == AD_OPCODE_add || node->code == AD_OPCODE_sub;
        if (is_sum && loop_of(s->kernels, node->lane, AD_SCALARS_MUL_ADD)) absorb_products(s, node);
        uint16_t *kind = &kinds[node->lane][node->code];
        if (!*kind) *kind = (uint16_t)++s->n_kinds;
        node->kind = *kind - 1;
    }
}

/* --- order --- */

/* Whether an operand of a node is computed, and by which node. */
static bool made_by(const scheduler *s, const node *node, uint32_t k, uint32_t *maker) {
    *maker = node->operands[k] - s->n_reads;
    return node->operands[k] >= s->n_reads;
}

/* From the last node to the first: who waits for it, and how long the longest chain is that begins with it. */
static void find_users(scheduler *s) {
    uint32_t maker;
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t k = 0; k < s->nodes[i].arity; k++)
            if (made_by(s, &s->nodes[i], k, &maker)) s->users_from[maker]++;
    for (uint32_t i = 1; i <= s->n; i++) s->users_from[i] += s->users_from[i - 1]; /* where each one's end ... */
    for (uint32_t i = s->n; i-- > 0;) {
        s->height[i] = 0;
        for (uint32_t u = s->users_from[i]; u < s->users_from[i + 1]; u++) /* ... and, once filled, begin */
            if (s->height[s->users[u]] >= s->height[i]) s->height[i] = s->height[s->users[u]] + 1;
        for (uint32_t k = 0; k < s->nodes[i].arity; k++)
            if (made_by(s, &s->nodes[i], k, &maker)) {
                s->users[--s->users_from[maker]] = i;
                s->waiting[i]++;
            }
    }
}

/* All operands of a node are there. */
static void make_ready(scheduler *s, uint32_t i) {
    kind *kind = &s->kinds[s->nodes[i].kind];
    if (kind->count++ == 0)
        kind->first = i;
    else
        s->next[kind->last] = i;
    kind->last = i;
    if (s->height[i] > kind->urgency) kind->urgency = s->height[i];
}

/* Of the kinds with nodes that are ready. */
static kind *most_urgent(scheduler *s) {
    kind *best = s->kinds;
    for (kind *other = best + 1; other < s->kinds + s->n_kinds; other++) {
        if (other->count == 0 || (best->count && other->urgency < best->urgency)) continue;
        if (!best->count || other->urgency > best->urgency || other->count > best->count) best = other;
    }
    return best;
}

static void find_order(scheduler *s) {
    uint32_t n_nodes = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->nodes[i].code == ABSORBED) continue;
        n_nodes++;
        if (s->waiting[i] == 0) make_ready(s, i);
    }
    while (s->n_ordered < n_nodes) {
        kind *kind = most_urgent(s);
        uint32_t count = kind->count, from = s->n_ordered;
        s->run_from[s->n_runs++] = from;
        for (uint32_t i = kind->first; count-- > 0; i = s->next[i]) {
            s->order[s->n_ordered++] = i;
            /* One at a time: if it fails, its line is to be told. */
            if (s->nodes[i].code == AD_OPCODE_int_pow && count) s->run_from[s->n_runs++] = s->n_ordered;
        }
        kind->count = kind->urgency = 0;
        for (; from < s->n_ordered; from++) {
            uint32_t i = s->order[from];
            for (uint32_t u = s->users_from[i]; u < s->users_from[i + 1]; u++)
                if (--s->waiting[s->users[u]] == 0) make_ready(s, s->users[u]);
        }
    }
    s->run_from[s->n_runs] = s->n_ordered;
}

/* --- what runs --- */

static int by_place(const void *one, const void *another) {
    const ad_arg *a = *(const ad_arg *const *)one, *b = *(const ad_arg *const *)another;
    if (a->buffer != b->buffer) return a->buffer < b->buffer ? -1 : 1;
    if (a->dtype != b->dtype) return a->dtype < b->dtype ? -1 : 1;
    if (a->offset != b->offset) return a->offset < b->offset ? -1 : 1;
    return a < b ? -1 : 1;
}

/* Add a number to the last transfer, if it follows that in memory and in the table, or else begin another. */
static uint32_t transfer(ad_transfer *transfers, uint32_t n, const ad_arg *arg, uint32_t slot) {
    ad_transfer *last = n ? &transfers[n - 1] : NULL;
    if (last && last->arg->buffer == arg->buffer && last->arg->dtype == arg->dtype &&
        last->arg->convert == arg->convert && last->arg->offset + last->n * (int64_t)arg->size == arg->offset &&
        last->slot + last->n == slot) {
        last->n++;
        return n;
    }
    transfers[n] = (ad_transfer){arg, slot, 1};
    return n + 1;
}

static uint32_t make_loads(scheduler *s, const ad_task *task, const ad_arg **sorted, ad_transfer *loads) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_reads; i++) sorted[i] = &task->args[i];
    qsort(sorted, s->n_reads, sizeof *sorted, by_place);
    for (uint32_t slot = 0; slot < s->n_reads; slot++) {
        s->slots[sorted[slot] - task->args] = slot;
        n = transfer(loads, n, sorted[slot], slot);
    }
    return n;
}

static uint32_t make_stores(const scheduler *s, const ad_task *task, ad_transfer *stores) {
    uint32_t n = 0;
    for (uint32_t i = s->n_reads; i < task->n_args; i++)
        n = transfer(stores, n, &task->args[i], s->slots[s->operands[i].reg]);
    return n;
}

/* One run of the order; the slots of what it needs are known. */
static void make_run(scheduler *s, ad_scalar_run *run, const uint32_t *order, uint32_t **operands, ad_op **ops) {
    const node *first = &s->nodes[*order];
    run->operands = *operands;
    run->arity = first->arity;
    run->loop = loop_of(s->kernels, first->lane, first->code);
    for (uint32_t i = 0; i < run->n; i++) {
        s->slots[s->n_reads + order[i]] = run->dst + i;
        for (uint32_t k = 0; k < run->arity; k++) *(*operands)++ = s->slots[s->nodes[order[i]].operands[k]];
    }
    if (run->loop) return;
    run->loop = s->kernels->gathered[s->step->lane];
    run->ops = *ops;
    ad_op_run *check = first->code == AD_OPCODE_int_pow ? s->kernels->check_exponents[first->lane] : NULL;
    ad_op op = {.a = 1, .b = first->arity > 1 ? 2 : 1, .c = first->arity > 2 ? 3 : 1, .line = first->line};
    if (check) *(*ops)++ = (op.run = check, op);
    *(*ops)++ = (op.run = s->kernels->ops[first->lane][first->code], op);
    run->n_ops = (uint32_t)(*ops - run->ops);
}

/* All in one block. */
static ad_status make_scalars(scheduler *s, ad_task *task, const ad_arg **sorted) {
    size_t n_operands = 0, n_ops = 0;
    for (uint32_t i = 0; i < s->n; i++) n_operands += s->nodes[i].arity;
    for (uint32_t i = 0; i < s->n_runs; i++) {
        const node *first = &s->nodes[s->order[s->run_from[i]]];
        if (!loop_of(s->kernels, first->lane, first->code)) n_ops += first->code == AD_OPCODE_int_pow ? 2 : 1;
    }
    size_t runs = sizeof(ad_scalars), ops = runs + s->n_runs * sizeof(ad_scalar_run);
    size_t loads = ops + n_ops * sizeof(ad_op), operands = loads + task->n_args * sizeof(ad_transfer);
    char *memory = calloc(1, operands + n_operands * sizeof(uint32_t));
    if (!memory) return AD_ERROR_MEMORY;
    ad_scalars *made = task->scalars = (ad_scalars *)memory;
    ad_transfer *transfers = (ad_transfer *)(memory + loads);
    made->loads = transfers;
    made->n_loads = make_loads(s, task, sorted, transfers);
    made->runs = (ad_scalar_run *)(memory + runs);
    made->n_runs = s->n_runs;
    ad_scalar_run *run = (ad_scalar_run *)(memory + runs);
    ad_op *next_op = (ad_op *)(memory + ops);
    uint32_t *next_operand = (uint32_t *)(memory + operands);
    for (uint32_t i = 0; i < s->n_runs; i++, run++) {
        run->dst = s->n_reads + s->run_from[i];
        run->n = s->run_from[i + 1] - s->run_from[i];
        make_run(s, run, s->order + s->run_from[i], &next_operand, &next_op);
    }
    made->stores = transfers + made->n_loads;
    made->n_stores = make_stores(s, task, transfers + made->n_loads);
    return AD_OK;
}

ad_status ad_prepare_scalars(const ad_plan *plan, const ad_kernels *kernels, ad_task *task) {
    const ad_step *step = task->step;
    uint32_t n = step->n_instrs, n_registers = step->n_registers, n_reads = n_registers - n;
    scheduler s = {.step = step,
                   .operands = plan->operands + step->operand,
                   .instrs = plan->instrs + step->instr,
                   .kernels = kernels,
                   .n_reads = n_reads,
                   .n = n};
    size_t nodes = n_reads * sizeof(ad_arg *), words = nodes + n * sizeof(node);
    char *memory = calloc(1, words + (2 * (size_t)n_registers + 9 * (size_t)n + 2) * sizeof(uint32_t));
    if (!memory) return AD_ERROR_MEMORY;
    s.nodes = (node *)(memory + nodes);
    s.uses = (uint32_t *)(memory + words);
    s.slots = s.uses + n_registers;
    s.height = s.slots + n_registers;
    s.waiting = s.height + n;
    s.next = s.waiting + n;
    s.users_from = s.next + n;
    s.users = s.users_from + n + 1;
    s.order = s.users + 3 * (size_t)n;
    s.run_from = s.order + n;
    make_nodes(&s);
    find_users(&s);
    find_order(&s);
    ad_status status = make_scalars(&s, task, (const ad_arg **)memory);
    free(memory);
    task->scratch = 3 * AD_SCALARS_TILE + (uint64_t)n_registers * step->lane + AD_VECTOR_MAX;
    return status;
}

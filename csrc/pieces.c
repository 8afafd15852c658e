/* How steps are cut into pieces for several threads, and how those run.
 *
 * What pieces there are depends on the step alone.  Where a piece ends changes no bit of what is computed element by
 * element.  Reductions have an order, a binary counter's over chunks of a row or blocks of rows (reduce.inc): a piece
 * has a power of two of them, from a multiple of that on, so that what it comes to is a node of the counter's tree; and
 * once all pieces are done the counter goes on with these (join.inc).
 */
#include "parallel.h"
#include "prepare.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* Nanoseconds, as estimated.  To post a step and wake a thread takes 4 to 9 us, as measured, which are lost where all
 * processors turn out to be busy: less than a tenth of a step. */
static const double SHARED_FROM = 100e3;
static const double PIECE_LEAST = 10e3;     /* to begin one takes less than 1 us */
static const int64_t PIECES_MOST = 64;      /* threads wait for the last one: for a 64th of the step, at most */
static const int64_t SHARE_MOST = 32 << 10;   /* bytes of columns' shares in a piece of their rows */
static const uint64_t SHARES_MOST = 16 << 20; /* bytes of all pieces' shares in all reductions */
static const int64_t GEMM_PIECES = 16;      /* of a product: packing is that much more work */
static const int64_t GEMM_COLUMNS = 64, GEMM_ROWS = 84; /* whole tiles, of any instruction set and type */
static const int64_t SLAB = 64;             /* elements of a dimension: whole cache lines, if it is the innermost */

/* --- how much work there is --- */

static uint64_t sum(uint64_t a, uint64_t b) {
    uint64_t result;
    return __builtin_add_overflow(a, b, &result) ? UINT64_MAX : result;
}

static uint64_t product(uint64_t a, uint64_t b) {
    uint64_t result;
    return __builtin_mul_overflow(a, b, &result) ? UINT64_MAX : result;
}

uint64_t ad_work_of(const ad_task *task) {
    const int64_t *shape = task->shape;
    uint64_t n = 1;
    switch (task->step->kind) {
    case AD_HOST: return 1;
    case AD_GATHER:
    case AD_SCATTER_ADD:
    case AD_SCATTER_SET:
        n = product((uint64_t)shape[0], (uint64_t)shape[1] + task->n_args);
        if (task->step->kind == AD_GATHER) return sum(n, 1);
        return sum(n, (uint64_t)ad_product(shape, 1, task->rank) + 1);
    case AD_GEMM: n = (uint64_t)task->size; break;
    default: /* what is kept counts also where nothing is reduced */
        for (uint32_t d = 0; d < task->rank; d++) n *= (uint64_t)(shape[d] ? shape[d] : 1);
    }
    return sum(product(n, (uint64_t)task->cost), 1);
}

/* By how much a program is more than its number of operations: divisions, roots and vector maths are several each. */
static double weight_of(const ad_plan *plan, const ad_task *task) {
    int64_t dear = 0;
    for (uint32_t i = 0; i < task->step->n_instrs; i++)
        dear += !strcmp(ad_opcode_numbered(plan->instrs[task->step->instr + i].opcode)->domain, "floating");
    return 1 + 5 * (double)dear / (double)task->cost;
}

/* A thread's time: of a program, for each operation a 64th of a nanosecond a byte of its lanes; of products, for each
 * multiplication and addition, which with a vector is the time of memory; else for each element that is moved. */
static double nanoseconds(const ad_plan *plan, const ad_task *task) {
    const double work = (double)ad_work_of(task);
    switch (task->step->kind) {
    case AD_MAP:
    case AD_ROWS: return work * task->lane / 64 * weight_of(plan, task);
    case AD_GEMM: return task->shape[task->rank - 3] > 1 && task->shape[task->rank - 2] > 1 ? work / 32 : work / 4;
    default: return work / 2;
    }
}

/* --- where to cut --- */

static int64_t pieces_in(int64_t n, int64_t by) { return n / by + (n % by != 0); }

/* Whole units that cut n into `most` pieces at most. */
static int64_t size_of(int64_t n, int64_t unit, int64_t most) {
    return ad_smaller(n, unit * pieces_in(pieces_in(n, unit), most));
}

/* ... as many as a power of two. */
static int64_t aligned_size(int64_t n, int64_t unit, int64_t most) {
    while (pieces_in(n, unit) > most) unit *= 2;
    return ad_smaller(n, unit);
}

/* A space, as yet in one piece. */
static ad_cut space_of(int64_t groups, int64_t lines, int64_t length) {
    return (ad_cut){.groups = groups, .lines = lines, .length = length, .by_lines = lines, .by_length = length};
}

/* Each piece has a share in each reduction, of so many bytes. */
static void take_shares(const ad_task *task, ad_arg *args, ad_cut *cut, int64_t bytes) {
    for (uint32_t i = 0; i < task->n_args; i++) {
        if (args[i].role <= AD_WRITE) continue;
        args[i].share = cut->share;
        cut->share = sum(cut->share, (uint64_t)ad_round_up(args[i].whole ? 1 : bytes, AD_VECTOR_MAX));
    }
}

/* A MAP that reduces columns: groups of columns, or of each some rows or some columns. */
static ad_cut cut_columns(const ad_task *task, ad_arg *args, int64_t most) {
    if (task->outer >= most) {
        ad_cut cut = space_of(1, task->outer * task->rows, task->line);
        cut.by_lines = task->rows * size_of(task->outer, 1, most);
        return cut;
    }
    ad_cut cut = space_of(task->outer, task->rows, task->line);
    const int64_t each = pieces_in(most, task->outer);
    const int64_t by_rows = aligned_size(task->rows, AD_BLOCK_ROWS, each);
    const int64_t by_line = size_of(task->line, task->tile, each);
    if (task->line > SHARE_MOST / task->lane || pieces_in(task->line, by_line) >= pieces_in(task->rows, by_rows)) {
        cut.by_length = by_line;
    } else {
        cut.by_lines = by_rows;
        take_shares(task, args, &cut, task->line * task->lane);
    }
    return cut;
}

/* Any other MAP: lines, or of each line tiles, or chunks of what is reduced along it. */
static ad_cut cut_map(const ad_task *task, ad_arg *args, int64_t most) {
    if (task->by_column) return cut_columns(task, args, most);
    ad_cut cut = space_of(1, task->outer * task->rows, task->line);
    const int64_t by_lines = size_of(cut.lines, task->group, most);
    const int64_t by_length = task->reduces ? aligned_size(cut.length, AD_CHUNK, most)
                                            : size_of(cut.length, task->tile, most);
    if (pieces_in(cut.lines, by_lines) >= pieces_in(cut.length, by_length)) {
        cut.by_lines = by_lines;
    } else {
        cut.by_length = by_length;
        if (task->reduces) take_shares(task, args, &cut, cut.lines * AD_VECTOR_MAX);
    }
    return cut;
}

/* Rows of a program on rows: as many as the order of what reduces over them wants. */
static ad_cut cut_rows(const ad_task *task, ad_arg *args, int64_t most) {
    ad_cut cut = space_of(1, task->rows, 1);
    int64_t unit = 0;
    for (uint32_t i = 0; i < task->n_args; i++) {
        if (args[i].role <= AD_WRITE) continue;
        int64_t rows = args[i].whole ? AD_CHUNK : AD_BLOCK_ROWS;
        if (args[i].whole && !args[i].by_number) {
            if (task->line & (task->line - 1)) return cut; /* no number of rows is a power of two of chunks */
            rows = ad_larger(AD_CHUNK / task->line, 1);
        }
        unit = ad_larger(unit, rows);
    }
    cut.by_lines = unit ? aligned_size(task->rows, unit, most) : size_of(task->rows, task->program->block, most);
    if (unit) take_shares(task, args, &cut, task->state_stride);
    return cut;
}

/* Products of a batch, or of each the longer side of what it computes: each piece packs all of the other operand. */
static ad_cut cut_gemm(const ad_task *task, int64_t most) {
    const int64_t rows = task->shape[task->rank - 3], columns = task->shape[task->rank - 2];
    const int64_t m = task->by_column ? columns : rows, n = task->by_column ? rows : columns;
    const uint32_t dim = n >= m;
    ad_cut cut = space_of(1, task->size, dim ? n : m);
    cut.dim = dim;
    if (task->size >= most) {
        cut.by_lines = size_of(task->size, 1, most);
    } else {
        const int64_t each = pieces_in(ad_smaller(most, GEMM_PIECES), task->size);
        cut.by_lines = 1;
        cut.by_length = size_of(cut.length, dim ? GEMM_COLUMNS : GEMM_ROWS, each);
        while (cut.length % cut.by_length == 1) cut.by_length++; /* products with a vector have an order of their own */
    }
    return cut;
}

/* The longest dimension that is not reduced. */
static ad_cut cut_slab(const ad_task *task, int64_t most) {
    const uint32_t reduced_end = task->n_outer + task->n_reduced;
    ad_cut cut = space_of(1, 1, 1);
    for (uint32_t d = 0; d < task->rank; d++) {
        if ((d >= task->n_outer && d < reduced_end) || task->shape[d] <= cut.lines) continue;
        cut.lines = task->shape[d];
        cut.dim = d;
    }
    cut.by_lines = size_of(cut.lines, SLAB, most);
    return cut;
}

/* COPY and ARG_REDUCE: a piece is such a step on a part of a dimension. */
static ad_status run_slab(const ad_task *task, ad_frame *frame) {
    const uint32_t dim = task->cut.dim;
    const int64_t from = frame->part->from, n = frame->part->to - from;
    int64_t shape[AD_MAX_RANK];
    ad_arg args[2] = {task->args[0], task->args[1]};
    ad_task slab = *task;
    memcpy(shape, task->shape, task->rank * sizeof *shape);
    shape[dim] = n;
    slab.shape = shape;
    slab.args = args;
    slab.size = task->size / task->shape[dim] * n;
    for (int i = 0; i < 2; i++) args[i].offset += from * args[i].strides[dim];
    return task->cut.whole(&slab, frame);
}

/* Where a program may fail in more ways than one, which failure comes first is known on one thread alone. */
static bool may_fail_twice(const ad_plan *plan, const ad_task *task) {
    uint32_t positions = 0;
    for (uint32_t i = 0; i < task->step->n_instrs; i++)
        if (plan->instrs[task->step->instr + i].opcode == AD_OPCODE_int_pow) return true;
    for (uint32_t i = 0; i < task->n_args; i++) positions += task->args[i].position;
    return positions > 1;
}

static ad_task_run run_pieces;

void ad_cut_task(const ad_plan *plan, ad_task *task, ad_arg *args) {
    const double time = nanoseconds(plan, task), from = ad_shared_from() ? (double)ad_shared_from() : SHARED_FROM;
    int64_t most = ad_pieces_at_most();
    for (uint32_t d = 0; d < task->rank; d++)
        if (task->shape[d] == 0) return;
    if (time < from || task->scratch > AD_POOL_SCRATCH || may_fail_twice(plan, task)) return;
    if (!most) most = time / PIECE_LEAST < (double)PIECES_MOST ? ad_larger(1, (int64_t)(time / PIECE_LEAST)) : PIECES_MOST;
    ad_cut cut;
    ad_task_run *run = task->run;
    switch (task->step->kind) {
    case AD_MAP: cut = cut_map(task, args, most); break;
    case AD_ROWS: cut = cut_rows(task, args, most); break;
    case AD_GEMM: cut = cut_gemm(task, most); break;
    case AD_GATHER: cut = space_of(1, task->shape[0], 1); cut.by_lines = size_of(cut.lines, 1, most); break;
    case AD_COPY:
    case AD_ARG_REDUCE:
        cut = cut_slab(task, most);
        run = run_slab;
        break;
    default: return; /* in an order, or not worth it */
    }
    cut.n = cut.groups * pieces_in(cut.lines, cut.by_lines) * pieces_in(cut.length, cut.by_length);
    if (cut.n < 2 || product((uint64_t)cut.n, cut.share) > SHARES_MOST) return;
    cut.run = run;
    cut.whole = task->run;
    cut.shares = (uint64_t)ad_round_up((int64_t)task->scratch, AD_VECTOR_MAX);
    if (cut.share) task->scratch = cut.shares + (uint64_t)cut.n * cut.share;
    task->cut = cut;
    task->run = run_pieces;
}

/* --- running the pieces --- */

typedef struct shared {
    const ad_task *task;
    const ad_frame frame; /* as it was before */
    ad_frame *own;        /* the calling thread's */
    _Atomic int64_t failed; /* the first piece that did so far; -1: it is to stop, for the caller wants it to */
    pthread_mutex_t lock; /* of what follows: why */
    ad_status status;
    ad_error error;
} shared;

static ad_part part_of(const ad_cut *cut, int64_t i) {
    const int64_t down = pieces_in(cut->lines, cut->by_lines), across = pieces_in(cut->length, cut->by_length);
    const int64_t group = i / across / down * cut->lines, line = i / across % down * cut->by_lines;
    const int64_t low = i % across * cut->by_length;
    return (ad_part){.from = group + line, .to = group + ad_smaller(line + cut->by_lines, cut->lines),
                     .low = low, .high = ad_smaller(low + cut->by_length, cut->length)};
}

static void note_failure(shared *s, int64_t piece, ad_status status, const ad_error *error) {
    pthread_mutex_lock(&s->lock);
    if (status == AD_INTERRUPTED && piece < atomic_load(&s->failed)) piece = -1; /* not for another's failure */
    if (piece < atomic_load(&s->failed)) {
        atomic_store(&s->failed, piece);
        s->status = status;
        s->error = *error;
    }
    pthread_mutex_unlock(&s->lock);
}

static void run_piece(void *work, int64_t i, char *scratch) {
    shared *s = work;
    if (atomic_load(&s->failed) < i) return;
    const ad_cut *cut = &s->task->cut;
    ad_part part = part_of(cut, i);
    if (cut->share) part.shares = s->frame.scratch + cut->shares + (uint64_t)i * cut->share;
    ad_frame frame = s->frame;
    frame.scratch = scratch;
    frame.part = &part;
    frame.piece = i;
    frame.failed = &s->failed;
    frame.helps = scratch != s->frame.scratch;
    if (!frame.helps) frame.patience = s->own->patience, frame.deadline = s->own->deadline;
    ad_status status = cut->run(s->task, &frame);
    if (!frame.helps) s->own->patience = frame.patience, s->own->deadline = frame.deadline;
    if (status != AD_OK) note_failure(s, i, status, &frame.error);
}

static ad_status run_pieces(const ad_task *task, ad_frame *frame) {
    ad_pool *pool = frame->run->pool;
    if (ad_pool_size(pool) < 2) return task->cut.whole(task, frame);
    if (!frame->entered) frame->entry = ad_pool_enter(pool);
    frame->entered = true;
    shared s = {.task = task, .frame = *frame, .own = frame, .failed = task->cut.n, .lock = PTHREAD_MUTEX_INITIALIZER};
    if (!ad_pool_share(pool, task->cut.n, run_piece, &s, frame->scratch)) return AD_INTERRUPTED;
    if (atomic_load(&s.failed) < task->cut.n) {
        frame->error = s.error;
        return s.status;
    }
    return task->cut.share ? frame->kernels->join(task, frame) : AD_OK;
}

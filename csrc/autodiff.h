/* autodiff: run compiled computation plans.
 *
 * A plan is a value: bytes with a header and flat arrays, offsets and no pointers.  `ad_plan_load` copies and checks
 * them once and prepares a private program; `ad_plan_run` runs it without allocating.  The text between the two cdef
 * marks is what cffi reads too, so a layout is written here and nowhere else: keep it free of macros, and give every
 * struct explicit widths and no implicit padding.
 */
#ifndef AUTODIFF_H
#define AUTODIFF_H

#include <stddef.h>
#include <stdint.h>

/* cdef begin */

/* Numbers in a plan are part of its format: append, never renumber. */

typedef enum ad_dtype {
    AD_BOOL = 1, /* one byte, 0 or 1 */
    AD_U8 = 2,
    AD_I32 = 3,
    AD_I64 = 4,
    AD_F32 = 5,
    AD_F64 = 6,
    AD_POSITION = 7 /* in registers of ROWS alone: an int64 in memory, counted along the row */
} ad_dtype;

typedef enum ad_status {
    AD_OK = 0,
    AD_ERROR_MEMORY = 1,         /* the system has no more memory (load only) */
    AD_ERROR_PLAN = 2,           /* the bytes are not a valid plan */
    AD_ERROR_ARGUMENT = 3,       /* the ad_run does not fit the plan */
    AD_ERROR_INDEX = 4,          /* detail: the index, the size of its axis */
    AD_ERROR_NEGATIVE_POWER = 5, /* an integer raised to a negative integer power */
    AD_ERROR_HOST = 6,           /* a host step failed; detail: the host function's number */
    AD_ERROR_WORK = 7,           /* the plan needs more than ad_run.max_work */
    AD_INTERRUPTED = 8           /* the poll callback asked to stop */
} ad_status;

typedef enum ad_buffer_kind {
    AD_INPUT = 1,    /* index: which input of the run */
    AD_OUTPUT = 2,   /* index: which output of the run */
    AD_CONSTANT = 3, /* offset: into the plan's constants */
    AD_ARENA = 4     /* offset: into the workspace */
} ad_buffer_kind;

typedef enum ad_role {
    AD_READ = 1,
    AD_WRITE = 2,
    AD_SUM = 3, /* the last three reduce a register over the step's reduced dimensions */
    AD_MAX = 4,
    AD_MIN = 5
} ad_role;

/* What a step does over its iteration space `shape`, with operands' strides in elements over that space:
 *
 *   MAP          a tile program.  READ operands fill registers, instrs compute, WRITE operands store registers and
 *                SUM/MAX/MIN operands store reductions of registers.  Dimensions [0, n_outer) are kept, the next
 *                n_reduced are reduced, the rest are kept.  A READ operand may have a window: in each dimension the
 *                indices [low, high) that lie in memory; it is zero at all others.
 *   GEMM         shape (batch..., m, n, k); operands READ a (stride 0 over n), READ b (stride 0 over m),
 *                WRITE c (stride 0 over k): c = sum over k of a * b.  One floating dtype.
 *   COPY         READ source (any strides), WRITE target; equal dtypes.
 *   GATHER       shape (n, row, size_1 ... size_q); operands READ table (contiguous: size_1 ... size_q, row),
 *                READ index_1 ... index_q (n int64 each, contiguous), WRITE target (n, row; contiguous).
 *                Indices count from the end when negative; out of range is AD_ERROR_INDEX.
 *   SCATTER_ADD  GATHER's transpose.  operands READ updates (n, row), READ index_1 ... index_q, WRITE target
 *                (size_1 ... size_q, row), which is zeroed first; equal indices add in order.
 *   SCATTER_SET  As SCATTER_ADD, but operands READ base (like target), READ updates, READ index_1 ... index_q, WRITE
 *                target: the base with rows replaced; of equal indices the last one wins.
 *   ARG_REDUCE   shape as a MAP's with reduced dimensions; operands READ x, WRITE int64 position of the first
 *                maximum (detail AD_MAX) or minimum (AD_MIN) counted over the reduced dimensions; NaN wins.
 *   IOTA         shape (n); operand WRITE: 0, 1, ... n-1 in its dtype.
 *   HOST         calls ad_run.host with function number `detail`; operands READ ..., WRITE ..., all contiguous.  shape
 *                has one dimension an operand: how many elements it has; strides are not looked at.
 *   SCALARS      a program on single numbers, any number of them; rank 0.  READ operands come first, a number each, and
 *                fill registers 0, 1 ...; instr i computes the next register, n_reads + i, from registers before it;
 *                WRITE operands store registers.  All is read before anything is written.
 *   ROWS         a program whose every register holds a row's elements, or one number a row.  shape: the dimensions
 *                [0, n_outer) count the rows, the rest are a row's own; neither is empty.  A READ operand that does not
 *                move along the row, a reduction of a row (row_sum ...), and an instr on numbers alone are a number; an
 *                instr with a row among its operands is a row, to which numbers are spread.  WRITE operands store a
 *                number where they do not move along the row, else a row.  SUM/MAX/MIN operands reduce over all rows,
 *                element by element, or, if they do not move at all, over all that the register ever holds.  pick
 *                takes the element at a position to a number, place puts a number there among zeros; a position counts
 *                from the end when negative, and out of range is AD_ERROR_INDEX.
 */
typedef enum ad_step_kind {
    AD_MAP = 1,
    AD_GEMM = 2,
    AD_COPY = 3,
    AD_GATHER = 4,
    AD_SCATTER_ADD = 5,
    AD_SCATTER_SET = 6,
    AD_ARG_REDUCE = 7,
    AD_IOTA = 8,
    AD_HOST = 9,
    AD_ROWS = 10,
    AD_SCALARS = 11
} ad_step_kind;

typedef struct ad_span {
    uint64_t offset; /* bytes from the start of the plan, a multiple of 8 */
    uint64_t count;  /* elements */
} ad_span;

typedef struct ad_plan_header {
    uint64_t magic; /* "AUTODIFF", little endian */
    uint32_t version;
    uint32_t header_size; /* sizeof(ad_plan_header) */
    uint64_t total_size;  /* bytes of the plan */
    uint64_t arena_size;  /* bytes of workspace that AD_ARENA buffers lie in */
    uint32_t n_inputs;
    uint32_t n_outputs;
    uint32_t n_hosts;
    uint32_t reserved;
    ad_span buffers;   /* ad_buffer */
    ad_span steps;     /* ad_step */
    ad_span operands;  /* ad_operand */
    ad_span instrs;    /* ad_instr */
    ad_span dims;      /* int64_t: shapes and strides */
    ad_span lines;     /* ad_line */
    ad_span strings;   /* bytes, each string ended by NUL */
    ad_span constants; /* bytes; the span's offset is a multiple of 64 */
} ad_plan_header;

typedef struct ad_buffer {
    uint32_t kind;
    uint32_t index;
    uint64_t offset; /* bytes, a multiple of 64 */
    uint64_t size;   /* bytes */
} ad_buffer;

typedef struct ad_operand {
    uint32_t role;
    uint32_t buffer;
    uint32_t dtype;     /* in memory */
    uint32_t reg_dtype; /* MAP, ROWS, SCALARS: in its register, converted on load or store; else equal to dtype */
    uint32_t reg;       /* MAP, ROWS, SCALARS: which register; else 0 */
    uint32_t windowed; /* MAP, READ: 1 if it has a window, else 0 */
    int64_t offset;    /* of the first element (that in the window's lowest corner, if it has one), in elements */
    uint64_t strides;  /* where in dims this operand's `rank` strides begin; in elements */
    uint64_t window;   /* where in dims its window begins: `rank` pairs of low and high; 0 without one */
} ad_operand;

typedef struct ad_step {
    uint32_t kind;
    uint32_t rank;
    uint64_t shape; /* where in dims the step's shape begins */
    uint32_t operand;
    uint32_t n_operands;
    uint32_t instr;
    uint32_t n_instrs;
    uint32_t n_registers;
    uint32_t lane; /* MAP, ROWS, SCALARS: bytes of every lane: 1, 4 or 8; a bool's lane holds 0 or all ones */
    uint32_t n_outer;
    uint32_t n_reduced;
    uint32_t detail;
    uint32_t line; /* which ad_line: the user's source line */
    uint32_t name; /* where in strings: what the step is, for people */
    uint32_t reserved;
} ad_step;

/* dst = opcode(a, b, c) on registers: a MAP's hold tiles, those of SCALARS a number each.  dtype is that of the numbers
 * it works on (of its operands, for comparisons). */
typedef struct ad_instr {
    uint16_t opcode;
    uint16_t dtype;
    uint32_t dst;
    uint32_t a;
    uint32_t b;
    uint32_t c;
    uint32_t line;
} ad_instr;

typedef struct ad_line {
    uint32_t file; /* where in strings */
    uint32_t line; /* 0: unknown */
} ad_line;

typedef struct ad_error {
    uint32_t status;
    uint32_t step;
    uint32_t line; /* which ad_line */
    uint32_t reserved;
    int64_t detail[2];
    const char *message; /* static: what is wrong, for people */
} ad_error;

typedef struct ad_prepared ad_prepared;
typedef struct ad_pool ad_pool;

typedef struct ad_run {
    uint64_t size;             /* sizeof(ad_run) of the caller */
    const void *const *inputs; /* C-contiguous, aligned to their elements */
    void *const *outputs;      /* an output may be the very memory of an input only where the plan's maker arranged it */
    void *workspace;           /* 64-byte aligned, ad_plan_workspace bytes, one concurrent run each */
    uint64_t workspace_size;
    ad_pool *pool;             /* whose threads help with large steps; NULL: the calling thread alone */
    uint64_t max_work;         /* refuse plans of more work than this; 0: no limit */
    int (*host)(void *context, uint32_t function, const void *const *inputs, void *const *outputs);
    int (*poll)(void *context); /* called about every 20 ms; not 0: stop.  May be NULL, as may host without host steps.
                                   Both are called by the calling thread alone. */
    void *context;
    ad_error *error; /* may be NULL */
} ad_run;

typedef struct ad_opcode {
    const char *name;
    uint32_t number;
    uint32_t arity;
    const char *domain; /* which dtypes: see opcodes.def */
} ad_opcode;

/* Copy, check and prepare a plan for the selected instruction set.  Any thread. */
ad_status ad_plan_load(const void *bytes, uint64_t size, ad_prepared **prepared, ad_error *error);
void ad_plan_free(ad_prepared *prepared);

/* Bytes of workspace a run needs: the arena and the kernels' own scratch. */
uint64_t ad_plan_workspace(const ad_prepared *prepared);

/* An upper bound of the elementary operations of a run; saturates at UINT64_MAX. */
uint64_t ad_plan_work(const ad_prepared *prepared);

/* How many of the steps are large enough for several threads; where it is 0 a run has no use for a pool. */
uint64_t ad_plan_shared(const ad_prepared *prepared);

/* The instruction set the plan was prepared for. */
const char *ad_plan_isa(const ad_prepared *prepared);

/* Run a plan.  Any number of threads may run one prepared plan at once, each with its own ad_run and workspace. */
ad_status ad_plan_run(const ad_prepared *prepared, const ad_run *run);

const char *ad_status_message(uint32_t status);

/* Threads for runs to share, any number of runs at once: `threads` at most work on one of them, the calling one
 * included.  They are started when a step wants them first, and sleep between runs; a forked process starts its own.
 * Results are the same bits for any number of threads.  NULL: no memory, or no threads. */
ad_pool *ad_pool_create(uint32_t threads);
/* When no run uses it any more. */
void ad_pool_free(ad_pool *pool);
uint32_t ad_pool_size(const ad_pool *pool);
/* Any time: runs that are going on take notice at their next step. */
ad_status ad_pool_resize(ad_pool *pool, uint32_t threads);
/* How many processors this thread may run on. */
uint32_t ad_processors(void);

/* The i-th tile opcode, or NULL past the last one. */
const ad_opcode *ad_opcode_at(uint32_t i);

/* The i-th instruction set this build has and this machine can run, from the plainest on; NULL past the last one. */
const char *ad_isa_at(uint32_t i);
/* The one that plans loaded from now on are prepared for; AUTODIFF_ISA or else the last of the list at first. */
const char *ad_isa_selected(void);
ad_status ad_isa_select(const char *name);

/* The i-th superinstruction's tree, as in superops.def, or NULL past the last one. */
const char *ad_superop_at(uint32_t i);
/* For measurements and tests: how plans loaded from now on run their MAPs, with superinstructions or without, and how
 * many bytes a register's tile has: a multiple of 256 up to 4096, or 0 for what suits the program.  Results are the same
 * bits. */
ad_status ad_tiles_select(uint32_t superops, uint32_t bytes);
/* The same of how plans loaded from now on are cut for several threads: steps that take a thread so many nanoseconds,
 * as is estimated, and into how many pieces at most; 0 for what suits.  Results are the same bits. */
void ad_pieces_select(uint64_t nanoseconds, uint32_t pieces);
/* How many loops the plan's MAPs run on a tile; fewer than their instrs where there are superinstructions. */
uint64_t ad_plan_ops(const ad_prepared *prepared);

/* cdef end */

#endif

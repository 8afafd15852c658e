/* Inside the library: what is made of a plan before it runs, and the kernels, one table an instruction set. */
#ifndef AD_KERNELS_H
#define AD_KERNELS_H

#include <stdbool.h>

#include "autodiff.h"
#include "kernels/gemm.h"

enum {
    AD_PLAN_VERSION = 1,
    AD_MAX_RANK = 32,
    AD_MAX_REGISTERS = 256,     /* of a MAP */
    AD_MAX_ARGS = 256,          /* operands of a MAP */
    AD_MAX_SLOTS = AD_MAX_REGISTERS + AD_MAX_ARGS,
    AD_CHUNK = 512,             /* elements of a row that are summed into lanes before the lanes are folded */
    AD_CHUNK_LANES = 32,        /* ... and those lanes: the order of sums, hence part of what a plan means */
    AD_BLOCK_ROWS = 16,         /* rows of a column sum that are added one after the other */
    AD_ROWS_AT_ONCE = 4,        /* of these, how many wait to be added in one pass over their columns' accumulators */
    AD_VECTOR_MAX = 64,         /* bytes of the widest vector; also how buffers and scratch are aligned */
    AD_TILE_LEAST = 256,        /* bytes of a tile: AD_CHUNK_LANES, of any width */
    AD_TILE_MOST = 4096,
    AD_N_OPCODES = 128,
    AD_MAX_ROW_SLOTS = 2048,
    AD_MAX_ROW = 1 << 16,       /* elements of a row of ROWS, which its registers have to hold */
};

/* AD_OPCODE_add ...: the opcodes' numbers. */
enum {
#define AD_OP(name, number, arity, domain, expression) AD_OPCODE_##name = number,
#include "opcodes.def"
#undef AD_OP
};

/* AD_SUPEROP_mul_add ...: the superinstructions' numbers. */
enum {
#define AD_SUPEROP(name, leaves, tree) AD_SUPEROP_##name,
#include "superops.def"
#undef AD_SUPEROP
    AD_N_SUPEROPS
};

/* What a register's lane holds.  A bool is a mask, all ones or zero, as wide as the program's other lanes. */
typedef enum ad_lane {
    AD_LANE_U8,
    AD_LANE_I32,
    AD_LANE_I64,
    AD_LANE_F32,
    AD_LANE_F64,
    AD_LANE_M8,
    AD_LANE_M32,
    AD_LANE_M64,
    AD_N_LANES,
    AD_N_NUMBER_LANES = AD_LANE_M8
} ad_lane;

/* A checked plan: the caller's bytes, copied. */
typedef struct ad_plan {
    const unsigned char *bytes;
    const ad_plan_header *header;
    const ad_buffer *buffers;
    const ad_step *steps;
    const ad_operand *operands;
    const ad_instr *instrs;
    const int64_t *dims;
    const unsigned char *constants;
} ad_plan;

/* The tile a program runs on. */
typedef struct ad_tile {
    char *const *slots; /* where each register's lanes are */
    int64_t bytes;      /* of a register that are computed: whole vectors */
    int64_t lanes;      /* that count; the rest is padding */
    const struct ad_op *fault; /* the op that met an impossible operand */
} ad_tile;

/* An instr, prepared, or several of them in a superinstruction. */
typedef struct ad_op ad_op;
typedef struct ad_reducer ad_reducer;
typedef void ad_op_run(const ad_op *op, ad_tile *tile);
struct ad_op {
    ad_op_run *run;
    uint16_t dst, a, b, c, d; /* slots */
    uint16_t still;           /* which of a, b, c, d are one vector for the whole tile: bits 1, 2, 4, 8 */
    uint32_t line;
    uint32_t kind;             /* ROWS: ad_row_op */
    const ad_reducer *reducer; /* ... of AD_ROW_REDUCE */
};

/* What an op of a ROWS program works on: its slots are those of the rows' elements or of numbers, one a row. */
typedef enum ad_row_op {
    AD_ROW_ELEMENTS, /* elements to elements */
    AD_ROW_NUMBERS,  /* numbers to numbers */
    AD_ROW_REDUCE,   /* elements to numbers */
    AD_ROW_SPREAD,   /* numbers to elements */
    AD_ROW_SPLAT,    /* a number to one vector of elements */
    AD_ROW_PICK,     /* elements, at positions, to numbers */
    AD_ROW_PLACE     /* numbers, at positions, to elements; c is the dtype */
} ad_row_op;

/* n elements from memory to lanes or back, both contiguous. */
typedef void ad_convert(void *to, const void *from, int64_t n);

/* One operation on one type of lane, in the pieces that reductions are made of. */
struct ad_reducer {
    void (*start)(void *to, int64_t bytes);                                       /* fill with the neutral element */
    void (*combine)(void *to, const void *older, const void *younger, int64_t bytes);
    void (*rows)(void *to, const void *x, int64_t n, int64_t stride, int64_t bytes); /* combine n rows into one */
    /* A piece of a chunk, from element `first` of it on, into its lanes; and these into the first if it is the last. */
    void (*span)(void *lanes, const void *x, int64_t first, int64_t n, bool last);
    void (*lines)(void *to, const void *x, int64_t n, int64_t length);            /* n short rows, each to a number */
};

/* Where an operand of a MAP is found for a tile. */
typedef enum ad_access {
    AD_ACCESS_DENSE, /* one after the other through the whole space, or a part of it that its window is */
    AD_ACCESS_ONCE,  /* the same for every tile: fetched before the first */
    AD_ACCESS_WALK   /* row by row */
} ad_access;

/* An operand, prepared. */
typedef struct ad_arg {
    const ad_buffer *buffer;
    int64_t offset;         /* bytes from the buffer's start */
    const int64_t *strides; /* bytes, over the task's shape */
    int64_t *window;        /* low and high along each dimension; of a dense operand, in elements; or NULL */
    int64_t corner;         /* bytes from where index 0 would be to the window's lowest corner; without one 0 */
    const ad_reducer *reducer;
    ad_convert *convert; /* between memory and register; NULL where they are alike */
    uint8_t role;
    uint8_t dtype;
    uint8_t size; /* bytes of an element in memory */
    uint8_t access;
    uint16_t slot;
    bool owns_slot;  /* the slot stands for this operand alone, so it may point into its memory */
    bool uniform;    /* one number, though there may be zeros around it */
    bool still;      /* the same for a whole tile: its slot is one vector */
    bool streams;    /* a result too large to be in a cache when it is wanted: stored past them */
    uint64_t state;  /* of a reduction: where in the scratch its accumulators are */
    uint64_t ring;   /* of a column reduction of what is computed: where AD_ROWS_AT_ONCE tiles of it are; 0: none */
    bool by_number;  /* ROWS: its slot is one of numbers */
    bool position;   /* ROWS: its register holds positions along the row ... */
    uint32_t line;   /* ... for the user's source line of this number */
    bool whole;      /* ROWS: it reduces all that its register ever holds */
    uint64_t share;  /* of a reduction: where in a piece's share its own is */
} ad_arg;

/* --- SCALARS: numbers in a table, each in a slot of one lane --- */

enum {
    AD_SCALARS_LANES = 256, /* operands that a vector op wants to see one after the other are gathered in tiles */
    AD_SCALARS_TILE = AD_SCALARS_LANES * 8, /* bytes */
    /* What a run may do beside the opcodes: products and the sum or difference that wants them, each rounded. */
    AD_SCALARS_MUL_ADD = AD_N_OPCODES, /* a * b + c */
    AD_SCALARS_MUL_SUB,                /* a * b - c */
    AD_SCALARS_SUB_MUL,                /* c - a * b */
    AD_SCALARS_MUL_ADD_MUL,            /* a * b + c * d */
    AD_SCALARS_MUL_SUB_MUL,            /* a * b - c * d */
    AD_SCALARS_N_CODES
};

/* Equal operations whose results lie one after the other. */
typedef struct ad_scalar_run ad_scalar_run;
typedef void ad_scalar_loop(const ad_scalar_run *run, char *table, ad_tile *tile);
struct ad_scalar_run {
    ad_scalar_loop *loop;
    const uint32_t *operands; /* slots: those of the first result, of the second ... */
    uint32_t dst, n;          /* slot of the first result; how many */
    const ad_op *ops;         /* on tiles: of dst in slot 0, of operands in slots 1, 2, 3 */
    uint32_t n_ops, arity;
};

/* Numbers that lie one after the other in memory and in the table. */
typedef struct ad_transfer {
    const struct ad_arg *arg; /* where the first one is */
    uint32_t slot, n;
} ad_transfer;

/* A step, prepared. */
typedef struct ad_scalars {
    const ad_transfer *loads, *stores;
    const ad_scalar_run *runs;
    uint32_t n_loads, n_stores, n_runs;
} ad_scalars;

typedef struct ad_kernels ad_kernels;
typedef struct ad_frame ad_frame;
typedef struct ad_task ad_task;
typedef struct ad_rows ad_rows;
typedef ad_status ad_task_run(const ad_task *task, ad_frame *frame);

/* Part of a task: lines [from, to), and of each the elements [low, high).  What these are the task's kind says. */
typedef struct ad_part {
    int64_t from, to, low, high;
    char *shares; /* where its shares are to go of reductions that other parts have shares in; NULL: there are none */
} ad_part;

/* How a task is cut into parts for several threads (pieces.c): its space is `groups` of `lines` of `length` elements, a
 * piece has `by_lines` and `by_length` of these. */
typedef struct ad_cut {
    ad_task_run *run, *whole; /* a part, or all of the task; all of it */
    int64_t n;                /* pieces; 0: it is not cut */
    int64_t groups, lines, length, by_lines, by_length;
    uint32_t dim;             /* GEMM, COPY, ARG_REDUCE: the dimension that is cut */
    uint64_t shares, share;   /* where in the scratch the pieces leave their shares, and how many bytes each; 0: none */
} ad_cut;

/* A step, prepared: dimensions of size 1 are gone, and those that every operand walks as one are merged. */
struct ad_task {
    ad_task_run *run;
    const ad_step *step;
    const ad_arg *args;
    const ad_op *ops;
    const int64_t *shape;
    uint32_t n_args, n_ops;
    uint32_t rank;
    uint32_t n_outer, n_reduced; /* leading dimensions, as in ad_step */
    int64_t size;                /* elements of the space */
    int64_t cost;                /* work per element, for polling and limits */

    /* MAP: the space as outer * rows * line elements.  A tile is a piece of a line or, if `group` > 1, some lines. */
    int64_t outer, rows, line;
    int64_t group;
    int64_t tile;        /* lanes of the longest tile */
    int64_t tile_stride; /* bytes from one tile of the scratch to the next */
    int64_t state_stride; /* bytes from one level of a reduction's binary counter to the next */
    uint32_t lane;       /* bytes of a lane */
    uint32_t n_registers, n_tiles, n_slots; /* slots: registers, operands of a tile, operands of one vector */
    bool reduces, by_column, walks, windows;
    bool streams; /* through more memory than the second level cache holds */
    uint64_t stills;                /* where in the scratch the operands of one vector are */
    uint64_t zeros;                 /* ... and a tile of zeros, if it has windows */
    uint64_t staging, staging_size; /* where in the scratch two tiles of the widest element fit */

    ad_scalars *scalars; /* SCALARS: a block of memory of its own */
    const ad_rows *program; /* ROWS */

    ad_cut cut;
    uint64_t scratch; /* bytes */
};

/* Neighbouring ops of a ROWS program that run together: on numbers, or on elements, a piece at a time. */
typedef struct ad_pass {
    const ad_op *ops;
    uint32_t n_ops;
    bool by_number;
} ad_pass;

/* What a ROWS task has beside the space of all elements. */
struct ad_rows {
    ad_task numbers; /* the space of the rows alone */
    const ad_pass *passes;
    const ad_op *spreads;        /* run once: numbers that are the same for all rows */
    const uint64_t *tiles;       /* where in the scratch each slot's elements are; those of numbers behind them */
    const bool *kept;            /* by slot: whether a later pass needs it, so that each piece has a tile of its own */
    uint32_t n_passes, last; /* the last pass over elements; the first is pass 0 */
    uint32_t n_spreads;
    int64_t block;          /* lines that go through all passes before the next ones begin */
    uint64_t table;         /* where in the scratch each piece's slots are listed */
    uint64_t state;         /* where in the scratch a long row is reduced */
};

/* One run of a plan. */
struct ad_frame {
    const ad_run *run;
    const ad_plan *plan;
    const ad_kernels *kernels;
    char *scratch;
    int64_t patience; /* work until the clock is next looked at */
    int64_t deadline; /* when to poll, in the clock's nanoseconds */
    ad_error error;
    bool entered;     /* the pool, at the time it calls `entry` */
    uint32_t entry;

    /* Of one piece of a step that is shared: */
    const ad_part *part;            /* NULL: all of the step */
    int64_t piece;                  /* its number */
    const _Atomic int64_t *failed;  /* the first piece that failed so far: later ones may stop */
    bool helps;                     /* it runs on a thread of the pool's */
};

struct ad_kernels {
    const char *name;
    int64_t vector; /* bytes */
    ad_task_run *map, *rows, *copy, *gather, *scatter, *arg_reduce, *iota, *scalars;
    ad_task_run *join; /* MAP, ROWS: the results of reductions that pieces have left their shares of */
    void (*gemm[2])(const ad_gemm *); /* f32, f64 */
    uint64_t (*gemm_scratch)(int64_t m, int64_t n, int64_t k, uint32_t itemsize);
    ad_op_run *const *ops[AD_N_LANES];                        /* by lane, then opcode */
    ad_op_run *const *superops[AD_N_NUMBER_LANES];            /* by lane, then superinstruction; NULL: none */
    ad_op_run *check_exponents[AD_N_LANES];                   /* what runs before int_pow */
    ad_reducer reducers[AD_N_NUMBER_LANES][AD_MIN - AD_SUM + 1];
    ad_convert *load[AD_F64 + 1][AD_N_LANES], *store[AD_N_LANES][AD_F64 + 1];
    /* SCALARS: what is done number by number, by lane, then code; and on gathered tiles, by bytes of a lane. */
    ad_scalar_loop *const *scalar_loops[AD_N_LANES];
    ad_scalar_loop *gathered[9];
};

struct ad_prepared {
    ad_plan plan;
    const ad_kernels *kernels;
    ad_task *tasks;
    uint64_t n_tasks;
    void *memory; /* all that tasks point to, but for their scalars */
    uint64_t scratch, work;
};

/* check.c: refuse whatever could not run within bounds. */
ad_status ad_plan_check(ad_plan *plan, uint64_t size, ad_error *error);
extern const uint8_t ad_dtype_size[AD_F64 + 1];

/* prepare.c */
ad_status ad_prepare(ad_prepared *prepared);
ad_lane ad_lane_of(uint32_t dtype, uint32_t bytes);
const ad_reducer *ad_reducer_of(const ad_kernels *kernels, uint32_t role, uint32_t dtype, uint32_t bytes);

/* prepare_scalars.c: everything of a SCALARS task but where its operands lie in memory. */
ad_status ad_prepare_scalars(const ad_plan *plan, const ad_kernels *kernels, ad_task *task);
/* prepare_rows.c: whether an operand moves along any of the step's dimensions from this one on. */
bool ad_moves(const ad_plan *plan, const ad_step *step, const ad_operand *operand, uint32_t from);


/* dispatch.c */
const ad_kernels *ad_kernels_selected(void);
const ad_opcode *ad_opcode_numbered(uint32_t number);
bool ad_superops_selected(void);
int64_t ad_tile_selected(void);
uint64_t ad_shared_from(void);   /* nanoseconds; 0: what suits */
int64_t ad_pieces_at_most(void); /* 0: what suits */

/* The role that a row_sum, row_max or row_min has inside its program; 0: it is another opcode. */
static inline uint32_t ad_row_reduction(uint32_t opcode) {
    return opcode >= AD_OPCODE_row_sum && opcode <= AD_OPCODE_row_min ? AD_SUM + opcode - AD_OPCODE_row_sum : 0;
}

extern const ad_kernels ad_kernels_base;
#if defined(__x86_64__)
extern const ad_kernels ad_kernels_avx2, ad_kernels_avx512;
#endif

/* pieces.c: an upper bound of a task's elementary operations; how it is cut, once all else about it is known. */
uint64_t ad_work_of(const ad_task *task);
void ad_cut_task(const ad_plan *plan, ad_task *task, ad_arg *args);

/* plan.c */
ad_task_run ad_run_gemm, ad_run_host;
bool ad_poll(ad_frame *frame);
ad_status ad_fail(ad_frame *frame, ad_status status, uint32_t line, int64_t detail0, int64_t detail1);

/* Account for work done; whether to stop. */
static inline bool ad_tick(ad_frame *frame, int64_t work) { return (frame->patience -= work) < 0 && ad_poll(frame); }

static inline char *ad_address(const ad_frame *frame, const ad_arg *arg) {
    const ad_buffer *buffer = arg->buffer;
    switch (buffer->kind) { /* casting const away: the check lets nothing write to an input or a constant */
    case AD_INPUT: return (char *)frame->run->inputs[buffer->index] + arg->offset;
    case AD_OUTPUT: return (char *)frame->run->outputs[buffer->index] + arg->offset;
    case AD_CONSTANT: return (char *)frame->plan->constants + buffer->offset + arg->offset;
    default: return (char *)frame->run->workspace + buffer->offset + arg->offset;
    }
}

#endif

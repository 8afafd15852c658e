/* The programs of MAP and ROWS while they are prepared. */
#ifndef AD_PROGRAM_H
#define AD_PROGRAM_H

#include "kernels.h"

enum { AD_MOST_LEAVES = 4 };

static const uint32_t AD_VALUE_STORED = UINT32_MAX - 1;

/* Registers that are written again and again stand in the way of moving an op to its user, so a program is first read
 * as values: operand i loads value i, instr i computes value n_args + i. */
typedef struct ad_value {
    ad_op_run *run;
    uint32_t leaves[AD_MOST_LEAVES]; /* the values it is computed from */
    uint32_t uses;                   /* by instrs and stores */
    uint32_t last;                   /* the value whose computation is the last to need it, or AD_VALUE_STORED */
    uint32_t line;
    uint16_t opcode, dtype;
    uint16_t slot;
    uint8_t n_leaves;
    bool absorbed; /* computed inside of the value that needs it */
    /* ROWS */
    bool by_number;          /* it is a number a row */
    uint32_t pass;           /* in which it is computed: instrs on elements make even ones, those on numbers odd ones */
    uint16_t spread, vector; /* slots of elements that a number is spread to, and of one vector of it; 0: none */
    uint32_t filled;         /* the pass that filled the vector last, counted from 1 */
} ad_value;

typedef struct ad_program {
    const ad_plan *plan;
    const ad_kernels *kernels;
    const ad_step *step;
    const ad_operand *operands;
    const ad_task *task;
    ad_arg *args;
    ad_value *values;
    uint32_t n_args, n_values;
    uint32_t stored[AD_MAX_ARGS]; /* by operand: the value that it stores */
} ad_program;

/* program.c */
void ad_read_values(ad_program *p);

/* Have values computed inside of those that alone need them, where there is a loop for that. */
void ad_choose_superops(ad_program *p);

void ad_find_last_uses(ad_program *p);

/* Append the op that computes a value, on slots that are given, and what has to be checked before. */
ad_op *ad_put_op(const ad_program *p, ad_op *ops, const ad_value *value, ad_op op);

/* Make the ops of a MAP, by means of a value an operand and an instr; the end of the ops, two an instr at most. */
ad_op *ad_make_program(const ad_plan *plan, const ad_kernels *kernels, ad_task *task, ad_arg *args, ad_op *ops,
                       ad_value *values);

/* Once it is known which operands are still. */
void ad_number_slots(ad_task *task, ad_arg *args, ad_op *ops);

/* program_rows.c: where what is made of a ROWS step goes, beside its ops. */
typedef struct ad_row_program {
    ad_rows *rows;
    ad_pass *passes;
    ad_op *spreads;
    bool *kept;
} ad_row_program;

/* Make the ops; the end of them, ad_rows_ops at most. */
ad_op *ad_make_row_program(ad_program *p, ad_task *task, const ad_row_program *to, ad_op *ops);

#endif

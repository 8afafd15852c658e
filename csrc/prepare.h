/* What preparing the kinds of steps has in common. */
#ifndef AD_PREPARE_H
#define AD_PREPARE_H

#include "program.h"

typedef struct ad_maker {
    const ad_plan *plan;
    const ad_kernels *kernels;
    ad_arg *args; /* the next free ones */
    ad_op *ops;
    int64_t *dims;
    char *rows; /* what ROWS steps have beside these */
    ad_value *values; /* room for those of one MAP or ROWS */
} ad_maker;

static inline int64_t ad_smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t ad_larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t ad_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

static inline int64_t ad_product(const int64_t *shape, uint32_t from, uint32_t to) {
    int64_t n = 1;
    for (uint32_t d = from; d < to; d++) n *= shape[d];
    return n;
}

/* A task with its operands' places in memory; NULL-initialised otherwise. */
ad_arg *ad_begin_task(ad_maker *m, ad_task *task, const ad_step *step);

/* The step's shape and strides, in bytes, without dimensions of size 1 and with those merged that all operands walk as
 * one; kept and reduced dimensions stay apart. */
void ad_merge_dims(ad_maker *m, ad_task *task, ad_arg *args);

/* How an operand moves between memory and its register. */
void ad_choose_access(const ad_maker *m, const ad_task *task, ad_arg *arg, const ad_operand *operand);

/* Of operands that only move within the line, which are the same in every tile of whole lines. */
void ad_choose_access_once(const ad_task *task, ad_arg *arg);

/* How many lines of `length` to pack into a tile: a number that gives whole vectors, if there is one. */
int64_t ad_pack(int64_t length, int64_t tile, int64_t vector, int64_t lines);

/* Of a binary counter that counts so far. */
uint32_t ad_levels_of(int64_t count);

/* prepare_rows.c */
void ad_make_rows(ad_maker *m, ad_task *task, const ad_step *step);
uint64_t ad_rows_memory(const ad_step *step); /* bytes of ad_maker.rows that it takes */
uint64_t ad_rows_ops(const ad_step *step);    /* ops beside those of its instrs, at most */

#endif

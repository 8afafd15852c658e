/* What checking the kinds of steps has in common. */
#ifndef AD_CHECK_H
#define AD_CHECK_H

#include "kernels.h"

#define ADD_OVERFLOWS(a, b, sum) __builtin_add_overflow(a, b, sum)
#define MUL_OVERFLOWS(a, b, product) __builtin_mul_overflow(a, b, product)

typedef struct ad_checker {
    const ad_plan *plan;
    const ad_step *step;
    const int64_t *shape;
    const ad_operand *operands; /* of the step */
    ad_error *error;
} ad_checker;

/* `which` operand or instr of the step is wrong. */
ad_status ad_refuse(const ad_checker *at, int64_t which, const char *message);

#define REQUIRE(condition, which, message)                                                                             \
    do {                                                                                                               \
        if (!(condition)) return ad_refuse(at, which, message);                                                        \
    } while (0)
#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        ad_status status_ = (call);                                                                                    \
        if (status_ != AD_OK) return status_;                                                                          \
    } while (0)

static inline bool is_dtype(uint32_t dtype) { return dtype >= AD_BOOL && dtype <= AD_F64; }

static inline bool is_empty(const int64_t *shape, uint32_t rank) {
    for (uint32_t d = 0; d < rank; d++)
        if (shape[d] == 0) return true;
    return false;
}

/* An operand of a known role, which does not move along dimensions [still, still_end): inside its buffer, and if it is
 * written to, then each element once. */
ad_status ad_check_operand(const ad_checker *at, uint32_t i, bool writes, uint32_t still, uint32_t still_end);

/* check_programs.c: the operand of a program names one of its registers. */
ad_status ad_check_register(const ad_checker *at, uint32_t i);

/* The registers of a program: what the operands say of them; and `held`, AD_MAX_REGISTERS long, gets the dtype that
 * each one holds when it begins, 0 for none. */
ad_status ad_check_registers(const ad_checker *at, uint8_t *held);

/* An instr reads and writes registers that exist; `held` is the dtype of what each holds, 0 for nothing. */
ad_status ad_check_instr(const ad_checker *at, const ad_instr *instr, int64_t number, uint8_t *held);

/* An operand that stores or reduces what a register holds in the end, and has no part in dimensions
 * [still, still_end). */
ad_status ad_check_result(const ad_checker *at, uint32_t i, const uint8_t *held, uint32_t still, uint32_t still_end);

ad_status ad_check_map(const ad_checker *at);

/* check_rows.c, check_scalars.c */
ad_status ad_check_rows(const ad_checker *at);
ad_status ad_check_scalars(const ad_checker *at);

#endif

/* What the checks of a plan's steps share. */
#ifndef AD_CHECK_H
#define AD_CHECK_H

#include "kernels.h"

typedef struct checker {
    const ad_plan *plan;
    const ad_step *step;
    const int64_t *shape;
    const ad_operand *operands; /* of the step */
    ad_error *error;
} checker;

#define REQUIRE(condition, which, message)                                                                             \
    do {                                                                                                               \
        if (!(condition)) return ad_refuse(at, which, message);                                                        \
    } while (0)
#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        ad_status status_ = (call);                                                                                    \
        if (status_ != AD_OK) return status_;                                                                          \
    } while (0)

/* `which` operand or instr of the step is wrong. */
ad_status ad_refuse(const checker *at, int64_t which, const char *message);

/* An operand of a known role, which does not move along dimensions [still, still_end): inside its buffer, and if it is
 * written to, then each element once. */
ad_status ad_check_operand(const checker *at, uint32_t i, bool writes, uint32_t still, uint32_t still_end);

/* An instr reads and writes registers that exist; `held` is the dtype of what each holds, 0 for nothing. */
ad_status ad_check_instr(const checker *at, const ad_instr *instr, int64_t number, uint8_t *held);

ad_status ad_check_scalars(const checker *at);

#endif

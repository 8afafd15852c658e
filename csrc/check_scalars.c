/* Checks a step of single numbers. */
#include "check.h"

#include <stdlib.h>

/* `held` has room for the dtypes of all registers. */
static ad_status check_registers(const ad_checker *at, uint32_t n_reads, uint8_t *held) {
    const ad_step *step = at->step;
    for (uint32_t i = 0; i < n_reads; i++) {
        REQUIRE(at->operands[i].reg == i, i, "a scalar program's operands do not fill its registers in order");
        held[i] = (uint8_t)at->operands[i].reg_dtype;
        CHECK(ad_check_operand(at, i, false, 0, 0));
    }
    for (uint32_t i = 0; i < step->n_instrs; i++) {
        const ad_instr *instr = &at->plan->instrs[step->instr + i];
        REQUIRE(instr->dst == n_reads + i, i, "a scalar program's instrs do not fill its registers in order");
        CHECK(ad_check_instr(at, instr, i, held));
    }
    for (uint32_t i = n_reads; i < step->n_operands; i++) {
        const ad_operand *operand = &at->operands[i];
        REQUIRE(operand->role == AD_WRITE, i, "a scalar program's operands are not first read, then written");
        REQUIRE(held[operand->reg] == operand->reg_dtype, i, "an operand stores a register of another dtype");
        CHECK(ad_check_operand(at, i, true, 0, 0));
    }
    return AD_OK;
}

ad_status ad_check_scalars(const ad_checker *at) {
    const ad_step *step = at->step;
    uint32_t n_reads = 0;
    while (n_reads < step->n_operands && at->operands[n_reads].role == AD_READ) n_reads++;
    REQUIRE(step->rank == 0, 0, "a scalar program has dimensions");
    REQUIRE((uint64_t)step->n_registers == (uint64_t)n_reads + step->n_instrs, 0,
            "a scalar program has not one register for each number");
    uint8_t *held = calloc((size_t)step->n_registers + 1, 1);
    if (!held) return AD_ERROR_MEMORY;
    ad_status status = check_registers(at, n_reads, held);
    free(held);
    return status;
}

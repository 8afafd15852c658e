/* Checks a ROWS step: whether each register holds a row's elements or a number follows from what is put into it. */
#include "check.h"

ad_status ad_check_rows(const ad_checker *at) {
    const ad_step *step = at->step;
    const ad_plan *plan = at->plan;
    const uint32_t outer = step->n_outer, rank = step->rank;
    uint8_t held[AD_MAX_REGISTERS];
    bool by_number[AD_MAX_REGISTERS] = {false};
    REQUIRE(outer > 0 && outer < rank && step->n_reduced == 0, 0, "a step's rows are none, or of nothing");
    REQUIRE(!is_empty(at->shape, rank), 0, "a step's rows are empty");
    int64_t row = 1; /* the product of all sizes does not overflow */
    for (uint32_t d = outer; d < rank; d++) row *= at->shape[d];
    REQUIRE(row <= AD_MAX_ROW, 0, "a step's rows are too long");
    CHECK(ad_check_registers(at, held));
    for (uint32_t i = 0; i < step->n_operands; i++) {
        const ad_operand *operand = &at->operands[i];
        if (operand->role != AD_READ) continue;
        bool number = by_number[operand->reg] = !ad_moves(plan, step, operand, outer);
        REQUIRE(operand->reg_dtype != AD_POSITION || (number && operand->dtype == AD_I64 && step->lane > 1), i,
                "an operand is no position in a row");
    }
    for (uint32_t i = 0; i < step->n_instrs; i++) {
        const ad_instr *instr = &plan->instrs[step->instr + i];
        CHECK(ad_check_instr(at, instr, i, held));
        const uint32_t sources[3] = {instr->a, instr->b, instr->c};
        bool number = true;
        for (uint32_t k = 0; k < ad_opcode_numbered(instr->opcode)->arity; k++) number &= by_number[sources[k]];
        REQUIRE(instr->opcode != AD_OPCODE_place || number, i, "an instr places more than a number");
        by_number[instr->dst] = instr->opcode == AD_OPCODE_place ? false
                                : ad_row_reduction(instr->opcode) || instr->opcode == AD_OPCODE_pick || number;
    }
    for (uint32_t i = 0; i < step->n_operands; i++) {
        const ad_operand *operand = &at->operands[i];
        if (operand->role == AD_READ) continue;
        bool moves = ad_moves(plan, step, operand, outer);
        if (operand->role == AD_WRITE) {
            REQUIRE(moves || by_number[operand->reg], i, "an operand stores a row as a number");
            CHECK(ad_check_result(at, i, held, moves ? rank : outer, rank));
        } else {
            CHECK(ad_check_result(at, i, held, 0, moves ? outer : rank));
        }
    }
    return AD_OK;
}

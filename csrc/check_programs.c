/* Checks what programs have in common, registers and instrs, and a MAP. */
#include "check.h"

#include <string.h>

ad_status ad_check_register(const ad_checker *at, uint32_t i) {
    const ad_operand *operand = &at->operands[i];
    REQUIRE(operand->reg < at->step->n_registers, i, "an operand's register does not exist");
    bool position = operand->reg_dtype == AD_POSITION && at->step->kind == AD_ROWS && operand->role == AD_READ;
    REQUIRE(is_dtype(operand->reg_dtype) || position, i, "an operand's register's dtype is unknown");
    REQUIRE(position || operand->reg_dtype == AD_BOOL || ad_dtype_size[operand->reg_dtype] == at->step->lane, i,
            "an operand's register is not as wide as its step's lanes");
    return AD_OK;
}

/* What a domain takes and gives, in dtypes: X is the instr's own. */
enum { X = 255, SAME_WIDTH_INT = 254 };
typedef struct domain {
    uint8_t dtypes; /* bit d: dtype d may be X */
    uint8_t a, others, result;
} domain;

#define BITS(dtype) (1u << (dtype))
enum { FLOATING = BITS(AD_F64) | BITS(AD_F32), INTEGER = BITS(AD_I64) | BITS(AD_I32) | BITS(AD_U8) };
static const domain domain_number = {FLOATING | INTEGER, X, X, X};
static const domain domain_floating = {FLOATING, X, X, X};
static const domain domain_integer = {INTEGER, X, X, X};
static const domain domain_compare = {FLOATING | INTEGER, X, X, AD_BOOL};
static const domain domain_logic = {BITS(AD_BOOL), X, X, X};
static const domain domain_choice = {FLOATING | INTEGER | BITS(AD_BOOL), AD_BOOL, X, X};
static const domain domain_to_float = {FLOATING, SAME_WIDTH_INT, X, X};
static const domain domain_to_int = {FLOATING, X, X, SAME_WIDTH_INT};
static const domain domain_to_bool = {FLOATING | INTEGER, X, X, AD_BOOL};
static const domain domain_from_bool = {FLOATING | INTEGER, AD_BOOL, X, X};
static const domain domain_row_sum = {FLOATING | BITS(AD_I64) | BITS(AD_I32), X, X, X};
static const domain domain_row_most = {FLOATING | INTEGER | BITS(AD_BOOL), X, X, X};
static const domain domain_pick = {FLOATING | BITS(AD_I64) | BITS(AD_I32), X, AD_POSITION, X};
static const domain domain_place = {FLOATING | BITS(AD_I64) | BITS(AD_I32), X, AD_POSITION, X};

static const domain *const domain_of[AD_N_OPCODES] = { /* by opcode */
#define AD_OP(name, number, arity, domain, expression) [AD_OPCODE_##name] = &domain_##domain,
#include "opcodes.def"
#undef AD_OP
};

static uint32_t resolve(uint8_t dtype, uint32_t own) {
    if (dtype == SAME_WIDTH_INT) return own == AD_F64 ? AD_I64 : AD_I32;
    return dtype == X ? own : dtype;
}

ad_status ad_check_instr(const ad_checker *at, const ad_instr *instr, int64_t number, uint8_t *held) {
    const ad_step *step = at->step;
    const ad_opcode *opcode = ad_opcode_numbered(instr->opcode);
    REQUIRE(opcode, number, "an instr's opcode is unknown");
    REQUIRE(step->kind == AD_ROWS || instr->opcode < AD_OPCODE_row_sum, number,
            "an instr works on rows where there are none");
    const domain *domain = domain_of[instr->opcode];
    REQUIRE(is_dtype(instr->dtype) && (domain->dtypes & BITS(instr->dtype)), number,
            "an opcode does not work on its instr's dtype");
    REQUIRE(instr->dtype == AD_BOOL || ad_dtype_size[instr->dtype] == step->lane, number,
            "an instr's dtype is not as wide as its step's lanes");
    REQUIRE(instr->dst < step->n_registers, number, "an instr's register does not exist");
    const uint32_t sources[3] = {instr->a, instr->b, instr->c};
    for (uint32_t k = 0; k < opcode->arity; k++) {
        REQUIRE(sources[k] < step->n_registers, number, "an instr's register does not exist");
        REQUIRE(held[sources[k]] == resolve(k == 0 ? domain->a : domain->others, instr->dtype), number,
                "an instr reads a register that holds nothing, or another dtype");
    }
    held[instr->dst] = (uint8_t)resolve(domain->result, instr->dtype);
    return AD_OK;
}

ad_status ad_check_registers(const ad_checker *at, uint8_t *held) {
    const ad_step *step = at->step;
    memset(held, 0, AD_MAX_REGISTERS);
    REQUIRE(step->n_registers <= AD_MAX_REGISTERS, 0, "a step has too many registers");
    REQUIRE(step->n_operands <= AD_MAX_ARGS, 0, "a step has too many operands");

    for (uint32_t i = 0; i < step->n_operands; i++) {
        const ad_operand *operand = &at->operands[i];
        REQUIRE(operand->role >= AD_READ && operand->role <= AD_MIN, i, "an operand's role is unknown");
        if (operand->role != AD_READ) continue;
        REQUIRE(!held[operand->reg], i, "two operands fill one register");
        held[operand->reg] = (uint8_t)operand->reg_dtype;
        CHECK(ad_check_operand(at, i, false, step->rank, step->rank));
    }
    return AD_OK;
}

ad_status ad_check_result(const ad_checker *at, uint32_t i, const uint8_t *held, uint32_t still, uint32_t still_end) {
    const ad_operand *operand = &at->operands[i];
    REQUIRE(held[operand->reg] == operand->reg_dtype, i,
            "an operand stores a register that holds nothing, or another dtype");
    CHECK(ad_check_operand(at, i, true, still, still_end));
    REQUIRE(operand->role != AD_SUM || operand->reg_dtype >= AD_I32, i, "an operand sums bool or uint8");
    return AD_OK;
}

ad_status ad_check_map(const ad_checker *at) {
    const ad_step *step = at->step;
    uint32_t reduced = step->n_outer, reduced_end = step->n_outer + step->n_reduced;
    uint8_t held[AD_MAX_REGISTERS];
    CHECK(ad_check_registers(at, held));
    for (uint32_t i = 0; i < step->n_instrs; i++)
        CHECK(ad_check_instr(at, &at->plan->instrs[step->instr + i], i, held));

    for (uint32_t i = 0; i < step->n_operands; i++) {
        const ad_operand *operand = &at->operands[i];
        if (operand->role == AD_READ) continue;
        bool reduces = operand->role != AD_WRITE;
        CHECK(ad_check_result(at, i, held, reduces ? reduced : step->rank, reduces ? reduced_end : step->rank));
        REQUIRE(!reduces || operand->role == AD_SUM || !is_empty(at->shape + reduced, step->n_reduced), i,
                "an operand is the maximum or minimum of nothing");
    }
    return AD_OK;
}

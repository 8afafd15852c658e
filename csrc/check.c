/* Checks a plan's bytes, once, so that running it needs no check: every index, size, opcode, register and stride.
 * Whatever passes runs within its buffers; only indices that are data (gather, scatter) are checked in every run.
 */
#include "check.h"

#include <string.h>

const uint8_t ad_dtype_size[AD_F64 + 1] = {0, 1, 1, 4, 8, 4, 8};

static ad_status refuse_at(ad_error *error, uint32_t step, uint32_t line, int64_t which, const char *message) {
    *error = (ad_error){.status = AD_ERROR_PLAN, .step = step, .line = line, .detail = {which}, .message = message};
    return AD_ERROR_PLAN;
}

ad_status ad_refuse(const ad_checker *at, int64_t which, const char *message) {
    return refuse_at(at->error, (uint32_t)(at->step - at->plan->steps), at->step->line, which, message);
}

static bool is_floating(uint32_t dtype) { return dtype == AD_F32 || dtype == AD_F64; }

/* Whether distinct indices are sure to be distinct elements: each stride is longer than all shorter ones together
 * reach.  Dimensions [skip, skip_end) are left out. */
static bool is_injective(const int64_t *shape, const int64_t *strides, uint32_t rank, uint32_t skip,
                         uint32_t skip_end) {
    for (uint32_t d = 0; d < rank; d++) {
        if (shape[d] <= 1 || (d >= skip && d < skip_end)) continue;
        int64_t stride = strides[d] < 0 ? -strides[d] : strides[d], reach = 0;
        for (uint32_t e = 0; e < rank; e++) {
            if (e == d || shape[e] <= 1 || (e >= skip && e < skip_end)) continue;
            int64_t other = strides[e] < 0 ? -strides[e] : strides[e];
            if (other < stride || (other == stride && e > d)) reach += other * (shape[e] - 1);
        }
        if (stride <= reach) return false;
    }
    return true;
}

/* How many indices along a dimension an operand finds in memory. */
static int64_t extent_of(const ad_checker *at, const ad_operand *operand, uint32_t d) {
    const int64_t *window = at->plan->dims + operand->window;
    return operand->windowed ? window[2 * d + 1] - window[2 * d] : at->shape[d];
}

ad_status ad_check_operand(const ad_checker *at, uint32_t i, bool writes, uint32_t still, uint32_t still_end) {
    const ad_operand *operand = &at->operands[i];
    const ad_buffer *buffer = &at->plan->buffers[operand->buffer];
    const int64_t *strides = at->plan->dims + operand->strides;
    uint32_t rank = at->step->rank;
    REQUIRE(!writes || buffer->kind == AD_OUTPUT || buffer->kind == AD_ARENA, i,
            "an operand writes to a constant or an input");

    int64_t size = ad_dtype_size[operand->dtype], low = operand->offset, high = operand->offset;
    bool touches = true;
    for (uint32_t d = 0; d < rank; d++) {
        if (d >= still && d < still_end) {
            REQUIRE(at->shape[d] <= 1 || strides[d] == 0, i, "an operand moves along a dimension it has no part in");
            continue;
        }
        int64_t extent = extent_of(at, operand, d), reach;
        if (extent == 0) touches = false;
        if (extent <= 1) continue;
        REQUIRE(!MUL_OVERFLOWS(strides[d], extent - 1, &reach), i, "an operand's strides overflow");
        REQUIRE(!ADD_OVERFLOWS(reach < 0 ? low : high, reach, reach < 0 ? &low : &high), i,
                "an operand's strides overflow");
    }
    int64_t elements = (int64_t)(buffer->size / (uint64_t)size);
    REQUIRE(operand->offset >= 0 && operand->offset <= elements, i, "an operand begins outside its buffer");
    if (!touches) return AD_OK;
    REQUIRE(low >= 0, i, "an operand reaches before its buffer");
    REQUIRE(high < elements, i, "an operand reaches past its buffer");
    REQUIRE(!writes || is_injective(at->shape, strides, rank, still, still_end), i,
            "an operand writes an element twice");
    return AD_OK;
}

/* The step has exactly `n` operands, and they are READ but for the last, WRITE. */
static ad_status check_roles(const ad_checker *at, uint32_t n) {
    REQUIRE(at->step->n_operands == n, n, "a step has the wrong number of operands");
    for (uint32_t i = 0; i < n; i++)
        REQUIRE(at->operands[i].role == (i + 1 < n ? AD_READ : AD_WRITE), i, "an operand's role does not fit its step");
    return AD_OK;
}

/* The operand lies C-contiguous over the dimensions in `order` (outermost first) and has no part in the others, which
 * are [still, still_end). */
static ad_status check_contiguous(const ad_checker *at, uint32_t i, const uint32_t *order, uint32_t n, uint32_t still,
                                  uint32_t still_end) {
    const int64_t *strides = at->plan->dims + at->operands[i].strides;
    int64_t expected[AD_MAX_RANK] = {0}, stride = 1;
    for (uint32_t k = n; k-- > 0;) {
        expected[order[k]] = stride;
        REQUIRE(!MUL_OVERFLOWS(stride, at->shape[order[k]], &stride), i, "a step's sizes overflow");
    }
    for (uint32_t d = 0; d < at->step->rank; d++)
        REQUIRE(at->shape[d] <= 1 || strides[d] == expected[d], i, "an operand that has to be contiguous is not");
    return ad_check_operand(at, i, at->operands[i].role == AD_WRITE, still, still_end);
}

static ad_status check_gemm(const ad_checker *at) {
    uint32_t rank = at->step->rank, m = rank - 3, n = rank - 2, k = rank - 1;
    REQUIRE(rank >= 3, 0, "a product needs the dimensions m, n and k");
    CHECK(check_roles(at, 3));
    const ad_operand *a = &at->operands[0], *b = &at->operands[1], *c = &at->operands[2];
    REQUIRE(is_floating(a->dtype) && a->dtype == b->dtype && a->dtype == c->dtype, 0,
            "a product's dtypes are not one floating dtype");
    REQUIRE(!(at->shape[k] >> 56), 0, "a product's sums are too long"); /* the scratch of all terms has a size */
    CHECK(ad_check_operand(at, 0, false, n, n + 1));
    CHECK(ad_check_operand(at, 1, false, m, m + 1));
    CHECK(ad_check_operand(at, 2, true, k, k + 1));
    const int64_t *strides = at->plan->dims + c->strides;
    REQUIRE(strides[n] == 1 || strides[m] == 1 || at->shape[n] <= 1 || at->shape[m] <= 1, 2,
            "a product's rows and columns are both spread");
    return AD_OK;
}

static ad_status check_copy(const ad_checker *at) {
    CHECK(check_roles(at, 2));
    REQUIRE(at->operands[0].dtype == at->operands[1].dtype, 0, "a copy's dtypes differ");
    CHECK(ad_check_operand(at, 0, false, at->step->rank, at->step->rank));
    return ad_check_operand(at, 1, true, at->step->rank, at->step->rank);
}

static ad_status check_gather_scatter(const ad_checker *at) {
    const ad_step *step = at->step;
    REQUIRE(step->rank >= 3, 0, "gather and scatter need the dimensions n, row and one more at least");
    uint32_t n_indices = step->rank - 2, before = step->kind == AD_SCATTER_SET ? 2 : 1;
    CHECK(check_roles(at, before + n_indices + 1));

    uint32_t rows[2] = {0, 1}, table[AD_MAX_RANK];
    for (uint32_t k = 0; k < n_indices; k++) table[k] = 2 + k;
    table[n_indices] = 1;
    uint32_t n_table = n_indices + 1, last = step->n_operands - 1;
    for (uint32_t i = 0; i <= last; i++) {
        bool is_index = i >= before && i < last;
        bool is_table = step->kind == AD_GATHER ? i == 0 : i == last || (step->kind == AD_SCATTER_SET && i == 0);
        uint32_t dtype = is_index ? (uint32_t)AD_I64 : at->operands[last].dtype;
        REQUIRE(at->operands[i].dtype == dtype, i,
                is_index ? "an index is not of int64" : "a gather's or scatter's dtypes differ");
        if (is_index)
            CHECK(check_contiguous(at, i, rows, 1, 1, step->rank));
        else if (is_table)
            CHECK(check_contiguous(at, i, table, n_table, 0, 1));
        else
            CHECK(check_contiguous(at, i, rows, 2, 2, step->rank));
    }
    REQUIRE(step->kind != AD_SCATTER_ADD || at->operands[last].dtype != AD_BOOL, last, "a scatter adds bools");
    return AD_OK;
}

static ad_status check_arg_reduce(const ad_checker *at) {
    const ad_step *step = at->step;
    uint32_t reduced = step->n_outer, reduced_end = step->n_outer + step->n_reduced;
    CHECK(check_roles(at, 2));
    REQUIRE(at->operands[1].dtype == AD_I64, 1, "a position is not of int64");
    REQUIRE(step->detail == AD_MAX || step->detail == AD_MIN, 0, "a position is neither a maximum's nor a minimum's");
    REQUIRE(!is_empty(at->shape + reduced, step->n_reduced), 0, "a position is sought in nothing");
    CHECK(ad_check_operand(at, 0, false, step->rank, step->rank));
    return ad_check_operand(at, 1, true, reduced, reduced_end);
}

static ad_status check_iota(const ad_checker *at) {
    REQUIRE(at->step->rank == 1, 0, "an iota has one dimension");
    CHECK(check_roles(at, 1));
    return ad_check_operand(at, 0, true, 1, 1);
}

static ad_status check_host(const ad_checker *at) {
    REQUIRE(at->step->detail < at->plan->header->n_hosts, 0, "a host function does not exist");
    REQUIRE(at->step->rank == at->step->n_operands, 0, "a host step's shape has not one dimension an operand");
    for (uint32_t i = 0; i < at->step->n_operands; i++) {
        const ad_operand *operand = &at->operands[i];
        const ad_buffer *buffer = &at->plan->buffers[operand->buffer];
        REQUIRE(operand->role == AD_READ || operand->role == AD_WRITE, i, "an operand's role does not fit its step");
        REQUIRE(operand->role == AD_READ || buffer->kind == AD_OUTPUT || buffer->kind == AD_ARENA, i,
                "an operand writes to a constant or an input");
        int64_t elements = (int64_t)(buffer->size / ad_dtype_size[operand->dtype]);
        REQUIRE(operand->offset >= 0 && operand->offset <= elements, i, "an operand begins outside its buffer");
        REQUIRE(at->shape[i] <= elements - operand->offset, i, "an operand reaches past its buffer");
    }
    return AD_OK;
}

/* An operand's window lies in the plan and within the step's shape. */
static ad_status check_window(const ad_checker *at, uint32_t i) {
    const ad_operand *operand = &at->operands[i];
    uint64_t n_dims = at->plan->header->dims.count, n = 2 * (uint64_t)at->step->rank;
    REQUIRE(operand->windowed <= 1, i, "an operand's window is neither there nor not");
    if (!operand->windowed) {
        REQUIRE(operand->window == 0, i, "reserved bytes are not zero");
        return AD_OK;
    }
    REQUIRE(at->step->kind == AD_MAP && operand->role == AD_READ, i, "only what a map reads has a window");
    REQUIRE(operand->window <= n_dims && n <= n_dims - operand->window, i, "an operand's window lies outside the plan");
    for (uint32_t d = 0; d < at->step->rank; d++) {
        const int64_t *limits = at->plan->dims + operand->window + 2 * d;
        REQUIRE(0 <= limits[0] && limits[0] <= limits[1] && limits[1] <= at->shape[d], i,
                "an operand's window lies outside its step's shape");
    }
    return AD_OK;
}

static ad_status check_step(ad_checker *at) {
    const ad_step *step = at->step;
    const ad_plan_header *header = at->plan->header;
    const uint64_t n_dims = header->dims.count;
    bool is_host = step->kind == AD_HOST;
    bool is_program = step->kind == AD_MAP || step->kind == AD_ROWS || step->kind == AD_SCALARS;
    REQUIRE(step->kind >= AD_MAP && step->kind <= AD_SCALARS, 0, "a step's kind is unknown");
    REQUIRE(step->rank <= AD_MAX_RANK || is_host, 0, "a step has too many dimensions");
    REQUIRE(step->shape <= n_dims && step->rank <= n_dims - step->shape, 0, "a step's shape lies outside the plan");
    REQUIRE(step->n_operands <= header->operands.count && step->operand <= header->operands.count - step->n_operands,
            0, "a step's operands lie outside the plan");
    REQUIRE(step->n_instrs <= header->instrs.count && step->instr <= header->instrs.count - step->n_instrs, 0,
            "a step's instrs lie outside the plan");
    REQUIRE(step->n_instrs == 0 || is_program, 0, "only programs have instrs");
    REQUIRE(!is_program || step->lane == 1 || step->lane == 4 || step->lane == 8, 0,
            "a step's lanes are not 1, 4 or 8 bytes wide");
    REQUIRE(step->n_outer <= step->rank && step->n_reduced <= step->rank - step->n_outer, 0,
            "a step reduces dimensions it does not have");
    REQUIRE(step->reserved == 0, 0, "reserved bytes are not zero");

    at->shape = at->plan->dims + step->shape;
    at->operands = at->plan->operands + step->operand;
    int64_t elements = 1;
    for (uint32_t d = 0; d < step->rank; d++) {
        REQUIRE(at->shape[d] >= 0, 0, "a size is negative");
        int64_t size = at->shape[d] ? at->shape[d] : 1; /* the rest counts also where there is nothing to run */
        REQUIRE(is_host || !MUL_OVERFLOWS(elements, size, &elements), 0, "a step's sizes overflow");
    }
    for (uint32_t i = 0; i < step->n_operands; i++) {
        const ad_operand *operand = &at->operands[i];
        REQUIRE(operand->buffer < header->buffers.count, i, "an operand's buffer does not exist");
        REQUIRE(is_dtype(operand->dtype), i, "an operand's dtype is unknown");
        REQUIRE(is_host || (operand->strides <= n_dims && step->rank <= n_dims - operand->strides), i,
                "an operand's strides lie outside the plan");
        if (is_program)
            CHECK(ad_check_register(at, i));
        else
            REQUIRE(operand->reg == 0 && operand->reg_dtype == operand->dtype, i, "only programs have registers");
        CHECK(check_window(at, i));
    }
    switch (step->kind) {
    case AD_MAP: return ad_check_map(at);
    case AD_ROWS: return ad_check_rows(at);
    case AD_GEMM: return check_gemm(at);
    case AD_COPY: return check_copy(at);
    case AD_GATHER:
    case AD_SCATTER_ADD:
    case AD_SCATTER_SET: return check_gather_scatter(at);
    case AD_ARG_REDUCE: return check_arg_reduce(at);
    case AD_IOTA: return check_iota(at);
    case AD_SCALARS: return ad_check_scalars(at);
    default: return check_host(at);
    }
}

static const char *buffer_fault(const ad_plan_header *header, const ad_buffer *buffer) {
    uint64_t room;
    if (buffer->size >> 62) return "a buffer is too large";
    switch (buffer->kind) {
    case AD_INPUT:
        if (buffer->index >= header->n_inputs) return "a buffer's input does not exist";
        return buffer->offset ? "an input's buffer has an offset" : NULL;
    case AD_OUTPUT:
        if (buffer->index >= header->n_outputs) return "a buffer's output does not exist";
        return buffer->offset ? "an output's buffer has an offset" : NULL;
    case AD_CONSTANT: room = header->constants.count; break;
    case AD_ARENA: room = header->arena_size; break;
    default: return "a buffer's kind is unknown";
    }
    if (buffer->offset % AD_VECTOR_MAX) return "a buffer is not aligned";
    if (buffer->offset > room || buffer->size > room - buffer->offset) return "a buffer reaches past where it lies";
    return NULL;
}

static const char *header_fault(const ad_plan_header *header, uint64_t size) {
    static const char magic[8] = {'A', 'U', 'T', 'O', 'D', 'I', 'F', 'F'};
    if (memcmp(&header->magic, magic, sizeof magic)) return "these bytes are no plan";
    if (header->version != AD_PLAN_VERSION) return "the plan is of another version";
    if (header->header_size != sizeof *header || header->total_size != size) return "the plan is cut short or damaged";
    if (header->reserved) return "reserved bytes are not zero";
    if (header->arena_size >> 62) return "the arena is too large";
    const struct {
        ad_span span;
        uint64_t size, alignment;
    } spans[] = {
        {header->buffers, sizeof(ad_buffer), 8}, {header->steps, sizeof(ad_step), 8},
        {header->operands, sizeof(ad_operand), 8}, {header->instrs, sizeof(ad_instr), 8},
        {header->dims, sizeof(int64_t), 8}, {header->lines, sizeof(ad_line), 8},
        {header->strings, 1, 8}, {header->constants, 1, AD_VECTOR_MAX},
    };
    for (size_t i = 0; i < sizeof spans / sizeof *spans; i++) {
        ad_span span = spans[i].span;
        if (span.offset > size || span.count > (size - span.offset) / spans[i].size)
            return "an array reaches past the plan";
        if (span.offset % spans[i].alignment) return "an array is not aligned";
        if (span.count > UINT32_MAX && spans[i].size > 8) return "the plan has too many parts";
    }
    return NULL;
}

static const char *text_fault(const ad_plan *plan) {
    const ad_plan_header *header = plan->header;
    const unsigned char *strings = plan->bytes + header->strings.offset;
    const ad_line *lines = (const ad_line *)(plan->bytes + header->lines.offset);
    if (header->strings.count == 0 || header->lines.count == 0) return "the plan has no strings or no lines";
    if (strings[header->strings.count - 1] != 0) return "the last string has no end";
    for (uint64_t i = 0; i < header->lines.count; i++)
        if (lines[i].file >= header->strings.count) return "a file's name lies outside the plan";
    for (uint64_t i = 0; i < header->steps.count; i++) {
        if (plan->steps[i].name >= header->strings.count) return "a step's name lies outside the plan";
        if (plan->steps[i].line >= header->lines.count) return "a step's line lies outside the plan";
    }
    for (uint64_t i = 0; i < header->instrs.count; i++)
        if (plan->instrs[i].line >= header->lines.count) return "an instr's line lies outside the plan";
    return NULL;
}

ad_status ad_plan_check(ad_plan *plan, uint64_t size, ad_error *error) {
    if (size < sizeof(ad_plan_header)) return refuse_at(error, 0, 0, 0, "the plan is cut short or damaged");
    const ad_plan_header *header = (const ad_plan_header *)plan->bytes;
    const char *fault = header_fault(header, size);
    if (fault) return refuse_at(error, 0, 0, 0, fault);
    *plan = (ad_plan){
        .bytes = plan->bytes,
        .header = header,
        .buffers = (const ad_buffer *)(plan->bytes + header->buffers.offset),
        .steps = (const ad_step *)(plan->bytes + header->steps.offset),
        .operands = (const ad_operand *)(plan->bytes + header->operands.offset),
        .instrs = (const ad_instr *)(plan->bytes + header->instrs.offset),
        .dims = (const int64_t *)(plan->bytes + header->dims.offset),
        .constants = plan->bytes + header->constants.offset,
    };
    fault = text_fault(plan);
    if (fault) return refuse_at(error, 0, 0, 0, fault);
    for (uint64_t i = 0; i < header->buffers.count; i++) {
        fault = buffer_fault(header, &plan->buffers[i]);
        if (fault) return refuse_at(error, 0, 0, (int64_t)i, fault);
    }
    /* No part of a plan belongs to two steps, so that what is prepared grows no faster than the plan. */
    uint64_t operand = 0, instr = 0;
    for (uint64_t i = 0; i < header->steps.count; i++) {
        ad_checker at = {.plan = plan, .step = &plan->steps[i], .error = error};
        ad_status status = check_step(&at);
        if (status != AD_OK) return status;
        operand += at.step->n_operands;
        instr += at.step->n_instrs;
        if (operand > header->operands.count || instr > header->instrs.count)
            return ad_refuse(&at, 0, "steps share operands or instrs");
    }
    return AD_OK;
}

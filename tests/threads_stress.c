/* Several threads run a plan at once on one pool while its size changes.  Built with -fsanitize=thread: see .ci/run. */
#include "kernels.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Built for the plainest instruction set alone, which says as much about threads. */
const ad_kernels ad_kernels_avx2 = {.name = "avx2"}, ad_kernels_avx512 = {.name = "avx512"};

enum { ROWS = 1200, COLUMNS = 40, N = ROWS * COLUMNS, SIDE = 160, RUNNERS = 4, RUNS = 12 };

/* --- a plan: squares, their sum, sums of rows and of columns; a product --- */

enum { SQUARES, TOTAL, BY_ROW, BY_COLUMN, PRODUCT, N_OUTPUTS };
static const uint64_t sizes[N_OUTPUTS] = {N, 1, ROWS, COLUMNS, SIDE * SIDE};

typedef struct plan {
    ad_plan_header header;
    ad_buffer buffers[1 + N_OUTPUTS];
    ad_step steps[4];
    ad_operand operands[12];
    ad_instr instrs[1];
    int64_t dims[64];
    ad_line lines[1];
    char strings[8];
    _Alignas(64) char constants[64];
} plan;

static plan made;
static uint32_t n_steps, n_operands, n_dims;

static uint64_t dims(uint32_t n, const int64_t *values) {
    memcpy(made.dims + n_dims, values, n * sizeof *values);
    n_dims += n;
    return n_dims - n;
}

static ad_step *step(uint32_t kind, uint32_t rank, const int64_t *shape, uint32_t lane) {
    ad_step *step = &made.steps[n_steps++];
    *step = (ad_step){.kind = kind, .rank = rank, .shape = dims(rank, shape), .operand = n_operands, .lane = lane};
    return step;
}

static void operand(ad_step *step, uint32_t role, uint32_t buffer, uint32_t reg, const int64_t *strides) {
    made.operands[n_operands++] = (ad_operand){.role = role, .buffer = buffer, .dtype = AD_F64, .reg_dtype = AD_F64,
                                               .reg = reg, .strides = dims(step->rank, strides)};
    step->n_operands++;
}

#define OF(...) ((const int64_t[]){__VA_ARGS__})

static void make_plan(void) {
    made.buffers[0] = (ad_buffer){.kind = AD_INPUT, .size = N * 8};
    for (uint32_t i = 0; i < N_OUTPUTS; i++)
        made.buffers[1 + i] = (ad_buffer){.kind = AD_OUTPUT, .index = i, .size = sizes[i] * 8};
    made.instrs[0] = (ad_instr){.opcode = AD_OPCODE_mul, .dtype = AD_F64, .dst = 1};
    ad_step *s = step(AD_MAP, 1, OF(N), 8);
    s->n_instrs = 1, s->n_registers = 2, s->n_reduced = 1;
    operand(s, AD_READ, 0, 0, OF(1));
    operand(s, AD_WRITE, 1 + SQUARES, 1, OF(1));
    operand(s, AD_SUM, 1 + TOTAL, 1, OF(0));
    s = step(AD_MAP, 2, OF(ROWS, COLUMNS), 8);
    s->n_registers = 1, s->n_outer = 1, s->n_reduced = 1;
    operand(s, AD_READ, 1 + SQUARES, 0, OF(COLUMNS, 1));
    operand(s, AD_SUM, 1 + BY_ROW, 0, OF(1, 0));
    s = step(AD_MAP, 2, OF(ROWS, COLUMNS), 8);
    s->n_registers = 1, s->n_reduced = 1;
    operand(s, AD_READ, 1 + SQUARES, 0, OF(COLUMNS, 1));
    operand(s, AD_SUM, 1 + BY_COLUMN, 0, OF(0, 1));
    s = step(AD_GEMM, 3, OF(SIDE, SIDE, SIDE), 0);
    operand(s, AD_READ, 0, 0, OF(SIDE, 0, 1));
    operand(s, AD_READ, 1 + SQUARES, 0, OF(0, 1, SIDE));
    operand(s, AD_WRITE, 1 + PRODUCT, 0, OF(SIDE, 1, 0));
#define SPAN(part) {offsetof(plan, part), sizeof made.part / sizeof *made.part}
    made.header = (ad_plan_header){.version = AD_PLAN_VERSION, .header_size = sizeof(ad_plan_header),
                                   .total_size = sizeof made, .n_inputs = 1, .n_outputs = N_OUTPUTS,
                                   .buffers = SPAN(buffers), .steps = SPAN(steps), .operands = SPAN(operands),
                                   .instrs = SPAN(instrs), .dims = SPAN(dims), .lines = SPAN(lines),
                                   .strings = SPAN(strings), .constants = SPAN(constants)};
    memcpy(&made.header.magic, "AUTODIFF", 8);
    made.header.operands.count = n_operands;
}

/* --- runs --- */

static ad_prepared *prepared;
static ad_pool *pool;
static double input[N];
static double *wanted[N_OUTPUTS];
static _Atomic int failures, running = RUNNERS;

static void run(double *const *outputs, ad_pool *with) {
    const void *inputs[] = {input};
    const uint64_t size = ad_plan_workspace(prepared);
    void *workspace = aligned_alloc(64, (size + 63) / 64 * 64);
    ad_error error;
    ad_run run = {.size = sizeof run, .inputs = inputs, .outputs = (void *const *)outputs, .workspace = workspace,
                  .workspace_size = size, .pool = with, .error = &error};
    if (ad_plan_run(prepared, &run) != AD_OK) {
        fprintf(stderr, "%s\n", error.message);
        failures++;
    }
    free(workspace);
}

static void *runner(void *unused) {
    double *outputs[N_OUTPUTS];
    for (int i = 0; i < N_OUTPUTS; i++) outputs[i] = malloc(sizes[i] * 8);
    for (int k = 0; k < RUNS; k++) {
        for (int i = 0; i < N_OUTPUTS; i++) memset(outputs[i], 0, sizes[i] * 8);
        run(outputs, pool);
        for (int i = 0; i < N_OUTPUTS; i++) failures += memcmp(outputs[i], wanted[i], sizes[i] * 8) != 0;
    }
    for (int i = 0; i < N_OUTPUTS; i++) free(outputs[i]);
    running--;
    return unused;
}

int main(void) {
    ad_error error;
    make_plan();
    ad_pieces_select(1, 16);
    if (ad_plan_load(&made, sizeof made, &prepared, &error) != AD_OK) {
        fprintf(stderr, "%s (step %u, part %ld)\n", error.message, error.step, (long)error.detail[0]);
        return 1;
    }
    for (int i = 0; i < N; i++) input[i] = (double)(i * 7919 % 1009) / 1009;
    for (int i = 0; i < N_OUTPUTS; i++) wanted[i] = malloc(sizes[i] * 8);
    run(wanted, NULL);
    for (int round = 0; round < 2; round++) {
        pthread_t threads[RUNNERS];
        pool = ad_pool_create(3);
        running = RUNNERS;
        for (int i = 0; i < RUNNERS; i++) pthread_create(&threads[i], NULL, runner, NULL);
        for (uint32_t n = 0; running; n++) ad_pool_resize(pool, 1 + n / 64 % 6);
        for (int i = 0; i < RUNNERS; i++) pthread_join(threads[i], NULL);
        ad_pool_free(pool);
    }
    const unsigned long shared = ad_plan_shared(prepared);
    ad_plan_free(prepared);
    for (int i = 0; i < N_OUTPUTS; i++) free(wanted[i]);
    printf("%d wrong results of %d; %lu of %u steps shared\n", failures, 2 * RUNNERS * RUNS * N_OUTPUTS, shared, n_steps);
    return failures || shared != n_steps;
}

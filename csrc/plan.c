/* Loading and running plans. */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */
#include "kernels.h"
#include "parallel.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const int64_t POLL_NS = 20000000;
static const int64_t PATIENCE = 1 << 19; /* elements times operations: well under a millisecond */

static ad_status load(ad_prepared *prepared, const void *bytes, uint64_t size, ad_error *error) {
    void *copy; /* aligned as the constants want it, whatever the caller's bytes are */
    if (size > SIZE_MAX || posix_memalign(&copy, AD_VECTOR_MAX, size ? (size_t)size : 1)) return AD_ERROR_MEMORY;
    if (size) memcpy(copy, bytes, (size_t)size);
    prepared->plan.bytes = copy;
    ad_status status = ad_plan_check(&prepared->plan, size, error);
    return status == AD_OK ? ad_prepare(prepared) : status;
}

ad_status ad_plan_load(const void *bytes, uint64_t size, ad_prepared **prepared, ad_error *error) {
    ad_error ignored;
    if (!error) error = &ignored;
    memset(error, 0, sizeof *error);
    *prepared = NULL;
    ad_prepared *made = calloc(1, sizeof *made);
    ad_status status = AD_ERROR_MEMORY;
    if (made) {
        made->kernels = ad_kernels_selected();
        status = load(made, bytes, size, error);
    }
    if (status == AD_OK) {
        *prepared = made;
        return AD_OK;
    }
    ad_plan_free(made);
    error->status = status;
    if (!error->message) error->message = ad_status_message(status);
    return status;
}

void ad_plan_free(ad_prepared *prepared) {
    if (!prepared) return;
    for (uint64_t i = 0; i < prepared->n_tasks; i++) free(prepared->tasks[i].scalars);
    free(prepared->memory);
    free((void *)prepared->plan.bytes);
    free(prepared);
}

static uint64_t arena_bytes(const ad_prepared *prepared) {
    return (prepared->plan.header->arena_size + AD_VECTOR_MAX - 1) / AD_VECTOR_MAX * AD_VECTOR_MAX;
}

uint64_t ad_plan_workspace(const ad_prepared *prepared) { return arena_bytes(prepared) + prepared->scratch; }

uint64_t ad_plan_work(const ad_prepared *prepared) { return prepared->work; }

uint64_t ad_plan_shared(const ad_prepared *prepared) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < prepared->plan.header->steps.count; i++) n += prepared->tasks[i].cut.n > 0;
    return n;
}

uint64_t ad_plan_ops(const ad_prepared *prepared) {
    uint64_t n = 0;
    for (uint64_t i = 0; i < prepared->plan.header->steps.count; i++) n += prepared->tasks[i].n_ops;
    return n;
}

const char *ad_plan_isa(const ad_prepared *prepared) { return prepared->kernels->name; }

bool ad_poll(ad_frame *frame) {
    frame->patience = PATIENCE;
    if (frame->failed && atomic_load_explicit(frame->failed, memory_order_relaxed) < frame->piece) return true;
    if (!frame->run->poll || frame->helps) return false;
    int64_t time = ad_now();
    if (time < frame->deadline) return false;
    bool stop = frame->run->poll(frame->run->context) != 0;
    frame->deadline = ad_now() + POLL_NS;
    return stop;
}

ad_status ad_fail(ad_frame *frame, ad_status status, uint32_t line, int64_t detail0, int64_t detail1) {
    frame->error.line = line;
    frame->error.detail[0] = detail0;
    frame->error.detail[1] = detail1;
    return status;
}

static const char *argument_fault(const ad_prepared *prepared, const ad_run *run) {
    const ad_plan_header *header = prepared->plan.header;
    uint64_t workspace = ad_plan_workspace(prepared);
    if (run->workspace_size < workspace) return "the workspace is too small";
    if (workspace && !run->workspace) return "the workspace is missing";
    if (workspace && (uintptr_t)run->workspace % AD_VECTOR_MAX) return "the workspace is not aligned to 64 bytes";
    if (header->n_inputs && !run->inputs) return "the inputs are missing";
    if (header->n_outputs && !run->outputs) return "the outputs are missing";
    if (header->n_hosts && !run->host) return "the host callback is missing";
    for (uint64_t i = 0; i < header->buffers.count; i++) {
        const ad_buffer *buffer = &prepared->plan.buffers[i];
        if (!buffer->size) continue;
        if (buffer->kind == AD_INPUT && !run->inputs[buffer->index]) return "an input is missing";
        if (buffer->kind == AD_OUTPUT && !run->outputs[buffer->index]) return "an output is missing";
    }
    return NULL;
}

/* The places of a product's operands and its indices in the batch, that of number `at`. */
static void first_product(const ad_task *task, const ad_frame *frame, int64_t at, char *places[3], int64_t *index) {
    for (int i = 0; i < 3; i++) places[i] = ad_address(frame, &task->args[i]);
    for (uint32_t d = task->rank - 3; d-- > 0; at /= task->shape[d]) {
        index[d] = at % task->shape[d];
        for (int i = 0; i < 3; i++) places[i] += index[d] * task->args[i].strides[d] * task->args[i].size;
    }
}

/* From one product of a batch to the next: the places of its operands and its indices. */
static void next_product(const ad_task *task, char *places[3], int64_t *index) {
    for (uint32_t d = task->rank - 3; d-- > 0; index[d] = 0) {
        const bool wraps = ++index[d] == task->shape[d];
        for (int i = 0; i < 3; i++) {
            const ad_arg *arg = &task->args[i];
            places[i] += (wraps ? 1 - task->shape[d] : 1) * arg->strides[d] * arg->size;
        }
        if (!wraps) return;
    }
}

ad_status ad_run_gemm(const ad_task *task, ad_frame *frame) {
    const ad_arg *args = task->args;
    uint32_t m = task->rank - 3, n = task->rank - 2, k = task->rank - 1;
    ad_gemm gemm = {
        .m = task->shape[m], .n = task->shape[n], .k = task->shape[k],
        .a_m = args[0].strides[m], .a_k = args[0].strides[k],
        .b_k = args[1].strides[k], .b_n = args[1].strides[n],
        .c_m = args[2].strides[m], .scratch = frame->scratch,
    };
    if (task->by_column)
        gemm = (ad_gemm){
            .m = gemm.n, .n = gemm.m, .k = gemm.k, .a_m = gemm.b_n, .a_k = gemm.b_k,
            .b_k = gemm.a_k, .b_n = gemm.a_m, .c_m = args[2].strides[n], .scratch = frame->scratch,
        };
    if (gemm.m == 0 || gemm.n == 0 || task->size == 0) return AD_OK;
    if (gemm.k == 1) gemm.a_k = gemm.b_k = 0; /* no step is taken, so the strides may have been anything */
    int64_t *cut = task->cut.dim == 0 ? &gemm.m : &gemm.n;
    const ad_part all = {.to = task->size, .high = *cut}, *part = frame->part ? frame->part : &all;
    const int64_t size = args[0].size, from_m = cut == &gemm.m ? part->low : 0, from_n = part->low - from_m;
    *cut = part->high - part->low;
    char *places[3];
    int64_t index[AD_MAX_RANK];
    void (*product)(const ad_gemm *) = frame->kernels->gemm[args[0].dtype == AD_F64];
    first_product(task, frame, part->from, places, index);
    for (int64_t i = part->from; i < part->to; i++) {
        gemm.a = places[task->by_column ? 1 : 0] + from_m * gemm.a_m * size;
        gemm.b = places[task->by_column ? 0 : 1] + from_n * gemm.b_n * size;
        gemm.c = places[2] + (from_m * gemm.c_m + from_n) * size;
        product(&gemm);
        if (ad_tick(frame, gemm.m * gemm.n * (gemm.k ? gemm.k : 1))) return AD_INTERRUPTED;
        if (i + 1 < part->to) next_product(task, places, index);
    }
    return AD_OK;
}

ad_status ad_run_host(const ad_task *task, ad_frame *frame) {
    const ad_run *run = frame->run;
    void **inputs = (void **)frame->scratch, **outputs = inputs;
    for (uint32_t i = 0; i < task->n_args; i++)
        if (task->args[i].role == AD_READ) *outputs++ = ad_address(frame, &task->args[i]);
    void **output = outputs;
    for (uint32_t i = 0; i < task->n_args; i++)
        if (task->args[i].role == AD_WRITE) *output++ = ad_address(frame, &task->args[i]);
    uint32_t function = task->step->detail;
    if (run->host(run->context, function, (const void *const *)inputs, outputs) == 0) return AD_OK;
    return ad_fail(frame, AD_ERROR_HOST, task->step->line, function, 0);
}

static ad_status run_tasks(const ad_prepared *prepared, ad_frame *frame) {
    const ad_plan *plan = frame->plan;
    for (uint64_t i = 0; i < plan->header->steps.count; i++) {
        const ad_task *task = &prepared->tasks[i];
        frame->error.step = (uint32_t)i;
        frame->error.line = task->step->line;
        ad_status status = ad_tick(frame, 64) ? AD_INTERRUPTED : task->run(task, frame);
        if (status != AD_OK) return status;
    }
    return AD_OK;
}

ad_status ad_plan_run(const ad_prepared *prepared, const ad_run *run) {
    if (!prepared || !run || run->size < sizeof *run) return AD_ERROR_ARGUMENT;
    ad_frame frame = {.run = run, .plan = &prepared->plan, .kernels = prepared->kernels, .patience = PATIENCE};
    ad_status status = AD_OK;
    frame.error.message = argument_fault(prepared, run);
    if (frame.error.message) {
        status = AD_ERROR_ARGUMENT;
    } else if (run->max_work && prepared->work > run->max_work) {
        status = AD_ERROR_WORK;
    } else {
        frame.scratch = run->workspace ? (char *)run->workspace + arena_bytes(prepared) : NULL;
        if (run->poll) frame.deadline = ad_now() + POLL_NS;
        status = run_tasks(prepared, &frame);
        if (frame.entered) ad_pool_leave(run->pool, frame.entry);
    }
    if (run->error) {
        frame.error.status = status;
        if (!frame.error.message) frame.error.message = ad_status_message(status);
        *run->error = frame.error;
    }
    return status;
}

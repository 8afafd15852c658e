/* A product of matrices, as every instruction set's gemm_T takes it. */
#ifndef AD_GEMM_H
#define AD_GEMM_H

#include <stdint.h>

/* c[m, n] = sum over k of a[m, k] * b[k, n].  Strides in elements; c's columns are next to each other, a and b may have
 * any strides. */
typedef struct ad_gemm {
    int64_t m, n, k;
    const void *a, *b;
    void *c;
    int64_t a_m, a_k, b_k, b_n, c_m;
    void *scratch; /* 64-byte aligned, gemm_scratch(m, n, k, itemsize) bytes */
} ad_gemm;

#endif

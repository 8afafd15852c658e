/* The kernels for AVX-512: F, DQ, BW and VL. */
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif

#include "simd_avx512.h"

#include "kernels.inc"

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int ad_no_avx512_here; /* C wants a declaration in every file */
#endif

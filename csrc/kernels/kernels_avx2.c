/* The kernels for AVX2 and FMA. */
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "simd_avx2.h"

#include "kernels.inc"

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int ad_no_avx2_here; /* C wants a declaration in every file */
#endif

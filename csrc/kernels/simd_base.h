/* Vectors of 16 bytes in plain C: for every machine.  There is no x86 here, only what the compiler makes of the vector
 * extensions.  Where the target has a fused multiply-add (aarch64) fma_T is that; where it has none (SSE2) fma_T is a
 * product and a sum, each rounded, so products of many terms differ in the last bits from those of the fused sets. */
#ifndef AD_SIMD_ISA_H
#define AD_SIMD_ISA_H

#define VBYTES 16
#define AD_ISA base
#include "simd.h"

#ifdef __FP_FAST_FMA
#define AD_FUSED 1
AD_INLINE vf64 fma_f64(vf64 a, vf64 b, vf64 c) {
    return (vf64){__builtin_fma(a[0], b[0], c[0]), __builtin_fma(a[1], b[1], c[1])};
}
AD_INLINE vf32 fma_f32(vf32 a, vf32 b, vf32 c) {
    return (vf32){__builtin_fmaf(a[0], b[0], c[0]), __builtin_fmaf(a[1], b[1], c[1]), __builtin_fmaf(a[2], b[2], c[2]),
                  __builtin_fmaf(a[3], b[3], c[3])};
}
#else
#define AD_FUSED 0
AD_INLINE vf64 fma_f64(vf64 a, vf64 b, vf64 c) { return a * b + c; }
AD_INLINE vf32 fma_f32(vf32 a, vf32 b, vf32 c) { return a * b + c; }
#endif

AD_INLINE vf64 sqrt_f64(vf64 a) { return (vf64){__builtin_sqrt(a[0]), __builtin_sqrt(a[1])}; }
AD_INLINE vf32 sqrt_f32(vf32 a) {
    return (vf32){__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}

AD_INLINE vf64 widen_low(vf32 v) { return (vf64){v[0], v[1]}; }
AD_INLINE vf64 widen_high(vf32 v) { return (vf64){v[2], v[3]}; }
AD_INLINE vf32 narrow(vf64 low, vf64 high) {
    return (vf32){(float)low[0], (float)low[1], (float)high[0], (float)high[1]};
}

typedef vi64 km64;
typedef vi32 km32;
#define AD_MASKS(T, width, vector)                                                                                     \
    AD_INLINE km##width lt_##T(vector a, vector b) { return a < b; }                                                   \
    AD_INLINE km##width le_##T(vector a, vector b) { return a <= b; }                                                  \
    AD_INLINE km##width eq_##T(vector a, vector b) { return a == b; }                                                  \
    AD_INLINE km##width ne_##T(vector a, vector b) { return a != b; }                                                  \
    AD_INLINE vector pick_##T(km##width mask, vector a, vector b) { return select_##T(mask, a, b); }
AD_MASKS(f64, 64, vf64)
AD_MASKS(f32, 32, vf32)
#undef AD_MASKS
AD_INLINE vf64 min_f64(vf64 a, vf64 b) { return select_f64(a < b, a, b); }
AD_INLINE vf64 max_f64(vf64 a, vf64 b) { return select_f64(a > b, a, b); }
AD_INLINE vf32 min_f32(vf32 a, vf32 b) { return select_f32(a < b, a, b); }
AD_INLINE vf32 max_f32(vf32 a, vf32 b) { return select_f32(a > b, a, b); }
AD_INLINE km64 negative_f64(vf64 a) { return -(vi64)((vu64)a >> 63); }
AD_INLINE km32 negative_f32(vf32 a) { return (vi32)a >> 31; }
AD_INLINE int all_f64(km64 m) { return (m[0] & m[1]) != 0; }
AD_INLINE int all_f32(km32 m) { return (m[0] & m[1] & m[2] & m[3]) != 0; }

AD_INLINE vf64 scale2_f64(vf64 a, vf64 n) { return scale2_by_factors_f64(a, n); }
AD_INLINE vf32 scale2_f32(vf32 a, vf32 n) { return scale2_by_factors_f32(a, n); }

AD_INLINE vf64 lookup_f64(const double *table, vu64 index) {
    return (vf64){table[index[0] & 15], table[index[1] & 15]};
}
AD_INLINE vf32 lookup_f32(const float *table, vu32 index) {
    return (vf32){table[index[0] & 15], table[index[1] & 15], table[index[2] & 15], table[index[3] & 15]};
}

typedef int part64, part32;
AD_INLINE part64 part_f64(int64_t n) { return (int)n; }
AD_INLINE part32 part_f32(int64_t n) { return (int)n; }
AD_INLINE vf64 load_part_f64(const double *p, part64 part) {
    vf64 v = {0};
    memcpy(&v, p, (size_t)part * 8);
    return v;
}
AD_INLINE vf32 load_part_f32(const float *p, part32 part) {
    vf32 v = {0};
    memcpy(&v, p, (size_t)part * 4);
    return v;
}
AD_INLINE void store_part_f64(double *p, vf64 v, part64 part) { memcpy(p, &v, (size_t)part * 8); }
AD_INLINE void store_part_f32(float *p, vf32 v, part32 part) { memcpy(p, &v, (size_t)part * 4); }

AD_INLINE void stream(void *to, const void *from) { memcpy(to, from, VBYTES); }
AD_INLINE void end_stream(void) {}

#endif

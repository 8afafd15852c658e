/* Vectors of 32 bytes: AVX2 and FMA.  Compile under the target "avx2,fma". */
#ifndef AD_SIMD_ISA_H
#define AD_SIMD_ISA_H

#define VBYTES 32
#define AD_ISA avx2
#include "simd.h"
#include <immintrin.h>

#define AD_FUSED 1
AD_INLINE vf64 fma_f64(vf64 a, vf64 b, vf64 c) { return (vf64)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
AD_INLINE vf32 fma_f32(vf32 a, vf32 b, vf32 c) { return (vf32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
AD_INLINE vf64 sqrt_f64(vf64 a) { return (vf64)_mm256_sqrt_pd((__m256d)a); }
AD_INLINE vf32 sqrt_f32(vf32 a) { return (vf32)_mm256_sqrt_ps((__m256)a); }

AD_INLINE vf64 widen_low(vf32 v) { return (vf64)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v)); }
AD_INLINE vf64 widen_high(vf32 v) { return (vf64)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1)); }
AD_INLINE vf32 narrow(vf64 low, vf64 high) {
    return (vf32)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)high), _mm256_cvtpd_ps((__m256d)low));
}
AD_INLINE vf64 min_f64(vf64 a, vf64 b) { return (vf64)_mm256_min_pd((__m256d)a, (__m256d)b); }
AD_INLINE vf64 max_f64(vf64 a, vf64 b) { return (vf64)_mm256_max_pd((__m256d)a, (__m256d)b); }
AD_INLINE vf32 min_f32(vf32 a, vf32 b) { return (vf32)_mm256_min_ps((__m256)a, (__m256)b); }
AD_INLINE vf32 max_f32(vf32 a, vf32 b) { return (vf32)_mm256_max_ps((__m256)a, (__m256)b); }

typedef vi64 km64;
typedef vi32 km32;
AD_INLINE vf64 pick_f64(km64 mask, vf64 a, vf64 b) {
    return (vf64)_mm256_blendv_pd((__m256d)b, (__m256d)a, (__m256d)mask);
}
AD_INLINE vf32 pick_f32(km32 mask, vf32 a, vf32 b) {
    return (vf32)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
}
#define AD_MASKS(T, width, vector)                                                                                     \
    AD_INLINE km##width lt_##T(vector a, vector b) { return a < b; }                                                   \
    AD_INLINE km##width le_##T(vector a, vector b) { return a <= b; }                                                  \
    AD_INLINE km##width eq_##T(vector a, vector b) { return a == b; }                                                  \
    AD_INLINE km##width ne_##T(vector a, vector b) { return a != b; }
AD_MASKS(f64, 64, vf64)
AD_MASKS(f32, 32, vf32)
#undef AD_MASKS
AD_INLINE km64 negative_f64(vf64 a) { return -(vi64)((vu64)a >> 63); }
AD_INLINE km32 negative_f32(vf32 a) { return (vi32)a >> 31; }
AD_INLINE int all_f64(km64 m) { return _mm256_movemask_pd((__m256d)m) == 0xf; }
AD_INLINE int all_f32(km32 m) { return _mm256_movemask_ps((__m256)m) == 0xff; }

AD_INLINE vf64 scale2_f64(vf64 a, vf64 n) { return scale2_by_factors_f64(a, n); }
AD_INLINE vf32 scale2_f32(vf32 a, vf32 n) { return scale2_by_factors_f32(a, n); }

AD_INLINE vf64 lookup_f64(const double *table, vu64 index) {
    vu64 i = index & 15;
    return (vf64){table[i[0]], table[i[1]], table[i[2]], table[i[3]]};
}
AD_INLINE vf32 lookup_f32(const float *table, vu32 index) {
    return (vf32)_mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(table), (__m256i)index),
                                  _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), (__m256i)index),
                                  (__m256)(index << 28));
}

typedef vi64 part64;
typedef vi32 part32;
AD_INLINE part64 part_f64(int64_t n) { return (vi64){0, 1, 2, 3} < n - (vi64){0}; }
AD_INLINE part32 part_f32(int64_t n) { return (vi32){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)n - (vi32){0}; }
AD_INLINE vf64 load_part_f64(const double *p, part64 part) { return (vf64)_mm256_maskload_pd(p, (__m256i)part); }
AD_INLINE vf32 load_part_f32(const float *p, part32 part) { return (vf32)_mm256_maskload_ps(p, (__m256i)part); }
/* In pieces of halved lengths: a masked store takes a dozen cycles where it is microcode. */
AD_INLINE void store_part_f64(double *p, vf64 v, part64 part) {
    const int n = __builtin_popcount((unsigned)_mm256_movemask_pd((__m256d)part));
    __m128d rest = _mm256_castpd256_pd128((__m256d)v);
    if (n & 4) {
        store_f64(p, v);
        return;
    }
    if (n & 2) {
        _mm_storeu_pd(p, rest);
        rest = _mm256_extractf128_pd((__m256d)v, 1);
        p += 2;
    }
    if (n & 1) _mm_store_sd(p, rest);
}
AD_INLINE void store_part_f32(float *p, vf32 v, part32 part) {
    const int n = __builtin_popcount((unsigned)_mm256_movemask_ps((__m256)part));
    __m128 rest = _mm256_castps256_ps128((__m256)v);
    if (n & 8) {
        store_f32(p, v);
        return;
    }
    if (n & 4) {
        _mm_storeu_ps(p, rest);
        rest = _mm256_extractf128_ps((__m256)v, 1);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi((__m64 *)p, rest);
        rest = _mm_movehl_ps(rest, rest);
        p += 2;
    }
    if (n & 1) _mm_store_ss(p, rest);
}

AD_INLINE void stream(void *to, const void *from) { _mm256_stream_si256(to, _mm256_loadu_si256(from)); }
AD_INLINE void end_stream(void) { _mm_sfence(); }

#endif

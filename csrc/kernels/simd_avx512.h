/* Vectors of 64 bytes: AVX-512 as every server since 2017 has it.  Compile under the target
 * "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma". */
#ifndef AD_SIMD_ISA_H
#define AD_SIMD_ISA_H

#define VBYTES 64
#define AD_ISA avx512
#include "simd.h"
#include <immintrin.h>

#define AD_FUSED 1
AD_INLINE vf64 fma_f64(vf64 a, vf64 b, vf64 c) { return (vf64)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
AD_INLINE vf32 fma_f32(vf32 a, vf32 b, vf32 c) { return (vf32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
AD_INLINE vf64 sqrt_f64(vf64 a) { return (vf64)_mm512_sqrt_pd((__m512d)a); }
AD_INLINE vf32 sqrt_f32(vf32 a) { return (vf32)_mm512_sqrt_ps((__m512)a); }

AD_INLINE vf64 widen_low(vf32 v) { return (vf64)_mm512_cvtps_pd(_mm512_castps512_ps256((__m512)v)); }
AD_INLINE vf64 widen_high(vf32 v) { return (vf64)_mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)v, 1)); }
AD_INLINE vf32 narrow(vf64 low, vf64 high) {
    __m256 halves[2] = {_mm512_cvtpd_ps((__m512d)low), _mm512_cvtpd_ps((__m512d)high)};
    return (vf32)_mm512_insertf32x8(_mm512_castps256_ps512(halves[0]), halves[1], 1);
}
AD_INLINE vf64 min_f64(vf64 a, vf64 b) { return (vf64)_mm512_min_pd((__m512d)a, (__m512d)b); }
AD_INLINE vf64 max_f64(vf64 a, vf64 b) { return (vf64)_mm512_max_pd((__m512d)a, (__m512d)b); }
AD_INLINE vf32 min_f32(vf32 a, vf32 b) { return (vf32)_mm512_min_ps((__m512)a, (__m512)b); }
AD_INLINE vf32 max_f32(vf32 a, vf32 b) { return (vf32)_mm512_max_ps((__m512)a, (__m512)b); }

typedef __mmask8 km64;
typedef __mmask16 km32;
#define AD_MASKS(T, width, vector, raw, suffix)                                                                        \
    AD_INLINE km##width lt_##T(vector a, vector b) {                                                                   \
        return _mm512_cmp_##suffix##_mask((raw)a, (raw)b, _CMP_LT_OQ);                                                 \
    }                                                                                                                  \
    AD_INLINE km##width le_##T(vector a, vector b) {                                                                   \
        return _mm512_cmp_##suffix##_mask((raw)a, (raw)b, _CMP_LE_OQ);                                                 \
    }                                                                                                                  \
    AD_INLINE km##width eq_##T(vector a, vector b) {                                                                   \
        return _mm512_cmp_##suffix##_mask((raw)a, (raw)b, _CMP_EQ_OQ);                                                 \
    }                                                                                                                  \
    AD_INLINE km##width ne_##T(vector a, vector b) {                                                                   \
        return _mm512_cmp_##suffix##_mask((raw)a, (raw)b, _CMP_NEQ_UQ);                                                \
    }                                                                                                                  \
    AD_INLINE vector pick_##T(km##width mask, vector a, vector b) {                                                    \
        return (vector)_mm512_mask_blend_##suffix(mask, (raw)b, (raw)a);                                               \
    }
AD_MASKS(f64, 64, vf64, __m512d, pd)
AD_MASKS(f32, 32, vf32, __m512, ps)
#undef AD_MASKS
AD_INLINE km64 negative_f64(vf64 a) { return _mm512_movepi64_mask((__m512i)a); }
AD_INLINE km32 negative_f32(vf32 a) { return _mm512_movepi32_mask((__m512i)a); }
AD_INLINE int all_f64(km64 m) { return m == 0xff; }
AD_INLINE int all_f32(km32 m) { return m == 0xffff; }

AD_INLINE vf64 scale2_f64(vf64 a, vf64 n) { return (vf64)_mm512_scalef_pd((__m512d)a, (__m512d)n); }
AD_INLINE vf32 scale2_f32(vf32 a, vf32 n) { return (vf32)_mm512_scalef_ps((__m512)a, (__m512)n); }

AD_INLINE vf64 lookup_f64(const double *table, vu64 index) {
    return (vf64)_mm512_permutex2var_pd(_mm512_loadu_pd(table), (__m512i)index, _mm512_loadu_pd(table + 8));
}
AD_INLINE vf32 lookup_f32(const float *table, vu32 index) {
    return (vf32)_mm512_permutexvar_ps((__m512i)index, _mm512_loadu_ps(table));
}

typedef __mmask8 part64;
typedef __mmask16 part32;
AD_INLINE part64 part_f64(int64_t n) { return (__mmask8)((1u << n) - 1); }
AD_INLINE part32 part_f32(int64_t n) { return (__mmask16)((1u << n) - 1); }
AD_INLINE vf64 load_part_f64(const double *p, part64 part) { return (vf64)_mm512_maskz_loadu_pd(part, p); }
AD_INLINE vf32 load_part_f32(const float *p, part32 part) { return (vf32)_mm512_maskz_loadu_ps(part, p); }
AD_INLINE void store_part_f64(double *p, vf64 v, part64 part) { _mm512_mask_storeu_pd(p, part, (__m512d)v); }
AD_INLINE void store_part_f32(float *p, vf32 v, part32 part) { _mm512_mask_storeu_ps(p, part, (__m512)v); }

#define AD_HALVES 1
typedef double half_f64 __attribute__((vector_size(VBYTES / 2)));
typedef float half_f32 __attribute__((vector_size(VBYTES / 2)));
AD_INLINE half_f64 lower_f64(vf64 v) { return (half_f64)_mm512_castpd512_pd256((__m512d)v); }
AD_INLINE half_f32 lower_f32(vf32 v) { return (half_f32)_mm512_castps512_ps256((__m512)v); }
AD_INLINE half_f64 fma_half_f64(half_f64 a, half_f64 b, half_f64 c) {
    return (half_f64)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
AD_INLINE half_f32 fma_half_f32(half_f32 a, half_f32 b, half_f32 c) {
    return (half_f32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
AD_INLINE half_f64 load_half_part_f64(const double *p, part64 part) {
    return (half_f64)_mm256_maskz_loadu_pd((__mmask8)part, p);
}
AD_INLINE half_f32 load_half_part_f32(const float *p, part32 part) {
    return (half_f32)_mm256_maskz_loadu_ps((__mmask8)part, p);
}
AD_INLINE void store_half_part_f64(double *p, half_f64 v, part64 part) {
    _mm256_mask_storeu_pd(p, (__mmask8)part, (__m256d)v);
}
AD_INLINE void store_half_part_f32(float *p, half_f32 v, part32 part) {
    _mm256_mask_storeu_ps(p, (__mmask8)part, (__m256)v);
}

AD_INLINE void stream(void *to, const void *from) { _mm512_stream_si512(to, _mm512_loadu_si512(from)); }
AD_INLINE void end_stream(void) { _mm_sfence(); }

#endif

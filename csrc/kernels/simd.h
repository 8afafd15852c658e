/* What the instruction sets share: vectors of VBYTES bytes in the compilers' vector extensions, and everything those
 * extensions can say alone.  Included by simd_{base,avx2,avx512}.h, which define VBYTES and AD_ISA first and add after
 * it what only their set knows:
 *
 *   fma_T(a, b, c)                a * b + c
 *   AD_FUSED                      1: fma_T rounds once; 0: the set has no such instruction and fma_T rounds twice
 *   sqrt_T                        correctly rounded
 *   km64 km32                     the set's own kind of mask, combined by & | ~; cheaper than vectors of lanes
 *   lt_T le_T eq_T ne_T           comparisons to such masks
 *   negative_T                    such a mask of the lanes whose sign is set
 *   pick_T(mask, a, b)            a where the mask is set, b elsewhere
 *   min_T max_T                   the lesser, the greater; b if either is NaN
 *   all_T                         whether such a mask is set in every lane
 *   widen_low, widen_high         the lower and the upper half of a vf32's lanes as doubles; narrow() rounds them back
 *   scale2_T(a, n)                a * 2^n, rounded once, for whole |n| <= 1100 (150) and normal a
 *   lookup_T(table, index)        of a table of 16 entries those that the lanes' lowest four bits name
 *   part64 part32, part_T(n)      the first n lanes, n <= LANES
 *   load_part_T, store_part_T     touch those lanes alone; the others load as zeros
 *   AD_HALVES                     1: half a vector's arithmetic takes half of the time, and there are, for it alone,
 *   half_T                          half a vector; lower_T(v) is one,
 *   fma_half_T, load_half_part_T, store_half_part_T   of parts of at most half of the lanes
 *   stream(to, from)              copy a vector to an aligned place, past the caches if the set can; after all of them
 *   end_stream()                  comes before whoever else may look there
 *
 * for T in f64, f32.
 */
#ifndef AD_SIMD_H
#define AD_SIMD_H

#include <stdint.h>
#include <string.h>

#define AD_GLUE_(name, isa) name##_##isa
#define AD_GLUE(name, isa) AD_GLUE_(name, isa)
#define AD_K(name) AD_GLUE(name, AD_ISA)
#define AD_TEXT_(x) #x
#define AD_TEXT(x) AD_TEXT_(x)
#define AD_ISA_NAME AD_TEXT(AD_ISA)

#ifdef __clang__
#define AD_UNROLL _Pragma("unroll")
#else
#define AD_UNROLL _Pragma("GCC unroll 16")
#endif
/* Of the tile VM's loops.  Storing a wide vector takes two cycles, which hide the counting; a narrow one takes one. */
#if VBYTES == 64
#define AD_UNROLL_TILE
#elif defined(__clang__)
#define AD_UNROLL_TILE _Pragma("unroll(2)")
#else
#define AD_UNROLL_TILE _Pragma("GCC unroll 2")
#endif
#define AD_INLINE static inline __attribute__((always_inline, unused))
#define AD_RARELY static __attribute__((noinline, cold)) /* for what few vectors need */

#define LANES64 (VBYTES / 8)
#define LANES32 (VBYTES / 4)
#define LANES8 VBYTES

typedef double vf64 __attribute__((vector_size(VBYTES)));
typedef float vf32 __attribute__((vector_size(VBYTES)));
typedef int64_t vi64 __attribute__((vector_size(VBYTES)));
typedef int32_t vi32 __attribute__((vector_size(VBYTES)));
typedef uint64_t vu64 __attribute__((vector_size(VBYTES)));
typedef uint32_t vu32 __attribute__((vector_size(VBYTES)));
typedef uint8_t vu8 __attribute__((vector_size(VBYTES)));

/* AD_SHUFFLE(x, y, mask type, index ...): of the lanes of x, then of y, those that are named. */
#ifdef __clang__
#define AD_SHUFFLE(x, y, mask, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define AD_SHUFFLE(x, y, mask, ...) __builtin_shuffle(x, y, (mask){__VA_ARGS__})
#endif

/* LIST_n(f, w) is f(0, w), f(1, w) ... f(n - 1, w). */
#define LIST_2(f, w) f(0, w), f(1, w)
#define LIST_4(f, w) LIST_2(f, w), f(2, w), f(3, w)
#define LIST_8(f, w) LIST_4(f, w), f(4, w), f(5, w), f(6, w), f(7, w)
#define LIST_16(f, w) LIST_8(f, w), f(8, w), f(9, w), f(10, w), f(11, w), f(12, w), f(13, w), f(14, w), f(15, w)
/* ... for each lane of 64 and of 32 bits. */
#if VBYTES == 64
#define LIST64 LIST_8
#define LIST32 LIST_16
#elif VBYTES == 32
#define LIST64 LIST_4
#define LIST32 LIST_8
#else
#define LIST64 LIST_2
#define LIST32 LIST_4
#endif

/* Loads and stores need no alignment beyond the element's; memcpy of a vector is one instruction. */
#define AD_MEMORY(T, element, vector)                                                                                  \
    AD_INLINE vector load_##T(const element *p) {                                                                      \
        vector v;                                                                                                      \
        memcpy(&v, p, sizeof v);                                                                                       \
        return v;                                                                                                      \
    }                                                                                                                  \
    AD_INLINE void store_##T(element *p, vector v) { memcpy(p, &v, sizeof v); }                                        \
    AD_INLINE vector splat_##T(element x) { return x - (vector){0}; } /* x - 0 is x, also for -0 and NaN */
AD_MEMORY(f64, double, vf64)
AD_MEMORY(f32, float, vf32)
AD_MEMORY(i64, int64_t, vi64)
AD_MEMORY(i32, int32_t, vi32)
AD_MEMORY(u8, uint8_t, vu8)
#undef AD_MEMORY

AD_INLINE vi64 bits_f64(vf64 v) { return (vi64)v; }
AD_INLINE vi32 bits_f32(vf32 v) { return (vi32)v; }

/* Of a mask of lanes: a where it is set, b elsewhere. */
AD_INLINE vf64 select_f64(vi64 mask, vf64 a, vf64 b) { return (vf64)((mask & (vi64)a) | (~mask & (vi64)b)); }
AD_INLINE vf32 select_f32(vi32 mask, vf32 a, vf32 b) { return (vf32)((mask & (vi32)a) | (~mask & (vi32)b)); }

AD_INLINE vf64 abs_f64(vf64 v) { return (vf64)((vi64)v & INT64_MAX); }
AD_INLINE vf32 abs_f32(vf32 v) { return (vf32)((vi32)v & INT32_MAX); }

/* For scale2_T: 2^n as two factors, so that only the last product can round; n lands in the low bits of n + 1.5 * 2^52
 * (2^23). */
AD_INLINE vf64 scale2_by_factors_f64(vf64 a, vf64 n) {
    vu64 biased = (vu64)(n + (0x1.8p52 + 2046)) & 0xfff, first = biased >> 1, second = biased - first;
    return a * (vf64)(first << 52) * (vf64)(second << 52);
}
AD_INLINE vf32 scale2_by_factors_f32(vf32 a, vf32 n) {
    vu32 biased = (vu32)(n + (0x1.8p23f + 254)) & 0x1ff, first = biased >> 1, second = biased - first;
    return a * (vf32)(first << 23) * (vf32)(second << 23);
}

/* The magnitude of one with the sign of the other. */
AD_INLINE vf64 copysign_f64(vf64 magnitude, vf64 sign) {
    return (vf64)(((vi64)magnitude & INT64_MAX) | ((vi64)sign & INT64_MIN));
}
AD_INLINE vf32 copysign_f32(vf32 magnitude, vf32 sign) {
    return (vf32)(((vi32)magnitude & INT32_MAX) | ((vi32)sign & INT32_MIN));
}

#endif

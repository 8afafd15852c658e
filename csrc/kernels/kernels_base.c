/* The kernels in plain C, for every machine. */
#include "simd_base.h"

#include "kernels.inc"

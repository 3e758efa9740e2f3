/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for x86-64-v3 (AVX2, BMI2, and CRC32C in hardware). */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#pragma GCC target("arch=x86-64-v3")
#define EMB_VECTOR_BUILD emb_vector_v3
#define EMB_VECTOR_NAME	 "x86-64-v3"
#include "vector_build.h"
#endif

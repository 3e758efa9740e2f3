/* SPDX-License-Identifier: Apache-2.0 */
/* test_klb_match.c for x86-64-v3 (AVX2). */
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC target("arch=x86-64-v3")
#define TEST_ONLY_IF __builtin_cpu_supports ("avx2")
#endif
#include "test_klb_match.c"

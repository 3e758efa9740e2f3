/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"

extern const emb_vector_t emb_vector_base, emb_vector_v3;

const emb_vector_t *
emb_vector_choose (void)
{
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  __builtin_cpu_init ();
  if (__builtin_cpu_supports ("avx2") && __builtin_cpu_supports ("bmi") && __builtin_cpu_supports ("bmi2")
      && __builtin_cpu_supports ("fma"))
    return &emb_vector_v3;
#endif
  return &emb_vector_base;
}

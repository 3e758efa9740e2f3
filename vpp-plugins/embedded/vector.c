/* SPDX-License-Identifier: Apache-2.0 */
#include "vector.h"

void emb_vector_base (struct fp_worker *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n);
void emb_vector_v3 (struct fp_worker *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n);

const emb_vector_t *
emb_vector_choose (void)
{
  static const emb_vector_t base = { "generic", emb_vector_base };
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  static const emb_vector_t v3 = { "x86-64-v3", emb_vector_v3 };

  __builtin_cpu_init ();
  if (__builtin_cpu_supports ("avx2") && __builtin_cpu_supports ("bmi") && __builtin_cpu_supports ("bmi2")
      && __builtin_cpu_supports ("fma"))
    return &v3;
#endif
  return &base;
}

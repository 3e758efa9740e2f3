/* SPDX-License-Identifier: Apache-2.0 */
/* Included by one source file for each instruction set, which sets the target first: everything the kernels inline is then
 * compiled for it. No include guard: it defines what its includer names EMB_VECTOR_BUILD. */
#include "fastpath/fp_service.h"

void EMB_VECTOR_BUILD (struct fp_worker *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n);

void
EMB_VECTOR_BUILD (struct fp_worker *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n)
{
  fp_service_vector (w, packets, verdicts, n);
}

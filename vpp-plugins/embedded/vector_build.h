/* SPDX-License-Identifier: Apache-2.0 */
/* Included by one source file for each instruction set, which sets the target first: everything the kernels inline is then
 * compiled for it. No include guard: it defines what its includer names EMB_VECTOR_BUILD. */
#include "vector.h"
#include "fastpath/fp_gtpu.h"
#include "fastpath/fp_service.h"

static void
service (fp_worker_t *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n)
{
  fp_service_vector (w, packets, verdicts, n);
}

static void
decap (fp_worker_t *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n)
{
  fp_gtpu_decap_vector (w, packets, verdicts, n);
}

static void
encap (fp_worker_t *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n)
{
  fp_gtpu_encap_vector (w, packets, verdicts, n);
}

static void
encap_frames (fp_worker_t *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n)
{
  fp_gtpu_encap_frame_vector (w, packets, verdicts, n);
}

static uint32_t
ours (fp_worker_t *w, const fp_packet_t *packets, uint32_t n, uint8_t *marks)
{
  uint32_t found = 0;

  for (uint32_t i = 0; i < n; i++)
    found += marks[i] = fp_gtpu_is_ours (w, &packets[i]) != 0;
  return found;
}

static uint32_t
towards_ue (fp_worker_t *w, const fp_packet_t *packets, uint32_t n, uint8_t *marks)
{
  uint32_t found = 0;

  for (uint32_t i = 0; i < n; i++)
    found += marks[i] = fp_gtpu_to_ue (w, &packets[i]) != 0;
  return found;
}

extern const emb_vector_t EMB_VECTOR_BUILD;
const emb_vector_t EMB_VECTOR_BUILD = {
  .name = EMB_VECTOR_NAME,
  .service = service,
  .decap = decap,
  .encap = encap,
  .encap_frames = encap_frames,
  .ours = ours,
  .towards_ue = towards_ue,
};

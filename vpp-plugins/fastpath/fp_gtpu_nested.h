/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U inside a tunnel, addressed to a local endpoint: a host drops it (FP_DROP_GTPU_NESTED), or it would be taken out again, as another
 * tunnel's. */
#ifndef FP_GTPU_NESTED_H
#define FP_GTPU_NESTED_H

#include "fp_gtpu_decap.h"

/* Whether an inner packet out of fp_gtpu_decap_vector is worth a call of fp_gtpu_is_ours. */
FP_ALWAYS_INLINE int
fp_gtpu_may_be_nested (const fp_packet_t *p)
{
  const u8 *h = p->l3;
  u16 port = fp_net16 (FP_GTPU_PORT);

  if (h[0] >> 4 == 4)
    return h[9] == FP_PROTO_UDP &&
	   (h[0] != 0x45 || p->contiguous < 28 || fp_load16 (h + 22) == port || fp_load16 (h + 6) & fp_net16 (0x3fff));
  return h[6] == FP_PROTO_UDP ? p->contiguous < 48 || fp_load16 (h + 42) == port : h[6] != FP_PROTO_TCP;
}

#endif /* FP_GTPU_NESTED_H */

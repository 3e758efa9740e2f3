/* SPDX-License-Identifier: Apache-2.0 */
/* The packet kernels, compiled once for each instruction set; the best one is chosen at start. */
#ifndef EMB_VECTOR_H
#define EMB_VECTOR_H

#include "fastpath/fp_types.h"
#include "fastpath/fp_packet.h"

struct fp_worker;

/* Processes a vector in place and says what becomes of each packet. */
typedef void emb_kernel_t (struct fp_worker *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n);
/* Marks packets of a vector with 1, the others with 0. Returns the number marked. */
typedef uint32_t emb_mark_t (struct fp_worker *w, const fp_packet_t *packets, uint32_t n, uint8_t *marks);

/* One build of the kernels. */
typedef struct
{
  const char *name;
  emb_kernel_t *service, *decap, *encap, *encap_frames;
  emb_mark_t *ours;	  /* GTP-U to a local address, or fragments that may be */
  emb_mark_t *towards_ue; /* to user equipment behind tunnels */
} emb_vector_t;

const emb_vector_t *emb_vector_choose (void);

#endif /* EMB_VECTOR_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* The packet kernels, compiled once for each instruction set; the best one is chosen at start. */
#ifndef EMB_VECTOR_H
#define EMB_VECTOR_H

#include "fastpath/fp_types.h"
#include "fastpath/fp_packet.h"

struct fp_worker;

/* One build of fp_service_vector. */
typedef struct
{
  const char *name;
  void (*service) (struct fp_worker *w, fp_packet_t *packets, fp_verdict_t *verdicts, uint32_t n);
} emb_vector_t;

const emb_vector_t *emb_vector_choose (void);

#endif /* EMB_VECTOR_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the process share. */
#ifndef EMB_ENGINE_H
#define EMB_ENGINE_H

#include "link.h"
#include "options.h"
#include "worker.h"
#include "fastpath/fp_region.h"

typedef struct emb_signalling emb_signalling_t; /* signalling.h */

typedef struct
{
  emb_options_t options;
  fp_capacity_t capacity;
  fp_region_t *region;
  fp_region_report_t report;
  emb_links_t links;
  const emb_vector_t *vector;
  emb_worker_t *workers; /* options.workers of them */
  emb_signalling_t *signalling;
} emb_engine_t;

#endif /* EMB_ENGINE_H */

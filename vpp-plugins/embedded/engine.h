/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the process share. */
#ifndef EMB_ENGINE_H
#define EMB_ENGINE_H

#include "link.h"
#include "options.h"
#include "worker.h"
#include "host/host.h"

typedef struct
{
  host_t host; /* first: it is the engine to the shared code */
  emb_options_t options;
  emb_links_t links;
  const emb_vector_t *vector;
  emb_worker_t *workers; /* options.workers of them */
} emb_engine_t;

/* What only this host does of the shared code's needs (functions.c). */
extern const host_functions_t emb_host_functions;

#endif /* EMB_ENGINE_H */

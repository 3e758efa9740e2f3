/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a vector of packets through the kernels: out of a tunnel, through the Services, into a tunnel, onto the link.
 * A vector costs one branch more than Services alone while no GTP-U endpoint is programmed. */
#ifndef EMB_PIPELINE_H
#define EMB_PIPELINE_H

#include "worker.h"

/* One vector from a port's ring. Returns the number of frames taken. */
uint32_t emb_pipeline_run_port (emb_worker_t *w, uint32_t link);

/* Fragments whose first one has come, or that waited too long. */
void emb_pipeline_run_held (emb_worker_t *w);

/* Sends what the control thread has put into the worker's outbox. */
void emb_pipeline_send_signals (emb_worker_t *w);

/* Memory for the segments of large frames. Returns 0 or a negative errno. */
int emb_pipeline_prepare (emb_worker_t *w);
void emb_pipeline_destroy (emb_worker_t *w);

#endif /* EMB_PIPELINE_H */

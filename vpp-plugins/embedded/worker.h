/* SPDX-License-Identifier: Apache-2.0 */
/* A packet thread: receives from its own socket on each interface, runs the kernels over vectors of packets and sends
 * them back. It shares nothing with other threads but the region, the links' states and its counters. */
#ifndef EMB_WORKER_H
#define EMB_WORKER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "hold.h"
#include "link.h"
#include "options.h"
#include "outbox.h"
#include "port.h"
#include "vector.h"
#include "fastpath/fp_region.h"

typedef struct
{
  uint32_t index;
  const emb_options_t *options;
  const emb_vector_t *vector;
  emb_links_t *links;
  fp_worker_t fp;
  pthread_t thread;
  bool started;
  int wake_fd; /* eventfd: a link changed, or stop */
  _Atomic bool stop;
  _Atomic bool links_changed;
  _Atomic uint64_t open_ports; /* bit i: the port on link i is open */

  emb_port_t ports[EMB_MAX_INTERFACES];
  uint64_t port_states[EMB_MAX_INTERFACES]; /* link states that the ports were opened for */
  emb_hold_t hold;
  struct fp_fragment_holds *holds; /* the kernels' side of it */
  struct fp_gtpu_worker *gtpu;	   /* their GTP-U state */
  uint32_t held;		   /* packets of the vector at hand that are held */
  uint8_t *segments;		   /* where large frames are cut (pipeline.c) */
  emb_outbox_t outbox;

  _Alignas (64) emb_port_counters_t counters[EMB_MAX_INTERFACES];
} emb_worker_t;

/* Prepares the worker's context in the region. Returns 0 or a negative errno. */
int emb_worker_prepare (emb_worker_t *w, fp_region_t *region, uint64_t seed);
/* Starts the thread. Returns 0 or a negative errno. */
int emb_worker_start (emb_worker_t *w);
/* Makes the worker look at the links and at `stop` now. */
void emb_worker_wake (emb_worker_t *w);
/* Makes it look at its outbox now. */
void emb_worker_signal (emb_worker_t *w);
void emb_worker_stop (emb_worker_t *w);

uint64_t emb_now_ns (void);

#endif /* EMB_WORKER_H */

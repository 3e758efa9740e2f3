/* SPDX-License-Identifier: Apache-2.0 */
/* Pool for fragments that the kernels hold back until the first one of their datagram has come. A cookie is the slot's
 * number + 1; 0 stands for a packet that found no slot and is lost if it is to be held. */
#ifndef EMB_HOLD_H
#define EMB_HOLD_H

#include <stdint.h>

#include "port.h"

#define EMB_HOLD_SLOTS 1024
#define EMB_HOLD_BYTES 16384 /* headroom and one fragment; larger links than that are not fragmented for */

typedef struct
{
  uint8_t *memory; /* EMB_HOLD_SLOTS * EMB_HOLD_BYTES, touched only as far as used */
  fp_packet_t packets[EMB_HOLD_SLOTS];
  uint8_t links[EMB_HOLD_SLOTS];
  uint16_t free[EMB_HOLD_SLOTS];
  uint32_t n_free;
} emb_hold_t;

/* Returns 0 or a negative errno. */
int emb_hold_init (emb_hold_t *h);
void emb_hold_destroy (emb_hold_t *h);

/* Cookie that the i-th packet of a vector gets should it be held. */
static inline uint64_t
emb_hold_cookie (const emb_hold_t *h, uint32_t i)
{
  return i < h->n_free ? h->free[h->n_free - 1 - i] + 1u : 0;
}

/* Keeps a copy of a packet under its cookie, taken from the free ones. False: it does not fit. */
int emb_hold_keep (emb_hold_t *h, const fp_packet_t *packet, uint8_t link);
/* After a vector of n: drops from the free list what emb_hold_keep has used of the first n cookies. */
void emb_hold_settle (emb_hold_t *h, uint32_t n);
/* The held packet of a cookie, or NULL. */
fp_packet_t *emb_hold_packet (emb_hold_t *h, uint64_t cookie, uint8_t *link);
void emb_hold_free (emb_hold_t *h, uint64_t cookie);

#endif /* EMB_HOLD_H */

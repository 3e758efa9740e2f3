/* SPDX-License-Identifier: Apache-2.0 */
/* Signalling packets on their way from the control thread to the worker that sends them: Echo Requests, End Markers. One writer, one
 * reader, no lock. */
#ifndef EMB_OUTBOX_H
#define EMB_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "port.h"

#define EMB_OUTBOX_SLOTS 256 /* a power of two */
#define EMB_OUTBOX_BYTES 128 /* of one IP packet */

typedef struct
{
  uint32_t length;
  uint8_t bytes[EMB_HEADROOM + EMB_OUTBOX_BYTES]; /* the packet stands after the headroom */
} emb_outbox_slot_t;

typedef struct
{
  _Alignas (64) _Atomic uint32_t head; /* next to be sent; the worker's */
  _Alignas (64) _Atomic uint32_t tail; /* next to be filled; the control thread's */
  emb_outbox_slot_t slots[EMB_OUTBOX_SLOTS];
} emb_outbox_t;

/* Control thread: room for the next packet, EMB_OUTBOX_BYTES; NULL: full. */
uint8_t *emb_outbox_room (emb_outbox_t *o);
/* Control thread: the packet written there is `length` bytes long and may go. */
void emb_outbox_put (emb_outbox_t *o, uint32_t length);

/* Worker: describes up to `max` packets in place. They stay until emb_outbox_release. */
uint32_t emb_outbox_take (emb_outbox_t *o, fp_packet_t *packets, uint32_t max);
void emb_outbox_release (emb_outbox_t *o, uint32_t n);

#endif /* EMB_OUTBOX_H */

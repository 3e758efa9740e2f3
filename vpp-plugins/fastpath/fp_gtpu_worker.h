/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U's own state of one packet thread: the last tunnel found, the rate limit of answers, received Error Indications for the control thread,
 * outer datagrams being reassembled. The host provides sizeof (fp_gtpu_worker_t) zeroed bytes (touched only as far as used)
 * and sets fp_worker_t.gtpu; without it nothing is cached, queued or reassembled. */
#ifndef FP_GTPU_WORKER_H
#define FP_GTPU_WORKER_H

#include "fp_gtpu_header.h"
#include "fp_handle.h"

#define FP_GTPU_EVENTS		     64 /* a power of two */
#define FP_GTPU_RATE_NS		     1000000ull /* one answer in a millisecond for each worker */
#define FP_GTPU_BURST		     50
#define FP_GTPU_DATAGRAMS	     64 /* being reassembled */
#define FP_GTPU_DATAGRAM_BYTES	     16384 /* UDP header and payload */
#define FP_GTPU_REASSEMBLY_NS	     2000000000ull
#define FP_GTPU_REASSEMBLED_HEADROOM 128
#define FP_GTPU_DATAGRAM_AT	     (FP_GTPU_REASSEMBLED_HEADROOM + FP_IP6_HEADER) /* UDP header in a datagram's room */

/* Where a received packet's tunnel was found last. `valid` says whether there is anything: no key is special. Addresses as they lie in the packet,
 * those of IPv4 in the first half. */
typedef struct
{
  u64 source[2], destination[2]; /* outer */
  u32 teid, vrf;
  u32 slot; /* FP_NONE: no such tunnel */
  u32 generation;
  u8 family;
  u8 valid;
  u8 psc; /* enum fp_gtpu_psc: of that packet */
} fp_gtpu_rx_cache_t;

/* The same for a packet to be sent. */
typedef struct
{
  u64 destination[2]; /* inner */
  u32 vrf;
  u32 generation;
  u8 family;
  u8 valid;
  const void *found; /* valid as long as the generation is */
} fp_gtpu_tx_cache_t;

typedef struct
{
  u64 endpoint; /* id of the one it came to */
  u8 peer[16];	/* GTP-U Peer Address of the Error Indication */
  u32 teid;	/* that the peer does not know: our remote TEID, host order */
  u8 family;
} fp_gtpu_event_t;

enum fp_gtpu_datagram_state
{
  FP_GTPU_DATAGRAM_FREE = 0,
  FP_GTPU_DATAGRAM_OPEN = 1,
  FP_GTPU_DATAGRAM_BAD = 2,	/* given up: what follows is dropped until it expires */
  FP_GTPU_DATAGRAM_DELIVERED = 3, /* with the host, until the next vector */
};

typedef struct
{
  fp_frag_key_t key;
  u64 until_ns;
  u32 size; /* UDP header and payload, by the UDP header */
  u32 have; /* units of eight bytes */
  u64 units[FP_GTPU_DATAGRAM_BYTES / 8 / 64]; /* that have come */
  u8 header[FP_IP6_HEADER];		     /* of the first fragment, without options */
  u8 pad[24];
  u8 room[FP_GTPU_DATAGRAM_AT + FP_GTPU_DATAGRAM_BYTES];
} fp_gtpu_datagram_t;

/* The tunnel of the last frame. */
typedef struct
{
  const void *found; /* its encapsulation record, NULL: none */
  u32 generation, vrf;
  u16 vlan;
  u8 valid;
} fp_gtpu_frame_cache_t;

typedef struct fp_gtpu_worker
{
  fp_gtpu_rx_cache_t rx;
  fp_gtpu_tx_cache_t tx;
  fp_gtpu_frame_cache_t frames;
  u64 answers_full_ns; /* token bucket as one time stamp: when it will be full */
  /* queue to the control thread */
  _Atomic u32 pushed, popped;
  fp_gtpu_event_t event[FP_GTPU_EVENTS];
  /* reassembly */
  u32 open;	 /* slots in use */
  u32 delivered; /* of these */
  u32 tag[FP_GTPU_DATAGRAMS]; /* of the keys, side by side */
  u8 state[FP_GTPU_DATAGRAMS];
  fp_gtpu_datagram_t datagram[FP_GTPU_DATAGRAMS];
} fp_gtpu_worker_t;

/* Whether an Error Indication or a Notification may be sent now. Without state: none. */
FP_INLINE int
fp_gtpu_take_token (fp_worker_t *w)
{
  fp_gtpu_worker_t *g = w->gtpu;
  u64 full;
  if (!g)
    return 0;
  full = g->answers_full_ns < w->now_ns ? w->now_ns : g->answers_full_ns;
  if (full + FP_GTPU_RATE_NS > w->now_ns + FP_GTPU_BURST * FP_GTPU_RATE_NS)
    return 0;
  g->answers_full_ns = full + FP_GTPU_RATE_NS;
  return 1;
}

/* Worker: queue an event; 0 if there is no room. */
FP_INLINE int
fp_gtpu_push_event (fp_gtpu_worker_t *g, const fp_gtpu_event_t *e)
{
  u32 at;
  if (!g)
    return 0;
  at = atomic_load_explicit (&g->pushed, memory_order_relaxed);
  if (at - atomic_load_explicit (&g->popped, memory_order_acquire) == FP_GTPU_EVENTS)
    return 0;
  g->event[at % FP_GTPU_EVENTS] = *e;
  atomic_store_explicit (&g->pushed, at + 1, memory_order_release);
  return 1;
}

/* Control thread: take the oldest event; 0 if there is none. */
FP_INLINE int
fp_gtpu_take_event (fp_gtpu_worker_t *g, fp_gtpu_event_t *e)
{
  u32 at = atomic_load_explicit (&g->popped, memory_order_relaxed);
  if (at == atomic_load_explicit (&g->pushed, memory_order_acquire))
    return 0;
  *e = g->event[at % FP_GTPU_EVENTS];
  atomic_store_explicit (&g->popped, at + 1, memory_order_release);
  return 1;
}

#endif /* FP_GTPU_WORKER_H */

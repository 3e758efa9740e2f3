/* SPDX-License-Identifier: Apache-2.0 */
/* Decapsulation. The quick way takes G-PDUs in whole, unfragmented packets without IP options whose tunnel is known; whatever is unusual
 * goes the slow way, which looks at the packet anew and says exactly what is wrong, answers, takes in, or decapsulates all the same.
 *
 * Every packet counts as GTPU_RX and as one of GTPU_DECAPSULATED, GTPU_NOT_OURS, GTPU_SIGNALLED, GTPU_FRAGMENTS, GTPU_FRAGMENTS_HELD,
 * GTPU_ECHO_ANSWERED, GTPU_SEGMENTED or a drop reason (an answer sent in its place counts the reason and what was sent). */
#ifndef FP_GTPU_DECAP_H
#define FP_GTPU_DECAP_H

#include "fp_gtpu_reassembly.h"
#include "fp_gtpu_signal.h"

#define FP_GTPU_BATCH 32 /* packets in flight between stages */
#define FP_GTPU_AHEAD 4	 /* headers fetched ahead while parsing */

enum fp_gtpu_rx_state
{
  FP_GTPU_RX_SLOW = 0,
  FP_GTPU_RX_FIND = 1, /* its tunnel has to be looked up */
  FP_GTPU_RX_SAME = 2, /* its tunnel is that of the packet before */
};

typedef struct
{
  const fp_gtpu_endpoint_t *endpoint;
  u64 hash;
  u32 teid;
  u32 payload; /* offset of the inner packet from l3 */
  u32 length;  /* its bytes */
  u32 slot;
  u8 state; /* enum fp_gtpu_rx_state */
  u8 six;   /* outer */
  u8 psc;
} fp_gtpu_rx_t;

/* Counted once for a vector. */
typedef struct
{
  u32 decapsulated, psc_dl, psc_ul, cached, prefetched, grouped;
} fp_gtpu_rx_tally_t;

FP_INLINE void
fp_gtpu_dropped (fp_worker_t *w, fp_verdict_t *v, enum fp_drop reason)
{
  *v = (fp_verdict_t){ FP_DROP, (u8) reason, FP_WAY_NONE };
  fp_count_drop (w, reason);
}

/* ---- a known tunnel ---- */

FP_INLINE enum fp_drop
fp_gtpu_inner_ip (const fp_region_t *r, const u8 *inner, u32 length, u32 bound, u32 slot, const fp_tunnel_t *t, u64 shape, u32 *total)
{
  int check = fp_tunnel_flags (shape) & FP_GTPU_INNER_SOURCE_CHECK;
  if (length < FP_IP4_HEADER)
    return FP_DROP_GTPU_PAYLOAD;
  if (bound < FP_IP4_HEADER)
    return FP_DROP_TRUNCATED;
  if (FP_LIKELY (inner[0] >> 4 == 4))
    {
      u32 header = (inner[0] & 15) * 4u;
      *total = fp_net16 (fp_load16 (inner + 2));
      if (header < FP_IP4_HEADER || *total < header || *total > length)
	return FP_DROP_GTPU_PAYLOAD;
      if (inner[8] == 0)
	return FP_DROP_TTL;
      return check && !fp_tunnel_owns (r, slot, t, 0, inner + 12) ? FP_DROP_GTPU_SOURCE : FP_DROP_NONE;
    }
  if (inner[0] >> 4 != 6 || length < FP_IP6_HEADER)
    return FP_DROP_GTPU_PAYLOAD;
  if (bound < FP_IP6_HEADER)
    return FP_DROP_TRUNCATED;
  *total = FP_IP6_HEADER + fp_net16 (fp_load16 (inner + 4));
  if (*total > length)
    return FP_DROP_GTPU_PAYLOAD;
  if (inner[7] == 0)
    return FP_DROP_TTL;
  return check && !fp_tunnel_owns (r, slot, t, 1, inner + 8) ? FP_DROP_GTPU_SOURCE : FP_DROP_NONE;
}

/* Let *p describe the inner packet of `total` bytes at offset `at`. Outer offloads are done with; a partial checksum of the inner packet
 * stays one. */
FP_ALWAYS_INLINE void
fp_gtpu_strip (fp_packet_t *p, u32 at, u32 total)
{
  u32 bound = p->contiguous - at;
  p->l3 += at;
  p->headroom += at;
  p->room -= at;
  p->contiguous = bound < total ? bound : total;
  p->length = total;
  if (FP_UNLIKELY (p->csum == FP_CSUM_PARTIAL && p->csum_start >= at))
    p->csum_start = (u16) (p->csum_start - at);
  else
    p->csum = FP_CSUM_NONE;
  p->gso_type = FP_GSO_NONE;
  p->gso_size = 0;
  p->flags &= (u8) ~FP_PACKET_IP_VALID;
  p->ingress = FP_CLASS_NONE;
}

FP_ALWAYS_INLINE void
fp_gtpu_deliver (fp_worker_t *w, fp_packet_t *p, const fp_gtpu_rx_t *x, u32 slot, fp_verdict_t *v, fp_gtpu_rx_tally_t *tally)
{
  const fp_region_t *r = w->region;
  const fp_tunnel_t *t = fp_tunnel_at (r, slot);
  u64 shape = atomic_load_explicit (&t->shape, memory_order_relaxed);
  fp_tunnel_counters_t *c = fp_tunnel_counters (w, slot);
  enum fp_drop reason = FP_DROP_NONE;
  u32 total = x->length;
  u8 way = FP_WAY_GTPU;

  if (FP_UNLIKELY (!fp_tunnel_remote_is (r, t, x->six, p->l3 + (x->six ? 8 : 12))))
    fp_count (w, FP_C_GTPU_UNEXPECTED_PEER, 1);
  if (FP_LIKELY (fp_tunnel_payload (shape) == FP_GTPU_PAYLOAD_IP))
    reason = fp_gtpu_inner_ip (r, p->l3 + x->payload, x->length, p->contiguous - x->payload, slot, t, shape, &total);
  else if (x->length < 14)
    reason = FP_DROP_GTPU_PAYLOAD;
  else if (p->contiguous - x->payload < 14)
    reason = FP_DROP_TRUNCATED;
  else
    {
      way = FP_WAY_ETHERNET;
      p->vlan = atomic_load_explicit (&t->vlan, memory_order_relaxed);
    }
  if (FP_UNLIKELY (reason != FP_DROP_NONE))
    {
      fp_counter_add (&c->drops, 1);
      fp_gtpu_dropped (w, v, reason);
      return;
    }
  fp_gtpu_strip (p, x->payload, total);
  p->vrf = fp_tunnel_vrf (shape);
  fp_counter_add (&c->rx_packets, 1);
  fp_counter_add (&c->rx_bytes, total);
  tally->decapsulated++;
  tally->psc_dl += x->psc == FP_GTPU_PSC_DL;
  tally->psc_ul += x->psc == FP_GTPU_PSC_UL;
  *v = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, way };
}

/* ---- the slow way ---- */

/* UDP checksum of a whole datagram of `length` bytes at offset `udp`; 1: right. */
FP_INLINE int
fp_gtpu_checksum_right (const u8 *h, int six, u32 udp, u32 length)
{
  fp_sum_t sum = fp_gtpu_sum (h + udp, length) + fp_csum_pseudo (h + (six ? 8 : 12), six ? 32 : 8, FP_PROTO_UDP, length);
  return fp_csum_fold (sum) == 0xffff;
}

FP_INLINE void
fp_gtpu_complained (fp_worker_t *w, fp_packet_t *p, const fp_gtpu_received_t *x, u8 type, enum fp_drop reason, fp_verdict_t *v)
{
  fp_gtpu_dropped (w, v, reason);
  if (fp_gtpu_complain (w, p, x, type))
    v->action = FP_REPLY;
}

/* A message for one of our endpoints, whole and with a right checksum. */
FP_INLINE void
fp_gtpu_message_in (fp_worker_t *w, fp_packet_t *p, fp_gtpu_received_t *x, fp_verdict_t *v, fp_gtpu_rx_tally_t *tally)
{
  enum fp_drop reason = FP_DROP_NONE;
  fp_gtpu_rx_t rx;
  u32 slot;

  if (!(x->m.flags & FP_GTPU_S) && (x->m.type == FP_GTPU_ECHO_REQUEST || x->m.type == FP_GTPU_ECHO_RESPONSE ||
				    x->m.type == FP_GTPU_ERROR_INDICATION || x->m.type == FP_GTPU_NOTIFICATION))
    {
      fp_gtpu_dropped (w, v, FP_DROP_GTPU_SIGNALLING); /* TS 29.281 5.1: these carry a sequence number */
      return;
    }
  switch (x->m.type)
    {
    case FP_GTPU_PDU:
      rx = (fp_gtpu_rx_t){ .payload = x->gtp + x->m.payload, .length = x->m.length, .six = x->six, .psc = x->m.psc };
      slot = fp_tunnel_lookup (w->region, x->endpoint, x->m.teid, fp_tunnel_hash (w->region, x->endpoint, x->m.teid));
      if (slot != FP_NONE)
	fp_gtpu_deliver (w, p, &rx, slot, v, tally);
      else if (x->m.teid)
	fp_gtpu_complained (w, p, x, FP_GTPU_ERROR_INDICATION, FP_DROP_GTPU_TEID, v);
      else
	fp_gtpu_dropped (w, v, FP_DROP_GTPU_TEID);
      return;
    case FP_GTPU_ECHO_REQUEST:
      if (!fp_gtpu_may_answer (p->l3, x->six))
	reason = FP_DROP_GTPU_SIGNALLING;
      else if (!fp_gtpu_echo_answer (p, x))
	reason = FP_DROP_NO_ROOM;
      else
	{
	  fp_count (w, FP_C_GTPU_ECHO_ANSWERED, 1);
	  *v = (fp_verdict_t){ FP_REPLY, FP_DROP_NONE, FP_WAY_NONE };
	  return;
	}
      break;
    case FP_GTPU_ECHO_RESPONSE:
      reason = fp_gtpu_echo_received (w, p, x);
      break;
    case FP_GTPU_ERROR_INDICATION:
      reason = fp_gtpu_error_received (w, p, x);
      break;
    case FP_GTPU_END_MARKER:
      fp_gtpu_end_received (w, x);
      break;
    case FP_GTPU_NOTIFICATION:
      break;
    default:
      reason = FP_DROP_GTPU_MESSAGE;
    }
  if (reason)
    {
      fp_gtpu_dropped (w, v, reason);
      return;
    }
  fp_count (w, FP_C_GTPU_SIGNALLED, 1);
  *v = (fp_verdict_t){ FP_CONSUMED, FP_DROP_NONE, FP_WAY_NONE };
}

FP_INLINE void
fp_gtpu_not_ours (fp_worker_t *w, fp_verdict_t *v)
{
  fp_count (w, FP_C_GTPU_NOT_OURS, 1);
  *v = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_PASS };
}

/* An outer fragment to an endpoint. 1: *p is the whole datagram now, *o describes it; 0: *v says what became of the fragment. */
FP_INLINE int
fp_gtpu_fragment_in (fp_worker_t *w, fp_packet_t *p, fp_parsed_t *o, fp_verdict_t *v)
{
  fp_frag_key_t k;

  if (!w->gtpu || o->fragment_proto != FP_PROTO_UDP ||
      (o->first && (o->kind != FP_KIND_FLOW || fp_load16 (p->l3 + o->l4 + 2) != fp_net16 (FP_GTPU_PORT))))
    {
      fp_gtpu_not_ours (w, v);
      return 0;
    }
  fp_frag_key (&k, p->l3, o, p->vrf);
  switch (fp_gtpu_reassemble (w, p, o, &k))
    {
    case FP_GTPU_PIECE_COMPLETE:
      fp_parse (p, o);
      return 1;
    case FP_GTPU_PIECE_TAKEN:
      fp_count (w, FP_C_GTPU_FRAGMENTS, 1);
      *v = (fp_verdict_t){ FP_CONSUMED, FP_DROP_NONE, FP_WAY_NONE };
      if (o->first)
	fp_fragment_release (w, &k, fp_hash_frag (&w->region->hash, &k));
      break;
    case FP_GTPU_PIECE_BAD:
      fp_gtpu_dropped (w, v, FP_DROP_GTPU_FRAGMENT);
      break;
    case FP_GTPU_PIECE_FULL:
      fp_gtpu_dropped (w, v, FP_DROP_GTPU_REASSEMBLY_FULL);
      break;
    case FP_GTPU_PIECE_UNKNOWN:
      if (fp_frag_find (w, &k).kind)
	fp_gtpu_not_ours (w, v); /* the Service kernel has seen its first one */
      else if (fp_fragment_hold (w, &k, fp_hash_frag (&w->region->hash, &k), p->cookie))
	{
	  fp_count (w, FP_C_GTPU_FRAGMENTS_HELD, 1);
	  *v = (fp_verdict_t){ FP_HOLD, FP_DROP_NONE, FP_WAY_NONE };
	}
      else
	fp_gtpu_dropped (w, v, FP_DROP_FRAGMENT_HOLD_FULL);
      break;
    }
  return 0;
}

/* Any packet: from the outer IP header on. Not inlined: it must not cost the quick way registers. */
__attribute__ ((noinline, unused)) static void
fp_gtpu_rx_slow (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, fp_gtpu_rx_tally_t *tally)
{
  fp_gtpu_received_t x;
  fp_parsed_t o;
  enum fp_drop reason = fp_parse (p, &o);
  u32 length;
  u16 csum;

  if (reason)
    {
      fp_gtpu_dropped (w, v, reason);
      return;
    }
  x.six = o.family == 6;
  x.endpoint = fp_gtpu_endpoint_find (w->region, p->vrf, x.six, p->l3 + (x.six ? 24 : 16));
  if (!x.endpoint)
    {
      fp_gtpu_not_ours (w, v);
      return;
    }
  if ((o.first || o.kind == FP_KIND_LATER) && !fp_gtpu_fragment_in (w, p, &o, v))
    return;
  if (o.kind != FP_KIND_FLOW || o.proto != FP_PROTO_UDP || fp_load16 (p->l3 + o.l4 + 2) != fp_net16 (FP_GTPU_PORT))
    {
      fp_gtpu_not_ours (w, v);
      return;
    }
  if (p->gso_type != FP_GSO_NONE) /* several datagrams in one */
    {
      if (p->gso_type != FP_GSO_UDP_L4 || p->gso_size == 0 || p->contiguous < p->length)
	{
	  fp_gtpu_dropped (w, v, FP_DROP_UNSUPPORTED);
	  return;
	}
      p->fragment_size = 0;
      fp_count (w, FP_C_GTPU_SEGMENTED, 1);
      *v = (fp_verdict_t){ FP_SEGMENT, FP_DROP_NONE, FP_WAY_NONE };
      return;
    }
  length = fp_net16 (fp_load16 (p->l3 + o.l4 + 4)); /* at least 8, not beyond the packet: fp_parse */
  csum = fp_load16 (p->l3 + o.l4 + 6);
  if (csum == 0)
    reason = x.six ? FP_DROP_GTPU_CHECKSUM : FP_DROP_NONE;
  else if (p->csum == FP_CSUM_NONE)
    reason = p->contiguous < o.l4 + length				    ? FP_DROP_TRUNCATED
	     : fp_gtpu_checksum_right (p->l3, x.six, o.l4, length) ? FP_DROP_NONE
								    : FP_DROP_GTPU_CHECKSUM;
  x.gtp = o.l4 + FP_UDP_HEADER;
  x.size = o.length;
  memset (&x.m, 0, sizeof (x.m));
  if (!reason)
    reason = p->contiguous < x.gtp ? FP_DROP_TRUNCATED
				   : fp_gtpu_parse (p->l3 + x.gtp, p->contiguous - x.gtp, length - FP_UDP_HEADER, &x.m);
  if (!reason)
    fp_gtpu_message_in (w, p, &x, v, tally);
  else if (reason == FP_DROP_GTPU_UNKNOWN_EXTENSION)
    fp_gtpu_complained (w, p, &x, FP_GTPU_NOTIFICATION, reason, v);
  else
    fp_gtpu_dropped (w, v, reason);
}

/* ---- stages ---- */

/* 1: the packet is a G-PDU, x is filled but for the tunnel. 0: whatever it is, the slow way finds out. */
FP_ALWAYS_INLINE int
fp_gtpu_rx_parse (const fp_packet_t *p, fp_gtpu_rx_t *x)
{
  const u8 *h = p->l3, *u;
  u32 udp, total, length;
  fp_gtpu_message_t m;
  u16 csum;

  if (FP_UNLIKELY (p->contiguous < FP_IP4_HEADER + FP_UDP_HEADER + FP_GTPU_HEADER || p->gso_type != FP_GSO_NONE))
    return 0;
  if (FP_LIKELY (h[0] == 0x45))
    {
      udp = FP_IP4_HEADER;
      total = fp_net16 (fp_load16 (h + 2));
      x->six = 0;
      if (h[9] != FP_PROTO_UDP || (fp_load16 (h + 6) & fp_net16 (0x3fff)) != 0)
	return 0;
      if (!(p->flags & FP_PACKET_IP_VALID) && FP_UNLIKELY (fp_csum_fold (fp_gtpu_sum20 (h)) != 0xffff))
	return 0;
    }
  else
    {
      udp = FP_IP6_HEADER;
      x->six = 1;
      if (h[0] >> 4 != 6 || p->contiguous < FP_IP6_HEADER + FP_UDP_HEADER + FP_GTPU_HEADER || h[6] != FP_PROTO_UDP)
	return 0;
      total = FP_IP6_HEADER + fp_net16 (fp_load16 (h + 4));
    }
  u = h + udp;
  length = fp_net16 (fp_load16 (u + 4));
  if (FP_UNLIKELY (total > p->length || udp + length > total || length < FP_UDP_HEADER + FP_GTPU_HEADER ||
		   fp_load16 (u + 2) != fp_net16 (FP_GTPU_PORT)))
    return 0;
  csum = fp_load16 (u + 6);
  if (csum ? p->csum == FP_CSUM_NONE : x->six)
    if (!csum || p->contiguous < udp + length || !fp_gtpu_checksum_right (h, x->six, udp, length))
      return 0;
  if (FP_UNLIKELY (fp_gtpu_parse (u + FP_UDP_HEADER, p->contiguous - udp - FP_UDP_HEADER, length - FP_UDP_HEADER, &m) ||
		   m.type != FP_GTPU_PDU))
    return 0;
  x->teid = m.teid;
  x->payload = udp + FP_UDP_HEADER + m.payload;
  x->length = m.length;
  x->psc = m.psc;
  return x->payload <= p->contiguous;
}

FP_ALWAYS_INLINE int
fp_gtpu_rx_is_last (const fp_gtpu_rx_cache_t *last, const fp_packet_t *p, const fp_gtpu_rx_t *x)
{
  const u8 *a = p->l3 + (x->six ? 8 : 12);
  if (!last->valid || last->teid != x->teid || last->vrf != p->vrf || last->family != (x->six ? 6 : 4))
    return 0;
  return x->six ? memcmp (last->addresses, a, 32) == 0 : fp_load64 (last->addresses) == fp_load64 (a);
}

FP_ALWAYS_INLINE void
fp_gtpu_rx_stage_parse (const fp_region_t *r, const fp_packet_t *p, fp_gtpu_rx_t *x, fp_gtpu_rx_cache_t *last, int prefetch, int cache)
{
  x->state = FP_GTPU_RX_SLOW;
  if (FP_UNLIKELY (!fp_gtpu_rx_parse (p, x)))
    return;
  if (cache && fp_gtpu_rx_is_last (last, p, x))
    {
      x->state = FP_GTPU_RX_SAME;
      return;
    }
  x->endpoint = fp_gtpu_endpoint_find (r, p->vrf, x->six, p->l3 + (x->six ? 24 : 16));
  if (FP_UNLIKELY (!x->endpoint))
    return;
  x->state = FP_GTPU_RX_FIND;
  x->hash = fp_tunnel_hash (r, x->endpoint, x->teid);
  if (prefetch)
    fp_tunnel_prefetch_index (r, x->endpoint, x->teid, x->hash);
  if (cache)
    {
      memcpy (last->addresses, p->l3 + (x->six ? 8 : 12), x->six ? 32 : 8);
      last->teid = x->teid;
      last->vrf = p->vrf;
      last->family = x->six ? 6 : 4;
      last->valid = 1;
    }
}

FP_ALWAYS_INLINE void
fp_gtpu_rx_stage_record (const fp_region_t *r, const fp_gtpu_rx_t *x)
{
  if (x->state == FP_GTPU_RX_FIND)
    fp_tunnel_prefetch_record (r, x->endpoint, x->teid, x->hash);
}

/* `slot`: of the packet before. */
FP_ALWAYS_INLINE void
fp_gtpu_rx_stage_find (fp_worker_t *w, fp_gtpu_rx_t *x, u32 *slot, int prefetch, fp_gtpu_rx_tally_t *tally)
{
  if (x->state == FP_GTPU_RX_FIND)
    {
      *slot = fp_tunnel_lookup (w->region, x->endpoint, x->teid, x->hash);
      if (prefetch && *slot != FP_NONE)
	__builtin_prefetch (fp_tunnel_counters (w, *slot), 1, 3);
    }
  tally->cached += x->state == FP_GTPU_RX_SAME;
  x->slot = *slot;
}

FP_ALWAYS_INLINE void
fp_gtpu_rx_stage_deliver (fp_worker_t *w, fp_packet_t *p, const fp_gtpu_rx_t *x, fp_verdict_t *v, fp_gtpu_rx_tally_t *tally)
{
  if (FP_LIKELY (x->state != FP_GTPU_RX_SLOW && x->slot != FP_NONE))
    fp_gtpu_deliver (w, p, x, x->slot, v, tally);
  else
    fp_gtpu_rx_slow (w, p, v, tally);
}

/* One batch; loop (1, 2, 4), prefetch and cache are constants of each instance. With prefetch, each stage runs over the batch, so that cache misses
 * overlap; without, a packet (or `loop` of them side by side) goes through all stages. */
FP_ALWAYS_INLINE void
fp_gtpu_rx_batch (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n, u32 ahead, fp_gtpu_rx_cache_t *last, fp_gtpu_rx_tally_t *tally,
		  const u32 loop, const int prefetch, const int cache)
{
  fp_gtpu_rx_t x[FP_GTPU_BATCH];
  const fp_region_t *r = w->region;
  u32 step = prefetch ? n : loop, grouped = loop > 1 ? n / loop * loop : 0;

  for (u32 from = 0; from < n; from += step)
    {
      u32 to = n - from < step ? n : from + step, whole = prefetch ? grouped : to - from == loop ? to : from, i;
      for (i = from; loop > 1 && i < whole; i += loop)
#pragma GCC unroll 4
	for (u32 k = 0; k < loop; k++)
	  {
	    if (prefetch && i + k + FP_GTPU_AHEAD < n + ahead)
	      FP_PREFETCH (p[i + k + FP_GTPU_AHEAD].l3);
	    fp_gtpu_rx_stage_parse (r, &p[i + k], &x[i + k], last, prefetch, cache);
	  }
      for (; i < to; i++)
	{
	  if (prefetch && i + FP_GTPU_AHEAD < n + ahead)
	    FP_PREFETCH (p[i + FP_GTPU_AHEAD].l3);
	  fp_gtpu_rx_stage_parse (r, &p[i], &x[i], last, prefetch, cache);
	}
      if (prefetch)
	for (i = from; i < to; i++)
	  fp_gtpu_rx_stage_record (r, &x[i]);
      for (i = from; i < to; i++)
	fp_gtpu_rx_stage_find (w, &x[i], &last->slot, prefetch, tally);
      for (i = from; loop > 1 && i < whole; i += loop)
#pragma GCC unroll 4
	for (u32 k = 0; k < loop; k++)
	  fp_gtpu_rx_stage_deliver (w, &p[i + k], &x[i + k], &v[i + k], tally);
      for (; i < to; i++)
	fp_gtpu_rx_stage_deliver (w, &p[i], &x[i], &v[i], tally);
    }
  tally->prefetched += prefetch ? n : 0;
  tally->grouped += grouped;
}

#define FP_GTPU_RX_INSTANCE(loop, prefetch, cache)                                                                               \
  __attribute__ ((noinline, unused)) static void fp_gtpu_rx_##loop##prefetch##cache (                                            \
    fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n, u32 ahead, fp_gtpu_rx_cache_t *last, fp_gtpu_rx_tally_t *tally)      \
  {                                                                                                                              \
    fp_gtpu_rx_batch (w, p, v, n, ahead, last, tally, loop, prefetch, cache);                                                    \
  }

FP_GTPU_RX_INSTANCE (1, 0, 0)
FP_GTPU_RX_INSTANCE (1, 0, 1)
FP_GTPU_RX_INSTANCE (1, 1, 0)
FP_GTPU_RX_INSTANCE (1, 1, 1)
FP_GTPU_RX_INSTANCE (2, 0, 0)
FP_GTPU_RX_INSTANCE (2, 0, 1)
FP_GTPU_RX_INSTANCE (2, 1, 0)
FP_GTPU_RX_INSTANCE (2, 1, 1)
FP_GTPU_RX_INSTANCE (4, 0, 0)
FP_GTPU_RX_INSTANCE (4, 0, 1)
FP_GTPU_RX_INSTANCE (4, 1, 0)
FP_GTPU_RX_INSTANCE (4, 1, 1)

typedef void fp_gtpu_rx_fn_t (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n, u32 ahead, fp_gtpu_rx_cache_t *last,
			      fp_gtpu_rx_tally_t *tally);

/* Width that the loop switch asks for; anything unknown is the widest one below. */
FP_ALWAYS_INLINE u32
fp_gtpu_loop (u64 switches)
{
  u32 loop = switches >> FP_GTPU_LOOP_SHIFT & 0xff;
  return loop >= 4 ? 4 : loop >= 2 ? 2 : 1;
}

FP_INLINE void
fp_gtpu_count_switches (fp_worker_t *w, u32 loop, u32 n, u32 grouped, u32 cached, u32 prefetched)
{
  fp_count (w, FP_C_GTPU_LOOP_SINGLE, n - grouped);
  if (loop > 1)
    fp_count (w, loop == 2 ? FP_C_GTPU_LOOP_DUAL : FP_C_GTPU_LOOP_QUAD, grouped);
  fp_count (w, FP_C_GTPU_CACHE_HITS, cached);
  fp_count (w, FP_C_GTPU_PREFETCHED, prefetched);
}

/* Packets that fp_gtpu_is_ours let through, or any others: what is not ours passes untouched. */
FP_INLINE void
fp_gtpu_decap_vector (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n)
{
  static fp_gtpu_rx_fn_t *const instances[3][2][2] = {
    { { fp_gtpu_rx_100, fp_gtpu_rx_101 }, { fp_gtpu_rx_110, fp_gtpu_rx_111 } },
    { { fp_gtpu_rx_200, fp_gtpu_rx_201 }, { fp_gtpu_rx_210, fp_gtpu_rx_211 } },
    { { fp_gtpu_rx_400, fp_gtpu_rx_401 }, { fp_gtpu_rx_410, fp_gtpu_rx_411 } },
  };
  u64 switches = fp_config (w->region)->gtpu_switches;
  u32 loop = fp_gtpu_loop (switches), generation = fp_tunnel_generation (w->region);
  fp_gtpu_rx_fn_t *run = instances[loop / 2][(switches & FP_GTPU_PREFETCH) != 0][(switches & FP_GTPU_LOOKUP_CACHE) != 0];
  fp_gtpu_rx_tally_t tally = { 0, 0, 0, 0, 0, 0 };
  fp_gtpu_rx_cache_t last = { .valid = 0, .slot = FP_NONE };

  if (w->gtpu)
    {
      fp_gtpu_datagrams_settle (w->gtpu);
      if (switches & FP_GTPU_LOOKUP_CACHE && w->gtpu->rx.valid && w->gtpu->rx.generation == generation)
	last = w->gtpu->rx;
    }
  for (u32 from = 0; from < n; from += FP_GTPU_BATCH)
    {
      u32 count = n - from < FP_GTPU_BATCH ? n - from : FP_GTPU_BATCH;
      run (w, p + from, v + from, count, n - from - count, &last, &tally);
    }
  if (w->gtpu)
    {
      last.generation = generation;
      w->gtpu->rx = last;
    }
  fp_count (w, FP_C_GTPU_RX, n);
  fp_count (w, FP_C_GTPU_DECAPSULATED, tally.decapsulated);
  fp_count (w, FP_C_GTPU_PSC_DL, tally.psc_dl);
  fp_count (w, FP_C_GTPU_PSC_UL, tally.psc_ul);
  fp_gtpu_count_switches (w, loop, n, tally.grouped, tally.cached, tally.prefetched);
}

/* Whether a received packet is for decapsulation: UDP to the GTP-U port of one of our endpoints, or anything to such an address that has to
 * be looked at more closely (a fragment, extension headers). Call it if fp_gtpu_any. */
FP_ALWAYS_INLINE int
fp_gtpu_is_ours (const fp_worker_t *w, const fp_packet_t *p)
{
  const u8 *h = p->l3;
  u32 udp;

  if (p->contiguous < FP_IP4_HEADER + FP_UDP_HEADER)
    return 0;
  if (h[0] >> 4 == 4)
    {
      udp = (h[0] & 15) * 4u;
      if (h[9] != FP_PROTO_UDP || udp < FP_IP4_HEADER || p->contiguous < udp + FP_UDP_HEADER)
	return 0;
      if (!(fp_load16 (h + 6) & fp_net16 (0x3fff)) && fp_load16 (h + udp + 2) != fp_net16 (FP_GTPU_PORT))
	return 0;
      return fp_gtpu_endpoint_find (w->region, p->vrf, 0, h + 16) != NULL;
    }
  if (h[0] >> 4 != 6 || p->contiguous < FP_IP6_HEADER + FP_UDP_HEADER)
    return 0;
  if (h[6] == FP_PROTO_UDP ? fp_load16 (h + FP_IP6_HEADER + 2) != fp_net16 (FP_GTPU_PORT) :
			     h[6] != FP_PROTO_FRAGMENT && h[6] != FP_PROTO_HOP_BY_HOP && h[6] != FP_PROTO_DESTINATION &&
			       h[6] != FP_PROTO_ROUTING)
    return 0;
  return fp_gtpu_endpoint_find (w->region, p->vrf, 1, h + 24) != NULL;
}

#endif /* FP_GTPU_DECAP_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Decapsulation. Usual packets go through the stages of fp_gtpu_rx.h, a batch at a time and several batches at once, each a stage further than the
 * next, so that cache misses overlap with work on other packets. Whatever is unusual goes the general way, in the order of the
 * vector, which looks at the packet anew and says exactly what is wrong, answers, takes in, or decapsulates all the same.
 *
 * Every packet counts as GTPU_RX and as one of GTPU_DECAPSULATED, GTPU_NOT_OURS, GTPU_SIGNALLED, GTPU_FRAGMENTS, GTPU_FRAGMENTS_HELD,
 * GTPU_ECHO_ANSWERED, GTPU_SEGMENTED or a drop reason (an answer sent in its place counts the reason and what was sent). */
#ifndef FP_GTPU_DECAP_H
#define FP_GTPU_DECAP_H

#include "fp_gtpu_reassembly.h"
#include "fp_gtpu_rx.h"
#include "fp_gtpu_signal.h"

#define FP_GTPU_BATCH 32 /* packets that go through a stage together */
#define FP_GTPU_RING  128 /* packets between the first stage and the last: four batches, a power of two */
#define FP_GTPU_AHEAD 4	 /* headers fetched ahead while parsing */

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

enum fp_gtpu_ecn /* RFC 3168 5 */
{
  FP_GTPU_ECN_NOT_ECT = 0,
  FP_GTPU_ECN_ECT1 = 1,
  FP_GTPU_ECN_ECT0 = 2,
  FP_GTPU_ECN_CE = 3,
};

/* What the ECN field of an outer header means for the inner packet (RFC 6040, figure 4). Its header can be read. */
FP_INLINE enum fp_drop
fp_gtpu_ecn_out (fp_worker_t *w, u8 *h, u32 outer)
{
  int six = h[0] >> 4 == 6;
  u32 inner = six ? h[1] >> 4 & 3 : h[1] & 3;
  u16 old = fp_load16 (h);

  if (inner == FP_GTPU_ECN_NOT_ECT)
    return outer == FP_GTPU_ECN_CE ? FP_DROP_GTPU_CONGESTION : FP_DROP_NONE;
  if (outer == FP_GTPU_ECN_CE ? inner == FP_GTPU_ECN_CE : outer != FP_GTPU_ECN_ECT1 || inner != FP_GTPU_ECN_ECT0)
    return FP_DROP_NONE;
  if (six)
    h[1] = (u8) ((h[1] & ~0x30) | outer << 4);
  else
    {
      h[1] = (u8) ((h[1] & ~3) | outer);
      fp_store16 (h + 10, fp_csum_update (fp_load16 (h + 10), fp_csum_replace16 (old, fp_load16 (h))));
    }
  fp_count (w, FP_C_GTPU_ECN_MARKED, outer == FP_GTPU_ECN_CE);
  return FP_DROP_NONE;
}

/* Any packet of a known tunnel. Not inlined: it must not cost the stages registers. */
__attribute__ ((noinline, unused)) static void
fp_gtpu_deliver (fp_worker_t *w, fp_packet_t *p, const fp_gtpu_rx_t *x, u32 slot, fp_verdict_t *v, fp_gtpu_rx_tally_t *tally)
{
  const fp_region_t *r = w->region;
  const fp_tunnel_t *t = fp_tunnel_at (r, slot);
  u64 shape = atomic_load_explicit (&t->shape, memory_order_relaxed);
  fp_tunnel_counters_t *c = fp_tunnel_counters (w, slot);
  u32 total = x->length, ecn = x->six ? p->l3[1] >> 4 & 3 : p->l3[1] & 3;
  u8 *inner = p->l3 + x->payload, way = FP_WAY_GTPU;
  enum fp_drop reason = FP_DROP_NONE;

  if (FP_UNLIKELY (!fp_tunnel_remote_is (r, t, x->six, p->l3 + (x->six ? 8 : 12))))
    fp_count (w, FP_C_GTPU_UNEXPECTED_PEER, 1);
  if (FP_LIKELY (fp_tunnel_payload (shape) == FP_GTPU_PAYLOAD_IP))
    {
      reason = fp_gtpu_inner_ip (r, inner, x->length, p->contiguous - x->payload, slot, t, shape, &total);
      if (FP_LIKELY (!reason) && ecn)
	reason = fp_gtpu_ecn_out (w, inner, ecn);
    }
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

/* ---- the general way ---- */

/* As fp_gtpu_checksum_right, behind any IP header. */
FP_INLINE int
fp_gtpu_checksum_right_at (const u8 *h, int six, u32 udp, u32 length)
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

/* A packet to one of our endpoints that is none of ours goes on. If it is the first fragment of a datagram, those that follow it are let through: for
 * hosts in which no Service kernel takes note of it. */
__attribute__ ((noinline, unused)) static void
fp_gtpu_let_through (fp_worker_t *w, fp_packet_t *p)
{
  const fp_sref_t none = { FP_NONE, 0, 0, 0, { 0, 0 } };
  fp_frag_result_t result;
  fp_frag_key_t k;
  fp_parsed_t o;

  if (fp_parse (p, &o) || !o.first)
    return;
  fp_frag_key (&k, p->l3, &o, p->vrf);
  if (!fp_frag_find (w, &k).kind && fp_frag_insert (w, &k, FP_FRAG_PASS, none, &result) == 0)
    fp_fragment_release (w, &k, fp_hash_frag (&w->region->hash, &k));
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
	     : fp_gtpu_checksum_right_at (p->l3, x.six, o.l4, length) ? FP_DROP_NONE
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

typedef struct
{
  fp_gtpu_rx_t x[FP_GTPU_RING];
  u8 again[FP_GTPU_BATCH]; /* of the batch that was looked up last: whose first bucket had nothing */
  u32 agains;
} fp_gtpu_rx_stages_t;

#define FP_GTPU_RX(s, i) (&(s)->x[(i) % FP_GTPU_RING])

/* loop (1, 2, 4; headers that are taken apart side by side), prefetch and cache are constants of each instance. */
FP_ALWAYS_INLINE void
fp_gtpu_rx_stage_begin (const fp_region_t *r, const fp_gtpu_view_t *v, const fp_packet_t *p, fp_gtpu_rx_stages_t *s, u32 from, u32 to, u32 n,
			fp_gtpu_rx_last_t *known, const u32 loop, const int prefetch, const int cache)
{
  const fp_gtpu_view_t view = *v;
  fp_gtpu_rx_last_t last = *known;
  u32 i = from;
  for (; loop > 1 && to - i >= loop; i += loop)
#pragma GCC unroll 4
    for (u32 k = 0; k < loop; k++)
      {
	if (prefetch && i + k + FP_GTPU_AHEAD < n)
	  FP_PREFETCH (p[i + k + FP_GTPU_AHEAD].l3);
	fp_gtpu_rx_begin (r, &view, &p[i + k], FP_GTPU_RX (s, i + k), &last, prefetch, cache);
      }
  for (; i < to; i++)
    {
      if (prefetch && i + FP_GTPU_AHEAD < n)
	FP_PREFETCH (p[i + FP_GTPU_AHEAD].l3);
      fp_gtpu_rx_begin (r, &view, &p[i], FP_GTPU_RX (s, i), &last, prefetch, cache);
    }
  *known = last;
}

typedef void fp_gtpu_rx_fn_t (const fp_region_t *r, const fp_gtpu_view_t *view, const fp_packet_t *p, fp_gtpu_rx_stages_t *s, u32 from, u32 to,
			      u32 n, fp_gtpu_rx_last_t *last);

#define FP_GTPU_RX_INSTANCE(loop, prefetch, cache)                                                                               \
  __attribute__ ((noinline, unused)) static void fp_gtpu_rx_##loop##prefetch##cache (                                            \
    const fp_region_t *r, const fp_gtpu_view_t *view, const fp_packet_t *p, fp_gtpu_rx_stages_t *s, u32 from, u32 to, u32 n,     \
    fp_gtpu_rx_last_t *last)                                                                                                     \
  {                                                                                                                              \
    fp_gtpu_rx_stage_begin (r, view, p, s, from, to, n, last, loop, prefetch, cache);                                            \
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

__attribute__ ((noinline, unused)) static void
fp_gtpu_rx_stage_look (const fp_gtpu_view_t *v, fp_gtpu_rx_stages_t *s, u32 from, u32 to, int prefetch)
{
  const fp_gtpu_view_t view = *v;
  u32 agains = 0;
  for (u32 i = from; i < to; i++)
    if (FP_GTPU_RX (s, i)->state == FP_GTPU_RX_FIND && FP_UNLIKELY (!fp_tunnel_look (&view, &FP_GTPU_RX (s, i)->seek, prefetch)))
      s->again[agains++] = (u8) (i % FP_GTPU_RING);
  s->agains = agains;
}

FP_INLINE void
fp_gtpu_rx_stage_look_again (const fp_gtpu_view_t *view, fp_gtpu_rx_stages_t *s, int prefetch)
{
  for (u32 k = 0; k < s->agains; k++)
    fp_tunnel_look_again (view, &s->x[s->again[k]].seek, prefetch);
}

/* `found`: slot of the packet before. */
__attribute__ ((noinline, unused)) static void
fp_gtpu_rx_stage_finish (fp_worker_t *w, const fp_gtpu_view_t *in, fp_packet_t *p, fp_verdict_t *v, const fp_gtpu_rx_stages_t *s, u32 from,
			 u32 to, u32 *found, fp_gtpu_rx_tally_t *tally)
{
  const fp_gtpu_view_t view = *in;
  u64 containers = 0; /* packets by enum fp_gtpu_psc, 16 bits each */
  u32 cached = 0, slot = *found;
  fp_gtpu_rx_run_t run = { slot, 0, 0 };
  for (u32 i = from; i < to; i++)
    {
      const fp_gtpu_rx_t *x = FP_GTPU_RX (s, i);
      if (x->state == FP_GTPU_RX_FIND)
	slot = fp_tunnel_settle (&view, &x->seek);
      cached += x->state == FP_GTPU_RX_SAME;
      if (FP_LIKELY (x->state != FP_GTPU_RX_SLOW && slot != FP_NONE))
	{
	  if (FP_LIKELY (fp_gtpu_rx_finish (&view, &p[i], x, slot, &run)))
	    {
	      v[i] = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_GTPU };
	      containers += 1ull << (x->psc * 16);
	    }
	  else
	    fp_gtpu_deliver (w, &p[i], x, slot, &v[i], tally);
	}
      else
	fp_gtpu_rx_slow (w, &p[i], &v[i], tally);
    }
  fp_gtpu_rx_run_end (&view, &run);
  *found = slot;
  tally->cached += cached;
  tally->psc_dl += (u32) (containers >> 16 & 0xffff);
  tally->psc_ul += (u32) (containers >> 32 & 0xffff);
  tally->decapsulated += (u32) ((containers & 0xffff) + (containers >> 16 & 0xffff) + (containers >> 32 & 0xffff));
}

/* With prefetch, each stage runs over a batch while what the others need is on its way; without, a packet (or `loop` of them) goes through all
 * stages. */
FP_INLINE void
fp_gtpu_rx_vector (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n, fp_gtpu_rx_last_t *last, fp_gtpu_rx_tally_t *tally,
		   fp_gtpu_rx_fn_t *begin, u32 loop, int prefetch)
{
  const fp_region_t *r = w->region;
  const u32 b = prefetch ? FP_GTPU_BATCH : loop;
  fp_gtpu_rx_stages_t s;
  fp_gtpu_view_t view;
  u32 slot = last->key.slot;

  fp_gtpu_view (&view, w);
  if (prefetch)
    for (u32 at = 0; at < n + 3 * b; at += b)
      {
	if (at >= 3 * b)
	  fp_gtpu_rx_stage_finish (w, &view, p, v, &s, at - 3 * b, at - 2 * b < n ? at - 2 * b : n, &slot, tally);
	if (at >= 2 * b && at - 2 * b < n)
	  fp_gtpu_rx_stage_look_again (&view, &s, 1);
	if (at >= b && at - b < n)
	  fp_gtpu_rx_stage_look (&view, &s, at - b, at < n ? at : n, 1);
	if (at < n)
	  begin (r, &view, p, &s, at, at + b < n ? at + b : n, n, last);
      }
  else
    for (u32 at = 0; at < n; at += b)
      {
	u32 to = at + b < n ? at + b : n;
	begin (r, &view, p, &s, at, to, n, last);
	fp_gtpu_rx_stage_look (&view, &s, at, to, 0);
	fp_gtpu_rx_stage_look_again (&view, &s, 0);
	fp_gtpu_rx_stage_finish (w, &view, p, v, &s, at, to, &slot, tally);
      }
  last->key.slot = slot;
  tally->prefetched = prefetch ? n : 0;
  tally->grouped = loop > 1 ? n / loop * loop : 0; /* batches are whole multiples */
}

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
  int prefetch = (switches & FP_GTPU_PREFETCH) != 0;
  fp_gtpu_rx_tally_t tally = { 0, 0, 0, 0, 0, 0 };
  fp_gtpu_rx_last_t last = { .key = { .valid = 0, .slot = FP_NONE }, .endpoint = NULL };

  if (w->gtpu)
    {
      fp_gtpu_datagrams_settle (w->gtpu);
      if (switches & FP_GTPU_LOOKUP_CACHE && w->gtpu->rx.valid && w->gtpu->rx.generation == generation)
	last.key = w->gtpu->rx;
    }
  fp_gtpu_rx_vector (w, p, v, n, &last, &tally, instances[loop / 2][prefetch][(switches & FP_GTPU_LOOKUP_CACHE) != 0], loop, prefetch);
  if (w->gtpu)
    {
      last.key.generation = generation;
      w->gtpu->rx = last.key;
    }
  fp_count (w, FP_C_GTPU_RX, n);
  fp_count (w, FP_C_GTPU_DECAPSULATED, tally.decapsulated);
  fp_count (w, FP_C_GTPU_PSC_DL, tally.psc_dl);
  fp_count (w, FP_C_GTPU_PSC_UL, tally.psc_ul);
  fp_gtpu_count_switches (w, loop, n, tally.grouped, tally.cached, tally.prefetched);
}

/* Whether a received packet is for decapsulation: UDP to the GTP-U port of one of our endpoints, or anything to such an address that has to
 * be looked at more closely (a fragment, extension headers). Call it if fp_gtpu_any. Without a branch that depends on what other packets
 * are: their protocols come at random. */
FP_ALWAYS_INLINE int
fp_gtpu_is_ours (const fp_worker_t *w, const fp_packet_t *p)
{
  const u8 *h = p->l3;
  u32 udp, port, closer; /* 0 or 1 */

  if (FP_UNLIKELY (p->contiguous < FP_IP4_HEADER + FP_UDP_HEADER))
    return 0;
  if (FP_LIKELY (h[0] == 0x45))
    {
      udp = h[9] == FP_PROTO_UDP;
      port = fp_load16 (h + FP_IP4_HEADER + 2) == fp_net16 (FP_GTPU_PORT);
      closer = (fp_load16 (h + 6) & fp_net16 (0x3fff)) != 0;
      return FP_UNLIKELY (udp & (port | closer)) && fp_gtpu_endpoint_find (w->region, p->vrf, 0, h + 16) != NULL;
    }
  if (h[0] >> 4 == 4)
    {
      u32 at = (h[0] & 15) * 4u;
      if (h[9] != FP_PROTO_UDP || at < FP_IP4_HEADER || p->contiguous < at + FP_UDP_HEADER)
	return 0;
      if (!(fp_load16 (h + 6) & fp_net16 (0x3fff)) && fp_load16 (h + at + 2) != fp_net16 (FP_GTPU_PORT))
	return 0;
      return fp_gtpu_endpoint_find (w->region, p->vrf, 0, h + 16) != NULL;
    }
  if (FP_UNLIKELY (h[0] >> 4 != 6 || p->contiguous < FP_IP6_HEADER + FP_UDP_HEADER))
    return 0;
  udp = h[6] == FP_PROTO_UDP;
  port = fp_load16 (h + FP_IP6_HEADER + 2) == fp_net16 (FP_GTPU_PORT);
  closer = h[6] == FP_PROTO_FRAGMENT || h[6] == FP_PROTO_HOP_BY_HOP || h[6] == FP_PROTO_DESTINATION || h[6] == FP_PROTO_ROUTING;
  return FP_UNLIKELY ((udp & port) | closer) && fp_gtpu_endpoint_find (w->region, p->vrf, 1, h + 24) != NULL;
}

#endif /* FP_GTPU_DECAP_H */

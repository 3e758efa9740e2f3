/* SPDX-License-Identifier: Apache-2.0 */
/* Encapsulation of IP packets by the address of the user equipment they go to; of Ethernet frames: fp_gtpu_frames.h. As in decapsulation
 * usual packets go through stages (fp_gtpu_tx.h), and everything else the general way.
 *
 * Every packet counts as GTPU_TX and as one of GTPU_ENCAPSULATED, GTPU_TX_PASSED, GTPU_SEGMENTED or a drop reason (an ICMP error sent
 * in its place counts the reason and ICMP_SENT). */
#ifndef FP_GTPU_ENCAP_H
#define FP_GTPU_ENCAP_H

#include "fp_gtpu_decap.h"
#include "fp_gtpu_segment.h"
#include "fp_gtpu_tx.h"
#include "fp_icmp.h"

/* ---- the general way ---- */


FP_INLINE void
fp_gtpu_refused (fp_worker_t *w, fp_packet_t *p, const fp_parsed_t *o, const fp_gtpu_encap_t *e, fp_verdict_t *v, enum fp_drop reason, u32 mtu)
{
  if (e)
    fp_counter_add (&fp_tunnel_counters (w, e->tunnel)->drops, 1);
  fp_gtpu_dropped (w, v, reason);
  if ((reason == FP_DROP_TTL && fp_icmp_reply (w, p, o, FP_ICMP_TIME_EXCEEDED, 0)) ||
      (reason == FP_DROP_TOO_BIG && fp_icmp_reply (w, p, o, FP_ICMP_TOO_BIG, mtu)) ||
      (reason == FP_DROP_GTPU_NO_TUNNEL && fp_icmp_reply (w, p, o, FP_ICMP_HOST_UNREACHABLE, 0)))
    v->action = FP_REPLY;
}

/* Whether the packet goes into a tunnel in one piece of at most `most` bytes: FP_DROP_NONE; *several: as several packets. */
FP_INLINE enum fp_drop
fp_gtpu_fits (const fp_packet_t *p, const fp_parsed_t *o, u32 most, int *several)
{
  int may_cut = o->family == 4 && !(p->l3[6] & 0x40);
  u32 size = o->length, header = (o->family == 4 ? (p->l3[0] & 15) * 4u : FP_IP6_HEADER);

  *several = 0;
  if (p->gso_type != FP_GSO_NONE)
    {
      if (p->gso_type == FP_GSO_UDP || p->gso_size == 0 || o->kind != FP_KIND_FLOW || o->first || p->contiguous < p->length)
	return FP_DROP_UNSUPPORTED;
      header = o->l4 + (o->proto == FP_PROTO_TCP ? (p->l3[o->l4 + 12] >> 4) * 4u : FP_UDP_HEADER);
      size = header + p->gso_size < size ? header + p->gso_size : size;
      *several = 1;
    }
  if (size <= most)
    return FP_DROP_NONE;
  if (!may_cut || most < header + 8)
    return FP_DROP_TOO_BIG;
  *several = 1;
  return p->contiguous < o->length ? FP_DROP_UNSUPPORTED : FP_DROP_NONE;
}

__attribute__ ((noinline, unused)) static void
fp_gtpu_tx_slow (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, fp_gtpu_tx_tally_t *tally)
{
  const fp_gtpu_encap_t *e;
  fp_parsed_t o = { 0 };
  enum fp_drop reason = fp_parse (p, &o);
  int six = o.family == 6, several;
  const u8 *dst = p->l3 + (six ? 24 : 16);
  u32 limit, added, most;
  u64 shape;

  if (reason)
    {
      fp_gtpu_dropped (w, v, reason);
      return;
    }
  e = six ? fp_ue_find (w->region, p->vrf, 1, dst) : fp_ue_find (w->region, p->vrf, 0, dst);
  if (!e)
    {
      if (fp_prefix_class (w->region, six, p->vrf, dst) == FP_CLASS_UE_POOL)
	fp_gtpu_refused (w, p, &o, NULL, v, FP_DROP_GTPU_NO_TUNNEL, 0);
      else
	{
	  fp_count (w, FP_C_GTPU_TX_PASSED, 1);
	  *v = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_PASS };
	}
      return;
    }
  shape = atomic_load_explicit (&e->shape, memory_order_relaxed);
  limit = fp_gtpu_exact_limit (w->region, p, e, shape);
  added = fp_gtpu_overhead (e->family == 6, e->psc);
  most = limit > added ? limit - added : 0;
  if (p->l3[six ? 7 : 8] <= 1 && !(p->flags & FP_PACKET_KEEP_TTL))
    reason = FP_DROP_TTL;
  if (!reason)
    reason = fp_gtpu_fits (p, &o, most, &several);
  if (!reason && several)
    {
      p->fragment_size = (u16) most;
      fp_count (w, FP_C_GTPU_SEGMENTED, 1);
      *v = (fp_verdict_t){ FP_SEGMENT, FP_DROP_NONE, FP_WAY_NONE };
      return;
    }
  if (!reason && p->headroom < added)
    reason = FP_DROP_NO_ROOM;
  if (!reason && !fp_gtpu_complete_checksum (p, o.l4, o.length))
    reason = FP_DROP_MALFORMED;
  if (!reason && !fp_gtpu_put_ip (w->region, p, e, shape, o.length, tally))
    reason = FP_DROP_UNSUPPORTED;
  if (!reason)
    {
      fp_tunnel_counters_t *c = fp_tunnel_counters (w, e->tunnel);
      fp_counter_add (&c->tx_packets, 1);
      fp_counter_add (&c->tx_bytes, o.length);
      tally->encapsulated++;
      *v = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_GTPU };
    }
  else /* RFC 8200 5: no IPv6 link has less than 1280 */
    fp_gtpu_refused (w, p, &o, e, v, reason, six && most < 1280 ? 1280 : most);
}

/* ---- stages ---- */

typedef struct
{
  fp_gtpu_tx_t x[FP_GTPU_RING];
  u8 again[FP_GTPU_BATCH]; /* as in decapsulation */
  u32 agains;
} fp_gtpu_tx_stages_t;

/* As fp_gtpu_rx_stage_begin. */
FP_ALWAYS_INLINE void
fp_gtpu_tx_stage_begin (const fp_region_t *r, const fp_gtpu_view_t *v, const fp_packet_t *p, fp_gtpu_tx_stages_t *s, u32 from, u32 to, u32 n,
			fp_gtpu_tx_last_t *known, const u32 loop, const int prefetch, const int cache)
{
  const fp_gtpu_view_t view = *v;
  fp_gtpu_tx_last_t last = *known;
  u32 i = from;
  for (; loop > 1 && to - i >= loop; i += loop)
#pragma GCC unroll 4
    for (u32 k = 0; k < loop; k++)
      {
	if (prefetch && i + k + FP_GTPU_AHEAD < n)
	  __builtin_prefetch (p[i + k + FP_GTPU_AHEAD].l3, 1, 3);
	fp_gtpu_tx_begin (r, &view, &p[i + k], FP_GTPU_RX (s, i + k), &last, prefetch, cache);
      }
  for (; i < to; i++)
    {
      if (prefetch && i + FP_GTPU_AHEAD < n)
	__builtin_prefetch (p[i + FP_GTPU_AHEAD].l3, 1, 3);
      fp_gtpu_tx_begin (r, &view, &p[i], FP_GTPU_RX (s, i), &last, prefetch, cache);
    }
  *known = last;
}

typedef void fp_gtpu_tx_fn_t (const fp_region_t *r, const fp_gtpu_view_t *view, const fp_packet_t *p, fp_gtpu_tx_stages_t *s, u32 from, u32 to,
			      u32 n, fp_gtpu_tx_last_t *last);

#define FP_GTPU_TX_INSTANCE(loop, prefetch, cache)                                                                               \
  __attribute__ ((noinline, unused)) static void fp_gtpu_tx_##loop##prefetch##cache (                                            \
    const fp_region_t *r, const fp_gtpu_view_t *view, const fp_packet_t *p, fp_gtpu_tx_stages_t *s, u32 from, u32 to, u32 n,     \
    fp_gtpu_tx_last_t *last)                                                                                                     \
  {                                                                                                                              \
    fp_gtpu_tx_stage_begin (r, view, p, s, from, to, n, last, loop, prefetch, cache);                                            \
  }

FP_GTPU_TX_INSTANCE (1, 0, 0)
FP_GTPU_TX_INSTANCE (1, 0, 1)
FP_GTPU_TX_INSTANCE (1, 1, 0)
FP_GTPU_TX_INSTANCE (1, 1, 1)
FP_GTPU_TX_INSTANCE (2, 0, 0)
FP_GTPU_TX_INSTANCE (2, 0, 1)
FP_GTPU_TX_INSTANCE (2, 1, 0)
FP_GTPU_TX_INSTANCE (2, 1, 1)
FP_GTPU_TX_INSTANCE (4, 0, 0)
FP_GTPU_TX_INSTANCE (4, 0, 1)
FP_GTPU_TX_INSTANCE (4, 1, 0)
FP_GTPU_TX_INSTANCE (4, 1, 1)

__attribute__ ((noinline, unused)) static void
fp_gtpu_tx_stage_look (const fp_gtpu_view_t *v, const fp_packet_t *p, fp_gtpu_tx_stages_t *s, u32 from, u32 to, int prefetch)
{
  const fp_gtpu_view_t view = *v;
  u32 agains = 0;
  for (u32 i = from; i < to; i++)
    {
      fp_gtpu_tx_t *x = FP_GTPU_RX (s, i);
      if (prefetch)
	__builtin_prefetch (p[i].l3 - FP_GTPU_MAX_ADDED, 1, 3); /* where the outer headers go */
      if (x->state == FP_GTPU_TX_FIND && FP_UNLIKELY (!fp_ue_look (&view, &x->key, 0, prefetch)))
	s->again[agains++] = (u8) (i % FP_GTPU_RING);
    }
  s->agains = agains;
}

FP_INLINE void
fp_gtpu_tx_stage_look_again (const fp_gtpu_view_t *view, fp_gtpu_tx_stages_t *s, int prefetch)
{
  for (u32 k = 0; k < s->agains; k++)
    fp_ue_look (view, &s->x[s->again[k]].key, 1, prefetch);
}

/* `found`: record of the packet before. Returns how many packets go by the one before's. */
__attribute__ ((noinline, unused)) static u32
fp_gtpu_tx_stage_settle (const fp_region_t *r, const fp_gtpu_view_t *v, fp_gtpu_tx_stages_t *s, u32 from, u32 to, const void **found,
			 int prefetch)
{
  const fp_gtpu_view_t view = *v;
  const fp_gtpu_encap_t *e = *found;
  u32 same = 0;
  for (u32 i = from; i < to; i++)
    {
      fp_gtpu_tx_t *x = FP_GTPU_RX (s, i);
      if (FP_LIKELY (x->state == FP_GTPU_TX_FIND))
	{
	  e = fp_ue_settle (&view, &x->key);
	  if (FP_UNLIKELY (!e))
	    e = fp_ue_lookup (r, &x->key);
	  if (prefetch && FP_LIKELY (e != NULL))
	    FP_PREFETCH (e);
	  x->e = e;
	}
      else
	{
	  x->e = x->state == FP_GTPU_TX_SAME ? e : NULL;
	  same += x->state == FP_GTPU_TX_SAME;
	}
    }
  *found = e;
  return same;
}

FP_INLINE void
fp_gtpu_tx_stage_counters (const fp_gtpu_view_t *view, const fp_gtpu_tx_stages_t *s, u32 from, u32 to)
{
  fp_tunnel_counters_t *counters = view->counters;
  for (u32 i = from; i < to; i++)
    if (FP_GTPU_RX (s, i)->state == FP_GTPU_TX_FIND && FP_LIKELY (FP_GTPU_RX (s, i)->e != NULL))
      __builtin_prefetch (&counters[FP_GTPU_RX (s, i)->e->tunnel], 1, 3);
}

__attribute__ ((noinline, unused)) static void
fp_gtpu_tx_stage_finish (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, const fp_gtpu_tx_stages_t *s, u32 from, u32 to,
			 fp_gtpu_tx_tally_t *tally)
{
  const fp_region_t *r = w->region;
  fp_tunnel_counters_t *counters = r->gtpu->counters[w->worker];
  const u8 *endpoints = r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].records;
  u32 encapsulated = 0;
  for (u32 i = from; i < to; i++)
    {
      const fp_gtpu_tx_t *x = FP_GTPU_RX (s, i);
      if (FP_LIKELY (x->e != NULL) && FP_LIKELY (fp_gtpu_tx_finish (r, endpoints, counters, &p[i], x->total, x->e, tally)))
	{
	  v[i] = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_GTPU };
	  encapsulated++;
	}
      else
	fp_gtpu_tx_slow (w, &p[i], &v[i], tally);
    }
  tally->encapsulated += encapsulated;
}

/* As fp_gtpu_rx_vector. */
FP_INLINE void
fp_gtpu_tx_vector (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n, fp_gtpu_tx_last_t *last, fp_gtpu_tx_tally_t *tally,
		   fp_gtpu_tx_fn_t *begin, u32 loop, int prefetch)
{
  const fp_region_t *r = w->region;
  const u32 b = prefetch ? FP_GTPU_BATCH : loop;
  fp_gtpu_tx_stages_t s;
  fp_gtpu_view_t view;
  const void *found = last->key.found;

  fp_gtpu_view (&view, w);
  if (prefetch)
    for (u32 at = 0; at < n + 3 * b; at += b)
      {
	u32 done = at - 3 * b, end = at - 2 * b < n ? at - 2 * b : n; /* of the batch that comes to its end */
	if (at >= 3 * b)
	  fp_gtpu_tx_stage_counters (&view, &s, done, end);
	if (at >= 2 * b && at - 2 * b < n)
	  {
	    fp_gtpu_tx_stage_look_again (&view, &s, 1);
	    tally->cached += fp_gtpu_tx_stage_settle (r, &view, &s, at - 2 * b, at - b < n ? at - b : n, &found, 1);
	  }
	if (at >= b && at - b < n)
	  fp_gtpu_tx_stage_look (&view, p, &s, at - b, at < n ? at : n, 1);
	if (at < n)
	  begin (r, &view, p, &s, at, at + b < n ? at + b : n, n, last);
	if (at >= 3 * b)
	  fp_gtpu_tx_stage_finish (w, p, v, &s, done, end, tally);
      }
  else
    for (u32 at = 0; at < n; at += b)
      {
	u32 to = at + b < n ? at + b : n;
	begin (r, &view, p, &s, at, to, n, last);
	fp_gtpu_tx_stage_look (&view, p, &s, at, to, 0);
	fp_gtpu_tx_stage_look_again (&view, &s, 0);
	tally->cached += fp_gtpu_tx_stage_settle (r, &view, &s, at, to, &found, 0);
	fp_gtpu_tx_stage_finish (w, p, v, &s, at, to, tally);
      }
  last->key.found = found;
  tally->prefetched = prefetch ? n : 0;
  tally->grouped = loop > 1 ? n / loop * loop : 0;
}

FP_INLINE void
fp_gtpu_tx_count (fp_worker_t *w, u32 n, const fp_gtpu_tx_tally_t *tally)
{
  fp_count (w, FP_C_GTPU_TX, n);
  fp_count (w, FP_C_GTPU_ENCAPSULATED, tally->encapsulated);
  fp_count (w, FP_C_GTPU_CSUM_DERIVED, tally->derived);
  fp_count (w, FP_C_GTPU_CSUM_SUMMED, tally->summed);
}

/* IP packets to user equipment. p->vrf: inner; p->mtu: of the link that outer packets leave by. Packets to others pass untouched. */
FP_INLINE void
fp_gtpu_encap_vector (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n)
{
  static fp_gtpu_tx_fn_t *const instances[3][2][2] = {
    { { fp_gtpu_tx_100, fp_gtpu_tx_101 }, { fp_gtpu_tx_110, fp_gtpu_tx_111 } },
    { { fp_gtpu_tx_200, fp_gtpu_tx_201 }, { fp_gtpu_tx_210, fp_gtpu_tx_211 } },
    { { fp_gtpu_tx_400, fp_gtpu_tx_401 }, { fp_gtpu_tx_410, fp_gtpu_tx_411 } },
  };
  u64 switches = fp_config (w->region)->gtpu_switches;
  u32 loop = fp_gtpu_loop (switches), generation = fp_tunnel_generation (w->region);
  int prefetch = (switches & FP_GTPU_PREFETCH) != 0;
  fp_gtpu_tx_tally_t tally = { 0, 0, 0, 0, 0, 0 };
  fp_gtpu_tx_last_t last = { .key = { .valid = 0 }, .known = { 0, 0 } };

  if (w->gtpu && switches & FP_GTPU_LOOKUP_CACHE && w->gtpu->tx.valid && w->gtpu->tx.generation == generation)
    last.key = w->gtpu->tx;
  fp_gtpu_tx_vector (w, p, v, n, &last, &tally, instances[loop / 2][prefetch][(switches & FP_GTPU_LOOKUP_CACHE) != 0], loop, prefetch);
  if (w->gtpu)
    {
      last.key.generation = generation;
      w->gtpu->tx = last.key;
    }
  fp_gtpu_tx_count (w, n, &tally);
  fp_gtpu_count_switches (w, loop, n, tally.grouped, tally.cached, tally.prefetched);
}

/* Whether a packet goes to an address of a user equipment pool. Call it if fp_gtpu_any. */
FP_INLINE int
fp_gtpu_to_ue (const fp_worker_t *w, const fp_packet_t *p)
{
  const u8 *h = p->l3;
  if (p->contiguous >= FP_IP4_HEADER && h[0] >> 4 == 4)
    return fp_prefix_class (w->region, 0, p->vrf, h + 16) == FP_CLASS_UE_POOL;
  if (p->contiguous >= FP_IP6_HEADER && h[0] >> 4 == 6)
    return fp_prefix_class (w->region, 1, p->vrf, h + 24) == FP_CLASS_UE_POOL;
  return 0;
}

#endif /* FP_GTPU_ENCAP_H */

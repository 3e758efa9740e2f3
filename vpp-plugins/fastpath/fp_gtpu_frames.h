/* SPDX-License-Identifier: Apache-2.0 */
/* Encapsulation of Ethernet frames by their VLAN. Stages as for IP packets (fp_gtpu_encap.h), and the same counters. */
#ifndef FP_GTPU_FRAMES_H
#define FP_GTPU_FRAMES_H

#include "fp_gtpu_encap.h"

FP_INLINE u8
fp_gtpu_frame_tos (const u8 *f, u32 bound, u8 dscp)
{
  u16 type = fp_net16 (fp_load16 (f + 12));
  if (dscp != FP_GTPU_DSCP_INNER)
    return (u8) (dscp << 2);
  if (bound < 16)
    return 0;
  return type == 0x0800 ? f[15] & 0xfc : type == 0x86dd ? (u8) (f[14] << 4 | f[15] >> 4) & 0xfc : 0;
}

/* Any frame. Not inlined: it must not cost the usual way registers. */
__attribute__ ((noinline, unused)) static enum fp_drop
fp_gtpu_put_frame (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, fp_gtpu_tx_tally_t *tally, const fp_gtpu_encap_t *e)
{
  u64 shape = atomic_load_explicit (&e->shape, memory_order_relaxed);
  u32 added = fp_gtpu_overhead (e->family == 6, e->psc), total = p->length, limit = fp_gtpu_exact_limit (w->region, p, e, shape), hash;
  fp_tunnel_counters_t *c = fp_tunnel_counters (w, e->tunnel);

  if (p->contiguous < 14)
    return FP_DROP_TRUNCATED;
  if (p->gso_type != FP_GSO_NONE)
    {
      u16 type = fp_net16 (fp_load16 (p->l3 + 12));
      if (p->gso_type == FP_GSO_UDP || p->gso_size == 0 || p->contiguous < p->length || (type != 0x0800 && type != 0x86dd))
	return FP_DROP_UNSUPPORTED;
      p->fragment_size = 0;
      fp_count (w, FP_C_GTPU_SEGMENTED, 1);
      *v = (fp_verdict_t){ FP_SEGMENT, FP_DROP_NONE, FP_WAY_ETHERNET };
      return FP_DROP_NONE;
    }
  if (total + added > limit)
    return FP_DROP_TOO_BIG;
  if (p->headroom < added)
    return FP_DROP_NO_ROOM;
  if (!fp_gtpu_complete_checksum (p, 14, total))
    return FP_DROP_MALFORMED;
  if (e->family == 6 && p->contiguous < total)
    return FP_DROP_UNSUPPORTED;
  hash = fp_encap_port_span (shape) ? fp_gtpu_frame_hash (p->l3, p->contiguous) : 0;
  tally->summed += e->family == 6;
  fp_gtpu_put_outer (w->region, p, e, shape, total, hash, fp_gtpu_frame_tos (p->l3, p->contiguous, fp_encap_dscp (shape)),
		     e->family == 6 ? fp_gtpu_sum (p->l3, total) : 0);
  fp_counter_add (&c->tx_packets, 1);
  fp_counter_add (&c->tx_bytes, total);
  tally->encapsulated++;
  *v = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_GTPU };
  return FP_DROP_NONE;
}

/* The usual frame: contiguous, nothing left to do to it, into a tunnel over IPv4 that it fits. 0: it is none, nothing has been done. */
FP_ALWAYS_INLINE int
fp_gtpu_put_usual_frame (const u8 *endpoints, fp_tunnel_counters_t *counters, fp_packet_t *p, const fp_gtpu_encap_t *e)
{
  const u64 shape = atomic_load_explicit (&e->shape, memory_order_relaxed);
  const u32 added = fp_gtpu_overhead (0, e->psc), total = p->length, span = fp_encap_port_span (shape);
  const u8 *f = p->l3, dscp = fp_encap_dscp (shape);
  u32 port = FP_GTPU_PORT;
  u8 tos = (u8) (dscp << 2);

  if (FP_UNLIKELY (e->family != 4 || p->contiguous < total || total < 14 + FP_IP4_HEADER || p->gso_type != FP_GSO_NONE ||
		   p->csum == FP_CSUM_PARTIAL || total + added > fp_gtpu_limit (p, shape) || p->headroom < added))
    return 0;
  if (FP_LIKELY (fp_load16 (f + 12) == fp_net16 (0x0800) && f[14] >> 4 == 4))
    {
      if (FP_LIKELY (span))
	port = fp_encap_port_low (shape) + (u32) ((u64) fp_gtpu_flow_hash4 (f + 14, total - 14) * span >> 32);
      if (dscp == FP_GTPU_DSCP_INNER)
	tos = f[15] & 0xfc;
    }
  else
    {
      if (FP_LIKELY (span))
	port = fp_encap_port_low (shape) + (u32) ((u64) fp_gtpu_frame_hash (f, total) * span >> 32);
      tos = fp_gtpu_frame_tos (f, total, dscp);
    }
  fp_gtpu_put_outer4 (endpoints, p, e, total, added, tos, port);
  fp_counter_add (&counters[e->tunnel].tx_packets, 1);
  fp_counter_add (&counters[e->tunnel].tx_bytes, total);
  return 1;
}

/* ---- stages ---- */

typedef struct
{
  fp_ue_key_t key[FP_GTPU_BATCH];
  const fp_gtpu_encap_t *found[FP_GTPU_BATCH];
  u8 same[FP_GTPU_BATCH]; /* tunnel of the frame before */
} fp_gtpu_frame_stages_t;

/* The records of n <= FP_GTPU_BATCH frames into s->found. Returns how many go by the one before's. */
__attribute__ ((noinline, unused)) static u32
fp_gtpu_frames_find (const fp_region_t *r, const fp_gtpu_view_t *view, const fp_packet_t *p, u32 n, fp_gtpu_frame_stages_t *s,
		     fp_gtpu_frame_cache_t *last, int cache, int prefetch)
{
  fp_ue_scope_t scope = { .group = NULL };
  u32 cached = 0, scoped = 0;

  for (u32 i = 0; i < n; i++)
    {
      s->same[i] = cache && last->valid && last->vlan == p[i].vlan && last->vrf == p[i].vrf;
      if (s->same[i])
	continue;
      if (!scoped++ || scope.vrf != p[i].vrf)
	scope = fp_ue_scope (r, p[i].vrf, 0);
      fp_ue_hash_in (&r->hash, &scope, 0, fp_ue_vlan (p[i].vlan), 0, &s->key[i]);
      if (prefetch)
	fp_ue_prefetch_index (view, &s->key[i]);
      last->vrf = p[i].vrf;
      last->vlan = p[i].vlan;
      last->valid = 1;
    }
  for (u32 i = 0; i < n; i++)
    if (!s->same[i] && !fp_ue_look (view, &s->key[i], 0, prefetch))
      fp_ue_look (view, &s->key[i], 1, prefetch);
  for (u32 i = 0; i < n; i++)
    {
      const fp_gtpu_encap_t *e = last->found;
      if (s->same[i] && FP_LIKELY (e != NULL))
	cached++;
      else
	{
	  e = s->same[i] ? NULL : fp_ue_settle (view, &s->key[i]);
	  if (FP_UNLIKELY (!e)) /* that there is none is not remembered */
	    {
	      fp_ue_hash_vlan (r, p[i].vrf, p[i].vlan, &s->key[i]);
	      e = fp_ue_lookup (r, &s->key[i]);
	    }
	  if (prefetch && FP_LIKELY (e != NULL))
	    FP_PREFETCH (e);
	}
      s->found[i] = last->found = e;
    }
  return cached;
}

/* Frames (l3 points to the Ethernet header, without a VLAN tag: p->vlan has it) into the tunnel of their VLAN in p->vrf. FP_SEGMENT: by
 * fp_gtpu_segment_frame. */
FP_INLINE void
fp_gtpu_encap_frame_vector (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n)
{
  const u64 switches = fp_config (w->region)->gtpu_switches;
  const u32 loop = fp_gtpu_loop (switches), generation = fp_tunnel_generation (w->region);
  const int prefetch = (switches & FP_GTPU_PREFETCH) != 0, cache = (switches & FP_GTPU_LOOKUP_CACHE) != 0;
  const u32 batch = prefetch ? FP_GTPU_BATCH : loop;
  fp_gtpu_tx_tally_t tally = { 0, 0, 0, 0, 0, 0 };
  fp_gtpu_frame_cache_t last = { .valid = 0 };
  fp_gtpu_frame_stages_t s;
  fp_gtpu_view_t view;
  fp_tunnel_counters_t *counters = w->region->gtpu->counters[w->worker];
  const u8 *endpoints = w->region->controlled[FP_CONTROLLED_GTPU_ENDPOINT].records;

  if (cache && w->gtpu && w->gtpu->frames.generation == generation)
    last = w->gtpu->frames;
  fp_gtpu_view (&view, w);
  for (u32 at = 0; at < n; at += batch)
    {
      const u32 count = n - at < batch ? n - at : batch;
      if (prefetch)
	for (u32 i = at; i < at + count; i++)
	  __builtin_prefetch (p[i].l3 - FP_GTPU_MAX_ADDED, 1, 3); /* where the outer headers go */
      tally.cached += fp_gtpu_frames_find (w->region, &view, p + at, count, &s, &last, cache, prefetch);
      for (u32 i = 0; i < count; i++)
	{
	  const fp_gtpu_encap_t *e = s.found[i];
	  enum fp_drop reason = FP_DROP_GTPU_NO_TUNNEL;
	  if (FP_LIKELY (e != NULL) && FP_LIKELY (fp_gtpu_put_usual_frame (endpoints, counters, &p[at + i], e)))
	    {
	      v[at + i] = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_GTPU };
	      tally.encapsulated++;
	      continue;
	    }
	  if (e)
	    reason = fp_gtpu_put_frame (w, &p[at + i], &v[at + i], &tally, e);
	  if (!reason)
	    continue;
	  fp_gtpu_dropped (w, &v[at + i], reason);
	  if (e)
	    fp_counter_add (&fp_tunnel_counters (w, e->tunnel)->drops, 1);
	}
    }
  if (w->gtpu)
    {
      last.generation = generation;
      w->gtpu->frames = last;
    }
  fp_gtpu_tx_count (w, n, &tally);
  fp_gtpu_count_switches (w, loop, n, loop > 1 ? n / loop * loop : 0, tally.cached, prefetch ? n : 0);
}

#endif /* FP_GTPU_FRAMES_H */

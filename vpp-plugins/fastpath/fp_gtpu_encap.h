/* SPDX-License-Identifier: Apache-2.0 */
/* Encapsulation: of IP packets by the address of the user equipment they go to, of Ethernet frames by their VLAN. As in decapsulation there is a
 * quick way, and a slow one for everything unusual.
 *
 * Every packet counts as GTPU_TX and as one of GTPU_ENCAPSULATED, GTPU_TX_PASSED, GTPU_SEGMENTED or a drop reason (an ICMP error sent
 * in its place counts the reason and ICMP_SENT). */
#ifndef FP_GTPU_ENCAP_H
#define FP_GTPU_ENCAP_H

#include "fp_gtpu_decap.h"
#include "fp_gtpu_segment.h"
#include "fp_icmp.h"

typedef struct
{
  fp_ue_key_t key;
  const fp_gtpu_encap_t *e;
  u32 total; /* bytes of the inner packet */
  u8 state;  /* enum fp_gtpu_rx_state */
} fp_gtpu_tx_t;

typedef struct
{
  u32 encapsulated, derived, summed, cached, prefetched, grouped;
} fp_gtpu_tx_tally_t;

/* Largest outer packet: the smallest of what the link, the endpoint and the path to the peer take. */
FP_ALWAYS_INLINE u32
fp_gtpu_limit (const fp_packet_t *p, u64 shape)
{
  u32 limit = p->mtu && p->mtu < 65535 ? p->mtu : 65535, mtu = fp_encap_mtu (shape);
  return mtu && mtu < limit ? mtu : limit;
}

/* The same, exactly: where the host knows the links of the peers, p->mtu is the smallest of them all. */
FP_INLINE u32
fp_gtpu_exact_limit (const fp_region_t *r, const fp_packet_t *p, const fp_gtpu_encap_t *e, u64 shape)
{
  u32 limit = fp_gtpu_limit (p, shape), link, mtu = fp_encap_mtu (shape);
  if (!r->gtpu_link_mtu)
    return limit;
  link = atomic_load_explicit (&r->gtpu_link_mtu[e->peer], memory_order_relaxed);
  if (!link)
    return limit;
  return mtu && mtu < link ? mtu : link;
}

/* ---- writing the outer headers ---- */

/* Outer headers in front of *p, whose first `total` bytes go into the tunnel; `hash` of its flow; sum: over these bytes if the outer
 * family is IPv6. There is room. */
FP_ALWAYS_INLINE void
fp_gtpu_put_outer (const fp_region_t *r, fp_packet_t *p, const fp_gtpu_encap_t *e, u64 shape, u32 total, u32 hash, u8 tos, fp_sum_t sum)
{
  int six = e->family == 6;
  u32 added = fp_gtpu_overhead (six, e->psc), header = six ? FP_IP6_HEADER : FP_IP4_HEADER, udp = total + added - header;
  u32 span = fp_encap_port_span (shape);
  u8 *h = p->l3 - added, *u = h + header, *g = u + FP_UDP_HEADER;
  u16 sport = fp_net16 ((u16) (span ? fp_encap_port_low (shape) + (u32) ((u64) hash * span >> 32) : FP_GTPU_PORT));

  fp_gtpu_pdu (g, e->remote_teid, total, e->psc, e->qfi);
  fp_gtpu_udp (u, sport, fp_net16 (FP_GTPU_PORT), udp);
  if (six)
    {
      u16 c;
      fp_gtpu_ip6 (h, e->local, e->remote, tos, span ? hash : 0, udp);
      sum += (fp_sum_t) e->header_sum + fp_load32 (u) + fp_load16 (u + 4) + fp_load32 (g) + fp_net32 (udp) + fp_net32 (FP_PROTO_UDP);
      if (e->psc)
	sum += (fp_sum_t) fp_load32 (g + 8) + fp_load32 (g + 12);
      c = (u16) ~fp_csum_fold (sum);
      fp_store16 (u + 6, c ? c : 0xffff);
    }
  else
    fp_gtpu_ip4 (h, e->local, e->remote, tos, header + udp);
  p->contiguous = (p->contiguous < total ? p->contiguous : total) + added;
  p->length = total + added;
  p->l3 = h;
  p->headroom -= added;
  p->room += added;
  p->csum = FP_CSUM_NONE;
  p->gso_type = FP_GSO_NONE;
  p->gso_size = 0;
  p->flags |= FP_PACKET_IP_VALID;
  p->vrf = fp_gtpu_endpoint_at (r, e->endpoint)->vrf;
  p->peer = e->peer;
}

/* An IP packet of `total` bytes that fits, whose checksums are complete. 0: the outer checksum needs bytes that are not contiguous. */
FP_ALWAYS_INLINE int
fp_gtpu_put_ip (fp_worker_t *w, fp_packet_t *p, const fp_gtpu_encap_t *e, u64 shape, u32 total, fp_verdict_t *v, fp_gtpu_tx_tally_t *tally)
{
  u8 *h = p->l3, dscp = fp_encap_dscp (shape), tos = (u8) (dscp << 2);
  int four = h[0] >> 4 == 4;
  fp_tunnel_counters_t *c = fp_tunnel_counters (w, e->tunnel);
  u32 hash = fp_encap_port_span (shape) ? fp_gtpu_flow_hash (h, p->contiguous < total ? p->contiguous : total) : 0;
  u8 ttl = !(p->flags & FP_PACKET_KEEP_TTL);
  fp_sum_t sum = 0;

  if (dscp == FP_GTPU_DSCP_INNER)
    tos = (u8) ((four ? h[1] : (u8) (h[0] << 4 | h[1] >> 4)) & 0xfc);
  if (e->family == 6)
    {
      if (FP_LIKELY (p->contiguous >= (four ? (h[0] & 15) * 4u : FP_IP6_HEADER) + FP_UDP_HEADER && fp_gtpu_inner_sum (h, total, &sum)))
	{
	  tally->derived++;
	  if (!four && ttl)
	    sum += fp_net16 (0xfffe); /* the hop limit will be one less */
	}
      else if (p->contiguous < total)
	return 0;
      else
	{
	  tally->summed++;
	  sum = fp_gtpu_sum (h, total);
	  if (ttl && !four)
	    sum += fp_net16 (0xfffe);
	  /* IPv4: TTL and header checksum change together */
	}
    }
  if (four)
    {
      if (ttl)
	fp_store16 (h + 10, fp_csum_update (fp_load16 (h + 10), fp_net16 (0xfeff)));
      h[8] -= ttl;
    }
  else
    h[7] -= ttl;
  fp_gtpu_put_outer (w->region, p, e, shape, total, hash, tos, sum);
  fp_counter_add (&c->tx_packets, 1);
  fp_counter_add (&c->tx_bytes, total);
  tally->encapsulated++;
  *v = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_GTPU };
  return 1;
}

/* ---- the slow way ---- */

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
  if (!reason && !fp_gtpu_put_ip (w, p, e, shape, o.length, v, tally))
    reason = FP_DROP_UNSUPPORTED;
  if (reason) /* RFC 8200 5: no IPv6 link has less than 1280 */
    fp_gtpu_refused (w, p, &o, e, v, reason, six && most < 1280 ? 1280 : most);
}

/* ---- stages ---- */

/* 1: an IP packet without offloads that may be forwarded. */
FP_ALWAYS_INLINE int
fp_gtpu_tx_parse (const fp_packet_t *p, fp_gtpu_tx_t *x)
{
  const u8 *h = p->l3;
  if (FP_UNLIKELY (p->contiguous < FP_IP4_HEADER || p->gso_type != FP_GSO_NONE || p->csum == FP_CSUM_PARTIAL))
    return 0;
  if (FP_LIKELY (h[0] == 0x45))
    {
      x->total = fp_net16 (fp_load16 (h + 2));
      if (x->total < FP_IP4_HEADER || h[8] == 0)
	return 0;
      if (!(p->flags & FP_PACKET_IP_VALID) && FP_UNLIKELY (fp_csum_fold (fp_gtpu_sum20 (h)) != 0xffff))
	return 0;
    }
  else
    {
      if (h[0] >> 4 != 6 || p->contiguous < FP_IP6_HEADER)
	return 0;
      x->total = FP_IP6_HEADER + fp_net16 (fp_load16 (h + 4));
    }
  if (FP_UNLIKELY (h[h[0] == 0x45 ? 8 : 7] <= 1 && !(p->flags & FP_PACKET_KEEP_TTL)))
    return 0;
  return x->total <= p->length;
}

FP_ALWAYS_INLINE void
fp_gtpu_tx_stage_parse (const fp_region_t *r, const fp_packet_t *p, fp_gtpu_tx_t *x, fp_gtpu_tx_cache_t *last, int prefetch, int cache)
{
  const u8 *h = p->l3;
  int six;
  x->state = FP_GTPU_RX_SLOW;
  if (FP_UNLIKELY (!fp_gtpu_tx_parse (p, x)))
    return;
  six = h[0] != 0x45;
  if (cache)
    {
      if (last->valid && last->vrf == p->vrf && last->family == (six ? 6 : 4) &&
	  (six ? memcmp (last->destination, h + 24, 16) == 0 : fp_load32 (last->destination) == fp_load32 (h + 16)))
	{
	  x->state = FP_GTPU_RX_SAME;
	  return;
	}
      memcpy (last->destination, h + (six ? 24 : 16), six ? 16 : 4);
      last->vrf = p->vrf;
      last->family = six ? 6 : 4;
      last->valid = 1;
    }
  if (six)
    fp_ue_hash (r, p->vrf, 1, h + 24, &x->key);
  else
    fp_ue_hash (r, p->vrf, 0, h + 16, &x->key);
  x->state = FP_GTPU_RX_FIND;
  if (prefetch)
    fp_ue_prefetch_index (r, &x->key);
}

FP_ALWAYS_INLINE void
fp_gtpu_tx_stage_find (fp_worker_t *w, fp_gtpu_tx_t *x, const void **found, fp_gtpu_tx_tally_t *tally)
{
  if (x->state == FP_GTPU_RX_FIND)
    *found = fp_ue_lookup (w->region, &x->key);
  tally->cached += x->state == FP_GTPU_RX_SAME;
  x->e = *found;
}

FP_ALWAYS_INLINE void
fp_gtpu_tx_stage_put (fp_worker_t *w, fp_packet_t *p, const fp_gtpu_tx_t *x, fp_verdict_t *v, fp_gtpu_tx_tally_t *tally)
{
  const fp_gtpu_encap_t *e = x->e;
  if (FP_LIKELY (x->state != FP_GTPU_RX_SLOW && e))
    {
      u64 shape = atomic_load_explicit (&e->shape, memory_order_relaxed);
      u32 added = fp_gtpu_overhead (e->family == 6, e->psc);
      if (FP_LIKELY (x->total + added <= fp_gtpu_limit (p, shape) && p->headroom >= added) &&
	  fp_gtpu_put_ip (w, p, e, shape, x->total, v, tally))
	return;
    }
  fp_gtpu_tx_slow (w, p, v, tally);
}

/* As fp_gtpu_rx_batch. */
FP_ALWAYS_INLINE void
fp_gtpu_tx_batch (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n, u32 ahead, fp_gtpu_tx_cache_t *last, fp_gtpu_tx_tally_t *tally,
		  const u32 loop, const int prefetch, const int cache)
{
  fp_gtpu_tx_t x[FP_GTPU_BATCH];
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
	      __builtin_prefetch (p[i + k + FP_GTPU_AHEAD].l3, 1, 3);
	    fp_gtpu_tx_stage_parse (r, &p[i + k], &x[i + k], last, prefetch, cache);
	  }
      for (; i < to; i++)
	{
	  if (prefetch && i + FP_GTPU_AHEAD < n + ahead)
	    __builtin_prefetch (p[i + FP_GTPU_AHEAD].l3, 1, 3);
	  fp_gtpu_tx_stage_parse (r, &p[i], &x[i], last, prefetch, cache);
	}
      if (prefetch)
	{
	  for (i = from; i < to; i++)
	    if (x[i].state == FP_GTPU_RX_FIND)
	      {
		fp_ue_prefetch_record (r, &x[i].key);
		__builtin_prefetch (p[i].l3 - FP_GTPU_MAX_ADDED, 1, 3); /* where the outer headers go */
	      }
	  for (i = from; i < to; i++)
	    if (x[i].state == FP_GTPU_RX_FIND)
	      fp_ue_prefetch_encap (r, &x[i].key);
	}
      for (i = from; i < to; i++)
	{
	  fp_gtpu_tx_stage_find (w, &x[i], &last->found, tally);
	  if (prefetch && x[i].state == FP_GTPU_RX_FIND && x[i].e)
	    __builtin_prefetch (fp_tunnel_counters (w, x[i].e->tunnel), 1, 3);
	}
      for (i = from; loop > 1 && i < whole; i += loop)
#pragma GCC unroll 4
	for (u32 k = 0; k < loop; k++)
	  fp_gtpu_tx_stage_put (w, &p[i + k], &x[i + k], &v[i + k], tally);
      for (; i < to; i++)
	fp_gtpu_tx_stage_put (w, &p[i], &x[i], &v[i], tally);
    }
  tally->prefetched += prefetch ? n : 0;
  tally->grouped += grouped;
}

#define FP_GTPU_TX_INSTANCE(loop, prefetch, cache)                                                                               \
  __attribute__ ((noinline, unused)) static void fp_gtpu_tx_##loop##prefetch##cache (                                            \
    fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n, u32 ahead, fp_gtpu_tx_cache_t *last, fp_gtpu_tx_tally_t *tally)      \
  {                                                                                                                              \
    fp_gtpu_tx_batch (w, p, v, n, ahead, last, tally, loop, prefetch, cache);                                                    \
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

typedef void fp_gtpu_tx_fn_t (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n, u32 ahead, fp_gtpu_tx_cache_t *last,
			      fp_gtpu_tx_tally_t *tally);

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
  fp_gtpu_tx_fn_t *run = instances[loop / 2][(switches & FP_GTPU_PREFETCH) != 0][(switches & FP_GTPU_LOOKUP_CACHE) != 0];
  fp_gtpu_tx_tally_t tally = { 0, 0, 0, 0, 0, 0 };
  fp_gtpu_tx_cache_t last = { .valid = 0 };

  if (w->gtpu && switches & FP_GTPU_LOOKUP_CACHE && w->gtpu->tx.valid && w->gtpu->tx.generation == generation)
    last = w->gtpu->tx;
  for (u32 from = 0; from < n; from += FP_GTPU_BATCH)
    {
      u32 count = n - from < FP_GTPU_BATCH ? n - from : FP_GTPU_BATCH;
      run (w, p + from, v + from, count, n - from - count, &last, &tally);
    }
  if (w->gtpu)
    {
      last.generation = generation;
      w->gtpu->tx = last;
    }
  fp_gtpu_tx_count (w, n, &tally);
  fp_gtpu_count_switches (w, loop, n, tally.grouped, tally.cached, tally.prefetched);
}

/* ---- Ethernet ---- */

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

FP_INLINE enum fp_drop
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

/* Frames (l3 points to the Ethernet header, without a VLAN tag: p->vlan has it) into the tunnel of their VLAN in p->vrf. FP_SEGMENT: by
 * fp_gtpu_segment_frame. */
FP_INLINE void
fp_gtpu_encap_frame_vector (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n)
{
  fp_gtpu_tx_tally_t tally = { 0, 0, 0, 0, 0, 0 };
  for (u32 i = 0; i < n; i++)
    {
      const fp_gtpu_encap_t *e;
      enum fp_drop reason = FP_DROP_GTPU_NO_TUNNEL;
      fp_ue_key_t k;
      fp_ue_hash_vlan (w->region, p[i].vrf, p[i].vlan, &k);
      e = fp_ue_lookup (w->region, &k);
      if (e)
	reason = fp_gtpu_put_frame (w, &p[i], &v[i], &tally, e);
      if (reason)
	fp_gtpu_dropped (w, &v[i], reason);
      if (reason && e)
	fp_counter_add (&fp_tunnel_counters (w, e->tunnel)->drops, 1);
    }
  fp_gtpu_tx_count (w, n, &tally);
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

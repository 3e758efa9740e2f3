/* SPDX-License-Identifier: Apache-2.0 */
/* Encapsulation of the usual packet: whole, without IPv4 options or offloads, not too big for its tunnel, TTL to spare. As in decapsulation
 * (fp_gtpu_rx.h) a packet that fails any of the conditions has not been touched, and goes the general way (fp_gtpu_encap.h).
 *
 * Stages, for a batch each: header and hash of the user equipment's address; its index word; its record; its encapsulation record;
 * the outer headers. */
#ifndef FP_GTPU_TX_H
#define FP_GTPU_TX_H

#include "fp_gtpu_build.h"
#include "fp_gtpu_worker.h"
#include "fp_tunnel.h"

enum fp_gtpu_tx_state
{
  FP_GTPU_TX_SLOW = 0,
  FP_GTPU_TX_FIND = 1,
  FP_GTPU_TX_SAME = 2, /* as fp_gtpu_rx_state */
};

typedef struct
{
  fp_ue_key_t key;
  const fp_gtpu_encap_t *e;
  u32 total; /* bytes of the inner packet */
  u8 state;  /* enum fp_gtpu_tx_state */
} fp_gtpu_tx_t;

typedef struct
{
  u32 encapsulated, derived, summed, cached, prefetched, grouped;
} fp_gtpu_tx_tally_t;

/* The packet before, and the prefix lengths of the VRFs that packets came from last. */
typedef struct
{
  fp_gtpu_tx_cache_t key;
  fp_ue_scope_t scope[2]; /* IPv4, IPv6 */
  u8 known[2];
} fp_gtpu_tx_last_t;

/* Largest outer packet: the smallest of what the link, the endpoint and the path to the peer take. */
FP_ALWAYS_INLINE u32
fp_gtpu_limit (const fp_packet_t *p, u64 shape)
{
  u32 link = p->mtu - 1 < 65534 ? p->mtu : 65535, mtu = fp_encap_mtu (shape); /* 0: not limited */
  return mtu - 1 < link ? mtu : link;
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

/* ---- first stage ---- */

/* 1: an IP packet without offloads that may be forwarded. */
FP_ALWAYS_INLINE int
fp_gtpu_tx_plain (const fp_packet_t *p, fp_gtpu_tx_t *x, int *six)
{
  const u8 *h = p->l3;
  if (FP_UNLIKELY (p->contiguous < FP_IP4_HEADER || p->gso_type != FP_GSO_NONE || p->csum == FP_CSUM_PARTIAL))
    return 0;
  *six = h[0] != 0x45;
  if (FP_LIKELY (!*six))
    {
      x->total = fp_net16 (fp_load16 (h + 2));
      if (FP_UNLIKELY (x->total < FP_IP4_HEADER || h[8] == 0 || (h[8] == 1 && !(p->flags & FP_PACKET_KEEP_TTL))))
	return 0;
      if (FP_UNLIKELY (!(p->flags & FP_PACKET_IP_VALID) && fp_gtpu_sum20 (h) % 65535))
	return 0;
    }
  else
    {
      if (FP_UNLIKELY (h[0] >> 4 != 6 || p->contiguous < FP_IP6_HEADER || (h[7] <= 1 && !(p->flags & FP_PACKET_KEEP_TTL))))
	return 0;
      x->total = FP_IP6_HEADER + fp_net16 (fp_load16 (h + 4));
    }
  return x->total <= p->length;
}

FP_ALWAYS_INLINE void
fp_gtpu_tx_begin (const fp_region_t *r, const fp_gtpu_view_t *view, const fp_packet_t *p, fp_gtpu_tx_t *x, fp_gtpu_tx_last_t *last, int prefetch,
		  int cache)
{
  fp_gtpu_tx_cache_t *was = &last->key;
  const u8 *h = p->l3;
  fp_ue_scope_t *scope;
  u64 high, low;
  int six;
  x->state = FP_GTPU_TX_SLOW;
  if (FP_UNLIKELY (!fp_gtpu_tx_plain (p, x, &six)))
    return;
  high = six ? fp_load64 (h + 24) : fp_load32 (h + 16);
  low = six ? fp_load64 (h + 32) : 0;
  if (cache)
    {
      if (((was->destination[0] ^ high) | (was->destination[1] ^ low) | (was->vrf ^ p->vrf)) == 0 && was->family == (six ? 6 : 4) &&
	  was->valid)
	{
	  x->state = FP_GTPU_TX_SAME;
	  return;
	}
      was->destination[0] = high;
      was->destination[1] = low;
      was->vrf = p->vrf;
      was->family = six ? 6 : 4;
      was->valid = 1;
    }
  scope = &last->scope[six];
  if (FP_UNLIKELY (!last->known[six] || scope->vrf != p->vrf))
    {
      *scope = fp_ue_scope (r, p->vrf, six ? 6 : 4);
      last->known[six] = 1;
    }
  if (six)
    fp_ue_hash_in (&view->hash, scope, 1, high, low, &x->key);
  else
    fp_ue_hash_in (&view->hash, scope, 0, high, 0, &x->key);
  x->state = FP_GTPU_TX_FIND;
  if (prefetch)
    fp_ue_prefetch_index (view, &x->key);
}

/* ---- the outer headers ---- */

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
      u32 more = e->psc ? FP_GTPU_OPTIONAL + FP_GTPU_PSC_BYTES : 0;
      u16 c;
      fp_gtpu_ip6 (h, e->local, e->remote, tos, span ? hash : 0, udp);
      /* of what fp_gtpu_udp and fp_gtpu_pdu write, but for the TEID, which header_sum has; the length twice: pseudo header */
      sum += (fp_sum_t) e->header_sum + sport + fp_net16 (FP_GTPU_PORT) + fp_net32 (udp) + fp_net32 (udp) + fp_net32 (FP_PROTO_UDP) +
	     fp_net32 ((FP_GTPU_PLAIN | (more ? FP_GTPU_E : 0u)) << 24 | FP_GTPU_PDU << 16 | ((total + more) & 0xffff));
      if (more)
	sum += (fp_sum_t) fp_net32 (FP_GTPU_EXT_PSC) + fp_gtpu_container (e->psc, e->qfi);
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

/* An IP packet of `total` bytes that fits, whose checksums are complete, into any tunnel. 0: the outer checksum needs bytes that are not
 * contiguous. */
__attribute__ ((noinline, unused)) static int
fp_gtpu_put_ip (const fp_region_t *r, fp_packet_t *p, const fp_gtpu_encap_t *e, u64 shape, u32 total, fp_gtpu_tx_tally_t *tally)
{
  u8 *h = p->l3, dscp = fp_encap_dscp (shape), tos = (u8) (dscp << 2), first = h[0];
  int four = first >> 4 == 4;
  u32 bound = p->contiguous < total ? p->contiguous : total;
  u32 hash = !fp_encap_port_span (shape) ? 0 : FP_LIKELY (four) ? fp_gtpu_flow_hash4 (h, bound) : fp_gtpu_flow_hash6 (h, bound);
  u8 ttl = !(p->flags & FP_PACKET_KEEP_TTL);
  fp_sum_t sum = 0;

  if (dscp == FP_GTPU_DSCP_INNER)
    tos = (u8) ((four ? h[1] : (u8) (first << 4 | h[1] >> 4)) & 0xfc);
  if (e->family == 6)
    {
      if (FP_LIKELY (p->contiguous >= (four ? (first & 15) * 4u : FP_IP6_HEADER) + FP_UDP_HEADER && fp_gtpu_inner_sum (h, total, &sum)))
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
  if (FP_LIKELY (four))
    {
      if (ttl)
	fp_store16 (h + 10, (u16) ~fp_gtpu_fold ((u32) (u16) ~fp_load16 (h + 10) + fp_net16 (0xfeff)));
      h[8] = (u8) (h[8] - ttl);
    }
  else
    h[7] = (u8) (h[7] - ttl);
  fp_gtpu_put_outer (r, p, e, shape, total, hash, tos, sum);
  return 1;
}

/* The packet begins with its outer headers now, `added` bytes ahead of its `total`, all contiguous. */
FP_ALWAYS_INLINE void
fp_gtpu_moved_out (const u8 *endpoints, fp_packet_t *p, const fp_gtpu_encap_t *e, u32 total, u32 added)
{
  p->contiguous = p->length = total + added;
  p->l3 -= added;
  p->headroom -= added;
  p->room += added;
  p->csum = FP_CSUM_NONE;
  p->flags |= FP_PACKET_IP_VALID;
  p->vrf = ((const fp_gtpu_endpoint_record_t *) endpoints)[e->endpoint].vrf;
  p->peer = e->peer;
}

/* The outer headers over IPv4 of `total` bytes that are contiguous. port: source port, a number. */
FP_ALWAYS_INLINE void
fp_gtpu_put_outer4 (const u8 *endpoints, fp_packet_t *p, const fp_gtpu_encap_t *e, u32 total, u32 added, u8 tos, u32 port)
{
  u32 outer = total + added;
  u8 *h = p->l3 - added;

  fp_store32 (h, fp_net32 (0x45000000 | (u32) tos << 16 | outer));
  fp_store32 (h + 4, fp_net32 (0x00004000));
  fp_store16 (h + 8, fp_net16 (FP_GTPU_TTL << 8 | FP_PROTO_UDP));
  fp_store16 (h + 10, (u16) ~fp_gtpu_fold ((u32) e->header_sum + fp_net16 ((u16) (0x4500 | tos)) + fp_net16 ((u16) outer) +
					   fp_net16 (0x4000) + fp_net16 (FP_GTPU_TTL << 8 | FP_PROTO_UDP)));
  memcpy (h + 12, e->local, 4);
  memcpy (h + 16, e->remote, 4);
  fp_store32 (h + 20, fp_net32 (port << 16 | FP_GTPU_PORT));
  fp_store32 (h + 24, fp_net32 ((outer - FP_IP4_HEADER) << 16));
  fp_gtpu_pdu (h + FP_IP4_HEADER + FP_UDP_HEADER, e->remote_teid, total, e->psc, e->qfi);
  fp_gtpu_moved_out (endpoints, p, e, total, added);
}

/* As fp_gtpu_put_ip, over IPv4, of a packet that is contiguous. */
FP_ALWAYS_INLINE void
fp_gtpu_put_ip4 (const u8 *endpoints, fp_packet_t *p, const fp_gtpu_encap_t *e, u64 shape, u32 total, u32 added)
{
  u8 *inner = p->l3, dscp = fp_encap_dscp (shape), first = inner[0];
  u8 ttl = !(p->flags & FP_PACKET_KEEP_TTL), tos = (u8) (dscp << 2);
  u32 span = fp_encap_port_span (shape), port = FP_GTPU_PORT;

  if (FP_LIKELY (first >> 4 == 4))
    {
      if (FP_LIKELY (span))
	port = fp_encap_port_low (shape) + (u32) ((u64) fp_gtpu_flow_hash4 (inner, total) * span >> 32);
      if (dscp == FP_GTPU_DSCP_INNER)
	tos = inner[1] & 0xfc;
      if (FP_LIKELY (ttl))
	{
	  fp_store16 (inner + 10, (u16) ~fp_gtpu_fold ((u32) (u16) ~fp_load16 (inner + 10) + fp_net16 (0xfeff)));
	  inner[8]--;
	}
    }
  else
    {
      if (FP_LIKELY (span))
	port = fp_encap_port_low (shape) + (u32) ((u64) fp_gtpu_flow_hash6 (inner, total) * span >> 32);
      if (dscp == FP_GTPU_DSCP_INNER)
	tos = (u8) (first << 4 | inner[1] >> 4) & 0xfc;
      inner[7] = (u8) (inner[7] - ttl);
    }
  fp_gtpu_put_outer4 (endpoints, p, e, total, added, tos, port);
}

/* The same over IPv6, of a packet that is contiguous, an IPv4 packet without options whose sum follows from its own checksums (fp_gtpu_inner_sum). 0: it
 * is none, nothing has been done. */
__attribute__ ((noinline, unused)) static int
fp_gtpu_put_ip6 (const u8 *endpoints, fp_packet_t *p, const fp_gtpu_encap_t *e, u64 shape, u32 total, u32 added)
{
  u8 *inner = p->l3, *h = inner - added, *u = h + FP_IP6_HEADER, dscp = fp_encap_dscp (shape), proto = inner[9];
  u8 ttl = !(p->flags & FP_PACKET_KEEP_TTL), tos = (u8) (dscp == FP_GTPU_DSCP_INNER ? inner[1] & 0xfc : dscp << 2);
  u32 l4 = total - FP_IP4_HEADER, udp = total + added - FP_IP6_HEADER, span = fp_encap_port_span (shape), port = FP_GTPU_PORT, hash = 0;
  u32 source = fp_load32 (inner + 12), destination = fp_load32 (inner + 16), ports;
  fp_sum_t sum;
  u16 c;

  if (FP_UNLIKELY (inner[0] != 0x45 || (fp_load16 (inner + 6) & fp_net16 (0x3fff)) || l4 < FP_UDP_HEADER))
    return 0;
  ports = fp_load32 (inner + FP_IP4_HEADER);
  if (proto == FP_PROTO_UDP)
    {
      if (FP_UNLIKELY (fp_load16 (inner + 26) == 0 || fp_net16 (fp_load16 (inner + 24)) != l4))
	return 0;
    }
  else if (FP_UNLIKELY (proto != FP_PROTO_TCP || l4 < FP_TCP_HEADER))
    return 0;
  if (FP_LIKELY (span))
    {
      hash = fp_gtpu_flow_mix ((u64) destination << 32 | source, proto | (u64) ports << 8);
      port = fp_encap_port_low (shape) + (u32) ((u64) hash * span >> 32);
    }
  /* the outer length twice: UDP and pseudo header */
  sum = fp_gtpu_less ((fp_sum_t) source + destination + fp_net32 (l4) + fp_net32 (proto)) + (fp_sum_t) e->header_sum +
	2 * (fp_sum_t) fp_net32 (udp) + fp_net32 (port << 16 | FP_GTPU_PORT) + fp_net32 (FP_PROTO_UDP);
  if (FP_LIKELY (ttl)) /* changes together with the header's checksum */
    {
      fp_store16 (inner + 10, (u16) ~fp_gtpu_fold ((u32) (u16) ~fp_load16 (inner + 10) + fp_net16 (0xfeff)));
      inner[8]--;
    }
  fp_gtpu_ip6 (h, e->local, e->remote, tos, hash, udp);
  fp_store32 (u, fp_net32 (port << 16 | FP_GTPU_PORT));
  fp_gtpu_pdu (u + FP_UDP_HEADER, e->remote_teid, total, e->psc, e->qfi);
  sum += fp_load32 (u + FP_UDP_HEADER); /* the TEID is in header_sum */
  if (e->psc)
    sum += (fp_sum_t) fp_net32 (FP_GTPU_EXT_PSC) + fp_gtpu_container (e->psc, e->qfi);
  c = (u16) ~fp_csum_fold (sum);
  fp_store32 (u + 4, fp_net32 (udp << 16) | (u32) (c ? c : 0xffff) << 16);
  fp_gtpu_moved_out (endpoints, p, e, total, added);
  return 1;
}

/* Last stage. 1: the packet is in its tunnel. 0: nothing has been done. */
FP_ALWAYS_INLINE int
fp_gtpu_tx_finish (const fp_region_t *r, const u8 *endpoints, fp_tunnel_counters_t *counters, fp_packet_t *p, u32 total,
		   const fp_gtpu_encap_t *e, fp_gtpu_tx_tally_t *tally)
{
  u64 shape = atomic_load_explicit (&e->shape, memory_order_relaxed);
  u32 added = fp_gtpu_overhead (e->family == 6, e->psc);
  if (FP_UNLIKELY (total + added > fp_gtpu_limit (p, shape) || p->headroom < added))
    return 0;
  if (FP_LIKELY (e->family == 4 && p->contiguous >= total))
    fp_gtpu_put_ip4 (endpoints, p, e, shape, total, added);
  else if (e->family == 6 && FP_LIKELY (p->contiguous >= total) && FP_LIKELY (fp_gtpu_put_ip6 (endpoints, p, e, shape, total, added)))
    tally->derived++;
  else if (!fp_gtpu_put_ip (r, p, e, shape, total, tally))
    return 0;
  fp_counter_add (&counters[e->tunnel].tx_packets, 1);
  fp_counter_add (&counters[e->tunnel].tx_bytes, total);
  return 1;
}

#endif /* FP_GTPU_TX_H */

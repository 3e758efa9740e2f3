/* SPDX-License-Identifier: Apache-2.0 */
/* Decapsulation of the usual packet: a G-PDU without optional octets, or with a PDU Session Container and nothing else, in a whole packet behind
 * a plain outer header, from the tunnel's peer, with an IP packet of the tunnel's user equipment inside. Everything is checked; a packet
 * that fails any of the conditions has not been touched: the general way (fp_gtpu_decap.h) takes it from the beginning, so these
 * functions need not tell why.
 *
 * Stages, for a batch each: headers, and where the tunnel is entered; the tunnel's slot; comparison and delivery. */
#ifndef FP_GTPU_RX_H
#define FP_GTPU_RX_H

#include "fp_gtpu_build.h"
#include "fp_gtpu_worker.h"
#include "fp_tunnel.h"

enum fp_gtpu_rx_state
{
  FP_GTPU_RX_SLOW = 0,
  FP_GTPU_RX_FIND = 1, /* its tunnel has to be looked up */
  FP_GTPU_RX_SAME = 2, /* its tunnel is that of the packet before */
};

/* Between the stages. */
typedef struct
{
  fp_tunnel_seek_t seek;
  u8 state; /* enum fp_gtpu_rx_state */
  u8 six;   /* outer */
  u8 psc;   /* enum fp_gtpu_psc */
  u16 payload; /* offset of the inner packet from l3 */
  u16 length;  /* its bytes */
} fp_gtpu_rx_t;

/* The packet before: its key with what was found, and its endpoint, which packets to the same address share. */
typedef struct
{
  fp_gtpu_rx_cache_t key;
  const fp_gtpu_endpoint_t *endpoint; /* of this vector; NULL: of none yet */
} fp_gtpu_rx_last_t;

/* UDP checksum of a whole datagram of `length` bytes at offset `udp` (addresses lie before it: no options); 1: right. */
__attribute__ ((noinline, unused)) static int
fp_gtpu_checksum_right (const u8 *h, u32 udp, u32 length)
{
  u32 addresses = udp == FP_IP6_HEADER ? 32 : 8;
  fp_sum_t sum = fp_gtpu_sum (h + udp - addresses, addresses + length) + fp_net32 (length) + fp_net32 (FP_PROTO_UDP);
  return fp_csum_fold (sum) == 0xffff;
}

/* ---- first stage ---- */

/* The GTP-U header behind a plain IP header of `udp` bytes (a constant), of a packet of `total` bytes. 24 bytes from `udp` on can be read. */
FP_ALWAYS_INLINE int
fp_gtpu_rx_plain_message (const fp_packet_t *p, u32 udp, u32 total, fp_gtpu_rx_t *x)
{
  const u8 *u = p->l3 + udp, *g = u + FP_UDP_HEADER;
  u32 length = fp_net16 (fp_load16 (u + 4)), message = fp_net16 (fp_load16 (g + 2)), optional = 0;
  u16 kind = fp_load16 (g), csum = fp_load16 (u + 6);

  x->psc = FP_GTPU_PSC_NONE;
  if (kind != fp_net16 (FP_GTPU_PLAIN << 8 | FP_GTPU_PDU))
    {
      u32 psc = fp_load32 (g + 12);
      /* optional octets of which only the next type counts, then four octets, the last of which says that nothing follows */
      if (FP_UNLIKELY (kind != fp_net16 ((FP_GTPU_PLAIN | FP_GTPU_E) << 8 | FP_GTPU_PDU) || g[11] != FP_GTPU_EXT_PSC || message < 8 ||
		       (psc & fp_net32 (0xffe000ff)) != fp_net32 (0x01000000)))
	return 0;
      x->psc = (u8) (FP_GTPU_PSC_DL + (g[13] >> 4));
      optional = FP_GTPU_OPTIONAL + FP_GTPU_PSC_BYTES;
    }
  if (FP_UNLIKELY (total > p->length || udp + length > total || FP_UDP_HEADER + FP_GTPU_HEADER + message > length ||
		   fp_load16 (u + 2) != fp_net16 (FP_GTPU_PORT)))
    return 0;
  if (udp == FP_IP6_HEADER ? csum == 0 || p->csum == FP_CSUM_NONE : csum != 0 && FP_UNLIKELY (p->csum == FP_CSUM_NONE))
    if (csum == 0 || p->contiguous < udp + length || !fp_gtpu_checksum_right (p->l3, udp, length))
      return 0;
  x->seek.teid = fp_net32 (fp_load32 (g + 4));
  x->payload = (u16) (udp + FP_UDP_HEADER + FP_GTPU_HEADER + optional);
  x->length = (u16) (message - optional);
  return 1;
}

FP_ALWAYS_INLINE int
fp_gtpu_rx_plain (const fp_packet_t *p, fp_gtpu_rx_t *x)
{
  const u8 *h = p->l3;
  if (FP_UNLIKELY (p->contiguous < FP_IP4_HEADER + 24 || p->gso_type != FP_GSO_NONE))
    return 0;
  x->six = h[0] != 0x45;
  if (FP_LIKELY (!x->six))
    {
      if (FP_UNLIKELY (h[9] != FP_PROTO_UDP || (fp_load16 (h + 6) & fp_net16 (0x3fff))))
	return 0;
      if (FP_UNLIKELY (!(p->flags & FP_PACKET_IP_VALID) && fp_gtpu_sum20 (h) % 65535))
	return 0;
      return fp_gtpu_rx_plain_message (p, FP_IP4_HEADER, fp_net16 (fp_load16 (h + 2)), x);
    }
  if (FP_UNLIKELY (h[0] >> 4 != 6 || p->contiguous < FP_IP6_HEADER + 24 || h[6] != FP_PROTO_UDP))
    return 0;
  return fp_gtpu_rx_plain_message (p, FP_IP6_HEADER, FP_IP6_HEADER + fp_net16 (fp_load16 (h + 4)), x);
}

/* What remains of packets that may go through the stages: any G-PDU behind a plain IP header. */
__attribute__ ((noinline, unused)) static int
fp_gtpu_rx_other (const fp_packet_t *p, fp_gtpu_rx_t *x)
{
  const u8 *h = p->l3, *u;
  u32 udp, total, length, at;
  fp_gtpu_message_t m;
  u16 csum;

  if (p->contiguous < FP_IP4_HEADER + FP_UDP_HEADER + FP_GTPU_HEADER || p->gso_type != FP_GSO_NONE)
    return 0;
  x->six = h[0] != 0x45;
  if (!x->six)
    {
      udp = FP_IP4_HEADER;
      total = fp_net16 (fp_load16 (h + 2));
      if (h[9] != FP_PROTO_UDP || (fp_load16 (h + 6) & fp_net16 (0x3fff)) ||
	  (!(p->flags & FP_PACKET_IP_VALID) && fp_gtpu_sum20 (h) % 65535))
	return 0;
    }
  else
    {
      udp = FP_IP6_HEADER;
      if (h[0] >> 4 != 6 || p->contiguous < FP_IP6_HEADER + FP_UDP_HEADER + FP_GTPU_HEADER || h[6] != FP_PROTO_UDP)
	return 0;
      total = FP_IP6_HEADER + fp_net16 (fp_load16 (h + 4));
    }
  u = h + udp;
  length = fp_net16 (fp_load16 (u + 4));
  if (total > p->length || udp + length > total || length < FP_UDP_HEADER + FP_GTPU_HEADER || fp_load16 (u + 2) != fp_net16 (FP_GTPU_PORT))
    return 0;
  csum = fp_load16 (u + 6);
  if (csum ? p->csum == FP_CSUM_NONE : x->six)
    if (!csum || p->contiguous < udp + length || !fp_gtpu_checksum_right (h, udp, length))
      return 0;
  if (fp_gtpu_parse (u + FP_UDP_HEADER, p->contiguous - udp - FP_UDP_HEADER, length - FP_UDP_HEADER, &m) || m.type != FP_GTPU_PDU)
    return 0;
  at = udp + FP_UDP_HEADER + m.payload;
  x->seek.teid = m.teid;
  x->payload = (u16) at;
  x->length = (u16) m.length;
  x->psc = m.psc;
  return at <= p->contiguous;
}

/* Key of the lookup cache, without a TEID. */
FP_ALWAYS_INLINE fp_gtpu_rx_cache_t
fp_gtpu_rx_key (const fp_packet_t *p, int six)
{
  const u8 *h = p->l3;
  if (FP_LIKELY (!six))
    return (fp_gtpu_rx_cache_t){ .source = { fp_load32 (h + 12), 0 }, .destination = { fp_load32 (h + 16), 0 }, .vrf = p->vrf, .family = 4 };
  return (fp_gtpu_rx_cache_t){ .source = { fp_load64 (h + 8), fp_load64 (h + 16) }, .destination = { fp_load64 (h + 24), fp_load64 (h + 32) },
			       .vrf = p->vrf, .family = 6 };
}

/* An address of a vector that no packet before it went to. */
__attribute__ ((noinline, unused)) static const fp_gtpu_endpoint_t *
fp_gtpu_rx_endpoint (const fp_region_t *r, const fp_packet_t *p, int six)
{
  return six ? fp_gtpu_endpoint_find (r, p->vrf, 1, p->l3 + 24) : fp_gtpu_endpoint_find (r, p->vrf, 0, p->l3 + 16);
}

FP_ALWAYS_INLINE void
fp_gtpu_rx_begin (const fp_region_t *r, const fp_gtpu_view_t *view, const fp_packet_t *p, fp_gtpu_rx_t *x, fp_gtpu_rx_last_t *last, int prefetch,
		  int cache)
{
  fp_gtpu_rx_cache_t *was = &last->key, key;
  int same;
  x->state = FP_GTPU_RX_SLOW;
  if (FP_UNLIKELY (!fp_gtpu_rx_plain (p, x)) && !fp_gtpu_rx_other (p, x))
    return;
  key = fp_gtpu_rx_key (p, x->six);
  same = ((was->destination[0] ^ key.destination[0]) | (was->destination[1] ^ key.destination[1]) | (was->vrf ^ key.vrf)) == 0 &&
	 was->family == key.family;
  if (cache && same && was->valid && was->teid == x->seek.teid &&
      ((was->source[0] ^ key.source[0]) | (was->source[1] ^ key.source[1])) == 0)
    {
      x->state = FP_GTPU_RX_SAME;
      return;
    }
  if (FP_UNLIKELY (!same || !last->endpoint))
    {
      const fp_gtpu_endpoint_t *e = fp_gtpu_rx_endpoint (r, p, x->six);
      if (!e)
	return;
      last->endpoint = e;
      was->destination[0] = key.destination[0];
      was->destination[1] = key.destination[1];
      was->vrf = key.vrf;
      was->family = key.family;
    }
  was->source[0] = key.source[0];
  was->source[1] = key.source[1];
  was->teid = x->seek.teid;
  was->valid = (u8) cache;
  was->psc = x->psc;
  x->state = FP_GTPU_RX_FIND;
  fp_tunnel_begin (view, last->endpoint, x->seek.teid, &x->seek, prefetch);
}

/* ---- last stage ---- */

/* ECN field of an outer header whose second bit is set: ECT(1) or CE. */
FP_ALWAYS_INLINE int
fp_gtpu_rx_marked (const u8 *h, int six)
{
  return h[1] & (six ? 0x10 : 0x01);
}

/* The first `at` bytes of *p go, and what is behind `total` more. */
FP_ALWAYS_INLINE void
fp_gtpu_cut (fp_packet_t *p, u32 at, u32 total)
{
  u32 bound = p->contiguous - at;
  p->l3 += at;
  p->headroom += at;
  p->room -= at;
  p->contiguous = bound < total ? bound : total;
  p->length = total;
}

/* Let *p describe the inner packet of `total` bytes at offset `at`. Outer offloads are done with; a partial checksum of the inner packet
 * stays one. */
FP_ALWAYS_INLINE void
fp_gtpu_strip (fp_packet_t *p, u32 at, u32 total)
{
  fp_gtpu_cut (p, at, total);
  if (FP_UNLIKELY (p->csum == FP_CSUM_PARTIAL && p->csum_start >= at))
    p->csum_start = (u16) (p->csum_start - at);
  else
    p->csum = FP_CSUM_NONE;
  p->gso_type = FP_GSO_NONE;
  p->gso_size = 0;
  p->flags &= (u8) ~FP_PACKET_IP_VALID;
  p->ingress = FP_CLASS_NONE;
}

/* The same of the usual packet, which is no large one; 0: its checksum is partial, nothing has been done. */
FP_ALWAYS_INLINE int
fp_gtpu_strip_usual (fp_packet_t *p, u32 at, u32 total)
{
  struct
  {
    u8 ingress, csum, gso_type, flags;
  } state;
  memcpy (&state, &p->ingress, sizeof (state));
  if (FP_UNLIKELY (state.csum == FP_CSUM_PARTIAL))
    return 0;
  state.ingress = FP_CLASS_NONE;
  state.csum = FP_CSUM_NONE;
  state.flags &= (u8) ~FP_PACKET_IP_VALID;
  memcpy (&p->ingress, &state, sizeof (state));
  fp_gtpu_cut (p, at, total);
  return 1;
}

_Static_assert (offsetof (fp_packet_t, csum) == offsetof (fp_packet_t, ingress) + 1 &&
		  offsetof (fp_packet_t, gso_type) == offsetof (fp_packet_t, ingress) + 2 &&
		  offsetof (fp_packet_t, flags) == offsetof (fp_packet_t, ingress) + 3,
		"state of a packet");

/* What is counted for a tunnel: summed over packets that follow each other. */
typedef struct
{
  u32 slot, packets;
  u64 bytes;
} fp_gtpu_rx_run_t;

FP_ALWAYS_INLINE void
fp_gtpu_rx_run_end (const fp_gtpu_view_t *view, fp_gtpu_rx_run_t *run)
{
  if (run->packets)
    {
      fp_counter_add (&view->counters[run->slot].rx_packets, run->packets);
      fp_counter_add (&view->counters[run->slot].rx_bytes, run->bytes);
    }
  run->packets = 0;
  run->bytes = 0;
}

/* 1: the packet of a tunnel's slot has been delivered. 0: nothing has been done. */
FP_ALWAYS_INLINE int
fp_gtpu_rx_finish (const fp_gtpu_view_t *view, fp_packet_t *p, const fp_gtpu_rx_t *x, u32 slot, fp_gtpu_rx_run_t *run)
{
  const fp_tunnel_t *t = (const fp_tunnel_t *) view->tunnels.records + slot;
  u64 shape = atomic_load_explicit (&t->shape, memory_order_relaxed);
  u32 peer = (u32) (atomic_load_explicit (&t->current, memory_order_acquire) >> 32);
  int check = fp_tunnel_flags (shape) & FP_GTPU_INNER_SOURCE_CHECK;
  const u8 *h = p->l3, *inner = h + x->payload;
  u32 bound = p->contiguous - x->payload, total;

  if (FP_UNLIKELY (bound < FP_IP4_HEADER || fp_tunnel_payload (shape) != FP_GTPU_PAYLOAD_IP || fp_gtpu_rx_marked (h, x->six)))
    return 0;
  if (x->six ? FP_UNLIKELY (peer >= view->peers.capacity || memcmp (view->peers.records + sizeof (fp_gtpu_peer_t) * peer, h + 8, 16)) :
	       FP_UNLIKELY (peer != fp_load32 (h + 12)))
    return 0;
  if (FP_LIKELY (inner[0] == 0x45))
    {
      u32 source = fp_load32 (inner + 12);
      total = fp_net16 (fp_load16 (inner + 2));
      if (FP_UNLIKELY (total < FP_IP4_HEADER || inner[8] == 0 ||
		       (check && (source == 0 || atomic_load_explicit (&t->ue4, memory_order_relaxed) != source))))
	return 0;
    }
  else
    {
      u64 source;
      if (FP_UNLIKELY (inner[0] >> 4 != 6 || bound < FP_IP6_HEADER))
	return 0;
      source = fp_load64 (inner + 8);
      total = FP_IP6_HEADER + fp_net16 (fp_load16 (inner + 4));
      if (FP_UNLIKELY (inner[7] == 0 || (check && (source == 0 || atomic_load_explicit (&t->ue6, memory_order_relaxed) != source))))
	return 0;
    }
  if (FP_UNLIKELY (total > x->length) || !fp_gtpu_strip_usual (p, x->payload, total))
    return 0;
  p->vrf = fp_tunnel_vrf (shape);
  if (FP_UNLIKELY (run->slot != slot))
    {
      fp_gtpu_rx_run_end (view, run);
      run->slot = slot;
    }
  run->packets++;
  run->bytes += total;
  return 1;
}

#endif /* FP_GTPU_RX_H */

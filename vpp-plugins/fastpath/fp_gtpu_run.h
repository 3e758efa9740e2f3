/* SPDX-License-Identifier: Apache-2.0 */
/* Decapsulation of packets that follow each other in one tunnel (lookupCache). The outer header of each is compared as a whole with that of the packet
 * before, but for what differs from packet to packet; there is no lookup, and no descriptor: a host gives pointers and lengths of a few packets,
 * and learns whether all of them are the usual packet of fp_gtpu_rx.h, of that tunnel. Each of its conditions holds then, so the general way would deliver
 * them just so. Nothing is changed; of others nothing is said: the general way takes them.
 *
 * Over IPv4 only: outer IPv6 needs a checksum. */
#ifndef FP_GTPU_RUN_H
#define FP_GTPU_RUN_H

#include "fp_gtpu_decap.h"

#define FP_GTPU_RUN_WIDTH 4 /* packets that are compared side by side at most */

enum fp_gtpu_run_user
{
  FP_GTPU_RUN_IP4 = 1,
  FP_GTPU_RUN_IP6 = 2,
};

/* What the packets of a run have in common, words as they lie in a packet. Good until the worker's next quiescent point. */
typedef struct
{
  u64 at0[4], at32, mask32; /* of the outer packet, by offset */
  u64 user6, user6_mask;
  u32 at40, mask40;
  u32 user4, user4_mask;
  u32 teid;
  u32 payload; /* offset of the inner packet */
  u32 users; /* enum fp_gtpu_run_user: which inner packets can be told */
  u32 slot;
  u32 vrf, inner_vrf;
  u32 loop;
  u8 prefetch, psc;
} fp_gtpu_run_t;

#define FP_GTPU_BYTES8(...) fp_load64 ((const u8[8]){ __VA_ARGS__ })
#define FP_GTPU_BYTES4(...) fp_load32 ((const u8[4]){ __VA_ARGS__ })

/* Whether a packet's TEID (as it lies there) is that of the last packet. A glance before fp_gtpu_run_open. */
FP_ALWAYS_INLINE int
fp_gtpu_run_begins (const fp_worker_t *w, u32 teid)
{
  return w->gtpu && w->gtpu->rx.valid && w->gtpu->rx.teid == fp_net32 (teid);
}

/* The run that the last packet belongs to. 0: there can be none. */
FP_INLINE int
fp_gtpu_run_open (const fp_worker_t *w, fp_gtpu_run_t *run)
{
  const fp_region_t *r = w->region;
  const fp_gtpu_rx_cache_t *k = &w->gtpu->rx;
  u64 switches = fp_config (r)->gtpu_switches, shape;
  const fp_tunnel_t *t;
  u32 psc = k->psc != FP_GTPU_PSC_NONE, check;
  u8 words[32] = { 0 };

  if (!(switches & FP_GTPU_LOOKUP_CACHE) || !k->valid || k->generation != fp_tunnel_generation (r) || k->family != 4 ||
      k->slot >= r->controlled[FP_CONTROLLED_TUNNEL].capacity)
    return 0;
  t = fp_tunnel_at (r, k->slot);
  shape = atomic_load_explicit (&t->shape, memory_order_relaxed);
  if (fp_tunnel_payload (shape) != FP_GTPU_PAYLOAD_IP ||
      (u32) (atomic_load_explicit (&t->current, memory_order_acquire) >> 32) != (u32) k->source[0])
    return 0;
  check = (fp_tunnel_flags (shape) & FP_GTPU_INNER_SOURCE_CHECK) != 0;
  memset (run, 0, sizeof (*run));
  run->slot = k->slot;
  run->vrf = k->vrf;
  run->inner_vrf = fp_tunnel_vrf (shape);
  run->loop = fp_gtpu_loop (switches);
  run->prefetch = (switches & FP_GTPU_PREFETCH) != 0;
  run->psc = k->psc;
  run->teid = fp_net32 (k->teid);
  run->payload = FP_IP4_HEADER + FP_UDP_HEADER + FP_GTPU_HEADER + (psc ? FP_GTPU_OPTIONAL + FP_GTPU_PSC_BYTES : 0);
  words[0] = 0x45;
  words[9] = FP_PROTO_UDP;
  memcpy (words + 12, &k->source[0], 4);
  memcpy (words + 16, &k->destination[0], 4);
  fp_store16 (words + 22, fp_net16 (FP_GTPU_PORT));
  words[28] = FP_GTPU_PLAIN | (psc ? FP_GTPU_E : 0);
  words[29] = FP_GTPU_PDU;
  memcpy (run->at0, words, sizeof (run->at0));
  /* TEID; type of the next header, which is a container of four octets and the last */
  memset (words, 0, sizeof (words));
  fp_store32 (words, run->teid);
  if (psc)
    {
      words[7] = FP_GTPU_EXT_PSC;
      words[8] = 1;
      words[9] = (u8) ((k->psc - FP_GTPU_PSC_DL) << 4);
      run->mask40 = FP_GTPU_BYTES4 (0xff, 0xf0, 0, 0xff);
    }
  run->mask32 = psc ? FP_GTPU_BYTES8 (0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff) : FP_GTPU_BYTES8 (0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0);
  run->at32 = fp_load64 (words);
  run->at40 = fp_load32 (words + 8);
  run->user4 = atomic_load_explicit (&t->ue4, memory_order_relaxed);
  run->user6 = atomic_load_explicit (&t->ue6, memory_order_relaxed);
  run->users = (!check || run->user4 ? FP_GTPU_RUN_IP4 : 0) | (!check || run->user6 ? FP_GTPU_RUN_IP6 : 0);
  if (check)
    run->user4_mask = ~0u, run->user6_mask = ~0ull;
  return 1;
}

typedef u64 fp_gtpu_words_t __attribute__ ((vector_size (32)));

/* What counts of the first 32 bytes: version and header length, no congestion mark (fp_gtpu_rx_marked), no fragment, protocol, addresses, port, flags and type. The
 * host has verified the header checksum. summed: the UDP checksum, too, else there must be none. */
#define FP_GTPU_RUN_MASK(summed)                                                                                                   \
  (fp_gtpu_words_t)                                                                                                                \
  {                                                                                                                                \
    FP_GTPU_BYTES8 (0xff, 1, 0, 0, 0, 0, 0x3f, 0xff), FP_GTPU_BYTES8 (0, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff),                       \
      FP_GTPU_BYTES8 (0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff),                                                                   \
      (summed) ? FP_GTPU_BYTES8 (0, 0, 0, 0, 0xff, 0xff, 0, 0) : FP_GTPU_BYTES8 (0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0)               \
  }

/* Whether `n` (constant) packets, whole and side by side in memory as far as `length` goes, are of the run. six: inner packets are to be IPv6. Their lengths:
 * total. */
FP_ALWAYS_INLINE int
fp_gtpu_run_takes (const fp_gtpu_run_t *r, const u8 *const *h, const u32 *length, const u32 n, int six, int summed, u32 *total)
{
  const i32 least = (i32) (r->payload + (six ? FP_IP6_HEADER : FP_IP4_HEADER));
  const i32 outer = FP_IP4_HEADER, udp = FP_UDP_HEADER + FP_GTPU_HEADER, optional = (i32) r->payload - outer - udp;
  i32 wrong = 0; /* negative: some length is */
  u64 differs, at32 = 0, user6 = 0;
  u32 at40 = 0, user4 = 0, version = 0;
  fp_gtpu_words_t want, at0 = { 0, 0, 0, 0 };

  if (FP_UNLIKELY (!(r->users & (six ? FP_GTPU_RUN_IP6 : FP_GTPU_RUN_IP4))))
    return 0;
#pragma GCC unroll 4
  for (u32 k = 0; k < n; k++)
    wrong |= (i32) length[k] - least;
  if (FP_UNLIKELY (wrong < 0))
    return 0;
  memcpy (&want, r->at0, sizeof (want));
#pragma GCC unroll 4
  for (u32 k = 0; k < n; k++)
    {
      fp_gtpu_words_t words;
      const u8 *inner = h[k] + r->payload;
      const i32 all = fp_net16 (fp_load16 (h[k] + 2)), datagram = fp_net16 (fp_load16 (h[k] + 24)), message = fp_net16 (fp_load16 (h[k] + 30));
      const i32 packet = six ? FP_IP6_HEADER + fp_net16 (fp_load16 (inner + 4)) : fp_net16 (fp_load16 (inner + 2));

      memcpy (&words, h[k], sizeof (words));
      at0 |= words ^ want;
      at32 |= fp_load64 (h[k] + 32) ^ r->at32;
      at40 |= fp_load32 (h[k] + 40) ^ r->at40;
      wrong |= ((i32) length[k] - all) | (all - outer - datagram) | (datagram - udp - message) | (message - optional - packet);
      if (six)
	{
	  version |= inner[0] >> 4 ^ 6;
	  user6 |= fp_load64 (inner + 8) ^ r->user6;
	  wrong |= (i32) inner[7] - 1;
	}
      else
	{
	  version |= inner[0] ^ 0x45;
	  user4 |= fp_load32 (inner + 12) ^ r->user4;
	  wrong |= ((i32) inner[8] - 1) | (packet - FP_IP4_HEADER);
	}
      total[k] = (u32) packet;
    }
  at0 &= FP_GTPU_RUN_MASK (summed);
  differs = at0[0] | at0[1] | at0[2] | at0[3] | (at32 & r->mask32) | (user6 & r->user6_mask) | version | (at40 & r->mask40) | (user4 & r->user4_mask);
  return FP_LIKELY (differs == 0 && wrong >= 0);
}

/* Counts so many packets of the run, with so many bytes inside. */
FP_INLINE void
fp_gtpu_run_count (fp_worker_t *w, const fp_gtpu_run_t *run, u32 packets, u64 bytes)
{
  fp_tunnel_counters_t *c = fp_tunnel_counters (w, run->slot);

  fp_counter_add (&c->rx_packets, packets);
  fp_counter_add (&c->rx_bytes, bytes);
  fp_count (w, FP_C_GTPU_RX, packets);
  fp_count (w, FP_C_GTPU_DECAPSULATED, packets);
  fp_count (w, FP_C_GTPU_PSC_DL, run->psc == FP_GTPU_PSC_DL ? packets : 0);
  fp_count (w, FP_C_GTPU_PSC_UL, run->psc == FP_GTPU_PSC_UL ? packets : 0);
  fp_gtpu_count_switches (w, run->loop, packets, run->loop > 1 ? packets / run->loop * run->loop : 0, packets, run->prefetch ? packets : 0);
}

#endif /* FP_GTPU_RUN_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Rewriting a packet by its session: addresses, ports, checksums, TTL. What a rewrite adds to the checksums depends on the
 * session only, so it is summed once, when the session is made, and kept beside the addresses. */
#ifndef FP_REWRITE_H
#define FP_REWRITE_H

#include "fp_csum.h"
#include "fp_parse.h"

/* Where a packet of one direction goes: its new addresses and ports, and what they add to a sum. */
typedef struct
{
  const void *src, *dst; /* 4 or 16 bytes */
  u16 sport, dport;
  u16 address_delta; /* folded */
  u16 l4_delta;	     /* addresses and ports */
} fp_target_t;

/* Both deltas of the forward direction in one word; those of the reverse direction are its complement. */
FP_INLINE u32
fp_deltas4 (const fp_session4_t *s)
{
  fp_sum_t a = fp_csum_replace32 (s->client, s->nat) + fp_csum_replace32 (s->vip, s->ep);
  fp_sum_t l4 = a + fp_csum_replace16 (s->cport, s->nport) + fp_csum_replace16 (s->vport, s->eport);
  return (u32) fp_csum_fold (l4) << 16 | fp_csum_fold (a);
}

FP_INLINE u32
fp_deltas6 (const fp_session6_t *s)
{
  fp_sum_t a = fp_csum_replace_bytes (s->client, s->nat, 16) + fp_csum_replace_bytes (s->vip, s->ep, 16);
  fp_sum_t l4 = a + fp_csum_replace16 (s->cport, s->nport) + fp_csum_replace16 (s->vport, s->eport);
  return (u32) fp_csum_fold (l4) << 16 | fp_csum_fold (a);
}

FP_ALWAYS_INLINE fp_target_t
fp_target4 (const fp_session4_t *s, int reverse)
{
  u32 d = reverse ? ~s->spare : s->spare;
  fp_target_t t = {
    .src = reverse ? &s->vip : &s->nat,
    .dst = reverse ? &s->client : &s->ep,
    .sport = reverse ? s->vport : s->nport,
    .dport = reverse ? s->cport : s->eport,
    .address_delta = (u16) d,
    .l4_delta = (u16) (d >> 16),
  };
  return t;
}

FP_ALWAYS_INLINE fp_target_t
fp_target6 (const fp_session6_t *s, int reverse)
{
  u32 d = reverse ? ~s->spare[0] : s->spare[0];
  fp_target_t t = {
    .src = reverse ? s->vip : s->nat,
    .dst = reverse ? s->client : s->ep,
    .sport = reverse ? s->vport : s->nport,
    .dport = reverse ? s->cport : s->eport,
    .address_delta = (u16) d,
    .l4_delta = (u16) (d >> 16),
  };
  return t;
}

/* Addresses, IPv4 header checksum, TTL or hop limit (which the caller has found to be more than 1, or to be kept). */
FP_ALWAYS_INLINE void
fp_rewrite_ip (u8 *h, int six, const fp_target_t *t, int keep_ttl)
{
  if (six)
    {
      memcpy (h + 8, t->src, 16);
      memcpy (h + 24, t->dst, 16);
      h[7] -= !keep_ttl;
    }
  else
    {
      fp_sum_t delta = t->address_delta + (keep_ttl ? 0u : fp_net16 (0xfeff)); /* - 0x0100 in the word of the TTL */
      fp_store16 (h + 10, fp_csum_update (fp_load16 (h + 10), delta));
      memcpy (h + 12, t->src, 4);
      memcpy (h + 16, t->dst, 4);
      h[8] -= !keep_ttl;
    }
}

/* Whether the packet's transport checksum, at `field`, is left to a later device. */
FP_ALWAYS_INLINE int
fp_csum_is_partial (const fp_packet_t *p, u32 l4, u32 field)
{
  return p->csum == FP_CSUM_PARTIAL && p->csum_start == l4 && p->csum_offset == field;
}

/* TCP or UDP header, whole in the contiguous bytes. */
FP_ALWAYS_INLINE void
fp_rewrite_l4 (const fp_packet_t *p, const fp_parsed_t *o, const fp_target_t *t)
{
  u8 *l4 = p->l3 + o->l4;
  u32 field = o->proto == FP_PROTO_TCP ? 16 : 6;
  u16 old = fp_load16 (l4 + field), new;

  if (FP_UNLIKELY (fp_csum_is_partial (p, o->l4, field)))
    new = fp_csum_update_partial (old, t->address_delta);
  else if (o->proto == FP_PROTO_TCP)
    new = fp_csum_update (old, t->l4_delta);
  else
    new = fp_csum_update_udp (old, t->l4_delta);
  fp_store16 (l4 + field, new);
  fp_store16 (l4, t->sport);
  fp_store16 (l4 + 2, t->dport);
}

FP_ALWAYS_INLINE void
fp_rewrite (const fp_packet_t *p, const fp_parsed_t *o, int six, const fp_target_t *t)
{
  fp_rewrite_ip (p->l3, six, t, p->flags & FP_PACKET_KEEP_TTL);
  if (FP_LIKELY (o->kind == FP_KIND_FLOW))
    fp_rewrite_l4 (p, o, t);
}

/* Whether the way out takes the packet, or each segment that it will be cut into. */
FP_INLINE int
fp_fits (const fp_packet_t *p, const fp_parsed_t *o)
{
  const u8 *h = p->l3;
  u32 size = o->length;

  if (o->family == 4 && !(h[6] & 0x40))
    return 1; /* the host may fragment it */
  if (p->gso_type == FP_GSO_UDP)
    return 1; /* a device cuts it into fragments */
  if (p->gso_type != FP_GSO_NONE && o->kind == FP_KIND_FLOW)
    size = o->l4 + p->gso_size + (o->proto == FP_PROTO_TCP ? (h[o->l4 + 12] >> 4) * 4u : FP_UDP_HEADER);
  return size <= p->mtu;
}

/* What a router looks at before it forwards (RFC 1812 5.3.1, RFC 8201): FP_DROP_TTL, FP_DROP_TOO_BIG or none. */
FP_ALWAYS_INLINE enum fp_drop
fp_hop_check (const fp_packet_t *p, const fp_parsed_t *o, int v6)
{
  if (FP_UNLIKELY (p->l3[v6 ? 7 : 8] <= 1) && !(p->flags & FP_PACKET_KEEP_TTL))
    return FP_DROP_TTL;
  if (FP_UNLIKELY (p->mtu && o->length > p->mtu) && !fp_fits (p, o))
    return FP_DROP_TOO_BIG;
  return FP_DROP_NONE;
}

#endif /* FP_REWRITE_H */

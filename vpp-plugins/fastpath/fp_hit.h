/* SPDX-License-Identifier: Apache-2.0 */
/* Known flows, the ordinary way: a whole TCP or UDP packet behind a plain header (IPv4 without options, IPv6 without extension headers) whose
 * session is there and need not change. Everything is compared, nothing is stored but the rewritten packet. A packet that fails any of
 * the conditions has not been touched: the general way (fp_service.h) takes it from the beginning, so these functions need not tell why.
 *
 * Three stages, for a batch each: shape and hash; the index word; comparison and rewrite. The index word found in the second stage is good
 * until the worker's next quiescent point: a record is not used again before that, and the third stage compares its key and its phase. */
#ifndef FP_HIT_H
#define FP_HIT_H

#include "fp_nat.h"

enum fp_shape
{
  FP_SHAPE_OTHER = 0, /* for the general way */
  FP_SHAPE_TCP4 = 1,
  FP_SHAPE_UDP4 = 2,
  FP_SHAPE_TCP6 = 3,
  FP_SHAPE_UDP6 = 4,
};

/* Between the stages. */
typedef struct
{
  u64 hash; /* of the packet's key */
  u64 word; /* of the index, live when it was read, its key not compared; 0: none seen */
} fp_seen_t;

/* What the stages need of a region, in registers or on the stack: writing packet bytes does not make the compiler load it again. */
typedef struct
{
  const fp_bucket_t *buckets;
  u8 *records;
  u32 mask;
  u32 capacity;
} fp_hit_table_t;

typedef struct
{
  fp_hash_t hash;
  fp_hit_table_t table[2]; /* IPv4, IPv6 */
  const fp_endpoint_t *endpoints;
  u32 endpoint_capacity;
  fp_service_counts_t services;
  u32 tick;
  u32 many; /* endpoints or Services: more than the nearer caches hold beside everything else */
} fp_hit_context_t;

#ifndef FP_HIT_MANY
#define FP_HIT_MANY 4096
#endif

FP_ALWAYS_INLINE void
fp_hit_context (fp_hit_context_t *c, const fp_worker_t *w)
{
  const fp_region_t *r = w->region;
  c->hash = r->hash;
  for (int v6 = 0; v6 < 2; v6++)
    {
      const fp_shared_table_t *t = fp_session_table (r, v6);
      c->table[v6] = (fp_hit_table_t){ t->index.buckets, t->records, t->index.mask, t->capacity };
    }
  c->endpoints = (const fp_endpoint_t *) r->controlled[FP_CONTROLLED_ENDPOINT].records;
  c->endpoint_capacity = r->controlled[FP_CONTROLLED_ENDPOINT].capacity;
  c->tick = w->tick;
  c->services = fp_service_counts (w);
  c->many = atomic_load_explicit (&r->controlled[FP_CONTROLLED_ENDPOINT].used, memory_order_relaxed) > FP_HIT_MANY ||
	    atomic_load_explicit (&r->controlled[FP_CONTROLLED_SERVICE].used, memory_order_relaxed) > FP_HIT_MANY;
}

/* ---- first stage ---- */

/* Whether a transport header of `have` bytes with payload, `readable` of them and at least FP_UDP_HEADER, is one that fp_parse_l4 takes. Either has
 * its own length, which is not less than the header: so `have` is not, either. */
FP_ALWAYS_INLINE int
fp_plain_l4 (const u8 *l4, u8 proto, u32 have, u32 readable)
{
  if (proto == FP_PROTO_TCP)
    {
      if (FP_UNLIKELY (readable < FP_TCP_HEADER))
	return 0;
      u32 header = (l4[12] >> 4) * 4u;
      return FP_LIKELY (header >= FP_TCP_HEADER && header <= have);
    }
  if (FP_UNLIKELY (proto != FP_PROTO_UDP))
    return 0;
  u32 length = fp_net16 (fp_load16 (l4 + 4));
  return FP_LIKELY (length >= FP_UDP_HEADER && length <= have);
}

/* Whether the checksum over a header of 20 bytes is right: the sum of its words is all ones, a multiple of 65535, and not zero. */
FP_ALWAYS_INLINE int
fp_plain_checksum (const u8 *h)
{
  u64 a = fp_load64 (h), b = fp_load64 (h + 8);
  return ((a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32) + fp_load32 (h + 16)) % 65535 == 0;
}

/* The packet's shape and, unless it is FP_SHAPE_OTHER, the hash of its key. */
FP_ALWAYS_INLINE u8
fp_shape4 (const fp_hash_t *hash, const fp_packet_t *p, u64 *out)
{
  const u8 *h = p->l3;
  if (FP_UNLIKELY (p->contiguous < FP_IP4_HEADER + FP_UDP_HEADER))
    return FP_SHAPE_OTHER;
  /* version, header length, no fragment */
  u64 first = fp_load64 (h);
  if (FP_UNLIKELY ((first & 0xff3f0000000000ffull) != 0x45))
    return FP_SHAPE_OTHER;
  u32 have = fp_net16 ((u16) (first >> 16)) - (u32) FP_IP4_HEADER; /* of less than a header: more than any packet has */
  if (FP_UNLIKELY (have > p->length - FP_IP4_HEADER))
    return FP_SHAPE_OTHER;
  u8 proto = h[9];
  if (FP_UNLIKELY (!fp_plain_l4 (h + FP_IP4_HEADER, proto, have, p->contiguous - FP_IP4_HEADER)))
    return FP_SHAPE_OTHER;
  if (FP_UNLIKELY (!(p->flags & FP_PACKET_IP_VALID) && !fp_plain_checksum (h)))
    return FP_SHAPE_OTHER;
  u64 words[2] = { fp_load64 (h + 12), fp_load32 (h + 20) | (u64) (p->vrf ^ (u32) proto << 24) << 32 };
  *out = fp_hash_words (hash, words, 2);
  return proto == FP_PROTO_TCP ? FP_SHAPE_TCP4 : FP_SHAPE_UDP4;
}

FP_ALWAYS_INLINE u8
fp_shape6 (const fp_hash_t *hash, const fp_packet_t *p, u64 *out)
{
  const u8 *h = p->l3;
  if (FP_UNLIKELY (p->contiguous < FP_IP6_HEADER + FP_UDP_HEADER || h[0] >> 4 != 6))
    return FP_SHAPE_OTHER;
  u32 payload = fp_net16 (fp_load16 (h + 4));
  if (FP_UNLIKELY (FP_IP6_HEADER + payload > p->length))
    return FP_SHAPE_OTHER;
  u8 proto = h[6];
  if (FP_UNLIKELY (!fp_plain_l4 (h + FP_IP6_HEADER, proto, payload, p->contiguous - FP_IP6_HEADER)))
    return FP_SHAPE_OTHER;
  u64 words[5] = { fp_load64 (h + 8), fp_load64 (h + 16), fp_load64 (h + 24), fp_load64 (h + 32),
		   fp_load32 (h + 40) | (u64) (p->vrf ^ (u32) proto << 24) << 32 };
  *out = fp_hash_words (hash, words, 5);
  return proto == FP_PROTO_TCP ? FP_SHAPE_TCP6 : FP_SHAPE_UDP6;
}

FP_ALWAYS_INLINE int
fp_shape_is6 (u8 shape)
{
  return shape >= FP_SHAPE_TCP6;
}

/* What fp_parse says of such a packet. */
FP_INLINE void
fp_plain_parsed (const fp_packet_t *p, u8 shape, fp_parsed_t *o)
{
  const u8 *h = p->l3;
  int v6 = fp_shape_is6 (shape), tcp = shape == FP_SHAPE_TCP4 || shape == FP_SHAPE_TCP6;
  memset (o, 0, sizeof (*o));
  o->length = v6 ? FP_IP6_HEADER + fp_net16 (fp_load16 (h + 4)) : fp_net16 (fp_load16 (h + 2));
  o->l4 = v6 ? FP_IP6_HEADER : FP_IP4_HEADER;
  o->family = v6 ? 6 : 4;
  o->kind = FP_KIND_FLOW;
  o->proto = tcp ? FP_PROTO_TCP : FP_PROTO_UDP;
  o->tcp_flags = tcp ? h[o->l4 + 13] : 0;
}

FP_ALWAYS_INLINE const fp_bucket_t *
fp_hit_first (const fp_hit_table_t *t, u64 hash)
{
  return &t->buckets[(u32) hash & t->mask];
}

FP_ALWAYS_INLINE const fp_bucket_t *
fp_hit_second (const fp_hit_table_t *t, u64 hash)
{
  u32 first = (u32) hash & t->mask, b = (u32) (hash >> 32) & t->mask;
  return &t->buckets[b == first ? b ^ 1 : b];
}

/* Shape, hash, and the first bucket on its way. family: 4 or 6 if the packet is of no other, or 0. */
FP_ALWAYS_INLINE u8
fp_hit_begin (const fp_hit_context_t *c, const fp_packet_t *p, u8 family, fp_seen_t *x)
{
  u8 shape;
  if (!family && FP_UNLIKELY (p->contiguous == 0))
    return FP_SHAPE_OTHER;
  if (family ? family == 6 : p->l3[0] >> 4 == 6)
    {
      shape = fp_shape6 (&c->hash, p, &x->hash);
      if (FP_LIKELY (shape))
	FP_PREFETCH (fp_hit_first (&c->table[1], x->hash));
    }
  else
    {
      shape = fp_shape4 (&c->hash, p, &x->hash);
      if (FP_LIKELY (shape))
	FP_PREFETCH (fp_hit_first (&c->table[0], x->hash));
    }
  return shape;
}

/* ---- second stage ---- */

FP_ALWAYS_INLINE void
fp_hit_prefetch_record (const fp_hit_table_t *t, int v6, u64 word)
{
  const u8 *s = t->records + (size_t) fp_word_slot (word) * (v6 ? sizeof (fp_session6_t) : sizeof (fp_session4_t));
  FP_PREFETCH (s);
  if (v6)
    FP_PREFETCH (s + FP_CACHE_LINE);
}

/* Look into the first bucket, and bring the record, or else the second bucket. 0: not there. */
FP_ALWAYS_INLINE int
fp_hit_look (const fp_hit_context_t *c, int v6, fp_seen_t *x)
{
  const fp_hit_table_t *t = &c->table[v6];
  x->word = fp_bucket_candidate (fp_hit_first (t, x->hash), fp_scan_live (x->hash));
  if (FP_LIKELY (x->word != 0))
    {
      fp_hit_prefetch_record (t, v6, x->word);
      return 1;
    }
  FP_PREFETCH (fp_hit_second (t, x->hash));
  return 0;
}

FP_ALWAYS_INLINE int
fp_hit_look_again (const fp_hit_context_t *c, int v6, fp_seen_t *x)
{
  const fp_hit_table_t *t = &c->table[v6];
  x->word = fp_bucket_candidate (fp_hit_second (t, x->hash), fp_scan_live (x->hash));
  if (x->word)
    fp_hit_prefetch_record (t, v6, x->word);
  return x->word != 0;
}

/* The record is there by now: bring what it names and the third stage needs, the Service's counters and the endpoint of a client's UDP packet.
 * Without a branch: directions and protocols come at random. */
FP_ALWAYS_INLINE void
fp_hit_follow (const fp_hit_context_t *c, int v6, u8 shape, u64 word)
{
  const fp_hit_table_t *t = &c->table[v6];
  u32 slot = fp_word_slot (word), wanted = (shape == (v6 ? FP_SHAPE_UDP6 : FP_SHAPE_UDP4)) & (word != 0) & ~fp_word_ref (word);
  if (FP_UNLIKELY (slot >= t->capacity))
    return;
  const fp_session4_t *s4 = (const fp_session4_t *) t->records + slot;
  const fp_session6_t *s6 = (const fp_session6_t *) t->records + slot;
  FP_PREFETCH (c->endpoints + ((v6 ? s6->ep_slot : s4->ep_slot) & (0 - (wanted & 1))));
  __builtin_prefetch (c->services.entries + ((v6 ? s6->service_slot : s4->service_slot) & c->services.mask), 1, 3);
}

/* ---- third stage ---- */

/* Whether a session of this life may carry the packet without any change to it: nothing is new for its state, and its expiry is not
 * older than an eighth of the time-out. */
FP_ALWAYS_INLINE int
fp_hit_is_steady (u64 life, u8 proto, int reverse, u8 tcp_flags, u32 tick)
{
  u32 phase_state = (u32) (life >> 32) & 0xffff, left = fp_life_expiry (life) - tick, timeout;
  if (proto == FP_PROTO_TCP)
    {
      /* an open connection, whoever began it, and a segment that changes nothing: see fp_tcp_next */
      timeout = FP_TICKS (24 * 3600);
      if (FP_UNLIKELY ((phase_state & ~(u32) (FP_ST_SYN | FP_ST_REPLY)) != (FP_PHASE_LIVE << 8 | FP_ST_OPEN) ||
		       (tcp_flags & (FP_TCP_FIN | FP_TCP_SYN | FP_TCP_RST))))
	return 0;
    }
  else
    {
      /* an answer is new unless there has been one */
      if (FP_UNLIKELY ((phase_state & ~(u32) FP_ST_REPLY) != FP_PHASE_LIVE << 8 || !((phase_state & FP_ST_REPLY) | (u32) !reverse)))
	return 0;
      timeout = phase_state & FP_ST_REPLY ? FP_TICKS (120) : FP_TICKS (30);
    }
  return FP_LIKELY (left - (timeout - timeout / 8) <= timeout / 8);
}

/* Whether the endpoint of a session still serves; true if `any` is 1. Without a branch on it: directions come at random. (Slot 0 is read where none
 * matters.) */
FP_ALWAYS_INLINE int
fp_hit_serves (const fp_hit_context_t *c, u32 slot, u32 gen, u32 any)
{
  u32 wanted = any - 1; /* all bits, or none */
  if (FP_UNLIKELY (slot >= c->endpoint_capacity))
    return (int) any;
  FP_OPAQUE (wanted); /* clang would branch on it */
  const fp_endpoint_t *e = c->endpoints + (slot & wanted);
  u32 flags = atomic_load_explicit (&e->flags, memory_order_acquire);
  u32 other = atomic_load_explicit (&e->gen, memory_order_relaxed) ^ gen;
  return ((other | (~flags & FP_ENDPOINT_SERVES)) & wanted) == 0;
}

/* b: at most two folded sums. */
FP_ALWAYS_INLINE u16
fp_csum_add (u16 a, u32 b)
{
  u32 s = a + b;
  return (u16) ((s + (s << 16 | s >> 16)) >> 16); /* the lower half's carry goes into the upper half */
}

/* The transport header. deltas: as kept in the session, of this direction. */
FP_ALWAYS_INLINE void
fp_plain_rewrite_l4 (const fp_packet_t *p, u8 proto, u32 at, u32 ports, u32 deltas)
{
  u8 *l4 = p->l3 + at;
  u32 field = proto == FP_PROTO_TCP ? 16 : 6;
  u16 old = fp_load16 (l4 + field), new;
  if (FP_UNLIKELY (fp_csum_is_partial (p, at, field)))
    new = fp_csum_add (old, (u16) deltas);
  else
    {
      new = (u16) ~fp_csum_add ((u16) ~old, deltas >> 16);
      if (proto == FP_PROTO_UDP)
	new = old == 0 ? 0 : new == 0 ? 0xffff : new;
    }
  fp_store16 (l4 + field, new);
  fp_store32 (l4, ports);
}

/* A plain packet of one direction of a session becomes one of the other half: its source and destination, the other way round. */
FP_ALWAYS_INLINE void
fp_plain_rewrite4 (const fp_packet_t *p, u8 proto, const fp_session4_t *s, u32 dir)
{
  u8 *h = p->l3;
  const u8 *other = (const u8 *) s + 16 * (dir ^ 1);
  u32 keep_ttl = p->flags & FP_PACKET_KEEP_TTL, deltas = s->spare ^ (0 - dir), ports = fp_load32 (other + 8);
  u64 addresses = fp_load64 (other);
  fp_store16 (h + 10, (u16) ~fp_csum_add ((u16) ~fp_load16 (h + 10), (deltas & 0xffff) + (keep_ttl ? 0u : fp_net16 (0xfeff))));
  h[8] = (u8) (h[8] - !keep_ttl);
  addresses = addresses << 32 | addresses >> 32;
  memcpy (h + 12, &addresses, 8);
  fp_plain_rewrite_l4 (p, proto, FP_IP4_HEADER, ports << 16 | ports >> 16, deltas);
}

FP_ALWAYS_INLINE void
fp_plain_rewrite6 (const fp_packet_t *p, u8 proto, const fp_session6_t *s, u32 dir)
{
  u8 *h = p->l3;
  const u8 *other = (const u8 *) s + 64 * (dir ^ 1);
  u32 keep_ttl = p->flags & FP_PACKET_KEEP_TTL, deltas = s->spare[0] ^ (0 - dir), ports = fp_load32 (other + 32);
  memcpy (h + 8, other + 16, 16);
  memcpy (h + 24, other, 16);
  h[7] = (u8) (h[7] - !keep_ttl);
  fp_plain_rewrite_l4 (p, proto, FP_IP6_HEADER, ports << 16 | ports >> 16, deltas);
}

/* 1: the flow is known, the packet rewritten and counted, *reverse says which direction. 0: nothing has been done. */
FP_ALWAYS_INLINE int
fp_hit_finish4 (const fp_hit_context_t *c, const fp_packet_t *p, u8 proto, u64 word, u32 *reverse)
{
  const fp_hit_table_t *t = &c->table[0];
  u8 *h = p->l3;
  u32 slot = fp_word_slot (word), dir = fp_word_ref (word) & 1;
  if (FP_UNLIKELY (!word || slot >= t->capacity))
    return 0;
  fp_session4_t *s = (fp_session4_t *) t->records + slot;
  const u8 *half = (const u8 *) s + 16 * dir; /* addresses, then ports: client and vip, or ep and nat */
  u32 ports = fp_load32 (h + FP_IP4_HEADER);
  if (FP_UNLIKELY (fp_load64 (half) != fp_load64 (h + 12) || fp_load32 (half + 8) != ports || s->vrf != p->vrf ||
		   s->proto != proto))
    return 0;
  u64 life = atomic_load_explicit (&s->life, memory_order_acquire);
  if (FP_UNLIKELY (!fp_hit_is_steady (life, proto, dir, proto == FP_PROTO_TCP ? h[FP_IP4_HEADER + 13] : 0, c->tick)))
    return 0;
  if (proto == FP_PROTO_UDP && FP_UNLIKELY (!fp_hit_serves (c, s->ep_slot, s->ep_gen, dir)))
    return 0;
  if (FP_UNLIKELY ((h[8] <= 1 && !(p->flags & FP_PACKET_KEEP_TTL)) || (p->mtu && fp_net16 (fp_load16 (h + 2)) > p->mtu)))
    return 0;
  fp_service_count (c->services, fp_session_service (0, s), dir, p->length);
  fp_plain_rewrite4 (p, proto, s, dir);
  *reverse = dir;
  return 1;
}

FP_ALWAYS_INLINE int
fp_hit_finish6 (const fp_hit_context_t *c, const fp_packet_t *p, u8 proto, u64 word, u32 *reverse)
{
  const fp_hit_table_t *t = &c->table[1];
  u8 *h = p->l3;
  u32 slot = fp_word_slot (word), dir = fp_word_ref (word) & 1;
  if (FP_UNLIKELY (!word || slot >= t->capacity))
    return 0;
  fp_session6_t *s = (fp_session6_t *) t->records + slot;
  const u8 *half = (const u8 *) s + 64 * dir;
  u32 ports = fp_load32 (h + FP_IP6_HEADER);
  u64 d = (fp_load64 (half) ^ fp_load64 (h + 8)) | (fp_load64 (half + 8) ^ fp_load64 (h + 16)) |
	  (fp_load64 (half + 16) ^ fp_load64 (h + 24)) | (fp_load64 (half + 24) ^ fp_load64 (h + 32));
  if (FP_UNLIKELY (d || fp_load32 (half + 32) != ports || s->vrf != p->vrf || s->proto != proto))
    return 0;
  u64 life = atomic_load_explicit (&s->life, memory_order_acquire);
  if (FP_UNLIKELY (!fp_hit_is_steady (life, proto, dir, proto == FP_PROTO_TCP ? h[FP_IP6_HEADER + 13] : 0, c->tick)))
    return 0;
  if (proto == FP_PROTO_UDP && FP_UNLIKELY (!fp_hit_serves (c, s->ep_slot, s->ep_gen, dir)))
    return 0;
  if (FP_UNLIKELY ((h[7] <= 1 && !(p->flags & FP_PACKET_KEEP_TTL)) ||
		   (p->mtu && FP_IP6_HEADER + (u32) fp_net16 (fp_load16 (h + 4)) > p->mtu)))
    return 0;
  fp_service_count (c->services, fp_session_service (1, s), dir, p->length);
  fp_plain_rewrite6 (p, proto, s, dir);
  *reverse = dir;
  return 1;
}

/* family: as above. */
FP_ALWAYS_INLINE int
fp_hit_finish (const fp_hit_context_t *c, const fp_packet_t *p, u8 family, u8 shape, u64 word, u32 *reverse)
{
  if (family && shape && fp_shape_is6 (shape) != (family == 6))
    __builtin_unreachable ();
  switch ((enum fp_shape) shape)
    {
    case FP_SHAPE_TCP4:
      return fp_hit_finish4 (c, p, FP_PROTO_TCP, word, reverse);
    case FP_SHAPE_UDP4:
      return fp_hit_finish4 (c, p, FP_PROTO_UDP, word, reverse);
    case FP_SHAPE_TCP6:
      return fp_hit_finish6 (c, p, FP_PROTO_TCP, word, reverse);
    case FP_SHAPE_UDP6:
      return fp_hit_finish6 (c, p, FP_PROTO_UDP, word, reverse);
    case FP_SHAPE_OTHER:
      break;
    }
  return 0;
}

#endif /* FP_HIT_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Outer fragments (TS 29.281 4.4.5 leaves them to IP; RFC 791, RFC 8200 4.5). Only the first fragment shows whether a datagram is GTP-U: it
 * opens the reassembly; one that overtakes it is held by the host like a Service's (fp_fragment.h). A datagram with overlapping
 * fragments is given up as a whole (RFC 5722; for IPv4 as well), an exact repetition of what is there is ignored. */
#ifndef FP_GTPU_REASSEMBLY_H
#define FP_GTPU_REASSEMBLY_H

#include "fp_fragment.h"
#include "fp_gtpu_worker.h"

enum fp_gtpu_piece
{
  FP_GTPU_PIECE_TAKEN,	  /* more to come */
  FP_GTPU_PIECE_COMPLETE, /* *p is the whole datagram now */
  FP_GTPU_PIECE_BAD,	  /* overlap, too large, or of a datagram that was given up */
  FP_GTPU_PIECE_FULL,
  FP_GTPU_PIECE_UNKNOWN, /* no first fragment has come */
};

FP_INLINE void
fp_gtpu_datagram_free (fp_gtpu_worker_t *g, u32 i)
{
  g->open--;
  g->delivered -= g->state[i] == FP_GTPU_DATAGRAM_DELIVERED;
  g->state[i] = FP_GTPU_DATAGRAM_FREE;
}

/* Datagrams whose time is over. When idle, and when room is needed. */
FP_INLINE void
fp_gtpu_expire (fp_worker_t *w)
{
  fp_gtpu_worker_t *g = w->gtpu;
  if (!g || !g->open)
    return;
  for (u32 i = 0; i < FP_GTPU_DATAGRAMS; i++)
    if ((g->state[i] == FP_GTPU_DATAGRAM_OPEN || g->state[i] == FP_GTPU_DATAGRAM_BAD) && w->now_ns >= g->datagram[i].until_ns)
      {
	if (g->state[i] == FP_GTPU_DATAGRAM_OPEN)
	  fp_count (w, FP_C_GTPU_REASSEMBLY_EXPIRED, 1);
	fp_gtpu_datagram_free (g, i);
      }
}

/* The host has finished with the datagrams of the vector before. */
FP_INLINE void
fp_gtpu_datagrams_settle (fp_gtpu_worker_t *g)
{
  for (u32 i = 0; g->delivered && i < FP_GTPU_DATAGRAMS; i++)
    if (g->state[i] == FP_GTPU_DATAGRAM_DELIVERED)
      fp_gtpu_datagram_free (g, i);
}

FP_INLINE u32
fp_gtpu_datagram_find (const fp_gtpu_worker_t *g, const fp_frag_key_t *k, u32 tag, u64 now_ns)
{
  if (g->open)
    for (u32 i = 0; i < FP_GTPU_DATAGRAMS; i++)
      if (g->tag[i] == tag && (g->state[i] == FP_GTPU_DATAGRAM_OPEN || g->state[i] == FP_GTPU_DATAGRAM_BAD) &&
	  now_ns < g->datagram[i].until_ns && memcmp (&g->datagram[i].key, k, sizeof (*k)) == 0)
	return i;
  return FP_NONE;
}

FP_INLINE u32
fp_gtpu_datagram_open (fp_worker_t *w, const fp_packet_t *p, const fp_parsed_t *o, const fp_frag_key_t *k, u32 tag)
{
  fp_gtpu_worker_t *g = w->gtpu;
  fp_gtpu_datagram_t *d;
  u32 i = 0;
  if (g->open == FP_GTPU_DATAGRAMS)
    fp_gtpu_expire (w);
  if (g->open == FP_GTPU_DATAGRAMS)
    return FP_NONE;
  while (g->state[i] != FP_GTPU_DATAGRAM_FREE)
    i++;
  d = &g->datagram[i];
  d->key = *k;
  d->until_ns = w->now_ns + FP_GTPU_REASSEMBLY_NS;
  d->size = fp_net16 (fp_load16 (p->l3 + o->l4 + 4));
  d->have = 0;
  memset (d->units, 0, sizeof (d->units));
  memcpy (d->header, p->l3, o->family == 4 ? FP_IP4_HEADER : FP_IP6_HEADER);
  g->tag[i] = tag;
  g->state[i] = d->size <= FP_GTPU_DATAGRAM_BYTES ? FP_GTPU_DATAGRAM_OPEN : FP_GTPU_DATAGRAM_BAD;
  g->open++;
  return i;
}

/* Bytes [at, at + n) of the datagram, whose last fragment they are or not. 1: taken or known; 0: they contradict what is there. */
FP_INLINE int
fp_gtpu_datagram_add (fp_gtpu_datagram_t *d, const u8 *bytes, u32 at, u32 n, int more)
{
  u32 first = at / 8, last = (at + n + 7) / 8, known = 0;
  if (at + n > d->size || (!more && at + n != d->size))
    return 0;
  if (more && at + n == d->size)
    return 0;
  for (u32 u = first; u < last; u++)
    known += (u32) (d->units[u / 64] >> u % 64) & 1;
  if (known)
    return known == last - first && memcmp (d->room + FP_GTPU_DATAGRAM_AT + at, bytes, n) == 0;
  for (u32 u = first; u < last; u++)
    d->units[u / 64] |= 1ull << u % 64;
  d->have += last - first;
  memcpy (d->room + FP_GTPU_DATAGRAM_AT + at, bytes, n);
  return 1;
}

/* Put headers in front and let *p describe the datagram, in the worker's memory. */
FP_INLINE void
fp_gtpu_datagram_deliver (fp_worker_t *w, u32 i, fp_packet_t *p)
{
  fp_gtpu_worker_t *g = w->gtpu;
  fp_gtpu_datagram_t *d = &g->datagram[i];
  u32 header = d->key.family == 4 ? FP_IP4_HEADER : FP_IP6_HEADER;
  u8 *h = d->room + FP_GTPU_DATAGRAM_AT - header;

  memcpy (h, d->header, header);
  if (d->key.family == 4)
    {
      h[0] = 0x45;
      fp_store16 (h + 2, fp_net16 ((u16) (header + d->size)));
      fp_store32 (h + 4, 0);
      fp_store16 (h + 10, 0);
      fp_store16 (h + 10, (u16) ~fp_csum_fold (fp_csum_bytes (h, header, 0)));
    }
  else
    {
      fp_store16 (h + 4, fp_net16 ((u16) d->size));
      h[6] = FP_PROTO_UDP;
    }
  p->l3 = h;
  p->contiguous = p->length = header + d->size;
  p->headroom = (u32) (h - d->room);
  p->room = header + FP_GTPU_DATAGRAM_BYTES;
  p->csum = FP_CSUM_NONE;
  p->gso_type = FP_GSO_NONE;
  p->gso_size = 0;
  p->flags |= FP_PACKET_IP_VALID;
  g->state[i] = FP_GTPU_DATAGRAM_DELIVERED;
  g->delivered++;
  fp_count (w, FP_C_GTPU_REASSEMBLED, 1);
}

/* A fragment (fp_parse has accepted it, its protocol is UDP; a first one is for the GTP-U port of an endpoint). Needs the worker's
 * state. */
FP_INLINE enum fp_gtpu_piece
fp_gtpu_reassemble (fp_worker_t *w, fp_packet_t *p, const fp_parsed_t *o, const fp_frag_key_t *k)
{
  fp_gtpu_worker_t *g = w->gtpu;
  u32 tag = (u32) fp_hash_frag (&w->region->hash, k), i = fp_gtpu_datagram_find (g, k, tag, w->now_ns);
  const u8 *h = p->l3;
  u16 field;
  u32 offset, more;

  if (i == FP_NONE)
    {
      if (!o->first)
	return FP_GTPU_PIECE_UNKNOWN;
      i = fp_gtpu_datagram_open (w, p, o, k, tag);
      if (i == FP_NONE)
	return FP_GTPU_PIECE_FULL;
    }
  if (g->state[i] != FP_GTPU_DATAGRAM_OPEN)
    return FP_GTPU_PIECE_BAD;
  if (o->family == 4)
    {
      field = fp_net16 (fp_load16 (h + 6));
      offset = (field & 0x1fffu) * 8;
      more = field & 0x2000;
    }
  else
    {
      field = fp_net16 (fp_load16 (h + o->l4 - 6)); /* the fragment header is the last one */
      offset = field & 0xfff8u;
      more = field & 1;
    }
  if (p->contiguous < o->length || !fp_gtpu_datagram_add (&g->datagram[i], h + o->l4, offset, o->length - o->l4, more != 0))
    {
      g->state[i] = FP_GTPU_DATAGRAM_BAD;
      return FP_GTPU_PIECE_BAD;
    }
  if (g->datagram[i].have < (g->datagram[i].size + 7) / 8)
    return FP_GTPU_PIECE_TAKEN;
  fp_gtpu_datagram_deliver (w, i, p);
  return FP_GTPU_PIECE_COMPLETE;
}

#endif /* FP_GTPU_REASSEMBLY_H */

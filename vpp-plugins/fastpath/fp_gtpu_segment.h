/* SPDX-License-Identifier: Apache-2.0 */
/* Large packets that have to go on as several before (or instead of) a tunnel: segmentation offload (TCP, UDP), and IPv4 packets without DF that
 * are too big (RFC 791 fragments). Each result is a whole packet with its checksums done. Needs no table. */
#ifndef FP_GTPU_SEGMENT_H
#define FP_GTPU_SEGMENT_H

#include "fp_gtpu_build.h"

/* Finish a partial checksum. 0: the offsets lie outside the transport part [l4, length). */
FP_INLINE int
fp_gtpu_complete_checksum (fp_packet_t *p, u32 l4, u32 length)
{
  u32 at = p->csum_start + p->csum_offset;
  u16 c;
  if (p->csum != FP_CSUM_PARTIAL)
    return 1;
  if (p->csum_start < l4 || p->csum_start > length || at + 2 > length || p->contiguous < length)
    return 0;
  c = (u16) ~fp_csum_fold (fp_gtpu_sum (p->l3 + p->csum_start, length - p->csum_start));
  fp_store16 (p->l3 + at, c ? c : 0xffff); /* all ones is the same sum, and for UDP not "none" */
  p->csum = FP_CSUM_VALID;
  return 1;
}

/* Options that only the first fragment carries become NOPs (RFC 791: copied flag). */
FP_INLINE void
fp_gtpu_later_options (u8 *h, u32 header)
{
  for (u32 i = FP_IP4_HEADER; i < header && h[i];)
    {
      u32 size = h[i] == 1 ? 1 : i + 1 < header ? h[i + 1] : 0;
      if (h[i] == 1)
	{
	  i++;
	  continue;
	}
      if (size < 2 || size > header - i)
	return;
      if (!(h[i] & 0x80))
	memset (h + i, 1, size);
      i += size;
    }
}

/* IPv4 header of a piece: `offset` and length in bytes of the IP payload; more: pieces of this packet follow. */
FP_INLINE void
fp_gtpu_piece_header (u8 *h, u32 header, u32 payload, u32 offset, int more)
{
  u16 field = fp_net16 (fp_load16 (h + 6));
  if (offset || more)
    {
      u16 old = (field & 0x1fff) + (u16) (offset / 8);
      if (offset && header > FP_IP4_HEADER)
	fp_gtpu_later_options (h, header);
      fp_store16 (h + 6, fp_net16 ((u16) (old | (field & 0x2000) | (more ? 0x2000 : 0))));
    }
  fp_store16 (h + 2, fp_net16 ((u16) (header + payload)));
  fp_store16 (h + 10, 0);
  fp_store16 (h + 10, (u16) ~fp_csum_fold (fp_csum_bytes (h, header, 0)));
}

/* Transport header of segment number i, whose payload are `n` bytes at `data`; l4 points to the copy of the original header of `size` bytes. */
FP_INLINE void
fp_gtpu_segment_l4 (const fp_parsed_t *o, const u8 *addresses, u8 *l4, u32 size, const u8 *data, u32 n, u32 at, int last)
{
  u32 bytes = o->family == 4 ? 8 : 32, field = o->proto == FP_PROTO_TCP ? 16 : 6;
  fp_sum_t sum;
  u16 c;

  if (o->proto == FP_PROTO_TCP)
    {
      fp_store32 (l4 + 4, fp_net32 (fp_net32 (fp_load32 (l4 + 4)) + at));
      if (!last)
	l4[13] &= (u8) ~(FP_TCP_FIN | 8); /* PSH */
      if (at)
	l4[13] &= 0x7f; /* CWR */
    }
  else
    fp_store16 (l4 + 4, fp_net16 ((u16) (size + n)));
  fp_store16 (l4 + field, 0);
  sum = fp_csum_bytes (l4, size, 0) + fp_gtpu_sum (data, n); /* transport headers have an even length */
  c = (u16) ~fp_csum_fold (sum + fp_csum_pseudo (addresses, bytes, o->proto, size + n));
  fp_store16 (l4 + field, c || o->proto == FP_PROTO_TCP ? c : 0xffff);
}

/* Fragments of [l4, ...): what one of at most `most` bytes takes, its header apart. */
FP_INLINE u32
fp_gtpu_piece_room (u32 header, u32 most, u32 left)
{
  return header + left <= most ? left : (most - header) & ~7u;
}

/* The next packet out of *p, for which a kernel said FP_SEGMENT: written to l3, before which `headroom` and from which `room` bytes may be
 * written; *segment describes it. *at is 0 at first and is kept by the caller. Returns the length of the packet, 0: that was all (or the
 * packet cannot be cut: the kernel that said so has not looked at it, or there is no room). p's bytes stay, but for a checksum that is completed. */
FP_INLINE u32
fp_gtpu_segment (const fp_packet_t *p, u32 *at, u8 *l3, u32 headroom, u32 room, fp_packet_t *segment)
{
  fp_parsed_t o;
  fp_packet_t whole = *p;
  const u8 *h = p->l3, *from;
  u32 header, transport, payload, size, n, start, inside, piece, total;
  int gso = p->gso_type != FP_GSO_NONE, last, more;

  if (p->contiguous < p->length || (p->contiguous && fp_parse (p, &o)) || p->contiguous == 0)
    return 0;
  if (gso && (o.kind != FP_KIND_FLOW || o.first || p->gso_size == 0))
    return 0;
  if (!gso && o.family != 4)
    return 0;
  header = gso ? o.l4 : (h[0] & 15) * 4u;
  transport = !gso ? 0 : o.proto == FP_PROTO_TCP ? (h[o.l4 + 12] >> 4) * 4u : FP_UDP_HEADER;
  if (header + transport > o.length || (p->fragment_size && p->fragment_size < header + transport + 8))
    return 0;
  payload = o.length - header - transport;
  if (*at && *at >= payload)
    return 0;
  if (!gso && *at == 0 && !fp_gtpu_complete_checksum (&whole, header, o.length))
    return 0;

  /* the segment that *at lies in, and how much of it was in pieces before */
  size = gso ? p->gso_size : payload;
  if (gso && o.proto == FP_PROTO_TCP && p->fragment_size && header + transport + size > p->fragment_size)
    size = p->fragment_size - header - transport; /* a byte stream may be cut anywhere */
  inside = size ? *at % size : 0;
  start = *at - inside;
  n = payload - start < size ? payload - start : size;
  last = start + n == payload;
  from = h + header + transport;

  if (!p->fragment_size || o.family != 4 || header + transport + n <= p->fragment_size)
    {
      piece = n;
      more = 0;
    }
  else
    {
      u32 lead = inside ? 0 : transport;
      piece = fp_gtpu_piece_room (header, p->fragment_size, lead + n - inside) - lead;
      more = inside + piece < n;
    }
  total = header + (inside ? 0 : transport) + piece;
  if (total > room || total > 65535u + (o.family == 6 ? FP_IP6_HEADER : 0))
    return 0;

  memcpy (l3, h, header + (inside ? 0 : transport));
  memcpy (l3 + header + (inside ? 0 : transport), from + *at, piece);
  if (gso && !inside)
    fp_gtpu_segment_l4 (&o, h + (o.family == 4 ? 12 : 8), l3 + header, transport, from + start, n, start, last);
  if (o.family == 4)
    {
      if (gso && size)
	fp_store16 (l3 + 4, fp_net16 ((u16) (fp_net16 (fp_load16 (h + 4)) + start / size)));
      fp_gtpu_piece_header (l3, header, total - header, inside ? transport + inside : 0, more);
    }
  else
    fp_store16 (l3 + 4, fp_net16 ((u16) (total - FP_IP6_HEADER)));
  *at = payload ? *at + piece : 1;

  *segment = *p;
  segment->l3 = l3;
  segment->contiguous = segment->length = total;
  segment->headroom = headroom;
  segment->room = room;
  segment->csum = FP_CSUM_VALID;
  segment->gso_type = FP_GSO_NONE;
  segment->gso_size = segment->fragment_size = 0;
  segment->csum_start = segment->csum_offset = 0;
  segment->flags |= FP_PACKET_IP_VALID;
  return total;
}

/* The same for a frame: l3 points to Ethernet headers. */
FP_INLINE u32
fp_gtpu_segment_frame (const fp_packet_t *p, u32 *at, u8 *l3, u32 headroom, u32 room, fp_packet_t *segment)
{
  fp_packet_t inner = *p;
  u32 n;
  if (p->contiguous < 14 || room < 14)
    return 0;
  inner.l3 += 14;
  inner.contiguous -= 14;
  inner.length -= 14;
  inner.csum_start = (u16) (inner.csum_start - 14);
  n = fp_gtpu_segment (&inner, at, l3 + 14, headroom + 14, room - 14, segment);
  if (!n)
    return 0;
  memcpy (l3, p->l3, 14);
  segment->l3 = l3;
  segment->contiguous = segment->length = n + 14;
  segment->headroom = headroom;
  segment->room = room;
  return n + 14;
}

#endif /* FP_GTPU_SEGMENT_H */

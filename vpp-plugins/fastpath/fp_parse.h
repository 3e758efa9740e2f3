/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 and IPv6 headers up to the transport header. Nothing is read beyond min (contiguous, total length); every length
 * is checked against both. Returned values: 0, or the reason why the packet is dropped. */
#ifndef FP_PARSE_H
#define FP_PARSE_H

#include "fp_counters.h"
#include "fp_csum.h"

#define FP_IP4_HEADER 20
#define FP_IP6_HEADER 40
#define FP_ICMP_HEADER 8
#define FP_TCP_HEADER 20
#define FP_UDP_HEADER 8

enum fp_ip_proto
{
  FP_PROTO_HOP_BY_HOP = 0,
  FP_PROTO_ICMP = 1,
  FP_PROTO_TCP = 6,
  FP_PROTO_UDP = 17,
  FP_PROTO_ROUTING = 43,
  FP_PROTO_FRAGMENT = 44,
  FP_PROTO_ICMP6 = 58,
  FP_PROTO_DESTINATION = 60,
};

enum fp_tcp_flag
{
  FP_TCP_FIN = 1,
  FP_TCP_SYN = 2,
  FP_TCP_RST = 4,
  FP_TCP_ACK = 16,
};

enum fp_kind
{
  FP_KIND_OTHER = 0,	  /* no ports: only the addresses say what becomes of it */
  FP_KIND_FLOW = 1,	  /* TCP or UDP with its ports */
  FP_KIND_ICMP_ERROR = 2, /* embeds a packet */
  FP_KIND_LATER = 3,	  /* a fragment other than the first */
};

typedef struct
{
  u32 length;	/* total length of the packet by its own header */
  u32 fragment_id; /* network order; IPv4's 16 bits in the low half */
  u16 l4;		/* offset of the transport header */
  u8 family;	/* 4 or 6 */
  u8 kind;		/* enum fp_kind */
  u8 proto;	/* of the transport header */
  u8 first;	/* 1: first fragment, more follow */
  u8 fragment_proto; /* protocol that names the datagram: of the IPv4 header or of the fragment header */
  u8 tcp_flags;
} fp_parsed_t;

#define FP_MAX_EXTENSIONS 8 /* IPv6 extension headers walked; more are refused */

/* Transport header of a packet or of a first fragment. `bound`: bytes that may be read, `end`: total length. */
FP_INLINE enum fp_drop
fp_parse_l4 (const u8 *h, u32 bound, u32 end, fp_parsed_t *o, int gso)
{
  u32 l4 = o->l4, have = end - l4, want;
  u8 proto = o->proto;

  if (FP_LIKELY (proto == FP_PROTO_TCP))
    want = FP_TCP_HEADER;
  else if (proto == FP_PROTO_UDP)
    want = FP_UDP_HEADER;
  else if (proto == (o->family == 4 ? FP_PROTO_ICMP : FP_PROTO_ICMP6))
    want = FP_ICMP_HEADER;
  else
    {
      o->kind = FP_KIND_OTHER;
      return FP_DROP_NONE;
    }
  /* A first fragment without the whole transport header would hide it from every filter (RFC 1858, RFC 7112). */
  if (have < want)
    return o->first ? FP_DROP_FRAGMENT_BAD : FP_DROP_MALFORMED;
  if (bound - l4 < want)
    return FP_DROP_TRUNCATED;

  if (proto == FP_PROTO_TCP)
    {
      u32 offset = (h[l4 + 12] >> 4) * 4u;
      if (offset < FP_TCP_HEADER || (offset > have && !o->first))
	return FP_DROP_MALFORMED;
      o->tcp_flags = h[l4 + 13];
      o->kind = FP_KIND_FLOW;
    }
  else if (proto == FP_PROTO_UDP)
    {
      u32 length = fp_net16 (fp_load16 (h + l4 + 4));
      /* zero: a large segmented datagram (RFC 2675), nothing else */
      if ((length < FP_UDP_HEADER && !(gso && length == 0)) || (length > have && !o->first && !gso))
	return FP_DROP_MALFORMED;
      o->kind = FP_KIND_FLOW;
    }
  else
    {
      u8 type = h[l4];
      int error = o->family == 4 ? type == 3 || type == 4 || type == 11 || type == 12 : type >= 1 && type <= 4;
      o->kind = error ? FP_KIND_ICMP_ERROR : FP_KIND_OTHER;
    }
  return FP_DROP_NONE;
}

/* Fields of a fragment. `offset`: in bytes, `payload`: bytes behind the header that says it is one. */
FP_INLINE enum fp_drop
fp_parse_fragment (fp_parsed_t *o, u32 offset, int more, u32 payload, u8 proto)
{
  o->fragment_proto = proto;
  if (payload == 0 || (more && payload % 8) || offset + payload > 65535)
    return FP_DROP_FRAGMENT_BAD;
  if (offset == 0)
    {
      o->first = 1;
      return FP_DROP_NONE;
    }
  /* It would overwrite ports or flags that the first fragment was judged by (RFC 3128, RFC 5722). */
  if (proto == FP_PROTO_TCP && offset < FP_TCP_HEADER)
    return FP_DROP_FRAGMENT_BAD;
  o->kind = FP_KIND_LATER;
  o->proto = proto;
  return FP_DROP_NONE;
}

/* A source route makes the destination address an intermediate one: no flow can be told from it. */
FP_INLINE enum fp_drop
fp_parse4_options (const u8 *h, u32 header)
{
  for (u32 i = FP_IP4_HEADER; i < header;)
    {
      u8 type = h[i];
      if (type == 0)
	break;
      if (type == 1)
	{
	  i++;
	  continue;
	}
      if (i + 2 > header || h[i + 1] < 2 || i + h[i + 1] > header)
	return FP_DROP_OPTIONS;
      if (type == 131 || type == 137) /* loose, strict source route */
	return FP_DROP_OPTIONS;
      i += h[i + 1];
    }
  return FP_DROP_NONE;
}

FP_INLINE enum fp_drop
fp_parse4 (const u8 *h, u32 contiguous, u32 length, int gso, fp_parsed_t *o)
{
  u32 header, total, bound;
  u16 fragment;

  memset (o, 0, sizeof (*o));
  if (contiguous < FP_IP4_HEADER)
    return FP_DROP_TRUNCATED;
  if (h[0] >> 4 != 4)
    return FP_DROP_MALFORMED;
  header = (h[0] & 15) * 4u;
  if (header < FP_IP4_HEADER)
    return FP_DROP_MALFORMED;
  if (header > contiguous)
    return FP_DROP_TRUNCATED;
  total = fp_net16 (fp_load16 (h + 2));
  if (total == 0 && gso && length > 65535)
    total = length;
  if (total < header)
    return FP_DROP_MALFORMED;
  if (total > length)
    return FP_DROP_TRUNCATED;

  bound = contiguous < total ? contiguous : total;
  o->family = 4;
  o->length = total;
  o->l4 = (u16) header;
  o->proto = h[9];
  if (FP_UNLIKELY (header > FP_IP4_HEADER))
    {
      enum fp_drop r = fp_parse4_options (h, header);
      if (r)
	return r;
    }
  fragment = fp_net16 (fp_load16 (h + 6));
  if (FP_UNLIKELY ((fragment & 0x3fff) != 0))
    {
      enum fp_drop r;
      o->fragment_id = fp_load16 (h + 4);
      r = fp_parse_fragment (o, (fragment & 0x1fffu) * 8, (fragment & 0x2000) != 0, total - header, h[9]);
      if (r || o->kind == FP_KIND_LATER)
	return r;
    }
  return fp_parse_l4 (h, bound, total, o, gso);
}

FP_INLINE enum fp_drop
fp_parse6 (const u8 *h, u32 contiguous, u32 length, int gso, fp_parsed_t *o)
{
  u32 total, bound, at = FP_IP6_HEADER, fragmented = 0;
  u8 next;

  memset (o, 0, sizeof (*o));
  if (contiguous < FP_IP6_HEADER)
    return FP_DROP_TRUNCATED;
  if (h[0] >> 4 != 6)
    return FP_DROP_MALFORMED;
  total = FP_IP6_HEADER + fp_net16 (fp_load16 (h + 4));
  if (total == FP_IP6_HEADER && gso && length > FP_IP6_HEADER + 65535)
    total = length;
  if (total > length)
    return FP_DROP_TRUNCATED;

  bound = contiguous < total ? contiguous : total;
  o->family = 6;
  o->length = total;
  next = h[6];
  for (unsigned i = 0;; i++)
    {
      u32 size;
      if (next != FP_PROTO_HOP_BY_HOP && next != FP_PROTO_DESTINATION && next != FP_PROTO_ROUTING &&
	  next != FP_PROTO_FRAGMENT)
	break;
      if (i == FP_MAX_EXTENSIONS)
	return FP_DROP_OPTIONS;
      if (total - at < 8)
	return o->first ? FP_DROP_FRAGMENT_BAD : FP_DROP_MALFORMED;
      if (bound - at < 8)
	return FP_DROP_TRUNCATED;
      if (next == FP_PROTO_FRAGMENT)
	{
	  u16 field = fp_net16 (fp_load16 (h + at + 2));
	  u8 inner = h[at];
	  if (fragmented++)
	    return FP_DROP_OPTIONS;
	  if (field & 0xfff9) /* else an atomic fragment: a whole packet (RFC 6946) */
	    {
	      enum fp_drop r;
	      o->fragment_id = fp_load32 (h + at + 4);
	      o->l4 = (u16) (at + 8);
	      r = fp_parse_fragment (o, field & 0xfff8u, field & 1, total - at - 8, inner);
	      if (r || o->kind == FP_KIND_LATER)
		return r;
	    }
	  size = 8;
	}
      else
	{
	  size = (h[at + 1] + 1u) * 8;
	  /* segments left: the destination address is not the last one, as with an IPv4 source route */
	  if (next == FP_PROTO_ROUTING && h[at + 3] != 0)
	    return FP_DROP_OPTIONS;
	  if (size > total - at)
	    return o->first ? FP_DROP_FRAGMENT_BAD : FP_DROP_MALFORMED;
	  if (size > bound - at)
	    return FP_DROP_TRUNCATED;
	}
      next = h[at];
      at += size;
    }
  o->l4 = (u16) at; /* at most 40 + 8 * 2048 */
  o->proto = next;
  return fp_parse_l4 (h, bound, total, o, gso);
}

/* Either family, by the version field; the IPv4 header checksum is verified unless the host has done it. */
FP_ALWAYS_INLINE enum fp_drop
fp_parse (const fp_packet_t *p, fp_parsed_t *o)
{
  const u8 *h = p->l3;
  int gso = p->gso_type != FP_GSO_NONE;
  enum fp_drop r;

  if (FP_UNLIKELY (p->contiguous == 0))
    return FP_DROP_TRUNCATED;
  if (h[0] >> 4 == 6)
    return fp_parse6 (h, p->contiguous, p->length, gso, o);
  r = fp_parse4 (h, p->contiguous, p->length, gso, o);
  if (r == FP_DROP_NONE && !(p->flags & FP_PACKET_IP_VALID) &&
      fp_csum_fold (fp_csum_bytes (h, (h[0] & 15) * 4u, 0)) != 0xffff)
    return FP_DROP_CHECKSUM;
  return r;
}

#endif /* FP_PARSE_H */

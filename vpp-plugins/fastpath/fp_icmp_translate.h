/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors about translated flows (RFC 5508, RFC 792, RFC 4443). The embedded packet is one that the dataplane has sent on, so
 * its addresses are those after translation; the error travels the other way. Outer and embedded header are turned back as
 * connection tracking does it: the error seems to come from the address that the receiver talks to. */
#ifndef FP_ICMP_TRANSLATE_H
#define FP_ICMP_TRANSLATE_H

#include "fp_rewrite.h"
#include "fp_session.h"
#include "fp_tcp.h"

/* A session found by the key of a packet, and what that packet becomes. */
typedef struct
{
  fp_sref_t ref;
  fp_target_t target;
} fp_found_t;

FP_INLINE int
fp_flow_find (fp_region_t *r, int six, const u8 *src, const u8 *dst, u16 sport, u16 dport, u8 proto, u32 vrf,
	      fp_found_t *f)
{
  if (six)
    {
      fp_key6_t k = { .sport = sport, .dport = dport, .proto = proto, .vrf = vrf };
      memcpy (k.src, src, 16);
      memcpy (k.dst, dst, 16);
      f->ref = fp_session6_find (r, &k, fp_key6_hash (r, &k));
      if (f->ref.found)
	f->target = fp_target6 (fp_session6_at (r, f->ref.slot), f->ref.dir);
    }
  else
    {
      fp_key4_t k = { .src = fp_load32 (src), .dst = fp_load32 (dst), .sport = sport, .dport = dport, .proto = proto,
		      .vrf = vrf };
      f->ref = fp_session4_find (r, &k, fp_key4_hash (r, &k));
      if (f->ref.found)
	f->target = fp_target4 (fp_session4_at (r, f->ref.slot), f->ref.dir);
    }
  return f->ref.found;
}

/* The embedded packet, which may be cut short behind the first 8 bytes of its transport header. */
typedef struct
{
  u32 ip; /* offsets from l3 */
  u32 l4;
  u8 proto;
  u8 portless; /* a later fragment, or neither TCP nor UDP */
} fp_embedded_t;

FP_INLINE enum fp_drop
fp_parse_embedded (const u8 *h, u32 at, u32 bound, int six, fp_embedded_t *e)
{
  const u8 *ip = h + at;
  u32 have = bound - at, header = FP_IP4_HEADER;

  e->ip = at;
  e->portless = 0;
  if (have < (six ? FP_IP6_HEADER : FP_IP4_HEADER) || ip[0] >> 4 != (six ? 6 : 4))
    return FP_DROP_ICMP_EMBEDDED;
  if (six)
    {
      header = FP_IP6_HEADER;
      e->proto = ip[6];
      for (int i = 0; i < FP_MAX_EXTENSIONS; i++)
	{
	  u32 size;
	  if (e->proto != FP_PROTO_HOP_BY_HOP && e->proto != FP_PROTO_DESTINATION && e->proto != FP_PROTO_ROUTING &&
	      e->proto != FP_PROTO_FRAGMENT)
	    break;
	  if (have - header < 8)
	    return FP_DROP_ICMP_EMBEDDED;
	  size = e->proto == FP_PROTO_FRAGMENT ? 8 : (ip[header + 1] + 1u) * 8;
	  if (e->proto == FP_PROTO_FRAGMENT && (fp_net16 (fp_load16 (ip + header + 2)) & 0xfff8))
	    {
	      e->portless = 1;
	      return FP_DROP_NONE;
	    }
	  if (size > have - header)
	    return FP_DROP_ICMP_EMBEDDED;
	  e->proto = ip[header];
	  header += size;
	}
    }
  else
    {
      header = (ip[0] & 15) * 4u;
      e->proto = ip[9];
      if (header < FP_IP4_HEADER || header > have)
	return FP_DROP_ICMP_EMBEDDED;
      e->portless = (fp_net16 (fp_load16 (ip + 6)) & 0x1fff) != 0;
    }
  e->l4 = at + header;
  if (e->proto != FP_PROTO_TCP && e->proto != FP_PROTO_UDP)
    e->portless = 1;
  if (!e->portless && have - header < 8)
    return FP_DROP_ICMP_EMBEDDED;
  return FP_DROP_NONE;
}

/* Turn the embedded packet back and return what that adds to the sum of the ICMP message. `t`: of the error's own direction; the
 * embedded packet went the other way, so source and destination change places. Both checksums of the embedded packet
 * are kept right as far as they are there. */
FP_INLINE fp_sum_t
fp_rewrite_embedded (u8 *h, const fp_embedded_t *e, u32 bound, int six, const fp_target_t *t)
{
  u8 *ip = h + e->ip, *l4 = h + e->l4;
  u32 tail = bound - e->l4 < FP_TCP_HEADER ? (bound - e->l4) & ~1u : FP_TCP_HEADER;
  u32 changed = e->l4 - e->ip + tail;
  u16 before = fp_csum_fold (fp_csum_bytes (ip, changed, 0));

  if (six)
    {
      memcpy (ip + 8, t->dst, 16);
      memcpy (ip + 24, t->src, 16);
    }
  else
    {
      fp_store16 (ip + 10, fp_csum_update (fp_load16 (ip + 10), t->address_delta));
      memcpy (ip + 12, t->dst, 4);
      memcpy (ip + 16, t->src, 4);
    }
  fp_store16 (l4, t->dport);
  fp_store16 (l4 + 2, t->sport);
  if (e->proto == FP_PROTO_UDP)
    fp_store16 (l4 + 6, fp_csum_update_udp (fp_load16 (l4 + 6), t->l4_delta));
  else if (tail >= 18)
    fp_store16 (l4 + 16, fp_csum_update (fp_load16 (l4 + 16), t->l4_delta));
  return fp_csum_replace16 (before, fp_csum_fold (fp_csum_bytes (ip, changed, 0)));
}

/* An ICMP error, parsed. Translated: FP_DROP_NONE with *way its direction; not about one of our flows: FP_DROP_NONE with
 * FP_WAY_PASS and the packet untouched; else why it is dropped. */
FP_INLINE enum fp_drop
fp_icmp_translate (fp_worker_t *w, const fp_packet_t *p, const fp_parsed_t *o, u8 *way)
{
  u8 *h = p->l3, *icmp = h + o->l4;
  int six = o->family == 6, keep_ttl = p->flags & FP_PACKET_KEEP_TTL;
  u32 bound = p->contiguous < o->length ? p->contiguous : o->length, size = six ? 16 : 4;
  u8 *src, *dst, *embedded_src;
  fp_embedded_t e;
  fp_found_t f;
  fp_target_t outer;
  fp_sum_t delta;
  enum fp_drop r;

  *way = FP_WAY_PASS;
  r = fp_parse_embedded (h, o->l4 + FP_ICMP_HEADER, bound, six, &e);
  if (r || e.portless)
    return r;
  dst = h + (six ? 24 : 16);
  embedded_src = h + e.ip + (six ? 8 : 12);
  src = embedded_src + size; /* the embedded destination: from there comes what the error is like */
  if (memcmp (dst, embedded_src, size) != 0)
    return FP_DROP_ICMP_EMBEDDED;
  if (!fp_flow_find (w->region, six, src, embedded_src, fp_load16 (h + e.l4 + 2), fp_load16 (h + e.l4), e.proto, p->vrf,
		     &f))
    return FP_DROP_NONE;

  /* A broken message must not be sent on as if it were about somebody else's flow (RFC 5508, REQ-3). */
  if (p->csum == FP_CSUM_NONE && !o->first && bound == o->length &&
      fp_csum_fold (fp_csum_bytes (icmp, bound - o->l4,
				   six ? fp_csum_pseudo (h + 8, 32, FP_PROTO_ICMP6, bound - o->l4) : 0)) != 0xffff)
    return FP_DROP_CHECKSUM;
  r = fp_hop_check (p, o, six);
  if (r)
    return r;

  /* The outer source may be a router's, so the session's own sum does not fit the outer addresses. */
  outer = f.target;
  outer.address_delta = fp_csum_fold (fp_csum_replace_bytes (h + (six ? 8 : 12), outer.src, size) +
				      fp_csum_replace_bytes (dst, outer.dst, size));
  delta = fp_rewrite_embedded (h, &e, bound, six, &f.target);
  if (FP_LIKELY (!fp_csum_is_partial (p, o->l4, 2)))
    fp_store16 (icmp + 2, fp_csum_update (fp_load16 (icmp + 2), delta + (six ? outer.address_delta : 0)));
  else if (six)
    fp_store16 (icmp + 2, fp_csum_update_partial (fp_load16 (icmp + 2), outer.address_delta));
  fp_rewrite_ip (h, six, &outer, keep_ttl);
  const void *session = fp_session_at (fp_session_table (w->region, six), six, f.ref.slot);
  fp_service_count (fp_service_counts (w), fp_session_service (six, session), f.ref.dir, p->length);
  *way = f.ref.dir ? FP_WAY_REVERSE : FP_WAY_FORWARD;
  return FP_DROP_NONE;
}

#endif /* FP_ICMP_TRANSLATE_H */

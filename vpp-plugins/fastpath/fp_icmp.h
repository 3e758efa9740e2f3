/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors that the dataplane itself sends, built in the packet's own buffer: RFC 792 and RFC 1812 4.3.2 (IPv4), RFC
 * 4443 (IPv6). The packet they answer is embedded as it came in, before any translation. */
#ifndef FP_ICMP_H
#define FP_ICMP_H

#include "fp_csum.h"
#include "fp_parse.h"
#include "fp_tables.h"

#define FP_ICMP4_MAX   576  /* RFC 1812 4.3.2.3 */
#define FP_ICMP6_MAX   1280 /* RFC 4443 2.4 (c) */
#define FP_ICMP_RATE_NS	 1000000ull /* one in a millisecond for each worker */
#define FP_ICMP_BURST	 50
#define FP_ICMP_TTL	 64
#define FP_ICMP_TOS	 0xc0 /* internetwork control, RFC 1812 4.3.2.5 */

enum fp_icmp_error
{
  FP_ICMP_PORT_UNREACHABLE,
  FP_ICMP_TIME_EXCEEDED,
  FP_ICMP_TOO_BIG,
  FP_ICMP_HOST_UNREACHABLE,
};

/* Token bucket as one time stamp: the moment at which it would be full again. */
FP_INLINE int
fp_icmp_take_token (fp_worker_t *w)
{
  u64 full = w->icmp_full_ns;
  if (full < w->now_ns)
    full = w->now_ns;
  if (full + FP_ICMP_RATE_NS > w->now_ns + FP_ICMP_BURST * FP_ICMP_RATE_NS)
    return 0;
  w->icmp_full_ns = full + FP_ICMP_RATE_NS;
  return 1;
}

/* RFC 1122 3.2.2, RFC 4443 2.4 (e): never about an error or a redirect, a later fragment, or to many. */
FP_INLINE int
fp_icmp_may_answer (const u8 *h, const fp_parsed_t *o, u32 bound)
{
  if (o->kind == FP_KIND_ICMP_ERROR || o->kind == FP_KIND_LATER)
    return 0;
  if (o->family == 4)
    {
      u8 s = h[12], d = h[16];
      if (o->proto == FP_PROTO_ICMP && (bound <= o->l4 || h[o->l4] == 5))
	return 0;
      return s != 0 && s != 127 && s < 224 && d < 224;
    }
  if (o->proto == FP_PROTO_ICMP6 && (bound <= o->l4 || h[o->l4] == 137))
    return 0;
  if (h[8] == 0xff || h[24] == 0xff)
    return 0;
  return (fp_load64 (h + 8) | fp_load32 (h + 16) | (fp_load32 (h + 20) & ~fp_net32 (1))) != 0; /* neither :: nor ::1 */
}

FP_INLINE void
fp_icmp4_headers (u8 *h, u32 length, const u8 *source, enum fp_icmp_error e, u32 mtu)
{
  u8 *original = h + FP_IP4_HEADER + FP_ICMP_HEADER, *icmp = h + FP_IP4_HEADER;

  memset (h, 0, FP_IP4_HEADER + FP_ICMP_HEADER);
  h[0] = 0x45;
  h[1] = FP_ICMP_TOS;
  fp_store16 (h + 2, fp_net16 ((u16) length));
  fp_store16 (h + 6, fp_net16 (0x4000)); /* atomic: DF, identification without meaning (RFC 6864) */
  h[8] = FP_ICMP_TTL;
  h[9] = FP_PROTO_ICMP;
  memcpy (h + 12, source, 4);
  memcpy (h + 16, original + 12, 4);
  fp_store16 (h + 10, (u16) ~fp_csum_fold (fp_csum_bytes (h, FP_IP4_HEADER, 0)));

  icmp[0] = e == FP_ICMP_TIME_EXCEEDED ? 11 : 3;
  icmp[1] = e == FP_ICMP_TIME_EXCEEDED ? 0 : e == FP_ICMP_TOO_BIG ? 4 : e == FP_ICMP_HOST_UNREACHABLE ? 1 : 3;
  if (e == FP_ICMP_TOO_BIG)
    fp_store16 (icmp + 6, fp_net16 (mtu > 65535 ? 65535 : (u16) mtu));
  fp_store16 (icmp + 2, (u16) ~fp_csum_fold (fp_csum_bytes (icmp, length - FP_IP4_HEADER, 0)));
}

FP_INLINE void
fp_icmp6_headers (u8 *h, u32 length, const u8 *source, enum fp_icmp_error e, u32 mtu)
{
  u8 *original = h + FP_IP6_HEADER + FP_ICMP_HEADER, *icmp = h + FP_IP6_HEADER;
  u32 l4 = length - FP_IP6_HEADER;
  fp_sum_t sum;

  memset (h, 0, FP_IP6_HEADER + FP_ICMP_HEADER);
  h[0] = 0x60 | FP_ICMP_TOS >> 4;
  h[1] = (u8) (FP_ICMP_TOS << 4);
  fp_store16 (h + 4, fp_net16 ((u16) l4));
  h[6] = FP_PROTO_ICMP6;
  h[7] = FP_ICMP_TTL;
  memcpy (h + 8, source, 16);
  memcpy (h + 24, original + 8, 16);

  icmp[0] = e == FP_ICMP_TIME_EXCEEDED ? 3 : e == FP_ICMP_TOO_BIG ? 2 : 1;
  icmp[1] = e == FP_ICMP_PORT_UNREACHABLE ? 4 : e == FP_ICMP_HOST_UNREACHABLE ? 3 : 0;
  if (e == FP_ICMP_TOO_BIG)
    fp_store32 (icmp + 4, fp_net32 (mtu));
  sum = fp_csum_pseudo (h + 8, 32, FP_PROTO_ICMP6, l4);
  fp_store16 (icmp + 2, (u16) ~fp_csum_fold (fp_csum_bytes (icmp, l4, sum)));
}

/* Replace packet *p by an error about it. `mtu`: of the link that it does not fit, for FP_ICMP_TOO_BIG. Returns 1, or 0 if
 * none may be sent; then the packet is unchanged. */
FP_INLINE int
fp_icmp_reply (fp_worker_t *w, fp_packet_t *p, const fp_parsed_t *o, enum fp_icmp_error e, u32 mtu)
{
  const fp_config_t *config = fp_config (w->region);
  u32 added = (o->family == 4 ? FP_IP4_HEADER : FP_IP6_HEADER) + FP_ICMP_HEADER;
  u32 most = o->family == 4 ? FP_ICMP4_MAX : FP_ICMP6_MAX;
  u32 embedded = p->contiguous < o->length ? p->contiguous : o->length;

  if (!fp_icmp_may_answer (p->l3, o, embedded))
    return 0;
  if (o->family == 4 ? !config->has_icmp4 : !config->has_icmp6)
    {
      fp_count (w, FP_C_ICMP_UNSOURCED, 1);
      return 0;
    }
  if (most > p->room)
    most = p->room;
  if (most < added + o->l4 + 8 && most < added + embedded)
    return 0; /* RFC 792: header and 8 bytes are the least */
  if (!fp_icmp_take_token (w))
    {
      fp_count (w, FP_C_ICMP_LIMITED, 1);
      return 0;
    }
  if (embedded > most - added)
    embedded = most - added;
  memmove (p->l3 + added, p->l3, embedded);
  if (o->family == 4)
    fp_icmp4_headers (p->l3, added + embedded, (const u8 *) &config->icmp4, e, mtu);
  else
    fp_icmp6_headers (p->l3, added + embedded, config->icmp6, e, mtu);
  p->contiguous = p->length = added + embedded;
  p->csum = FP_CSUM_VALID;
  p->gso_type = FP_GSO_NONE;
  p->gso_size = 0;
  fp_count (w, FP_C_ICMP_SENT, 1);
  return 1;
}

#endif /* FP_ICMP_H */

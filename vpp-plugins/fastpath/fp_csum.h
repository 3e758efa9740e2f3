/* SPDX-License-Identifier: Apache-2.0 */
/* Internet checksums (RFC 1071) and their incremental update (RFC 1624, equation 3). Sums are taken over 16-bit words as
 * they lie in memory; a sum is independent of the byte order as long as it is stored the same way (RFC 1071, 2B). */
#ifndef FP_CSUM_H
#define FP_CSUM_H

#include "fp_packet.h"

/* One's complement sum, not folded: at most 2^32 32-bit words fit. */
typedef u64 fp_sum_t;

FP_INLINE u16
fp_csum_fold (fp_sum_t s)
{
  s = (s & 0xffffffff) + (s >> 32);
  s = (s & 0xffff) + (s >> 16); /* < 2^18 */
  s = (s & 0xffff) + (s >> 16);
  s = (s & 0xffff) + (s >> 16);
  return (u16) s;
}

/* Sum of n bytes; an odd last byte counts as if a zero followed. */
FP_INLINE fp_sum_t
fp_csum_bytes (const u8 *p, u32 n, fp_sum_t s)
{
  for (; n >= 4; p += 4, n -= 4)
    s += fp_load32 (p);
  if (n & 2)
    {
      s += fp_load16 (p);
      p += 2;
    }
  if (n & 1)
    s += __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? *p : (u16) (*p << 8);
  return s;
}

/* What replacing `old` by `new` adds to a sum. */
FP_INLINE fp_sum_t
fp_csum_replace16 (u16 old, u16 new)
{
  return (fp_sum_t) (u16) ~old + new;
}

FP_INLINE fp_sum_t
fp_csum_replace32 (u32 old, u32 new)
{
  return (fp_sum_t) (u32) ~old + new;
}

FP_INLINE fp_sum_t
fp_csum_replace_bytes (const void *old, const void *new, u32 n)
{
  fp_sum_t s = 0;
  for (u32 i = 0; i < n; i += 4)
    s += fp_csum_replace32 (fp_load32 ((const u8 *) old + i), fp_load32 ((const u8 *) new + i));
  return s;
}

/* A complete checksum field after a change of `delta` to what it covers. */
FP_INLINE u16
fp_csum_update (u16 field, fp_sum_t delta)
{
  return (u16) ~fp_csum_fold ((u16) ~field + delta);
}

/* The same for UDP: zero means "no checksum" and stays (RFC 768; RFC 6935 for IPv6), a sum of zero is sent as all ones. */
FP_INLINE u16
fp_csum_update_udp (u16 field, fp_sum_t delta)
{
  u16 c;
  if (field == 0)
    return 0;
  c = fp_csum_update (field, delta);
  return c ? c : 0xffff;
}

/* A partial checksum field (sum of the pseudo header, not complemented) after a change of the addresses. */
FP_INLINE u16
fp_csum_update_partial (u16 field, fp_sum_t delta)
{
  return fp_csum_fold (field + delta);
}

/* Sum of the pseudo header (RFC 768, RFC 9293 3.1; RFC 8200 8.1). `addresses` points to source and destination side by
 * side, as they lie in either IP header: 8 or 32 bytes. */
FP_INLINE fp_sum_t
fp_csum_pseudo (const u8 *addresses, u32 address_bytes, u8 proto, u32 l4_length)
{
  return fp_csum_bytes (addresses, address_bytes, 0) + fp_net32 (l4_length) + fp_net32 (proto);
}

#endif /* FP_CSUM_H */

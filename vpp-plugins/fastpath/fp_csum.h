/* SPDX-License-Identifier: Apache-2.0 */
/* Internet checksums (RFC 1071) and their incremental update (RFC 1624, equation 3). Sums are taken over 16-bit words as
 * they lie in memory; a sum is independent of the byte order as long as it is stored the same way (RFC 1071, 2B). */
#ifndef FP_CSUM_H
#define FP_CSUM_H

#include "fp_packet.h"

/* One's complement sum, not folded: at most 2^32 32-bit words fit. */
typedef uint64_t fp_sum_t;

static inline uint16_t
fp_csum_fold (fp_sum_t s)
{
  s = (s & 0xffffffff) + (s >> 32);
  s = (s & 0xffff) + (s >> 16); /* < 2^18 */
  s = (s & 0xffff) + (s >> 16);
  s = (s & 0xffff) + (s >> 16);
  return (uint16_t) s;
}

/* Sum of n bytes; an odd last byte counts as if a zero followed. */
static inline fp_sum_t
fp_csum_bytes (const uint8_t *p, uint32_t n, fp_sum_t s)
{
  for (; n >= 4; p += 4, n -= 4)
    s += fp_read32 (p);
  if (n & 2)
    {
      s += fp_read16 (p);
      p += 2;
    }
  if (n & 1)
    s += __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? *p : (uint16_t) (*p << 8);
  return s;
}

/* What replacing `old` by `new` adds to a sum. */
static inline fp_sum_t
fp_csum_replace16 (uint16_t old, uint16_t new)
{
  return (fp_sum_t) (uint16_t) ~old + new;
}

static inline fp_sum_t
fp_csum_replace32 (uint32_t old, uint32_t new)
{
  return (fp_sum_t) (uint32_t) ~old + new;
}

static inline fp_sum_t
fp_csum_replace_bytes (const void *old, const void *new, uint32_t n)
{
  fp_sum_t s = 0;
  for (uint32_t i = 0; i < n; i += 4)
    s += fp_csum_replace32 (fp_read32 ((const uint8_t *) old + i), fp_read32 ((const uint8_t *) new + i));
  return s;
}

/* A complete checksum field after a change of `delta` to what it covers. */
static inline uint16_t
fp_csum_update (uint16_t field, fp_sum_t delta)
{
  return (uint16_t) ~fp_csum_fold ((uint16_t) ~field + delta);
}

/* The same for UDP: zero means "no checksum" and stays (RFC 768; RFC 6935 for IPv6), a sum of zero is sent as all ones. */
static inline uint16_t
fp_csum_update_udp (uint16_t field, fp_sum_t delta)
{
  uint16_t c;
  if (field == 0)
    return 0;
  c = fp_csum_update (field, delta);
  return c ? c : 0xffff;
}

/* A partial checksum field (sum of the pseudo header, not complemented) after a change of the addresses. */
static inline uint16_t
fp_csum_update_partial (uint16_t field, fp_sum_t delta)
{
  return fp_csum_fold (field + delta);
}

/* Sum of the pseudo header (RFC 768, RFC 9293 3.1; RFC 8200 8.1). `addresses` points to source and destination side by
 * side, as they lie in either IP header: 8 or 32 bytes. */
static inline fp_sum_t
fp_csum_pseudo (const uint8_t *addresses, uint32_t address_bytes, uint8_t proto, uint32_t l4_length)
{
  return fp_csum_bytes (addresses, address_bytes, 0) + fp_net32 (l4_length) + fp_net32 (proto);
}

#endif /* FP_CSUM_H */

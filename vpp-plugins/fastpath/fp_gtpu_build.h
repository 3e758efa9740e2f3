/* SPDX-License-Identifier: Apache-2.0 */
/* What encapsulation and signalling write: outer IPv4 or IPv6, UDP and GTP-U headers, and their checksums. Outer packets are never
 * fragmented: DF is set, identification without meaning (RFC 6864). */
#ifndef FP_GTPU_BUILD_H
#define FP_GTPU_BUILD_H

#include "fp_csum.h"
#include "fp_gtpu_header.h"

#define FP_GTPU_TTL 64

/* ---- sums ---- */

/* Four sums side by side, in vector registers where there are some. */
typedef u64 fp_gtpu_lanes_t __attribute__ ((vector_size (32)));

/* Sum of n bytes as fp_csum_bytes, not folded; 32 bytes at a time. */
FP_INLINE fp_sum_t
fp_gtpu_sum (const u8 *p, u32 n)
{
  const fp_gtpu_lanes_t low = { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff };
  fp_gtpu_lanes_t a = { 0, 0, 0, 0 }, b = a, x;
  u64 y, z, sum;
  for (; n >= 32; p += 32, n -= 32)
    {
      memcpy (&x, p, sizeof (x));
      a += x & low;
      b += x >> 32;
    }
  a += b;
  sum = (a[0] + a[1]) + (a[2] + a[3]);
  if (n & 16)
    {
      y = fp_load64 (p), z = fp_load64 (p + 8);
      sum += (y & 0xffffffff) + (y >> 32) + (z & 0xffffffff) + (z >> 32);
      p += 16;
    }
  return n & 15 ? fp_csum_bytes (p, n & 15, sum) : sum;
}

/* Sum of an IPv4 header without options. */
FP_ALWAYS_INLINE fp_sum_t
fp_gtpu_sum20 (const u8 *h)
{
  return (fp_sum_t) fp_load32 (h) + fp_load32 (h + 4) + fp_load32 (h + 8) + fp_load32 (h + 12) + fp_load32 (h + 16);
}

/* Folded sum of a few 16-bit words: their plain sum has to fit 32 bits. */
FP_ALWAYS_INLINE u16
fp_gtpu_fold (u32 s)
{
  s += s << 16 | s >> 16;
  return (u16) (s >> 16);
}

/* ---- headers ---- */

FP_ALWAYS_INLINE u32
fp_gtpu_overhead (int six, int psc)
{
  return (six ? FP_IP6_HEADER : FP_IP4_HEADER) + FP_UDP_HEADER + FP_GTPU_HEADER + (psc ? FP_GTPU_OPTIONAL + FP_GTPU_PSC_BYTES : 0);
}

/* IPv4 header of a packet of `total` bytes. */
FP_ALWAYS_INLINE void
fp_gtpu_ip4 (u8 *h, const u8 *src, const u8 *dst, u8 tos, u32 total)
{
  u32 s = fp_load32 (src), d = fp_load32 (dst);
  u16 length = fp_net16 ((u16) total);
  fp_sum_t sum = (fp_sum_t) s + d + fp_net16 ((u16) (0x4500 | tos)) + length + fp_net16 (0x4000) +
		 fp_net16 ((FP_GTPU_TTL << 8) | FP_PROTO_UDP);

  fp_store16 (h, fp_net16 ((u16) (0x4500 | tos)));
  fp_store16 (h + 2, length);
  fp_store32 (h + 4, fp_net32 (0x00004000));
  fp_store16 (h + 8, fp_net16 ((FP_GTPU_TTL << 8) | FP_PROTO_UDP));
  fp_store16 (h + 10, (u16) ~fp_csum_fold (sum));
  fp_store32 (h + 12, s);
  fp_store32 (h + 16, d);
}

/* IPv6 header of a packet with `payload` bytes behind it. */
FP_ALWAYS_INLINE void
fp_gtpu_ip6 (u8 *h, const u8 *src, const u8 *dst, u8 tos, u32 flow_label, u32 payload)
{
  fp_store32 (h, fp_net32 (6u << 28 | (u32) tos << 20 | (flow_label & 0xfffff)));
  fp_store32 (h + 4, fp_net32 (payload << 16 | FP_PROTO_UDP << 8 | FP_GTPU_TTL));
  memcpy (h + 8, src, 16);
  memcpy (h + 24, dst, 16);
}

/* UDP header of `length` bytes in all; ports in network order; without a checksum. */
FP_ALWAYS_INLINE void
fp_gtpu_udp (u8 *u, u16 sport, u16 dport, u32 length)
{
  fp_store16 (u, sport);
  fp_store16 (u + 2, dport);
  fp_store32 (u + 4, fp_net32 (length << 16));
}

/* PDU Session Container without more extension headers behind it, as it lies in memory. */
FP_ALWAYS_INLINE u32
fp_gtpu_container (u8 psc, u8 qfi)
{
  return fp_net32 (1u << 24 | (psc == FP_GTPU_PSC_UL ? 0x10u << 16 : 0) | (qfi & 63u) << 8);
}

/* G-PDU header, with a PDU Session Container or without. `teid` in network order, `payload`: bytes behind the header. */
FP_ALWAYS_INLINE void
fp_gtpu_pdu (u8 *g, u32 teid, u32 payload, u8 psc, u8 qfi)
{
  u32 more = psc ? FP_GTPU_OPTIONAL + FP_GTPU_PSC_BYTES : 0;
  fp_store32 (g, fp_net32 ((FP_GTPU_PLAIN | (psc ? FP_GTPU_E : 0u)) << 24 | FP_GTPU_PDU << 16 | ((payload + more) & 0xffff)));
  fp_store32 (g + 4, teid);
  if (psc)
    {
      fp_store32 (g + 8, fp_net32 (FP_GTPU_EXT_PSC));
      fp_store32 (g + 12, fp_gtpu_container (psc, qfi));
    }
}

/* Set the UDP checksum of a packet whose bytes from the UDP header on, `length` of them with a checksum field of zero, add up to `sum`. */
FP_ALWAYS_INLINE void
fp_gtpu_udp_checksum (u8 *u, const u8 *addresses, u32 address_bytes, u32 length, fp_sum_t sum)
{
  u16 c = (u16) ~fp_csum_fold (sum + fp_csum_pseudo (addresses, address_bytes, FP_PROTO_UDP, length));
  fp_store16 (u + 6, c ? c : 0xffff);
}

/* A signalling packet: `n` bytes of GTP-U message behind IP and UDP headers. `h` must not overlap the other arguments. Ports in network
 * order. Returns the length of the packet. */
FP_INLINE u32
fp_gtpu_signal (u8 *h, int six, const u8 *src, const u8 *dst, u16 sport, u16 dport, const u8 *message, u32 n)
{
  u32 header = six ? FP_IP6_HEADER : FP_IP4_HEADER, length = FP_UDP_HEADER + n;
  u8 *u = h + header;

  if (six)
    fp_gtpu_ip6 (h, src, dst, 0, 0, length);
  else
    fp_gtpu_ip4 (h, src, dst, 0, header + length);
  fp_gtpu_udp (u, sport, dport, length);
  memcpy (u + FP_UDP_HEADER, message, n);
  fp_gtpu_udp_checksum (u, h + (six ? 8 : 12), six ? 32 : 8, length, fp_gtpu_sum (u, length));
  return header + length;
}

/* Header of a message with sequence number, TEID 0; `rest`: bytes of information elements that follow. Returns its length. */
FP_INLINE u32
fp_gtpu_message_header (u8 *g, u8 type, u16 sequence, u32 rest)
{
  fp_store32 (g, fp_net32 ((FP_GTPU_PLAIN | FP_GTPU_S) << 24 | (u32) type << 16 | (FP_GTPU_OPTIONAL + rest)));
  fp_store32 (g + 4, 0);
  fp_store32 (g + 8, fp_net32 ((u32) sequence << 16));
  return FP_GTPU_HEADER + FP_GTPU_OPTIONAL;
}

/* ---- the inner flow ---- */

FP_ALWAYS_INLINE u32
fp_gtpu_flow_mix (u64 addresses, u64 rest)
{
  u64 a = (addresses ^ rest * 0xff51afd7ed558ccdull) * 0x9e3779b97f4a7c15ull;
  a ^= a >> 29;
  return (u32) ((a * 0xbf58476d1ce4e5b9ull) >> 32);
}

FP_ALWAYS_INLINE u64
fp_gtpu_flow_rest (const u8 *h, u32 bound, u32 l4, u8 proto)
{
  if (FP_LIKELY ((proto == FP_PROTO_TCP || proto == FP_PROTO_UDP) && l4 + 4 <= bound))
    return proto | (u64) fp_load32 (h + l4) << 8;
  return proto;
}

/* Hash of an inner IP packet's flow, the same for all its packets: addresses, protocol, and the ports where every packet of the flow
 * shows them (not fragments, no IPv6 extension headers). `bound`: readable bytes. */
FP_ALWAYS_INLINE u32
fp_gtpu_flow_hash4 (const u8 *h, u32 bound)
{
  u32 l4 = (fp_load16 (h + 6) & fp_net16 (0x3fff)) ? bound : (h[0] & 15) * 4u;
  return fp_gtpu_flow_mix (fp_load64 (h + 12), fp_gtpu_flow_rest (h, bound, l4, h[9]));
}

FP_ALWAYS_INLINE u32
fp_gtpu_flow_hash6 (const u8 *h, u32 bound)
{
  u64 a = (fp_load64 (h + 8) ^ fp_load64 (h + 24) * 3) * 0x9e3779b97f4a7c15ull ^ fp_load64 (h + 16) ^ fp_load64 (h + 32) * 5;
  return fp_gtpu_flow_mix (a, fp_gtpu_flow_rest (h, bound, FP_IP6_HEADER, h[6]));
}

FP_ALWAYS_INLINE u32
fp_gtpu_flow_hash (const u8 *h, u32 bound)
{
  return h[0] >> 4 == 4 ? fp_gtpu_flow_hash4 (h, bound) : fp_gtpu_flow_hash6 (h, bound);
}

/* The same of an Ethernet frame: of its IP packet, else of its addresses. */
FP_INLINE u32
fp_gtpu_frame_hash (const u8 *f, u32 bound)
{
  u16 type = fp_net16 (fp_load16 (f + 12));
  u64 a;
  if (type == 0x0800 && bound >= 14 + FP_IP4_HEADER && f[14] >> 4 == 4)
    return fp_gtpu_flow_hash (f + 14, bound - 14);
  if (type == 0x86dd && bound >= 14 + FP_IP6_HEADER && f[14] >> 4 == 6)
    return fp_gtpu_flow_hash (f + 14, bound - 14);
  a = (fp_load64 (f) ^ (u64) fp_load32 (f + 8) * 0xff51afd7ed558ccdull) * 0x9e3779b97f4a7c15ull;
  return (u32) ((a ^ a >> 29) * 0xbf58476d1ce4e5b9ull >> 32);
}

/* Takes s, below 2^47, off a sum that something is added to: 2^32 times 0xffff is zero here. */
FP_ALWAYS_INLINE fp_sum_t
fp_gtpu_less (fp_sum_t s)
{
  return 0xffff00000000ull - s;
}

/* Sum of a complete inner packet of `n` bytes without reading its payload: what a right header checksum and a right transport checksum
 * cover adds up to zero, but for the pseudo header. (A packet whose transport checksum is wrong gets a wrong outer one: the peer
 * drops it, not the receiver.) Returns 0 if it cannot be derived: a fragment, no checksum, another protocol, lengths that do not agree. */
FP_ALWAYS_INLINE int
fp_gtpu_inner_sum (const u8 *h, u32 n, fp_sum_t *sum)
{
  u32 l4, length;
  fp_sum_t pseudo;
  u8 proto;

  if (h[0] >> 4 == 4)
    {
      if ((h[6] & 0x3f) | h[7])
	return 0;
      l4 = (h[0] & 15) * 4u;
      proto = h[9];
      length = n - l4;
      *sum = 0;
      pseudo = proto == FP_PROTO_ICMP ? 0 : fp_csum_pseudo (h + 12, 8, proto, length);
      if (proto == FP_PROTO_ICMP)
	return length >= FP_ICMP_HEADER;
    }
  else
    {
      l4 = FP_IP6_HEADER;
      proto = h[6];
      length = n - l4;
      /* the addresses are in the header and in the pseudo header: they cancel out */
      *sum = (fp_sum_t) fp_load32 (h) + fp_load32 (h + 4);
      pseudo = (fp_sum_t) fp_net32 (length) + fp_net32 (proto);
      if (proto == FP_PROTO_ICMP6)
	{
	  *sum += fp_gtpu_less (pseudo);
	  return length >= FP_ICMP_HEADER;
	}
    }
  *sum += fp_gtpu_less (pseudo);
  if (proto == FP_PROTO_TCP)
    return length >= FP_TCP_HEADER;
  return proto == FP_PROTO_UDP && length >= FP_UDP_HEADER && fp_load16 (h + l4 + 6) != 0 &&
	 fp_net16 (fp_load16 (h + l4 + 4)) == length;
}

#endif /* FP_GTPU_BUILD_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Which packets of an interface are worth the kernel's look, told from a few bits that stay in the L2 cache: those from an address that
 * endpoints have (answers), those to a node port on an address of the node, and those that are no plain TCP or UDP and concern either.
 * And plain TCP and UDP to the first service ranges, which spares them a lookup in the FIB: it would lead them to the kernel, too. A
 * bit may be set for another address too: the kernel passes such packets. A clear bit is never wrong: bits are set before the first
 * session can be made that needs them, and go only when the whole filter is built anew from the tables and the sessions. */
#ifndef included_klb_filter_h
#define included_klb_filter_h

#include <vppinfra/clib.h>
#include <vppinfra/format.h>

#include <fastpath/fp_packet.h>

#define KLB_FILTER_LOG2_MIN 12 /* words of a set: 32 KiB */
#define KLB_FILTER_LOG2_MAX 16 /* 512 KiB */
#define KLB_RANGES4	    4
#define KLB_RANGES6	    2
#define KLB_FILTER_SPREAD   32 /* bits for each address, when it is built: of other addresses, one in 200 looks like one of the set */

/* Addresses: two bits each in one word of 64 (a Bloom filter in blocks), so that one load tells. */
typedef struct
{
  u64 *words;
  u32 shift; /* 64 - log2 (words) */
  u32 set;   /* bits set; main thread */
} klb_bits_t;

/* Service ranges of a family, of whatever VRF; a range that is not there matches nothing. */
typedef struct
{
  u32x4 mask4, value4;			  /* network order */
  u64 mask6[KLB_RANGES6][2], value6[KLB_RANGES6][2]; /* network order */
} klb_ranges_t;

typedef struct
{
  CLIB_CACHE_LINE_ALIGN_MARK (c0);
  klb_bits_t source[2];	     /* endpoints; IPv4, IPv6 */
  klb_bits_t destination[2]; /* addresses of the node, and of Services that sessions still use without a route */
  u8 ports[65536 / 8];	     /* destination ports there, by their number in network order */
} klb_filter_t;

always_inline u64
klb_filter_hash4 (u32 address)
{
  return address * 0x9e3779b97f4a7c15ull;
}

always_inline u64
klb_filter_hash6 (const void *address)
{
  const u64 high = fp_load64 (address), low = __builtin_bswap64 (fp_load64 ((const u8 *) address + 8));
  const u64 m = (high ^ (low << 32 | low >> 32)) * 0x9e3779b97f4a7c15ull;
  return (m ^ m >> 32) * 0x9e3779b97f4a7c15ull;
}

always_inline u64
klb_bits_mask (u64 hash)
{
  return 1ull << (hash >> 24 & 63) | 1ull << (hash >> 30 & 63);
}

/* What a loop over packets needs of a filter, to be kept in registers. */
typedef struct
{
  const u64 *source, *destination;
  u32 source_shift, destination_shift;
  const u8 *ports;
  const klb_ranges_t *ranges;
} klb_filter_view_t;

always_inline klb_filter_view_t
klb_filter_view (const klb_filter_t *f, const klb_ranges_t *ranges, int v6)
{
  return (klb_filter_view_t){ f->source[v6].words, f->destination[v6].words, f->source[v6].shift, f->destination[v6].shift,
			      f->ports, ranges };
}

/* Both bits of klb_bits_mask. */
always_inline u32
klb_bits_test (const u64 *words, u32 shift, u64 hash)
{
  const u64 word = words[hash >> shift];
  return (word >> (hash >> 24 & 63)) & (word >> (hash >> 30 & 63)) & 1;
}

always_inline u32
klb_range4_test (const klb_ranges_t *r, u32 address)
{
  return !u32x4_is_all_zero ((u32x4) ((u32x4_splat (address) & r->mask4) == r->value4));
}

always_inline u32
klb_range6_test (const klb_ranges_t *r, const void *address)
{
  const u64 first = fp_load64 (address), second = fp_load64 ((const u8 *) address + 8);
  u32 found = 0;

  for (u32 i = 0; i < KLB_RANGES6; i++)
    found |= (((first & r->mask6[i][0]) ^ r->value6[i][0]) | ((second & r->mask6[i][1]) ^ r->value6[i][1])) == 0;
  return found;
}

always_inline u32
klb_port_test (const u8 *ports, u16 port)
{
  return ports[port >> 3] >> (port & 7) & 1;
}

/* Whether the kernel is to see an IPv4 packet; its header is complete. Reads up to 24 bytes, whatever the packet's length. */
always_inline u32
klb_filter_match4 (klb_filter_view_t f, const u8 *h)
{
  /* version 4, no options, no fragment, not ICMP */
  const u64 from_ttl = fp_load64 (h + 8), from_destination = fp_load64 (h + 16);
  const u32 odd = ((fp_load64 (h) & 0xff3f0000000000ffull) != 0x45) | ((from_ttl & 0xff00) == 0x100);
  const u32 source = klb_bits_test (f.source, f.source_shift, klb_filter_hash4 ((u32) (from_ttl >> 32)));
  const u32 vip = klb_range4_test (f.ranges, (u32) from_destination);
  const u32 port = klb_port_test (f.ports, (u16) (from_destination >> 48));

  if (PREDICT_FALSE (odd | port))
    {
      const u32 icmp_but_echo = (h[9] == 1) & ((h[20] & 0xf7) != 0);
      return source | icmp_but_echo | (vip & !odd) |
	     klb_bits_test (f.destination, f.destination_shift, klb_filter_hash4 ((u32) from_destination));
    }
  return source | vip;
}

/* The same of an IPv6 packet; reads up to 44 bytes. */
always_inline u32
klb_filter_match6 (klb_filter_view_t f, const u8 *h)
{
  const u32 plain = (h[6] == 6) | (h[6] == 17), echo = (h[6] == 58) & (h[40] >= 128);
  const u32 icmp = (h[6] == 58) & (h[40] < 128), odd = !(plain | echo | icmp);
  const u32 source = klb_bits_test (f.source, f.source_shift, klb_filter_hash6 (h + 8)) & !echo;
  const u32 vip = plain & klb_range6_test (f.ranges, h + 24);
  const u32 port = plain & klb_port_test (f.ports, fp_load16 (h + 42));

  if (PREDICT_FALSE (odd | port))
    return source | vip | klb_bits_test (f.destination, f.destination_shift, klb_filter_hash6 (h + 24));
  return source | icmp | vip;
}

/* ---- main thread ---- */

void klb_filter_init (void);
/* Addresses in network order, 4 or 16 bytes; ports in network order. */
void klb_filter_add_source (int v6, const void *address);
void klb_filter_add_destination (int v6, const void *address);
void klb_filter_add_prefix (const fp_wire_prefix_t *prefix);
void klb_filter_add_port (u16 port);
/* An address or port may be superfluous now; when there are many, the filter is built anew. */
void klb_filter_stale (u32 n);
/* Build it anew, now: from a region that has just been attached. */
void klb_filter_build (void);
/* Build it anew soon. */
void klb_filter_rebuild (void);
u8 *format_klb_filter (u8 *s, va_list *args);

#endif /* included_klb_filter_h */

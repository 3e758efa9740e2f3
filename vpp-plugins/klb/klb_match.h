/* SPDX-License-Identifier: Apache-2.0 */
/* The filter's side of the packet path: whether the kernel is to see a packet, one at a time, and eight at a time where the processor has the
 * instructions. Both say the same of every packet. No VPP here: test/test_klb_match.c compares them. */
#ifndef included_klb_match_h
#define included_klb_match_h

#include <fastpath/fp_packet.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define KLB_RANGES4 4
#define KLB_RANGES6 2
#define KLB_EIGHT   8

typedef u32 klb_u32x4_t __attribute__ ((vector_size (16)));

/* Addresses: two bits each in one word of 32 (a Bloom filter in blocks), so that one load tells. */
typedef struct
{
  u32 *words;
  u32 shift; /* 32 - log2 (words) */
  u32 set;   /* bits set; main thread */
} klb_bits_t;

/* Service ranges of a family, of whatever VRF; a range that is not there matches nothing. */
typedef struct
{
  klb_u32x4_t mask4, value4;		       /* network order; a range each */
  klb_u32x4_t mask6[KLB_RANGES6], value6[KLB_RANGES6]; /* network order */
} klb_ranges_t;

typedef struct
{
  klb_bits_t source[2];	     /* endpoints; IPv4, IPv6 */
  klb_bits_t destination[2]; /* addresses of the node, and of Services that sessions still use without a route */
  u16 port_first, port_last; /* least and greatest of `ports`, in host order; 65535 and 0: none */
  u8 ports[65536 / 8];	     /* destination ports there, by their number in network order */
} klb_filter_t;

/* What a loop over packets needs of a filter, to be kept in registers. */
typedef struct
{
  const u32 *source, *destination;
  u32 source_shift, destination_shift;
  u32 port_first, port_last;
  const u8 *ports;
  const klb_ranges_t *ranges;
} klb_filter_view_t;

FP_ALWAYS_INLINE klb_filter_view_t
klb_filter_view (const klb_filter_t *f, const klb_ranges_t *ranges, int v6)
{
  return (klb_filter_view_t){ f->source[v6].words,
			      f->destination[v6].words,
			      f->source[v6].shift,
			      f->destination[v6].shift,
			      __atomic_load_n (&f->port_first, __ATOMIC_RELAXED),
			      __atomic_load_n (&f->port_last, __ATOMIC_RELAXED),
			      f->ports,
			      ranges };
}

/* ---- hashes: 32-bit arithmetic, as vectors have it ---- */

#define KLB_MIX_A 0x9e3779b1u
#define KLB_MIX_B 0x85ebca77u
#define KLB_MIX_C 0xc2b2ae3du
#define KLB_MIX_D 0x27d4eb2fu

/* `bits` of the sum names bits of the word, `place` the word. */
typedef struct
{
  u32 bits, place;
} klb_hash_t;

FP_ALWAYS_INLINE klb_hash_t
klb_hash_of (u32 sum)
{
  return (klb_hash_t){ sum, (sum ^ sum >> 15) * KLB_MIX_B };
}

FP_ALWAYS_INLINE klb_hash_t
klb_filter_hash4 (u32 address)
{
  return klb_hash_of (address * KLB_MIX_A);
}

FP_ALWAYS_INLINE klb_hash_t
klb_filter_hash6 (const void *address)
{
  const u8 *a = address;
  const u32 high = fp_load32 (a) * KLB_MIX_A ^ fp_load32 (a + 4) * KLB_MIX_B;
  const u32 low = fp_load32 (a + 8) * KLB_MIX_C ^ fp_load32 (a + 12) * KLB_MIX_D;

  return klb_hash_of (((high ^ high >> 15) + (low ^ low >> 13)) * KLB_MIX_A);
}

FP_ALWAYS_INLINE u32
klb_bits_mask (klb_hash_t hash)
{
  return 1u << (hash.bits >> 27) | 1u << (hash.bits >> 22 & 31);
}

/* Both bits of klb_bits_mask. */
FP_ALWAYS_INLINE u32
klb_bits_test (const u32 *words, u32 shift, klb_hash_t hash)
{
  const u32 word = words[hash.place >> shift];
  return (word >> (hash.bits >> 27)) & (word >> (hash.bits >> 22 & 31)) & 1;
}

/* ---- one packet ---- */

FP_ALWAYS_INLINE u32
klb_range4_test (const klb_ranges_t *r, u32 address)
{
  const klb_u32x4_t same = (klb_u32x4_t) ((((klb_u32x4_t){ address, address, address, address }) & r->mask4) == r->value4);
  return (same[0] | same[1] | same[2] | same[3]) & 1;
}

FP_ALWAYS_INLINE u32
klb_range6_test (const klb_ranges_t *r, const void *address)
{
  klb_u32x4_t a;
  u32 found = 0;

  memcpy (&a, address, sizeof (a));
  for (u32 i = 0; i < KLB_RANGES6; i++)
    {
      const klb_u32x4_t d = (a & r->mask6[i]) ^ r->value6[i];
      found |= (d[0] | d[1] | d[2] | d[3]) == 0;
    }
  return found;
}

FP_ALWAYS_INLINE u32
klb_port_test (const u8 *ports, u16 port)
{
  return ports[port >> 3] >> (port & 7) & 1;
}

/* Whether the kernel is to see an IPv4 packet; its header is complete. Reads up to 24 bytes, whatever the packet's length. */
FP_ALWAYS_INLINE u32
klb_filter_match4 (const klb_filter_view_t *f, const u8 *h)
{
  /* version 4, no options, no fragment, not ICMP */
  const u64 from_ttl = fp_load64 (h + 8), from_destination = fp_load64 (h + 16);
  const u32 odd = ((fp_load64 (h) & 0xff3f0000000000ffull) != 0x45) | ((from_ttl & 0xff00) == 0x100);
  const u32 source = klb_bits_test (f->source, f->source_shift, klb_filter_hash4 ((u32) (from_ttl >> 32)));
  const u32 vip = klb_range4_test (f->ranges, (u32) from_destination);
  const u32 port = klb_port_test (f->ports, (u16) (from_destination >> 48));

  if (FP_UNLIKELY (odd | port))
    {
      const u32 icmp_but_echo = (h[9] == 1) & ((h[20] & 0xf7) != 0);
      return source | icmp_but_echo | (vip & !odd) |
	     klb_bits_test (f->destination, f->destination_shift, klb_filter_hash4 ((u32) from_destination));
    }
  return source | vip;
}

/* The same of an IPv6 packet; reads up to 44 bytes. */
FP_ALWAYS_INLINE u32
klb_filter_match6 (const klb_filter_view_t *f, const u8 *h)
{
  const u32 plain = (h[6] == 6) | (h[6] == 17), echo = (h[6] == 58) & (h[40] >= 128);
  const u32 icmp = (h[6] == 58) & (h[40] < 128), odd = !(plain | echo | icmp);
  const u32 source = klb_bits_test (f->source, f->source_shift, klb_filter_hash6 (h + 8)) & !echo;
  const u32 vip = plain & klb_range6_test (f->ranges, h + 24);
  const u32 port = plain & klb_port_test (f->ports, fp_load16 (h + 42));

  if (FP_UNLIKELY (odd | port))
    return source | vip | klb_bits_test (f->destination, f->destination_shift, klb_filter_hash6 (h + 24));
  return source | icmp | vip;
}

/* ---- eight packets: bit i of the result is what match says of h[i] ---- */

#if defined(__AVX2__)
FP_ALWAYS_INLINE __m256i
klb_splat (u32 x)
{
  return _mm256_set1_epi32 ((int) x);
}

FP_ALWAYS_INLINE u32
klb_lanes (__m256i x)
{
  return (u32) _mm256_movemask_ps (_mm256_castsi256_ps (x));
}

/* Sixteen bytes of each packet as four vectors of 32-bit words. Lane i is packet i. */
FP_ALWAYS_INLINE void
klb_columns (const u8 *const *h, u32 at, __m256i c[4])
{
  __m256i r[4], low[2], high[2];

  for (u32 i = 0; i < 4; i++)
    r[i] = _mm256_inserti128_si256 (_mm256_castsi128_si256 (_mm_loadu_si128 ((const __m128i *) (h[i] + at))),
				    _mm_loadu_si128 ((const __m128i *) (h[i + 4] + at)), 1);
  low[0] = _mm256_unpacklo_epi32 (r[0], r[1]);
  low[1] = _mm256_unpacklo_epi32 (r[2], r[3]);
  high[0] = _mm256_unpackhi_epi32 (r[0], r[1]);
  high[1] = _mm256_unpackhi_epi32 (r[2], r[3]);
  c[0] = _mm256_unpacklo_epi64 (low[0], low[1]);
  c[1] = _mm256_unpackhi_epi64 (low[0], low[1]);
  c[2] = _mm256_unpacklo_epi64 (high[0], high[1]);
  c[3] = _mm256_unpackhi_epi64 (high[0], high[1]);
}

/* Lanes whose address has both bits. sum: of klb_hash_of. */
FP_ALWAYS_INLINE __m256i
klb_bits_eight (const u32 *words, u32 shift, __m256i sum)
{
  const __m256i place = _mm256_mullo_epi32 (_mm256_xor_si256 (sum, _mm256_srli_epi32 (sum, 15)), klb_splat (KLB_MIX_B));
  const __m256i at = _mm256_srl_epi32 (place, _mm_cvtsi32_si128 ((int) shift)), one = klb_splat (1);
  const __m256i mask = _mm256_or_si256 (
    _mm256_sllv_epi32 (one, _mm256_srli_epi32 (sum, 27)),
    _mm256_sllv_epi32 (one, _mm256_and_si256 (_mm256_srli_epi32 (sum, 22), klb_splat (31))));
  const __m256i word = _mm256_i32gather_epi32 ((const int *) words, at, 4);

  return _mm256_cmpeq_epi32 (_mm256_and_si256 (word, mask), mask);
}

/* Lanes whose destination port, the upper half of `ports`, is one that may be in the set. */
FP_ALWAYS_INLINE __m256i
klb_port_eight (const klb_filter_view_t *f, __m256i ports)
{
  const __m256i order = _mm256_set_epi8 (-1, -1, 14, 15, -1, -1, 10, 11, -1, -1, 6, 7, -1, -1, 2, 3, -1, -1, 14, 15, -1, -1, 10, 11,
					 -1, -1, 6, 7, -1, -1, 2, 3);
  const __m256i port = _mm256_shuffle_epi8 (ports, order);

  return _mm256_andnot_si256 (_mm256_or_si256 (_mm256_cmpgt_epi32 (klb_splat (f->port_first), port),
					       _mm256_cmpgt_epi32 (port, klb_splat (f->port_last))),
			      klb_splat (~0u));
}

FP_ALWAYS_INLINE u32
klb_filter_eight4 (const klb_filter_view_t *f, const u8 *const *h)
{
  __m256i first[4], second[4], odd, source, vip = _mm256_setzero_si256 ();
  u32 taken, asked;

  klb_columns (h, 0, first);
  klb_columns (h, 8, second);
  odd = _mm256_and_si256 (_mm256_cmpeq_epi32 (_mm256_and_si256 (first[0], klb_splat (0xff)), klb_splat (0x45)),
			  _mm256_cmpeq_epi32 (_mm256_and_si256 (first[1], klb_splat (0xff3f0000)), _mm256_setzero_si256 ()));
  odd = _mm256_andnot_si256 (odd, klb_splat (~0u));
  odd = _mm256_or_si256 (odd, _mm256_cmpeq_epi32 (_mm256_and_si256 (second[0], klb_splat (0xff00)), klb_splat (0x100)));
  source = klb_bits_eight (f->source, f->source_shift, _mm256_mullo_epi32 (second[1], klb_splat (KLB_MIX_A)));
  for (u32 i = 0; i < KLB_RANGES4; i++)
    vip = _mm256_or_si256 (vip, _mm256_cmpeq_epi32 (_mm256_and_si256 (second[2], klb_splat (f->ranges->mask4[i])),
						    klb_splat (f->ranges->value4[i])));
  taken = klb_lanes (_mm256_or_si256 (source, _mm256_andnot_si256 (odd, vip)));
  asked = klb_lanes (_mm256_or_si256 (odd, klb_port_eight (f, second[3]))) & ~taken;
  for (; FP_UNLIKELY (asked != 0); asked &= asked - 1)
    {
      const u32 i = (u32) __builtin_ctz (asked);
      taken |= klb_filter_match4 (f, h[i]) << i;
    }
  return taken;
}

FP_ALWAYS_INLINE u32
klb_filter_eight6 (const klb_filter_view_t *f, const u8 *const *h)
{
  __m256i first[4], second[4], third[4], next, plain, high, low, source, vip = _mm256_setzero_si256 ();
  const __m256i none = _mm256_setzero_si256 ();
  u32 taken, asked;

  klb_columns (h, 4, first);   /* protocol, source */
  klb_columns (h, 12, second); /* source, destination */
  klb_columns (h, 28, third);  /* destination, ports */
  next = _mm256_and_si256 (first[0], klb_splat (0xff0000));
  plain = _mm256_or_si256 (_mm256_cmpeq_epi32 (next, klb_splat (6 << 16)), _mm256_cmpeq_epi32 (next, klb_splat (17 << 16)));
  high = _mm256_xor_si256 (_mm256_mullo_epi32 (first[1], klb_splat (KLB_MIX_A)), _mm256_mullo_epi32 (first[2], klb_splat (KLB_MIX_B)));
  low = _mm256_xor_si256 (_mm256_mullo_epi32 (first[3], klb_splat (KLB_MIX_C)), _mm256_mullo_epi32 (second[2], klb_splat (KLB_MIX_D)));
  source = klb_bits_eight (f->source, f->source_shift,
			   _mm256_mullo_epi32 (_mm256_add_epi32 (_mm256_xor_si256 (high, _mm256_srli_epi32 (high, 15)),
								 _mm256_xor_si256 (low, _mm256_srli_epi32 (low, 13))),
					       klb_splat (KLB_MIX_A)));
  for (u32 i = 0; i < KLB_RANGES6; i++)
    {
      const klb_u32x4_t mask = f->ranges->mask6[i], value = f->ranges->value6[i];
      const __m256i d[4] = { second[3], third[0], third[1], third[2] };
      __m256i other = none;
      for (u32 k = 0; k < 4; k++)
	other = _mm256_or_si256 (other, _mm256_xor_si256 (_mm256_and_si256 (d[k], klb_splat (mask[k])), klb_splat (value[k])));
      vip = _mm256_or_si256 (vip, _mm256_cmpeq_epi32 (other, none));
    }
  taken = klb_lanes (_mm256_and_si256 (plain, _mm256_or_si256 (source, vip)));
  asked = (klb_lanes (_mm256_andnot_si256 (plain, klb_splat (~0u))) | klb_lanes (klb_port_eight (f, third[3]))) & ~taken;
  for (; FP_UNLIKELY (asked != 0); asked &= asked - 1)
    {
      const u32 i = (u32) __builtin_ctz (asked);
      taken |= klb_filter_match6 (f, h[i]) << i;
    }
  return taken;
}
#else
FP_ALWAYS_INLINE u32
klb_filter_eight4 (const klb_filter_view_t *f, const u8 *const *h)
{
  u32 taken = 0;

  for (u32 i = 0; i < KLB_EIGHT; i++)
    taken |= klb_filter_match4 (f, h[i]) << i;
  return taken;
}

FP_ALWAYS_INLINE u32
klb_filter_eight6 (const klb_filter_view_t *f, const u8 *const *h)
{
  u32 taken = 0;

  for (u32 i = 0; i < KLB_EIGHT; i++)
    taken |= klb_filter_match6 (f, h[i]) << i;
  return taken;
}
#endif

#endif /* included_klb_match_h */

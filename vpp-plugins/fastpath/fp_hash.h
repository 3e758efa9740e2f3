/* SPDX-License-Identifier: Apache-2.0 */
/* The one hash of the region's indices (hash id FP_HASH_ID in the header): 64 bits, CRC32C chained over the key's 64-bit words from a
 * secret start and a multiplicative mix with secret operands, joined by fp_hash_join.
 *
 * The two halves choose the two buckets of a key. CRC32C alone is linear: who finds keys with one CRC has them for any start value, and
 * keys that are numbered in a row (addresses, TEIDs) fall on half or a quarter of the buckets of many a table. The mix alone leaves
 * the last word's upper bits where they are. So each half has the mix in it, after one more round without which keys in a row stay in a
 * row, and the first half the CRC as well: then tables fill as if the keys were drawn by lot (test_index.c). The CRC comes from the CPU's
 * instruction or from a table, bit for bit the same; which of them is decided once, when the region is opened (a translation unit compiled
 * for a CPU that has the instruction uses it directly). */
#ifndef FP_HASH_H
#define FP_HASH_H

#include "fp_types.h"

#if defined(__SSE4_2__)
#include <nmmintrin.h>
#elif defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

#define FP_HASH_ID 2u

typedef struct
{
  u32 crc;	 /* start of the CRC */
  u32 hardware;	 /* this process may use the CPU's instruction */
  u64 mix[2];	 /* odd multiplier, addend */
  const u32 *table; /* 8 x 256, for machines without the instruction */
} fp_hash_t;

/* Tables for eight bytes at a time (slicing), filled by fp_crc32c_table. */
#define FP_CRC_TABLE 2048

FP_INLINE void
fp_crc32c_table (u32 table[FP_CRC_TABLE])
{
  for (u32 i = 0; i < 256; i++)
    {
      u32 c = i;
      for (int bit = 0; bit < 8; bit++)
	c = c & 1 ? (c >> 1) ^ 0x82f63b78u : c >> 1; /* Castagnoli polynomial, reflected */
      table[i] = c;
    }
  for (u32 i = 256; i < FP_CRC_TABLE; i++)
    table[i] = (table[i - 256] >> 8) ^ table[table[i - 256] & 0xff];
}

FP_INLINE u32
fp_crc32c_u64_table (const u32 *t, u32 crc, u64 word)
{
  word ^= crc;
  return t[1792 + (word & 0xff)] ^ t[1536 + (word >> 8 & 0xff)] ^ t[1280 + (word >> 16 & 0xff)] ^
	 t[1024 + (word >> 24 & 0xff)] ^ t[768 + (word >> 32 & 0xff)] ^ t[512 + (word >> 40 & 0xff)] ^
	 t[256 + (word >> 48 & 0xff)] ^ t[word >> 56];
}

#if defined(__x86_64__) && !defined(__SSE4_2__)
#define FP_CRC_DISPATCH 1
__attribute__ ((target ("sse4.2"), noinline, unused)) static u32
fp_crc32c_words_hardware (u32 crc, const u64 *words, u32 n)
{
  u64 c = crc;
  for (u32 i = 0; i < n; i++)
    c = __builtin_ia32_crc32di (c, words[i]);
  return (u32) c;
}
#endif

/* Whether this machine computes CRC32C itself. */
FP_INLINE u32
fp_crc32c_hardware (void)
{
#if defined(__x86_64__)
  __builtin_cpu_init ();
  return __builtin_cpu_supports ("sse4.2") != 0;
#elif defined(__ARM_FEATURE_CRC32)
  return 1;
#else
  return 0;
#endif
}

/* CRC32C over n 64-bit words from start value `crc`, no final inversion. */
FP_ALWAYS_INLINE u32
fp_crc32c_words (const fp_hash_t *h, u32 crc, const u64 *words, u32 n)
{
#if defined(__SSE4_2__) && defined(__x86_64__)
  (void) h;
  u64 c = crc;
  for (u32 i = 0; i < n; i++)
    c = _mm_crc32_u64 (c, words[i]);
  return (u32) c;
#elif defined(__ARM_FEATURE_CRC32)
  (void) h;
  for (u32 i = 0; i < n; i++)
    crc = __crc32cd (crc, words[i]);
  return crc;
#else
#ifdef FP_CRC_DISPATCH
  if (FP_LIKELY (h->hardware))
    return fp_crc32c_words_hardware (crc, words, n);
#endif
  for (u32 i = 0; i < n; i++)
    crc = fp_crc32c_u64_table (h->table, crc, words[i]);
  return crc;
#endif
}

/* The hash, from the mix and the CRC of all words. */
FP_ALWAYS_INLINE u64
fp_hash_join (u64 mix, u32 crc)
{
  mix *= 0x9e3779b97f4a7c15ull;
  mix ^= mix >> 32;
  return mix << 32 | (crc ^ (u32) (mix >> 32));
}

FP_ALWAYS_INLINE u64
fp_hash_words (const fp_hash_t *h, const u64 *words, u32 n)
{
  u64 m = h->mix[1];
  for (u32 i = 0; i < n; i++)
    {
      m = (m ^ words[i]) * h->mix[0];
      m ^= m >> 32;
    }
  return fp_hash_join (m, fp_crc32c_words (h, h->crc, words, n));
}

FP_ALWAYS_INLINE u64
fp_load64 (const void *p)
{
  u64 v;
  memcpy (&v, p, sizeof (v));
  return v;
}

FP_ALWAYS_INLINE u32
fp_load32 (const void *p)
{
  u32 v;
  memcpy (&v, p, sizeof (v));
  return v;
}

FP_ALWAYS_INLINE u64
fp_hash_key4 (const fp_hash_t *h, const fp_key4_t *k)
{
  /* Folding proto into the VRF id loses nothing that matters: the comparison is exact. */
  const u8 *b = (const u8 *) k;
  u64 words[2] = { fp_load64 (b), fp_load32 (b + 8) | (u64) (k->vrf ^ (u32) k->proto << 24) << 32 };
  return fp_hash_words (h, words, 2);
}

FP_ALWAYS_INLINE u64
fp_hash_key6 (const fp_hash_t *h, const fp_key6_t *k)
{
  u64 words[5] = { fp_load64 (k->src), fp_load64 (k->src + 8), fp_load64 (k->dst), fp_load64 (k->dst + 8),
		   fp_load32 ((const u8 *) k + 32) | (u64) (k->vrf ^ (u32) k->proto << 24) << 32 };
  return fp_hash_words (h, words, 5);
}

FP_ALWAYS_INLINE u64
fp_hash_frag (const fp_hash_t *h, const fp_frag_key_t *k)
{
  u64 words[6] = { fp_load64 (k->src), fp_load64 (k->src + 8), fp_load64 (k->dst), fp_load64 (k->dst + 8),
		   fp_load64 ((const u8 *) k + 32), fp_load32 ((const u8 *) k + 40) };
  return fp_hash_words (h, words, 6);
}

FP_ALWAYS_INLINE u64
fp_hash_frontend (const fp_hash_t *h, const fp_frontend_key_t *k)
{
  u64 words[3] = { fp_load64 (k->address), fp_load64 (k->address + 8), fp_load64 ((const u8 *) k + 16) };
  return fp_hash_words (h, words, 3);
}

FP_ALWAYS_INLINE u64
fp_hash_vip (const fp_hash_t *h, const u8 address[16], u32 vrf, u8 family)
{
  u64 words[3] = { fp_load64 (address), fp_load64 (address + 8), (u64) family << 32 | vrf };
  return fp_hash_words (h, words, 3);
}

#endif /* FP_HASH_H */

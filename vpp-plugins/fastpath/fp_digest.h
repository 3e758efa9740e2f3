/* SPDX-License-Identifier: Apache-2.0 */
/* XXH64 (the published algorithm of xxHash, 64 bits), for record digests and the region's header. Not for the packet path. */
#ifndef FP_DIGEST_H
#define FP_DIGEST_H

#include "fp_hash.h"

#define FP_XXH_1 0x9e3779b185ebca87ull
#define FP_XXH_2 0xc2b2ae3d27d4eb4full
#define FP_XXH_3 0x165667b19e3779f9ull
#define FP_XXH_4 0x85ebca77c2b2ae63ull
#define FP_XXH_5 0x27d4eb2f165667c5ull

FP_ALWAYS_INLINE u64
fp_rotate (u64 v, u32 by)
{
  return v << by | v >> (64 - by);
}

FP_ALWAYS_INLINE u64
fp_xxh_round (u64 acc, u64 input)
{
  return fp_rotate (acc + input * FP_XXH_2, 31) * FP_XXH_1;
}

FP_INLINE u64
fp_xxh64 (const void *data, size_t length, u64 seed)
{
  const u8 *p = data, *end = p + length;
  u64 h;
  if (length >= 32)
    {
      u64 v[4] = { seed + FP_XXH_1 + FP_XXH_2, seed + FP_XXH_2, seed, seed - FP_XXH_1 };
      for (; end - p >= 32; p += 32)
	for (u32 i = 0; i < 4; i++)
	  v[i] = fp_xxh_round (v[i], fp_load64 (p + 8 * i));
      h = fp_rotate (v[0], 1) + fp_rotate (v[1], 7) + fp_rotate (v[2], 12) + fp_rotate (v[3], 18);
      for (u32 i = 0; i < 4; i++)
	h = (h ^ fp_xxh_round (0, v[i])) * FP_XXH_1 + FP_XXH_4;
    }
  else
    h = seed + FP_XXH_5;
  h += length;
  for (; end - p >= 8; p += 8)
    h = fp_rotate (h ^ fp_xxh_round (0, fp_load64 (p)), 27) * FP_XXH_1 + FP_XXH_4;
  for (; end - p >= 4; p += 4)
    h = fp_rotate (h ^ fp_load32 (p) * FP_XXH_1, 23) * FP_XXH_2 + FP_XXH_3;
  for (; p < end; p++)
    h = fp_rotate (h ^ *p * FP_XXH_5, 11) * FP_XXH_1;
  h = (h ^ h >> 33) * FP_XXH_2;
  h = (h ^ h >> 29) * FP_XXH_3;
  return h ^ h >> 32;
}

#endif /* FP_DIGEST_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Classes of addresses, by the longest matching prefix. The packet path reads an immutable snapshot: a hash set of full-length
 * entries (addresses of the node), and for each other length a sorted array. The control thread builds a snapshot from the prefix
 * table and publishes it by one store. */
#ifndef FP_PREFIXES_H
#define FP_PREFIXES_H

#include <stdlib.h>

#include "fp_handle.h"

typedef struct
{
  u64 high, low; /* host order, bits beyond the length zero; IPv4 in the top of high */
  u32 vrf;
  u8 prefix_class; /* 0 in the hash set: empty */
  u8 family;
  u8 length;
} fp_prefix_t;

typedef struct
{
  u64 high, low;    /* mask of this length */
  u32 first, count; /* entries of this length and family, sorted */
  u8 family, length;
} fp_prefix_group_t;

typedef struct fp_prefix_snapshot
{
  u32 exact_mask;
  u32 groups[2]; /* IPv4, IPv6 */
  fp_prefix_group_t group[2][129]; /* longest first */
  fp_prefix_t *exact;		   /* exact_mask + 1, open addressing */
  fp_prefix_t *sorted;
} fp_prefix_snapshot_t;

FP_INLINE void
fp_prefix_halves (const u8 address[16], u64 *high, u64 *low)
{
  *high = __builtin_bswap64 (fp_load64 (address));
  *low = __builtin_bswap64 (fp_load64 (address + 8));
}

FP_INLINE void
fp_prefix_mask (u64 *high, u64 *low, u8 length)
{
  *high = length == 0 ? 0 : length >= 64 ? *high : *high & ~0ull << (64 - length);
  *low = length <= 64 ? 0 : length >= 128 ? *low : *low & ~0ull << (128 - length);
}

FP_ALWAYS_INLINE u32
fp_prefix_hash (u64 high, u64 low, u32 vrf, u8 family)
{
  u64 m = (high ^ ((u64) vrf << 8 | family)) * 0x9e3779b97f4a7c15ull;
  m = (m ^ m >> 32 ^ low) * 0x9e3779b97f4a7c15ull;
  return (u32) (m >> 32);
}

FP_INLINE int
fp_prefix_compare (u64 high, u64 low, u32 vrf, const fp_prefix_t *p)
{
  if (vrf != p->vrf)
    return vrf < p->vrf ? -1 : 1;
  if (high != p->high)
    return high < p->high ? -1 : 1;
  return low == p->low ? 0 : low < p->low ? -1 : 1;
}

FP_INLINE u8
fp_prefix_lookup (const fp_region_t *r, u32 vrf, u8 family, u64 high, u64 low)
{
  const fp_prefix_snapshot_t *s = atomic_load_explicit (&r->prefixes, memory_order_acquire);
  for (u32 i = fp_prefix_hash (high, low, vrf, family) & s->exact_mask; s->exact[i].prefix_class; i = (i + 1) & s->exact_mask)
    if (!fp_prefix_compare (high, low, vrf, &s->exact[i]) && s->exact[i].family == family)
      return s->exact[i].prefix_class;
  for (u32 g = 0; g < s->groups[family == 6]; g++)
    {
      const fp_prefix_group_t *group = &s->group[family == 6][g];
      u64 h = high & group->high, l = low & group->low;
      u32 from = group->first, to = group->first + group->count;
      while (from < to)
	{
	  u32 mid = from + (to - from) / 2;
	  int c = fp_prefix_compare (h, l, vrf, &s->sorted[mid]);
	  if (!c)
	    return s->sorted[mid].prefix_class;
	  if (c < 0)
	    to = mid;
	  else
	    from = mid + 1;
	}
    }
  return FP_CLASS_NONE;
}

/* enum fp_class of an address (4 or 16 bytes, network order). */
FP_INLINE u8
fp_prefix_class (const fp_region_t *r, int v6, u32 vrf, const u8 *address)
{
  u64 high, low;
  if (!v6)
    return fp_prefix_lookup (r, vrf, 4, (u64) __builtin_bswap32 (fp_load32 (address)) << 32, 0);
  fp_prefix_halves (address, &high, &low);
  return fp_prefix_lookup (r, vrf, 6, high, low);
}

/* ---- control thread ---- */

/* Longest first, then by family, VRF, address, class: of equal prefixes the lowest class comes first and counts. */
FP_INLINE int
fp_prefix_order (const void *a, const void *b)
{
  const fp_prefix_t *x = a, *y = b;
  if (x->family != y->family)
    return x->family < y->family ? -1 : 1;
  if (x->length != y->length)
    return x->length > y->length ? -1 : 1;
  int c = fp_prefix_compare (x->high, x->low, x->vrf, y);
  return c ? c : (int) x->prefix_class - (int) y->prefix_class;
}

/* Snapshot of n prefixes (sorted in place); NULL without memory. One block: free () it. */
FP_INLINE fp_prefix_snapshot_t *
fp_prefix_build (fp_prefix_t *prefixes, u32 n)
{
  u32 slots = 8;
  while (slots < 2 * n)
    slots *= 2;
  fp_prefix_snapshot_t *s = calloc (1, sizeof (*s) + ((size_t) slots + n) * sizeof (fp_prefix_t));
  if (!s)
    return NULL;
  s->exact_mask = slots - 1;
  s->exact = (fp_prefix_t *) (s + 1);
  s->sorted = s->exact + slots;
  qsort (prefixes, n, sizeof (*prefixes), fp_prefix_order);
  u32 kept = 0;
  for (u32 i = 0; i < n; i++)
    {
      const fp_prefix_t *p = &prefixes[i];
      if (i && p->family == prefixes[i - 1].family && p->length == prefixes[i - 1].length &&
	  !fp_prefix_compare (p->high, p->low, p->vrf, &prefixes[i - 1]))
	continue;
      if (p->length == (p->family == 4 ? 32 : 128))
	{
	  u32 at = fp_prefix_hash (p->high, p->low, p->vrf, p->family) & s->exact_mask;
	  while (s->exact[at].prefix_class)
	    at = (at + 1) & s->exact_mask;
	  s->exact[at] = *p;
	  continue;
	}
      u32 f = p->family == 6;
      u32 *groups = &s->groups[f];
      if (!*groups || s->group[f][*groups - 1].length != p->length)
	{
	  fp_prefix_group_t *group = &s->group[f][(*groups)++];
	  *group = (fp_prefix_group_t){ ~0ull, ~0ull, kept, 0, p->family, p->length };
	  fp_prefix_mask (&group->high, &group->low, p->length);
	}
      s->group[f][*groups - 1].count++;
      s->sorted[kept++] = *p;
    }
  return s;
}

#endif /* FP_PREFIXES_H */

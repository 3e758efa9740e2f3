/* SPDX-License-Identifier: Apache-2.0 */
/* Space for endpoint sets: a buddy allocator over the region's array area, in blocks of 2^n times FP_ARENA_UNIT words. Control thread only. Its
 * state is process-local: attaching starts with an empty area and publishes every set anew. */
#ifndef FP_ARENA_H
#define FP_ARENA_H

#include <stdlib.h>

#include "fp_types.h"

#define FP_ARENA_UNIT	4 /* words in the smallest block */
#define FP_ARENA_ORDERS 28
#define FP_ARENA_USED	0xff

typedef struct
{
  u32 units; /* a power of two */
  u32 top;   /* its order */
  u32 used;  /* units */
  u32 head[FP_ARENA_ORDERS];
  u32 *next, *previous; /* of free blocks, by first unit */
  u8 *order;		/* of a free block, at its first unit; FP_ARENA_USED elsewhere */
} fp_arena_t;

FP_INLINE u32
fp_arena_order (u32 words)
{
  u32 order = 0;
  while ((u64) FP_ARENA_UNIT << order < words)
    order++;
  return order;
}

FP_INLINE void
fp_arena_add (fp_arena_t *a, u32 unit, u32 order)
{
  a->order[unit] = (u8) order;
  a->previous[unit] = FP_NONE;
  a->next[unit] = a->head[order];
  if (a->head[order] != FP_NONE)
    a->previous[a->head[order]] = unit;
  a->head[order] = unit;
}

FP_INLINE void
fp_arena_remove (fp_arena_t *a, u32 unit)
{
  if (a->previous[unit] == FP_NONE)
    a->head[a->order[unit]] = a->next[unit];
  else
    a->next[a->previous[unit]] = a->next[unit];
  if (a->next[unit] != FP_NONE)
    a->previous[a->next[unit]] = a->previous[unit];
  a->order[unit] = FP_ARENA_USED;
}

/* words: a power of two times FP_ARENA_UNIT. 0 or -1 without memory. */
FP_INLINE int
fp_arena_init (fp_arena_t *a, u32 words)
{
  memset (a, 0, sizeof (*a));
  a->units = words / FP_ARENA_UNIT;
  a->next = calloc (a->units, sizeof (u32));
  a->previous = calloc (a->units, sizeof (u32));
  a->order = malloc (a->units);
  if (!a->next || !a->previous || !a->order)
    return -1;
  memset (a->order, FP_ARENA_USED, a->units);
  for (u32 o = 0; o < FP_ARENA_ORDERS; o++)
    a->head[o] = FP_NONE;
  while (1u << a->top < a->units)
    a->top++;
  fp_arena_add (a, 0, a->top);
  return 0;
}

FP_INLINE void
fp_arena_release (fp_arena_t *a)
{
  free (a->next);
  free (a->previous);
  free (a->order);
}

/* Offset in words of a block of 2^order units, or FP_NONE. */
FP_INLINE u32
fp_arena_alloc (fp_arena_t *a, u32 order)
{
  u32 o = order;
  while (o <= a->top && a->head[o] == FP_NONE)
    o++;
  if (o > a->top)
    return FP_NONE;
  u32 unit = a->head[o];
  fp_arena_remove (a, unit);
  while (o-- > order)
    fp_arena_add (a, unit + (1u << o), o);
  a->used += 1u << order;
  return unit * FP_ARENA_UNIT;
}

FP_INLINE void
fp_arena_free (fp_arena_t *a, u32 offset, u32 order)
{
  u32 unit = offset / FP_ARENA_UNIT;
  a->used -= 1u << order;
  while (order < a->top)
    {
      u32 buddy = unit ^ 1u << order;
      if (a->order[buddy] != order)
	break;
      fp_arena_remove (a, buddy);
      unit &= ~(1u << order);
      order++;
    }
  fp_arena_add (a, unit, order);
}

#endif /* FP_ARENA_H */

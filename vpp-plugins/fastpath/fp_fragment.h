/* SPDX-License-Identifier: Apache-2.0 */
/* Fragments follow their first: it carries the ports, so it says what becomes of the datagram, and the fragment table tells
 * every worker. One that overtakes its first is held: the host keeps the packet, the kernel its key and the host's cookie. */
#ifndef FP_FRAGMENT_H
#define FP_FRAGMENT_H

#include "fp_fragtable.h"
#include "fp_parse.h"

#define FP_HOLD_MAX  1024	  /* fragments held by one worker */
#define FP_HOLD_NS   200000000ull /* for so long */
#define FP_HOLD_SCAN 32		  /* looked at in one call: firsts that came to other workers, and time-outs */

typedef struct
{
  fp_frag_key_t key;
  u8 ready;
  u64 cookie;
  u64 until_ns;
} fp_held_t;

/* Of one worker: about 80 KiB, provided by the host, zeroed; set fp_worker_t.holds. Without it nothing is held. */
typedef struct fp_fragment_holds
{
  u32 count;
  u32 ready; /* of these */
  u32 cursor;
  u32 tag[FP_HOLD_MAX]; /* of the keys, side by side: a first fragment looks for its followers here */
  fp_held_t item[FP_HOLD_MAX];
} fp_fragment_holds_t;

FP_INLINE void
fp_frag_key (fp_frag_key_t *k, const u8 *h, const fp_parsed_t *o, u32 vrf)
{
  u32 size = o->family == 4 ? 4 : 16;
  memset (k, 0, sizeof (*k));
  memcpy (k->src, h + (o->family == 4 ? 12 : 8), size);
  memcpy (k->dst, h + (o->family == 4 ? 16 : 24), size);
  k->id = o->fragment_id;
  k->vrf = vrf;
  k->proto = o->fragment_proto;
  k->family = o->family;
}

/* Remember a later fragment whose first is not known. Returns 0 if there is no room. */
FP_INLINE int
fp_fragment_hold (fp_worker_t *w, const fp_frag_key_t *k, u64 hash, u64 cookie)
{
  fp_fragment_holds_t *holds = w->holds;
  if (!holds || holds->count == FP_HOLD_MAX)
    return 0;
  holds->tag[holds->count] = (u32) hash;
  holds->item[holds->count++] = (fp_held_t){ .key = *k, .cookie = cookie, .until_ns = w->now_ns + FP_HOLD_NS };
  return 1;
}

/* The first fragment of a datagram is in the table: those held for it may go. */
FP_INLINE void
fp_fragment_release (fp_worker_t *w, const fp_frag_key_t *k, u64 hash)
{
  fp_fragment_holds_t *holds = w->holds;
  if (!holds)
    return;
  for (u32 i = 0; i < holds->count; i++)
    if (holds->tag[i] == (u32) hash && !holds->item[i].ready && memcmp (&holds->item[i].key, k, sizeof (*k)) == 0)
      {
	holds->item[i].ready = 1;
	holds->ready++;
      }
}

FP_INLINE u64
fp_hold_take (fp_fragment_holds_t *holds, u32 i)
{
  u64 cookie = holds->item[i].cookie;
  holds->ready -= holds->item[i].ready;
  holds->count--;
  holds->item[i] = holds->item[holds->count];
  holds->tag[i] = holds->tag[holds->count];
  return cookie;
}

/* Held fragments whose time has come, at most `max`: cookies[i] is to be submitted again, or dropped if expired[i] (it is counted
 * here). To be called after each vector and when idle. Returns their number. */
FP_INLINE u32
fp_fragments_ready (fp_worker_t *w, u64 *cookies, u8 *expired, u32 max)
{
  fp_fragment_holds_t *holds = w->holds;
  u32 n = 0;

  if (!holds || !holds->count)
    return 0;
  for (u32 i = 0; holds->ready && n < max && i < holds->count;)
    if (holds->item[i].ready)
      {
	expired[n] = 0;
	cookies[n++] = fp_hold_take (holds, i);
      }
    else
      i++;
  for (u32 k = 0; k < FP_HOLD_SCAN && n < max && holds->count; k++)
    {
      u32 i = holds->cursor < holds->count ? holds->cursor : 0;
      fp_held_t *it = &holds->item[i];
      holds->cursor = i + 1;
      if (it->ready || fp_frag_find (w, &it->key).kind)
	expired[n] = 0;
      else if (w->now_ns >= it->until_ns)
	{
	  expired[n] = 1;
	  fp_count_drop (w, FP_DROP_FRAGMENT_EXPIRED);
	}
      else
	continue;
      cookies[n++] = fp_hold_take (holds, i);
      holds->cursor = i;
    }
  return n;
}

#endif /* FP_FRAGMENT_H */

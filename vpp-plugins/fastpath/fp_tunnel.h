/* SPDX-License-Identifier: Apache-2.0 */
/* Packet-path lookups of GTP-U: local endpoints, tunnels by TEID, tunnels by the address of user equipment. What they return may be read until
 * the caller's next quiescent point. Indices taken from the region are checked before use: a record altered by hand leads to
 * a miss, not out of the table.
 *
 * Why readers need no lock. One thread, the control thread, writes; entries lie in an index (fp_index.h) or, for a declared TEID range, in
 * an array of words in process memory. Each is found or not found by one word, which a release store or CAS publishes and
 * clears, read with acquire; what it leads to was complete before.
 *   Never a mix. Peer address, remote TEID, PSC and QFI of a tunnel lie in one encapsulation record, written before it is published and not touched
 *     again. A change fills a new record, then stores fp_tunnel_t.current (decapsulation), then fp_ue_t.encap of each of the tunnel's
 *     prefixes. A packet reads one of these words once and works with that record: all old or all new. Two prefixes of a tunnel
 *     change a moment after each other, as two packets would.
 *   Never a miss. Neither a change nor a new endpoint snapshot removes the index word, the array word or the UE entry of a tunnel that
 *     stays; an array for a new TEID range is filled before the snapshot that names it is published. Prefix lengths leave a
 *     snapshot only after the last entry of that length has left the index.
 *   Nothing is used after it is freed. Tunnel slots, encapsulation records, UE slots, snapshots and arrays that were unpublished wait until
 *     every worker has passed a quiescent point (fp_retire.h), tagged after the last store that leads to them has gone: an
 *     encapsulation record after the last UE entry has left it, a tunnel after its last prefix (deleting it before is refused).
 *   Caches. `generation` is raised after the stores of each change and before its tag is taken. A worker reads it (acquire) at the start of a
 *     vector and uses what it cached under the same number only. What is cached and unpublished meanwhile stays readable
 *     till the worker's next quiescent point; passing that, it reads `era`, which was raised after the generation, so the next vector
 *     sees the new generation.
 *   Counters of a slot are zeroed before the slot is used again: nobody else counts there then.
 *   A crash. A record is reached from the tunnel's `current` alone: attaching makes UE entries, inline prefixes, arrays and reference counts
 *     anew from the tunnels and prefixes that are whole (fp_tunnel_attach.h). */
#ifndef FP_TUNNEL_H
#define FP_TUNNEL_H

#include "fp_prefixes.h"
#include "fp_services.h"
#include "fp_tunnel_types.h"

/* ---- records ---- */

FP_ALWAYS_INLINE fp_gtpu_endpoint_record_t *
fp_gtpu_endpoint_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_GTPU_ENDPOINT, slot, sizeof (fp_gtpu_endpoint_record_t));
}

FP_ALWAYS_INLINE fp_gtpu_peer_t *
fp_gtpu_peer_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_GTPU_PEER, slot, sizeof (fp_gtpu_peer_t));
}

FP_ALWAYS_INLINE fp_tunnel_t *
fp_tunnel_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_TUNNEL, slot, sizeof (fp_tunnel_t));
}

FP_ALWAYS_INLINE fp_ue_t *
fp_ue_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_UE, slot, sizeof (fp_ue_t));
}

FP_ALWAYS_INLINE fp_gtpu_encap_t *
fp_encap_at (const fp_region_t *r, u32 slot)
{
  return &r->gtpu->encaps[slot];
}

/* The record that packets into the tunnel go by now; NULL only if the tunnel was damaged. */
FP_ALWAYS_INLINE const fp_gtpu_encap_t *
fp_tunnel_encap (const fp_region_t *r, const fp_tunnel_t *t)
{
  u32 slot = (u32) atomic_load_explicit (&t->current, memory_order_acquire);
  return FP_LIKELY (slot < r->gtpu->encap_capacity) ? fp_encap_at (r, slot) : NULL;
}

/* Number of the tunnel tables' contents: what was looked up under it is still right while it stays. */
FP_ALWAYS_INLINE u32
fp_tunnel_generation (const fp_region_t *r)
{
  return atomic_load_explicit (&r->gtpu->generation, memory_order_acquire);
}

/* ---- endpoints ---- */

FP_ALWAYS_INLINE const fp_gtpu_snapshot_t *
fp_gtpu_snapshot (const fp_region_t *r)
{
  return atomic_load_explicit (&r->gtpu->snapshot, memory_order_acquire);
}

/* Number of local endpoints. */
FP_ALWAYS_INLINE u32
fp_gtpu_any (const fp_region_t *r)
{
  return fp_gtpu_snapshot (r)->endpoints;
}

/* The endpoint at an address (4 or 16 bytes) of the outer VRF, or NULL. */
FP_ALWAYS_INLINE const fp_gtpu_endpoint_t *
fp_gtpu_endpoint_find (const fp_region_t *r, u32 vrf, int six, const u8 *address)
{
  const fp_gtpu_snapshot_t *s = fp_gtpu_snapshot (r);
  u64 high = six ? fp_load64 (address) : fp_load32 (address), low = six ? fp_load64 (address + 8) : 0;
  u8 family = six ? 6 : 4;
  for (u32 i = fp_prefix_hash (high, low, vrf, family) & s->mask; s->bucket[i]; i = (i + 1) & s->mask)
    {
      const fp_gtpu_endpoint_t *e = &s->endpoint[s->bucket[i] - 1];
      if (fp_load64 (e->address) == high && fp_load64 (e->address + 8) == low && e->vrf == vrf && e->family == family)
	return e;
    }
  return NULL;
}

/* ---- peers ---- */

typedef struct
{
  u8 address[16];
  u32 endpoint;
  u8 family;
  u8 pad[3];
} fp_gtpu_peer_key_t;

FP_ALWAYS_INLINE u64
fp_hash_gtpu_peer (const fp_hash_t *h, const fp_gtpu_peer_key_t *k)
{
  u64 words[3] = { fp_load64 (k->address), fp_load64 (k->address + 8), fp_load64 (&k->endpoint) };
  return fp_hash_words (h, words, 3);
}

FP_ALWAYS_INLINE int
fp_gtpu_peer_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  return FP_LIKELY (ref >> 1 < t->capacity) && !memcmp ((const fp_gtpu_peer_t *) t->records + (ref >> 1), key, sizeof (fp_gtpu_peer_key_t));
}

FP_INLINE u64
fp_gtpu_peer_word (const fp_region_t *r, const fp_gtpu_peer_key_t *key, u64 *hash)
{
  const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_GTPU_PEER];
  *hash = fp_hash_gtpu_peer (&r->hash, key);
  return fp_index_find (&t->index, *hash, fp_gtpu_peer_match, t, key);
}

/* Slot of an endpoint's peer, or FP_NONE. */
FP_INLINE u32
fp_gtpu_peer_find (const fp_region_t *r, const fp_gtpu_endpoint_t *e, int six, const u8 *address)
{
  fp_gtpu_peer_key_t key = { { 0 }, e->slot, six ? 6 : 4, { 0 } };
  u64 hash;
  memcpy (key.address, address, six ? 16 : 4);
  u64 word = fp_gtpu_peer_word (r, &key, &hash);
  return word ? fp_word_slot (word) : FP_NONE;
}

/* ---- tunnels by TEID: hash, prefetch the index, prefetch the record, look up ---- */

typedef struct
{
  u32 teid; /* host order */
  u32 endpoint;
} fp_tunnel_key_t;

FP_ALWAYS_INLINE u64
fp_hash_tunnel (const fp_hash_t *h, u32 endpoint, u32 teid)
{
  u64 word = (u64) endpoint << 32 | teid;
  return fp_hash_words (h, &word, 1);
}

FP_ALWAYS_INLINE int
fp_tunnel_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  return FP_LIKELY (ref >> 1 < t->capacity) && fp_load64 (&((const fp_tunnel_t *) t->records)[ref >> 1].teid) == fp_load64 (key);
}

/* Slot that a lookup of the hash will probably read, or FP_NONE. */
FP_ALWAYS_INLINE u32
fp_tunnel_guess (const fp_control_table_t *t, u64 hash)
{
  u64 word = fp_bucket_candidate (&t->index.buckets[fp_index_first (&t->index, hash)], fp_scan_live (hash));
  if (!word)
    word = fp_bucket_candidate (&t->index.buckets[fp_index_second (&t->index, hash)], fp_scan_live (hash));
  return word && fp_word_slot (word) < t->capacity ? fp_word_slot (word) : FP_NONE;
}

/* teid: host order. 0 for one of the declared range, which needs none. */
FP_ALWAYS_INLINE u64
fp_tunnel_hash (const fp_region_t *r, const fp_gtpu_endpoint_t *e, u32 teid)
{
  return teid - e->teid_base < e->teid_count ? 0 : fp_hash_tunnel (&r->hash, e->slot, teid);
}

FP_ALWAYS_INLINE void
fp_tunnel_prefetch_index (const fp_region_t *r, const fp_gtpu_endpoint_t *e, u32 teid, u64 hash)
{
  u32 at = teid - e->teid_base;
  if (at < e->teid_count)
    FP_PREFETCH (&e->by_teid[at]);
  else
    fp_index_prefetch (&r->controlled[FP_CONTROLLED_TUNNEL].index, hash);
}

FP_ALWAYS_INLINE void
fp_tunnel_prefetch_record (const fp_region_t *r, const fp_gtpu_endpoint_t *e, u32 teid, u64 hash)
{
  u32 at = teid - e->teid_base;
  u32 slot = at < e->teid_count ? atomic_load_explicit (&e->by_teid[at], memory_order_relaxed) - 1 :
				  fp_tunnel_guess (&r->controlled[FP_CONTROLLED_TUNNEL], hash);
  if (FP_LIKELY (slot != FP_NONE))
    FP_PREFETCH (fp_tunnel_at (r, slot));
}

/* Slot of the tunnel, or FP_NONE. */
FP_ALWAYS_INLINE u32
fp_tunnel_lookup (const fp_region_t *r, const fp_gtpu_endpoint_t *e, u32 teid, u64 hash)
{
  const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_TUNNEL];
  fp_tunnel_key_t key = { teid, e->slot };
  u32 at = teid - e->teid_base;
  if (at < e->teid_count)
    {
      u32 slot = atomic_load_explicit (&e->by_teid[at], memory_order_acquire) - 1;
      if (slot == FP_NONE || FP_UNLIKELY (fp_load64 (&fp_tunnel_at (r, slot)->teid) != fp_load64 (&key)))
	return FP_NONE;
      return slot;
    }
  u64 word = fp_index_find (&t->index, hash, fp_tunnel_match, t, &key);
  return word ? fp_word_slot (word) : FP_NONE;
}

/* Whether an outer source address (4 or 16 bytes) is that of the tunnel's peer now. */
FP_ALWAYS_INLINE int
fp_tunnel_remote_is (const fp_region_t *r, const fp_tunnel_t *t, int six, const u8 *source)
{
  u32 peer = (u32) (atomic_load_explicit (&t->current, memory_order_acquire) >> 32);
  if (!six)
    return peer == fp_load32 (source);
  return FP_LIKELY (peer < r->controlled[FP_CONTROLLED_GTPU_PEER].capacity) && !memcmp (fp_gtpu_peer_at (r, peer)->address, source, 16);
}

/* A worker saw something that the control plane should know: bits of enum fp_gtpu_seen. */
FP_INLINE void
fp_tunnel_mark (const fp_region_t *r, u32 slot, u32 seen)
{
  _Atomic u32 *s = &fp_tunnel_at (r, slot)->seen;
  if ((atomic_load_explicit (s, memory_order_relaxed) & seen) != seen)
    atomic_fetch_or_explicit (s, seen, memory_order_relaxed);
}

/* ---- counters ---- */

/* The worker's own, for fp_counter_add. slot: of a tunnel that a lookup found. */
FP_ALWAYS_INLINE fp_tunnel_counters_t *
fp_tunnel_counters (const fp_worker_t *w, u32 slot)
{
  return &w->region->gtpu->counters[w->worker][slot];
}

/* ---- tunnels by address of user equipment: hash, prefetch the index, prefetch the record, look up ---- */

/* Scratch of one lookup; the stages fill it. */
typedef struct
{
  u64 hash;	  /* of the longest length */
  u64 address[2]; /* whole, as it lies in memory */
  const fp_ue_group_t *group; /* NULL: no prefixes in that VRF and family */
  u32 guess; /* slot that probably has it, or FP_NONE */
} fp_ue_key_t;

/* What an entry is compared with: the start of fp_ue_t. */
typedef struct
{
  u64 address[2];
  u64 tail; /* vrf | family << 32 | length << 40 */
} fp_ue_match_key_t;

_Static_assert (sizeof (fp_ue_match_key_t) == offsetof (fp_ue_t, encap), "UE key");
_Static_assert (offsetof (fp_ue_t, vrf) == 16 && offsetof (fp_ue_t, family) == 20 && offsetof (fp_ue_t, length) == 21, "UE key");

FP_ALWAYS_INLINE u64
fp_ue_tail (u32 vrf, u8 family, u8 length)
{
  return (u64) vrf | (u64) family << 32 | (u64) length << 40;
}

/* Only IPv6 has a second half. */
FP_ALWAYS_INLINE u64
fp_hash_ue (const fp_hash_t *h, const fp_ue_match_key_t *k)
{
  u64 words[3] = { k->tail, k->address[0], k->address[1] };
  return fp_hash_words (h, words, (u8) (k->tail >> 32) == 6 ? 3 : 2);
}

FP_ALWAYS_INLINE int
fp_ue_is (const fp_ue_t *u, const fp_ue_match_key_t *k)
{
  const u8 *a = (const u8 *) u;
  return ((fp_load64 (a) ^ k->address[0]) | (fp_load64 (a + 8) ^ k->address[1]) | (fp_load64 (a + 16) ^ k->tail)) == 0;
}

FP_ALWAYS_INLINE int
fp_ue_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  return FP_LIKELY (ref >> 1 < t->capacity) && fp_ue_is ((const fp_ue_t *) t->records + (ref >> 1), key);
}

/* The n-th prefix that may hold the address. */
FP_ALWAYS_INLINE fp_ue_match_key_t
fp_ue_nth (const fp_ue_key_t *k, u32 n)
{
  const fp_ue_group_t *g = k->group;
  return (fp_ue_match_key_t){ { k->address[0] & g->mask[n][0], k->address[1] & g->mask[n][1] }, g->tail[n] };
}

FP_ALWAYS_INLINE void
fp_ue_hash_words (const fp_region_t *r, u32 vrf, u8 family, u64 high, u64 low, fp_ue_key_t *k)
{
  const fp_gtpu_snapshot_t *s = fp_gtpu_snapshot (r);
  const fp_ue_group_t *g = s->group, *end = g + s->groups;
  k->address[0] = high;
  k->address[1] = low;
  k->hash = 0;
  k->guess = FP_NONE;
  while (g < end && (g->vrf != vrf || g->family != family))
    g++;
  k->group = g < end ? g : NULL;
  if (g == end)
    return;
  fp_ue_match_key_t m = { { high & g->mask[0][0], low & g->mask[0][1] }, g->tail[0] };
  u64 words[3] = { m.tail, m.address[0], m.address[1] };
  k->hash = fp_hash_words (&r->hash, words, family == 6 ? 3 : 2);
}

/* address: 4 or 16 bytes; six is a constant. */
FP_ALWAYS_INLINE void
fp_ue_hash (const fp_region_t *r, u32 vrf, int six, const u8 *address, fp_ue_key_t *k)
{
  if (six)
    fp_ue_hash_words (r, vrf, 6, fp_load64 (address), fp_load64 (address + 8), k);
  else
    fp_ue_hash_words (r, vrf, 4, fp_load32 (address), 0, k);
}

/* vlan: 1..4094, host order. */
FP_INLINE void
fp_ue_hash_vlan (const fp_region_t *r, u32 vrf, u16 vlan, fp_ue_key_t *k)
{
  fp_ue_hash_words (r, vrf, 0, (u64) (vlan >> 8 | (vlan & 0xff) << 8), 0, k);
}

FP_ALWAYS_INLINE void
fp_ue_prefetch_index (const fp_region_t *r, const fp_ue_key_t *k)
{
  fp_index_prefetch (&r->controlled[FP_CONTROLLED_UE].index, k->hash);
}

FP_ALWAYS_INLINE void
fp_ue_prefetch_record (const fp_region_t *r, fp_ue_key_t *k)
{
  k->guess = k->group ? fp_tunnel_guess (&r->controlled[FP_CONTROLLED_UE], k->hash) : FP_NONE;
  if (FP_LIKELY (k->guess != FP_NONE))
    FP_PREFETCH (fp_ue_at (r, k->guess));
}

/* A stage later: the encapsulation record. */
FP_ALWAYS_INLINE void
fp_ue_prefetch_encap (const fp_region_t *r, const fp_ue_key_t *k)
{
  u32 encap = k->guess != FP_NONE ? atomic_load_explicit (&fp_ue_at (r, k->guess)->encap, memory_order_relaxed) : FP_NONE;
  if (encap < r->gtpu->encap_capacity)
    FP_PREFETCH (fp_encap_at (r, encap));
}

FP_ALWAYS_INLINE const fp_gtpu_encap_t *
fp_ue_encap (const fp_region_t *r, u32 slot)
{
  u32 encap = atomic_load_explicit (&fp_ue_at (r, slot)->encap, memory_order_acquire);
  return FP_LIKELY (encap < r->gtpu->encap_capacity) ? fp_encap_at (r, encap) : NULL;
}

/* The record to encapsulate by, or NULL: no tunnel has the address. A slot found in an earlier stage of the same vector is as good as one
 * found now: it was live then, and is not used again before the caller's quiescent point. */
FP_ALWAYS_INLINE const fp_gtpu_encap_t *
fp_ue_lookup (const fp_region_t *r, const fp_ue_key_t *k)
{
  const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_UE];
  if (FP_UNLIKELY (!k->group))
    return NULL;
  fp_ue_match_key_t m = fp_ue_nth (k, 0);
  if (FP_LIKELY (k->guess != FP_NONE && fp_ue_is (fp_ue_at (r, k->guess), &m)))
    return fp_ue_encap (r, k->guess);
  u64 hash = k->hash;
  for (u32 n = 0;;)
    {
      u64 word = fp_index_find (&t->index, hash, fp_ue_match, t, &m);
      if (word)
	return fp_ue_encap (r, fp_word_slot (word));
      if (++n == k->group->count)
	return NULL;
      m = fp_ue_nth (k, n);
      hash = fp_hash_ue (&r->hash, &m);
    }
}

FP_INLINE const fp_gtpu_encap_t *
fp_ue_find (const fp_region_t *r, u32 vrf, int six, const u8 *address)
{
  fp_ue_key_t k;
  fp_ue_hash (r, vrf, six, address, &k);
  return fp_ue_lookup (r, &k);
}

/* Whether an inner source address (4 or 16 bytes) belongs to the tunnel. */
FP_ALWAYS_INLINE int
fp_tunnel_owns (const fp_region_t *r, u32 slot, const fp_tunnel_t *t, int six, const u8 *source)
{
  if (six ? atomic_load_explicit (&t->ue6, memory_order_relaxed) == fp_load64 (source) && fp_load64 (source) :
	    atomic_load_explicit (&t->ue4, memory_order_relaxed) == fp_load32 (source) && fp_load32 (source))
    return 1;
  u32 vrf = fp_tunnel_vrf (atomic_load_explicit (&t->shape, memory_order_relaxed));
  const fp_gtpu_encap_t *e = fp_ue_find (r, vrf, six, source);
  return e && e->tunnel == slot;
}

#endif /* FP_TUNNEL_H */

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

/* What the stages of a vector need of a table, in registers or on the stack: writing packet bytes does not make the compiler load it again. */
typedef struct
{
  const fp_bucket_t *buckets;
  const u8 *records;
  u32 mask;
  u32 capacity;
} fp_table_view_t;

typedef struct
{
  fp_hash_t hash;
  fp_table_view_t tunnels, ues, peers;
  const fp_gtpu_encap_t *encaps;
  u32 encap_capacity;
  fp_tunnel_counters_t *counters; /* of the worker, by tunnel slot */
} fp_gtpu_view_t;

FP_ALWAYS_INLINE fp_table_view_t
fp_table_view (const fp_region_t *r, enum fp_controlled table)
{
  const fp_control_table_t *t = &r->controlled[table];
  return (fp_table_view_t){ t->index.buckets, t->records, t->index.mask, t->capacity };
}

FP_ALWAYS_INLINE void
fp_gtpu_view (fp_gtpu_view_t *view, const fp_worker_t *w)
{
  const fp_region_t *r = w->region;
  view->hash = r->hash;
  view->tunnels = fp_table_view (r, FP_CONTROLLED_TUNNEL);
  view->ues = fp_table_view (r, FP_CONTROLLED_UE);
  view->peers = fp_table_view (r, FP_CONTROLLED_GTPU_PEER);
  view->encaps = r->gtpu->encaps;
  view->encap_capacity = r->gtpu->encap_capacity;
  view->counters = r->gtpu->counters[w->worker];
}

/* One of the two buckets that a hash may be in. One entry in about twenty lies in the second at the load that the tables are made for. */
FP_ALWAYS_INLINE const fp_bucket_t *
fp_table_bucket (const fp_table_view_t *t, u64 hash, int second)
{
  u32 first = (u32) hash & t->mask, b = (u32) (hash >> 32) & t->mask;
  return &t->buckets[!second ? first : b == first ? b ^ 1 : b];
}

/* Slot in a bucket that probably has the hash's key, which is not compared, or FP_NONE. */
FP_ALWAYS_INLINE u32
fp_table_guess (const fp_table_view_t *t, u64 hash, int second)
{
  u64 word = fp_bucket_candidate (fp_table_bucket (t, hash, second), fp_scan_live (hash));
  return word && FP_LIKELY (fp_word_slot (word) < t->capacity) ? fp_word_slot (word) : FP_NONE;
}

/* teid: host order. 0 for one of the declared range, which needs none. */
FP_ALWAYS_INLINE u64
fp_tunnel_hash (const fp_region_t *r, const fp_gtpu_endpoint_t *e, u32 teid)
{
  return teid - e->teid_base < e->teid_count ? 0 : fp_hash_tunnel (&r->hash, e->slot, teid);
}

/* Where one lookup stands between its stages: begin, look, look again, settle. */
typedef struct
{
  union
  {
    const _Atomic u32 *word; /* of the declared range's array */
    u64 hash;
  };
  u32 teid; /* host order */
  u32 endpoint;
  u32 slot; /* that probably has it, or FP_NONE */
  u8 ranged;
} fp_tunnel_seek_t;

/* First stage: the array's word, or the first bucket, on its way. */
FP_ALWAYS_INLINE void
fp_tunnel_begin (const fp_gtpu_view_t *view, const fp_gtpu_endpoint_t *e, u32 teid, fp_tunnel_seek_t *k, int prefetch)
{
  u32 at = teid - e->teid_base;
  k->teid = teid;
  k->endpoint = e->slot;
  k->ranged = at < e->teid_count;
  if (FP_LIKELY (k->ranged))
    {
      k->word = &e->by_teid[at];
      if (prefetch)
	FP_PREFETCH (k->word);
    }
  else
    {
      k->hash = fp_hash_tunnel (&view->hash, e->slot, teid);
      if (prefetch)
	FP_PREFETCH (fp_table_bucket (&view->tunnels, k->hash, 0));
    }
}

/* The tunnel and its counters of this worker. */
FP_ALWAYS_INLINE void
fp_tunnel_prefetch (const fp_gtpu_view_t *view, u32 slot)
{
  FP_PREFETCH ((const fp_tunnel_t *) view->tunnels.records + slot);
  __builtin_prefetch (&view->counters[slot], 1, 3);
}

/* Second stage. 0: look again, in the second bucket. */
FP_ALWAYS_INLINE int
fp_tunnel_look (const fp_gtpu_view_t *view, fp_tunnel_seek_t *k, int prefetch)
{
  if (FP_LIKELY (k->ranged))
    k->slot = atomic_load_explicit (k->word, memory_order_acquire) - 1;
  else
    k->slot = fp_table_guess (&view->tunnels, k->hash, 0);
  if (FP_LIKELY (k->slot != FP_NONE))
    {
      if (prefetch)
	fp_tunnel_prefetch (view, k->slot);
      return 1;
    }
  if (k->ranged)
    return 1;
  if (prefetch)
    FP_PREFETCH (fp_table_bucket (&view->tunnels, k->hash, 1));
  return 0;
}

FP_ALWAYS_INLINE void
fp_tunnel_look_again (const fp_gtpu_view_t *view, fp_tunnel_seek_t *k, int prefetch)
{
  k->slot = fp_table_guess (&view->tunnels, k->hash, 1);
  if (prefetch && k->slot != FP_NONE)
    fp_tunnel_prefetch (view, k->slot);
}

/* Last stage: the slot if it is the TEID's, or FP_NONE: fp_tunnel_lookup knows. A slot found in an earlier stage of the same vector is as
 * good as one found now: it was live then, and is not used again before the caller's quiescent point. */
FP_ALWAYS_INLINE u32
fp_tunnel_settle (const fp_gtpu_view_t *view, const fp_tunnel_seek_t *k)
{
  const fp_tunnel_t *t;
  if (FP_UNLIKELY (k->slot >= view->tunnels.capacity))
    return FP_NONE;
  t = (const fp_tunnel_t *) view->tunnels.records + k->slot;
  return FP_LIKELY (t->teid == k->teid && t->endpoint == k->endpoint) ? k->slot : FP_NONE;
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

/* Of one VRF and family, the same for all its addresses: for as long as the caller may keep the snapshot it comes from. */
typedef struct
{
  const fp_ue_group_t *group; /* NULL: no prefixes */
  u64 mix; /* the hash's two halves behind the longest length's tail */
  u32 crc;
  u32 vrf;
} fp_ue_scope_t;

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

__attribute__ ((noinline, unused)) static fp_ue_scope_t
fp_ue_scope (const fp_region_t *r, u32 vrf, u8 family)
{
  const fp_gtpu_snapshot_t *s = fp_gtpu_snapshot (r);
  const fp_ue_group_t *g = s->group, *end = g + s->groups;
  fp_ue_scope_t scope = { .vrf = vrf };
  while (g < end && (g->vrf != vrf || g->family != family))
    g++;
  if (g == end)
    return scope;
  scope.group = g;
  scope.mix = (r->hash.mix[1] ^ g->tail[0]) * r->hash.mix[0];
  scope.mix ^= scope.mix >> 32;
  scope.crc = fp_crc32c_words (&r->hash, r->hash.crc, &g->tail[0], 1);
  return scope;
}

/* As fp_hash_ue of the longest length; six is a constant. */
FP_ALWAYS_INLINE void
fp_ue_hash_in (const fp_hash_t *h, const fp_ue_scope_t *scope, int six, u64 high, u64 low, fp_ue_key_t *k)
{
  const fp_ue_group_t *g = scope->group;
  k->address[0] = high;
  k->address[1] = low;
  k->guess = FP_NONE;
  k->group = g;
  k->hash = 0;
  if (FP_UNLIKELY (!g))
    return;
  u64 words[2] = { high & g->mask[0][0], low & g->mask[0][1] }, m = scope->mix;
  for (int i = 0; i < 1 + six; i++)
    {
      m = (m ^ words[i]) * h->mix[0];
      m ^= m >> 32;
    }
  k->hash = fp_hash_join (m, fp_crc32c_words (h, scope->crc, words, 1 + (u32) six));
}

FP_ALWAYS_INLINE void
fp_ue_hash_words (const fp_region_t *r, u32 vrf, u8 family, u64 high, u64 low, fp_ue_key_t *k)
{
  fp_ue_scope_t scope = fp_ue_scope (r, vrf, family);
  fp_ue_hash_in (&r->hash, &scope, family == 6, high, low, k);
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

/* As an address; vlan: 1..4094, host order. */
FP_ALWAYS_INLINE u64
fp_ue_vlan (u16 vlan)
{
  return (u64) (vlan >> 8 | (vlan & 0xff) << 8);
}

FP_INLINE void
fp_ue_hash_vlan (const fp_region_t *r, u32 vrf, u16 vlan, fp_ue_key_t *k)
{
  fp_ue_hash_words (r, vrf, 0, fp_ue_vlan (vlan), 0, k);
}

/* First stage: the first bucket on its way. */
FP_ALWAYS_INLINE void
fp_ue_prefetch_index (const fp_gtpu_view_t *view, const fp_ue_key_t *k)
{
  FP_PREFETCH (fp_table_bucket (&view->ues, k->hash, 0));
}

/* Second stage, and for those that it says 0 of, once more with second = 1. */
FP_ALWAYS_INLINE int
fp_ue_look (const fp_gtpu_view_t *view, fp_ue_key_t *k, int second, int prefetch)
{
  if (FP_UNLIKELY (!k->group))
    return 1;
  k->guess = fp_table_guess (&view->ues, k->hash, second);
  if (FP_LIKELY (k->guess != FP_NONE))
    {
      if (prefetch)
	FP_PREFETCH ((const fp_ue_t *) view->ues.records + k->guess);
      return 1;
    }
  if (prefetch && !second)
    FP_PREFETCH (fp_table_bucket (&view->ues, k->hash, 1));
  return 0;
}

/* Third stage: the encapsulation record, or NULL: fp_ue_lookup knows. As for tunnels, a slot found in an earlier stage is as good as one found
 * now. */
FP_ALWAYS_INLINE const fp_gtpu_encap_t *
fp_ue_settle (const fp_gtpu_view_t *view, const fp_ue_key_t *k)
{
  const fp_ue_t *u = (const fp_ue_t *) view->ues.records + k->guess;
  u32 encap;
  if (FP_UNLIKELY (k->guess == FP_NONE))
    return NULL;
  fp_ue_match_key_t m = fp_ue_nth (k, 0);
  if (FP_UNLIKELY (!fp_ue_is (u, &m)))
    return NULL;
  encap = atomic_load_explicit (&u->encap, memory_order_acquire);
  return FP_LIKELY (encap < view->encap_capacity) ? &view->encaps[encap] : NULL;
}

FP_ALWAYS_INLINE const fp_gtpu_encap_t *
fp_ue_encap (const fp_region_t *r, u32 slot)
{
  u32 encap = atomic_load_explicit (&fp_ue_at (r, slot)->encap, memory_order_acquire);
  return FP_LIKELY (encap < r->gtpu->encap_capacity) ? fp_encap_at (r, encap) : NULL;
}

/* The record to encapsulate by, or NULL: no tunnel has the address. The key has been hashed, no more. */
FP_ALWAYS_INLINE const fp_gtpu_encap_t *
fp_ue_lookup (const fp_region_t *r, const fp_ue_key_t *k)
{
  const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_UE];
  if (FP_UNLIKELY (!k->group))
    return NULL;
  fp_ue_match_key_t m = fp_ue_nth (k, 0);
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

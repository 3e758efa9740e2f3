/* SPDX-License-Identifier: Apache-2.0 */
/* Wire records of GTP-U <-> what the tables hold: validation, keys, the record rebuilt from live contents. Control thread only. */
#ifndef FP_TUNNEL_RECORDS_H
#define FP_TUNNEL_RECORDS_H

#include <errno.h>

#include "fp_address.h"
#include "fp_tunnel.h"

#define FP_GTPU_MTU_MIN 576

/* ---- validation: 0 or a negative errno; references are checked by the caller ---- */

FP_INLINE int
fp_gtpu_mtu_valid (u16 mtu)
{
  return mtu == 0 || mtu >= FP_GTPU_MTU_MIN;
}

/* -E2BIG: the TEID range is larger than an array is kept for. */
FP_INLINE int
fp_gtpu_endpoint_valid (const fp_wire_gtpu_endpoint_t *e)
{
  if (!fp_address_unicast (e->family, e->address) || !fp_all_zero (e->pad, sizeof (e->pad)) || !e->id || e->reserved[0] ||
      e->reserved[1] || !fp_gtpu_mtu_valid (e->mtu) || (e->dscp > 63 && e->dscp != FP_GTPU_DSCP_INNER) ||
      e->flags > FP_GTPU_ENTROPY || e->port_low > e->port_high || ((e->flags & FP_GTPU_ENTROPY) && !e->port_low))
    return -EINVAL;
  if (e->teid_count && (!e->teid_base || (u64) e->teid_base + e->teid_count > 1ull << 32))
    return -EINVAL;
  return e->teid_count > FP_GTPU_TEIDS_MAX ? -E2BIG : 0;
}

FP_INLINE int
fp_gtpu_peer_valid (const fp_wire_gtpu_peer_t *p)
{
  if (!fp_address_unicast (p->family, p->address) || !fp_all_zero (p->pad, sizeof (p->pad)) ||
      !fp_all_zero (p->pad2, sizeof (p->pad2)) || !fp_gtpu_mtu_valid (p->mtu) || (p->echo_interval_ms && (!p->t3_ms || !p->n3)))
    return -EINVAL;
  return 0;
}

FP_INLINE int
fp_gtpu_tunnel_valid (const fp_wire_gtpu_tunnel_t *t)
{
  return t->local_teid && t->remote_teid && !t->pad && fp_all_zero (t->pad2, sizeof (t->pad2)) &&
	     fp_address_unicast (t->family, t->remote) &&
	     (t->payload == FP_GTPU_PAYLOAD_IP || t->payload == FP_GTPU_PAYLOAD_ETHERNET) && t->psc <= FP_GTPU_PSC_UL && t->qfi < 64 &&
	     t->flags <= (FP_GTPU_INNER_SOURCE_CHECK | FP_GTPU_END_MARKER_ON_REPLACE) ?
	   0 :
	   -EINVAL;
}

FP_INLINE int
fp_gtpu_ue_valid (const fp_wire_gtpu_ue_t *u)
{
  if (u->pad[0] || u->pad[1] || u->pad2)
    return -EINVAL;
  if (u->family == 0)
    {
      u32 vlan = (u32) u->address[0] << 8 | u->address[1];
      return u->length == FP_UE_VLAN_LENGTH && vlan >= 1 && vlan <= 4094 && fp_all_zero (u->address + 2, 14) ? 0 : -EINVAL;
    }
  if ((u->family != 4 && u->family != 6) || u->length > (u->family == 4 ? 32 : 128))
    return -EINVAL;
  u64 high, low, h, l;
  fp_prefix_halves (u->address, &high, &low);
  h = high, l = low;
  fp_prefix_mask (&h, &l, u->length);
  return h == high && l == low ? 0 : -EINVAL;
}

/* ---- keys and hashes ---- */

typedef struct
{
  u8 address[16];
  u32 vrf;
  u8 family;
  u8 pad[3];
} fp_gtpu_endpoint_key_t;

FP_INLINE u64
fp_hash_gtpu_endpoint (const fp_hash_t *h, const fp_gtpu_endpoint_key_t *k)
{
  u64 words[3] = { fp_load64 (k->address), fp_load64 (k->address + 8), fp_load64 (&k->vrf) };
  return fp_hash_words (h, words, 3);
}

FP_INLINE int
fp_gtpu_endpoint_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  return ref >> 1 < t->capacity &&
	 !memcmp ((const fp_gtpu_endpoint_record_t *) t->records + (ref >> 1), key, sizeof (fp_gtpu_endpoint_key_t));
}

FP_INLINE fp_gtpu_endpoint_key_t
fp_gtpu_endpoint_key (const fp_wire_gtpu_endpoint_t *e)
{
  fp_gtpu_endpoint_key_t k = { { 0 }, e->vrf, e->family, { 0 } };
  memcpy (k.address, e->address, 16);
  return k;
}

FP_INLINE fp_ue_match_key_t
fp_ue_key (const fp_wire_gtpu_ue_t *u)
{
  return (fp_ue_match_key_t){ { fp_load64 (u->address), fp_load64 (u->address + 8) }, fp_ue_tail (u->inner_vrf, u->family, u->length) };
}

/* Slot of the endpoint with an id, or FP_NONE. */
FP_INLINE u32
fp_gtpu_endpoint_of (const fp_region_t *r, u64 id)
{
  fp_gtpu_tables_t *g = r->gtpu;
  if (!id)
    return FP_NONE;
  if (g->last_id < g->ids_used && g->ids[g->last_id] == id)
    return g->last_id;
  for (u32 slot = 0; slot < g->ids_used; slot++)
    if (g->ids[slot] == id)
      return g->last_id = slot;
  return FP_NONE;
}

FP_INLINE u64
fp_tunnel_word (const fp_region_t *r, u32 endpoint, u32 teid, u64 *hash)
{
  const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_TUNNEL];
  fp_tunnel_key_t key = { teid, endpoint };
  *hash = fp_hash_tunnel (&r->hash, endpoint, teid);
  return fp_index_find (&t->index, *hash, fp_tunnel_match, t, &key);
}

FP_INLINE _Atomic u32 *
fp_gtpu_gen (const fp_region_t *r, enum fp_controlled t, u32 slot)
{
  return t == FP_CONTROLLED_GTPU_ENDPOINT ? &fp_gtpu_endpoint_at (r, slot)->gen :
	 t == FP_CONTROLLED_GTPU_PEER	  ? &fp_gtpu_peer_at (r, slot)->gen :
	 t == FP_CONTROLLED_TUNNEL	  ? &fp_tunnel_at (r, slot)->gen :
					    &fp_ue_at (r, slot)->gen;
}

/* Hash of the key that a slot's record holds now. */
FP_INLINE u64
fp_gtpu_hash (const fp_region_t *r, enum fp_controlled t, u32 slot)
{
  switch (t)
    {
    case FP_CONTROLLED_GTPU_ENDPOINT:
      return fp_hash_gtpu_endpoint (&r->hash, (const fp_gtpu_endpoint_key_t *) fp_gtpu_endpoint_at (r, slot));
    case FP_CONTROLLED_GTPU_PEER:
      return fp_hash_gtpu_peer (&r->hash, (const fp_gtpu_peer_key_t *) fp_gtpu_peer_at (r, slot));
    case FP_CONTROLLED_TUNNEL:
      return fp_hash_tunnel (&r->hash, fp_tunnel_at (r, slot)->endpoint, fp_tunnel_at (r, slot)->teid);
    default:
      return fp_hash_ue (&r->hash, (const fp_ue_match_key_t *) fp_ue_at (r, slot));
    }
}

/* Word of a wire key (the start of a record), or 0; the endpoint that it names must be there. */
FP_INLINE u64
fp_gtpu_wire_find (const fp_region_t *r, u32 table, const void *key, u64 *hash)
{
  *hash = 0;
  switch (table)
    {
    case FP_TABLE_GTPU_ENDPOINT:
      {
	const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_GTPU_ENDPOINT];
	fp_gtpu_endpoint_key_t k = fp_gtpu_endpoint_key (key);
	*hash = fp_hash_gtpu_endpoint (&r->hash, &k);
	return fp_index_find (&t->index, *hash, fp_gtpu_endpoint_match, t, &k);
      }
    case FP_TABLE_GTPU_PEER:
      {
	const fp_wire_gtpu_peer_t *p = key;
	fp_gtpu_peer_key_t k = { { 0 }, fp_gtpu_endpoint_of (r, p->endpoint), p->family, { 0 } };
	memcpy (k.address, p->address, 16);
	return k.endpoint == FP_NONE ? 0 : fp_gtpu_peer_word (r, &k, hash);
      }
    case FP_TABLE_GTPU_TUNNEL:
      {
	const fp_wire_gtpu_tunnel_t *t = key;
	u32 endpoint = fp_gtpu_endpoint_of (r, t->endpoint);
	return endpoint == FP_NONE ? 0 : fp_tunnel_word (r, endpoint, t->local_teid, hash);
      }
    default:
      {
	const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_UE];
	fp_ue_match_key_t k = fp_ue_key (key);
	*hash = fp_hash_ue (&r->hash, &k);
	return fp_index_find (&t->index, *hash, fp_ue_match, t, &k);
      }
    }
}

/* ---- encapsulation records ---- */

FP_INLINE u64
fp_gtpu_shape (const fp_wire_gtpu_endpoint_t *e)
{
  return (u64) e->mtu | (u64) e->dscp << 16 | (u64) e->flags << 24 | (u64) e->port_low << 32 | (u64) e->port_high << 48;
}

/* What an encapsulation record has of its endpoint and peer. */
FP_INLINE u64
fp_gtpu_encap_shape (const fp_region_t *r, u32 endpoint, u32 peer)
{
  u64 s = atomic_load_explicit (&fp_gtpu_endpoint_at (r, endpoint)->shape, memory_order_relaxed);
  u16 mtu = (u16) s, path = atomic_load_explicit (&fp_gtpu_peer_at (r, peer)->mtu, memory_order_relaxed);
  u16 low = (u16) (s >> 32), high = (u16) (s >> 48);
  u8 flags = (u8) (s >> 24);
  if (path && (!mtu || path < mtu))
    mtu = path;
  return fp_encap_shape (mtu, low, flags & FP_GTPU_ENTROPY ? (u16) (high - low + 1) : 0, (u8) (s >> 16));
}

/* The record of a tunnel whose endpoint and peer are there. */
FP_INLINE void
fp_gtpu_encap_build (const fp_region_t *r, u32 tunnel, u32 endpoint, u32 peer, const fp_wire_gtpu_tunnel_t *t, fp_gtpu_encap_t *e)
{
  memset (e, 0, sizeof (*e));
  memcpy (e->remote, t->remote, 16);
  memcpy (e->local, fp_gtpu_endpoint_at (r, endpoint)->address, 16);
  e->remote_teid = __builtin_bswap32 (t->remote_teid);
  e->tunnel = tunnel;
  e->peer = peer;
  e->endpoint = endpoint;
  atomic_store_explicit (&e->shape, fp_gtpu_encap_shape (r, endpoint, peer), memory_order_relaxed);
  e->family = t->family;
  e->payload = t->payload;
  e->psc = t->psc;
  e->qfi = t->qfi;
  e->header_sum = fp_encap_header_sum (e);
}

/* fp_tunnel_t.current for a record in a slot. */
FP_INLINE u64
fp_gtpu_current (u32 slot, const fp_gtpu_encap_t *e)
{
  return slot | (u64) (e->family == 4 ? fp_load32 (e->remote) : e->peer) << 32;
}

FP_INLINE u64
fp_gtpu_tunnel_shape (const fp_wire_gtpu_tunnel_t *t)
{
  return (u64) t->inner_vrf | (u64) t->flags << 32 | (u64) t->payload << 40;
}

/* The bytes but those of `shape`. */
FP_INLINE int
fp_gtpu_encap_same (const fp_gtpu_encap_t *a, const fp_gtpu_encap_t *b)
{
  const size_t at = offsetof (fp_gtpu_encap_t, shape);
  return !memcmp (a, b, at) && !memcmp ((const u8 *) a + at + 8, (const u8 *) b + at + 8, sizeof (*a) - at - 8);
}

/* ---- the wire record as the slot holds it now ---- */

FP_INLINE u64
fp_gtpu_id_of (const fp_region_t *r, u32 endpoint)
{
  return endpoint < r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity ? fp_gtpu_endpoint_at (r, endpoint)->id : 0;
}

FP_INLINE void
fp_gtpu_endpoint_rebuild (const fp_region_t *r, u32 slot, fp_wire_gtpu_endpoint_t *w)
{
  const fp_gtpu_endpoint_record_t *e = fp_gtpu_endpoint_at (r, slot);
  u64 teids = atomic_load_explicit (&e->teids, memory_order_relaxed), s = atomic_load_explicit (&e->shape, memory_order_relaxed);
  *w = (fp_wire_gtpu_endpoint_t){ .vrf = e->vrf,
				  .family = e->family,
				  .id = e->id,
				  .teid_base = (u32) teids,
				  .teid_count = (u32) (teids >> 32),
				  .mtu = (u16) s,
				  .dscp = (u8) (s >> 16),
				  .flags = (u8) (s >> 24),
				  .port_low = (u16) (s >> 32),
				  .port_high = (u16) (s >> 48) };
  memcpy (w->address, e->address, 16);
  memcpy (w->pad, e->pad, sizeof (w->pad)); /* zero unless someone altered them */
}

FP_INLINE void
fp_gtpu_peer_rebuild (const fp_region_t *r, u32 slot, fp_wire_gtpu_peer_t *w)
{
  const fp_gtpu_peer_t *p = fp_gtpu_peer_at (r, slot);
  *w = (fp_wire_gtpu_peer_t){ .endpoint = fp_gtpu_id_of (r, p->endpoint),
			      .family = p->family,
			      .echo_interval_ms = atomic_load_explicit (&p->echo_interval_ms, memory_order_relaxed),
			      .t3_ms = atomic_load_explicit (&p->t3_ms, memory_order_relaxed),
			      .mtu = atomic_load_explicit (&p->mtu, memory_order_relaxed),
			      .n3 = atomic_load_explicit (&p->n3, memory_order_relaxed) };
  memcpy (w->address, p->address, 16);
}

/* pad2[0] is 1 if something that is derived was altered. */
FP_INLINE void
fp_gtpu_tunnel_rebuild (const fp_region_t *r, u32 slot, fp_wire_gtpu_tunnel_t *w)
{
  const fp_tunnel_t *t = fp_tunnel_at (r, slot);
  const fp_gtpu_encap_t *e = fp_tunnel_encap (r, t);
  u64 shape = atomic_load_explicit (&t->shape, memory_order_relaxed), current = atomic_load_explicit (&t->current, memory_order_relaxed);
  fp_gtpu_encap_t should;
  *w = (fp_wire_gtpu_tunnel_t){ .endpoint = fp_gtpu_id_of (r, t->endpoint),
				.local_teid = t->teid,
				.inner_vrf = fp_tunnel_vrf (shape),
				.payload = fp_tunnel_payload (shape),
				.flags = fp_tunnel_flags (shape) };
  w->pad2[0] = 1;
  if (!e || e->peer >= r->controlled[FP_CONTROLLED_GTPU_PEER].capacity || !w->endpoint)
    return;
  w->remote_teid = __builtin_bswap32 (e->remote_teid);
  w->psc = e->psc;
  w->qfi = e->qfi;
  w->family = e->family;
  memcpy (w->remote, e->remote, 16);
  fp_gtpu_encap_build (r, slot, t->endpoint, e->peer, w, &should);
  w->pad2[0] = !fp_gtpu_encap_same (e, &should) || shape >> 48 || current != fp_gtpu_current ((u32) current, &should) ||
	       memcmp (fp_gtpu_peer_at (r, e->peer)->address, e->remote, 16);
  w->pad2[1] = atomic_load_explicit (&e->shape, memory_order_relaxed) != atomic_load_explicit (&should.shape, memory_order_relaxed);
}

FP_INLINE void
fp_gtpu_ue_rebuild (const fp_region_t *r, u32 slot, fp_wire_gtpu_ue_t *w)
{
  const fp_ue_t *u = fp_ue_at (r, slot);
  u32 encap = atomic_load_explicit (&u->encap, memory_order_relaxed);
  *w = (fp_wire_gtpu_ue_t){ .inner_vrf = u->vrf, .family = u->family, .length = u->length };
  memcpy (w->address, u->address, 16);
  memcpy (w->pad, &u->pad, sizeof (w->pad));
  if (encap >= r->gtpu->encap_capacity || fp_encap_at (r, encap)->tunnel >= r->controlled[FP_CONTROLLED_TUNNEL].capacity)
    return;
  const fp_tunnel_t *t = fp_tunnel_at (r, fp_encap_at (r, encap)->tunnel);
  w->endpoint = fp_gtpu_id_of (r, t->endpoint);
  w->local_teid = t->teid;
}

FP_INLINE void
fp_gtpu_wire_rebuild (const fp_region_t *r, u32 table, u32 slot, void *wire)
{
  switch (table)
    {
    case FP_TABLE_GTPU_ENDPOINT:
      fp_gtpu_endpoint_rebuild (r, slot, wire);
      break;
    case FP_TABLE_GTPU_PEER:
      fp_gtpu_peer_rebuild (r, slot, wire);
      break;
    case FP_TABLE_GTPU_TUNNEL:
      fp_gtpu_tunnel_rebuild (r, slot, wire);
      break;
    default:
      fp_gtpu_ue_rebuild (r, slot, wire);
      break;
    }
}

/* Bring in what rebuilding a record will read; stage 0: the record, 1: what it names. */
FP_ALWAYS_INLINE void
fp_gtpu_prefetch (const fp_region_t *r, u32 table, u32 slot, u32 stage)
{
  u32 encap = FP_NONE;
  if (stage == 0)
    {
      if (table == FP_TABLE_GTPU_TUNNEL)
	FP_PREFETCH (fp_tunnel_at (r, slot));
      else if (table == FP_TABLE_GTPU_UE)
	FP_PREFETCH (fp_ue_at (r, slot));
      return;
    }
  if (table == FP_TABLE_GTPU_TUNNEL)
    encap = (u32) atomic_load_explicit (&fp_tunnel_at (r, slot)->current, memory_order_relaxed);
  else if (table == FP_TABLE_GTPU_UE)
    encap = atomic_load_explicit (&fp_ue_at (r, slot)->encap, memory_order_relaxed);
  if (encap < r->gtpu->encap_capacity)
    FP_PREFETCH (fp_encap_at (r, encap));
}

FP_INLINE int
fp_gtpu_wire_valid (u32 table, const void *wire)
{
  switch (table)
    {
    case FP_TABLE_GTPU_ENDPOINT:
      return fp_gtpu_endpoint_valid (wire);
    case FP_TABLE_GTPU_PEER:
      return fp_gtpu_peer_valid (wire);
    case FP_TABLE_GTPU_TUNNEL:
      return fp_gtpu_tunnel_valid (wire);
    default:
      return fp_gtpu_ue_valid (wire);
    }
}

#endif /* FP_TUNNEL_RECORDS_H */

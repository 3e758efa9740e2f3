/* SPDX-License-Identifier: Apache-2.0 */
/* What the packet path reads of GTP-U beside the records: the snapshot of endpoints and prefix lengths, arrays of declared TEID ranges, the words
 * that follow from others. Control thread only. */
#ifndef FP_TUNNEL_PUBLISH_H
#define FP_TUNNEL_PUBLISH_H

#include "fp_control_state.h"

/* After the stores of a change, before what it unpublished is tagged. */
FP_INLINE void
fp_tunnel_changed (fp_region_t *r)
{
  u32 g = atomic_load_explicit (&r->gtpu->generation, memory_order_relaxed);
  atomic_store_explicit (&r->gtpu->generation, g + 1, memory_order_release);
}

/* ---- prefix lengths ---- */

/* Group of a (VRF, family), made if need be; NULL: too many. */
FP_INLINE fp_ue_lengths_t *
fp_ue_lengths (fp_tunnel_state_t *s, u32 vrf, u8 family)
{
  if (s->last_group < s->groups && s->lengths[s->last_group].vrf == vrf && s->lengths[s->last_group].family == family)
    return &s->lengths[s->last_group];
  u32 unused = FP_NONE;
  for (u32 i = 0; i < s->groups; i++)
    {
      if (s->lengths[i].vrf == vrf && s->lengths[i].family == family)
	{
	  s->last_group = i;
	  return &s->lengths[i];
	}
      if (unused == FP_NONE && fp_all_zero (s->lengths[i].used, sizeof (s->lengths[i].used)))
	unused = i;
    }
  if (unused == FP_NONE && s->groups < FP_UE_GROUPS)
    unused = s->groups++;
  if (unused == FP_NONE)
    return NULL;
  memset (&s->lengths[unused], 0, sizeof (s->lengths[unused]));
  s->lengths[unused].vrf = vrf;
  s->lengths[unused].family = family;
  s->last_group = unused;
  return &s->lengths[unused];
}

/* One more prefix of the length: 0 or -E2BIG. */
FP_INLINE int
fp_ue_length_add (fp_tunnel_state_t *s, u32 vrf, u8 family, u8 length)
{
  fp_ue_lengths_t *l = fp_ue_lengths (s, vrf, family);
  if (!l)
    return -E2BIG;
  if (!l->used[length])
    {
      u32 n = 0;
      for (u32 i = 0; i <= 128; i++)
	n += l->used[i] != 0;
      if (n == FP_UE_LENGTHS)
	return -E2BIG;
      s->snapshot_dirty = 1;
    }
  l->used[length]++;
  return 0;
}

FP_INLINE void
fp_ue_length_remove (fp_tunnel_state_t *s, u32 vrf, u8 family, u8 length)
{
  fp_ue_lengths_t *l = length <= 128 ? fp_ue_lengths (s, vrf, family) : NULL;
  if (l && l->used[length] && !--l->used[length])
    s->snapshot_dirty = 1;
}

/* ---- the snapshot ---- */

FP_INLINE void
fp_gtpu_snapshot_endpoint (const fp_region_t *r, u32 slot, fp_gtpu_endpoint_t *e)
{
  const fp_gtpu_endpoint_side_t *side = &r->control->gtpu.endpoint[slot];
  fp_wire_gtpu_endpoint_t w;
  fp_gtpu_endpoint_rebuild (r, slot, &w);
  *e = (fp_gtpu_endpoint_t){ .id = w.id,
			     .vrf = w.vrf,
			     .slot = slot,
			     .teid_base = side->base,
			     .teid_count = side->count,
			     .by_teid = side->by_teid,
			     .mtu = w.mtu,
			     .port_low = w.port_low,
			     .port_high = w.port_high,
			     .family = w.family,
			     .dscp = w.dscp,
			     .flags = w.flags };
  memcpy (e->address, w.address, 16);
}

FP_INLINE void
fp_gtpu_snapshot_groups (const fp_tunnel_state_t *s, fp_gtpu_snapshot_t *snapshot)
{
  for (u32 i = 0; i < s->groups; i++)
    {
      fp_ue_group_t *g = &snapshot->group[snapshot->groups];
      g->vrf = s->lengths[i].vrf;
      g->family = s->lengths[i].family;
      for (i32 length = 128; length >= 0; length--)
	if (s->lengths[i].used[length] && g->count < FP_UE_LENGTHS)
	  {
	    u64 high = ~0ull, low = ~0ull;
	    fp_prefix_mask (&high, &low, g->family ? (u8) length : 128); /* a VLAN id is compared whole */
	    g->mask[g->count][0] = __builtin_bswap64 (high);
	    g->mask[g->count][1] = __builtin_bswap64 (low);
	    g->tail[g->count++] = fp_ue_tail (g->vrf, g->family, (u8) length);
	  }
      snapshot->groups += g->count != 0;
    }
}

/* 0 or -ENOMEM: the old one stays in force, `snapshot_dirty` says so. */
FP_INLINE int
fp_gtpu_publish (fp_region_t *r)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  u32 n = 0, slots = 8, used = r->gtpu->ids_used;
  for (u32 slot = 0; slot < used; slot++)
    n += s->endpoint[slot].live;
  while (slots < 2 * n)
    slots *= 2;
  fp_gtpu_snapshot_t *new = calloc (1, sizeof (*new) + n * sizeof (*new->endpoint) + (s->groups + 1) * sizeof (*new->group) +
					 slots * sizeof (*new->bucket));
  s->snapshot_dirty = new == NULL;
  if (!new)
    return -ENOMEM;
  new->endpoint = (fp_gtpu_endpoint_t *) (new + 1);
  new->group = (fp_ue_group_t *) (new->endpoint + n);
  new->bucket = (u16 *) (new->group + s->groups + 1);
  new->mask = slots - 1;
  for (u32 slot = 0; slot < used; slot++)
    {
      fp_gtpu_endpoint_t *e = &new->endpoint[new->endpoints];
      if (!s->endpoint[slot].live)
	continue;
      fp_gtpu_snapshot_endpoint (r, slot, e);
      u32 at = fp_prefix_hash (fp_load64 (e->address), fp_load64 (e->address + 8), e->vrf, e->family) & new->mask;
      while (new->bucket[at])
	at = (at + 1) & new->mask;
      new->bucket[at] = (u16) ++new->endpoints;
    }
  fp_gtpu_snapshot_groups (s, new);
  fp_gtpu_snapshot_t *old = atomic_load_explicit (&r->gtpu->snapshot, memory_order_relaxed);
  atomic_store_explicit (&r->gtpu->snapshot, new, memory_order_release);
  FP_STEP ();
  fp_tunnel_changed (r);
  if (old)
    fp_control_retire (r->control, FP_RETIRED_MEMORY, 0, 0, old);
  return 0;
}

/* ---- declared TEID ranges ---- */

/* The array's place for a TEID, or NULL: looked up by hash. */
FP_INLINE _Atomic u32 *
fp_tunnel_place (const fp_gtpu_endpoint_side_t *e, u32 teid)
{
  return teid - e->base < e->count ? &e->by_teid[teid - e->base] : NULL;
}

/* Another range, filled with the tunnels that are there, in force with a new snapshot. 0 or -ENOMEM: as before. */
FP_INLINE int
fp_gtpu_range (fp_region_t *r, u32 slot, u32 base, u32 count)
{
  fp_gtpu_endpoint_side_t *e = &r->control->gtpu.endpoint[slot], old = *e;
  if (e->base == base && e->count == count)
    return 0;
  e->by_teid = count ? fp_huge_calloc (count, sizeof (u32)) : NULL;
  if (count && !e->by_teid)
    {
      *e = old;
      return -ENOMEM;
    }
  e->base = base;
  e->count = count;
  for (u32 t = 0; e->tunnels && t < r->control->slots[FP_CONTROLLED_TUNNEL].fresh; t++)
    if (r->control->gtpu.tunnel[t].live && fp_tunnel_at (r, t)->endpoint == slot)
      {
	_Atomic u32 *place = fp_tunnel_place (e, fp_tunnel_at (r, t)->teid);
	if (place)
	  atomic_store_explicit (place, t + 1, memory_order_relaxed);
	FP_STEP ();
      }
  if (fp_gtpu_publish (r))
    {
      free ((void *) e->by_teid);
      *e = old;
      return -ENOMEM;
    }
  if (old.by_teid)
    fp_control_retire (r->control, FP_RETIRED_MEMORY, 0, 0, (void *) old.by_teid);
  return 0;
}

/* ---- words that follow from others ---- */

/* MTU, ports and DSCP of all encapsulation records, after a change of endpoints or peers. */
FP_INLINE void
fp_gtpu_publish_shapes (fp_region_t *r)
{
  fp_control_t *c = r->control;
  for (u32 t = 0; t < c->slots[FP_CONTROLLED_TUNNEL].fresh; t++)
    {
      if (!c->gtpu.tunnel[t].live)
	continue;
      u32 slot = (u32) atomic_load_explicit (&fp_tunnel_at (r, t)->current, memory_order_relaxed);
      if (slot >= r->gtpu->encap_capacity)
	continue;
      fp_gtpu_encap_t *e = fp_encap_at (r, slot);
      if (e->peer >= r->controlled[FP_CONTROLLED_GTPU_PEER].capacity ||
	  e->endpoint >= r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity)
	continue;
      u64 shape = fp_gtpu_encap_shape (r, e->endpoint, e->peer);
      if (atomic_load_explicit (&e->shape, memory_order_relaxed) == shape)
	continue;
      atomic_store_explicit (&e->shape, shape, memory_order_relaxed);
      FP_STEP ();
    }
  c->gtpu.shapes_dirty = 0;
}

/* The prefixes that the tunnel's own line has, for the check of inner sources. */
FP_INLINE void
fp_tunnel_inline_add (fp_region_t *r, u32 tunnel, const fp_ue_t *u)
{
  fp_tunnel_t *t = fp_tunnel_at (r, tunnel);
  u64 ue6 = fp_load64 (u->address);
  if (u->family == 4 && u->length == 32 && !atomic_load_explicit (&t->ue4, memory_order_relaxed))
    atomic_store_explicit (&t->ue4, (u32) ue6, memory_order_relaxed);
  else if (u->family == 6 && u->length == 64 && !atomic_load_explicit (&t->ue6, memory_order_relaxed))
    atomic_store_explicit (&t->ue6, ue6, memory_order_relaxed);
  else if (u->family == 0 && !atomic_load_explicit (&t->vlan, memory_order_relaxed))
    atomic_store_explicit (&t->vlan, (u16) (u->address[0] << 8 | u->address[1]), memory_order_relaxed);
  else
    return;
  FP_STEP ();
}

FP_INLINE void
fp_tunnel_inline_remove (fp_region_t *r, u32 tunnel, const fp_ue_t *u)
{
  fp_tunnel_t *t = fp_tunnel_at (r, tunnel);
  u64 ue6 = fp_load64 (u->address);
  if (u->family == 4 && u->length == 32 && atomic_load_explicit (&t->ue4, memory_order_relaxed) == (u32) ue6)
    atomic_store_explicit (&t->ue4, 0, memory_order_relaxed);
  else if (u->family == 6 && u->length == 64 && atomic_load_explicit (&t->ue6, memory_order_relaxed) == ue6)
    atomic_store_explicit (&t->ue6, 0, memory_order_relaxed);
  else if (u->family == 0 && atomic_load_explicit (&t->vlan, memory_order_relaxed) == (u16) (u->address[0] << 8 | u->address[1]))
    atomic_store_explicit (&t->vlan, 0, memory_order_relaxed);
  else
    return;
  FP_STEP ();
  for (u32 n = r->control->gtpu.tunnel[tunnel].head; n != FP_NONE; n = r->control->gtpu.ue[n].next)
    fp_tunnel_inline_add (r, tunnel, fp_ue_at (r, n));
}

/* Who names what, from the tunnels and peers that are live. */
FP_INLINE void
fp_gtpu_recount (fp_region_t *r)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  u32 endpoints = r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity, peers = r->controlled[FP_CONTROLLED_GTPU_PEER].capacity;
  for (u32 i = 0; i < endpoints; i++)
    s->endpoint[i].peers = s->endpoint[i].tunnels = 0;
  for (u32 i = 0; i < peers; i++)
    {
      s->peer[i].tunnels = 0;
      if (s->peer[i].live && fp_gtpu_peer_at (r, i)->endpoint < endpoints)
	s->endpoint[fp_gtpu_peer_at (r, i)->endpoint].peers++;
    }
  for (u32 i = 0; i < r->control->slots[FP_CONTROLLED_TUNNEL].fresh; i++)
    {
      const fp_tunnel_t *t = fp_tunnel_at (r, i);
      const fp_gtpu_encap_t *e = fp_tunnel_encap (r, t);
      if (!s->tunnel[i].live)
	continue;
      if (t->endpoint < endpoints)
	s->endpoint[t->endpoint].tunnels++;
      if (e && e->peer < peers)
	s->peer[e->peer].tunnels++;
    }
}

/* ---- prefixes of a tunnel ---- */

FP_INLINE void
fp_ue_link (fp_control_t *c, u32 tunnel, u32 ue)
{
  fp_tunnel_side_t *t = &c->gtpu.tunnel[tunnel];
  c->gtpu.ue[ue] = (fp_ue_side_t){ t->head, FP_NONE, tunnel };
  if (t->head != FP_NONE)
    c->gtpu.ue[t->head].previous = ue;
  t->head = ue;
  t->ues++;
}

FP_INLINE void
fp_ue_unlink (fp_control_t *c, u32 ue)
{
  fp_ue_side_t *u = &c->gtpu.ue[ue];
  fp_tunnel_side_t *t = &c->gtpu.tunnel[u->tunnel];
  if (u->previous == FP_NONE)
    t->head = u->next;
  else
    c->gtpu.ue[u->previous].next = u->next;
  if (u->next != FP_NONE)
    c->gtpu.ue[u->next].previous = u->previous;
  t->ues--;
  u->tunnel = FP_NONE;
}

#endif /* FP_TUNNEL_PUBLISH_H */

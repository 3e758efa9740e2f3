/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching to GTP-U tables that another process left (fp_attach.h calls this). A tunnel counts if its endpoint and peer do and the
 * encapsulation record that its `current` names is, byte by byte, the one that would be built for it now; a prefix counts if a
 * record of a tunnel that counts is named by it. Everything else is derived from these: prefixes follow their tunnel's current record (a writer may
 * have been killed between the two), inline prefixes, arrays of TEID ranges, counts, free records. */
#ifndef FP_TUNNEL_ATTACH_H
#define FP_TUNNEL_ATTACH_H

#include "fp_tunnel_control.h"

/* seen: by enum fp_controlled, flags of the slots that count so far. */
FP_INLINE int
fp_gtpu_attach_seen (const fp_region_t *r, u8 *const *seen, enum fp_controlled t, u32 slot)
{
  return slot < r->controlled[t].capacity && seen[t][slot];
}

FP_INLINE int
fp_gtpu_attach_endpoint_valid (const fp_region_t *r, u32 slot, u8 *const *seen)
{
  const fp_gtpu_endpoint_record_t *e = fp_gtpu_endpoint_at (r, slot);
  for (u32 i = 0; i < r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity; i++)
    if (seen[FP_CONTROLLED_GTPU_ENDPOINT][i] && fp_gtpu_endpoint_at (r, i)->id == e->id)
      return 0;
  return 1;
}

FP_INLINE int
fp_gtpu_attach_peer_valid (const fp_region_t *r, u32 slot, u8 *const *seen)
{
  const fp_gtpu_peer_t *p = fp_gtpu_peer_at (r, slot);
  return fp_gtpu_attach_seen (r, seen, FP_CONTROLLED_GTPU_ENDPOINT, p->endpoint) &&
	 fp_gtpu_endpoint_at (r, p->endpoint)->family == p->family && fp_all_zero (p->pad, sizeof (p->pad));
}

FP_INLINE int
fp_gtpu_attach_tunnel_valid (const fp_region_t *r, u32 slot, u8 *const *seen)
{
  const fp_tunnel_t *t = fp_tunnel_at (r, slot);
  const fp_gtpu_encap_t *e = fp_tunnel_encap (r, t);
  return e && e->tunnel == slot && e->endpoint == t->endpoint &&
	 fp_gtpu_attach_seen (r, seen, FP_CONTROLLED_GTPU_ENDPOINT, t->endpoint) &&
	 fp_gtpu_attach_seen (r, seen, FP_CONTROLLED_GTPU_PEER, e->peer) && fp_gtpu_peer_at (r, e->peer)->endpoint == t->endpoint &&
	 fp_gtpu_endpoint_at (r, t->endpoint)->family == e->family;
}

FP_INLINE int
fp_gtpu_attach_ue_valid (const fp_region_t *r, u32 slot, u8 *const *seen)
{
  const fp_ue_t *u = fp_ue_at (r, slot);
  u32 encap = atomic_load_explicit (&u->encap, memory_order_relaxed);
  if (encap >= r->gtpu->encap_capacity || u->pad || !fp_gtpu_attach_seen (r, seen, FP_CONTROLLED_TUNNEL, fp_encap_at (r, encap)->tunnel))
    return 0;
  u64 shape = atomic_load_explicit (&fp_tunnel_at (r, fp_encap_at (r, encap)->tunnel)->shape, memory_order_relaxed);
  return fp_tunnel_vrf (shape) == u->vrf && (fp_tunnel_payload (shape) == FP_GTPU_PAYLOAD_ETHERNET) == (u->family == 0);
}

/* Whether a record is valid in itself and what it names counts. */
FP_INLINE int
fp_gtpu_attach_valid (const fp_region_t *r, u32 table, u32 slot, u8 *const *seen)
{
  fp_wire_t wire;
  int named = table == FP_TABLE_GTPU_ENDPOINT ? fp_gtpu_attach_endpoint_valid (r, slot, seen) :
	      table == FP_TABLE_GTPU_PEER     ? fp_gtpu_attach_peer_valid (r, slot, seen) :
	      table == FP_TABLE_GTPU_TUNNEL   ? fp_gtpu_attach_tunnel_valid (r, slot, seen) :
						fp_gtpu_attach_ue_valid (r, slot, seen);
  if (!named)
    return 0;
  fp_wire_rebuild (r, table, slot, &wire);
  if (table == FP_TABLE_GTPU_TUNNEL)
    wire.tunnel.pad2[1] = 0; /* `shape` may be behind: it is made anew */
  return fp_wire_valid (table, &wire) == 0;
}

/* ---- what is derived ---- */

/* Array of the endpoint's declared range, empty. */
FP_INLINE int
fp_gtpu_attach_endpoint (fp_region_t *r, u32 slot)
{
  fp_gtpu_endpoint_side_t *e = &r->control->gtpu.endpoint[slot];
  u64 teids = atomic_load_explicit (&fp_gtpu_endpoint_at (r, slot)->teids, memory_order_relaxed);
  e->live = 1;
  e->base = (u32) teids;
  e->count = (u32) (teids >> 32);
  e->by_teid = e->count ? fp_huge_calloc (e->count, sizeof (u32)) : NULL;
  fp_gtpu_endpoint_named (r, slot, fp_gtpu_endpoint_at (r, slot)->id);
  return e->count && !e->by_teid ? -ENOMEM : 0;
}

FP_INLINE void
fp_gtpu_attach_tunnel (fp_region_t *r, u32 slot, u8 *encaps)
{
  fp_tunnel_t *t = fp_tunnel_at (r, slot);
  _Atomic u32 *place = fp_tunnel_place (&r->control->gtpu.endpoint[t->endpoint], t->teid);
  r->control->gtpu.tunnel[slot] = (fp_tunnel_side_t){ FP_NONE, 0, 1 };
  encaps[(u32) atomic_load_explicit (&t->current, memory_order_relaxed)] = 1;
  if (place)
    atomic_store_explicit (place, slot + 1, memory_order_relaxed);
  atomic_store_explicit (&t->ue4, 0, memory_order_relaxed);
  atomic_store_explicit (&t->ue6, 0, memory_order_relaxed);
  atomic_store_explicit (&t->vlan, 0, memory_order_relaxed);
}

FP_INLINE void
fp_gtpu_attach_ue (fp_region_t *r, u32 slot)
{
  fp_ue_t *u = fp_ue_at (r, slot);
  u32 tunnel = fp_encap_at (r, atomic_load_explicit (&u->encap, memory_order_relaxed))->tunnel;
  u32 current = (u32) atomic_load_explicit (&fp_tunnel_at (r, tunnel)->current, memory_order_relaxed);
  fp_ue_link (r->control, tunnel, slot);
  if (atomic_load_explicit (&u->encap, memory_order_relaxed) != current)
    atomic_store_explicit (&u->encap, current, memory_order_relaxed);
  fp_tunnel_inline_add (r, tunnel, u);
}

/* Slots of encapsulation records that no tunnel names. */
FP_INLINE void
fp_gtpu_attach_encaps (fp_region_t *r, const u8 *encaps)
{
  fp_control_slots_t *s = &r->control->slots[FP_CONTROLLED_ENCAP];
  for (u32 i = 0; i < r->gtpu->encap_capacity; i++)
    if (encaps[i])
      {
	s->fresh = i + 1;
	r->controlled[FP_CONTROLLED_ENCAP].used++;
      }
  for (u32 i = 0; i < s->fresh; i++)
    if (!encaps[i])
      s->free[s->nfree++] = i;
}

/* After the words of all tables have been checked; 0 or -ENOMEM. */
FP_INLINE int
fp_gtpu_attach (fp_region_t *r, u8 *const *seen)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  u8 *encaps = calloc ((size_t) r->gtpu->encap_capacity + 1, 1);
  int rc = encaps ? 0 : -ENOMEM;
  for (u32 i = 0; !rc && i < r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity; i++)
    if (seen[FP_CONTROLLED_GTPU_ENDPOINT][i])
      rc = fp_gtpu_attach_endpoint (r, i);
  for (u32 i = 0; i < r->controlled[FP_CONTROLLED_GTPU_PEER].capacity; i++)
    s->peer[i].live = seen[FP_CONTROLLED_GTPU_PEER][i];
  for (u32 i = 0; !rc && i < r->control->slots[FP_CONTROLLED_TUNNEL].fresh; i++)
    if (seen[FP_CONTROLLED_TUNNEL][i])
      fp_gtpu_attach_tunnel (r, i, encaps);
  for (u32 i = 0; !rc && i < r->control->slots[FP_CONTROLLED_UE].fresh; i++)
    if (seen[FP_CONTROLLED_UE][i])
      {
	fp_ue_t *u = fp_ue_at (r, i);
	fp_gtpu_attach_ue (r, i);
	if (fp_ue_length_add (s, u->vrf, u->family, u->length)) /* only after damage: more lengths than there can be */
	  fp_gtpu_remove (r, FP_CONTROLLED_UE, i);
      }
  if (!rc)
    {
      fp_gtpu_attach_encaps (r, encaps);
      fp_gtpu_recount (r);
      fp_gtpu_publish_shapes (r);
      s->counted = r->control->slots[FP_CONTROLLED_TUNNEL].fresh;
    }
  free (encaps);
  return rc;
}

#endif /* FP_TUNNEL_ATTACH_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane's side of the GTP-U tables: upsert, delete, mending. Called through fp_control.h by the control thread.
 *
 * Result codes: -EINVAL wrong fields (a TEID of 0, another family than the endpoint's, QFI above 63, a VRF or kind of prefix that the tunnel has
 * not); -ENOENT the endpoint, peer or tunnel that a record names is not there; -EBUSY an endpoint, peer or tunnel that others still
 * name is deleted, or gets another id (endpoint), inner VRF or payload (tunnel); -EEXIST a prefix of another tunnel, an id of another
 * endpoint; -E2BIG a fifth prefix length in a VRF and family, more than FP_UE_GROUPS of these, a TEID range above FP_GTPU_TEIDS_MAX; -ENOSPC
 * table full (a change of a tunnel needs a free record until the workers have let go of the old one); -ENOMEM. */
#ifndef FP_TUNNEL_CONTROL_H
#define FP_TUNNEL_CONTROL_H

#include "fp_gtpu_path.h"
#include "fp_tunnel_figures.h"
#include "fp_tunnel_publish.h"

/* ---- endpoints ---- */

FP_INLINE void
fp_gtpu_endpoint_named (fp_region_t *r, u32 slot, u64 id)
{
  r->gtpu->ids[slot] = id;
  if (id && slot >= r->gtpu->ids_used)
    r->gtpu->ids_used = slot + 1;
}

FP_INLINE int
fp_gtpu_endpoint_change (fp_region_t *r, u32 slot, const fp_wire_gtpu_endpoint_t *w)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  fp_gtpu_endpoint_record_t *e = fp_gtpu_endpoint_at (r, slot);
  u64 teids = (u64) w->teid_base | (u64) w->teid_count << 32, shape = fp_gtpu_shape (w);
  if (e->id != w->id)
    {
      if (s->endpoint[slot].peers || s->endpoint[slot].tunnels)
	return -EBUSY;
      if (fp_gtpu_endpoint_of (r, w->id) != FP_NONE)
	return -EEXIST;
      e->id = w->id;
      FP_STEP ();
      fp_gtpu_endpoint_named (r, slot, w->id);
      s->snapshot_dirty = 1;
    }
  int rc = fp_gtpu_range (r, slot, w->teid_base, w->teid_count);
  if (rc)
    return rc;
  if (atomic_load_explicit (&e->teids, memory_order_relaxed) != teids)
    {
      atomic_store_explicit (&e->teids, teids, memory_order_relaxed);
      FP_STEP ();
    }
  if (atomic_load_explicit (&e->shape, memory_order_relaxed) != shape)
    {
      atomic_store_explicit (&e->shape, shape, memory_order_relaxed);
      FP_STEP ();
      s->snapshot_dirty = s->shapes_dirty = 1;
    }
  return 0;
}

FP_INLINE int
fp_gtpu_endpoint_upsert (fp_region_t *r, const fp_wire_gtpu_endpoint_t *w)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  u64 hash, word = fp_gtpu_wire_find (r, FP_TABLE_GTPU_ENDPOINT, w, &hash);
  if (word)
    return fp_gtpu_endpoint_change (r, fp_word_slot (word), w);
  if (fp_gtpu_endpoint_of (r, w->id) != FP_NONE)
    return -EEXIST;
  _Atomic u32 *by_teid = w->teid_count ? fp_huge_calloc (w->teid_count, sizeof (u32)) : NULL;
  if (w->teid_count && !by_teid)
    return -ENOMEM;
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_GTPU_ENDPOINT);
  if (slot == FP_NONE)
    {
      free ((void *) by_teid);
      return -ENOSPC;
    }
  fp_gtpu_endpoint_record_t *e = fp_gtpu_endpoint_at (r, slot);
  fp_gtpu_endpoint_key_t key = fp_gtpu_endpoint_key (w);
  memcpy (e, &key, sizeof (key));
  e->id = w->id;
  atomic_store_explicit (&e->teids, (u64) w->teid_base | (u64) w->teid_count << 32, memory_order_relaxed);
  atomic_store_explicit (&e->shape, fp_gtpu_shape (w), memory_order_relaxed);
  FP_STEP ();
  int rc = fp_control_publish (r, FP_CONTROLLED_GTPU_ENDPOINT, slot, fp_gtpu_endpoint_match, &key);
  if (rc)
    {
      free ((void *) by_teid);
      return rc;
    }
  s->endpoint[slot] = (fp_gtpu_endpoint_side_t){ .live = 1, .base = w->teid_base, .count = w->teid_count, .by_teid = by_teid };
  fp_gtpu_endpoint_named (r, slot, w->id);
  s->snapshot_dirty = 1;
  return 0;
}

/* It is in no snapshot afterwards. 0 or -ENOMEM: as before. */
FP_INLINE int
fp_gtpu_endpoint_withdraw (fp_region_t *r, u32 slot)
{
  fp_gtpu_endpoint_side_t *e = &r->control->gtpu.endpoint[slot];
  e->live = 0;
  if (fp_gtpu_publish (r))
    {
      e->live = 1;
      return -ENOMEM;
    }
  if (e->by_teid)
    fp_control_retire (r->control, FP_RETIRED_MEMORY, 0, 0, (void *) e->by_teid);
  memset (e, 0, sizeof (*e));
  fp_gtpu_endpoint_named (r, slot, 0);
  return 0;
}

/* ---- peers ---- */

FP_INLINE void
fp_gtpu_path_reset (fp_region_t *r, u32 slot)
{
  if (!r->gtpu_paths)
    return;
  fp_gtpu_path_t *p = &r->gtpu_paths[slot];
  atomic_store_explicit (&p->sent_sequence, 0, memory_order_relaxed);
  atomic_store_explicit (&p->sent_ns, 0, memory_order_relaxed);
  atomic_store_explicit (&p->answered_sequence, 0, memory_order_relaxed);
  atomic_store_explicit (&p->answered_ns, 0, memory_order_relaxed);
  atomic_store_explicit (&p->rtt_us, 0, memory_order_relaxed);
  atomic_store_explicit (&p->restart, 0, memory_order_relaxed);
}

FP_INLINE void
fp_gtpu_peer_fill (fp_gtpu_peer_t *p, const fp_wire_gtpu_peer_t *w)
{
  atomic_store_explicit (&p->echo_interval_ms, w->echo_interval_ms, memory_order_relaxed);
  atomic_store_explicit (&p->t3_ms, w->t3_ms, memory_order_relaxed);
  atomic_store_explicit (&p->n3, w->n3, memory_order_relaxed);
  atomic_store_explicit (&p->mtu, w->mtu, memory_order_relaxed);
}

FP_INLINE int
fp_gtpu_peer_upsert (fp_region_t *r, const fp_wire_gtpu_peer_t *w)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  u32 endpoint = fp_gtpu_endpoint_of (r, w->endpoint);
  u64 hash, word = fp_gtpu_wire_find (r, FP_TABLE_GTPU_PEER, w, &hash);
  if (endpoint == FP_NONE)
    return -ENOENT;
  if (fp_gtpu_endpoint_at (r, endpoint)->family != w->family)
    return -EINVAL;
  if (word)
    {
      fp_gtpu_peer_t *p = fp_gtpu_peer_at (r, fp_word_slot (word));
      s->shapes_dirty |= atomic_load_explicit (&p->mtu, memory_order_relaxed) != w->mtu && s->peer[fp_word_slot (word)].tunnels;
      fp_gtpu_peer_fill (p, w);
      FP_STEP ();
      return 0;
    }
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_GTPU_PEER);
  if (slot == FP_NONE)
    return -ENOSPC;
  fp_gtpu_peer_t *p = fp_gtpu_peer_at (r, slot);
  fp_gtpu_peer_key_t key = { { 0 }, endpoint, w->family, { 0 } };
  memcpy (key.address, w->address, 16);
  memcpy (p, &key, sizeof (key));
  fp_gtpu_peer_fill (p, w);
  FP_STEP ();
  fp_gtpu_path_reset (r, slot);
  int rc = fp_control_publish (r, FP_CONTROLLED_GTPU_PEER, slot, fp_gtpu_peer_match, &key);
  if (rc)
    return rc;
  s->peer[slot] = (fp_gtpu_peer_side_t){ 0, 1 };
  s->endpoint[endpoint].peers++;
  return 0;
}

/* A live peer for the control thread's timers, or NULL. */
FP_INLINE fp_gtpu_peer_t *
fp_control_gtpu_peer (const fp_region_t *r, u32 slot)
{
  return slot < r->controlled[FP_CONTROLLED_GTPU_PEER].capacity && r->control->gtpu.peer[slot].live ? fp_gtpu_peer_at (r, slot) : NULL;
}

/* ---- tunnels ---- */

FP_INLINE void
fp_gtpu_encap_retire (fp_region_t *r, u32 slot)
{
  r->controlled[FP_CONTROLLED_ENCAP].used--;
  fp_control_retire (r->control, FP_RETIRED_SLOT, FP_CONTROLLED_ENCAP, slot, NULL);
}

/* A filled record, FP_NONE if there is none free. */
FP_INLINE u32
fp_gtpu_encap_new (fp_region_t *r, u32 tunnel, u32 endpoint, u32 peer, const fp_wire_gtpu_tunnel_t *w)
{
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_ENCAP);
  if (slot == FP_NONE)
    return FP_NONE;
  fp_gtpu_encap_build (r, tunnel, endpoint, peer, w, fp_encap_at (r, slot));
  r->controlled[FP_CONTROLLED_ENCAP].used++;
  FP_STEP ();
  return slot;
}

/* Peer, remote TEID, PSC or QFI are others: one new record, one store for the tunnel, one for each of its prefixes. */
FP_INLINE int
fp_tunnel_swap (fp_region_t *r, u32 slot, u32 peer, const fp_wire_gtpu_tunnel_t *w)
{
  fp_control_t *c = r->control;
  fp_tunnel_t *t = fp_tunnel_at (r, slot);
  u32 old = (u32) atomic_load_explicit (&t->current, memory_order_relaxed);
  u32 new = fp_gtpu_encap_new (r, slot, t->endpoint, peer, w);
  if (new == FP_NONE)
    return -ENOSPC;
  atomic_store_explicit (&t->current, fp_gtpu_current (new, fp_encap_at (r, new)), memory_order_release);
  FP_STEP ();
  for (u32 u = c->gtpu.tunnel[slot].head; u != FP_NONE; u = c->gtpu.ue[u].next)
    {
      atomic_store_explicit (&fp_ue_at (r, u)->encap, new, memory_order_release);
      FP_STEP ();
    }
  atomic_store_explicit (&t->seen, 0, memory_order_relaxed);
  FP_STEP ();
  fp_tunnel_changed (r);
  c->gtpu.peer[peer].tunnels++;
  if (old >= r->gtpu->encap_capacity || fp_encap_at (r, old)->tunnel != slot)
    { /* damaged: which record it was, only attaching can tell */
      c->leaked++;
      fp_gtpu_recount (r);
      return 0;
    }
  const fp_gtpu_encap_t *e = fp_encap_at (r, old);
  if (e->peer < r->controlled[FP_CONTROLLED_GTPU_PEER].capacity && c->gtpu.peer[e->peer].tunnels)
    c->gtpu.peer[e->peer].tunnels--;
  if ((w->flags & FP_GTPU_END_MARKER_ON_REPLACE) &&
      (memcmp (e->remote, w->remote, 16) || e->remote_teid != __builtin_bswap32 (w->remote_teid)))
    fp_gtpu_marker_add (r, t->endpoint, e);
  fp_gtpu_encap_retire (r, old);
  return 0;
}

FP_INLINE int
fp_tunnel_change (fp_region_t *r, u32 slot, u32 peer, const fp_wire_gtpu_tunnel_t *w)
{
  fp_tunnel_t *t = fp_tunnel_at (r, slot);
  fp_wire_gtpu_tunnel_t now;
  fp_gtpu_tunnel_rebuild (r, slot, &now);
  if (!memcmp (&now, w, sizeof (now)))
    return 0;
  if ((now.inner_vrf != w->inner_vrf || now.payload != w->payload) && r->control->gtpu.tunnel[slot].ues)
    return -EBUSY;
  u64 shape = fp_gtpu_tunnel_shape (w);
  if (now.payload != w->payload || now.remote_teid != w->remote_teid || now.psc != w->psc || now.qfi != w->qfi ||
      now.pad2[0] || now.pad2[1] || memcmp (now.remote, w->remote, 16))
    {
      int rc = fp_tunnel_swap (r, slot, peer, w);
      if (rc)
	return rc;
    }
  if (atomic_load_explicit (&t->shape, memory_order_relaxed) != shape)
    {
      atomic_store_explicit (&t->shape, shape, memory_order_release);
      FP_STEP ();
      fp_tunnel_changed (r);
    }
  return 0;
}

FP_INLINE void
fp_tunnel_counters_clear (fp_region_t *r, u32 slot)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  if (slot >= s->counted)
    {
      s->counted = slot + 1;
      return;
    }
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    if (r->gtpu->counters[i])
      {
	fp_tunnel_counters_t *c = &r->gtpu->counters[i][slot];
	atomic_store_explicit (&c->rx_packets, 0, memory_order_relaxed);
	atomic_store_explicit (&c->rx_bytes, 0, memory_order_relaxed);
	atomic_store_explicit (&c->tx_packets, 0, memory_order_relaxed);
	atomic_store_explicit (&c->tx_bytes, 0, memory_order_relaxed);
	atomic_store_explicit (&c->drops, 0, memory_order_relaxed);
      }
}

FP_INLINE int
fp_tunnel_upsert (fp_region_t *r, const fp_wire_gtpu_tunnel_t *w)
{
  fp_control_t *c = r->control;
  fp_gtpu_peer_key_t peer_key = { { 0 }, fp_gtpu_endpoint_of (r, w->endpoint), w->family, { 0 } };
  u32 endpoint = peer_key.endpoint;
  u64 hash;
  if (endpoint == FP_NONE)
    return -ENOENT;
  if (fp_gtpu_endpoint_at (r, endpoint)->family != w->family)
    return -EINVAL;
  memcpy (peer_key.address, w->remote, 16);
  u64 peer_word = fp_gtpu_peer_word (r, &peer_key, &hash), word = fp_tunnel_word (r, endpoint, w->local_teid, &hash);
  if (!peer_word)
    return -ENOENT;
  u32 peer = fp_word_slot (peer_word);
  if (word)
    return fp_tunnel_change (r, fp_word_slot (word), peer, w);
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_TUNNEL);
  u32 encap = slot == FP_NONE ? FP_NONE : fp_gtpu_encap_new (r, slot, endpoint, peer, w);
  if (encap == FP_NONE)
    {
      if (slot != FP_NONE)
	fp_control_free (r, FP_CONTROLLED_TUNNEL, slot);
      return -ENOSPC;
    }
  fp_tunnel_t *t = fp_tunnel_at (r, slot);
  fp_tunnel_key_t key = { w->local_teid, endpoint };
  atomic_store_explicit (&t->current, fp_gtpu_current (encap, fp_encap_at (r, encap)), memory_order_relaxed);
  atomic_store_explicit (&t->shape, fp_gtpu_tunnel_shape (w), memory_order_relaxed);
  atomic_store_explicit (&t->ue6, 0, memory_order_relaxed);
  atomic_store_explicit (&t->ue4, 0, memory_order_relaxed);
  atomic_store_explicit (&t->vlan, 0, memory_order_relaxed);
  atomic_store_explicit (&t->seen, 0, memory_order_relaxed);
  t->teid = w->local_teid;
  t->endpoint = endpoint;
  FP_STEP ();
  fp_tunnel_counters_clear (r, slot);
  int rc = fp_control_publish (r, FP_CONTROLLED_TUNNEL, slot, fp_tunnel_match, &key);
  if (rc)
    {
      fp_control_free (r, FP_CONTROLLED_ENCAP, encap);
      r->controlled[FP_CONTROLLED_ENCAP].used--;
      return rc;
    }
  _Atomic u32 *place = fp_tunnel_place (&c->gtpu.endpoint[endpoint], w->local_teid);
  if (place)
    {
      atomic_store_explicit (place, slot + 1, memory_order_release);
      FP_STEP ();
    }
  c->gtpu.tunnel[slot] = (fp_tunnel_side_t){ FP_NONE, 0, 1 };
  c->gtpu.peer[peer].tunnels++;
  c->gtpu.endpoint[endpoint].tunnels++;
  fp_tunnel_changed (r);
  return 0;
}

/* A tunnel without prefixes leaves (its word is gone already). */
FP_INLINE void
fp_tunnel_release (fp_region_t *r, u32 slot)
{
  fp_control_t *c = r->control;
  fp_tunnel_t *t = fp_tunnel_at (r, slot);
  u32 encap = (u32) atomic_load_explicit (&t->current, memory_order_relaxed);
  if (t->endpoint < r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity)
    {
      fp_gtpu_endpoint_side_t *e = &c->gtpu.endpoint[t->endpoint];
      _Atomic u32 *place = e->live ? fp_tunnel_place (e, t->teid) : NULL;
      if (place && atomic_load_explicit (place, memory_order_relaxed) == slot + 1)
	{
	  atomic_store_explicit (place, 0, memory_order_release);
	  FP_STEP ();
	}
      if (e->tunnels)
	e->tunnels--;
    }
  fp_tunnel_changed (r);
  c->gtpu.tunnel[slot].live = 0;
  fp_control_retire_slot (r, FP_CONTROLLED_TUNNEL, slot);
  if (encap >= r->gtpu->encap_capacity || fp_encap_at (r, encap)->tunnel != slot)
    {
      c->leaked++;
      fp_gtpu_recount (r);
      return;
    }
  u32 peer = fp_encap_at (r, encap)->peer;
  if (peer < r->controlled[FP_CONTROLLED_GTPU_PEER].capacity && c->gtpu.peer[peer].tunnels)
    c->gtpu.peer[peer].tunnels--;
  fp_gtpu_encap_retire (r, encap);
}

/* ---- prefixes ---- */

FP_INLINE int
fp_ue_upsert (fp_region_t *r, const fp_wire_gtpu_ue_t *w)
{
  fp_control_t *c = r->control;
  u32 endpoint = fp_gtpu_endpoint_of (r, w->endpoint);
  u64 hash, tunnel_word = endpoint == FP_NONE ? 0 : fp_tunnel_word (r, endpoint, w->local_teid, &hash);
  u64 word = fp_gtpu_wire_find (r, FP_TABLE_GTPU_UE, w, &hash);
  if (!tunnel_word)
    return -ENOENT;
  u32 tunnel = fp_word_slot (tunnel_word);
  fp_tunnel_t *t = fp_tunnel_at (r, tunnel);
  u64 shape = atomic_load_explicit (&t->shape, memory_order_relaxed), current = atomic_load_explicit (&t->current, memory_order_relaxed);
  if (fp_tunnel_vrf (shape) != w->inner_vrf || (fp_tunnel_payload (shape) == FP_GTPU_PAYLOAD_ETHERNET) != (w->family == 0))
    return -EINVAL;
  if (word && c->gtpu.ue[fp_word_slot (word)].tunnel != tunnel)
    return -EEXIST;
  if (word)
    {
      _Atomic u32 *encap = &fp_ue_at (r, fp_word_slot (word))->encap;
      if (atomic_load_explicit (encap, memory_order_relaxed) != (u32) current) /* altered */
	{
	  atomic_store_explicit (encap, (u32) current, memory_order_release);
	  FP_STEP ();
	  fp_tunnel_changed (r);
	}
      return 0;
    }
  int rc = fp_ue_length_add (&c->gtpu, w->inner_vrf, w->family, w->length);
  if (rc)
    return rc;
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_UE);
  if (slot != FP_NONE)
    {
      fp_ue_t *u = fp_ue_at (r, slot);
      fp_ue_match_key_t key = fp_ue_key (w);
      memcpy (u, &key, sizeof (key));
      atomic_store_explicit (&u->encap, (u32) current, memory_order_relaxed);
      FP_STEP ();
      rc = fp_control_publish (r, FP_CONTROLLED_UE, slot, fp_ue_match, &key);
    }
  if (slot == FP_NONE || rc)
    {
      fp_ue_length_remove (&c->gtpu, w->inner_vrf, w->family, w->length);
      return -ENOSPC;
    }
  fp_ue_link (c, tunnel, slot);
  fp_tunnel_inline_add (r, tunnel, fp_ue_at (r, slot));
  fp_tunnel_changed (r);
  return 0;
}

/* A prefix leaves (its word is gone already). */
FP_INLINE void
fp_ue_release (fp_region_t *r, u32 slot)
{
  fp_control_t *c = r->control;
  const fp_ue_t *u = fp_ue_at (r, slot);
  u32 tunnel = c->gtpu.ue[slot].tunnel;
  fp_ue_unlink (c, slot);
  fp_tunnel_inline_remove (r, tunnel, u);
  fp_ue_length_remove (&c->gtpu, u->vrf, u->family, u->length);
  fp_tunnel_changed (r);
  fp_control_retire_slot (r, FP_CONTROLLED_UE, slot);
}

/* ---- by table ---- */

FP_INLINE int
fp_gtpu_upsert (fp_region_t *r, u32 table, const void *wire)
{
  switch (table)
    {
    case FP_TABLE_GTPU_ENDPOINT:
      return fp_gtpu_endpoint_upsert (r, wire);
    case FP_TABLE_GTPU_PEER:
      return fp_gtpu_peer_upsert (r, wire);
    case FP_TABLE_GTPU_TUNNEL:
      return fp_tunnel_upsert (r, wire);
    default:
      return fp_ue_upsert (r, wire);
    }
}

/* The rest of taking an entry out whose word is gone and that nobody names. */
FP_INLINE void
fp_gtpu_release (fp_region_t *r, enum fp_controlled t, u32 slot)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  r->controlled[t].used--;
  if (t == FP_CONTROLLED_TUNNEL)
    fp_tunnel_release (r, slot);
  else if (t == FP_CONTROLLED_UE)
    fp_ue_release (r, slot);
  else
    {
      if (t == FP_CONTROLLED_GTPU_PEER)
	{
	  u32 endpoint = fp_gtpu_peer_at (r, slot)->endpoint;
	  s->peer[slot].live = 0;
	  if (endpoint < r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity && s->endpoint[endpoint].peers)
	    s->endpoint[endpoint].peers--;
	}
      fp_control_retire_slot (r, t, slot);
    }
}

FP_INLINE int
fp_gtpu_delete (fp_region_t *r, u32 table, const void *key)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  enum fp_controlled t = fp_table_controlled (table);
  u64 hash, word = fp_gtpu_wire_find (r, table, key, &hash);
  u32 slot = fp_word_slot (word);
  if (!word)
    return 0;
  if ((table == FP_TABLE_GTPU_ENDPOINT && (s->endpoint[slot].peers || s->endpoint[slot].tunnels)) ||
      (table == FP_TABLE_GTPU_PEER && s->peer[slot].tunnels) || (table == FP_TABLE_GTPU_TUNNEL && s->tunnel[slot].ues))
    return -EBUSY;
  int rc = table == FP_TABLE_GTPU_ENDPOINT ? fp_gtpu_endpoint_withdraw (r, slot) : 0;
  if (rc)
    return rc;
  fp_control_erase (r, t, hash, fp_word_ref (word), fp_word_gen (word));
  fp_gtpu_release (r, t, slot);
  return 0;
}

/* ---- mending ---- */

/* Take out an entry with all that name it, whatever is damaged. */
FP_INLINE void
fp_gtpu_remove (fp_region_t *r, enum fp_controlled t, u32 slot)
{
  fp_control_t *c = r->control;
  fp_control_erase (r, t, fp_gtpu_hash (r, t, slot), slot << 1,
		    atomic_load_explicit (fp_gtpu_gen (r, t, slot), memory_order_relaxed));
  if (t == FP_CONTROLLED_UE)
    {
      if (c->gtpu.ue[slot].tunnel != FP_NONE)
	fp_gtpu_release (r, t, slot);
      return;
    }
  if (t == FP_CONTROLLED_TUNNEL)
    {
      if (!c->gtpu.tunnel[slot].live)
	return;
      while (c->gtpu.tunnel[slot].ues)
	fp_gtpu_remove (r, FP_CONTROLLED_UE, c->gtpu.tunnel[slot].head);
    }
  else
    for (u32 i = 0; i < c->slots[FP_CONTROLLED_TUNNEL].fresh; i++)
      {
	const fp_gtpu_encap_t *e = fp_tunnel_encap (r, fp_tunnel_at (r, i));
	if (c->gtpu.tunnel[i].live &&
	    (t == FP_CONTROLLED_GTPU_ENDPOINT ? fp_tunnel_at (r, i)->endpoint == slot : !e || e->peer == slot))
	  fp_gtpu_remove (r, FP_CONTROLLED_TUNNEL, i);
      }
  if (t == FP_CONTROLLED_GTPU_PEER && !c->gtpu.peer[slot].live)
    return;
  if (t == FP_CONTROLLED_GTPU_ENDPOINT)
    {
      if (!c->gtpu.endpoint[slot].live)
	return;
      for (u32 i = 0; i < c->slots[FP_CONTROLLED_GTPU_PEER].fresh; i++)
	if (c->gtpu.peer[i].live && fp_gtpu_peer_at (r, i)->endpoint == slot)
	  fp_gtpu_remove (r, FP_CONTROLLED_GTPU_PEER, i);
      if (fp_gtpu_endpoint_withdraw (r, slot))
	return; /* without memory: it stays known to packets until the next dump */
    }
  fp_gtpu_release (r, t, slot);
}

/* An entry that a dump found unusable: its word goes, and what names it. Everything is counted anew: the record cannot say any
 * more what it was. */
FP_INLINE void
fp_gtpu_mend (fp_region_t *r, enum fp_controlled t, _Atomic u64 *at, u64 word)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  fp_index_cas (at, word, 0);
  fp_gtpu_remove (r, t, fp_word_slot (word));
  for (u32 i = 0; i < s->groups; i++)
    memset (s->lengths[i].used, 0, sizeof (s->lengths[i].used));
  for (u32 i = 0; i < r->control->slots[FP_CONTROLLED_UE].fresh; i++)
    if (s->ue[i].tunnel != FP_NONE && fp_ue_at (r, i)->length <= 128)
      fp_ue_length_add (s, fp_ue_at (r, i)->vrf, fp_ue_at (r, i)->family, fp_ue_at (r, i)->length);
  fp_gtpu_recount (r);
  s->snapshot_dirty = 1;
}

#endif /* FP_TUNNEL_CONTROL_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* What the control thread reads out of the GTP-U tables beside their records: End Markers that are due, counters of tunnels, and marks on
 * tunnels that their peers do not know. */
#ifndef FP_TUNNEL_FIGURES_H
#define FP_TUNNEL_FIGURES_H

#include "fp_control_state.h"

/* ---- End Markers ---- */

/* One for the peer that a tunnel of the endpoint (slot) had by the record e. */
FP_INLINE void
fp_gtpu_marker_add (fp_region_t *r, u32 endpoint, const fp_gtpu_encap_t *e)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  if (s->markers == FP_GTPU_MARKERS)
    {
      s->markers_lost++;
      return;
    }
  const fp_gtpu_endpoint_record_t *local = fp_gtpu_endpoint_at (r, endpoint);
  fp_gtpu_marker_t *m = &s->marker[(s->first_marker + s->markers++) % FP_GTPU_MARKERS];
  *m = (fp_gtpu_marker_t){ .endpoint = local->id,
			   .vrf = local->vrf,
			   .remote_teid = __builtin_bswap32 (e->remote_teid),
			   .family = e->family,
			   .psc = e->psc,
			   .qfi = e->qfi,
			   .dscp = fp_encap_dscp (atomic_load_explicit (&e->shape, memory_order_relaxed)) };
  memcpy (m->local, e->local, 16);
  memcpy (m->remote, e->remote, 16);
  s->untagged_markers++;
}

/* The next End Marker that may be sent now: every worker has passed a quiescent point since the tunnel changed, so no G-PDU to the old peer
 * comes after it. 1, or 0: none yet. */
FP_INLINE int
fp_control_take_end_marker (fp_region_t *r, fp_gtpu_marker_t *m)
{
  fp_tunnel_state_t *s = &r->control->gtpu;
  if (!s->markers)
    return 0;
  if (s->untagged_markers)
    {
      u64 tag = fp_quiescence_tag (r->quiescence);
      for (u32 i = s->markers - s->untagged_markers; i < s->markers; i++)
	s->marker[(s->first_marker + i) % FP_GTPU_MARKERS].tag = tag;
      s->untagged_markers = 0;
    }
  fp_gtpu_marker_t *first = &s->marker[s->first_marker];
  if (first->tag > fp_quiescence_safe (r->quiescence))
    return 0;
  *m = *first;
  s->first_marker = (s->first_marker + 1) % FP_GTPU_MARKERS;
  s->markers--;
  return 1;
}

/* ---- counters ---- */

FP_INLINE void
fp_gtpu_counters_read (const fp_region_t *r, u32 slot, fp_msg_gtpu_counters_t *out)
{
  const fp_tunnel_t *t = fp_tunnel_at (r, slot);
  *out = (fp_msg_gtpu_counters_t){ .endpoint = fp_gtpu_id_of (r, t->endpoint),
				   .local_teid = t->teid,
				   .seen = atomic_load_explicit (&t->seen, memory_order_relaxed) };
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    if (r->gtpu->counters[i])
      {
	const fp_tunnel_counters_t *c = &r->gtpu->counters[i][slot];
	out->rx_packets += atomic_load_explicit (&c->rx_packets, memory_order_relaxed);
	out->rx_bytes += atomic_load_explicit (&c->rx_bytes, memory_order_relaxed);
	out->tx_packets += atomic_load_explicit (&c->tx_packets, memory_order_relaxed);
	out->tx_bytes += atomic_load_explicit (&c->tx_bytes, memory_order_relaxed);
	out->drops += atomic_load_explicit (&c->drops, memory_order_relaxed);
      }
}

/* Counters of the tunnel with a wire key: 0 or -ENOENT. */
FP_INLINE int
fp_control_gtpu_counters (const fp_region_t *r, const void *key, fp_msg_gtpu_counters_t *out)
{
  fp_wire_gtpu_tunnel_t k = { 0 };
  u64 hash;
  memcpy (&k, key, FP_WIRE_GTPU_TUNNEL_KEY);
  u64 word = fp_gtpu_wire_find (r, FP_TABLE_GTPU_TUNNEL, &k, &hash);
  if (!word)
    return -ENOENT;
  fp_gtpu_counters_read (r, fp_word_slot (word), out);
  return 0;
}

/* Of up to max tunnels from *cursor (0: the start) on; returns how many, *cursor = 0 at the end. */
FP_INLINE u32
fp_control_gtpu_counters_dump (const fp_region_t *r, u64 *cursor, fp_msg_gtpu_counters_t *out, u32 max)
{
  const fp_control_t *c = r->control;
  u32 n = 0;
  u64 slot = *cursor, end = c->slots[FP_CONTROLLED_TUNNEL].fresh;
  for (; slot < end && n < max; slot++)
    if (c->gtpu.tunnel[slot].live)
      fp_gtpu_counters_read (r, (u32) slot, &out[n++]);
  *cursor = slot < end ? slot : 0;
  return n;
}

/* Bits of enum fp_gtpu_seen onto the tunnels of an endpoint whose packets go to this peer and TEID (host order). A scan of all tunnels. */
FP_INLINE void
fp_tunnel_mark_remote (fp_region_t *r, u64 endpoint, const u8 peer[16], u32 remote_teid, u32 seen)
{
  u32 slot = fp_gtpu_endpoint_of (r, endpoint);
  for (u32 t = 0; slot != FP_NONE && t < r->control->slots[FP_CONTROLLED_TUNNEL].fresh; t++)
    {
      if (!r->control->gtpu.tunnel[t].live || fp_tunnel_at (r, t)->endpoint != slot)
	continue;
      const fp_gtpu_encap_t *e = fp_tunnel_encap (r, fp_tunnel_at (r, t));
      if (e && e->remote_teid == __builtin_bswap32 (remote_teid) && !memcmp (e->remote, peer, 16))
	fp_tunnel_mark (r, t, seen);
    }
}

#endif /* FP_TUNNEL_FIGURES_H */

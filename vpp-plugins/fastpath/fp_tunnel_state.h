/* SPDX-License-Identifier: Apache-2.0 */
/* What the control thread keeps beside the GTP-U tables: who uses what, prefixes of each tunnel, prefix lengths in use, End Markers that are
 * due. All of it is rebuilt when the region is attached. */
#ifndef FP_TUNNEL_STATE_H
#define FP_TUNNEL_STATE_H

#include "fp_huge.h"
#include "fp_tunnel_records.h"

typedef struct
{
  u32 peers, tunnels;
  u32 live;
  u32 base, count; /* as published */
  _Atomic u32 *by_teid;
} fp_gtpu_endpoint_side_t;

typedef struct
{
  u32 tunnels;
  u32 live;
} fp_gtpu_peer_side_t;

typedef struct
{
  u32 head; /* of its prefixes, FP_NONE at the end */
  u32 ues;
  u32 live;
} fp_tunnel_side_t;

typedef struct
{
  u32 next, previous;
  u32 tunnel; /* FP_NONE: not live */
} fp_ue_side_t;

typedef struct
{
  u32 vrf;
  u32 used[129]; /* prefixes by length */
  u8 family;
} fp_ue_lengths_t;

typedef struct
{
  fp_gtpu_endpoint_side_t *endpoint;
  fp_gtpu_peer_side_t *peer;
  fp_tunnel_side_t *tunnel;
  fp_ue_side_t *ue;
  fp_ue_lengths_t *lengths;
  u32 groups, last_group;
  u32 counted; /* counters of slots below may have been used */
  u8 snapshot_dirty, shapes_dirty;
  fp_gtpu_marker_t *marker; /* ring of FP_GTPU_MARKERS */
  u32 first_marker, markers, untagged_markers;
  u64 markers_lost;
} fp_tunnel_state_t;

/* ---- memory ---- */

FP_INLINE void
fp_tunnel_state_release (fp_region_t *r, fp_tunnel_state_t *s)
{
  if (s->endpoint)
    for (u32 i = 0; i < r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity; i++)
      free ((void *) s->endpoint[i].by_teid);
  free (s->endpoint);
  free (s->peer);
  free (s->tunnel);
  free (s->ue);
  free (s->lengths);
  free (s->marker);
}

FP_INLINE int
fp_tunnel_state_init (fp_region_t *r, fp_tunnel_state_t *s)
{
  u32 ues = r->controlled[FP_CONTROLLED_UE].capacity, tunnels = r->controlled[FP_CONTROLLED_TUNNEL].capacity;
  s->endpoint = calloc ((size_t) r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity + 1, sizeof (*s->endpoint));
  s->peer = calloc ((size_t) r->controlled[FP_CONTROLLED_GTPU_PEER].capacity + 1, sizeof (*s->peer));
  s->tunnel = calloc ((size_t) tunnels + 1, sizeof (*s->tunnel));
  s->ue = malloc (((size_t) ues + 1) * sizeof (*s->ue));
  s->lengths = calloc (FP_UE_GROUPS, sizeof (*s->lengths));
  s->marker = calloc (FP_GTPU_MARKERS, sizeof (*s->marker));
  if (!s->endpoint || !s->peer || !s->tunnel || !s->ue || !s->lengths || !s->marker)
    return -ENOMEM;
  for (u32 i = 0; i < ues; i++)
    s->ue[i].tunnel = FP_NONE;
  return 0;
}

FP_INLINE size_t
fp_tunnel_counters_bytes (const fp_region_t *r)
{
  return (size_t) r->controlled[FP_CONTROLLED_TUNNEL].capacity * sizeof (fp_tunnel_counters_t);
}

FP_INLINE void
fp_gtpu_tables_release (fp_region_t *r)
{
  fp_gtpu_tables_t *g = r->gtpu;
  if (!g)
    return;
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    if (g->counters[i])
      munmap (g->counters[i], fp_tunnel_counters_bytes (r));
  free (g->ids);
  free (atomic_load_explicit (&g->snapshot, memory_order_relaxed));
  free (g);
  r->gtpu = NULL;
}

/* Process memory of the tables: 0 or -ENOMEM. The tables' places in the region are known. */
FP_INLINE int
fp_gtpu_tables_init (fp_region_t *r)
{
  fp_gtpu_tables_t *g = aligned_alloc (FP_CACHE_LINE, (sizeof (*g) + FP_CACHE_LINE - 1) / FP_CACHE_LINE * FP_CACHE_LINE);
  if (!g)
    return -ENOMEM;
  memset (g, 0, sizeof (*g));
  r->gtpu = g;
  g->encaps = (fp_gtpu_encap_t *) r->controlled[FP_CONTROLLED_ENCAP].records;
  g->encap_capacity = r->controlled[FP_CONTROLLED_ENCAP].capacity;
  g->ids = calloc ((size_t) r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity + 1, sizeof (u64));
  if (!g->ids)
    return -ENOMEM;
  size_t bytes = fp_tunnel_counters_bytes (r);
  for (u32 i = 0; bytes && i <= FP_MAX_WORKERS; i++)
    if (i < r->workers || i == FP_MAX_WORKERS)
      {
	void *memory = fp_huge_map (bytes);
	if (!memory)
	  return -ENOMEM;
	g->counters[i] = memory;
      }
  return 0;
}

#endif /* FP_TUNNEL_STATE_H */

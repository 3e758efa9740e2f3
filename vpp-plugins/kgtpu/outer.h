/* SPDX-License-Identifier: Apache-2.0 */
/* The way of an encapsulated packet: a packet, or a frame. */
#ifndef included_kgtpu_outer_h
#define included_kgtpu_outer_h

#include <kgtpu/kgtpu.h>
#include <khost/khost_buffer.h>

/* The buffers of a vector, which go on in their order. */
typedef struct
{
  u32 *bis;
  u16 *nexts;
  u32 gone; /* so many from the start have been sent on, or are no more */
} kgtpu_vector_t;

/* Sends on what is decided, up to place `to`. */
static_always_inline void
kgtpu_send_on (vlib_main_t *vm, vlib_node_runtime_t *node, kgtpu_vector_t *v, u32 to)
{
  if (to > v->gone)
    vlib_buffer_enqueue_to_next (vm, node, v->bis + v->gone, v->nexts + v->gone, to - v->gone);
  v->gone = to;
}

/* The buffer s, allocated for a piece of the packet in b; length: of what it holds by now. */
static_always_inline void
kgtpu_open_piece (vlib_buffer_t *s, const vlib_buffer_t *b, u32 length)
{
  s->current_data = 0;
  s->current_length = (u16) length;
  s->flags = (s->flags & ~KHOST_NOT_PLAIN) | VLIB_BUFFER_TOTAL_LENGTH_VALID;
  s->total_length_not_including_first_buffer = 0;
  vnet_buffer (s)->sw_if_index[VLIB_RX] = vnet_buffer (b)->sw_if_index[VLIB_RX];
  vnet_buffer (s)->sw_if_index[VLIB_TX] = ~0;
}

/* Next node of an encapsulated packet, by the way to its peer: its adjacency, if the outer lookup is skipped (counted in *skipped), else lookup. */
static_always_inline u16
kgtpu_outer_next (vlib_main_t *vm, vlib_node_runtime_t *node, khost_worker_t *w, const kgtpu_main_t *km, vlib_buffer_t *b,
		  const fp_packet_t *p, u32 skip, u32 *skipped)
{
  const kgtpu_path_t *path = &km->paths[p->peer];
  const dpo_id_t dpo = { .as_u64 = clib_atomic_load_relax_n (&path->dpo.as_u64) };

  khost_buffer_from_packet (vm, b, p);
  b->flags |= VNET_BUFFER_F_LOCALLY_ORIGINATED;
  vnet_buffer (b)->ip.flow_hash = 0;
  if (PREDICT_TRUE (skip))
    {
      if (PREDICT_FALSE (!dpo_id_is_valid (&dpo) || dpo.dpoi_type == DPO_DROP))
	return kgtpu_own_drop (node, w, b, FP_DROP_UNRESOLVED);
      vnet_buffer (b)->ip.adj_index[VLIB_TX] = dpo.dpoi_index;
      *skipped += 1;
      return dpo.dpoi_next_node;
    }
  if (PREDICT_FALSE (path->fib_index == ~0))
    return kgtpu_own_drop (node, w, b, FP_DROP_UNRESOLVED);
  vnet_buffer (b)->sw_if_index[VLIB_TX] = path->fib_index;
  return p->l3[0] >> 4 == 6 ? KGTPU_NEXT_IP6_LOOKUP : KGTPU_NEXT_IP4_LOOKUP;
}

/* The way of the packets to one peer, where it is its adjacency's. */
typedef struct
{
  u32 peer; /* ~0: of none */
  u32 index; /* of the adjacency */
  u16 next;
  u8 known;
} kgtpu_way_t;

typedef struct
{
  u32 packets;
  u64 bytes;
} kgtpu_sent_t;

static_always_inline void
kgtpu_way_to (const kgtpu_main_t *km, u32 skip, kgtpu_way_t *way, u32 peer)
{
  const dpo_id_t dpo = { .as_u64 = clib_atomic_load_relax_n (&km->paths[peer].dpo.as_u64) };

  way->peer = peer;
  way->known = skip && dpo_id_is_valid (&dpo) && dpo.dpoi_type != DPO_DROP;
  way->index = dpo.dpoi_index;
  way->next = dpo.dpoi_next_node;
}

/* The usual outer packet: in one buffer, by its peer's adjacency. Returns the next node, or KHOST_STAYS: nothing has been done. */
static_always_inline u16
kgtpu_send_usual (const kgtpu_main_t *km, u32 skip, u32 data_size, kgtpu_way_t *way, vlib_buffer_t *b, const fp_packet_t *p, kgtpu_sent_t *sent)
{
  const i64 at = p->l3 - b->data;

  if (PREDICT_FALSE (p->peer != way->peer))
    kgtpu_way_to (km, skip, way, p->peer);
  if (PREDICT_FALSE (!way->known || b->flags & KHOST_NOT_PLAIN ||
		     (u64) (at + VLIB_BUFFER_PRE_DATA_SIZE) >= VLIB_BUFFER_PRE_DATA_SIZE + data_size))
    return KHOST_STAYS;
  sent->packets++;
  sent->bytes += p->length;
  b->current_data = (i16) at;
  b->current_length = (u16) p->contiguous;
  b->flags = (b->flags & ~KHOST_STALE) | VNET_BUFFER_F_LOCALLY_ORIGINATED;
  vnet_buffer (b)->ip.flow_hash = 0;
  vnet_buffer (b)->ip.adj_index[VLIB_TX] = way->index;
  return way->next;
}

#endif /* included_kgtpu_outer_h */

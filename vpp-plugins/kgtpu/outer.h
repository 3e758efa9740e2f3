/* SPDX-License-Identifier: Apache-2.0 */
#ifndef included_kgtpu_outer_h
#define included_kgtpu_outer_h

#include <kgtpu/kgtpu.h>
#include <khost/khost_buffer.h>

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

#endif /* included_kgtpu_outer_h */

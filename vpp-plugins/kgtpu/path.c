/* SPDX-License-Identifier: Apache-2.0 */
/* The way to each peer, followed through the FIB: one tracked entry for a peer, shared by all its tunnels. A change of routes changes one word for a
 * peer, however many tunnels it has, and stops no worker. */
#include <kgtpu/kgtpu.h>
#include <vnet/dpo/drop_dpo.h>
#include <vnet/dpo/load_balance.h>
#include <vnet/fib/fib_entry.h>
#include <vnet/fib/fib_entry_track.h>
#include <vnet/fib/fib_table.h>

#include <fastpath/fp_control.h>

/* What the FIB answers where the size of the link is not known. */
#define UNKNOWN_MTU 0xffff

static void
smallest_mtu (kgtpu_main_t *km)
{
  const fp_region_t *r = khost->region;
  u32 least = 0;

  for (u32 slot = 0; slot < vec_len (km->peers); slot++)
    {
      const u32 mtu = atomic_load_explicit (&r->gtpu_link_mtu[slot], memory_order_relaxed);
      if (km->peers[slot].live && mtu && (!least || mtu < least))
	least = mtu;
    }
  km->link_mtu = least;
}

static void
set_mtu (kgtpu_main_t *km, u32 slot, u32 mtu)
{
  _Atomic u16 *kept = &khost->region->gtpu_link_mtu[slot];

  if (mtu == UNKNOWN_MTU)
    mtu = 0;
  if (atomic_load_explicit (kept, memory_order_relaxed) == mtu)
    return;
  atomic_store_explicit (kept, (u16) mtu, memory_order_relaxed);
  smallest_mtu (km);
}

/* Stacks the peer's path on what its FIB entry says now. A choice of one is no choice: its only way is taken itself. An address of our own has
 * none. */
static void
restack (kgtpu_main_t *km, u32 slot)
{
  kgtpu_peer_t *peer = &km->peers[slot];
  const int six = peer->prefix.fp_proto == FIB_PROTOCOL_IP6;
  dpo_id_t dpo = DPO_INVALID;

  fib_entry_contribute_forwarding (peer->entry, six ? FIB_FORW_CHAIN_TYPE_UNICAST_IP6 : FIB_FORW_CHAIN_TYPE_UNICAST_IP4,
				   &dpo);
  while (dpo.dpoi_type == DPO_LOAD_BALANCE && load_balance_get (dpo.dpoi_index)->lb_n_buckets == 1)
    dpo_copy (&dpo, load_balance_get_bucket_i (load_balance_get (dpo.dpoi_index), 0));
  if (dpo.dpoi_type == DPO_RECEIVE)
    dpo_copy (&dpo, drop_dpo_get (dpo.dpoi_proto));
  set_mtu (km, slot, dpo.dpoi_type == DPO_DROP ? UNKNOWN_MTU : dpo_get_mtu (&dpo));
  dpo_stack_from_node (kgtpu4_encap_node.index, &km->paths[slot].dpo, &dpo);
  dpo_reset (&dpo);
  peer->changes++;
}

static void
untrack (kgtpu_main_t *km, u32 slot)
{
  kgtpu_peer_t *peer = &km->peers[slot];

  if (!peer->live)
    return;
  peer->live = 0;
  dpo_reset (&km->paths[slot].dpo);
  set_mtu (km, slot, 0);
  fib_entry_untrack (peer->entry, peer->sibling);
  fib_node_deinit (&peer->node);
  fib_table_unlock (km->paths[slot].fib_index, peer->prefix.fp_proto, km->pool_source);
}

static void
track (kgtpu_main_t *km, u32 slot, u32 table, const fib_prefix_t *prefix)
{
  kgtpu_peer_t *peer = &km->peers[slot];

  if (peer->live && !fib_prefix_cmp (&peer->prefix, prefix) &&
      fib_table_get_table_id (km->paths[slot].fib_index, prefix->fp_proto) == table)
    return;
  untrack (km, slot);
  peer->prefix = *prefix;
  peer->changes = 0;
  fib_node_init (&peer->node, km->node_type);
  km->paths[slot].fib_index = fib_table_find_or_create_and_lock (prefix->fp_proto, table, km->pool_source);
  peer->entry = fib_entry_track (km->paths[slot].fib_index, prefix, km->node_type, slot, &peer->sibling);
  peer->live = 1;
  restack (km, slot);
}

void
kgtpu_peer_change (fp_region_t *r, const fp_wire_gtpu_peer_t *p, int is_delete)
{
  kgtpu_main_t *km = &kgtpu_main;
  const u32 endpoint = fp_gtpu_endpoint_of (r, p->endpoint);
  fp_gtpu_peer_key_t key = { .endpoint = endpoint, .family = p->family };
  fib_prefix_t prefix = kgtpu_prefix (p->family, p->family == 4 ? 32 : 128, p->address);
  u64 hash, word;

  clib_memcpy (key.address, p->address, sizeof (key.address));
  word = endpoint == FP_NONE ? 0 : fp_gtpu_peer_word (r, &key, &hash);
  if (!word || fp_word_slot (word) >= vec_len (km->peers))
    return;
  if (is_delete)
    untrack (km, fp_word_slot (word));
  else
    track (km, fp_word_slot (word), fp_gtpu_endpoint_at (r, endpoint)->vrf, &prefix);
}

/* ---- the FIB's side ---- */

static fib_node_t *
node_get (fib_node_index_t index)
{
  return &kgtpu_main.peers[index].node;
}

static void
last_lock_gone (fib_node_t *node)
{
}

static fib_node_back_walk_rc_t
back_walk (fib_node_t *node, fib_node_back_walk_ctx_t *ctx)
{
  kgtpu_peer_t *peer = (kgtpu_peer_t *) ((u8 *) node - STRUCT_OFFSET_OF (kgtpu_peer_t, node));

  restack (&kgtpu_main, (u32) (peer - kgtpu_main.peers));
  return FIB_NODE_BACK_WALK_CONTINUE;
}

static const fib_node_vft_t node_vft = {
  .fnv_get = node_get,
  .fnv_last_lock = last_lock_gone,
  .fnv_back_walk = back_walk,
};

void
kgtpu_path_init (void)
{
  kgtpu_main.node_type = fib_node_register_new_type ("kgtpu-peer", &node_vft);
}

/* Sized once: the nodes read these arrays. */
void
kgtpu_path_open (fp_region_t *r)
{
  kgtpu_main_t *km = &kgtpu_main;
  const u32 n = r->controlled[FP_CONTROLLED_GTPU_PEER].capacity;
  _Atomic u16 *mtus = clib_mem_alloc_aligned (n * sizeof (u16), CLIB_CACHE_LINE_BYTES);
  const dpo_id_t none = DPO_INVALID;

  for (u32 i = 0; i < n; i++)
    atomic_init (&mtus[i], 0);
  vec_validate (km->peers, n - 1);
  vec_validate_aligned (km->paths, n - 1, CLIB_CACHE_LINE_BYTES);
  for (u32 i = 0; i < n; i++)
    {
      km->paths[i].dpo = none;
      km->paths[i].fib_index = ~0;
    }
  r->gtpu_link_mtu = mtus;
}

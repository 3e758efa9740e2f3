/* SPDX-License-Identifier: Apache-2.0 */
/* FIB entries: UE pools lead to encapsulation; a local GTP-U address leads through the node kgtpu4-local or kgtpu6-local where that is wanted (bypass
 * in form Fib) or needed (an address that VPP does not have itself). */
#include <kgtpu/kgtpu.h>
#include <vnet/dpo/drop_dpo.h>
#include <vnet/dpo/load_balance.h>
#include <vnet/fib/fib_entry.h>
#include <vnet/fib/fib_table.h>
#include <vnet/ip/ip4.h>
#include <vnet/ip/ip6.h>

#define LOCAL_PRIORITY 0x02 /* before the interfaces' own entries: an interposed one shows them as its parent */

#define LOCAL_KEPT_S   1.0

/* ---- UE pools ---- */

static void
pool_lock (dpo_id_t *dpo)
{
  /* its index is a VRF's, which stays */
}

static const dpo_vft_t pool_vft = {
  .dv_lock = pool_lock,
  .dv_unlock = pool_lock,
  .dv_format = format_kgtpu_pool_dpo,
};

static const char *const pool_nodes4[] = { "kgtpu4-encap", NULL };
static const char *const pool_nodes6[] = { "kgtpu6-encap", NULL };
static const char *const *const pool_nodes[DPO_PROTO_NUM] = {
  [DPO_PROTO_IP4] = pool_nodes4,
  [DPO_PROTO_IP6] = pool_nodes6,
};

void
kgtpu_pool_change (const fp_wire_prefix_t *p, int is_delete)
{
  kgtpu_main_t *km = &kgtpu_main;
  const fib_prefix_t prefix = kgtpu_prefix (p->family, p->length, p->address);
  dpo_id_t dpo = DPO_INVALID;
  u32 vrf, fib_index;

  if (p->prefix_class != FP_PREFIX_UE_POOL)
    return;
  vrf = kgtpu_vrf_of (p->vrf);
  fib_index = km->vrfs[vrf].fib_index[p->family == 6];
  if (is_delete)
    {
      fib_table_entry_special_remove (fib_index, &prefix, km->pool_source);
      return;
    }
  dpo_set (&dpo, km->pool_dpo, fib_proto_to_dpo (prefix.fp_proto), vrf);
  fib_table_entry_special_dpo_update (fib_index, &prefix, km->pool_source,
				      FIB_ENTRY_FLAG_EXCLUSIVE | FIB_ENTRY_FLAG_LOOSE_URPF_EXEMPT, &dpo);
  dpo_reset (&dpo);
}

/* ---- local addresses ---- */

/* Packets on their way from lookup to our node still use what the FIB has given up: it is kept until they are through, by far. */
static void
local_reclaim (kgtpu_main_t *km, f64 now)
{
  u32 i = 0;

  for (; i < vec_len (km->given_up); i++)
    {
      kgtpu_local_t *l = pool_elt_at_index (km->locals, km->given_up[i]);

      if (now - l->given_up < LOCAL_KEPT_S)
	break;
      dpo_reset (&l->parent);
      pool_put (km->locals, l);
    }
  if (i)
    vec_delete (km->given_up, i, 0);
}

static kgtpu_local_t *
local_alloc (kgtpu_main_t *km)
{
  vlib_main_t *vm = vlib_get_main ();

  local_reclaim (km, vlib_time_now (vm));

  const int grows = pool_get_will_expand (km->locals);
  kgtpu_local_t *l;

  if (grows)
    vlib_worker_thread_barrier_sync (vm);
  pool_get_zero (km->locals, l);
  if (grows)
    vlib_worker_thread_barrier_release (vm);
  l->parent = (dpo_id_t) DPO_INVALID;
  return l;
}

static void
local_lock (dpo_id_t *dpo)
{
  pool_elt_at_index (kgtpu_main.locals, dpo->dpoi_index)->locks++;
}

static void
local_unlock (dpo_id_t *dpo)
{
  kgtpu_local_t *l = pool_elt_at_index (kgtpu_main.locals, dpo->dpoi_index);

  if (--l->locks)
    return;
  l->given_up = vlib_time_now (vlib_get_main ());
  vec_add1 (kgtpu_main.given_up, l - kgtpu_main.locals);
}

static void
local_interpose (const dpo_id_t *original, const dpo_id_t *parent, dpo_id_t *clone)
{
  kgtpu_main_t *km = &kgtpu_main;
  kgtpu_local_t *l = local_alloc (km);
  const dpo_id_t *way = parent;

  while (way->dpoi_type == DPO_LOAD_BALANCE)
    way = load_balance_get_bucket_i (load_balance_get (way->dpoi_index), 0);
  l->own = way->dpoi_type == DPO_RECEIVE;
  dpo_stack (km->local_dpo, original->dpoi_proto, &l->parent, parent);
  dpo_set (clone, km->local_dpo, original->dpoi_proto, l - km->locals);
}

static const dpo_vft_t local_vft = {
  .dv_lock = local_lock,
  .dv_unlock = local_unlock,
  .dv_format = format_kgtpu_local_dpo,
  .dv_mk_interpose = local_interpose,
};

static const char *const local_nodes4[] = { "kgtpu4-local", NULL };
static const char *const local_nodes6[] = { "kgtpu6-local", NULL };
static const char *const *const local_nodes[DPO_PROTO_NUM] = {
  [DPO_PROTO_IP4] = local_nodes4,
  [DPO_PROTO_IP6] = local_nodes6,
};

/* Whether VPP itself receives what comes to the address. */
static int
is_own (const kgtpu_endpoint_t *e)
{
  static const fib_source_t sources[] = { FIB_SOURCE_INTERFACE, FIB_SOURCE_API, FIB_SOURCE_CLI };
  const fib_node_index_t entry = fib_table_lookup_exact_match (e->fib_index, &e->prefix);

  if (entry == FIB_NODE_INDEX_INVALID)
    return 0;
  for (u32 i = 0; i < ARRAY_LEN (sources); i++)
    if (fib_entry_is_sourced (entry, sources[i]) &&
	fib_entry_get_flags_for_source (entry, sources[i]) & FIB_ENTRY_FLAG_LOCAL)
      return 1;
  return 0;
}

static void
set_interposed (kgtpu_main_t *km, kgtpu_endpoint_t *e, int wanted)
{
  if (wanted == e->interposed)
    return;
  e->interposed = wanted;
  if (wanted)
    {
      kgtpu_local_t *l = local_alloc (km);
      dpo_id_t dpo = DPO_INVALID;

      dpo_set (&dpo, km->local_dpo, fib_proto_to_dpo (e->prefix.fp_proto), l - km->locals);
      fib_table_entry_special_dpo_add (e->fib_index, &e->prefix, km->local_source, FIB_ENTRY_FLAG_INTERPOSE, &dpo);
      dpo_reset (&dpo);
    }
  else
    fib_table_entry_special_remove (e->fib_index, &e->prefix, km->local_source);
}

void
kgtpu_locals_apply (void)
{
  kgtpu_main_t *km = &kgtpu_main;
  kgtpu_endpoint_t *e;

  km->fib_bypass = km->switches & FP_GTPU_BYPASS && km->switches & FP_GTPU_BYPASS_FIB;
  pool_foreach (e, km->endpoints)
    set_interposed (km, e, km->fib_bypass || !is_own (e));
}

void
kgtpu_endpoint_change (const fp_wire_gtpu_endpoint_t *w, int is_delete)
{
  kgtpu_main_t *km = &kgtpu_main;
  const fib_prefix_t prefix = kgtpu_prefix (w->family, w->family == 4 ? 32 : 128, w->address);
  const int six = w->family == 6;
  kgtpu_endpoint_t *e, *found = 0;

  pool_foreach (e, km->endpoints)
    if (e->table == w->vrf && !fib_prefix_cmp (&e->prefix, &prefix))
      found = e;
  if (is_delete == !found)
    return;
  if (is_delete)
    {
      set_interposed (km, found, 0);
      fib_table_unlock (found->fib_index, prefix.fp_proto, km->local_source);
      pool_put (km->endpoints, found);
      km->n_endpoints[six]--;
    }
  else
    {
      pool_get_zero (km->endpoints, e);
      e->table = w->vrf;
      e->prefix = prefix;
      e->fib_index = fib_table_find_or_create_and_lock (prefix.fp_proto, w->vrf, km->local_source);
      khost->learn_fib (prefix.fp_proto, e->fib_index);
      km->n_endpoints[six]++;
    }
  kgtpu_locals_apply ();
  kgtpu_features_apply ();
  kgtpu_udp_apply (vlib_get_main (), six);
}

/* ---- addresses of interfaces come and go ---- */

static void
address4_changed (ip4_main_t *im, uword opaque, u32 sw_if_index, ip4_address_t *address, u32 length, u32 if_index,
		  u32 is_del)
{
  if (kgtpu_main.attached)
    kgtpu_locals_apply ();
}

static void
address6_changed (ip6_main_t *im, uword opaque, u32 sw_if_index, ip6_address_t *address, u32 length, u32 if_index,
		  u32 is_del)
{
  if (kgtpu_main.attached)
    kgtpu_locals_apply ();
}

void
kgtpu_local_init (vlib_main_t *vm)
{
  kgtpu_main_t *km = &kgtpu_main;
  ip4_add_del_interface_address_callback_t cb4 = { .function = address4_changed };
  ip6_add_del_interface_address_callback_t cb6 = { .function = address6_changed };

  km->pool_dpo = dpo_register_new_type (&pool_vft, pool_nodes);
  km->local_dpo = dpo_register_new_type (&local_vft, local_nodes);
  km->pool_source = fib_source_allocate ("kgtpu", FIB_SOURCE_PRIORITY_HI, FIB_SOURCE_BH_SIMPLE);
  km->local_source = fib_source_allocate ("kgtpu-local", LOCAL_PRIORITY, FIB_SOURCE_BH_SIMPLE);
  vec_add1 (ip4_main.add_del_interface_address_callbacks, cb4);
  vec_add1 (ip6_main.add_del_interface_address_callbacks, cb6);
}

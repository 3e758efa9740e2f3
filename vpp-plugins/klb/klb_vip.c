/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of Services in the FIB. A service range is one entry for all ClusterIPs in it; every other address that has a frontend is an entry
 * of its own. What the kernel passes goes on as the covering route says. The entries are exclusive, since one that interposes is gone while its
 * cover cannot be resolved: changes within the cover are followed by FIB itself, another cover is looked for each second. */
#include <klb/klb.h>

#include <vnet/dpo/drop_dpo.h>
#include <vnet/fib/fib_entry.h>

#include <fastpath/fp_publish.h>
#include <fastpath/fp_tables.h>

#define KLB_FIB_PRIORITY 2 /* before routes and interfaces' addresses: a node's own address may be a Service's too */

typedef struct
{
  u8 address[16];
  u32 vrf;
  u8 family;
  u8 length;
  u16 pad;
} klb_route_key_t;

STATIC_ASSERT_SIZEOF (klb_route_key_t, 24);

typedef struct
{
  klb_route_key_t key;
  u32 fib_index;
  index_t dpo;
  fib_node_index_t cover; /* what the DPO's parent was taken from */
} klb_route_t;

typedef struct
{
  klb_route_t *routes; /* pool */
  uword *by_key;       /* klb_route_key_t to index of routes */
  fp_wire_prefix_t *ranges; /* vector: prefixes of class service */
} vips_t;

static vips_t vips;

/* ---- the DPO ---- */

static klb_dpo_t *
klb_dpo (const dpo_id_t *dpo)
{
  return pool_elt_at_index (klb_main.dpos, dpo->dpoi_index);
}

static void
klb_dpo_lock (dpo_id_t *dpo)
{
  klb_dpo (dpo)->locks++;
}

static void
klb_dpo_unlock (dpo_id_t *dpo)
{
  klb_dpo_t *d = klb_dpo (dpo);

  if (--d->locks)
    return;
  dpo_reset (&d->parent);
  pool_put (klb_main.dpos, d);
}

/* Under the barrier: workers read the pool. */
static index_t
klb_dpo_new (dpo_proto_t proto)
{
  klb_dpo_t *d;
  index_t index;

  pool_get_zero (klb_main.dpos, d);
  index = d - klb_main.dpos;
  dpo_stack (klb_main.dpo_type, proto, &d->parent, drop_dpo_get (proto));
  return index;
}

static u8 *
format_klb_dpo (u8 *s, va_list *args)
{
  const index_t index = va_arg (*args, index_t);
  const u32 indent = va_arg (*args, u32);

  s = format (s, "klb: [index:%u] Services; others:", index);
  return format (s, "\n%U%U", format_white_space, indent + 2, format_dpo_id, &pool_elt_at_index (klb_main.dpos, index)->parent,
		 indent + 2);
}

static const dpo_vft_t klb_dpo_vft = {
  .dv_lock = klb_dpo_lock,
  .dv_unlock = klb_dpo_unlock,
  .dv_format = format_klb_dpo,
};

static const char *const klb_dpo_ip4_nodes[] = { "klb4-vip", NULL };
static const char *const klb_dpo_ip6_nodes[] = { "klb6-vip", NULL };
static const char *const *const klb_dpo_nodes[DPO_PROTO_NUM] = {
  [DPO_PROTO_IP4] = klb_dpo_ip4_nodes,
  [DPO_PROTO_IP6] = klb_dpo_ip6_nodes,
};

/* ---- routes ---- */

static fib_prefix_t
route_prefix (const klb_route_key_t *key)
{
  fib_prefix_t prefix = { .fp_len = key->length, .fp_proto = key->family == 6 ? FIB_PROTOCOL_IP6 : FIB_PROTOCOL_IP4 };

  if (key->family == 6)
    clib_memcpy (&prefix.fp_addr.ip6, key->address, 16);
  else
    ip46_address_set_ip4 (&prefix.fp_addr, (ip4_address_t *) key->address);
  return prefix;
}

/* The parent is the cover's load-balance, which FIB changes in place. */
static void
route_follow_cover (klb_route_t *route)
{
  const fib_prefix_t prefix = route_prefix (&route->key);
  const fib_node_index_t cover = fib_table_get_less_specific (route->fib_index, &prefix);
  dpo_id_t parent = DPO_INVALID;

  if (cover == route->cover || cover == FIB_NODE_INDEX_INVALID)
    return;
  fib_entry_contribute_forwarding (cover, fib_forw_chain_type_from_fib_proto (prefix.fp_proto), &parent);
  dpo_stack (klb_main.dpo_type, fib_proto_to_dpo (prefix.fp_proto), &pool_elt_at_index (klb_main.dpos, route->dpo)->parent, &parent);
  dpo_reset (&parent);
  route->cover = cover;
}

void
klb_vip_follow_covers (void)
{
  klb_route_t *route;

  pool_foreach (route, vips.routes)
    route_follow_cover (route);
}

static void
route_add (const klb_route_key_t *key)
{
  vlib_main_t *vm = vlib_get_main ();
  const fib_prefix_t prefix = route_prefix (key);
  const dpo_proto_t proto = fib_proto_to_dpo (prefix.fp_proto);
  dpo_id_t dpo = DPO_INVALID;
  klb_route_t *route;

  if (hash_get_mem (vips.by_key, key))
    return;
  pool_get (vips.routes, route);
  route->key = *key;
  hash_set_mem_alloc (&vips.by_key, key, route - vips.routes);
  vlib_worker_thread_barrier_sync (vm);
  route->fib_index = fib_table_find_or_create_and_lock (prefix.fp_proto, key->vrf, klb_main.fib_source);
  khost->learn_fib (prefix.fp_proto, route->fib_index);
  route->dpo = klb_dpo_new (proto);
  route->cover = FIB_NODE_INDEX_INVALID;
  dpo_set (&dpo, klb_main.dpo_type, proto, route->dpo);
  fib_table_entry_special_dpo_add (route->fib_index, &prefix, klb_main.fib_source,
				   FIB_ENTRY_FLAG_EXCLUSIVE | FIB_ENTRY_FLAG_LOOSE_URPF_EXEMPT, &dpo);
  route_follow_cover (route);
  dpo_reset (&dpo);
  vlib_worker_thread_barrier_release (vm);
}

static void
route_delete (const klb_route_key_t *key)
{
  vlib_main_t *vm = vlib_get_main ();
  const uword *found = hash_get_mem (vips.by_key, key);
  const fib_prefix_t prefix = route_prefix (key);
  klb_route_t *route;

  if (!found)
    return;
  route = pool_elt_at_index (vips.routes, found[0]);
  vlib_worker_thread_barrier_sync (vm);
  fib_table_entry_special_remove (route->fib_index, &prefix, klb_main.fib_source);
  fib_table_unlock (route->fib_index, prefix.fp_proto, klb_main.fib_source);
  vlib_worker_thread_barrier_release (vm);
  hash_unset_mem_free (&vips.by_key, key);
  pool_put (vips.routes, route);
}

static klb_route_key_t
address_key (u32 vrf, u8 family, const u8 *address)
{
  klb_route_key_t key = { .vrf = vrf, .family = family, .length = family == 6 ? 128 : 32 };

  clib_memcpy (key.address, address, family == 6 ? 16 : 4);
  return key;
}

/* ---- ranges ---- */

static int
in_range (const fp_wire_prefix_t *p, u32 vrf, u8 family, const u8 *address)
{
  u8 padded[16] = {};
  u64 high, low, prefix_high, prefix_low;

  if (p->vrf != vrf || p->family != family)
    return 0;
  clib_memcpy (padded, address, family == 6 ? 16 : 4);
  fp_prefix_halves (padded, &high, &low);
  fp_prefix_mask (&high, &low, p->length);
  fp_prefix_halves (p->address, &prefix_high, &prefix_low);
  return high == prefix_high && low == prefix_low;
}

static int
is_covered (u32 vrf, u8 family, const u8 *address)
{
  const fp_wire_prefix_t *p;

  vec_foreach (p, vips.ranges)
    if (in_range (p, vrf, family, address))
      return 1;
  return 0;
}

int
klb_vip_routed (u32 vrf, u8 family, const u8 *address)
{
  const klb_route_key_t key = address_key (vrf, family, address);

  return is_covered (vrf, family, address) || hash_get_mem (vips.by_key, &key);
}

static int
is_range (const klb_route_key_t *key)
{
  const fp_wire_prefix_t *p;

  vec_foreach (p, vips.ranges)
    if (p->length == key->length && in_range (p, key->vrf, key->family, key->address))
      return 1;
  return 0;
}

/* What the feature nodes see of the ranges: the first of each family. */
static void
show_ranges (void)
{
  vlib_main_t *vm = vlib_get_main ();
  const fp_wire_prefix_t *p;
  klb_ranges_t r = { .value4 = { ~0u, ~0u, ~0u, ~0u } };
  u32 n4 = 0, n6 = 0;

  clib_memset (r.value6, 0xff, sizeof (r.value6));
  vec_foreach (p, vips.ranges)
    {
      u64 high, low, mask_high = ~0ull, mask_low = ~0ull;

      fp_prefix_mask (&mask_high, &mask_low, p->length);
      fp_prefix_halves (p->address, &high, &low);
      if (p->family == 6 && n6 < KLB_RANGES6)
	{
	  const u64 mask[2] = { clib_host_to_net_u64 (mask_high), clib_host_to_net_u64 (mask_low) };
	  const u64 value[2] = { clib_host_to_net_u64 (high & mask_high), clib_host_to_net_u64 (low & mask_low) };

	  clib_memcpy (&r.mask6[n6], mask, sizeof (mask));
	  clib_memcpy (&r.value6[n6++], value, sizeof (value));
	}
      else if (p->family == 4 && n4 < KLB_RANGES4)
	{
	  r.mask4[n4] = clib_host_to_net_u32 ((u32) (mask_high >> 32));
	  r.value4[n4++] = clib_host_to_net_u32 ((u32) ((high & mask_high) >> 32));
	}
    }
  vlib_worker_thread_barrier_sync (vm);
  klb_main.ranges = r;
  vlib_worker_thread_barrier_release (vm);
}

/* Addresses that no range covers now get routes of their own. */
static void
route_uncovered (void)
{
  const fp_region_t *r = khost->region;
  u64 position = 0, word;

  while ((word = fp_control_next (r, FP_CONTROLLED_FRONTEND, &position)))
    {
      const fp_frontend_key_t *f = &fp_frontend_at (r, fp_word_slot (word))->key;
      klb_route_key_t key;

      if (f->scope & FP_SCOPE_NODE_PORT || is_covered (f->vrf, f->scope, f->address))
	continue;
      key = address_key (f->vrf, f->scope, f->address);
      route_add (&key);
    }
}

/* Addresses that a range covers now need none. */
static void
unroute_covered (void)
{
  klb_route_key_t *covered = 0, *key;
  klb_route_t *route;

  pool_foreach (route, vips.routes)
    if (!is_range (&route->key) && is_covered (route->key.vrf, route->key.family, route->key.address))
      vec_add1 (covered, route->key);
  vec_foreach (key, covered)
    route_delete (key);
  vec_free (covered);
}

void
klb_vip_on_prefix (const fp_wire_prefix_t *prefix, int is_delete)
{
  klb_route_key_t key = { .vrf = prefix->vrf, .family = prefix->family, .length = prefix->length };
  u32 i;

  clib_memcpy (key.address, prefix->address, 16);
  vec_foreach_index (i, vips.ranges)
    if (!memcmp (&vips.ranges[i], prefix, FP_WIRE_PREFIX_KEY))
      break;
  if (is_delete == (i == vec_len (vips.ranges)))
    return;
  if (is_delete)
    {
      vec_del1 (vips.ranges, i);
      show_ranges ();
      route_delete (&key);
      route_uncovered ();
      klb_filter_rebuild (); /* sessions that go on need it */
    }
  else
    {
      vec_add1 (vips.ranges, *prefix);
      route_add (&key);
      unroute_covered ();
      show_ranges ();
    }
}

/* ---- single addresses ---- */

static u32
frontends_at (const fp_wire_frontend_t *frontend)
{
  const fp_region_t *r = khost->region;
  const u64 word = fp_vip_word (r, frontend->address, frontend->vrf, frontend->family);
  u32 n = 0;

  if (word)
    for (u32 kind = 0; kind < 4; kind++)
      n += r->control->vip[fp_word_slot (word)][kind];
  return n;
}

void
klb_vip_on_frontend (const fp_wire_frontend_t *frontend, int is_delete)
{
  const int v6 = frontend->family == 6;
  const u16 port = clib_host_to_net_u16 (frontend->port);
  klb_route_key_t key;

  if (frontend->node_port)
    {
      if (is_delete)
	klb_filter_stale (1);
      else
	klb_filter_add_port (port);
      return;
    }
  if (is_covered (frontend->vrf, frontend->family, frontend->address))
    return;
  key = address_key (frontend->vrf, frontend->family, frontend->address);
  if (!is_delete)
    {
      route_add (&key);
      return;
    }
  /* Flows of this port go on when the route is gone. */
  klb_filter_add_destination (v6, frontend->address);
  klb_filter_add_port (port);
  klb_filter_stale (1);
  if (frontends_at (frontend) <= 1)
    route_delete (&key);
}

/* ---- for people ---- */

u8 *
format_klb_vips (u8 *s, va_list *args)
{
  const u32 max = va_arg (*args, u32);
  const klb_route_t *route;
  u32 n = 0;

  s = format (s, "%u routes to Services\n", pool_elts (vips.routes));
  pool_foreach (route, vips.routes)
    {
      const fib_prefix_t prefix = route_prefix (&route->key);
      if (n++ == max)
	{
	  s = format (s, "... (%u more)\n", pool_elts (vips.routes) - max);
	  break;
	}
      s = format (s, "  VRF %u %U\n", route->key.vrf, format_fib_prefix, &prefix);
    }
  return s;
}

void
klb_vip_init (void)
{
  show_ranges ();
  vips.by_key = hash_create_mem (0, sizeof (klb_route_key_t), sizeof (uword));
  klb_main.dpo_type = dpo_register_new_type (&klb_dpo_vft, klb_dpo_nodes);
  klb_main.fib_source = fib_source_allocate ("klb", KLB_FIB_PRIORITY, FIB_SOURCE_BH_SIMPLE);
}

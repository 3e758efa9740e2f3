/* SPDX-License-Identifier: Apache-2.0 */
/* One receive interface for each inner VRF, so that VRF, features, counters and the source of ICMP errors follow from it; and the bypass
 * features of the interfaces that GTP-U comes in by. */
#include <kgtpu/kgtpu.h>
#include <vnet/feature/feature.h>
#include <vnet/fib/fib_table.h>
#include <vnet/interface_funcs.h>
#include <vnet/ip/ip4.h>
#include <vnet/ip/ip6.h>

static u8 *
format_kgtpu_name (u8 *s, va_list *args)
{
  return format (s, "kgtpu%u", va_arg (*args, u32));
}

static u8 *
format_kgtpu_header (u8 *s, va_list *args)
{
  return format (s, "inner VRF %u", va_arg (*args, u32));
}

static clib_error_t *
admin_up_down (vnet_main_t *vnm, u32 hw_if_index, u32 flags)
{
  vnet_hw_interface_set_flags (vnm, hw_if_index,
			       flags & VNET_SW_INTERFACE_FLAG_ADMIN_UP ? VNET_HW_INTERFACE_FLAG_LINK_UP : 0);
  return 0;
}

VNET_DEVICE_CLASS (kgtpu_device_class, static) = {
  .name = "kgtpu",
  .format_device_name = format_kgtpu_name,
  .admin_up_down_function = admin_up_down,
};

VNET_HW_INTERFACE_CLASS (kgtpu_hw_class, static) = {
  .name = "kgtpu",
  .format_header = format_kgtpu_header,
  .build_rewrite = default_build_rewrite,
  .flags = VNET_HW_INTERFACE_CLASS_FLAG_P2P,
};

/* Index of the VRF with a table id. It is made when it is first needed and stays: tables of inner VRFs are few. */
u32
kgtpu_vrf_of (u32 table)
{
  kgtpu_main_t *km = &kgtpu_main;
  vnet_main_t *vnm = vnet_get_main ();
  vlib_main_t *vm = vlib_get_main ();
  const uword *found = hash_get (km->vrf_by_table, table);
  kgtpu_vrf_t v = { .table = table };
  u32 index;

  if (found)
    return (u32) found[0];
  for (int six = 0; six < 2; six++)
    {
      fib_protocol_t p = six ? FIB_PROTOCOL_IP6 : FIB_PROTOCOL_IP4;
      v.fib_index[six] = fib_table_find_or_create_and_lock (p, table, km->pool_source);
      khost->learn_fib (p, v.fib_index[six]);
    }
  vlib_worker_thread_barrier_sync (vm);
  v.hw_if_index =
    vnet_register_interface (vnm, kgtpu_device_class.index, vec_len (km->vrfs), kgtpu_hw_class.index, vec_len (km->vrfs));
  v.sw_if_index = vnet_get_hw_interface (vnm, v.hw_if_index)->sw_if_index;
  ip_table_bind (FIB_PROTOCOL_IP4, v.sw_if_index, table);
  ip_table_bind (FIB_PROTOCOL_IP6, v.sw_if_index, table);
  ip4_sw_interface_enable_disable (v.sw_if_index, 1);
  ip6_sw_interface_enable_disable (v.sw_if_index, 1);
  vnet_sw_interface_set_flags (vnm, v.sw_if_index, VNET_SW_INTERFACE_FLAG_ADMIN_UP);
  index = vec_len (km->vrfs);
  if (index == 0)
    kgtpu_errors_take (vm);
  vec_add1 (km->vrfs, v);
  hash_set (km->vrf_by_table, table, index);
  kgtpu_arcs_refresh ();
  vlib_worker_thread_barrier_release (vm);
  return index;
}

/* ---- features of the inner packets ---- */

/* A feature arc names its first node by the next index of ip4-input or ip6-input; an inner packet that skips that node needs ours. */
void
kgtpu_arcs_refresh (void)
{
  kgtpu_main_t *km = &kgtpu_main;
  vlib_main_t *vm = vlib_get_main ();
  static const char *const inputs[2] = { "ip4-input", "ip6-input" };

  for (int six = 0; six < 2; six++)
    {
      vlib_node_t *input = vlib_get_node_by_name (vm, (u8 *) inputs[six]);
      u16 *map = 0;

      if (vec_len (input->next_nodes) == vec_len (km->arc_next[six]))
	continue;
      for (u32 i = 0; i < vec_len (input->next_nodes); i++)
	vec_add1 (map, input->next_nodes[i] == ~0 ?
			 KGTPU_NEXT_DROP :
			 (u16) vlib_node_add_next (vm, kgtpu4_input_node.index, input->next_nodes[i]));
      vlib_worker_thread_barrier_sync (vm);
      vec_free (km->arc_next[six]);
      km->arc_next[six] = map;
      vlib_worker_thread_barrier_release (vm);
    }
}

static void
feature_changed (u32 sw_if_index, u8 arc_index, u8 is_enable, void *data)
{
  if (kgtpu_main.attached && (arc_index == kgtpu_main.arc[0] || arc_index == kgtpu_main.arc[1]))
    kgtpu_arcs_refresh ();
}

/* ---- the bypass in form Feature ---- */

VNET_FEATURE_INIT (kgtpu4_bypass, static) = {
  .arc_name = "ip4-unicast",
  .node_name = "kgtpu4-bypass",
  .runs_before = VNET_FEATURES ("ip4-lookup"),
  .runs_after = VNET_FEATURES ("acl-plugin-in-ip4-fa"),
};

VNET_FEATURE_INIT (kgtpu6_bypass, static) = {
  .arc_name = "ip6-unicast",
  .node_name = "kgtpu6-bypass",
  .runs_before = VNET_FEATURES ("ip6-lookup"),
  .runs_after = VNET_FEATURES ("acl-plugin-in-ip6-fa"),
};

static void
feature_set (u32 sw_if_index, int on)
{
  vnet_feature_enable_disable ("ip4-unicast", "kgtpu4-bypass", sw_if_index, on, 0, 0);
  vnet_feature_enable_disable ("ip6-unicast", "kgtpu6-bypass", sw_if_index, on, 0, 0);
}

/* Features are there as long as they are wanted and there is something to take: other packets pay for them. */
void
kgtpu_features_apply (void)
{
  kgtpu_main_t *km = &kgtpu_main;
  vlib_main_t *vm = vlib_get_main ();
  const int on = km->switches & FP_GTPU_BYPASS && !(km->switches & FP_GTPU_BYPASS_FIB) &&
		 km->n_endpoints[0] + km->n_endpoints[1] > 0;
  int stopped = 0;

  for (u32 i = 0; i < vec_len (km->interfaces); i++)
    {
      const u8 wanted = on && km->interfaces[i] & KGTPU_INTERFACE_ENABLED ? KGTPU_INTERFACE_FEATURED : 0;

      if (wanted == (km->interfaces[i] & KGTPU_INTERFACE_FEATURED))
	continue;
      if (!stopped++)
	vlib_worker_thread_barrier_sync (vm);
      feature_set (i, wanted != 0);
      km->interfaces[i] ^= KGTPU_INTERFACE_FEATURED;
    }
  if (stopped)
    vlib_worker_thread_barrier_release (vm);
}

static void
interface_wanted (u32 sw_if_index, int is_ethernet, int enable)
{
  kgtpu_main_t *km = &kgtpu_main;

  if (is_ethernet)
    {
      kgtpu_frames_wanted (sw_if_index, enable);
      return;
    }
  vec_validate (km->interfaces, sw_if_index);
  km->interfaces[sw_if_index] &= ~KGTPU_INTERFACE_ENABLED;
  if (enable)
    km->interfaces[sw_if_index] |= KGTPU_INTERFACE_ENABLED;
  kgtpu_features_apply ();
}

/* What was on an interface goes with it. */
static clib_error_t *
interface_changed (vnet_main_t *vnm, u32 sw_if_index, u32 is_add)
{
  if (!is_add && sw_if_index < vec_len (kgtpu_main.interfaces))
    kgtpu_main.interfaces[sw_if_index] = 0;
  return 0;
}

VNET_SW_INTERFACE_ADD_DEL_FUNCTION (interface_changed);

void
kgtpu_interface_init (void)
{
  kgtpu_main.arc[0] = vnet_get_feature_arc_index ("ip4-unicast");
  kgtpu_main.arc[1] = vnet_get_feature_arc_index ("ip6-unicast");
  vnet_feature_register (feature_changed, 0);
  khost->on_interface (interface_wanted);
}

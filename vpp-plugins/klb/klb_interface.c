/* SPDX-License-Identifier: Apache-2.0 */
/* Where the nodes stand: features of interfaces, and the way of ICMP errors that VPP makes itself. */
#include <klb/klb.h>

#include <vnet/feature/feature.h>
#include <vnet/interface_funcs.h>

VNET_FEATURE_INIT (klb4_feature, static) = {
  .arc_name = "ip4-unicast",
  .node_name = "klb4-feature",
  .runs_before = VNET_FEATURES ("ip4-lookup"),
  .runs_after = VNET_FEATURES ("acl-plugin-in-ip4-fa", "kgtpu4-bypass"),
};

VNET_FEATURE_INIT (klb6_feature, static) = {
  .arc_name = "ip6-unicast",
  .node_name = "klb6-feature",
  .runs_before = VNET_FEATURES ("ip6-lookup"),
  .runs_after = VNET_FEATURES ("acl-plugin-in-ip6-fa", "kgtpu6-bypass"),
};

__clib_export int
klb_interface_enable (u32 sw_if_index, int enable)
{
  int rv = vnet_feature_enable_disable ("ip4-unicast", "klb4-feature", sw_if_index, enable, 0, 0);

  return rv ? rv : vnet_feature_enable_disable ("ip6-unicast", "klb6-feature", sw_if_index, enable, 0, 0);
}

/* Frames of Ethernet links are no Services' traffic. */
static void
on_interface (u32 sw_if_index, int is_ethernet, int enable)
{
  if (!is_ethernet)
    klb_interface_enable (sw_if_index, enable);
}

/* ---- packets out of tunnels ---- */

/* Once there has been a Service: packets out of tunnels would pay for nothing before. */
static int users_wanted;

/* Receive interfaces of kgtpu, one for each inner VRF; users are clients like others. */
static int
is_of_users (vnet_main_t *vnm, u32 sw_if_index)
{
  const vnet_hw_interface_t *hw = vnet_get_sup_hw_interface (vnm, sw_if_index);

  return !strcmp (vnet_get_device_class (vnm, hw->dev_class_index)->name, "kgtpu");
}

static clib_error_t *
on_interface_added (vnet_main_t *vnm, u32 sw_if_index, u32 is_add)
{
  if (is_add && users_wanted && is_of_users (vnm, sw_if_index))
    klb_interface_enable (sw_if_index, 1);
  return 0;
}

VNET_SW_INTERFACE_ADD_DEL_FUNCTION_PRIO (on_interface_added, VNET_ITF_FUNC_PRIORITY_HIGH);

void
klb_interface_users (void)
{
  vnet_main_t *vnm = vnet_get_main ();
  vlib_main_t *vm = vlib_get_main ();
  vnet_sw_interface_t *sw;

  if (users_wanted)
    return;
  users_wanted = 1;
  vlib_worker_thread_barrier_sync (vm);
  pool_foreach (sw, vnm->interface_main.sw_interfaces)
    if (is_of_users (vnm, sw->sw_if_index))
      klb_interface_enable (sw->sw_if_index, 1);
  vlib_worker_thread_barrier_release (vm);
}

/* ---- ICMP errors of VPP's own nodes ---- */

/* They tell of packets that are translated already: to be looked up they come by a node of ours. */
static void
take_errors (vlib_main_t *vm)
{
  static const struct
  {
    const char *error, *lookup, *ours;
  } arcs[] = {
    { "ip4-icmp-error", "ip4-lookup", "klb4-related" },
    { "ip6-icmp-error", "ip6-lookup", "klb6-related" },
  };

  for (u32 i = 0; i < ARRAY_LEN (arcs); i++)
    {
      const u32 error = vlib_get_node_by_name (vm, (u8 *) arcs[i].error)->index;
      const uword slot = vlib_node_get_next (vm, error, vlib_get_node_by_name (vm, (u8 *) arcs[i].lookup)->index);

      if (slot != ~0)
	vlib_node_add_next_with_slot (vm, error, vlib_get_node_by_name (vm, (u8 *) arcs[i].ours)->index, slot);
    }
}

static void
on_attached (void)
{
  vlib_main_t *vm = vlib_get_main ();

  vlib_worker_thread_barrier_sync (vm);
  take_errors (vm);
  vlib_worker_thread_barrier_release (vm);
}

void
klb_interface_init (vlib_main_t *vm)
{
  khost->on_interface (on_interface);
  khost->on_attached (on_attached);
}

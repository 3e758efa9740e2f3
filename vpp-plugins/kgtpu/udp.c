/* SPDX-License-Identifier: Apache-2.0 */
/* UDP port 2152 is one slot for each family. It is taken with the first GTP-U endpoint of the family; what comes for an address that is none of
 * ours goes on to the node that had it before, or to VPP's own gtpu plugin, which does not register where another has; with the last endpoint the
 * slot is given back. */
#include <kgtpu/kgtpu.h>
#include <vnet/interface_funcs.h>
#include <vnet/udp/udp.h>

#include <fastpath/fp_gtpu_header.h>

/* VPP's own plugin would have taken the slot with its first tunnel. */
static u32
other_gtpu (vlib_main_t *vm, int six)
{
  vnet_main_t *vnm = vnet_get_main ();
  vlib_node_t *node = vlib_get_node_by_name (vm, (u8 *) (six ? "gtpu6-input" : "gtpu4-input"));
  vnet_hw_interface_t *hi;

  if (!node)
    return ~0;
  pool_foreach (hi, vnm->interface_main.hw_interfaces)
    if (!strcmp (vnet_get_device_class (vnm, hi->dev_class_index)->name, "GTPU"))
      return node->index;
  return ~0;
}

static void
take (vlib_main_t *vm, kgtpu_main_t *km, int six)
{
  vlib_node_t *other = vlib_get_node_by_name (vm, (u8 *) (six ? "gtpu6-input" : "gtpu4-input"));
  const u32 node = six ? kgtpu6_input_node.index : kgtpu4_input_node.index;
  const udp_dst_port_info_t *info = udp_get_dst_port_info (&udp_main, FP_GTPU_PORT, !six);
  u32 chain;

  km->chain_node[six] = udp_is_valid_dst_port (FP_GTPU_PORT, !six) && info ? info->node_index : ~0;
  chain = km->chain_node[six] == ~0 && other ? other->index : km->chain_node[six];
  km->chain_next[six] = chain == ~0 ? ~0 : vlib_node_add_next (vm, kgtpu4_input_node.index, chain);
  udp_register_dst_port (vm, FP_GTPU_PORT, node, !six);
}

static void
give_back (vlib_main_t *vm, kgtpu_main_t *km, int six)
{
  const udp_dst_port_info_t *info = udp_get_dst_port_info (&udp_main, FP_GTPU_PORT, !six);
  const u32 node = six ? kgtpu6_input_node.index : kgtpu4_input_node.index;
  u32 before = km->chain_node[six];

  if (!info || info->node_index != node)
    return; /* another has taken it since */
  if (before == ~0)
    before = other_gtpu (vm, six);
  if (before == ~0)
    udp_unregister_dst_port (vm, FP_GTPU_PORT, !six);
  else
    udp_register_dst_port (vm, FP_GTPU_PORT, before, !six);
}

void
kgtpu_udp_apply (vlib_main_t *vm, int six)
{
  kgtpu_main_t *km = &kgtpu_main;
  const udp_dst_port_info_t *info = udp_get_dst_port_info (&udp_main, FP_GTPU_PORT, !six);
  const int ours = udp_is_valid_dst_port (FP_GTPU_PORT, !six) && info &&
		   info->node_index == (six ? kgtpu6_input_node.index : kgtpu4_input_node.index);

  if (ours == (km->n_endpoints[six] > 0))
    return;
  vlib_worker_thread_barrier_sync (vm);
  if (ours)
    give_back (vm, km, six);
  else
    take (vm, km, six);
  vlib_worker_thread_barrier_release (vm);
}

/* Arcs are made before packets flow: adding one later stops the workers. */
void
kgtpu_udp_init (vlib_main_t *vm)
{
  kgtpu_main.chain_next[0] = kgtpu_main.chain_next[1] = ~0;
  kgtpu_main.chain_node[0] = kgtpu_main.chain_node[1] = ~0;
  vlib_node_add_next (vm, vlib_get_node_by_name (vm, (u8 *) "ip4-udp-lookup")->index, kgtpu4_input_node.index);
  vlib_node_add_next (vm, vlib_get_node_by_name (vm, (u8 *) "ip6-udp-lookup")->index, kgtpu6_input_node.index);
}

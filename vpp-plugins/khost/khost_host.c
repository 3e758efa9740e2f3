/* SPDX-License-Identifier: Apache-2.0 */
/* What the shared code asks of VPP (host/host.h). */
#include <khost/khost_internal.h>

#include <errno.h>

#include <vnet/fib/fib_table.h>
#include <vpp/app/version.h>

#include <khost/links.h>

/* A signalling packet is written into the buffer that it leaves in. */
static uint8_t *
packet_room (host_t *host)
{
  khost_control_t *kc = (khost_control_t *) host;
  vlib_main_t *vm = vlib_get_main ();

  if (kc->signal_buffer == ~0 && vlib_buffer_alloc (vm, &kc->signal_buffer, 1) != 1)
    {
      kc->signal_buffer = ~0;
      return NULL;
    }
  return vlib_get_buffer (vm, kc->signal_buffer)->data;
}

static void
packet_send (host_t *host, uint32_t length, uint32_t vrf)
{
  khost_control_t *kc = (khost_control_t *) host;
  vlib_main_t *vm = vlib_get_main ();
  const u32 bi = kc->signal_buffer;
  vlib_buffer_t *b = vlib_get_buffer (vm, bi);
  const int six = b->data[0] >> 4 == 6;
  const u32 fib_index = fib_table_find (six ? FIB_PROTOCOL_IP6 : FIB_PROTOCOL_IP4, vrf);
  vlib_frame_t *f;

  kc->signal_buffer = ~0;
  if (fib_index == ~0)
    {
      vlib_buffer_free_one (vm, bi);
      return;
    }
  b->current_data = 0;
  b->current_length = (u16) length;
  b->flags |= VNET_BUFFER_F_LOCALLY_ORIGINATED;
  vnet_buffer (b)->sw_if_index[VLIB_RX] = 0; /* local0 */
  vnet_buffer (b)->sw_if_index[VLIB_TX] = fib_index;
  f = vlib_get_frame_to_node (vm, six ? ip6_lookup_node.index : ip4_lookup_node.index);
  ((u32 *) vlib_frame_vector_args (f))[0] = bi;
  f->n_vectors = 1;
  vlib_put_frame_to_node (vm, six ? ip6_lookup_node.index : ip4_lookup_node.index, f);
}

static void
describe (const host_t *host, host_json_t *j)
{
  const khost_control_t *kc = (const khost_control_t *) host;
  const char **links = khost_links_open ();
  const plugin_main_t *pm = &vlib_plugin_main;
  const khost_interface_t *interface;
  const plugin_info_t *plugin;
  u32 i;

  host_json_str (j, "engine", "vpp");
  host_json_str (j, "version", VPP_OPERATOR_VERSION);
  host_json_str (j, "vppVersion", VPP_BUILD_VER);
  /* packet threads: the main thread forwards only where there is no other */
  host_json_u64 (j, "workers", host->workers > 1 ? host->workers - 1 : 1);
  host_json_array (j, "interfaces");
  vec_foreach_index (i, links)
    host_json_str (j, NULL, links[i]);
  vec_free (links);
  host_json_end_array (j);
  host_json_array (j, "vppInterfaces");
  vec_foreach (interface, kc->interfaces)
    {
      u8 *name = format (0, "%U%c", format_vnet_sw_if_index_name, vnet_get_main (), interface->sw_if_index, 0);
      host_json_str (j, NULL, (char *) name);
      vec_free (name);
    }
  host_json_end_array (j);
  host_json_object (j, "plugins");
  vec_foreach (plugin, pm->plugin_info)
    if (!strncmp ((char *) plugin->name, "khost_", 6) || !strncmp ((char *) plugin->name, "klb_", 4) ||
	!strncmp ((char *) plugin->name, "kgtpu_", 6))
      host_json_str (j, (char *) plugin->name, plugin->version);
  host_json_end_object (j);
}

static const char *
graph_switch (const host_t *host, uint32_t bit)
{
  const khost_control_t *kc = (const khost_control_t *) host;
  khost_switches_t now;

  if (!kc->switches)
    return "notApplicable";
  now = kc->switches ();
  if (!(now.on & bit))
    return "off";
  return bit == FP_GTPU_BYPASS && now.form ? now.form : "on";
}

/* ---- VRFs: records may name any, each that a listener makes costs heap ---- */

/* The VRF that a record names, or 0, which is always there. */
static u32
vrf_of (u32 table, const fp_wire_t *record)
{
  switch (table)
    {
    case FP_TABLE_PREFIX:
      return record->prefix.vrf;
    case FP_TABLE_FRONTEND:
      return record->frontend.vrf;
    case FP_TABLE_GTPU_ENDPOINT:
      return record->gtpu_endpoint.vrf;
    case FP_TABLE_GTPU_TUNNEL:
      return record->tunnel.inner_vrf;
    case FP_TABLE_GTPU_UE:
      return record->ue.inner_vrf;
    default:
      return 0;
    }
}

static u32
n_vrfs (void)
{
  return clib_max (pool_elts (ip4_main.fibs), pool_elts (ip6_main.fibs));
}

enum
{
  VRF_KNOWN,
  VRF_NEW,
};

/* Whether a VRF is there, or can be made beside the `more` that are about to be; negative: why not. */
static int
find_vrf (u32 vrf, u32 more)
{
  if (vrf == KHOST_NO_VRF)
    return -EINVAL;
  if (fib_table_find (FIB_PROTOCOL_IP4, vrf) != ~0 || fib_table_find (FIB_PROTOCOL_IP6, vrf) != ~0)
    return VRF_KNOWN;
  return n_vrfs () + more < KHOST_MAX_VRFS ? VRF_NEW : -ENOSPC;
}

static void
admit (const host_t *host, uint32_t table, const uint8_t *records, uint32_t n, uint32_t size, int *codes)
{
  u32 *fresh = NULL;

  for (u32 i = 0; i < n; i++)
    {
      fp_wire_t record = {};
      u32 vrf;
      int found;

      clib_memcpy (record.bytes, records + (uword) i * size, size);
      vrf = vrf_of (table, &record);
      if (vrf == 0 || vec_search (fresh, vrf) != ~0)
	continue;
      found = find_vrf (vrf, vec_len (fresh));
      if (found == VRF_NEW)
	vec_add1 (fresh, vrf);
      codes[i] = clib_min (found, 0);
    }
  vec_free (fresh);
}

int
khost_is_servable (u32 table, const fp_wire_t *record)
{
  const u32 vrf = vrf_of (table, record);

  return vrf == 0 || find_vrf (vrf, 0) >= 0;
}

static void
record (host_t *host, uint32_t table, const fp_wire_t *record, bool is_delete)
{
  khost_control_t *kc = (khost_control_t *) host;
  const khost_listener_t *listener;

  if (!is_delete && !khost_is_servable (table, record))
    return;
  vec_foreach (listener, kc->listeners)
    if (listener->tables >> table & 1)
      listener->fn (table, record, is_delete);
}

const host_functions_t khost_host_functions = {
  .packet_room = packet_room,
  .packet_send = packet_send,
  .describe = describe,
  .graph_switch = graph_switch,
  .record = record,
  .admit = admit,
};

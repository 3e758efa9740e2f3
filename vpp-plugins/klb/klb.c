/* SPDX-License-Identifier: Apache-2.0 */
#include <klb/klb.h>

#include <vnet/feature/feature.h>
#include <vnet/plugin/plugin.h>
#include <vpp/app/version.h>

#ifndef VPP_OPERATOR_VERSION
#define VPP_OPERATOR_VERSION "unknown"
#endif

klb_main_t klb_main;
khost_main_t *khost;

static void
on_record (u32 table, const fp_wire_t *record, int is_delete)
{
  const fp_wire_endpoint_t *e = &record->endpoint;

  switch (table)
    {
    case FP_TABLE_PREFIX:
      if (record->prefix.prefix_class == FP_PREFIX_SERVICE)
	klb_vip_on_prefix (&record->prefix, is_delete);
      else if (is_delete)
	klb_filter_stale (1);
      else
	klb_filter_add_prefix (&record->prefix);
      break;
    case FP_TABLE_FRONTEND:
      klb_vip_on_frontend (&record->frontend, is_delete);
      break;
    case FP_TABLE_ENDPOINT:
      if (is_delete)
	klb_filter_stale (1);
      else
	klb_filter_add_source (e->family == 6, e->address);
      break;
    }
}

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

static clib_error_t *
klb_init (vlib_main_t *vm)
{
  klb_filter_init ();
  klb_vip_init ();
  khost = khost_attach ();
  if (!khost)
    {
      vlib_log_err (vlib_log_register_class ("klb", 0), "khost plugin is not loaded: enable it, Services are not handled without");
      return 0;
    }
  khost->on_attached (klb_filter_build);
  khost->on_interface (on_interface);
  khost->on_record (1 << FP_TABLE_PREFIX | 1 << FP_TABLE_FRONTEND | 1 << FP_TABLE_ENDPOINT, on_record);
  return 0;
}

VLIB_INIT_FUNCTION (klb_init);

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

VLIB_PLUGIN_REGISTER () = {
  .version = VPP_OPERATOR_VERSION,
  .version_required = VPP_BUILD_VER,
  .description = "Kubernetes Services: load balancing and NAT",
};

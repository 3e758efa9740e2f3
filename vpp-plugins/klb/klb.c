/* SPDX-License-Identifier: Apache-2.0 */
#include <klb/klb.h>

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
      if (!is_delete)
	klb_interface_users ();
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
  klb_interface_init (vm);
  khost->on_record (1 << FP_TABLE_PREFIX | 1 << FP_TABLE_FRONTEND | 1 << FP_TABLE_ENDPOINT, on_record);
  return 0;
}

VLIB_INIT_FUNCTION (klb_init);

VLIB_PLUGIN_REGISTER () = {
  .version = VPP_OPERATOR_VERSION,
  .version_required = VPP_BUILD_VER,
  .description = "Kubernetes Services: load balancing and NAT",
};

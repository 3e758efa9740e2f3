/* SPDX-License-Identifier: Apache-2.0 */
#include <kgtpu/kgtpu.h>
#include <vnet/plugin/plugin.h>
#include <vpp/app/version.h>

#include <fastpath/fp_publish.h>

kgtpu_main_t kgtpu_main;
khost_main_t *khost;

VLIB_PLUGIN_REGISTER () = {
  .version = VPP_BUILD_VER,
  .description = "GTP-U user plane: decapsulation, encapsulation, bypass",
};

#define TABLES                                                                                                         \
  (1 << FP_TABLE_CONFIG | 1 << FP_TABLE_PREFIX | 1 << FP_TABLE_GTPU_ENDPOINT | 1 << FP_TABLE_GTPU_PEER |                \
   1 << FP_TABLE_GTPU_TUNNEL)

static void
set_switches (u64 switches)
{
  kgtpu_main.switches = switches;
  kgtpu_locals_apply ();
  kgtpu_features_apply ();
}

static void
on_attached (void)
{
  kgtpu_main.attached = 1;
  kgtpu_path_open (khost->region);
  kgtpu_arcs_refresh ();
}

static void
on_record (u32 table, const fp_wire_t *record, int is_delete)
{
  switch (table)
    {
    case FP_TABLE_CONFIG:
      if (record->config.key == FP_CONFIG_GTPU_SWITCHES)
	set_switches (is_delete ? FP_GTPU_SWITCHES_DEFAULT : record->config.value);
      break;
    case FP_TABLE_PREFIX:
      kgtpu_pool_change (&record->prefix, is_delete);
      break;
    case FP_TABLE_GTPU_ENDPOINT:
      kgtpu_endpoint_change (&record->gtpu_endpoint, is_delete);
      break;
    case FP_TABLE_GTPU_PEER:
      kgtpu_peer_change (khost->region, &record->gtpu_peer, is_delete);
      break;
    case FP_TABLE_GTPU_TUNNEL:
      if (!is_delete)
	kgtpu_vrf_of (record->tunnel.inner_vrf);
      break;
    }
}

/* The bypass is there when packets can take it: a feature on at least one interface, or a FIB entry. */
khost_switches_t
kgtpu_in_effect (void)
{
  const kgtpu_main_t *km = &kgtpu_main;
  const kgtpu_endpoint_t *e;
  u32 on = km->switches & (FP_GTPU_SKIP_INNER_IP_INPUT | FP_GTPU_SKIP_OUTER_LOOKUP);
  int feature = 0, interposed = 0;

  for (u32 i = 0; i < vec_len (km->interfaces); i++)
    feature |= km->interfaces[i] & KGTPU_INTERFACE_FEATURED;
  pool_foreach (e, km->endpoints)
    interposed |= e->interposed;
  if (km->switches & FP_GTPU_BYPASS && (feature || interposed || pool_elts (km->endpoints) == 0))
    on |= FP_GTPU_BYPASS;
  return (khost_switches_t){ .on = on, .form = !(on & FP_GTPU_BYPASS)	      ? NULL
					       : km->switches & FP_GTPU_BYPASS_FIB ? "fib"
										   : "feature" };
}

static clib_error_t *
kgtpu_init (vlib_main_t *vm)
{
  kgtpu_main_t *km = &kgtpu_main;

  khost = khost_attach ();
  if (!khost)
    return 0;
  km->vrf_by_table = hash_create (0, sizeof (uword));
  km->switches = FP_GTPU_SWITCHES_DEFAULT;
  kgtpu_interface_init ();
  kgtpu_frames_init ();
  kgtpu_local_init (vm);
  kgtpu_path_init ();
  kgtpu_udp_init (vm);
  khost->on_attached (on_attached);
  khost->on_record (TABLES, on_record);
  khost->on_switches (kgtpu_in_effect);
  return 0;
}

VLIB_INIT_FUNCTION (kgtpu_init) = {
  .runs_after = VLIB_INITS ("ip4_init", "ip6_init", "udp_local_init", "vnet_feature_init", "khost_init"),
};

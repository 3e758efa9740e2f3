/* SPDX-License-Identifier: Apache-2.0 */
#include <khost/khost_internal.h>

#include <stdlib.h>

#include <vnet/fib/fib_table.h>
#include <vnet/plugin/plugin.h>
#include <vpp/app/version.h>

#include <khost/links.h>

khost_main_t *khost = &khost_exported_main;
khost_control_t khost_control = { .signal_buffer = ~0 };

VLIB_PLUGIN_REGISTER () = {
  .version = VPP_OPERATOR_VERSION,
  .version_required = VPP_BUILD_VER,
  .description = "Tables and sessions of Kubernetes Services and GTP-U tunnels",
};

/* ---- VRFs ---- */

static void
learn_fib (fib_protocol_t protocol, u32 fib_index)
{
  u32 *vrfs = protocol == FIB_PROTOCOL_IP4 ? khost_exported_main.vrf_by_fib4 : khost_exported_main.vrf_by_fib6;

  if (fib_index < KHOST_MAX_FIBS)
    __atomic_store_n (&vrfs[fib_index], fib_table_get_table_id (fib_index, protocol), __ATOMIC_RELAXED);
  else
    khost_log (ERR, "FIB index %u: at most %u are served; packets of this one pass untouched", fib_index, KHOST_MAX_FIBS);
}

static void
on_bind4 (ip4_main_t *im, uword opaque, u32 sw_if_index, u32 new_fib_index, u32 old_fib_index)
{
  learn_fib (FIB_PROTOCOL_IP4, new_fib_index);
}

static void
on_bind6 (ip6_main_t *im, uword opaque, u32 sw_if_index, u32 new_fib_index, u32 old_fib_index)
{
  learn_fib (FIB_PROTOCOL_IP6, new_fib_index);
}

static void
learn_fibs (void)
{
  fib_table_t *table;

  pool_foreach (table, ip4_main.fibs)
    learn_fib (FIB_PROTOCOL_IP4, table->ft_index);
  pool_foreach (table, ip6_main.fibs)
    learn_fib (FIB_PROTOCOL_IP6, table->ft_index);
}

/* ---- who wants to know ---- */

static void
on_record (u32 tables, khost_record_fn *fn)
{
  const khost_listener_t listener = { tables, fn };

  vec_add1 (khost_control.listeners, listener);
  khost_control.host.record_tables |= tables;
  if (khost_control.started)
    khost_replay (&listener);
}

static void
on_attached (void (*fn) (void))
{
  vec_add1 (khost_control.attached_listeners, fn);
  if (khost_control.started)
    fn ();
}

static void
on_switches (khost_switches_fn *fn)
{
  khost_control.switches = fn;
}

static void
on_interface (khost_interface_fn *fn)
{
  const khost_interface_t *i;

  vec_add1 (khost_control.interface_listeners, fn);
  vec_foreach (i, khost_control.interfaces)
    fn (i->sw_if_index, i->is_ethernet, 1);
}

int
khost_interface_enable (u32 sw_if_index, int is_ethernet, int enable)
{
  vlib_main_t *vm = vlib_get_main ();
  khost_control_t *kc = &khost_control;
  const khost_interface_t added = { sw_if_index, is_ethernet != 0 };
  khost_interface_fn **fn;
  u32 i;

  if (!kc->open)
    return VNET_API_ERROR_FEATURE_DISABLED;
  if (pool_is_free_index (vnet_get_main ()->interface_main.sw_interfaces, sw_if_index))
    return VNET_API_ERROR_INVALID_SW_IF_INDEX;
  vec_foreach_index (i, kc->interfaces)
    if (kc->interfaces[i].sw_if_index == sw_if_index)
      break;
  if ((enable != 0) == (i < vec_len (kc->interfaces)))
    return 0;
  if (enable)
    vec_add1 (kc->interfaces, added);
  else
    {
      is_ethernet = kc->interfaces[i].is_ethernet; /* whatever the caller thinks */
      vec_del1 (kc->interfaces, i);
    }
  /* Features are changed while workers stand still. */
  vlib_worker_thread_barrier_sync (vm);
  vec_foreach (fn, kc->interface_listeners)
    (*fn) (sw_if_index, is_ethernet != 0, enable);
  vlib_worker_thread_barrier_release (vm);
  return 0;
}

static void
on_link (u32 sw_if_index, int is_ethernet, int is_there)
{
  khost_interface_enable (sw_if_index, is_ethernet, is_there);
}

/* An interface that goes takes its features with it; its number may come again. */
static clib_error_t *
on_interface_add_del (vnet_main_t *vnm, u32 sw_if_index, u32 is_add)
{
  if (!is_add && khost_control.open)
    khost_interface_enable (sw_if_index, 0, 0);
  return NULL;
}

VNET_SW_INTERFACE_ADD_DEL_FUNCTION (on_interface_add_del);

/* ---- start and end ---- */

__clib_export khost_main_t khost_exported_main = {
  .abi = KHOST_ABI,
  .gap_era = 1, /* what was before the first round is no gap */
  .on_record = on_record,
  .on_attached = on_attached,
  .on_switches = on_switches,
  .on_interface = on_interface,
  .learn_fib = learn_fib,
};

static clib_error_t *
khost_init (vlib_main_t *vm)
{
  const ip4_table_bind_callback_t bind4 = { .function = on_bind4 };
  const ip6_table_bind_callback_t bind6 = { .function = on_bind6 };
  khost_main_t *km = &khost_exported_main;

  khost_control.log_class = vlib_log_register_class ("khost", 0);
  vec_validate_init_empty (km->vrf_by_fib4, KHOST_MAX_FIBS - 1, KHOST_NO_VRF);
  vec_validate_init_empty (km->vrf_by_fib6, KHOST_MAX_FIBS - 1, KHOST_NO_VRF);
  vec_add1 (ip4_main.table_bind_callbacks, bind4);
  vec_add1 (ip6_main.table_bind_callbacks, bind6);
  return NULL;
}

VLIB_INIT_FUNCTION (khost_init);

static clib_error_t *
configure (vlib_main_t *vm, unformat_input_t *input)
{
  clib_error_t *error = khost_options_parse (&khost_control.options, input);

  if (error)
    return error;
  if (khost_control.options.region)
    return khost_region_open (vm);
  khost_log (NOTICE, "nothing to do: no `khost { region PATH }' in the start-up configuration");
  return NULL;
}

/* A bad setting, or a region that cannot be opened, ends VPP here: it would end with status 0 if the error were handed on, as if someone had stopped it. */
static clib_error_t *
khost_config (vlib_main_t *vm, unformat_input_t *input)
{
  clib_error_t *error = configure (vm, input);

  if (!error)
    return NULL;
  clib_error_report (error);
  exit (EXIT_FAILURE);
}

VLIB_CONFIG_FUNCTION (khost_config, "khost");

/* Everything is configured, worker threads do not run yet. */
static clib_error_t *
khost_start (vlib_main_t *vm)
{
  khost_control_t *kc = &khost_control;
  khost_listener_t *listener;
  void (**attached) (void);

  if (!kc->open)
    return NULL;
  learn_fibs ();
  khost_stats_init (vm);
  khost_links_call (on_link);
  kc->started = 1;
  vec_foreach (attached, kc->attached_listeners)
    (*attached) ();
  vec_foreach (listener, kc->listeners)
    khost_replay (listener);
  return NULL;
}

VLIB_MAIN_LOOP_ENTER_FUNCTION (khost_start) = {
  .runs_before = VLIB_INITS ("start_workers"),
};

static clib_error_t *
khost_stop (vlib_main_t *vm)
{
  khost_region_stop ();
  return NULL;
}

VLIB_MAIN_LOOP_EXIT_FUNCTION (khost_stop);

/* SPDX-License-Identifier: Apache-2.0 */
#include <khost/khost_internal.h>

#include <fastpath/fp_control.h>

static u64
sum (const _Atomic u64 *first)
{
  const khost_main_t *km = &khost_exported_main;
  const u8 *at = (const u8 *) first;
  u64 total = __atomic_load_n ((const u64 *) (at + FP_MAX_WORKERS * sizeof (fp_counters_t)), __ATOMIC_RELAXED);

  for (u32 i = 0; i < km->n_workers; i++)
    total += __atomic_load_n ((const u64 *) (at + i * sizeof (fp_counters_t)), __ATOMIC_RELAXED);
  return total;
}

static clib_error_t *
closed (void)
{
  return khost_control.open ? NULL
			    : clib_error_return (0, "there is no region: give VPP `khost { region PATH }' in its start-up configuration");
}

static void
show_switches (vlib_main_t *vm)
{
  static const struct
  {
    const char *name;
    u32 bit;
  } graph[] = { { "skipInnerIpInput", FP_GTPU_SKIP_INNER_IP_INPUT },
		{ "gtpuBypass", FP_GTPU_BYPASS },
		{ "skipOuterLookup", FP_GTPU_SKIP_OUTER_LOOKUP } };
  const u32 set = atomic_load_explicit (&khost_control.region.config, memory_order_acquire)->gtpu_switches;

  vlib_cli_output (vm, "GTP-U: lookupCache %s, prefetch %s, loop %u", set & FP_GTPU_LOOKUP_CACHE ? "on" : "off",
		   set & FP_GTPU_PREFETCH ? "on" : "off", set >> FP_GTPU_LOOP_SHIFT & 0xff);
  for (u32 i = 0; i < ARRAY_LEN (graph); i++)
    vlib_cli_output (vm, "       %s %s", graph[i].name,
		     khost_host_functions.graph_switch (&khost_control.host, graph[i].bit));
}

static clib_error_t *
show_khost (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  const khost_control_t *kc = &khost_control;
  const fp_region_report_t *report = &kc->host.report;
  const khost_interface_t *interface;
  const khost_worker_t *worker;
  clib_error_t *error = closed ();
  u32 held = 0;

  if (error)
    return error;
  vlib_cli_output (vm, "khost %s, region %s: %llu bytes, layout %016llx", VPP_OPERATOR_VERSION, kc->options.region, report->bytes,
		   report->layout);
  vlib_cli_output (vm, "%s%s%s, %llu sessions kept", report->attached ? "attached to what was there" : "made anew",
		   report->attached ? "" : " because ", report->reason, report->sessions);
  vlib_cli_output (vm, "%u threads, %llu messages of the control plane, %llu of them refused", kc->host.workers, kc->calls,
		   kc->calls_refused);
  vlib_cli_output (vm, "%llu worker barriers since the start, whoever asked for them", vlib_worker_threads->barrier_sync_count);
  vec_foreach (worker, khost_exported_main.workers)
    held += worker->held;
  vlib_cli_output (vm, "%u fragments wait for their first", held);
  vec_foreach (interface, kc->interfaces)
    vlib_cli_output (vm, "interface %U%s", format_vnet_sw_if_index_name, vnet_get_main (), interface->sw_if_index,
		     interface->is_ethernet ? ", frames of Ethernet tunnels" : "");
  show_switches (vm);
  return NULL;
}

/*?
 * The region that the plugin has opened, the interfaces that it serves, and the GTP-U switches that are in effect.
 ?*/
VLIB_CLI_COMMAND (show_khost_command, static) = {
  .path = "show khost",
  .short_help = "show khost",
  .function = show_khost,
  .is_mp_safe = 1,
};

static clib_error_t *
show_khost_tables (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  fp_table_usage_t usage[FP_USAGE_TABLES];
  clib_error_t *error = closed ();
  u32 n;

  if (error)
    return error;
  n = fp_control_usage (&khost_control.region, usage);
  vlib_cli_output (vm, "%-16s%12s%12s%8s%16s", "Table", "Used", "Size", "Load", "Bytes");
  for (u32 i = 0; i < n; i++)
    vlib_cli_output (vm, "%-16s%12u%12u%7u%%%16llu", usage[i].name, usage[i].used, usage[i].size,
		     usage[i].size ? (u32) (100ull * usage[i].used / usage[i].size) : 0, usage[i].bytes);
  return NULL;
}

/*?
 * Size, load and memory of every table.
 ?*/
VLIB_CLI_COMMAND (show_khost_tables_command, static) = {
  .path = "show khost tables",
  .short_help = "show khost tables",
  .function = show_khost_tables,
  .is_mp_safe = 1,
};

static clib_error_t *
show_khost_counters (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  clib_error_t *error = closed ();
  const fp_counters_t *first;

  if (error)
    return error;
  first = khost_control.region.counters;
  for (u32 c = 0; c < FP_COUNTERS; c++)
    if (sum (&first->counter[c]))
      vlib_cli_output (vm, "%20llu  %s", sum (&first->counter[c]), fp_counter_name (c));
  for (u32 d = FP_DROP_NONE + 1; d < FP_DROPS; d++)
    if (sum (&first->drop[d]))
      vlib_cli_output (vm, "%20llu  dropped: %s", sum (&first->drop[d]), fp_drop_text (d));
  return NULL;
}

/*?
 * What the packet kernels have counted, and dropped for which reason. What is zero is left out.
 ?*/
VLIB_CLI_COMMAND (show_khost_counters_command, static) = {
  .path = "show khost counters",
  .short_help = "show khost counters",
  .function = show_khost_counters,
  .is_mp_safe = 1,
};

static clib_error_t *
set_khost_interface (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  u32 sw_if_index = ~0;
  int enable = 1, is_ethernet = 0, rv;

  while (unformat_check_input (input) != UNFORMAT_END_OF_INPUT)
    if (unformat (input, "%U", unformat_vnet_sw_interface, vnet_get_main (), &sw_if_index))
      ;
    else if (unformat (input, "disable"))
      enable = 0;
    else if (unformat (input, "ethernet"))
      is_ethernet = 1;
    else
      return clib_error_return (0, "unknown input `%U'", format_unformat_error, input);
  if (sw_if_index == ~0)
    return clib_error_return (0, "name an interface");
  rv = khost_interface_enable (sw_if_index, is_ethernet, enable);
  return rv ? clib_error_return (0, "%U", format_vnet_api_errno, rv) : NULL;
}

/*?
 * Puts the features of klb and kgtpu on an interface, or takes them away. Links of the start-up section have them by themselves.
 ?*/
VLIB_CLI_COMMAND (set_khost_interface_command, static) = {
  .path = "set khost interface",
  .short_help = "set khost interface <interface> [ethernet] [disable]",
  .function = set_khost_interface,
};

static u64
nanoseconds (const u64 *clocks)
{
  return (u64) ((f64) __atomic_load_n (clocks, __ATOMIC_RELAXED) / vlib_get_main ()->clib_time.clocks_per_second * 1e9);
}

u64
khost_longest_round (u32 thread_index)
{
  return nanoseconds (&khost_exported_main.workers[thread_index].longest_round);
}

static clib_error_t *
show_khost_gaps (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  clib_error_t *error = closed ();

  if (error)
    return error;
  vlib_cli_output (vm, "%-12s%15s%15s", "Thread", "Longest round", "Of its own");
  for (u32 i = 0; i < khost_exported_main.n_workers; i++)
    vlib_cli_output (vm, "%-12v%12.1f us%12.1f us", vlib_worker_threads[i].name, khost_longest_round (i) / 1e3,
		     nanoseconds (&khost_exported_main.workers[i].longest_own_round) / 1e3);
  return NULL;
}

/*?
 * The longest time between two rounds of each thread's loop, since the start or `clear khost gaps`: so long has a packet waited at most for the
 * thread that takes it. The second figure leaves out the rounds in which the thread slept (it does so without packets, for 10 ms at most) or the
 * machine gave its CPU to others.
 ?*/
VLIB_CLI_COMMAND (show_khost_gaps_command, static) = {
  .path = "show khost gaps",
  .short_help = "show khost gaps",
  .function = show_khost_gaps,
  .is_mp_safe = 1,
};

static clib_error_t *
clear_khost_gaps (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  __atomic_fetch_add (&khost_exported_main.gap_era, 1, __ATOMIC_RELAXED);
  return NULL;
}

/*?
 * Measures the longest round of each thread's loop anew.
 ?*/
VLIB_CLI_COMMAND (clear_khost_gaps_command, static) = {
  .path = "clear khost gaps",
  .short_help = "clear khost gaps",
  .function = clear_khost_gaps,
  .is_mp_safe = 1,
};

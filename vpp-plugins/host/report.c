/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <stdatomic.h>

#include "fastpath/fp_control.h"
#include "fastpath/fp_counters.h"

static void
capacities (const fp_capacity_t *c, host_json_t *j)
{
  host_json_object (j, "capacity");
  host_json_u64 (j, "sessions4", c->sessions4);
  host_json_u64 (j, "sessions6", c->sessions6);
  host_json_u64 (j, "fragments", c->fragments);
  host_json_u64 (j, "services", c->services);
  host_json_u64 (j, "frontends", c->frontends);
  host_json_u64 (j, "endpoints", c->endpoints);
  host_json_u64 (j, "prefixes", c->prefixes);
  host_json_u64 (j, "settings", c->settings);
  host_json_u64 (j, "gtpuEndpoints", c->gtpu_endpoints);
  host_json_u64 (j, "gtpuPeers", c->gtpu_peers);
  host_json_u64 (j, "tunnels", c->tunnels);
  host_json_u64 (j, "ues", c->ues);
  host_json_end_object (j);
}

static const char *
graph_switch (const host_t *host, uint32_t bit)
{
  return host->functions->graph_switch ? host->functions->graph_switch (host, bit) : "notApplicable";
}

/* On or off as the other switches; its form, where it is on, beside it. */
static void
bypass_switch (const host_t *host, host_json_t *j)
{
  const char *state = graph_switch (host, FP_GTPU_BYPASS);
  const bool has_form = !strcmp (state, "feature") || !strcmp (state, "fib");

  host_json_str (j, "gtpuBypass", has_form ? "on" : state);
  if (has_form)
    host_json_str (j, "gtpuBypassForm", state);
}

static void
gtpu_switches (const host_t *host, host_json_t *j)
{
  const uint32_t set = atomic_load_explicit (&host->region->config, memory_order_acquire)->gtpu_switches;
  const uint32_t loop = set >> FP_GTPU_LOOP_SHIFT & 0xff;

  host_json_object (j, "gtpuSwitches");
  host_json_str (j, "lookupCache", set & FP_GTPU_LOOKUP_CACHE ? "on" : "off");
  host_json_str (j, "prefetch", set & FP_GTPU_PREFETCH ? "on" : "off");
  host_json_str (j, "loop", loop == 4 ? "quad" : loop == 2 ? "dual" : "single");
  host_json_str (j, "skipInnerIpInput", graph_switch (host, FP_GTPU_SKIP_INNER_IP_INPUT));
  bypass_switch (host, j);
  host_json_str (j, "skipOuterLookup", graph_switch (host, FP_GTPU_SKIP_OUTER_LOOKUP));
  host_json_end_object (j);
}

void
host_report_info (const host_t *host, host_json_t *j)
{
  host_json_object (j, NULL);
  host->functions->describe (host, j);
  host_json_hex (j, "layout", host->report.layout);
  host_json_u64 (j, "hash", FP_HASH_ID);
  host_json_hex (j, "creationId", host->report.creation_id);
  host_json_str (j, "bootId", host->report.boot_id);
  host_json_bool (j, "attached", host->report.attached);
  host_json_str (j, "reason", host->report.reason);
  host_json_u64 (j, "keptSessions", host->report.sessions);
  capacities (&host->region->capacity, j);
  gtpu_switches (host, j);
  host_json_end_object (j);
}

/* Sum of one counter over the workers and the control thread. */
#define SUM(host, field)                                                                                               \
  ({                                                                                                                   \
    uint64_t sum_ = atomic_load_explicit (&(host)->region->counters[FP_MAX_WORKERS].field, memory_order_relaxed);      \
    for (uint32_t k_ = 0; k_ < (host)->workers; k_++)                                                                  \
      sum_ += atomic_load_explicit (&(host)->region->counters[k_].field, memory_order_relaxed);                        \
    sum_;                                                                                                              \
  })

static void
path_counters (const host_t *host, uint32_t p, host_json_t *j)
{
  static const char *const names[] = { "service", "gtpuDecap", "gtpuEncap" }; /* by enum fp_path */

  host_json_object (j, names[p]);
  host_json_u64 (j, "rxPackets", SUM (host, path[p].rx_packets));
  host_json_u64 (j, "txPackets", SUM (host, path[p].tx_packets));
  host_json_u64 (j, "rxBytes", SUM (host, path[p].rx_bytes));
  host_json_u64 (j, "txBytes", SUM (host, path[p].tx_bytes));
  host_json_u64 (j, "clocks", SUM (host, path[p].clocks));
  host_json_u64 (j, "packets", SUM (host, path[p].clock_packets));
  host_json_end_object (j);
}

void
host_report_stats (const host_t *host, host_json_t *j)
{
  fp_table_usage_t usage[FP_USAGE_TABLES];
  const uint32_t n = fp_control_usage (host->region, usage);
  uint64_t sessions = 0;

  host_json_object (j, NULL);
  host_json_u64 (j, "nowNs", fp_now_ns ());
  host_json_object (j, "counters");
  for (uint32_t c = 0; c < FP_COUNTERS; c++)
    host_json_u64 (j, fp_counter_name (c), SUM (host, counter[c]));
  if (host->functions->count)
    host->functions->count (host, j);
  host_json_end_object (j);
  host_json_object (j, "drops");
  for (uint32_t d = FP_DROP_NONE + 1; d < FP_DROPS; d++)
    host_json_u64 (j, fp_drop_name (d), SUM (host, drop[d]));
  host_json_end_object (j);
  host_json_object (j, "paths");
  for (uint32_t p = 0; p < FP_PATHS; p++)
    path_counters (host, p, j);
  host_json_end_object (j);
  host_json_object (j, "tables");
  for (uint32_t i = 0; i < n; i++)
    {
      host_json_object (j, usage[i].name);
      host_json_u64 (j, "size", usage[i].size);
      host_json_u64 (j, "used", usage[i].used);
      host_json_u64 (j, "bytes", usage[i].bytes);
      host_json_end_object (j);
      sessions += usage[i].is_session ? usage[i].used : 0;
    }
  host_json_end_object (j);
  host_json_u64 (j, "sessions", sessions);
  gtpu_switches (host, j);
  host_json_end_object (j);
}

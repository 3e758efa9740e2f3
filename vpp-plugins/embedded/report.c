/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <stdatomic.h>

#include "fastpath/fp_control.h"
#include "fastpath/fp_counters.h"

static void
capacities (const fp_capacity_t *c, emb_json_t *j)
{
  emb_json_object (j, "capacity");
  emb_json_u64 (j, "sessions4", c->sessions4);
  emb_json_u64 (j, "sessions6", c->sessions6);
  emb_json_u64 (j, "fragments", c->fragments);
  emb_json_u64 (j, "services", c->services);
  emb_json_u64 (j, "frontends", c->frontends);
  emb_json_u64 (j, "endpoints", c->endpoints);
  emb_json_u64 (j, "prefixes", c->prefixes);
  emb_json_u64 (j, "settings", c->settings);
  emb_json_u64 (j, "gtpuEndpoints", c->gtpu_endpoints);
  emb_json_u64 (j, "gtpuPeers", c->gtpu_peers);
  emb_json_u64 (j, "tunnels", c->tunnels);
  emb_json_u64 (j, "ues", c->ues);
  emb_json_end_object (j);
}

/* What this program does with the switches now: it has no forwarding graph, hence nothing to skip or to bypass. */
static void
gtpu_switches (const emb_engine_t *e, emb_json_t *j)
{
  const uint32_t set = atomic_load_explicit (&e->region->config, memory_order_acquire)->gtpu_switches;
  const uint32_t loop = set >> FP_GTPU_LOOP_SHIFT & 0xff;

  emb_json_object (j, "gtpuSwitches");
  emb_json_str (j, "lookupCache", set & FP_GTPU_LOOKUP_CACHE ? "on" : "off");
  emb_json_str (j, "prefetch", set & FP_GTPU_PREFETCH ? "on" : "off");
  emb_json_str (j, "loop", loop == 4 ? "quad" : loop == 2 ? "dual" : "single");
  emb_json_str (j, "skipInnerIpInput", "notApplicable");
  emb_json_str (j, "gtpuBypass", "notApplicable");
  emb_json_str (j, "skipOuterLookup", "notApplicable");
  emb_json_end_object (j);
}

void
emb_report_info (const emb_engine_t *e, emb_json_t *j)
{
  emb_json_object (j, NULL);
  emb_json_str (j, "engine", "embedded");
  emb_json_str (j, "version", EMB_VERSION);
  emb_json_hex (j, "layout", e->report.layout);
  emb_json_u64 (j, "hash", FP_HASH_ID);
  emb_json_hex (j, "creationId", e->report.creation_id);
  emb_json_str (j, "bootId", e->report.boot_id);
  emb_json_bool (j, "attached", e->report.attached);
  emb_json_str (j, "reason", e->report.reason);
  emb_json_u64 (j, "keptSessions", e->report.sessions);
  emb_json_u64 (j, "workers", e->options.workers);
  emb_json_str (j, "instructionSet", e->vector->name);
  capacities (&e->capacity, j);
  emb_json_array (j, "interfaces");
  for (uint32_t i = 0; i < e->links.n_links; i++)
    {
      /* Listed while every worker receives on it. */
      bool open = true;
      for (uint32_t k = 0; k < e->options.workers; k++)
	open &= atomic_load (&e->workers[k].open_ports) >> i & 1;
      if (open)
	emb_json_str (j, NULL, e->links.links[i].name);
    }
  emb_json_end_array (j);
  gtpu_switches (e, j);
  emb_json_end_object (j);
}

/* Sum of one counter over the workers and the control thread. */
#define SUM(e, field)                                                                                                  \
  ({                                                                                                                   \
    uint64_t sum_ = atomic_load_explicit (&(e)->region->counters[FP_MAX_WORKERS].field, memory_order_relaxed);          \
    for (uint32_t k_ = 0; k_ < (e)->options.workers; k_++)                                                             \
      sum_ += atomic_load_explicit (&(e)->region->counters[k_].field, memory_order_relaxed);                           \
    sum_;                                                                                                              \
  })

static void
link_counters (const emb_engine_t *e, emb_json_t *j)
{
  emb_port_counters_t sum = { 0 };
  uint64_t ring_drops = 0;

  for (uint32_t k = 0; k < e->options.workers; k++)
    for (uint32_t i = 0; i < e->links.n_links; i++)
      {
	const uint64_t *from = (const uint64_t *) &e->workers[k].counters[i];
	uint64_t *to = (uint64_t *) &sum;
	for (size_t n = 0; n < sizeof (sum) / sizeof (uint64_t); n++)
	  to[n] += emb_counted (&from[n]);
	ring_drops += emb_counted (&e->workers[k].ports[i].ring_drops);
      }
  emb_json_u64 (j, "linkRxPackets", sum.rx_packets);
  emb_json_u64 (j, "linkRxBytes", sum.rx_bytes);
  emb_json_u64 (j, "linkTxPackets", sum.tx_packets);
  emb_json_u64 (j, "linkTxBytes", sum.tx_bytes);
  emb_json_u64 (j, "linkRxBad", sum.rx_bad);
  emb_json_u64 (j, "linkRxTruncated", sum.rx_truncated);
  emb_json_u64 (j, "linkRxRingFull", ring_drops);
  emb_json_u64 (j, "linkTxNoBuffers", sum.tx_no_buffers);
  emb_json_u64 (j, "linkTxDown", sum.tx_link_down);
  emb_json_u64 (j, "linkTxRefused", sum.tx_refused);
}

static void
path_counters (const emb_engine_t *e, uint32_t p, emb_json_t *j)
{
  static const char *const names[] = { "service", "gtpuDecap", "gtpuEncap" }; /* by enum fp_path */

  emb_json_object (j, names[p]);
  emb_json_u64 (j, "rxPackets", SUM (e, path[p].rx_packets));
  emb_json_u64 (j, "txPackets", SUM (e, path[p].tx_packets));
  emb_json_u64 (j, "rxBytes", SUM (e, path[p].rx_bytes));
  emb_json_u64 (j, "txBytes", SUM (e, path[p].tx_bytes));
  emb_json_u64 (j, "clocks", SUM (e, path[p].clocks));
  emb_json_u64 (j, "packets", SUM (e, path[p].clock_packets));
  emb_json_end_object (j);
}

void
emb_report_stats (const emb_engine_t *e, emb_json_t *j)
{
  fp_table_usage_t usage[FP_USAGE_TABLES];
  const uint32_t n = fp_control_usage (e->region, usage);
  uint64_t sessions = 0;

  emb_json_object (j, NULL);
  emb_json_u64 (j, "nowNs", emb_now_ns ());
  emb_json_object (j, "counters");
  for (uint32_t c = 0; c < FP_COUNTERS; c++)
    emb_json_u64 (j, fp_counter_name (c), SUM (e, counter[c]));
  link_counters (e, j);
  emb_json_end_object (j);
  emb_json_object (j, "drops");
  for (uint32_t d = FP_DROP_NONE + 1; d < FP_DROPS; d++)
    emb_json_u64 (j, fp_drop_name (d), SUM (e, drop[d]));
  emb_json_end_object (j);
  emb_json_object (j, "paths");
  for (uint32_t p = 0; p < FP_PATHS; p++)
    path_counters (e, p, j);
  emb_json_end_object (j);
  emb_json_object (j, "tables");
  for (uint32_t i = 0; i < n; i++)
    {
      emb_json_object (j, usage[i].name);
      emb_json_u64 (j, "size", usage[i].size);
      emb_json_u64 (j, "used", usage[i].used);
      emb_json_u64 (j, "bytes", usage[i].bytes);
      emb_json_end_object (j);
      sessions += usage[i].is_session ? usage[i].used : 0;
    }
  emb_json_end_object (j);
  emb_json_u64 (j, "sessions", sessions);
  gtpu_switches (e, j);
  emb_json_end_object (j);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The stats segment: totals, drops by reason, paths, tables, tunnels (Services: khost_stats_services.c). One value for each thread (the control thread's own counts are added to the main
 * thread's), copied by VPP's collector when it updates the segment; sizes are fixed before workers run. The packet path writes to the region alone.
 *
 * Tunnels stand by their slot: /khost/tunnels/rx and tx (packets and bytes) and drops have a value for each thread and slot, localTeid and endpoint say
 * whose the slot is (0: nobody's). Those beyond MAX_TUNNELS are read by FP_MSG_GTPU_COUNTERS. */
#include <khost/khost_internal.h>

#include <vlib/stats/stats.h>

#include <fastpath/fp_control.h>

#define MAX_TUNNELS	 16384
#define MAX_TUNNEL_BYTES (8 << 20) /* of the segment's 32 MiB */

#define PATH_VALUES (sizeof (fp_path_counters_t) / sizeof (u64))

typedef struct
{
  u32 counter[FP_COUNTERS];
  u32 drop[FP_DROPS];
  u32 path[FP_PATHS][PATH_VALUES];
  u32 used[FP_USAGE_TABLES], size[FP_USAGE_TABLES];
  u32 longest_round;
  struct
  {
    u32 rx, tx, drops, teid, endpoint;
    u32 n;    /* slots that are shown */
    u32 seen; /* slots that have been in use: what is behind them is zero */
  } tunnels;
} stats_t;

static stats_t stats;

static const char *const path_names[FP_PATHS] = { "service", "gtpuDecap", "gtpuEncap" };
static const char *const path_values[PATH_VALUES] = { "rxPackets", "txPackets", "rxBytes", "txBytes", "clocks", "packets" };

/* offset: of the counter in fp_counters_t */
static void
copy (u32 entry, size_t offset)
{
  const khost_main_t *km = &khost_exported_main;
  const u8 *counters = (const u8 *) km->region->counters;
  u64 **values = vlib_stats_get_entry_data_pointer (entry);
  u32 i;

  for (i = 0; i < km->n_workers; i++)
    values[i][0] = __atomic_load_n ((const u64 *) (counters + i * sizeof (fp_counters_t) + offset), __ATOMIC_RELAXED);
  values[0][0] +=
    __atomic_load_n ((const u64 *) (counters + FP_MAX_WORKERS * sizeof (fp_counters_t) + offset), __ATOMIC_RELAXED);
}

/* The segment's vectors of one thread, by slot. */
typedef struct
{
  vlib_counter_t *rx, *tx;
  u64 *drops;
} tunnel_vectors_t;

/* One slot; `more` is another thread's that has no value of its own. */
static void
copy_tunnel (const tunnel_vectors_t *to, u32 slot, const fp_tunnel_counters_t *c, const fp_tunnel_counters_t *more)
{
#define READ(field) (__atomic_load_n ((const u64 *) &c->field, __ATOMIC_RELAXED) + __atomic_load_n ((const u64 *) &more->field, __ATOMIC_RELAXED))
  to->rx[slot] = (vlib_counter_t){ .packets = READ (rx_packets), .bytes = READ (rx_bytes) };
  to->tx[slot] = (vlib_counter_t){ .packets = READ (tx_packets), .bytes = READ (tx_bytes) };
  to->drops[slot] = READ (drops);
#undef READ
}

static void
collect_tunnels (void)
{
  static const fp_tunnel_counters_t none;
  const fp_region_t *r = khost_exported_main.region;
  const fp_tunnel_side_t *sides = r->control->gtpu.tunnel;
  vlib_counter_t **rx = vlib_stats_get_entry_data_pointer (stats.tunnels.rx);
  vlib_counter_t **tx = vlib_stats_get_entry_data_pointer (stats.tunnels.tx);
  u64 **drops = vlib_stats_get_entry_data_pointer (stats.tunnels.drops);
  u64 **teids = vlib_stats_get_entry_data_pointer (stats.tunnels.teid);
  u64 **endpoints = vlib_stats_get_entry_data_pointer (stats.tunnels.endpoint);
  const u32 n = clib_min (stats.tunnels.n, r->control->slots[FP_CONTROLLED_TUNNEL].fresh);
  const u32 end = clib_max (n, stats.tunnels.seen);

  for (u32 slot = 0; slot < end; slot++)
    {
      const int live = slot < n && sides[slot].live;
      const fp_tunnel_t *t = live ? fp_tunnel_at (r, slot) : NULL;

      teids[0][slot] = live ? t->teid : 0;
      endpoints[0][slot] = live ? fp_gtpu_id_of (r, t->endpoint) : 0;
    }
  for (u32 i = 0; i < khost_exported_main.n_workers; i++)
    {
      const tunnel_vectors_t to = { rx[i], tx[i], drops[i] };
      const fp_tunnel_counters_t *own = r->gtpu->counters[i], *control = i == 0 ? r->gtpu->counters[FP_MAX_WORKERS] : NULL;

      for (u32 slot = 0; slot < end; slot++)
	{
	  const int live = slot < n && sides[slot].live;

	  copy_tunnel (&to, slot, live && own ? &own[slot] : &none, live && control ? &control[slot] : &none);
	}
    }
  stats.tunnels.seen = n;
}

static void
collect_rounds (void)
{
  u64 **values = vlib_stats_get_entry_data_pointer (stats.longest_round);

  for (u32 i = 0; i < khost_exported_main.n_workers; i++)
    values[i][0] = khost_longest_round (i);
}

static void
collect (vlib_stats_collector_data_t *data)
{
  fp_table_usage_t usage[FP_USAGE_TABLES];
  const u32 n = fp_control_usage (khost_exported_main.region, usage);

  for (u32 c = 0; c < FP_COUNTERS; c++)
    copy (stats.counter[c], STRUCT_OFFSET_OF (fp_counters_t, counter) + c * sizeof (u64));
  for (u32 d = FP_DROP_NONE + 1; d < FP_DROPS; d++)
    copy (stats.drop[d], STRUCT_OFFSET_OF (fp_counters_t, drop) + d * sizeof (u64));
  for (u32 p = 0; p < FP_PATHS; p++)
    for (u32 v = 0; v < PATH_VALUES; v++)
      copy (stats.path[p][v],
	    STRUCT_OFFSET_OF (fp_counters_t, path) + p * sizeof (fp_path_counters_t) + v * sizeof (u64));
  for (u32 t = 0; t < n; t++)
    {
      vlib_stats_set_gauge (stats.used[t], usage[t].used);
      vlib_stats_set_gauge (stats.size[t], usage[t].size);
    }
  collect_tunnels ();
  khost_stats_services_collect ();
  collect_rounds ();
}

static u32
add (const char *kind, const char *name, const char *value)
{
  const u32 entry = vlib_stats_add_counter_vector ("/khost/%s/%s%s%s", kind, name, value ? "/" : "", value ? value : "");

  vlib_stats_validate (entry, khost_exported_main.n_workers - 1, 0);
  return entry;
}

static void
add_tunnels (void)
{
  const khost_main_t *km = &khost_exported_main;
  const u32 slot_bytes = km->n_workers * (2 * sizeof (vlib_counter_t) + sizeof (u64)) + 2 * sizeof (u64);
  const u32 most = clib_min (MAX_TUNNELS, MAX_TUNNEL_BYTES / slot_bytes);
  const u32 n = clib_min (km->region->capacity.tunnels, most);

  stats.tunnels.n = n;
  stats.tunnels.rx = vlib_stats_add_counter_pair_vector ("/khost/tunnels/rx");
  stats.tunnels.tx = vlib_stats_add_counter_pair_vector ("/khost/tunnels/tx");
  stats.tunnels.drops = vlib_stats_add_counter_vector ("/khost/tunnels/drops");
  stats.tunnels.teid = vlib_stats_add_counter_vector ("/khost/tunnels/localTeid");
  stats.tunnels.endpoint = vlib_stats_add_counter_vector ("/khost/tunnels/endpoint");
  vlib_stats_validate (stats.tunnels.rx, km->n_workers - 1, n - 1);
  vlib_stats_validate (stats.tunnels.tx, km->n_workers - 1, n - 1);
  vlib_stats_validate (stats.tunnels.drops, km->n_workers - 1, n - 1);
  vlib_stats_validate (stats.tunnels.teid, 0, n - 1);
  vlib_stats_validate (stats.tunnels.endpoint, 0, n - 1);
}

void
khost_stats_init (vlib_main_t *vm)
{
  fp_table_usage_t usage[FP_USAGE_TABLES];
  const u32 n = fp_control_usage (khost_exported_main.region, usage);
  vlib_stats_collector_reg_t registration = { .collect_fn = collect };

  for (u32 c = 0; c < FP_COUNTERS; c++)
    stats.counter[c] = add ("counters", fp_counter_name (c), NULL);
  for (u32 d = FP_DROP_NONE + 1; d < FP_DROPS; d++)
    stats.drop[d] = add ("drops", fp_drop_name (d), NULL);
  for (u32 p = 0; p < FP_PATHS; p++)
    for (u32 v = 0; v < PATH_VALUES; v++)
      stats.path[p][v] = add ("paths", path_names[p], path_values[v]);
  for (u32 t = 0; t < n; t++)
    {
      stats.used[t] = vlib_stats_add_gauge ("/khost/tables/%s/used", usage[t].name);
      stats.size[t] = vlib_stats_add_gauge ("/khost/tables/%s/size", usage[t].name);
    }
  stats.longest_round = add ("threads", "longestRoundNs", NULL);
  add_tunnels ();
  khost_stats_services_init ();
  registration.entry_index = stats.counter[0];
  vlib_stats_register_collector_fn (&registration);
}

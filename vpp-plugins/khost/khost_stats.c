/* SPDX-License-Identifier: Apache-2.0 */
/* The stats segment: totals, drops by reason, paths, tables. One value for each thread (the control thread's own counts are added to the main thread's),
 * copied by VPP's collector when it updates the segment; sizes are fixed before workers run. */
#include <khost/khost_internal.h>

#include <vlib/stats/stats.h>

#include <fastpath/fp_control.h>

#define PATH_VALUES (sizeof (fp_path_counters_t) / sizeof (u64))

typedef struct
{
  u32 counter[FP_COUNTERS];
  u32 drop[FP_DROPS];
  u32 path[FP_PATHS][PATH_VALUES];
  u32 used[FP_USAGE_TABLES], size[FP_USAGE_TABLES];
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
}

static u32
add (const char *kind, const char *name, const char *value)
{
  const u32 entry = vlib_stats_add_counter_vector ("/khost/%s/%s%s%s", kind, name, value ? "/" : "", value ? value : "");

  vlib_stats_validate (entry, khost_exported_main.n_workers - 1, 0);
  return entry;
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
  registration.entry_index = stats.counter[0];
  vlib_stats_register_collector_fn (&registration);
}

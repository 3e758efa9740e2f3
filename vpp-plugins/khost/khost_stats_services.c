/* SPDX-License-Identifier: Apache-2.0 */
/* Services in the stats segment, by their slot: /khost/services/forward (towards endpoints) and reverse (back to clients) have packets and bytes, created
 * the sessions begun, for each thread and slot; sessions how many there are, and id whose the slot is (0: nobody's). Those beyond
 * MAX_SERVICES are read by FP_MSG_SERVICE_COUNTERS. */
#include <khost/khost_internal.h>

#include <vlib/stats/stats.h>

#include <fastpath/fp_control.h>

#define MAX_SERVICES	  16384
#define MAX_SERVICE_BYTES (8 << 20) /* of the segment's 32 MiB */

typedef struct
{
  u32 forward, reverse, created, sessions, id;
  u32 n;    /* slots that are shown */
  u32 seen; /* slots that have been in use: what is behind them is zero */
  u8 *live; /* by slot */
} services_t;

static services_t services;

static void
find_live (const fp_region_t *r, u32 n)
{
  u64 position = 0, word;

  clib_memset (services.live, 0, services.n);
  while ((word = fp_control_next (r, FP_CONTROLLED_SERVICE, &position)))
    if (fp_word_slot (word) < n)
      services.live[fp_word_slot (word)] = 1;
}

always_inline u64
value (const _Atomic u64 *counter)
{
  return atomic_load_explicit (counter, memory_order_relaxed);
}

always_inline vlib_counter_t
way (const fp_service_counters_t *c, u32 which)
{
  return (vlib_counter_t){ .packets = value (&c->way[which].packets), .bytes = value (&c->way[which].bytes) };
}

void
khost_stats_services_collect (void)
{
  static const fp_service_counters_t none;
  const fp_region_t *r = khost_exported_main.region;
  vlib_counter_t **forward = vlib_stats_get_entry_data_pointer (services.forward);
  vlib_counter_t **reverse = vlib_stats_get_entry_data_pointer (services.reverse);
  u64 **created = vlib_stats_get_entry_data_pointer (services.created);
  u64 **sessions = vlib_stats_get_entry_data_pointer (services.sessions);
  u64 **ids = vlib_stats_get_entry_data_pointer (services.id);
  const u32 n = clib_min (services.n, r->control->slots[FP_CONTROLLED_SERVICE].fresh);
  const u32 end = clib_max (n, services.seen);

  find_live (r, n);
  for (u32 slot = 0; slot < end; slot++)
    {
      fp_msg_service_counters_t sum = { 0 };

      if (services.live[slot])
	fp_service_counters_read (r, slot, &sum);
      ids[0][slot] = sum.service;
      sessions[0][slot] = sum.sessions;
    }
  /* The control thread handles no packets: its own counters know of sessions only. */
  for (u32 i = 0; i < khost_exported_main.n_workers; i++)
    for (u32 slot = 0; slot < end; slot++)
      {
	const fp_service_counters_t *c = services.live[slot] ? &r->service_counters[i][slot] : &none;

	forward[i][slot] = way (c, 0);
	reverse[i][slot] = way (c, 1);
	created[i][slot] = value (&c->created);
      }
  services.seen = n;
}

void
khost_stats_services_init (void)
{
  const khost_main_t *km = &khost_exported_main;
  const u32 slot_bytes = km->n_workers * (2 * sizeof (vlib_counter_t) + sizeof (u64)) + 2 * sizeof (u64);
  const u32 most = clib_min (MAX_SERVICES, MAX_SERVICE_BYTES / slot_bytes);
  const u32 n = clib_min (km->region->capacity.services, most);

  services.n = n;
  vec_validate (services.live, n - 1);
  services.forward = vlib_stats_add_counter_pair_vector ("/khost/services/forward");
  services.reverse = vlib_stats_add_counter_pair_vector ("/khost/services/reverse");
  services.created = vlib_stats_add_counter_vector ("/khost/services/created");
  services.sessions = vlib_stats_add_counter_vector ("/khost/services/sessions");
  services.id = vlib_stats_add_counter_vector ("/khost/services/id");
  vlib_stats_validate (services.forward, km->n_workers - 1, n - 1);
  vlib_stats_validate (services.reverse, km->n_workers - 1, n - 1);
  vlib_stats_validate (services.created, km->n_workers - 1, n - 1);
  vlib_stats_validate (services.sessions, 0, n - 1);
  vlib_stats_validate (services.id, 0, n - 1);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a path's counters show: packets and bytes in and out, and the kernel's clocks for them. Summed for a frame, counted once. */
#ifndef included_kgtpu_tally_h
#define included_kgtpu_tally_h

#include <vlib/vlib.h>

#include <fastpath/fp_handle.h>
#include <fastpath/fp_packet.h>

typedef struct
{
  u64 rx_packets, rx_bytes, tx_packets, tx_bytes, clocks, start;
} kgtpu_tally_t;

/* Before the kernel runs. */
always_inline void
kgtpu_tally_in (kgtpu_tally_t *t, const fp_packet_t *packets, u32 n)
{
  t->rx_packets += n;
  for (u32 i = 0; i < n; i++)
    t->rx_bytes += packets[i].length;
  t->start = clib_cpu_time_now ();
}

always_inline void
kgtpu_tally_ran (kgtpu_tally_t *t)
{
  t->clocks += clib_cpu_time_now () - t->start;
}

always_inline void
kgtpu_tally_count (fp_worker_t *w, enum fp_path which, const kgtpu_tally_t *t)
{
  fp_path_counters_t *path = &w->counters->path[which];

  if (!t->rx_packets)
    return;
  fp_counter_add (&path->rx_packets, t->rx_packets);
  fp_counter_add (&path->rx_bytes, t->rx_bytes);
  fp_counter_add (&path->tx_packets, t->tx_packets);
  fp_counter_add (&path->tx_bytes, t->tx_bytes);
  fp_counter_add (&path->clocks, t->clocks);
  fp_counter_add (&path->clock_packets, t->rx_packets);
}

#endif /* included_kgtpu_tally_h */

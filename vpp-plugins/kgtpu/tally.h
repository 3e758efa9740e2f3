/* SPDX-License-Identifier: Apache-2.0 */
/* What a path's counters show: packets and bytes in and out, and the kernel's clocks for them. Summed for a frame, counted once. */
#ifndef included_kgtpu_tally_h
#define included_kgtpu_tally_h

#include <vlib/vlib.h>

#include <fastpath/fp_handle.h>
#include <fastpath/fp_packet.h>

typedef struct
{
  u64 rx_packets, rx_bytes, tx_packets, tx_bytes;
  u64 clocks, clock_packets;
} kgtpu_tally_t;

/* Before the kernel runs. */
always_inline void
kgtpu_tally_in (kgtpu_tally_t *t, const fp_packet_t *packets, u32 n)
{
  t->rx_packets += n;
  for (u32 i = 0; i < n; i++)
    t->rx_bytes += packets[i].length;
}

/* Reading the clock costs as much as a packet: the kernel's is read for the first packets of a frame only. `at`: where in the frame it begins. */
always_inline u64
kgtpu_tally_start (u32 at)
{
  return at ? 0 : clib_cpu_time_now ();
}

always_inline void
kgtpu_tally_ran (kgtpu_tally_t *t, u64 start, u32 n)
{
  if (!start)
    return;
  t->clocks += clib_cpu_time_now () - start;
  t->clock_packets += n;
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
  fp_counter_add (&path->clock_packets, t->clock_packets);
}

#endif /* included_kgtpu_tally_h */

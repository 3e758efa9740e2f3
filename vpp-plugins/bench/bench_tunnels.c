/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U tables alone: time of a lookup by TEID (declared range, hash) and by address of user equipment, in stages over vectors of 256 as a host
 * runs them, in order and at random; programming, dump, figures and attaching. */
#include "../test/tunnels.h"

#define VECTOR	256
#define LOOKUPS 2000000
#define PEERS	60

static fp_region_t r;
static fp_worker_t w;
static u32 *order;

/* The thread's own time: the machine may be busy with others. */
static u64
cpu_ns (void)
{
  struct timespec t;
  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &t);
  return (u64) t.tv_sec * 1000000000u + (u64) t.tv_nsec;
}

static u64
by_teid (u32 base)
{
  static fp_tunnel_seek_t k[VECTOR];
  fp_wire_gtpu_endpoint_t wire = wire_gtpu_endpoint (1, 4);
  const fp_gtpu_endpoint_t *e = fp_gtpu_endpoint_find (&r, 0, 0, wire.address);
  u64 found = 0, start = cpu_ns ();
  fp_gtpu_view_t view;
  fp_gtpu_view (&view, &w);
  for (u32 at = 0; at < LOOKUPS; at += VECTOR)
    {
      u32 again[VECTOR], agains = 0;
      for (u32 i = 0; i < VECTOR; i++)
	fp_tunnel_begin (&view, e, base + order[at + i], &k[i], 1);
      for (u32 i = 0; i < VECTOR; i++)
	if (!fp_tunnel_look (&view, &k[i], 1))
	  again[agains++] = i;
      for (u32 i = 0; i < agains; i++)
	fp_tunnel_look_again (&view, &k[again[i]], 1);
      for (u32 i = 0; i < VECTOR; i++)
	{
	  u32 slot = fp_tunnel_settle (&view, &k[i]);
	  if (slot == FP_NONE)
	    slot = fp_tunnel_lookup (&r, e, k[i].teid, fp_tunnel_hash (&r, e, k[i].teid));
	  found += slot != FP_NONE;
	}
    }
  u64 spent = cpu_ns () - start;
  CHECK (found == LOOKUPS / VECTOR * VECTOR + (LOOKUPS % VECTOR ? VECTOR : 0), "%lu found", (unsigned long) found);
  return spent * 10 / LOOKUPS;
}

/* ahead: whether the encapsulation record is fetched before it is read. */
static u64
by_ue (int ahead)
{
  static fp_ue_key_t key[VECTOR];
  static const fp_gtpu_encap_t *e[VECTOR];
  u64 sum = 0, start = cpu_ns ();
  fp_ue_scope_t scope = fp_ue_scope (&r, 0, 4);
  fp_gtpu_view_t view;
  fp_gtpu_view (&view, &w);
  for (u32 at = 0; at < LOOKUPS; at += VECTOR)
    {
      u32 again[VECTOR], agains = 0;
      for (u32 k = 0; k < VECTOR; k++)
	{
	  fp_ue_hash_in (&view.hash, &scope, 0, __builtin_bswap32 (0x0a000000 + order[at + k]), 0, &key[k]);
	  fp_ue_prefetch_index (&view, &key[k]);
	}
      for (u32 k = 0; k < VECTOR; k++)
	if (!fp_ue_look (&view, &key[k], 0, 1))
	  again[agains++] = k;
      for (u32 k = 0; k < agains; k++)
	fp_ue_look (&view, &key[again[k]], 1, 1);
      for (u32 k = 0; k < VECTOR; k++)
	{
	  e[k] = fp_ue_settle (&view, &key[k]);
	  if (!e[k])
	    e[k] = fp_ue_lookup (&r, &key[k]);
	  if (ahead)
	    FP_PREFETCH (e[k]);
	}
      for (u32 k = 0; k < VECTOR; k++)
	sum += e[k] ? e[k]->qfi + 1u : 0; /* the record is read */
    }
  u64 spent = cpu_ns () - start;
  CHECK (sum >= LOOKUPS, "found");
  return spent * 10 / LOOKUPS;
}

/* Time of a counted packet of a tunnel at random. */
static u64
counting (u32 tunnels)
{
  u64 start = cpu_ns ();
  for (u32 at = 0; at < LOOKUPS; at += VECTOR)
    {
      for (u32 k = 0; k < VECTOR; k++)
	FP_PREFETCH (fp_tunnel_counters (&w, order[at + k] % tunnels));
      for (u32 k = 0; k < VECTOR; k++)
	{
	  fp_tunnel_counters_t *c = fp_tunnel_counters (&w, order[at + k] % tunnels);
	  fp_counter_add (&c->rx_packets, 1);
	  fp_counter_add (&c->rx_bytes, 64);
	}
    }
  return (cpu_ns () - start) * 10 / LOOKUPS;
}

static void
shuffle (u32 n, int random)
{
  for (u32 i = 0; i < LOOKUPS + VECTOR; i++)
    order[i] = random ? fp_random_below (&w, n) : i % n;
}

#define BATCH 4096

static double
program (u32 table, u32 size, const u8 *records, u32 n)
{
  static int codes[BATCH];
  u64 start = cpu_ns ();
  for (u32 at = 0; at < n; at += BATCH)
    CHECK (fp_control_upsert (&r, table, records + (size_t) at * size, n - at < BATCH ? n - at : BATCH, codes) == 0, "programmed");
  return n * 1000.0 / (double) (cpu_ns () - start);
}

static void
measure (u32 n)
{
  fp_capacity_t c = tunnel_capacity (2 * n);
  const char *path = region_path ();
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4);
  fp_wire_gtpu_tunnel_t *tunnels = malloc (2 * (size_t) n * sizeof (*tunnels));
  fp_wire_gtpu_ue_t *ues = malloc ((size_t) n * sizeof (*ues));
  unlink (path);
  open_region (&r, path, &c, 1);
  fp_worker_init (&w, &r, 0, 1);
  fp_worker_sleep (&w);
  e.teid_base = 1, e.teid_count = n;
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e), "endpoint");
  for (u32 i = 0; i < PEERS; i++)
    {
      fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, 1 + i);
      CHECK (!upsert (&r, FP_TABLE_GTPU_PEER, &p), "peer");
    }
  for (u32 i = 0; i < 2 * n; i++)
    tunnels[i] = wire_gtpu_tunnel (1, 4, 1 + i, 1 + i % PEERS, 1 + i); /* the second half is not in the range */
  for (u32 i = 0; i < n; i++)
    ues[i] = wire_gtpu_ue (1, 1 + i, 0x0a000000 + i, 32);
  double rate_tunnels = program (FP_TABLE_GTPU_TUNNEL, sizeof (*tunnels), (u8 *) tunnels, 2 * n);
  double rate_ues = program (FP_TABLE_GTPU_UE, sizeof (*ues), (u8 *) ues, n), same = 0, changed = 0;
  for (int random = 0; random < 2; random++)
    {
      shuffle (n, random);
      u64 range = by_teid (1), hash = by_teid (1 + n), ue = by_ue (0), ue3 = by_ue (1), count = counting (n);
      printf ("%8u tunnels, %s: by range %.1f ns, by hash %.1f, by UE %.1f (%.1f with the record fetched ahead), counting %.1f\n", n,
	      random ? "at random" : "in order ", (double) range / 10, (double) hash / 10, (double) ue / 10, (double) ue3 / 10, (double) count / 10);
    }
  if (n >= 100000)
    {
      same = program (FP_TABLE_GTPU_TUNNEL, sizeof (*tunnels), (u8 *) tunnels, 2 * n);
      for (u32 i = 0; i < n; i++)
	tunnels[i].remote_teid++;
      changed = program (FP_TABLE_GTPU_TUNNEL, sizeof (*tunnels), (u8 *) tunnels, n);
      static u8 out[BATCH * 64];
      static fp_msg_gtpu_counters_t figures[BATCH];
      u64 cursor = 0, entries = 0, start = cpu_ns ();
      do
	entries += (u32) fp_control_dump (&r, FP_TABLE_GTPU_TUNNEL, &cursor, out, BATCH);
      while (cursor);
      u64 dump = cpu_ns () - start;
      CHECK (entries == 2 * n, "dumped");
      start = cpu_ns (), entries = 0;
      do
	entries += fp_control_gtpu_counters_dump (&r, &cursor, figures, BATCH);
      while (cursor);
      u64 counters = cpu_ns () - start;
      CHECK (entries == 2 * n, "figures");
      fp_region_close (&r, 0);
      start = cpu_ns ();
      fp_region_report_t rep = open_region (&r, path, &c, 1);
      u64 attach = cpu_ns () - start;
      CHECK (rep.attached && r.controlled[FP_CONTROLLED_TUNNEL].used == 2 * n && r.controlled[FP_CONTROLLED_UE].used == n, "kept");
      printf ("%8u tunnels and %u prefixes: programmed %.2f and %.2f M/s, unchanged %.2f M/s, changed %.2f M/s; dump %lu ms, figures %lu ms, "
	      "attached in %lu ms; %lu MiB\n",
	      2 * n, n, rate_tunnels, rate_ues, same, changed, (unsigned long) (dump / 1000000), (unsigned long) (counters / 1000000),
	      (unsigned long) (attach / 1000000), (unsigned long) (rep.bytes >> 20));
    }
  fp_region_close (&r, 1);
  unlink (path);
  free (tunnels);
  free (ues);
}

int
main (void)
{
  order = malloc ((LOOKUPS + VECTOR) * sizeof (u32));
  measure (1);
  measure (3000);
  measure (100000);
  measure (1000000);
  free (order);
  return 0;
}

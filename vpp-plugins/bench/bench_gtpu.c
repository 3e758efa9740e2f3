/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks per packet of GTP-U decapsulation and encapsulation: 1, 3,000, 100,000 and 1M tunnels, in order and at random, found by index and by hash,
 * IPv4 and IPv6 outside, with and without a PDU Session Container, each switch on and off; what packets pay that are not GTP-U; counters of
 * tunnels alone; programming and dumping. Inner packets of 64 bytes, vectors of 256, all checks and counters on. The clock runs over the
 * kernel only; packets are written before, and so lie in the cache as behind a driver. All rows of a size take turns within one run, five
 * rounds of medians; median and spread. First with the region on 4 KiB pages, then on 2 MiB pages, if the kernel gives them; counters and
 * arrays of TEIDs, which are process memory, lie on 2 MiB pages both times. The order of the rows is another one in each round: what the row before has left
 * in the caches differs. Prints a table, asserts nothing about time.
 *
 *   bench_gtpu [tunnels [row]]
 *
 * With arguments only that many tunnels, only the row of that name, and only 4 KiB pages below 10,000 tunnels: docs/benchmarks.md. */
#include "../test/gtpu.h"
#include "bench.h"

#define ROUNDS	5
#define VECTORS 64 /* in a round */
#define SLOT	320
#define INNER	64
#define BATCH	4096 /* records in a message */

static u8 blocks[FP_VECTOR_MAX][SLOT] FP_ALIGNED;
static fp_packet_t packets[FP_VECTOR_MAX];
static fp_verdict_t verdicts[FP_VECTOR_MAX];

enum what
{
  DECAPSULATE,
  ENCAPSULATE,
  OTHERS_IN,  /* the test whether a received packet is GTP-U for us, of packets that are not */
  OTHERS_OUT, /* the test whether a packet goes to user equipment, of packets that do not */
  COUNTERS,   /* counting a packet of a tunnel, fetched ahead, and nothing else */
};

/* What is measured. `hash`: TEIDs outside the declared range. */
typedef struct
{
  const char *name;
  enum what what;
  int outer, psc, hash, random;
  u32 loop;
  int prefetch, cache;
} variant_t;

static const variant_t VARIANTS[] = {
  { "decap in order", DECAPSULATE, 0, 0, 0, 0, 4, 1, 1 },
  { "decap random", DECAPSULATE, 0, 0, 0, 1, 4, 1, 1 },
  { "decap random, by hash", DECAPSULATE, 0, 0, 1, 1, 4, 1, 1 },
  { "decap random, PSC", DECAPSULATE, 0, 1, 0, 1, 4, 1, 1 },
  { "decap random, IPv6", DECAPSULATE, 1, 0, 0, 1, 4, 1, 1 },
  { "decap random, cache off", DECAPSULATE, 0, 0, 0, 1, 4, 1, 0 },
  { "decap random, prefetch off", DECAPSULATE, 0, 0, 0, 1, 4, 0, 1 },
  { "decap random, loop dual", DECAPSULATE, 0, 0, 0, 1, 2, 1, 1 },
  { "decap random, loop single", DECAPSULATE, 0, 0, 0, 1, 1, 1, 1 },
  { "decap random, all off", DECAPSULATE, 0, 0, 0, 1, 1, 0, 0 },
  { "encap in order", ENCAPSULATE, 0, 0, 0, 0, 4, 1, 1 },
  { "encap random", ENCAPSULATE, 0, 0, 0, 1, 4, 1, 1 },
  { "encap random, PSC", ENCAPSULATE, 0, 1, 0, 1, 4, 1, 1 },
  { "encap random, IPv6", ENCAPSULATE, 1, 0, 0, 1, 4, 1, 1 },
  { "encap random, cache off", ENCAPSULATE, 0, 0, 0, 1, 4, 1, 0 },
  { "encap random, prefetch off", ENCAPSULATE, 0, 0, 0, 1, 4, 0, 1 },
  { "encap random, loop dual", ENCAPSULATE, 0, 0, 0, 1, 2, 1, 1 },
  { "encap random, loop single", ENCAPSULATE, 0, 0, 0, 1, 1, 1, 1 },
  { "encap random, all off", ENCAPSULATE, 0, 0, 0, 1, 1, 0, 0 },
  { "others: is it GTP-U for us", OTHERS_IN, 0, 0, 0, 1, 4, 1, 1 },
  { "others: to user equipment?", OTHERS_OUT, 0, 0, 0, 1, 4, 1, 1 },
  { "counters alone, one tunnel", COUNTERS, 0, 0, 0, 0, 4, 1, 1 },
  { "counters alone, random", COUNTERS, 0, 0, 0, 1, 4, 1, 1 },
};

#define N_VARIANTS (sizeof (VARIANTS) / sizeof (VARIANTS[0]))

/* Tunnel i is of a kind: IPv4, IPv4 with PSC, IPv6, IPv4 by hash; the same number of each. */
enum
{
  KINDS = 4
};

static u32
kind_of (const variant_t *v)
{
  return v->outer ? 2 : v->psc ? 1 : v->hash ? 3 : 0;
}

static u32
teid_of (u32 kind, u32 i)
{
  return kind == 3 ? 0x80000000u + i * 2654435761u % 0x40000000u : 1 + kind * 0x400000u + i;
}

static void
put_be32 (u8 *p, u32 v)
{
  put16 (p, v >> 16);
  put16 (p + 2, v & 0xffff);
}

static void
user_of (u32 kind, u32 i, u8 *address)
{
  put_be32 (address, 0x20000000u + kind * 0x400000u + i);
}

/* Nanoseconds spent on tunnels and on addresses of user equipment. */
static u64 programming[2];

static u64
now_ns (void)
{
  struct timespec t;
  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &t);
  return (u64) t.tv_sec * 1000000000ull + (u64) t.tv_nsec;
}

/* Tunnels i .. i + count - 1 of a kind, in one message for the tunnels and one for the addresses. */
static void
program (node_t *n, u32 kind, u32 first, u32 count)
{
  static fp_wire_gtpu_tunnel_t tunnels[BATCH];
  static fp_wire_gtpu_ue_t ues[BATCH];
  static int codes[BATCH];
  int outer = kind == 2;
  for (u32 k = 0; k < count; k++)
    {
      u32 i = first + k;
      tunnels[k] = (fp_wire_gtpu_tunnel_t){ .endpoint = 1 + (u64) outer, .local_teid = teid_of (kind, i), .remote_teid = 0x1000000 + i,
					    .payload = FP_GTPU_PAYLOAD_IP, .psc = kind == 1 ? FP_GTPU_PSC_DL : 0, .qfi = kind == 1 ? 9 : 0,
					    .flags = FP_GTPU_INNER_SOURCE_CHECK, .family = outer ? 6 : 4 };
      ues[k] = (fp_wire_gtpu_ue_t){ .family = 4, .length = 32, .endpoint = 1 + (u64) outer, .local_teid = tunnels[k].local_teid };
      put_address (tunnels[k].remote, GNB[outer]);
      user_of (kind, i, ues[k].address);
    }
  u64 start = now_ns ();
  CHECK (!fp_control_upsert (&n->region, FP_TABLE_GTPU_TUNNEL, (u8 *) tunnels, count, codes), "tunnels: %d", codes[0]);
  u64 middle = now_ns ();
  CHECK (!fp_control_upsert (&n->region, FP_TABLE_GTPU_UE, (u8 *) ues, count, codes), "addresses: %d", codes[0]);
  programming[0] += middle - start;
  programming[1] += now_ns () - middle;
}

static void
print_programming (node_t *n, u32 tunnels)
{
  static u8 entries[BATCH * 64];
  u64 cursor = 0, seen = 0, start = now_ns ();
  do
    seen += (u32) fp_control_dump (&n->region, FP_TABLE_GTPU_TUNNEL, &cursor, entries, BATCH);
  while (cursor);
  double dumped = (double) (now_ns () - start);
  CHECK (seen == tunnels, "%lu of %u tunnels dumped", (unsigned long) seen, tunnels);
  printf ("%u tunnels programmed at %.2f M/s, their addresses at %.2f M/s, dumped at %.2f M/s\n", tunnels,
	  tunnels * 1e3 / (double) programming[0], tunnels * 1e3 / (double) programming[1], tunnels * 1e3 / dumped);
}

static node_t *
open_node (u32 tunnels)
{
  fp_capacity_t c = { .sessions4 = 64, .sessions6 = 64, .fragments = 64, .services = 64, .frontends = 64, .endpoints = 64, .prefixes = 64,
		      .settings = 64, .gtpu_endpoints = 4, .gtpu_peers = 4, .tunnels = tunnels, .ues = tunnels };
  node_t *n = node_new_sized (&c);
  n->worker[0].gtpu = calloc (1, sizeof (fp_gtpu_worker_t));
  for (int outer = 0; outer < 2; outer++)
    {
      fp_wire_gtpu_endpoint_t e = { .family = outer ? 6 : 4, .id = 1 + (u64) outer, .teid_base = 1, .teid_count = 0xc00000,
				    .flags = FP_GTPU_ENTROPY, .port_low = 49152, .port_high = 65535 };
      put_address (e.address, LOCAL[outer]);
      upsert (n, FP_TABLE_GTPU_ENDPOINT, &e);
      put_gtpu_peer (n, outer, GNB[outer], 0);
    }
  put_prefix (n, "32.0.0.0", 8, FP_PREFIX_UE_POOL);
  for (u32 kind = 0; kind < KINDS; kind++)
    for (u32 i = 0; i < tunnels / KINDS; i += BATCH)
      program (n, kind, i, tunnels / KINDS - i < BATCH ? tunnels / KINDS - i : BATCH);
  commit (n);
  advance (n, 0.001);
  return n;
}

static void
write_packet (u32 at, const variant_t *v, u32 i)
{
  u8 inner[256], message[256], *h = blocks[at] + 128;
  u32 kind = kind_of (v), length;
  if (v->what == OTHERS_IN || v->what == OTHERS_OUT)
    {
      spec_t o = { .src = OUTSIDE[0], .dst = POD[0], .sport = (u16) (1024 + i % 50000), .dport = (u16) (i & 1 ? 53 : 443), .proto = i & 2 ? 17 : 6,
		   .payload = 24 };
      length = build (h, &o);
      packets[at] = (fp_packet_t){ .l3 = h, .contiguous = length, .length = length, .headroom = 128, .room = SLOT - 128, .mtu = 1500 };
      return;
    }
  spec_t s = { .src = OUTSIDE[0], .dst = OUTSIDE[0], .sport = (u16) (1024 + i % 50000), .dport = 53, .proto = 17, .payload = INNER - 28 };
  build (inner, &s);
  user_of (kind, i, inner + (v->what == ENCAPSULATE ? 16 : 12));
  put16 (inner + 10, 0);
  put16 (inner + 10, ~ref_sum (inner, 20, 0) & 0xffff);
  set_l4_checksum (inner, 20, 17, INNER, 0);
  if (v->what == ENCAPSULATE)
    {
      memcpy (h, inner, INNER);
      length = INNER;
    }
  else
    {
      u32 n = pdu (message, teid_of (kind, i), inner, INNER);
      if (v->psc)
	{
	  memmove (message + 16, message + 8, INNER);
	  memcpy (message + 8, (u8[]){ 0, 0, 0, 0x85, 1, 0x10, 9, 0 }, 8);
	  message[0] = 0x34;
	  put16 (message + 2, INNER + 8);
	  n += 8;
	}
      length = wrap (h, GNB[v->outer], LOCAL[v->outer], 2152, 2152, message, n);
      if (!v->outer)
	put16 (h + 26, 0);
    }
  packets[at] = (fp_packet_t){ .l3 = h, .contiguous = length, .length = length, .headroom = 128, .room = SLOT - 128, .mtu = 1500 };
}

static int
by_value (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;
  return x < y ? -1 : x > y;
}

/* Functions of their own, so that a profiler can collect in one of them only. */
__attribute__ ((noinline)) static void
decap_vector (fp_worker_t *w)
{
  fp_gtpu_decap_vector (w, packets, verdicts, FP_VECTOR_MAX);
  __asm__ volatile ("" ::: "memory"); /* no tail call */
}

__attribute__ ((noinline)) static void
encap_vector (fp_worker_t *w)
{
  fp_gtpu_encap_vector (w, packets, verdicts, FP_VECTOR_MAX);
  __asm__ volatile ("" ::: "memory");
}

__attribute__ ((noinline)) static u32
others_in (const fp_worker_t *w)
{
  u32 found = 0;
  for (u32 i = 0; i < FP_VECTOR_MAX; i++)
    found += (u32) fp_gtpu_is_ours (w, &packets[i]);
  return found;
}

__attribute__ ((noinline)) static u32
others_out (const fp_worker_t *w)
{
  u32 found = 0;
  for (u32 i = 0; i < FP_VECTOR_MAX; i++)
    found += (u32) fp_gtpu_to_ue (w, &packets[i]);
  return found;
}

__attribute__ ((noinline)) static void
count_vector (const fp_worker_t *w, const u32 *slots)
{
  for (u32 i = 0; i < FP_VECTOR_MAX + 64; i++)
    {
      if (i < FP_VECTOR_MAX)
	__builtin_prefetch (fp_tunnel_counters (w, slots[i]), 1, 3);
      if (i >= 64)
	{
	  fp_tunnel_counters_t *c = fp_tunnel_counters (w, slots[i - 64]);
	  fp_counter_add (&c->rx_packets, 1);
	  fp_counter_add (&c->rx_bytes, INNER);
	}
    }
}

/* Median of the vectors: a machine that others use takes the processor away from some of them. */
static double
run (node_t *n, const variant_t *v, u32 tunnels)
{
  static u32 next, slots[FP_VECTOR_MAX];
  fp_worker_t *w = &n->worker[0];
  double spent[VECTORS];
  set_switches (n, v->loop, v->prefetch, v->cache);
  for (u32 k = 0; k < VECTORS; k++)
    {
      u32 found = 0;
      for (u32 i = 0; i < FP_VECTOR_MAX; i++)
	if (v->what == COUNTERS)
	  slots[i] = v->random ? random32 () % (tunnels / KINDS) : 0;
	else
	  write_packet (i, v, (v->random ? random32 () : next++) % (tunnels / KINDS));
      fp_worker_quiescent (w, n->now);
      u64 start = clocks ();
      if (v->what == DECAPSULATE)
	decap_vector (w);
      else if (v->what == ENCAPSULATE)
	encap_vector (w);
      else if (v->what == COUNTERS)
	count_vector (w, slots);
      else
	found = v->what == OTHERS_IN ? others_in (w) : others_out (w);
      spent[k] = (double) (clocks () - start) / FP_VECTOR_MAX;
      CHECK (!found, "%s: %u packets of others taken", v->name, found);
      for (u32 i = 0; i < FP_VECTOR_MAX && v->what <= ENCAPSULATE; i++)
	CHECK (verdicts[i].action == FP_FORWARD && verdicts[i].way == FP_WAY_GTPU, "%s: packet %u: action %u reason %s", v->name, i,
	       verdicts[i].action, fp_drop_name (verdicts[i].reason));
    }
  qsort (spent, VECTORS, sizeof (double), by_value);
  return spent[VECTORS / 2];
}

/* Name of the only row that is wanted, or NULL. */
static const char *only;

static void
shuffle (u32 *order)
{
  for (u32 v = 0; v < N_VARIANTS; v++)
    {
      u32 other = random32 () % (v + 1);
      order[v] = order[other];
      order[other] = v;
    }
}

static void
measure (node_t *n, u32 tunnels, const char *pages)
{
  static double spent[N_VARIANTS][ROUNDS];
  u32 order[N_VARIANTS];
  for (u32 round = 0; round <= ROUNDS; round++) /* the first warms up */
    {
      shuffle (order);
      for (u32 k = 0; k < N_VARIANTS; k++)
	if (!only || !strcmp (only, VARIANTS[order[k]].name))
	  spent[order[k]][round ? round - 1 : 0] = run (n, &VARIANTS[order[k]], tunnels);
    }
  for (u32 v = 0; v < N_VARIANTS; v++)
    {
      if (only && strcmp (only, VARIANTS[v].name))
	continue;
      qsort (spent[v], ROUNDS, sizeof (double), by_value);
      printf ("%-5s %8u  %-28s %7.1f  %7.1f %7.1f\n", pages, tunnels / KINDS, VARIANTS[v].name, spent[v][ROUNDS / 2], spent[v][0],
	      spent[v][ROUNDS - 1]);
    }
  fflush (stdout);
}

int
main (int argc, char **argv)
{
  static const u32 sizes[] = { 1, 3000, 100000, 1000000 };
  u32 alone = argc > 1 ? (u32) atoi (argv[1]) : 0;
  CHECK (argc < 2 || alone, "%s: a number of tunnels", argv[1]);
  only = argc > 2 ? argv[2] : NULL;
  puts ("clocks per packet (time stamp counter)\npages  tunnels  path                          median      min     max");
  for (u32 s = 0; s < (alone ? 1 : sizeof (sizes) / sizeof (sizes[0])); s++)
    {
      u32 tunnels = (alone ? alone : sizes[s]) * KINDS;
      programming[0] = programming[1] = 0;
      node_t *n = open_node (tunnels);
      measure (n, tunnels, "4KiB");
      if (tunnels >= 10000 * KINDS && fp_region_collapse (&n->region))
	measure (n, tunnels, "2MiB");
      else if (tunnels >= 10000 * KINDS)
	printf ("2MiB   not measured: the kernel gives none for shared memory (%s)\n", strerror (errno));
      if (tunnels >= 100000 * KINDS && !only)
	print_programming (n, tunnels);
      free (n->worker[0].gtpu);
      node_free (n);
    }
  return 0;
}

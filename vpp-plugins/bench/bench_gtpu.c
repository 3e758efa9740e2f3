/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks per packet of GTP-U decapsulation and encapsulation: 1, 3,000, 100,000 and 1M tunnels, in order and at random, found by index and by hash,
 * IPv4 and IPv6 outside, with and without a PDU Session Container, each switch on and off. Inner packets of 64 bytes, vectors of 256, all
 * checks and counters on. The clock runs over the kernel only; packets are written before, and so lie in the cache as behind a driver. All
 * variants of a size take turns within one run, five rounds of medians; median and spread. Prints a table, asserts nothing about time.
 * With an argument: only that many tunnels (for instruction counts under valgrind). */
#include <sys/mman.h>

#include "../test/gtpu.h"
#include "bench.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define ROUNDS	5
#define VECTORS 64 /* in a round */
#define SLOT	320
#define INNER	64

static u8 blocks[FP_VECTOR_MAX][SLOT] FP_ALIGNED;
static fp_packet_t packets[FP_VECTOR_MAX];
static fp_verdict_t verdicts[FP_VECTOR_MAX];

/* What is measured. `hash`: TEIDs outside the declared range. */
typedef struct
{
  const char *name;
  int encap, outer, psc, hash, random;
  u32 loop;
  int prefetch, cache;
} variant_t;

static const variant_t VARIANTS[] = {
  { "decap in order", 0, 0, 0, 0, 0, 4, 1, 1 },
  { "decap random", 0, 0, 0, 0, 1, 4, 1, 1 },
  { "decap random, by hash", 0, 0, 0, 1, 1, 4, 1, 1 },
  { "decap random, PSC", 0, 0, 1, 0, 1, 4, 1, 1 },
  { "decap random, IPv6", 0, 1, 0, 0, 1, 4, 1, 1 },
  { "decap random, cache off", 0, 0, 0, 0, 1, 4, 1, 0 },
  { "decap random, prefetch off", 0, 0, 0, 0, 1, 4, 0, 1 },
  { "decap random, loop dual", 0, 0, 0, 0, 1, 2, 1, 1 },
  { "decap random, loop single", 0, 0, 0, 0, 1, 1, 1, 1 },
  { "decap random, all off", 0, 0, 0, 0, 1, 1, 0, 0 },
  { "encap in order", 1, 0, 0, 0, 0, 4, 1, 1 },
  { "encap random", 1, 0, 0, 0, 1, 4, 1, 1 },
  { "encap random, PSC", 1, 0, 1, 0, 1, 4, 1, 1 },
  { "encap random, IPv6", 1, 1, 0, 0, 1, 4, 1, 1 },
  { "encap random, cache off", 1, 0, 0, 0, 1, 4, 1, 0 },
  { "encap random, prefetch off", 1, 0, 0, 0, 1, 4, 0, 1 },
  { "encap random, loop dual", 1, 0, 0, 0, 1, 2, 1, 1 },
  { "encap random, loop single", 1, 0, 0, 0, 1, 1, 1, 1 },
  { "encap random, all off", 1, 0, 0, 0, 1, 1, 0, 0 },
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
  for (u32 kind = 0; kind < KINDS; kind++)
    for (u32 i = 0; i < tunnels / KINDS; i++)
      {
	int outer = kind == 2;
	fp_wire_gtpu_tunnel_t t = { .endpoint = 1 + (u64) outer, .local_teid = teid_of (kind, i), .remote_teid = 0x1000000 + i,
				    .payload = FP_GTPU_PAYLOAD_IP, .psc = kind == 1 ? FP_GTPU_PSC_DL : 0, .qfi = kind == 1 ? 9 : 0,
				    .flags = FP_GTPU_INNER_SOURCE_CHECK, .family = outer ? 6 : 4 };
	fp_wire_gtpu_ue_t u = { .family = 4, .length = 32, .endpoint = 1 + (u64) outer, .local_teid = t.local_teid };
	put_address (t.remote, GNB[outer]);
	user_of (kind, i, u.address);
	upsert (n, FP_TABLE_GTPU_TUNNEL, &t);
	upsert (n, FP_TABLE_GTPU_UE, &u);
      }
  commit (n);
  advance (n, 0.001);
  return n;
}

static void
write_packet (u32 at, const variant_t *v, u32 i)
{
  u8 inner[256], message[256], *h = blocks[at] + 128;
  u32 kind = kind_of (v), length;
  spec_t s = { .src = OUTSIDE[0], .dst = OUTSIDE[0], .sport = (u16) (1024 + i % 50000), .dport = 53, .proto = 17, .payload = INNER - 28 };
  build (inner, &s);
  user_of (kind, i, inner + (v->encap ? 16 : 12));
  put16 (inner + 10, 0);
  put16 (inner + 10, ~ref_sum (inner, 20, 0) & 0xffff);
  set_l4_checksum (inner, 20, 17, INNER, 0);
  if (v->encap)
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

/* Median of the vectors: a machine that others use takes the processor away from some of them. */
static double
run (node_t *n, const variant_t *v, u32 tunnels)
{
  static u32 next;
  fp_worker_t *w = &n->worker[0];
  double spent[VECTORS];
  set_switches (n, v->loop, v->prefetch, v->cache);
  for (u32 k = 0; k < VECTORS; k++)
    {
      for (u32 i = 0; i < FP_VECTOR_MAX; i++)
	write_packet (i, v, (v->random ? random32 () : next++) % (tunnels / KINDS));
      fp_worker_quiescent (w, n->now);
      u64 start = clocks ();
      if (v->encap)
	fp_gtpu_encap_vector (w, packets, verdicts, FP_VECTOR_MAX);
      else
	fp_gtpu_decap_vector (w, packets, verdicts, FP_VECTOR_MAX);
      spent[k] = (double) (clocks () - start) / FP_VECTOR_MAX;
      for (u32 i = 0; i < FP_VECTOR_MAX; i++)
	CHECK (verdicts[i].action == FP_FORWARD && verdicts[i].way == FP_WAY_GTPU, "%s: packet %u: action %u reason %s", v->name, i,
	       verdicts[i].action, fp_drop_name (verdicts[i].reason));
    }
  qsort (spent, VECTORS, sizeof (double), by_value);
  return spent[VECTORS / 2];
}

static void
measure (node_t *n, u32 tunnels, const char *pages)
{
  static double spent[N_VARIANTS][ROUNDS];
  for (u32 v = 0; v < N_VARIANTS; v++)
    run (n, &VARIANTS[v], tunnels);
  for (u32 round = 0; round < ROUNDS; round++)
    for (u32 v = 0; v < N_VARIANTS; v++)
      spent[v][round] = run (n, &VARIANTS[v], tunnels);
  for (u32 v = 0; v < N_VARIANTS; v++)
    {
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
  puts ("clocks per packet (time stamp counter)\npages  tunnels  path                          median      min     max");
  for (u32 s = 0; s < sizeof (sizes) / sizeof (sizes[0]); s++)
    {
      u32 tunnels = (argc > 1 ? (u32) atoi (argv[1]) : sizes[s]) * KINDS;
      node_t *n = open_node (tunnels);
      measure (n, tunnels, "4KiB");
      if (argc > 1)
	return 0;
      u8 *base = (u8 *) (((uintptr_t) n->region.base + 0x1fffff) & ~(uintptr_t) 0x1fffff);
      u64 size = (n->region.size - (u64) (base - n->region.base)) & ~0x1fffffull;
      if (n->region.size >= 0x400000 && madvise (base, size, MADV_COLLAPSE) == 0)
	measure (n, tunnels, "2MiB");
      free (n->worker[0].gtpu);
      node_free (n);
    }
  return 0;
}

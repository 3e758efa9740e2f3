/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks per packet of the Service kernel: known flows at 1k, 64k and 1M sessions of each kind, and new flows beside them; IPv4 and IPv6,
 * TCP and UDP, both directions at random, 64-byte packets, vectors of 256, all checks on. The clock runs over the kernel only: packets
 * are written before, and so lie in the cache as they do behind a driver. A round's value is the median of its vectors, so that a thread
 * that was preempted does not count; five alternating rounds, their median and spread.
 * First on 4 KiB pages, then with the region on 2 MiB pages, if the kernel gives them. Prints a table, asserts nothing about time.
 *
 *   bench_service [flows [known | new [workers]]]
 *
 * With arguments only that many flows, only that kind of round, and as in an engine of so many workers (1): see docs/benchmarks.md. */
#include "../test/fixture.h"
#include "bench.h"

#define ROUNDS	 5
#define SERVICES 1000 /* of each protocol and family */
#define VECTORS	 256  /* in a round of known flows */
#define NEW	 4096 /* new flows in a round */
#define SLOT	 128

static u8 blocks[FP_VECTOR_MAX][SLOT] FP_ALIGNED;
static fp_packet_t packets[FP_VECTOR_MAX];
static fp_verdict_t verdicts[FP_VECTOR_MAX];

/* Flow i: a pod of this node, its port, a service; port 53 behind it. `generation` makes other flows of the same number. */
static void
flow_addresses (int six, u32 i, u32 generation, u8 client[16], u8 vip[16], u8 ep[16], u16 *cport)
{
  u32 service = i % SERVICES, host = i / 30000 + 1 + generation * 64;
  memset (client, 0, 16);
  memset (vip, 0, 16);
  memset (ep, 0, 16);
  if (six)
    {
      put_address (client, "fd00:10:1::");
      put_address (vip, "fd00:96::1:0");
      put_address (ep, "fd00:10:2::1:0");
      put16 (client + 14, host);
      put16 (vip + 14, service);
      put16 (ep + 14, service);
    }
  else
    {
      memcpy (client, (u8[]){ 10, 1, (u8) (host >> 8), (u8) host }, 4);
      memcpy (vip, (u8[]){ 10, 97, (u8) (service >> 8), (u8) service }, 4);
      memcpy (ep, (u8[]){ 10, 2, (u8) (service >> 8), (u8) service }, 4);
    }
  *cport = (u16) (1024 + i % 30000);
}

static void
write_packet (u32 at, int six, u8 proto, u32 i, u32 generation, int reverse, u8 flags)
{
  u8 *h = blocks[at], client[16], vip[16], ep[16];
  u32 l4 = six ? 40 : 20, size = six ? 16 : 4, length = six && proto == 6 ? 66 : 64;
  u16 cport;
  flow_addresses (six, i, generation, client, vip, ep, &cport);
  memset (h, 0, length);
  memcpy (h + (six ? 8 : 12), reverse ? ep : client, size);
  memcpy (h + (six ? 24 : 16), reverse ? client : vip, size);
  if (six)
    {
      h[0] = 0x60;
      put16 (h + 4, length - 40);
      h[6] = proto;
      h[7] = 64;
    }
  else
    {
      h[0] = 0x45;
      put16 (h + 2, length);
      h[8] = 64;
      h[9] = proto;
      put16 (h + 10, ~ref_sum (h, 20, 0) & 0xffff);
    }
  put16 (h + l4, reverse ? 5353 : cport);
  put16 (h + l4 + 2, reverse ? cport : 53);
  if (proto == 6)
    {
      h[l4 + 12] = 5 << 4;
      h[l4 + 13] = flags;
    }
  else
    {
      put16 (h + l4 + 4, length - l4);
      put16 (h + l4 + 6, 0x1234);
    }
  packets[at] = (fp_packet_t){ .l3 = h, .contiguous = length, .length = length, .room = SLOT };
}

/* Functions of their own, so that a profiler can collect in one of them only. */
__attribute__ ((noinline)) static void
vector (fp_worker_t *w, u32 count)
{
  fp_service_vector (w, packets, verdicts, count);
}

__attribute__ ((noinline)) static void
known_vector (fp_worker_t *w, u32 count)
{
  vector (w, count);
  __asm__ volatile ("" ::: "memory"); /* no tail call */
}

__attribute__ ((noinline)) static void
new_vector (fp_worker_t *w, u32 count)
{
  vector (w, count);
  __asm__ volatile ("" ::: "memory");
}

static u64
run_vector (node_t *n, u32 count, void (*kernel) (fp_worker_t *w, u32 count))
{
  fp_worker_t *w = &n->worker[0];
  fp_worker_quiescent (w, n->now);
  u64 start = clocks ();
  kernel (w, count);
  u64 spent = clocks () - start;
  for (u32 i = 0; i < count; i++)
    CHECK (verdicts[i].action == FP_FORWARD && verdicts[i].way != FP_WAY_PASS, "packet %u: action %u reason %s", i,
	   verdicts[i].action, fp_drop_name (verdicts[i].reason));
  return spent;
}

static int
by_value (const void *a, const void *b)
{
  double x = *(const double *) a, y = *(const double *) b;
  return x < y ? -1 : x > y;
}

static double
median (double *v, u32 n)
{
  qsort (v, n, sizeof (*v), by_value);
  return v[n / 2];
}

/* Open flows from .. from + count - 1: handshake, or query and answer. Returns the clocks of a first packet. */
static double
open_flows (node_t *n, int six, u8 proto, u32 from, u32 count, u32 generation, int whole)
{
  static const u8 flags[3] = { FP_TCP_SYN, FP_TCP_SYN | FP_TCP_ACK, FP_TCP_ACK };
  double spent[NEW / FP_VECTOR_MAX] = { 0 };
  for (u32 done = 0; done < count; done += FP_VECTOR_MAX)
    {
      u32 k = count - done < FP_VECTOR_MAX ? count - done : FP_VECTOR_MAX;
      for (u32 step = 0; step < (whole ? 3u : 1u); step++)
	{
	  for (u32 i = 0; i < k; i++)
	    write_packet (i, six, proto, from + done + i, generation, step == 1, flags[step]);
	  u64 t = run_vector (n, k, whole ? vector : new_vector);
	  if (!whole)
	    spent[done / FP_VECTOR_MAX] = (double) t / k;
	}
    }
  return whole ? 0 : median (spent, NEW / FP_VECTOR_MAX);
}

static node_t *
open_node (u32 flows, u32 workers)
{
  fp_capacity_t c = { .sessions4 = 2 * flows + 20 * NEW * ROUNDS, .sessions6 = 2 * flows + 20 * NEW * ROUNDS, .fragments = 64,
		      .services = 5000, .frontends = 5000, .endpoints = 5000, .prefixes = 64, .settings = 64 };
  node_t *n = node_new_workers (&c, workers);
  for (int six = 0; six < 2; six++)
    {
      put_prefix (n, six ? "fd00:10:1::" : "10.1.0.0", six ? 63 : 16, FP_PREFIX_POD);
      for (u8 proto = 6; proto <= 17; proto += 11)
	for (u32 s = 0; s < SERVICES; s++)
	  {
	    u8 client[16], vip[16], ep[16];
	    u16 cport;
	    u64 id = 100000 + proto * 10000 + s * 2;
	    flow_addresses (six, s, 0, client, vip, ep, &cport);
	    put_service (n, six, id, proto, FP_EMPTY_REJECT);
	    fp_wire_endpoint_t e = { .service = id + (u64) six, .family = six ? 6 : 4, .port = 5353, .flags = EP_FLAGS };
	    memcpy (e.address, ep, 16);
	    upsert (n, FP_TABLE_ENDPOINT, &e);
	    fp_wire_frontend_t f = { .family = six ? 6 : 4, .protocol = proto, .port = 53, .service = id + (u64) six };
	    memcpy (f.address, vip, 16);
	    upsert (n, FP_TABLE_FRONTEND, &f);
	  }
    }
  commit (n);
  advance (n, 0.001);
  for (int six = 0; six < 2; six++)
    for (u8 proto = 6; proto <= 17; proto += 11)
      open_flows (n, six, proto, 0, flows, 0, 1);
  return n;
}

static void
print_row (const char *pages, const char *what, u32 flows, int six, u8 proto, double *v)
{
  double m = median (v, ROUNDS);
  printf ("%-6s %-5s %8u  IPv%d %s  %7.1f  %7.1f %7.1f\n", pages, what, flows, six ? 6 : 4, proto == 6 ? "TCP" : "UDP", m, v[0],
	  v[ROUNDS - 1]);
  fflush (stdout);
}

enum
{
  KNOWN = 1,
  FRESH = 2,
};

static void
measure (node_t *const *nodes, const u32 *flows, u32 sizes, const char *pages, u32 *generation, int kinds)
{
  static double hit[3][2][2][ROUNDS], fresh[3][2][2][ROUNDS];
  for (u32 round = 0; round < ROUNDS; round++)
    for (u32 s = 0; s < sizes; s++)
      for (int six = 0; six < 2; six++)
	for (int udp = 0; udp < 2; udp++)
	  {
	    u8 proto = udp ? 17 : 6;
	    double spent[VECTORS];
	    for (u32 v = 0; v < VECTORS && kinds & KNOWN; v++)
	      {
		for (u32 i = 0; i < FP_VECTOR_MAX; i++)
		  write_packet (i, six, proto, random32 () % flows[s], 0, random32 () & 1, FP_TCP_ACK);
		spent[v] = (double) run_vector (nodes[s], FP_VECTOR_MAX, known_vector) / FP_VECTOR_MAX;
	      }
	    if (kinds & KNOWN)
	      hit[s][six][udp][round] = median (spent, VECTORS);
	    if (!(kinds & FRESH))
	      continue;
	    ++*generation;
	    fresh[s][six][udp][round] = open_flows (nodes[s], six, proto, 0, NEW, *generation, 0);
	  }
  for (u32 s = 0; s < sizes; s++)
    for (int six = 0; six < 2; six++)
      for (int udp = 0; udp < 2; udp++)
	{
	  if (kinds & KNOWN)
	    print_row (pages, "known", flows[s], six, udp ? 17 : 6, hit[s][six][udp]);
	  if (kinds & FRESH)
	    print_row (pages, "new", flows[s], six, udp ? 17 : 6, fresh[s][six][udp]);
	}
}

int
main (int argc, char **argv)
{
  u32 flows[3] = { 1000, 65536, 1000000 }, sizes = 3, generation = 0, workers = 1;
  int kinds = KNOWN | FRESH, huge = 1;
  node_t *nodes[3];
  if (argc > 1)
    {
      flows[0] = (u32) atoi (argv[1]);
      sizes = 1;
      CHECK (flows[0], "%s: a number of flows", argv[1]);
    }
  if (argc > 2)
    kinds = strcmp (argv[2], "known") ? FRESH : KNOWN;
  if (argc > 3)
    workers = (u32) atoi (argv[3]);
  for (u32 s = 0; s < sizes; s++)
    nodes[s] = open_node (flows[s], workers);
  puts ("Service kernel, clocks per packet (time stamp counter)\npages  what     flows  kind       median      min     max");
  measure (nodes, flows, sizes, "4KiB", &generation, kinds);
  for (u32 s = 0; s < sizes && huge; s++)
    if (!fp_region_collapse (&nodes[s]->region))
      {
	printf ("2MiB   not measured: the kernel gives none for shared memory (%s)\n", strerror (errno));
	huge = 0;
      }
  if (huge)
    measure (nodes, flows, sizes, "2MiB", &generation, kinds);
  for (u32 s = 0; s < sizes; s++)
    node_free (nodes[s]);
  return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Ethernet frames in vectors: what becomes of each is the same alone and among others, whatever the switches are; what is remembered of the frame
 * before ends with the tunnel. */
#include "gtpu.h"

#define FRAMES	 77
#define BLOCK	 2048
#define FIRST	 200 /* VLANs of the tunnels made here */
#define VLANS	 24

typedef struct
{
  u8 block[BLOCK];
  fp_packet_t p;
  fp_verdict_t v;
} frame_t;

static tunnel_t
tunnel_of (u16 vlan)
{
  const int outer = vlan % 3 == 0;

  return (tunnel_t){ .teid = 0x1100u + vlan, .remote_teid = 0x8000u + vlan, .outer = outer, .payload = FP_GTPU_PAYLOAD_ETHERNET,
		     .psc = vlan % 4 == 1 ? FP_GTPU_PSC_DL : 0, .qfi = vlan % 4 == 1 ? 5 : 0, .vlan = vlan };
}

static node_t *
frames_node (void)
{
  node_t *n = gtpu_node ();

  for (u16 vlan = FIRST; vlan < FIRST + VLANS; vlan++)
    {
      tunnel_t t = tunnel_of (vlan);
      put_tunnel (n, &t);
    }
  put_gtpu_endpoint (n, 0, 0, FP_GTPU_DSCP_INNER, 50000, 50999);
  commit (n);
  advance (n, 0);
  return n;
}

/* Frame number i: IPv4, IPv6 and others, short ones, too large ones, large ones to be cut, with checksums to be completed, in VLANs that come in
 * runs, some of which have no tunnel. */
static void
make (frame_t *f, u32 i)
{
  const int six = i % 3 == 1;
  spec_t s = { .src = OUTSIDE[six], .dst = POD[six], .sport = (u16) (1000 + i), .dport = 2, .proto = i % 2 ? 6 : 17,
	       .payload = (u16) (i % 13 == 3 ? 1470 : i * 7 % 900), .ttl = 64 };
  u8 *h = f->block + 128;
  u32 length;

  memset (f, 0, sizeof (*f));
  for (u32 k = 0; k < 12; k++)
    h[k] = (u8) (2 + k + i);
  if (i % 7 == 6)
    {
      put16 (h + 12, 0x0806);
      length = 14 + i % 40;
    }
  else
    {
      put16 (h + 12, six ? 0x86dd : 0x0800);
      length = 14 + build (h + 14, &s);
    }
  f->p = (fp_packet_t){ .l3 = h, .contiguous = length, .length = length, .headroom = i % 19 == 4 ? 20 : 128, .room = BLOCK - 128, .mtu = 1500,
			.vlan = (u16) (FIRST + i / 3 * 5 % (VLANS + 2)) };
  if (i % 17 == 5)
    f->p.contiguous = i % 2 ? 13 : length - 1;
  if (i % 11 == 7 && length > 60 && h[12] != 0x08 + 1)
    {
      f->p.csum = FP_CSUM_PARTIAL;
      f->p.csum_start = (u16) (14 + (six ? 40 : 20));
      f->p.csum_offset = i % 2 ? 16 : 6;
    }
  if (i % 23 == 9)
    {
      f->p.gso_type = six ? FP_GSO_TCP6 : FP_GSO_TCP4;
      f->p.gso_size = 100;
    }
}

static void
run (node_t *n, frame_t *f, u32 count)
{
  fp_packet_t p[FRAMES];
  fp_verdict_t v[FRAMES];

  for (u32 i = 0; i < count; i++)
    p[i] = f[i].p;
  memset (v, 0xff, sizeof (v));
  fp_worker_quiescent (&n->worker[0], n->now);
  fp_gtpu_encap_frame_vector (&n->worker[0], p, v, count);
  for (u32 i = 0; i < count; i++)
    {
      f[i].p = p[i];
      f[i].v = v[i];
    }
}

static void
test_vectors (void)
{
  static frame_t want[FRAMES], got[FRAMES];
  node_t *n = frames_node ();
  u32 carried = 0, cut = 0, dropped_ones = 0;

  set_switches (n, 1, 0, 0);
  for (u32 i = 0; i < FRAMES; i++)
    {
      make (&want[i], i);
      run (n, &want[i], 1);
      carried += want[i].v.action == FP_FORWARD;
      cut += want[i].v.action == FP_SEGMENT;
      dropped_ones += want[i].v.action == FP_DROP;
      if (want[i].v.action == FP_FORWARD)
	check_checksums ("frame", want[i].p.l3, want[i].p.length, 0);
    }
  CHECK (carried > 20 && cut > 0 && dropped_ones > 10, "%u carried, %u to be cut, %u dropped", carried, cut, dropped_ones);
  gtpu_node_free (n);
  for (u32 loop = 1; loop <= 4; loop *= 2)
    for (int prefetch = 0; prefetch < 2; prefetch++)
      for (int cache = 0; cache < 2; cache++)
	{
	  u64 loops;

	  n = frames_node ();
	  set_switches (n, loop, prefetch, cache);
	  for (u32 i = 0; i < FRAMES; i++)
	    make (&got[i], i);
	  run (n, got, FRAMES);
	  for (u32 i = 0; i < FRAMES; i++)
	    CHECK (got[i].v.action == want[i].v.action && got[i].v.reason == want[i].v.reason && got[i].v.way == want[i].v.way &&
		     got[i].p.length == want[i].p.length && got[i].p.peer == want[i].p.peer && !memcmp (got[i].block, want[i].block, BLOCK),
		   "frame %u, loop %u prefetch %d cache %d: action %u %s, alone %u %s", i, loop, prefetch, cache, got[i].v.action,
		   fp_drop_name (got[i].v.reason), want[i].v.action, fp_drop_name (want[i].v.reason));
	  CHECK (counter (n, FP_C_GTPU_TX) == FRAMES && gtpu_accounted (n->worker[0].counters) == FRAMES, "not counted once");
	  CHECK (cache ? counter (n, FP_C_GTPU_CACHE_HITS) > 20 : counter (n, FP_C_GTPU_CACHE_HITS) == 0, "%lu hits",
		 (unsigned long) counter (n, FP_C_GTPU_CACHE_HITS));
	  CHECK (counter (n, FP_C_GTPU_PREFETCHED) == (prefetch ? FRAMES : 0), "prefetched");
	  loops = loop == 1 ? counter (n, FP_C_GTPU_LOOP_SINGLE) : counter (n, loop == 2 ? FP_C_GTPU_LOOP_DUAL : FP_C_GTPU_LOOP_QUAD);
	  CHECK (loops == FRAMES / loop * loop, "loop %u: %lu", loop, (unsigned long) loops);
	  gtpu_node_free (n);
	}
}

/* One frame in that VLAN. */
static frame_t
one (node_t *n, u16 vlan)
{
  frame_t f;

  make (&f, 0);
  f.p.vlan = vlan;
  run (n, &f, 1);
  return f;
}

static void
test_remembered (void)
{
  node_t *n = frames_node ();
  tunnel_t t = tunnel_of (FIRST); /* over IPv4, without a container */
  fp_wire_gtpu_tunnel_t r = tunnel_record (&t, GNB2[0]);
  fp_wire_gtpu_ue_t u = { .family = 0, .length = 12, .endpoint = 1, .local_teid = t.teid };
  frame_t f;

  set_switches (n, 4, 1, 1);
  put16 (u.address, t.vlan);
  for (int round = 0; round < 3; round++)
    CHECK (one (n, t.vlan).v.action == FP_FORWARD, "carried");
  CHECK (counter (n, FP_C_GTPU_CACHE_HITS) == 2, "remembered");
  r.remote_teid = 0x7777;
  upsert (n, FP_TABLE_GTPU_TUNNEL, &r);
  commit (n);
  f = one (n, t.vlan);
  CHECK (get16 (f.p.l3 + 34) == 0x7777 && f.p.l3[19] == 51, "the new peer");
  erase (n, FP_TABLE_GTPU_UE, &u);
  commit (n);
  for (int round = 0; round < 2; round++)
    CHECK (one (n, t.vlan).v.reason == FP_DROP_GTPU_NO_TUNNEL, "gone");
  upsert (n, FP_TABLE_GTPU_UE, &u);
  commit (n);
  CHECK (one (n, t.vlan).v.action == FP_FORWARD, "back");
  for (u32 vlan = 0; vlan < 4; vlan++)
    CHECK (one (n, (u16) (vlan == 3 ? 4095 : vlan)).v.reason == FP_DROP_GTPU_NO_TUNNEL, "VLAN without a tunnel");
  gtpu_node_free (n);
}

int
main (void)
{
  test_vectors ();
  test_remembered ();
  puts ("ok: Ethernet frames into tunnels");
  return 0;
}

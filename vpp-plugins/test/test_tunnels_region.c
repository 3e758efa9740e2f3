/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U tables of a region that a writer left after any of its stores: tunnels of before are there, changed ones are all old or all new, every slot
 * can be used again. And with random bytes in it: never a crash, and the control plane can put everything right. */
#include <sys/wait.h>

static void fp_test_step (void);
#define FP_STEP() fp_test_step ()
#include "tunnels.h"

#define TUNNELS 32

static u64 steps, kill_at;

static void
fp_test_step (void)
{
  if (++steps == kill_at)
    _exit (77);
}

/* Tunnels 1..12 of before: even TEIDs are in the declared range. The writer changes 9..12. */
static u32
teid_of (u32 i)
{
  return i & 1 ? 70000 + i : 1000 + i;
}

static void
prepare (fp_region_t *r)
{
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4), e6 = wire_gtpu_endpoint (2, 6);
  e.teid_base = 1000, e.teid_count = 64;
  CHECK (!upsert (r, FP_TABLE_GTPU_ENDPOINT, &e) && !upsert (r, FP_TABLE_GTPU_ENDPOINT, &e6), "endpoints");
  for (u32 i = 1; i < 4; i++)
    {
      fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, i);
      CHECK (!upsert (r, FP_TABLE_GTPU_PEER, &p), "peer");
    }
  for (u32 i = 1; i <= 12; i++)
    {
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, teid_of (i), 1, 500 + i);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, teid_of (i), 0x0a3c0000 + i, 32), v = wire_gtpu_ue (1, teid_of (i), 0x0a400000 + i * 256, 24);
      CHECK (!upsert (r, FP_TABLE_GTPU_TUNNEL, &t) && !upsert (r, FP_TABLE_GTPU_UE, &u) && !upsert (r, FP_TABLE_GTPU_UE, &v), "tunnel");
    }
}

static void
writer (fp_region_t *r)
{
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4), third = wire_gtpu_endpoint (3, 4);
  fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, 3), p6 = wire_gtpu_peer (2, 6, 9);
  fp_wire_gtpu_tunnel_t t6 = wire_gtpu_tunnel (2, 6, 5, 9, 6);
  fp_wire_gtpu_ue_t u6 = { .family = 6, .length = 64, .endpoint = 2, .local_teid = 5, .address = { 0xfd, 7 } };
  for (u32 i = 9; i <= 12; i++)
    {
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, teid_of (i), 2, 900 + i);
      t.psc = FP_GTPU_PSC_UL, t.qfi = 5;
      CHECK (!upsert (r, FP_TABLE_GTPU_TUNNEL, &t), "change");
    }
  upsert (r, FP_TABLE_GTPU_PEER, &p6);
  upsert (r, FP_TABLE_GTPU_TUNNEL, &t6);
  upsert (r, FP_TABLE_GTPU_UE, &u6);
  t6.flags = 0;
  upsert (r, FP_TABLE_GTPU_TUNNEL, &t6);
  p.mtu = 1400;
  upsert (r, FP_TABLE_GTPU_PEER, &p);
  p = wire_gtpu_peer (1, 4, 1);
  p.mtu = 1300, p.echo_interval_ms = 60000;
  upsert (r, FP_TABLE_GTPU_PEER, &p);
  e.teid_base = 70000, e.teid_count = 32, e.mtu = 1500;
  upsert (r, FP_TABLE_GTPU_ENDPOINT, &e);
  upsert (r, FP_TABLE_GTPU_ENDPOINT, &third);
  third.id = 4;
  upsert (r, FP_TABLE_GTPU_ENDPOINT, &third);
  for (u32 i = 20; i < 24; i++)
    {
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, teid_of (i), 3, i);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, teid_of (i), 0x0a3c0000 + i, 32);
      upsert (r, FP_TABLE_GTPU_TUNNEL, &t);
      upsert (r, FP_TABLE_GTPU_UE, &u);
      if (i & 1)
	{
	  delete (r, FP_TABLE_GTPU_UE, &u);
	  delete (r, FP_TABLE_GTPU_TUNNEL, &t);
	}
    }
  delete (r, FP_TABLE_GTPU_UE, &u6);
  delete (r, FP_TABLE_GTPU_TUNNEL, &t6);
  delete (r, FP_TABLE_GTPU_PEER, &p6);
  delete (r, FP_TABLE_GTPU_ENDPOINT, &third);
}

static void
check_prepared (fp_region_t *r)
{
  u8 peer[2][16];
  peer_address (peer[0], 4, 1);
  peer_address (peer[1], 4, 2);
  for (u32 i = 1; i <= 12; i++)
    {
      u32 slot = find_teid (r, 1, teid_of (i));
      CHECK (slot != FP_NONE, "tunnel %u", i);
      const fp_gtpu_encap_t *e = find_ue4 (r, 0, 0x0a3c0000 + i);
      CHECK (e && e->tunnel == slot && e == find_ue4 (r, 0, 0x0a400000 + i * 256 + 9) && e == fp_tunnel_encap (r, fp_tunnel_at (r, slot)), "prefixes of %u", i);
      int changed = e->remote_teid == __builtin_bswap32 (900 + i);
      CHECK (changed ? i >= 9 : e->remote_teid == __builtin_bswap32 (500 + i), "TEID");
      CHECK (!memcmp (e->remote, peer[changed], 16) && e->qfi == (changed ? 5 : 0) && e->psc == (changed ? FP_GTPU_PSC_UL : 0) &&
	       fp_tunnel_remote_is (r, fp_tunnel_at (r, slot), 0, peer[changed]),
	     "all old or all new");
      CHECK (fp_tunnel_at (r, slot)->ue4 == __builtin_bswap32 (0x0a3c0000 + i), "inline");
    }
}

/* Words, records and counts agree. */
static void
check_whole (fp_region_t *r)
{
  const fp_tunnel_state_t *s = &r->control->gtpu;
  u64 position = 0, w;
  u32 tunnels = 0, ues = 0;
  while ((w = fp_control_next (r, FP_CONTROLLED_TUNNEL, &position)))
    {
      u32 slot = fp_word_slot (w);
      const fp_tunnel_t *t = fp_tunnel_at (r, slot);
      const fp_gtpu_encap_t *e = fp_tunnel_encap (r, t);
      CHECK (s->tunnel[slot].live && e && e->tunnel == slot && s->endpoint[t->endpoint].live && s->peer[e->peer].live, "tunnel");
      CHECK (e->shape == fp_gtpu_encap_shape (r, e->endpoint, e->peer), "shape");
      tunnels++;
    }
  position = 0;
  while ((w = fp_control_next (r, FP_CONTROLLED_UE, &position)))
    {
      u32 tunnel = s->ue[fp_word_slot (w)].tunnel;
      CHECK (tunnel != FP_NONE && s->tunnel[tunnel].live && fp_ue_at (r, fp_word_slot (w))->encap == (u32) fp_tunnel_at (r, tunnel)->current, "prefix");
      ues++;
    }
  CHECK (tunnels == r->controlled[FP_CONTROLLED_TUNNEL].used && tunnels == r->controlled[FP_CONTROLLED_ENCAP].used &&
	   ues == r->controlled[FP_CONTROLLED_UE].used,
	 "counts");
  for (u32 i = 0; i < r->controlled[FP_CONTROLLED_GTPU_ENDPOINT].capacity; i++)
    {
      u32 peers = 0, users = 0;
      for (u32 k = 0; k < r->controlled[FP_CONTROLLED_GTPU_PEER].capacity; k++)
	peers += s->peer[k].live && fp_gtpu_peer_at (r, k)->endpoint == i;
      for (u32 k = 0; k < r->controlled[FP_CONTROLLED_TUNNEL].capacity; k++)
	users += s->tunnel[k].live && fp_tunnel_at (r, k)->endpoint == i;
      CHECK (s->endpoint[i].peers == peers && s->endpoint[i].tunnels == users && (s->endpoint[i].live || !peers), "endpoint %u", i);
    }
}

/* Every slot can be used: nothing was lost or counted twice. */
static void
check_capacity (fp_region_t *r)
{
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (9, 4);
  fp_wire_gtpu_peer_t p = wire_gtpu_peer (9, 4, 1);
  CHECK (!upsert (r, FP_TABLE_GTPU_ENDPOINT, &e) && !upsert (r, FP_TABLE_GTPU_PEER, &p), "endpoint");
  u32 tunnels = r->controlled[FP_CONTROLLED_TUNNEL].used, ues = r->controlled[FP_CONTROLLED_UE].used;
  for (u32 i = 0; i < 2 * TUNNELS; i++)
    {
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (9, 4, 1 + i, 1, 1);
      tunnels += upsert (r, FP_TABLE_GTPU_TUNNEL, &t) == 0;
    }
  for (u32 i = 0; i < 4 * TUNNELS; i++)
    {
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (9, 1, 0x0b000000 + i, 32);
      ues += upsert (r, FP_TABLE_GTPU_UE, &u) == 0;
    }
  CHECK (tunnels == TUNNELS && ues == 2 * TUNNELS, "%u tunnels, %u prefixes", tunnels, ues);
  check_whole (r);
}

static void
test_kill (const char *path)
{
  fp_capacity_t c = tunnel_capacity (TUNNELS);
  u64 at = 1;
  for (;; at++)
    {
      fp_region_t r;
      int status;
      unlink (path);
      open_region (&r, path, &c, 1);
      prepare (&r);
      fp_region_close (&r, 0);
      pid_t child = fork ();
      if (!child)
	{
	  open_region (&r, path, &c, 1);
	  steps = 0;
	  kill_at = at;
	  writer (&r);
	  _exit (0);
	}
      CHECK (waitpid (child, &status, 0) == child && WIFEXITED (status), "child");
      CHECK (open_region (&r, path, &c, 1).attached, "attached");
      check_prepared (&r);
      check_whole (&r);
      check_capacity (&r);
      fp_region_close (&r, 1);
      if (WEXITSTATUS (status) == 0)
	break;
      CHECK (WEXITSTATUS (status) == 77, "child failed at step %lu", (unsigned long) at);
    }
  printf ("killed after each of %lu stores: tunnels whole every time\n", (unsigned long) at - 1);
  CHECK (at > 100, "too few steps");
}

/* Attached again with nothing changed, all is as it was. */
static void
test_again (const char *path)
{
  fp_capacity_t c = tunnel_capacity (TUNNELS);
  fp_region_t r;
  u8 before[4][64 * 64], after[4][64 * 64];
  int n[4];
  unlink (path);
  open_region (&r, path, &c, 1);
  prepare (&r);
  writer (&r);
  for (u32 i = 0; i < 4; i++)
    n[i] = fp_control_dump (&r, FP_TABLE_GTPU_ENDPOINT + i, &(u64){ 0 }, before[i], 64);
  for (u32 round = 0; round < 3; round++)
    {
      fp_region_close (&r, 1);
      fp_region_report_t rep = open_region (&r, path, &c, 2);
      CHECK (rep.attached && !rep.repair.dangling && !rep.repair.tentative, "nothing to repair");
      for (u32 i = 0; i < 4; i++)
	CHECK (n[i] > 0 && fp_control_dump (&r, FP_TABLE_GTPU_ENDPOINT + i, &(u64){ 0 }, after[i], 64) == n[i] &&
		 !memcmp (before[i], after[i], (size_t) n[i] * FP_DUMP_ENTRY (FP_TABLE_GTPU_ENDPOINT + i)),
	       "table %u", FP_TABLE_GTPU_ENDPOINT + i);
      check_prepared (&r);
      check_whole (&r);
    }
  fp_region_close (&r, 1);
}

static void
test_damage (const char *path)
{
  fp_capacity_t c = tunnel_capacity (TUNNELS);
  fp_region_t r;
  u64 seed = 4711, rounds = 600, kept = 0;
  for (u64 round = 0; round < rounds; round++)
    {
      unlink (path);
      open_region (&r, path, &c, 1);
      prepare (&r);
      u64 from = (u64) ((u8 *) r.controlled[FP_CONTROLLED_GTPU_ENDPOINT].index.buckets - r.base);
      u64 to = (u64) ((u8 *) r.arrays - r.base);
      u32 flips = 1u << (round % 12);
      int before = round & 2; /* damaged while the engine runs, or while it does not */
      if (!before)
	fp_region_close (&r, 0), open_region (&r, path, &c, 1);
      for (u32 i = 0; i < flips; i++)
	{
	  seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	  u64 at = from + (seed >> 20) % (to - from);
	  if (round & 1)
	    at = at / FP_PAGE * FP_PAGE + at % 1024;
	  r.base[at] ^= (u8) (1 + (seed >> 12) % 255);
	}
      if (before)
	{
	  fp_region_close (&r, 0);
	  CHECK (open_region (&r, path, &c, 1).attached, "only the header refuses");
	  check_whole (&r);
	}
      kept += r.controlled[FP_CONTROLLED_TUNNEL].used;
      /* what the control plane does: dump all, put right what differs */
      for (u32 table = FP_TABLE_GTPU_ENDPOINT; table <= FP_TABLE_GTPU_UE; table++)
	{
	  u64 cursor = 0;
	  u8 out[64 * 64];
	  while (fp_control_dump (&r, table, &cursor, out, 64) >= 0 && cursor)
	    ;
	}
      for (u32 i = 1; i <= 12; i++)
	{
	  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, teid_of (i), 2, i);
	  fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, teid_of (i), 0x0a3c0000 + i, 32);
	  t.flags |= FP_GTPU_END_MARKER_ON_REPLACE;
	  upsert (&r, FP_TABLE_GTPU_TUNNEL, &t);
	  find_teid (&r, 1, teid_of (i));
	  const fp_gtpu_encap_t *e = find_ue4 (&r, 0, 0x0a3c0000 + i);
	  if (e && e->tunnel < TUNNELS)
	    fp_tunnel_owns (&r, e->tunnel, fp_tunnel_at (&r, e->tunnel), 0, u.address);
	  upsert (&r, FP_TABLE_GTPU_UE, &u);
	  delete (&r, FP_TABLE_GTPU_UE, &u);
	  delete (&r, FP_TABLE_GTPU_TUNNEL, &t);
	}
      fp_control_poll (&r);
      fp_region_close (&r, 0);
    }
  printf ("damaged %lu times: never a crash, %lu of 12 tunnels left on average\n", (unsigned long) rounds, (unsigned long) (kept / rounds));
}

int
main (void)
{
  const char *path = region_path ();
  test_again (path);
  test_kill (path);
  test_damage (path);
  unlink (path);
  return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A reader between any two stores of the writer: at every step of every kind of change, each tunnel that stays is found by TEID and by its
 * prefixes, with a record that is all of one change. Without threads, so that no moment is left out. */
static void fp_test_step (void);
#define FP_STEP() fp_test_step ()
#include "tunnels.h"

#define STAY 6

static fp_region_t r;
static u64 steps;
static int watching;

/* Tunnel i, changed n times: peer, remote TEID and QFI follow from n. */
static fp_wire_gtpu_tunnel_t
version (u32 i, u32 n)
{
  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 100 + i, 1 + n % 3, i << 16 | (n + 1));
  t.psc = FP_GTPU_PSC_DL;
  t.qfi = (u8) (n % 64);
  return t;
}

static void
check_record (const fp_gtpu_encap_t *e, u32 i)
{
  u8 remote[16];
  u32 teid = __builtin_bswap32 (e->remote_teid), n = (teid & 0xffff) - 1;
  peer_address (remote, 4, 1 + n % 3);
  CHECK (teid >> 16 == i && e->qfi == n % 64 && e->psc == FP_GTPU_PSC_DL && !memcmp (e->remote, remote, 16), "step %lu: tunnel %u: a mix",
	 (unsigned long) steps, i);
}

static void
fp_test_step (void)
{
  steps++;
  for (u32 i = 0; watching && i < STAY; i++)
    {
      u32 slot = find_teid (&r, 1, 100 + i);
      CHECK (slot != FP_NONE && fp_tunnel_at (&r, slot)->teid == 100 + i, "step %lu: tunnel %u missed by TEID", (unsigned long) steps, i);
      check_record (fp_tunnel_encap (&r, fp_tunnel_at (&r, slot)), i);
      for (u32 k = 0; k < 2; k++)
	{
	  const fp_gtpu_encap_t *e = find_ue4 (&r, 0, k ? 0x0a400000 + i * 256 + 3 : 0x0a3c0000 + i);
	  CHECK (e && e->tunnel == slot, "step %lu: tunnel %u missed by prefix %u", (unsigned long) steps, i, k);
	  check_record (e, i);
	}
      u8 source[16];
      ip4 (source, 0x0a3c0000 + i);
      CHECK (fp_tunnel_owns (&r, slot, fp_tunnel_at (&r, slot), 0, source), "step %lu: source of tunnel %u", (unsigned long) steps, i);
    }
}

static void
round_of_changes (u32 n)
{
  static const u32 range[][2] = { { 0, 0 }, { 1, 1000 }, { 102, 3 }, { 90, 14 }, { 103, 100 } };
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4), other = wire_gtpu_endpoint (2, 4);
  fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, 1 + n % 3), spare = wire_gtpu_peer (1, 4, 9);
  for (u32 i = 0; i < STAY; i++)
    {
      fp_wire_gtpu_tunnel_t t = version (i, n);
      CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t), "change");
    }
  e.teid_base = range[n % 5][0], e.teid_count = range[n % 5][1], e.mtu = (u16) (1400 + n), e.dscp = n % 64;
  p.mtu = (u16) (1300 + n);
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e) && !upsert (&r, FP_TABLE_GTPU_ENDPOINT, &other) && !upsert (&r, FP_TABLE_GTPU_PEER, &p) &&
	   !upsert (&r, FP_TABLE_GTPU_PEER, &spare),
	 "endpoints, peers");
  for (u32 i = 0; i < 3; i++)
    { /* others that come and go, with other prefix lengths around the same addresses */
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 200 + i, 9, 7);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 200 + i, 0x0a000000, (u8) (8 + i)), v = wire_gtpu_ue (1, 200 + i, 0x0a500000 + i, 32);
      CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && !upsert (&r, FP_TABLE_GTPU_UE, &v), "another");
      int rc = upsert (&r, FP_TABLE_GTPU_UE, &u);
      CHECK (rc == (i == 2 ? -E2BIG : 0), "length %u: %d", u.length, rc);
    }
  for (u32 i = 0; i < 3; i++)
    {
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 200 + i, 9, 7);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 200 + i, 0x0a000000, (u8) (8 + i)), v = wire_gtpu_ue (1, 200 + i, 0x0a500000 + i, 32);
      CHECK (!delete (&r, FP_TABLE_GTPU_UE, &u) && !delete (&r, FP_TABLE_GTPU_UE, &v) && !delete (&r, FP_TABLE_GTPU_TUNNEL, &t), "gone");
    }
  CHECK (!delete (&r, FP_TABLE_GTPU_PEER, &spare) && !delete (&r, FP_TABLE_GTPU_ENDPOINT, &other), "gone");
  fp_control_poll (&r);
}

int
main (void)
{
  fp_capacity_t c = tunnel_capacity (32);
  open_region (&r, NULL, &c, 1);
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4);
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e), "endpoint");
  for (u32 i = 1; i <= 3; i++)
    {
      fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, i);
      CHECK (!upsert (&r, FP_TABLE_GTPU_PEER, &p), "peer");
    }
  for (u32 i = 0; i < STAY; i++)
    {
      fp_wire_gtpu_tunnel_t t = version (i, 0);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 100 + i, 0x0a3c0000 + i, 32), v = wire_gtpu_ue (1, 100 + i, 0x0a400000 + i * 256, 24);
      CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && !upsert (&r, FP_TABLE_GTPU_UE, &u) && !upsert (&r, FP_TABLE_GTPU_UE, &v), "tunnel");
    }
  watching = 1;
  steps = 0;
  for (u32 n = 1; n <= 40; n++)
    round_of_changes (n);
  printf ("looked up between any two of %lu stores: never a miss, never a mix\n", (unsigned long) steps);
  CHECK (steps > 2000, "too few steps");
  watching = 0;
  fp_region_close (&r, 1);
  return 0;
}

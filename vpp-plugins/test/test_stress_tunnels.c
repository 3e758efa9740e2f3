/* SPDX-License-Identifier: Apache-2.0 */
/* A writer changes tunnels, adds and deletes others, moves the TEID range and adds endpoints while two workers look up: a tunnel that stays is
 * never missed, by TEID or by prefix, and its record is never a mix of two changes; a cached lookup with the right generation is
 * never of a tunnel that has gone. */
#include <pthread.h>

#include "tunnels.h"

#define STAY	40
#define PASSING 24
#define ROUNDS	150
#define READERS 2

static fp_region_t r;
static _Atomic u32 done;

/* Change n of a tunnel is told by its record: remote TEID, QFI and peer all follow from n. */
static fp_wire_gtpu_tunnel_t
version (u32 i, u32 n)
{
  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 100 + i, 1 + n % 8, i << 16 | (n + 1));
  t.psc = FP_GTPU_PSC_DL;
  t.qfi = (u8) (n % 64);
  return t;
}

static void
check_record (const fp_gtpu_encap_t *e, u32 i, u32 *last)
{
  u8 remote[16];
  u32 teid = __builtin_bswap32 (e->remote_teid), n = (teid & 0xffff) - 1;
  peer_address (remote, 4, 1 + n % 8);
  CHECK (teid >> 16 == i && e->qfi == n % 64 && !memcmp (e->remote, remote, 16), "tunnel %u: a mix of records", i);
  CHECK (n >= *last, "tunnel %u: back from change %u to %u", i, *last, n);
  *last = n;
}

static void *
reader (void *arg)
{
  u32 worker = (u32) (uintptr_t) arg, by_teid[STAY] = { 0 }, by_ue[STAY] = { 0 }, cached = 0, cached_generation = 0, has_cached = 0;
  u64 looked = 0, passing = 0, hits = 0;
  fp_worker_t w;
  fp_wire_gtpu_endpoint_t wire = wire_gtpu_endpoint (1, 4);
  fp_worker_init (&w, &r, worker, worker + 1);
  while (!atomic_load_explicit (&done, memory_order_relaxed) || looked < 1000)
    {
      fp_worker_quiescent (&w, fp_now_ns ());
      u32 generation = fp_tunnel_generation (&r);
      if (has_cached && cached_generation == generation)
	{ /* of a passing tunnel: with this generation it must be there, and still be that one */
	  CHECK (fp_tunnel_at (&r, cached)->teid == 500, "a cached tunnel has gone");
	  fp_counter_add (&fp_tunnel_counters (&w, cached)->rx_packets, 1);
	  hits++;
	}
      const fp_gtpu_endpoint_t *e = fp_gtpu_endpoint_find (&r, 0, 0, wire.address);
      CHECK (e && e->id == 1, "the endpoint");
      for (u32 i = 0; i < STAY; i++)
	{
	  u32 slot = fp_tunnel_lookup (&r, e, 100 + i, fp_tunnel_hash (&r, e, 100 + i));
	  CHECK (slot != FP_NONE, "tunnel %u missed by TEID", i);
	  const fp_tunnel_t *t = fp_tunnel_at (&r, slot);
	  check_record (fp_tunnel_encap (&r, t), i, &by_teid[i]);
	  const fp_gtpu_encap_t *one = find_ue4 (&r, 0, 0x0a3c0000 + i), *two = find_ue4 (&r, 0, 0x0a400000 + i * 256 + 3);
	  CHECK (one && two && one->tunnel == slot && two->tunnel == slot, "tunnel %u missed by prefix", i);
	  check_record (one, i, &by_ue[i]);
	  check_record (two, i, &(u32){ 0 });
	  u8 source[16];
	  ip4 (source, 0x0a3c0000 + i);
	  CHECK (fp_tunnel_owns (&r, slot, t, 0, source), "source of tunnel %u", i);
	  ip4 (source, 0x0a3c0000 + i + 1);
	  CHECK (!fp_tunnel_owns (&r, slot, t, 0, source), "another's source");
	  looked++;
	}
      u32 slot = fp_tunnel_lookup (&r, e, 500, fp_tunnel_hash (&r, e, 500));
      has_cached = slot != FP_NONE;
      cached = slot;
      cached_generation = generation;
      for (u32 i = 0; i < PASSING; i++)
	{
	  u32 teid = 500 + i;
	  slot = fp_tunnel_lookup (&r, e, teid, fp_tunnel_hash (&r, e, teid));
	  CHECK (slot == FP_NONE || fp_tunnel_at (&r, slot)->teid == teid, "another tunnel");
	  const fp_gtpu_encap_t *x = find_ue4 (&r, 0, 0x0a500000 + i);
	  if (x)
	    {
	      CHECK (__builtin_bswap32 (x->remote_teid) == 7000 + i, "another tunnel's record");
	      fp_counter_add (&fp_tunnel_counters (&w, x->tunnel)->tx_packets, 1);
	      passing++;
	    }
	}
    }
  fp_worker_sleep (&w);
  CHECK (looked > 0, "looked");
  (void) hits;
  return (void *) (uintptr_t) passing;
}

/* A record needs free room: until the readers have let go. */
static void
must (u32 table, const void *record)
{
  int rc;
  while ((rc = upsert (&r, table, record)) == -ENOSPC)
    ;
  CHECK (rc == 0, "upsert %u: %d", table, rc);
}

static void
write_round (u32 n)
{
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4), other = wire_gtpu_endpoint (2 + n % 5, 4);
  fp_gtpu_marker_t m;
  for (u32 i = 0; i < STAY; i++)
    {
      fp_wire_gtpu_tunnel_t t = version (i, n);
      must (FP_TABLE_GTPU_TUNNEL, &t);
    }
  /* none, all, some: within a range, tunnels by hash and by index */
  for (u32 k = 0; k < 30; k++)
    {
      e.teid_base = k % 3 == 0 ? 0 : k % 3 == 1 ? 1 : 110, e.teid_count = k % 3 == 0 ? 0 : k % 3 == 1 ? 1000 : 13;
      e.mtu = (u16) (1000 + n + k);
      must (FP_TABLE_GTPU_ENDPOINT, &e);
    }
  must (FP_TABLE_GTPU_ENDPOINT, &other);
  for (u32 i = 0; i < PASSING; i++)
    {
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 500 + i, 1, 7000 + i);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 500 + i, 0x0a500000 + i, 32);
      must (FP_TABLE_GTPU_TUNNEL, &t);
      must (FP_TABLE_GTPU_UE, &u);
    }
  for (u32 i = 0; i < PASSING; i++)
    {
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 500 + (i * 7 + n) % PASSING, 1, 0);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, t.local_teid, 0x0a500000 + t.local_teid - 500, 32);
      CHECK (!delete (&r, FP_TABLE_GTPU_UE, &u) && !delete (&r, FP_TABLE_GTPU_TUNNEL, &t), "delete");
    }
  CHECK (!delete (&r, FP_TABLE_GTPU_ENDPOINT, &other), "delete");
  while (fp_control_take_end_marker (&r, &m))
    ;
  fp_control_poll (&r);
}

int
main (void)
{
  fp_capacity_t c = tunnel_capacity (STAY + PASSING + 8);
  pthread_t thread[READERS];
  void *passing;
  open_region (&r, NULL, &c, READERS);
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4);
  must (FP_TABLE_GTPU_ENDPOINT, &e);
  for (u32 i = 1; i <= 8; i++)
    {
      fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, i);
      must (FP_TABLE_GTPU_PEER, &p);
    }
  for (u32 i = 0; i < STAY; i++)
    {
      fp_wire_gtpu_tunnel_t t = version (i, 0);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 100 + i, 0x0a3c0000 + i, 32), v = wire_gtpu_ue (1, 100 + i, 0x0a400000 + i * 256, 24);
      must (FP_TABLE_GTPU_TUNNEL, &t);
      must (FP_TABLE_GTPU_UE, &u);
      must (FP_TABLE_GTPU_UE, &v);
    }
  for (u32 i = 0; i < READERS; i++)
    CHECK (!pthread_create (&thread[i], NULL, reader, (void *) (uintptr_t) i), "thread");
  for (u32 n = 1; n <= ROUNDS; n++)
    write_round (n);
  atomic_store (&done, 1);
  u64 seen = 0;
  for (u32 i = 0; i < READERS; i++)
    {
      pthread_join (thread[i], &passing);
      seen += (uintptr_t) passing;
    }
  CHECK (r.controlled[FP_CONTROLLED_TUNNEL].used == STAY && r.controlled[FP_CONTROLLED_UE].used == 2 * STAY, "what stays");
  printf ("%u changes of each of %u tunnels under two readers: never a miss, never a mix (%lu sights of passing tunnels)\n", ROUNDS, STAY,
	  (unsigned long) seen);
  fp_region_close (&r, 1);
  return 0;
}

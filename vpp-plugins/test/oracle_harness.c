/* SPDX-License-Identifier: Apache-2.0 */
/* The Service kernel as a shared library whose clock and random numbers the caller sets: for tests/contract/test_kernel_oracle.py. Every
 * packet lies in a block of its own whose end is watched. */
#include "fp_region.h"
#include "fp_service.h"

#define WORKERS 2
#define GUARD	64
#define EXPORT	__attribute__ ((visibility ("default")))

typedef struct
{
  fp_region_t region;
  fp_worker_t worker[WORKERS];
  u64 now;
} oracle_t;

typedef struct
{
  u32 length; /* in: of the packet; out: of what stands in its place */
  u32 room;
  u32 mtu;
  u32 worker;
  u64 cookie;
  u8 action, reason, way, overrun;
} oracle_packet_t;

/* Between two packets every worker is at its quiescent point. */
EXPORT void
oracle_time (oracle_t *o, u64 now, int age)
{
  o->now = now;
  for (u32 round = 0; round < (age ? 3u : 1u); round++)
    for (u32 i = 0; i < WORKERS; i++)
      {
	fp_worker_quiescent (&o->worker[i], now);
	if (age)
	  fp_sessions_age (&o->worker[i], 2 * o->region.capacity.sessions4);
      }
  fp_control_poll (&o->region);
}

EXPORT void
oracle_free (oracle_t *o)
{
  for (u32 i = 0; i < WORKERS; i++)
    free (o->worker[i].holds);
  fp_region_close (&o->region, 1);
  free (o);
}

EXPORT oracle_t *
oracle_new (u64 seed, u64 now)
{
  fp_capacity_t c = fp_capacity_default ();
  fp_region_report_t report;
  oracle_t *o = calloc (1, sizeof (*o));
  c.sessions4 = c.sessions6 = 4096;
  c.fragments = 1024;
  c.services = c.frontends = c.endpoints = c.prefixes = c.settings = 64;
  c.gtpu_endpoints = c.gtpu_peers = c.tunnels = c.ues = 64;
  if (!o || fp_region_open (&o->region, NULL, &c, WORKERS, &report))
    {
      free (o);
      return NULL;
    }
  for (u32 i = 0; i < WORKERS; i++)
    {
      fp_worker_init (&o->worker[i], &o->region, i, seed + i);
      o->worker[i].holds = calloc (1, sizeof (fp_fragment_holds_t));
    }
  oracle_time (o, now, 0);
  return o;
}

/* 0, or the first record's error. */
EXPORT int
oracle_upsert (oracle_t *o, u32 table, const void *record)
{
  int code = 0;
  return fp_control_upsert (&o->region, table, record, 1, &code) < 0 ? -EINVAL : code;
}

EXPORT int
oracle_delete (oracle_t *o, u32 table, const void *key)
{
  int code = 0;
  return fp_control_delete (&o->region, table, key, 1, &code) < 0 ? -EINVAL : code;
}

EXPORT int
oracle_commit (oracle_t *o)
{
  return fp_control_commit (&o->region);
}

EXPORT int
oracle_packet (oracle_t *o, u8 *bytes, oracle_packet_t *d)
{
  fp_packet_t p;
  fp_verdict_t v;
  u8 *block = malloc (d->room + GUARD);
  if (!block || d->worker >= WORKERS || d->length > d->room)
    {
      free (block);
      return -EINVAL;
    }
  memset (block, 0xa5, d->room + GUARD);
  memcpy (block, bytes, d->length);
  memset (&p, 0, sizeof (p));
  p.l3 = block;
  p.contiguous = p.length = d->length;
  p.room = d->room;
  p.mtu = d->mtu;
  p.cookie = d->cookie;
  memset (&v, 0xff, sizeof (v));
  fp_worker_quiescent (&o->worker[d->worker], o->now);
  fp_service_vector (&o->worker[d->worker], &p, &v, 1);
  d->overrun = 0;
  for (u32 i = 0; i < GUARD; i++)
    d->overrun |= block[d->room + i] != 0xa5;
  d->length = p.length;
  d->action = v.action;
  d->reason = v.reason;
  d->way = v.way;
  memcpy (bytes, block, d->room);
  free (block);
  return 0;
}

EXPORT u32
oracle_ready (oracle_t *o, u32 worker, u64 *cookies, u8 *expired, u32 max)
{
  return fp_fragments_ready (&o->worker[worker], cookies, expired, max);
}

EXPORT const char *
oracle_reason (u32 reason)
{
  return fp_drop_name (reason);
}

/* Sessions that are live, packets that are not accounted for exactly once (0). */
EXPORT u64
oracle_sessions (const oracle_t *o)
{
  return fp_shared_used (&o->region, FP_SHARED_SESSION4) + fp_shared_used (&o->region, FP_SHARED_SESSION6);
}

EXPORT u64
oracle_unaccounted (const oracle_t *o)
{
  u64 difference = 0;
  for (u32 i = 0; i < WORKERS; i++)
    {
      const fp_counters_t *c = o->worker[i].counters;
      difference += c->counter[FP_C_PACKETS] - c->counter[FP_C_PASSED] - c->counter[FP_C_FORWARD] - c->counter[FP_C_REVERSE] -
		    c->counter[FP_C_FRAGMENT_HELD];
      for (u32 d = 1; d < FP_DROPS; d++)
	difference -= d == FP_DROP_FRAGMENT_EXPIRED ? 0 : c->drop[d];
    }
  return difference;
}

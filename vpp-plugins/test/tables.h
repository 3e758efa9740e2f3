/* SPDX-License-Identifier: Apache-2.0 */
/* Records, sessions and regions for the tests of the tables. */
#ifndef TEST_TABLES_H
#define TEST_TABLES_H

#include "check.h"
#include "fp_region.h"

static inline fp_capacity_t
small_capacity (void)
{
  return (fp_capacity_t){ .sessions4 = 64,
			  .sessions6 = 64,
			  .fragments = 64,
			  .services = 64,
			  .frontends = 64,
			  .endpoints = 256,
			  .prefixes = 64,
			  .settings = 32 };
}

static inline fp_region_report_t
open_region (fp_region_t *r, const char *path, const fp_capacity_t *c, u32 workers)
{
  fp_region_report_t report;
  int rc = fp_region_open (r, path, c, workers, &report);
  CHECK (rc == 0, "open: %d %s", rc, report.message);
  return report;
}

/* A file for a region, in memory where there is one, removed by the caller. */
static inline const char *
region_path (void)
{
  static char path[64];
  snprintf (path, sizeof (path), "%s/fp-test-%d", access ("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (int) getpid ());
  return path;
}

static inline void
ip4 (u8 out[16], u32 host_order)
{
  u32 v = __builtin_bswap32 (host_order);
  memset (out, 0, 16);
  memcpy (out, &v, 4);
}

static inline fp_wire_service_t
wire_service (u64 id, u8 family, u8 protocol)
{
  return (fp_wire_service_t){ .id = id, .family = family, .protocol = protocol };
}

static inline fp_wire_frontend_t
wire_frontend (u32 address, u16 port, u64 service)
{
  fp_wire_frontend_t f = { .family = 4, .protocol = 6, .port = port, .service = service };
  ip4 (f.address, address);
  return f;
}

static inline fp_wire_endpoint_t
wire_endpoint (u64 service, u32 address, u16 port, u8 flags)
{
  fp_wire_endpoint_t e = { .service = service, .family = 4, .port = port, .flags = flags };
  ip4 (e.address, address);
  return e;
}

static inline int
upsert (fp_region_t *r, u32 table, const void *record)
{
  int code = 1;
  fp_control_upsert (r, table, record, 1, &code);
  return code;
}

static inline int
delete (fp_region_t *r, u32 table, const void *key)
{
  int code = 1;
  fp_control_delete (r, table, key, 1, &code);
  return code;
}

/* Flow number i, with the endpoint that `pick` chooses. */
static inline void
fill4 (fp_session4_t *s, u32 i, u32 pick)
{
  s->client = 0x0a000000u + i;
  s->vip = 0x0a60000au;
  s->cport = (u16) (i * 7 + 1);
  s->vport = 80;
  s->vrf = 0;
  s->ep = 0x0a010000u + pick;
  s->nat = s->client;
  s->eport = 8080;
  s->nport = s->cport;
  s->proto = 6;
  s->flags = 0;
  s->pad = 0;
  s->service_slot = s->ep_slot = FP_NONE;
  s->service_gen = s->ep_gen = s->spare = 0;
}

static inline void
fill6 (fp_session6_t *s, u32 i, u32 pick)
{
  memset (s->client, 0x20, 16);
  memcpy (s->client, &i, 4);
  memset (s->vip, 0x30, 16);
  memset (s->ep, 0x40, 16);
  memcpy (s->ep, &pick, 4);
  memcpy (s->nat, s->client, 16);
  s->cport = s->nport = (u16) (i * 7 + 1);
  s->vport = 80;
  s->eport = 8080;
  s->vrf = 0;
  s->proto = 17;
  s->flags = 0;
  s->pad = 0;
  s->service_slot = s->ep_slot = FP_NONE;
  s->service_gen = s->ep_gen = 0;
  memset (s->spare, 0, sizeof (s->spare));
}

static inline fp_key4_t
forward4 (u32 i)
{
  fp_session4_t s;
  fp_key4_t k;
  fill4 (&s, i, 0);
  fp_session4_key (&s, 0, &k);
  return k;
}

static inline fp_key4_t
reverse4 (u32 i, u32 pick)
{
  fp_session4_t s;
  fp_key4_t k;
  fill4 (&s, i, pick);
  fp_session4_key (&s, 1, &k);
  return k;
}

static inline fp_sref_t
find4 (const fp_region_t *r, const fp_key4_t *k)
{
  return fp_session4_find (r, k, fp_key4_hash (r, k));
}

static inline int
insert4 (fp_worker_t *w, u32 i, u32 pick, u32 expiry, fp_sref_t *ref)
{
  u32 slot = fp_session4_alloc (w);
  if (slot == FP_NONE)
    return FP_FULL;
  fill4 (fp_session4_at (w->region, slot), i, pick);
  int rc = fp_session4_insert (w, &slot, 1, expiry, ref);
  if (rc == FP_COLLISION)
    fp_session4_free (w, slot);
  return rc;
}

#endif /* TEST_TABLES_H */

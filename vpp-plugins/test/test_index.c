/* SPDX-License-Identifier: Apache-2.0 */
/* What a table's capacity promises: so many records are taken, whatever the region's secret numbers are, however keys follow each other, and however often
 * all of them have been replaced. */
#include "tunnels.h"

#define TUNNELS	 4096 /* an average of four in each bucket */
#define REGIONS	 60
#define REPLACED 150
#define STEP	 128 /* records that come before as many go */

typedef struct
{
  const char *name;
  u32 table;
  void (*record) (u32 i, fp_wire_t *out);
} kind_t;

static void
tunnel_in_a_row (u32 i, fp_wire_t *out)
{
  const fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 1 + i, 1, 1 + i);
  memcpy (out, &t, sizeof (t));
}

static void
tunnel_by_sixteens (u32 i, fp_wire_t *out)
{
  const fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 16 * (1 + i), 1, 1 + i);
  memcpy (out, &t, sizeof (t));
}

/* All of one tunnel. */
static void
ue_in_a_row (u32 i, fp_wire_t *out)
{
  const fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 1u << 31, 0x0a3c0000u + i, 32);
  memcpy (out, &u, sizeof (u));
}

static void
ue_networks_in_a_row (u32 i, fp_wire_t *out)
{
  fp_wire_gtpu_ue_t u = { .family = 6, .length = 64, .endpoint = 1, .local_teid = 1u << 31 };
  memcpy (u.address, "\x20\x01\x0d\xb8", 4);
  i = __builtin_bswap32 (i);
  memcpy (u.address + 4, &i, 4);
  memcpy (out, &u, sizeof (u));
}

static void
frontend_in_a_row (u32 i, fp_wire_t *out)
{
  const fp_wire_frontend_t f = wire_frontend (0x0a600000u + i, 80, 1);
  memcpy (out, &f, sizeof (f));
}

static void
endpoint_in_a_row (u32 i, fp_wire_t *out)
{
  const fp_wire_endpoint_t e = wire_endpoint (1, 0x0a800000u + i, 8080, FP_ENDPOINT_SERVES | FP_ENDPOINT_CLUSTER);
  memcpy (out, &e, sizeof (e));
}

static const kind_t kinds[] = {
  { "tunnels in a row", FP_TABLE_GTPU_TUNNEL, tunnel_in_a_row },
  { "tunnels by sixteens", FP_TABLE_GTPU_TUNNEL, tunnel_by_sixteens },
  { "prefixes in a row", FP_TABLE_GTPU_UE, ue_in_a_row },
  { "IPv6 networks in a row", FP_TABLE_GTPU_UE, ue_networks_in_a_row },
  { "frontends in a row", FP_TABLE_FRONTEND, frontend_in_a_row },
  { "endpoints in a row", FP_TABLE_ENDPOINT, endpoint_in_a_row },
};

/* Records `first` .. `first` + STEP - 1. */
static void
put (fp_region_t *r, const kind_t *kind, u32 first, const char *when)
{
  const u32 size = fp_wire_size (kind->table);
  u8 packed[STEP * sizeof (fp_wire_t)];
  int codes[STEP];
  for (u32 i = 0; i < STEP; i++)
    {
      fp_wire_t wire;
      memset (&wire, 0, sizeof (wire));
      kind->record (first + i, &wire);
      memcpy (packed + i * size, &wire, size);
    }
  fp_control_upsert (r, kind->table, packed, STEP, codes);
  for (u32 i = 0; i < STEP; i++)
    CHECK (codes[i] == 0, "%s, %s: record %u: %d", kind->name, when, first + i, codes[i]);
}

static void
take (fp_region_t *r, const kind_t *kind, u32 first)
{
  const u32 size = fp_wire_key_size (kind->table);
  u8 packed[STEP * sizeof (fp_wire_t)];
  int codes[STEP];
  for (u32 i = 0; i < STEP; i++)
    {
      fp_wire_t wire;
      kind->record (first + i, &wire);
      memcpy (packed + i * size, &wire, size);
    }
  fp_control_delete (r, kind->table, packed, STEP, codes);
  for (u32 i = 0; i < STEP; i++)
    CHECK (codes[i] == 0, "%s: deletion of %u: %d", kind->name, first + i, codes[i]);
  fp_control_commit (r);
}

static void
open_table (fp_region_t *r, const kind_t *kind)
{
  fp_capacity_t c = tunnel_capacity (64);
  const fp_wire_service_t service = wire_service (1, 4, 6);
  const fp_wire_gtpu_endpoint_t endpoint = wire_gtpu_endpoint (1, 4);
  const fp_wire_gtpu_peer_t peer = wire_gtpu_peer (1, 4, 1);
  const fp_wire_gtpu_tunnel_t owner = wire_gtpu_tunnel (1, 4, 1u << 31, 1, 1);
  *(kind->table == FP_TABLE_GTPU_TUNNEL ? &c.tunnels :
    kind->table == FP_TABLE_GTPU_UE	? &c.ues :
    kind->table == FP_TABLE_FRONTEND	? &c.frontends :
					  &c.endpoints) = TUNNELS;
  open_region (r, NULL, &c, 1);
  CHECK (upsert (r, FP_TABLE_SERVICE, &service) == 0, "service");
  CHECK (upsert (r, FP_TABLE_GTPU_ENDPOINT, &endpoint) == 0, "endpoint");
  CHECK (upsert (r, FP_TABLE_GTPU_PEER, &peer) == 0, "peer");
  if (kind->table == FP_TABLE_GTPU_UE)
    CHECK (upsert (r, FP_TABLE_GTPU_TUNNEL, &owner) == 0, "tunnel");
}

static void
replace_all (fp_region_t *r, const kind_t *kind, u32 old, u32 new, const char *when)
{
  for (u32 i = 0; i < TUNNELS; i += STEP)
    {
      take (r, kind, old + i);
      put (r, kind, new + i, when);
    }
}

/* Tables are filled, and all is replaced by what follows. */
static void
test_every_region (const kind_t *kind)
{
  fp_region_t r;
  for (u32 n = 0; n < REGIONS; n++)
    {
      open_table (&r, kind);
      for (u32 i = 0; i < TUNNELS; i += STEP)
	put (&r, kind, i, "filled");
      replace_all (&r, kind, 0, TUNNELS, "replaced");
      fp_region_close (&r, 0);
    }
}

/* One table, all of it replaced again and again: chains that are empty are given back. */
static void
test_again_and_again (const kind_t *kind)
{
  fp_region_t r;
  u32 first = 0;
  open_table (&r, kind);
  for (u32 i = 0; i < TUNNELS; i += STEP)
    put (&r, kind, i, "filled");
  for (u32 n = 0; n < REPLACED; n++, first += TUNNELS)
    replace_all (&r, kind, first, first + TUNNELS, "replaced again");
  const enum fp_controlled t = fp_table_controlled (kind->table);
  const fp_index_t *x = &r.controlled[t].index;
  u32 hanging = 0, needed = 0;
  for (u32 b = 0; b <= x->mask; b++)
    for (const fp_bucket_t *c = &x->buckets[b]; (c = fp_index_overflow (x, atomic_load (&c->link))); hanging++)
      {
	u32 empty;
	fp_bucket_scan (c, 0, 1, &empty);
	needed += empty != (1u << FP_BUCKET_WORDS) - 1;
      }
  CHECK (hanging == needed, "%s: %u of %u chain buckets are empty", kind->name, hanging - needed, hanging);
  for (u32 i = 0; i < TUNNELS; i += STEP)
    take (&r, kind, first + i);
  for (u32 b = 0; b <= x->mask; b++)
    CHECK (!atomic_load (&x->buckets[b].link), "%s: a chain without entries", kind->name);
  fp_region_close (&r, 0);
}

/* Chains of a table that several threads fill keep their buckets; attaching gives back those without an entry, and all of them can be had again. */
static void
test_attaching_frees_chains (void)
{
  fp_region_t r;
  fp_capacity_t c = tunnel_capacity (64);
  fp_attach_report_t rep = { 0 };
  u32 *owner, had = 0;
  c.sessions4 = TUNNELS;
  open_region (&r, NULL, &c, 1);
  fp_index_t *x = &r.shared[FP_SHARED_SESSION4].index;
  while (fp_index_extend (x, had % 5))
    had++;
  CHECK (had == x->overflow_size, "%u of %u chain buckets can be had", had, x->overflow_size);
  fp_bucket_t *kept = fp_index_overflow (x, atomic_load (&x->buckets[3].link));
  kept = fp_index_overflow (x, atomic_load (&kept->link));
  atomic_store (&kept->word[6], FP_WORD_LIVE | 1ull << 40);
  CHECK (fp_attach_chains (x, &owner, &rep) == 0 && rep.links == 0, "chains");
  fp_attach_unchain (x, owner);
  free (owner);
  for (u32 b = 0; b < 5; b++)
    CHECK (fp_index_overflow (x, atomic_load (&x->buckets[b].link)) == (b == 3 ? kept : NULL), "chain of bucket %u", b);
  CHECK (!atomic_load (&kept->link), "behind the entry");
  for (u32 n = 0; n + 1 < had; n++)
    CHECK (fp_index_extend (x, n % 7), "chain bucket %u again", n);
  CHECK (!fp_index_extend (x, 0), "one more than there are");
  fp_region_close (&r, 0);
}

int
main (void)
{
  test_attaching_frees_chains ();
  for (u32 i = 0; i < sizeof (kinds) / sizeof (*kinds); i++)
    {
      test_every_region (&kinds[i]);
      test_again_and_again (&kinds[i]);
    }
  printf ("test_index: %u kinds of %u records: %u regions filled and replaced, one replaced %u times\n",
	  (u32) (sizeof (kinds) / sizeof (*kinds)), TUNNELS, REGIONS, REPLACED);
  return 0;
}

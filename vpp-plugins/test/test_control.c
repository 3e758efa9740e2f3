/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane's tables with one thread: hashes and digests against published values, upsert, delete, result codes, dumps that stay stable,
 * identity of endpoints, known addresses, prefixes, settings, full tables, mending of altered records. */
#include "tables.h"

static fp_region_t r;

static void
test_hashes (void)
{
  /* xxHash's published values; CRC32C check value of RFC 3720 for "123456789" */
  CHECK (fp_xxh64 ("", 0, 0) == 0xef46db3751d8e999ull, "empty");
  CHECK (fp_xxh64 ("a", 1, 0) == 0xd24ec4f1a98c6e5bull, "a");
  CHECK (fp_xxh64 ("abc", 3, 0) == 0x44bc2cf5ad770999ull, "abc");
  CHECK (fp_xxh64 ("Nobody inspects the spammish repetition", 39, 0) == 0xfbcea83c8a378bf1ull, "39 bytes");
  static u32 table[FP_CRC_TABLE];
  fp_crc32c_table (table);
  u32 crc = ~0u;
  const char *digits = "123456789";
  for (u32 i = 0; i < 9; i++)
    crc = table[(crc ^ (u8) digits[i]) & 0xff] ^ crc >> 8;
  CHECK (~crc == 0xe3069283u, "byte by byte");
  u64 words[4] = { 0, 0, 0, 0 };
  fp_hash_t h = { ~0u, 0, { 3, 5 }, table };
  crc = ~0u;
  for (u32 i = 0; i < 4; i++)
    crc = fp_crc32c_u64_table (table, crc, words[i]);
  CHECK (~crc == 0x8a9136aau, "32 zero bytes");
  h.hardware = fp_crc32c_hardware ();
  for (u64 n = 0; n < 10000; n++)
    {
      for (u32 i = 0; i < 4; i++)
	words[i] = n * 0x9e3779b97f4a7c15ull + i * 0xc2b2ae3d27d4eb4full;
      crc = (u32) n;
      for (u32 i = 0; i < 4; i++)
	crc = fp_crc32c_u64_table (table, crc, words[i]);
      CHECK (fp_crc32c_words (&h, (u32) n, words, 4) == crc, "instruction and table differ");
    }
}

static u32
dump_all (u32 table, u8 *keys, u32 max, u32 step)
{
  u64 cursor = 0;
  u32 n = 0, entry = FP_DUMP_ENTRY (table);
  do
    {
      CHECK (n + step <= max, "dump too long");
      int got = fp_control_dump (&r, table, &cursor, keys + (size_t) n * entry, step);
      CHECK (got >= 0, "dump");
      n += (u32) got;
    }
  while (cursor);
  return n;
}

static fp_set_t
set_of (u64 id)
{
  return fp_service_set (&r, fp_service_at (&r, fp_word_slot (fp_service_word (&r, id))), FP_SET_CLUSTER);
}

/* A commit of many services goes in steps, and others begin meanwhile. */
static void
test_commit_in_steps (void)
{
  enum { SERVICES = 1200 };
  fp_capacity_t c = small_capacity ();
  u32 begun = 0, other = 0, steps = 0, published = 0;

  c.services = SERVICES;
  c.endpoints = 2 * SERVICES;
  open_region (&r, NULL, &c, 1);
  for (u32 i = 0; i < SERVICES; i++)
    {
      fp_wire_service_t s = wire_service (i + 1, 4, 6);
      fp_wire_endpoint_t e = wire_endpoint (i + 1, 0x0a010000 + i, 8080, FP_ENDPOINT_SERVES | FP_ENDPOINT_CLUSTER);
      CHECK (upsert (&r, FP_TABLE_SERVICE, &s) == 0 && upsert (&r, FP_TABLE_ENDPOINT, &e) == 0, "service");
    }
  CHECK (!fp_control_commit_step (&r, &begun) && begun, "more than one step");
  for (u32 i = 0; i < SERVICES; i++)
    published += set_of (i + 1).count;
  CHECK (published > 0 && published < SERVICES, "%u of the sets", published);
  for (u32 i = 0; i < SERVICES; i++) /* of sets that are published, and of sets that are not yet */
    {
      fp_wire_endpoint_t e = wire_endpoint (i + 1, 0x0a020000 + i, 8080, FP_ENDPOINT_SERVES | FP_ENDPOINT_CLUSTER);
      CHECK (upsert (&r, FP_TABLE_ENDPOINT, &e) == 0, "another");
    }
  while (!fp_control_commit_step (&r, &other))
    CHECK (++steps < SERVICES, "the second comes to its end");
  for (u32 i = 0; i < SERVICES; i++)
    CHECK (set_of (i + 1).count == 2, "both endpoints of %u", i);
  CHECK (fp_control_commit_step (&r, &begun), "nothing is left of the first");
  for (u32 i = 0; i < SERVICES; i++)
    {
      fp_wire_endpoint_t e = wire_endpoint (i + 1, 0x0a020000 + i, 8080, 0);
      CHECK (delete (&r, FP_TABLE_ENDPOINT, &e) == 0, "delete");
    }
  begun = 0;
  CHECK (!fp_control_commit_step (&r, &begun) && fp_control_commit (&r) == 0 && fp_control_commit_step (&r, &begun), "a whole one in between");
  for (u32 i = 0; i < SERVICES; i++)
    CHECK (set_of (i + 1).count == 1, "one endpoint of %u", i);
  fp_region_close (&r, 1);
}

static void
test_services (void)
{
  fp_capacity_t c = small_capacity ();
  static u8 out[64 * 512];
  open_region (&r, NULL, &c, 1);
  fp_wire_service_t s = wire_service (1, 4, 6);
  fp_wire_frontend_t f = wire_frontend (0x0a600001, 80, 1);
  fp_wire_endpoint_t e = wire_endpoint (1, 0x0a010001, 8080, FP_ENDPOINT_SERVES | FP_ENDPOINT_CLUSTER), e2 = e;
  u8 vip[4] = { 10, 96, 0, 1 };
  CHECK (upsert (&r, FP_TABLE_FRONTEND, &f) == -ENOENT && upsert (&r, FP_TABLE_ENDPOINT, &e) == -ENOENT, "no service yet");
  CHECK (upsert (&r, FP_TABLE_SERVICE, &s) == 0 && upsert (&r, FP_TABLE_SERVICE, &s) == 0, "service");
  s.flags = FP_SERVICE_INTERNAL_LOCAL;
  CHECK (upsert (&r, FP_TABLE_SERVICE, &s) == -EOPNOTSUPP, "policy not served");
  s.flags = 0, s.empty_verdict = 2;
  CHECK (upsert (&r, FP_TABLE_SERVICE, &s) == -EINVAL, "verdict");
  s.empty_verdict = FP_EMPTY_DROP;
  CHECK (upsert (&r, FP_TABLE_SERVICE, &s) == 0, "changed in place");
  CHECK (upsert (&r, FP_TABLE_ENDPOINT, &e) == 0 && set_of (1).count == 0, "in no set before the commit");
  CHECK (fp_control_commit (&r) == 0 && set_of (1).count == 1, "committed");
  u32 slot = set_of (1).slots[0], gen = atomic_load (&fp_endpoint (&r, slot)->gen);
  CHECK (fp_endpoint_serves (&r, slot, gen) && fp_service_serving (fp_service_at (&r, 0)) == 1, "serves");
  e.flags = 0;
  CHECK (upsert (&r, FP_TABLE_ENDPOINT, &e) == 0 && !fp_endpoint_serves (&r, slot, gen), "flag at once");
  CHECK (fp_control_commit (&r) == 0 && set_of (1).count == 0 && fp_service_serving (fp_service_at (&r, 0)) == 0, "out of the set");
  e.flags = 3;
  CHECK (delete (&r, FP_TABLE_ENDPOINT, &e) == 0 && upsert (&r, FP_TABLE_ENDPOINT, &e) == 0 && fp_control_commit (&r) == 0 &&
	   set_of (1).slots[0] == slot && atomic_load (&fp_endpoint (&r, slot)->gen) == gen,
	 "identity kept");
  /* replacing all endpoints: never an empty set */
  ip4 (e2.address, 0x0a010002);
  CHECK (upsert (&r, FP_TABLE_ENDPOINT, &e2) == 0 && delete (&r, FP_TABLE_ENDPOINT, &e) == 0 && set_of (1).count == 1 &&
	   set_of (1).slots[0] == slot,
	 "the old set until the commit");
  CHECK (fp_control_fetch (&r, FP_TABLE_ENDPOINT, &e, (fp_wire_t *) out) == -ENOENT, "deleted for the control plane");
  CHECK (fp_control_commit (&r) == 0 && set_of (1).count == 1 && set_of (1).slots[0] != slot, "the new one");
  CHECK (!fp_endpoint_serves (&r, slot, gen), "reference died");

  CHECK (upsert (&r, FP_TABLE_FRONTEND, &f) == 0, "frontend");
  CHECK (fp_frontend_find (&r, 0, 0, vip, fp_swap16 (80), 6) && !fp_frontend_find (&r, 0, 0, vip, fp_swap16 (81), 6), "find");
  CHECK (fp_vip_kinds (&r, 0, 0, vip) == 1 && fp_vip_kinds (&r, 0, 1, vip) == 0, "known address");
  f.kind = FP_FRONTEND_EXTERNAL_IP;
  CHECK (upsert (&r, FP_TABLE_FRONTEND, &f) == 0 && fp_vip_kinds (&r, 0, 0, vip) == 1 << FP_FRONTEND_EXTERNAL_IP, "swapped");
  f.protocol = 17;
  CHECK (upsert (&r, FP_TABLE_FRONTEND, &f) == -EINVAL, "protocol of another service");
  f.protocol = 6;
  CHECK (delete (&r, FP_TABLE_SERVICE, &s) == -EBUSY, "busy");

  /* digests are of what is there; an altered record is found, an entry whose key was altered goes */
  CHECK (dump_all (FP_TABLE_FRONTEND, out, 512, 64) == 1, "one");
  u64 digest = fp_load64 (out + FP_WIRE_FRONTEND_KEY);
  CHECK (digest == fp_xxh64 (&f, sizeof (f), 0) && !memcmp (out, &f, FP_WIRE_FRONTEND_KEY), "digest of the wire record");
  u32 fslot = (u32) (fp_frontend_find (&r, 0, 0, vip, fp_swap16 (80), 6) - fp_frontend_at (&r, 0));
  fp_frontend_at (&r, fslot)->kind = FP_FRONTEND_LOAD_BALANCER;
  dump_all (FP_TABLE_FRONTEND, out, 512, 64);
  CHECK (fp_load64 (out + FP_WIRE_FRONTEND_KEY) != digest, "altered value found");
  fp_frontend_at (&r, fslot)->key.port ^= 1;
  CHECK (dump_all (FP_TABLE_FRONTEND, out, 512, 64) == 0 && r.control->repaired == 1 && fp_vip_kinds (&r, 0, 0, vip) == 0, "altered key goes");
  CHECK (upsert (&r, FP_TABLE_FRONTEND, &f) == 0 && dump_all (FP_TABLE_FRONTEND, out, 512, 64) == 1, "mended");
  CHECK (fp_load64 (out + FP_WIRE_FRONTEND_KEY) == digest, "as it was");

  CHECK (delete (&r, FP_TABLE_FRONTEND, &f) == 0 && delete (&r, FP_TABLE_FRONTEND, &f) == 0, "delete twice");
  CHECK (fp_vip_kinds (&r, 0, 0, vip) == 0, "address forgotten");
  CHECK (delete (&r, FP_TABLE_ENDPOINT, &e2) == 0 && delete (&r, FP_TABLE_SERVICE, &s) == 0, "endpoints' deletion is committed with it");
  CHECK (fp_control_poll (&r) == 0 && r.control->arena.used == 0 && r.controlled[FP_CONTROLLED_ENDPOINT].used == 0, "nothing left");
  fp_region_close (&r, 1);
}

/* Full tables, and dumps while entries come and go. */
static void
test_full (void)
{
  fp_capacity_t c = small_capacity ();
  static u8 out[64 * 2048];
  open_region (&r, NULL, &c, 1);
  fp_wire_service_t s = wire_service (1, 4, 6);
  upsert (&r, FP_TABLE_SERVICE, &s);
  for (u32 round = 0; round < 3; round++)
    {
      for (u32 i = 0; i < 300; i++)
	{
	  fp_wire_endpoint_t e = wire_endpoint (1, 0x0a010000 + i, 80, 3);
	  CHECK (upsert (&r, FP_TABLE_ENDPOINT, &e) == (i < 256 ? 0 : -ENOSPC), "endpoint %u", i);
	}
      CHECK (fp_control_commit (&r) == 0 && set_of (1).count == 256, "set");
      /* dump in small steps; odd entries are deleted meanwhile, even ones must come exactly once */
      u8 seen[256] = { 0 };
      u64 cursor = 0;
      u32 next = 1;
      do
	{
	  int n = fp_control_dump (&r, FP_TABLE_ENDPOINT, &cursor, out, 5);
	  for (int i = 0; i < n; i++)
	    seen[out[i * (int) FP_DUMP_ENTRY (FP_TABLE_ENDPOINT) + 16 + 3]]++;
	  fp_wire_endpoint_t e = wire_endpoint (1, 0x0a010000 + next, 80, 3);
	  next += 2;
	  if (next < 256)
	    delete (&r, FP_TABLE_ENDPOINT, &e), fp_control_commit (&r);
	}
      while (cursor);
      for (u32 i = 0; i < 256; i += 2)
	CHECK (seen[i] == 1, "entry %u came %u times", i, seen[i]);
      for (u32 i = 0; i < 256; i++)
	{
	  fp_wire_endpoint_t e = wire_endpoint (1, 0x0a010000 + i, 80, 3);
	  CHECK (delete (&r, FP_TABLE_ENDPOINT, &e) == 0, "delete");
	}
      fp_control_commit (&r);
      CHECK (r.control->arena.used == 0, "arrays given back");
    }
  fp_table_usage_t usage[FP_USAGE_TABLES];
  CHECK (fp_control_usage (&r, usage) == FP_USAGE_TABLES && !strcmp (usage[FP_SHARED_TABLES].name, "services") &&
	   usage[FP_SHARED_TABLES].used == 1,
	 "usage");
  fp_region_close (&r, 1);
}

static void
test_prefixes (void)
{
  fp_capacity_t c = small_capacity ();
  open_region (&r, NULL, &c, 1);
  fp_wire_prefix_t pod = { .family = 4, .length = 16, .prefix_class = FP_PREFIX_POD, .address = { 10, 1 } };
  fp_wire_prefix_t host = { .family = 4, .length = 32, .prefix_class = FP_PREFIX_HOST, .address = { 10, 1, 0, 1 } };
  fp_wire_prefix_t all = { .family = 6, .length = 0, .prefix_class = FP_PREFIX_SERVICE };
  fp_wire_prefix_t v6 = { .family = 6, .length = 65, .prefix_class = FP_PREFIX_POD, .address = { 0xfd, 0, 0, 0, 0, 0, 0, 0, 0x80 } };
  CHECK (!upsert (&r, FP_TABLE_PREFIX, &pod) && !upsert (&r, FP_TABLE_PREFIX, &host) && !upsert (&r, FP_TABLE_PREFIX, &v6) &&
	   !upsert (&r, FP_TABLE_PREFIX, &all),
	 "prefixes");
  u8 a[4] = { 10, 1, 0, 1 }, b[4] = { 10, 1, 255, 255 }, none[4] = { 10, 2, 0, 0 }, in6[16] = { 0xfd, [8] = 0xff }, out6[16] = { 0xfd };
  CHECK (fp_prefix_class (&r, 0, 0, a) == FP_CLASS_HOST && fp_prefix_class (&r, 0, 0, b) == FP_CLASS_POD, "longest first");
  CHECK (fp_prefix_class (&r, 0, 0, none) == FP_CLASS_NONE && fp_prefix_class (&r, 0, 1, a) == FP_CLASS_NONE, "none, another VRF");
  CHECK (fp_prefix_class (&r, 1, 0, in6) == FP_CLASS_POD && fp_prefix_class (&r, 1, 0, out6) == FP_CLASS_SERVICE, "65 bits");
  CHECK (!delete (&r, FP_TABLE_PREFIX, &host) && fp_prefix_class (&r, 0, 0, a) == FP_CLASS_POD, "deleted");
  pod.address[3] = 1;
  CHECK (upsert (&r, FP_TABLE_PREFIX, &pod) == -EINVAL, "bits beyond the length");

  fp_wire_config_t range = { .key = FP_CONFIG_SNAT_PORT_RANGE, .index = 2, .value = 1000 | 1999u << 16 };
  fp_wire_config_t snat = { .key = FP_CONFIG_SNAT_ADDRESS, .index = 4, .address = { 192, 168, 1, 1 } };
  CHECK (!upsert (&r, FP_TABLE_CONFIG, &range) && !upsert (&r, FP_TABLE_CONFIG, &snat), "settings");
  CHECK (fp_config (&r)->port_count == 1000 && fp_config (&r)->has_snat4 && !fp_config (&r)->has_snat6, "in force");
  range.value = 2000 | 1999u << 16;
  CHECK (upsert (&r, FP_TABLE_CONFIG, &range) == -EINVAL && fp_config (&r)->port_count == 1000, "low above high");
  CHECK (!delete (&r, FP_TABLE_CONFIG, &range) && fp_config (&r)->port_count == 0, "deleted");
  CHECK (fp_control_upsert (&r, FP_TABLE_GTPU_UE + 1, &range, 1, &(int){ 0 }) == -EINVAL, "no such table");
  fp_region_close (&r, 1);
}

/* A large table that is nearly empty takes no longer to walk in one call than a full one. */
static void
test_sparse_dump (void)
{
  fp_capacity_t c = small_capacity ();
  fp_wire_service_t service = wire_service (1, 4, 6);
  fp_wire_endpoint_t e = wire_endpoint (1, 0x0a010001, 80, 3);
  u8 out[4 * FP_DUMP_ENTRY (FP_TABLE_ENDPOINT)];
  u64 cursor = 0, before, calls = 0;
  int found = 0;
  c.endpoints = 1 << 18;
  open_region (&r, NULL, &c, 1);
  CHECK (!upsert (&r, FP_TABLE_SERVICE, &service) && !upsert (&r, FP_TABLE_ENDPOINT, &e), "an endpoint");
  do
    {
      before = cursor;
      int n = fp_control_dump (&r, FP_TABLE_ENDPOINT, &cursor, out, 4);
      CHECK (n >= 0 && (cursor == 0 || cursor - before <= FP_DUMP_POSITIONS), "%lu positions in one call",
	     (unsigned long) (cursor - before));
      found += n;
      calls++;
    }
  while (cursor);
  CHECK (found == 1 && calls > 4, "%d found in %lu calls", found, (unsigned long) calls);
  fp_region_close (&r, 1);
}

int
main (void)
{
  test_hashes ();
  test_sparse_dump ();
  test_services ();
  test_commit_in_steps ();
  test_full ();
  test_prefixes ();
  puts ("control: hashes, services, sets, dumps, full tables, prefixes, settings");
  return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A node for the kernels' tests: a region in anonymous memory, two workers, and Services in both address families, programmed through
 * the control records. Every packet lies in a heap block of exactly its size (or its room), so that AddressSanitizer sees any
 * access beyond it. */
#ifndef TEST_FIXTURE_H
#define TEST_FIXTURE_H

#include "fp_control.h"
#include "fp_region.h"
#include "fp_service.h"
#include "packets.h"

#define BOTH(v4, v6) (const char *const[2]){ v4, v6 }

/* [0] IPv4, [1] IPv6 */
static const char *const NODE[2] = { "192.168.1.1", "fd00:1::1" };	/* this node; source of masquerade and of ICMP errors */
static const char *const POD[2] = { "10.1.0.9", "fd00:10:1::9" };	/* a pod of this node */
static const char *const POD2[2] = { "10.1.0.10", "fd00:10:1::a" };	/* another */
static const char *const FAR_POD[2] = { "10.1.1.9", "fd00:10:2::9" };	/* a pod of another node */
static const char *const OUTSIDE[2] = { "198.51.100.7", "2001:db8::7" }; /* no address of the cluster */
static const char *const ROUTER[2] = { "172.16.0.1", "fd00:ffff::1" };

static const char *const WEB[2] = { "10.96.0.10", "fd00:96::10" };    /* TCP 80 and UDP 80 -> EP1, EP2 port 8080 */
static const char *const DNS[2] = { "10.96.0.11", "fd00:96::11" };    /* UDP 53 -> EP1 port 5353, TCP 53 -> the same */
static const char *const EMPTY[2] = { "10.96.0.12", "fd00:96::12" };  /* TCP 80, UDP 80: no endpoint, REJECT */
static const char *const EMPTY_DROP[2] = { "10.96.0.13", "fd00:96::13" }; /* TCP 80: no endpoint, DROP */
static const char *const EXTERNAL[2] = { "203.0.113.5", "2001:db8:5::5" }; /* external address of WEB, port 80 */
static const char *const UNALLOCATED[2] = { "10.96.7.7", "fd00:96::777" };
static const char *const EP1[2] = { "10.1.0.5", "fd00:10:1::5" }; /* on this node */
static const char *const EP2[2] = { "10.1.1.6", "fd00:10:2::6" };

#define NODE_PORT 30080
#define SNAT_LOW  10000
#define SNAT_HIGH 10999

enum
{
  ID_WEB_TCP = 10,
  ID_WEB_UDP = 20,
  ID_DNS_UDP = 30,
  ID_DNS_TCP = 40,
  ID_EMPTY_TCP = 50,
  ID_EMPTY_UDP = 60,
  ID_EMPTY_DROP = 70,
};

typedef struct
{
  fp_region_t region;
  fp_worker_t worker[2];
  u64 now;
  u8 service_gone; /* packets of its flows count nowhere */
} node_t;

static inline void
put_address (u8 out[16], const char *text)
{
  memset (out, 0, 16);
  CHECK (inet_pton (is6 (text) ? AF_INET6 : AF_INET, text, out) == 1, "bad address %s", text);
}

static inline void
upsert (node_t *n, u16 table, const void *record)
{
  int code = 0;
  fp_control_upsert (&n->region, table, record, 1, &code);
  CHECK (code == 0, "upsert into table %u: %d", table, code);
}

static inline void
erase (node_t *n, u16 table, const void *key)
{
  int code = 0;
  fp_control_delete (&n->region, table, key, 1, &code);
  CHECK (code == 0, "delete from table %u: %d", table, code);
}

static inline void
put_config (node_t *n, u32 key, u32 index, u64 value, const char *address)
{
  fp_wire_config_t r = { .key = key, .index = index, .value = value };
  if (address)
    put_address (r.address, address);
  upsert (n, FP_TABLE_CONFIG, &r);
}

static inline void
put_prefix (node_t *n, const char *address, u8 length, u8 class)
{
  fp_wire_prefix_t r = { .family = is6 (address) ? 6 : 4, .length = length, .prefix_class = class };
  put_address (r.address, address);
  upsert (n, FP_TABLE_PREFIX, &r);
}

/* Ids of the two families differ by one. */
static inline void
put_service (node_t *n, int six, u64 id, u8 proto, u8 verdict)
{
  fp_wire_service_t r = { .id = id + (u64) six, .family = six ? 6 : 4, .protocol = proto, .empty_verdict = verdict };
  upsert (n, FP_TABLE_SERVICE, &r);
}

static inline fp_wire_frontend_t
frontend_record (int six, const char *address, u16 port, u8 proto, u64 id, u8 kind)
{
  fp_wire_frontend_t r = { .family = six ? 6 : 4, .protocol = proto, .port = port, .node_port = !address,
			   .service = id + (u64) six, .kind = kind };
  if (address)
    put_address (r.address, address);
  return r;
}

static inline void
put_frontend (node_t *n, int six, const char *address, u16 port, u8 proto, u64 id, u8 kind)
{
  fp_wire_frontend_t r = frontend_record (six, address, port, proto, id, kind);
  upsert (n, FP_TABLE_FRONTEND, &r);
}

static inline fp_wire_endpoint_t
endpoint_record (int six, u64 id, const char *address, u16 port, u8 flags)
{
  fp_wire_endpoint_t r = { .service = id + (u64) six, .family = six ? 6 : 4, .port = port, .flags = flags };
  put_address (r.address, address);
  return r;
}

#define EP_FLAGS (FP_ENDPOINT_SERVES | FP_ENDPOINT_CLUSTER)

static inline void
put_endpoint (node_t *n, int six, u64 id, const char *address, u16 port, u8 flags)
{
  fp_wire_endpoint_t r = endpoint_record (six, id, address, port, flags);
  upsert (n, FP_TABLE_ENDPOINT, &r);
}

static inline void
delete_endpoint (node_t *n, int six, u64 id, const char *address, u16 port)
{
  fp_wire_endpoint_t r = endpoint_record (six, id, address, port, 0);
  erase (n, FP_TABLE_ENDPOINT, &r);
}

static inline void
commit (node_t *n)
{
  fp_control_commit (&n->region);
}

static inline void
advance (node_t *n, double seconds)
{
  n->now += (u64) (seconds * 1e9);
  for (int i = 0; i < 2; i++)
    fp_worker_quiescent (&n->worker[i], n->now);
}

/* workers: that the region is told of. With 1, only one thread may use the contexts. */
#ifndef NODE_WORKERS
#define NODE_WORKERS 2
#endif

static inline node_t *
node_new_workers (const fp_capacity_t *capacity, u32 workers)
{
  node_t *n = calloc (1, sizeof (*n));
  fp_region_report_t report;
  CHECK (fp_region_open (&n->region, NULL, capacity, workers, &report) == 0, "region does not open");
  n->now = 1000000000000ull;
  for (u32 i = 0; i < 2; i++)
    {
      fp_worker_init (&n->worker[i], &n->region, i, 42 + i);
      n->worker[i].holds = calloc (1, sizeof (fp_fragment_holds_t));
    }
  advance (n, 0);

  for (int s = 0; s < 2; s++)
    {
      put_config (n, FP_CONFIG_SNAT_ADDRESS, s ? 6 : 4, 0, NODE[s]);
      put_config (n, FP_CONFIG_ICMP_SOURCE, s ? 6 : 4, 0, NODE[s]);
      put_prefix (n, NODE[s], s ? 128 : 32, FP_PREFIX_HOST);
      put_prefix (n, s ? "fd00:10:1::" : "10.1.0.0", s ? 64 : 24, FP_PREFIX_POD);
      put_prefix (n, s ? "fd00:96::" : "10.96.0.0", s ? 112 : 16, FP_PREFIX_SERVICE);
      put_service (n, s, ID_WEB_TCP, 6, FP_EMPTY_REJECT);
      put_service (n, s, ID_WEB_UDP, 17, FP_EMPTY_REJECT);
      put_service (n, s, ID_DNS_UDP, 17, FP_EMPTY_REJECT);
      put_service (n, s, ID_DNS_TCP, 6, FP_EMPTY_REJECT);
      put_service (n, s, ID_EMPTY_TCP, 6, FP_EMPTY_REJECT);
      put_service (n, s, ID_EMPTY_UDP, 17, FP_EMPTY_REJECT);
      put_service (n, s, ID_EMPTY_DROP, 6, FP_EMPTY_DROP);
      for (u8 proto = 6; proto <= 17; proto += 11)
	{
	  u64 web = proto == 6 ? ID_WEB_TCP : ID_WEB_UDP;
	  put_endpoint (n, s, web, EP1[s], 8080, EP_FLAGS | FP_ENDPOINT_ON_NODE);
	  put_endpoint (n, s, web, EP2[s], 8080, EP_FLAGS);
	  put_endpoint (n, s, proto == 6 ? ID_DNS_TCP : ID_DNS_UDP, EP1[s], 5353, EP_FLAGS);
	}
      commit (n);
      for (u8 proto = 6; proto <= 17; proto += 11)
	{
	  u64 web = proto == 6 ? ID_WEB_TCP : ID_WEB_UDP;
	  put_frontend (n, s, WEB[s], 80, proto, web, FP_FRONTEND_CLUSTER_IP);
	  put_frontend (n, s, EXTERNAL[s], 80, proto, web, FP_FRONTEND_EXTERNAL_IP);
	  put_frontend (n, s, NULL, NODE_PORT, proto, web, FP_FRONTEND_NODE_PORT);
	  put_frontend (n, s, DNS[s], 53, proto, proto == 6 ? ID_DNS_TCP : ID_DNS_UDP, FP_FRONTEND_CLUSTER_IP);
	  put_frontend (n, s, EMPTY[s], 80, proto, proto == 6 ? ID_EMPTY_TCP : ID_EMPTY_UDP, FP_FRONTEND_CLUSTER_IP);
	}
      put_frontend (n, s, EMPTY_DROP[s], 80, 6, ID_EMPTY_DROP, FP_FRONTEND_CLUSTER_IP);
    }
  put_config (n, FP_CONFIG_SNAT_PORT_RANGE, 0, SNAT_LOW | (u64) SNAT_HIGH << 16, NULL);
  commit (n);
  return n;
}

static inline node_t *
node_new_sized (const fp_capacity_t *capacity)
{
  return node_new_workers (capacity, NODE_WORKERS);
}

static inline node_t *
node_new (void)
{
  fp_capacity_t c = { .sessions4 = 4096, .sessions6 = 4096, .fragments = 1024, .services = 64, .frontends = 64,
		      .endpoints = 64, .prefixes = 64, .settings = 64, .gtpu_endpoints = 8, .gtpu_peers = 16, .tunnels = 64,
		      .ues = 128 };
  return node_new_sized (&c);
}

static inline void
node_free (node_t *n)
{
  for (int i = 0; i < 2; i++)
    free (n->worker[i].holds);
  fp_region_close (&n->region, 1);
  free (n);
}

/* ---- packets through the kernel ---- */

typedef struct
{
  fp_packet_t p;
  fp_verdict_t v;
  u8 *block;	  /* what lies at p.l3 */
  u8 before[2048]; /* as it was sent */
  u32 before_length;
} shot_t;

/* Sum of what a packet must count as: see fp_service.h. */
static inline u64
accounted (const fp_counters_t *c)
{
  u64 n = c->counter[FP_C_PASSED] + c->counter[FP_C_FORWARD] + c->counter[FP_C_REVERSE] + c->counter[FP_C_FRAGMENT_HELD];
  for (u32 d = 1; d < FP_DROPS; d++)
    n += d == FP_DROP_FRAGMENT_EXPIRED ? 0 : c->drop[d];
  return n;
}

/* What a worker has counted for all Services together. */
static inline fp_way_counters_t
all_services (const fp_worker_t *w, u32 way)
{
  fp_way_counters_t sum = { 0, 0 };
  for (u32 slot = 0; slot < w->region->controlled[FP_CONTROLLED_SERVICE].capacity; slot++)
    {
      sum.packets += w->region->service_counters[w->worker][slot].way[way].packets;
      sum.bytes += w->region->service_counters[w->worker][slot].way[way].bytes;
    }
  return sum;
}

static inline u64
counter (const node_t *n, enum fp_counter c)
{
  return n->worker[0].counters->counter[c] + n->worker[1].counters->counter[c];
}

/* Hand a copy of the bytes to a worker, in a block of `room` bytes; p's other fields as given. */
static inline void
submit (node_t *n, int worker, const u8 *bytes, u32 length, u32 room, shot_t *s)
{
  fp_worker_t *w = &n->worker[worker];
  fp_way_counters_t counted[2] = { all_services (w, 0), all_services (w, 1) };
  CHECK (length <= sizeof (s->before) && room >= length, "test packet of %u bytes, room %u", length, room);
  s->block = malloc (room ? room : 1);
  memcpy (s->block, bytes, length);
  memcpy (s->before, bytes, length);
  s->before_length = length;
  s->p.l3 = s->block;
  s->p.contiguous = length;
  if (!s->p.length)
    s->p.length = length;
  s->p.room = room;
  u32 whole = s->p.length;
  memset (&s->v, 0xff, sizeof (s->v));
  fp_worker_quiescent (w, n->now);
  fp_service_vector (w, &s->p, &s->v, 1);
  CHECK (w->counters->counter[FP_C_PACKETS] == accounted (w->counters), "packet not counted exactly once");
  CHECK (s->v.action <= FP_REPLY, "no verdict");
  for (u32 way = 0; way < 2 && !n->service_gone; way++)
    {
      u64 one = s->v.action == FP_FORWARD && s->v.way == (way ? FP_WAY_REVERSE : FP_WAY_FORWARD);
      fp_way_counters_t now = all_services (w, way);
      CHECK (now.packets - counted[way].packets == one && now.bytes - counted[way].bytes == one * whole, "counted for its Service");
    }
  if (s->v.action == FP_REPLY)
    check_checksums ("ICMP error", s->block, s->p.length, 0);
}

static inline void
release (shot_t *s)
{
  free (s->block);
  s->block = NULL;
}

/* Build, submit to a worker, check checksums of what is forwarded. The caller releases. */
static inline shot_t
shoot_on (node_t *n, int worker, const spec_t *spec)
{
  shot_t s;
  u8 bytes[2048];
  u32 length = build (bytes, spec);
  memset (&s.p, 0, sizeof (s.p));
  if (spec->partial)
    {
      uint8_t proto;
      int fragment, later;
      s.p.csum = FP_CSUM_PARTIAL;
      s.p.csum_start = (u16) find_l4 (bytes, &proto, &fragment, &later);
      s.p.csum_offset = (u16) csum_field (spec->proto);
    }
  submit (n, worker, bytes, length, length + 64, &s);
  if (s.v.action == FP_FORWARD)
    check_checksums ("forwarded", s.block, s.p.length, spec->partial);
  return s;
}

static inline shot_t
shoot (node_t *n, const spec_t *spec)
{
  return shoot_on (n, 0, spec);
}

/* Submit and expect a verdict and the packet's addresses ("" : do not look). */
static inline void
expect_on (node_t *n, int worker, const spec_t *spec, u8 action, u8 reason, const char *want)
{
  shot_t s = shoot_on (n, worker, spec);
  char text[160];
  CHECK (s.v.action == action && s.v.reason == reason, "%s: action %u reason %s, want %u %s",
	 show (s.before, text, sizeof (text)), s.v.action, fp_drop_name (s.v.reason), action, fp_drop_name (reason));
  if (*want)
    check_addresses ("packet", s.block, want);
  release (&s);
}

static inline void
expect (node_t *n, const spec_t *spec, u8 action, u8 reason, const char *want)
{
  expect_on (n, 0, spec, action, reason, want);
}

#endif /* TEST_FIXTURE_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* A node with GTP-U endpoints and tunnels for the kernels' tests. Every packet lies in a heap block of exactly its headroom and room, so that
 * AddressSanitizer sees any access beyond them. */
#ifndef TEST_GTPU_H
#define TEST_GTPU_H

#include <ctype.h>

#include "fixture.h"
#include "fp_gtpu.h"

static const char *const LOCAL[2] = { "192.0.2.1", "2001:db8:1::1" };   /* endpoints 1 and 2 */
static const char *const GNB[2] = { "192.0.2.50", "2001:db8:1::50" };   /* the peer of all tunnels */
static const char *const GNB2[2] = { "192.0.2.51", "2001:db8:1::51" }; /* another peer */

#define TEID_BASE 0x1000u /* declared range of both endpoints */
#define TEID_COUNT 0x1000u

typedef struct
{
  u32 teid, remote_teid;
  int outer; /* 0 IPv4, 1 IPv6 */
  u8 payload, psc, qfi, flags;
  const char *ue[2]; /* /32 and /64 */
  u16 vlan;
} tunnel_t;

enum
{
  T_PLAIN,    /* IPv4 outside, by index */
  T_HASH,     /* TEID outside the range */
  T_PSC,      /* downlink PSC */
  T_SIX,      /* IPv6 outside */
  T_SIX_PSC,  /* uplink PSC */
  T_OPEN,     /* no source check */
  T_ETHERNET,
  T_ALL_ONES, /* TEID 0xffffffff */
  TUNNELS
};

static const tunnel_t TUNNEL[TUNNELS] = {
  [T_PLAIN] = { 0x1001, 0x2001, 0, 1, 0, 0, FP_GTPU_INNER_SOURCE_CHECK, { "10.45.0.2", "2001:db8:45:2::" }, 0 },
  [T_HASH] = { 0xdeadbeef, 0x2002, 0, 1, 0, 0, FP_GTPU_INNER_SOURCE_CHECK, { "10.45.0.3", "2001:db8:45:3::" }, 0 },
  [T_PSC] = { 0x1fff, 0x2003, 0, 1, FP_GTPU_PSC_DL, 9, FP_GTPU_INNER_SOURCE_CHECK, { "10.45.0.4", "2001:db8:45:4::" }, 0 },
  [T_SIX] = { 0x1000, 0x2004, 1, 1, 0, 0, FP_GTPU_INNER_SOURCE_CHECK, { "10.45.0.5", "2001:db8:45:5::" }, 0 },
  [T_SIX_PSC] = { 7, 0x2005, 1, 1, FP_GTPU_PSC_UL, 63, FP_GTPU_INNER_SOURCE_CHECK, { "10.45.0.6", "2001:db8:45:6::" }, 0 },
  [T_OPEN] = { 0x1010, 0x2006, 0, 1, 0, 0, 0, { "10.45.0.7", "2001:db8:45:7::" }, 0 },
  [T_ETHERNET] = { 0x1011, 0x2007, 0, 2, 0, 0, 0, { NULL, NULL }, 100 },
  [T_ALL_ONES] = { 0xffffffff, 0xffffffff, 0, 1, 0, 0, 0, { "10.45.0.8", NULL }, 0 },
};

static inline void
put_gtpu_endpoint (node_t *n, int outer, u16 mtu, u8 dscp, u16 low, u16 high)
{
  fp_wire_gtpu_endpoint_t e = { .family = outer ? 6 : 4, .id = 1 + (u64) outer, .teid_base = TEID_BASE, .teid_count = TEID_COUNT,
				.mtu = mtu, .dscp = dscp, .flags = low ? FP_GTPU_ENTROPY : 0, .port_low = low, .port_high = high };
  put_address (e.address, LOCAL[outer]);
  upsert (n, FP_TABLE_GTPU_ENDPOINT, &e);
}

static inline void
put_gtpu_peer (node_t *n, int outer, const char *address, u16 mtu)
{
  fp_wire_gtpu_peer_t p = { .endpoint = 1 + (u64) outer, .family = outer ? 6 : 4, .mtu = mtu, .t3_ms = 3000, .n3 = 3 };
  put_address (p.address, address);
  upsert (n, FP_TABLE_GTPU_PEER, &p);
}

static inline fp_wire_gtpu_tunnel_t
tunnel_record (const tunnel_t *t, const char *remote)
{
  fp_wire_gtpu_tunnel_t r = { .endpoint = 1 + (u64) t->outer, .local_teid = t->teid, .remote_teid = t->remote_teid, .payload = t->payload,
			      .psc = t->psc, .qfi = t->qfi, .flags = t->flags, .family = t->outer ? 6 : 4 };
  put_address (r.remote, remote);
  return r;
}

static inline void
put_ue (node_t *n, const tunnel_t *t, const char *address, u8 length)
{
  fp_wire_gtpu_ue_t u = { .family = address ? (is6 (address) ? 6 : 4) : 0, .length = address ? length : 12,
			  .endpoint = 1 + (u64) t->outer, .local_teid = t->teid };
  if (address)
    put_address (u.address, address);
  else
    put16 (u.address, t->vlan);
  upsert (n, FP_TABLE_GTPU_UE, &u);
}

static inline void
put_tunnel (node_t *n, const tunnel_t *t)
{
  fp_wire_gtpu_tunnel_t r = tunnel_record (t, GNB[t->outer]);
  upsert (n, FP_TABLE_GTPU_TUNNEL, &r);
  if (t->ue[0])
    put_ue (n, t, t->ue[0], 32);
  if (t->ue[1])
    put_ue (n, t, t->ue[1], 64);
  if (t->vlan)
    put_ue (n, t, NULL, 12);
}

static inline void
set_switches (node_t *n, u32 loop, int prefetch, int cache)
{
  put_config (n, FP_CONFIG_GTPU_SWITCHES, 0,
	      loop << FP_GTPU_LOOP_SHIFT | (prefetch ? FP_GTPU_PREFETCH : 0u) | (cache ? FP_GTPU_LOOKUP_CACHE : 0u), NULL);
  commit (n);
  advance (n, 0);
}

static inline node_t *
gtpu_node (void)
{
  fp_capacity_t c = { .sessions4 = 1024, .sessions6 = 1024, .fragments = 256, .services = 64, .frontends = 64, .endpoints = 64,
		      .prefixes = 64, .settings = 64, .gtpu_endpoints = 4, .gtpu_peers = 16, .tunnels = 64, .ues = 128 };
  node_t *n = node_new_sized (&c);
  for (int i = 0; i < 2; i++)
    n->worker[i].gtpu = calloc (1, sizeof (fp_gtpu_worker_t));
  n->region.gtpu_paths = calloc (c.gtpu_peers, sizeof (fp_gtpu_path_t));
  put_prefix (n, "10.45.0.0", 16, FP_PREFIX_UE_POOL);
  put_prefix (n, "2001:db8:45::", 48, FP_PREFIX_UE_POOL);
  for (int outer = 0; outer < 2; outer++)
    {
      put_gtpu_endpoint (n, outer, 0, 0, 0, 0);
      put_gtpu_peer (n, outer, GNB[outer], 0);
      put_gtpu_peer (n, outer, GNB2[outer], 0);
    }
  for (int t = 0; t < TUNNELS; t++)
    put_tunnel (n, &TUNNEL[t]);
  commit (n);
  advance (n, 0);
  return n;
}

static inline void
gtpu_node_free (node_t *n)
{
  for (int i = 0; i < 2; i++)
    free (n->worker[i].gtpu);
  free (n->region.gtpu_paths);
  n->region.gtpu_paths = NULL;
  node_free (n);
}

/* ---- packets ---- */

#define HEADROOM 128

typedef struct
{
  fp_packet_t p;
  fp_verdict_t v;
  u8 *block; /* headroom and room */
  u8 *sent;  /* where l3 was */
  u32 block_size;
  int run; /* it was of a run */
} gshot_t;

/* Sum of what GTP-U packets must count as. */
static inline u64
gtpu_accounted (const fp_counters_t *c)
{
  static const enum fp_counter ways[] = { FP_C_GTPU_DECAPSULATED, FP_C_GTPU_NOT_OURS, FP_C_GTPU_SIGNALLED, FP_C_GTPU_FRAGMENTS,
					  FP_C_GTPU_FRAGMENTS_HELD, FP_C_GTPU_ECHO_ANSWERED, FP_C_GTPU_SEGMENTED,
					  FP_C_GTPU_ENCAPSULATED, FP_C_GTPU_TX_PASSED };
  u64 n = 0;
  for (u32 i = 0; i < sizeof (ways) / sizeof (ways[0]); i++)
    n += c->counter[ways[i]];
  for (u32 d = 1; d < FP_DROPS; d++)
    n += d == FP_DROP_FRAGMENT_EXPIRED ? 0 : c->drop[d];
  return n;
}

enum direction
{
  DECAP,
  ENCAP,
  ENCAP_FRAME,
};

static inline void
gtpu_check (const fp_counters_t *c, const gshot_t *s)
{
  CHECK (c->counter[FP_C_GTPU_RX] + c->counter[FP_C_GTPU_TX] == gtpu_accounted (c), "packet not counted exactly once");
  CHECK (s->v.action <= FP_SEGMENT, "no verdict");
  CHECK (s->v.action != FP_DROP || (s->v.reason > 0 && s->v.reason < FP_DROPS), "drop without a reason");
  CHECK (s->p.l3 >= s->block || s->p.length == 0 || s->v.action != FP_FORWARD || s->v.way != FP_WAY_PASS, "moved a passed packet");
}

/* Whether a host that has looked up the last tunnel takes n equal packets as its run, by copies of exactly their size. They all have IPv4 headers that are right. */
static inline int
gtpu_run_takes (const fp_worker_t *w, const fp_packet_t *p, const u8 *bytes, u32 n, fp_gtpu_run_t *run, u32 *total)
{
  const u8 *h[FP_GTPU_RUN_WIDTH];
  u32 length[FP_GTPU_RUN_WIDTH], totals[FP_GTPU_RUN_WIDTH];
  int taken = 0, six;

  if (!(p->flags & FP_PACKET_IP_VALID) || p->csum > FP_CSUM_VALID || p->gso_type || p->length != p->contiguous)
    return 0; /* no host asks */
  if (!w->gtpu || !fp_gtpu_run_open (w, run) || run->vrf != p->vrf || p->length <= run->payload)
    return 0;
  for (u32 i = 0; i < n; i++)
    {
      length[i] = p->length;
      h[i] = memcpy (malloc (p->length), bytes, p->length);
    }
  six = h[0][run->payload] >> 4 == 6;
  taken = n == 4	? fp_gtpu_run_takes (run, h, length, 4, six, p->csum == FP_CSUM_VALID, totals)
	  : n == 2 ? fp_gtpu_run_takes (run, h, length, 2, six, p->csum == FP_CSUM_VALID, totals)
		   : fp_gtpu_run_takes (run, h, length, 1, six, p->csum == FP_CSUM_VALID, totals);
  if (taken)
    CHECK (fp_gtpu_run_begins (w, fp_load32 (bytes + 32)), "the run of another TEID");
  *total = totals[0];
  for (u32 i = 0; i < n; i++)
    free ((u8 *) h[i]);
  return taken;
}

/* Hand the bytes to a worker, after asking whether they are of a run: then they must be delivered as a run is. Fields of s->p that are set stay. The caller releases. */
static inline void
gtpu_submit (node_t *n, int worker, enum direction direction, const u8 *bytes, u32 length, u32 headroom, u32 room, gshot_t *s)
{
  fp_worker_t *w = &n->worker[worker];
  CHECK (room >= length, "test packet of %u bytes, room %u", length, room);
  s->block_size = headroom + room;
  s->block = malloc (s->block_size ? s->block_size : 1);
  memset (s->block, 0xa5, s->block_size);
  s->sent = s->block + headroom;
  memcpy (s->sent, bytes, length);
  s->p.l3 = s->sent;
  s->p.contiguous = length;
  if (!s->p.length)
    s->p.length = length;
  s->p.headroom = headroom;
  s->p.room = room;
  memset (&s->v, 0xff, sizeof (s->v));
  fp_worker_quiescent (w, n->now);
  s->run = 0;
  if (direction == DECAP)
    {
      const u64 strangers = w->counters->counter[FP_C_GTPU_UNEXPECTED_PEER];
      fp_gtpu_run_t run;
      u32 total = 0;
      s->run = gtpu_run_takes (w, &s->p, bytes, 1u << length % 3, &run, &total);
      fp_gtpu_decap_vector (w, &s->p, &s->v, 1);
      CHECK (!s->run || (s->v.action == FP_FORWARD && s->v.way == FP_WAY_GTPU && s->v.reason == 0 && s->p.vrf == run.inner_vrf &&
			 s->p.l3 == s->sent + run.payload && s->p.length == total && s->p.contiguous == total &&
			 s->p.csum == FP_CSUM_NONE && !memcmp (s->sent, bytes, length) &&
			 strangers == w->counters->counter[FP_C_GTPU_UNEXPECTED_PEER]),
	     "of a run, but action %u reason %s, %u bytes", s->v.action, fp_drop_name (s->v.reason), s->p.length);
    }
  else if (direction == ENCAP)
    fp_gtpu_encap_vector (w, &s->p, &s->v, 1);
  else
    fp_gtpu_encap_frame_vector (w, &s->p, &s->v, 1);
  gtpu_check (w->counters, s);
}

static inline void
gtpu_release (gshot_t *s)
{
  free (s->block);
  s->block = NULL;
}

/* Octets of hexadecimal text, blanks between them as one likes. Returns their number. */
static inline u32
octets (const char *hex, u8 *out)
{
  u32 n = 0;
  for (; *hex; hex++)
    if (isxdigit ((unsigned char) *hex))
      {
	u8 v = (u8) (isdigit ((unsigned char) *hex) ? *hex - '0' : tolower ((unsigned char) *hex) - 'a' + 10);
	out[n / 2] = (u8) (n % 2 ? out[n / 2] << 4 | v : v);
	n++;
      }
  CHECK (n % 2 == 0, "half an octet");
  return n / 2;
}

static const struct
{
  const char *name, *hex;
} GOLDENS[] = {
#define GOLDEN(name, hex) { #name, hex },
#include "golden_gtpu.h"
#undef GOLDEN
};

static inline u32
golden (const char *name, u8 *out)
{
  for (u32 i = 0; i < sizeof (GOLDENS) / sizeof (GOLDENS[0]); i++)
    if (!strcmp (GOLDENS[i].name, name))
      return octets (GOLDENS[i].hex, out);
  CHECK (0, "no golden message %s", name);
  return 0;
}

/* A UDP packet around a message. Returns its length. */
static inline u32
wrap (u8 *out, const char *src, const char *dst, u16 sport, u16 dport, const u8 *message, u32 n)
{
  spec_t s = { .src = src, .dst = dst, .sport = sport, .dport = dport, .proto = 17, .payload = (u16) n, .body = message };
  return build (out, &s);
}

/* G-PDU header (without anything optional) and inner packet. */
static inline u32
pdu (u8 *out, u32 teid, const u8 *inner, u32 n)
{
  out[0] = 0x30;
  out[1] = 255;
  put16 (out + 2, n);
  put16 (out + 4, teid >> 16);
  put16 (out + 6, teid & 0xffff);
  memcpy (out + 8, inner, n);
  return n + 8;
}

/* A message from the gNB of that family, through a worker. */
static inline gshot_t
receive (node_t *n, int outer, const u8 *message, u32 length)
{
  gshot_t s;
  u8 bytes[2048];
  u32 total = wrap (bytes, GNB[outer], LOCAL[outer], 2152, 2152, message, length);
  memset (&s.p, 0, sizeof (s.p));
  gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total + 64, &s);
  return s;
}

static inline gshot_t
receive_hex (node_t *n, int outer, const char *hex)
{
  u8 message[2048];
  return receive (n, outer, message, octets (hex, message));
}

/* Expect a verdict; everything released. */
static inline void
receive_expect (node_t *n, int outer, const char *what, const char *hex, u8 action, enum fp_drop reason)
{
  gshot_t s = receive_hex (n, outer, hex);
  CHECK (s.v.action == action && s.v.reason == reason, "%s: action %u reason %s, want %u %s", what, s.v.action,
	 fp_drop_name (s.v.reason), action, fp_drop_name (reason));
  gtpu_release (&s);
}

static inline u64
dropped (const node_t *n, enum fp_drop d)
{
  return n->worker[0].counters->drop[d] + n->worker[1].counters->drop[d];
}

#endif /* TEST_GTPU_H */

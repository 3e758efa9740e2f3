/* SPDX-License-Identifier: Apache-2.0 */
/* Outer fragments: any order, repeated, overlapping, too many, too large, late; and those of others' datagrams. */
#include "gtpu.h"

typedef struct
{
  u8 bytes[20000];
  u32 length; /* whole datagram with its IP header */
  u32 l4;
  int outer;
} datagram_t;

/* A G-PDU of T_PLAIN (IPv4) or T_SIX (IPv6) with an inner packet of `inner` bytes; id is the fragments'. */
static void
make (datagram_t *d, int outer, u32 inner, u16 port)
{
  u8 *message = malloc (inner + 8), *packet = malloc (inner);
  spec_t s = { .src = outer ? "10.45.0.5" : "10.45.0.2", .dst = OUTSIDE[0], .sport = 7, .dport = 8, .proto = 17, .payload = (u16) (inner - 28) };
  u32 n = build (packet, &s);
  CHECK (n == inner, "inner packet of %u", n);
  n = pdu (message, outer ? 0x1000 : 0x1001, packet, inner);
  d->outer = outer;
  d->l4 = outer ? 40 : 20;
  d->length = wrap (d->bytes, GNB[outer], LOCAL[outer], 2152, port, message, n);
  free (packet);
  free (message);
}

/* Bytes [at, at + n) of the datagram's IP payload as a fragment. */
static u32
cut (const datagram_t *d, u32 at, u32 n, u16 id, u8 *out)
{
  int more = at + n < d->length - d->l4;
  memcpy (out, d->bytes, d->l4);
  if (d->outer)
    {
      put16 (out + 4, 8 + n);
      out[6] = 44;
      memset (out + 40, 0, 8);
      out[40] = 17;
      put16 (out + 42, at | (u32) more);
      put16 (out + 46, id);
      memcpy (out + 48, d->bytes + 40 + at, n);
      return 48 + n;
    }
  put16 (out + 2, 20 + n);
  put16 (out + 4, id);
  put16 (out + 6, (more ? 0x2000u : 0) | at / 8);
  put16 (out + 10, 0);
  put16 (out + 10, ~ref_sum (out, 20, 0) & 0xffff);
  memcpy (out + 20, d->bytes + 20 + at, n);
  return 20 + n;
}

static gshot_t
send_piece (node_t *n, const datagram_t *d, u32 at, u32 length, u16 id, u64 cookie)
{
  u8 bytes[20000];
  gshot_t s;
  u32 total = cut (d, at, length, id, bytes);
  memset (&s.p, 0, sizeof (s.p));
  s.p.cookie = cookie;
  CHECK (fp_gtpu_is_ours (&n->worker[0], &(fp_packet_t){ .l3 = bytes, .contiguous = total, .length = total }), "a fragment to us is not ours");
  gtpu_submit (n, 0, DECAP, bytes, total, 0, total, &s);
  return s;
}

static void
check_inner (const gshot_t *s, const datagram_t *d)
{
  u32 inner = d->length - d->l4 - 16;
  CHECK (s->v.action == FP_FORWARD && s->v.way == FP_WAY_GTPU && s->p.length == inner && s->p.contiguous == inner, "action %u %s length %u",
	 s->v.action, fp_drop_name (s->v.reason), s->p.length);
  CHECK (!memcmp (s->p.l3, d->bytes + d->l4 + 16, inner), "inner packet");
  CHECK (s->p.headroom >= FP_GTPU_REASSEMBLED_HEADROOM, "headroom %u", s->p.headroom);
  memset (s->p.l3 - s->p.headroom, 0x11, s->p.headroom); /* the host may write there */
}

static void
test_order (node_t *n)
{
  static const u32 orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 } };
  for (int outer = 0; outer < 2; outer++)
    for (u32 o = 0; o < 2; o++)
      {
	static datagram_t d;
	make (&d, outer, 1500, 2152);
	for (u32 i = 0; i < 3; i++)
	  {
	    u32 at = orders[o][i] * 600, left = d.length - d.l4 - at;
	    gshot_t s = send_piece (n, &d, at, left < 600 ? left : 600, (u16) (100 + o), i);
	    if (i < 2)
	      CHECK (s.v.action == FP_CONSUMED, "piece %u: action %u %s", i, s.v.action, fp_drop_name (s.v.reason));
	    else
	      check_inner (&s, &d);
	    gtpu_release (&s);
	  }
      }
  CHECK (counter (n, FP_C_GTPU_REASSEMBLED) == 4, "reassembled");
}

/* Before its first: held by the host, and named by fp_fragments_ready as soon as the first has come. */
static void
test_overtaking (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    {
      static datagram_t d;
      u64 cookies[8];
      u8 expired[8];
      make (&d, outer, 1500, 2152);
      for (u32 i = 0; i < 2; i++)
	{
	  u32 at = (2 - i) * 600, left = d.length - d.l4 - at;
	  gshot_t s = send_piece (n, &d, at, left < 600 ? left : 600, 200, 70 + i);
	  CHECK (s.v.action == FP_HOLD, "overtaking piece: action %u", s.v.action);
	  gtpu_release (&s);
	}
      CHECK (fp_fragments_ready (&n->worker[0], cookies, expired, 8) == 0, "ready before the first");
      gshot_t s = send_piece (n, &d, 0, 600, 200, 72);
      CHECK (s.v.action == FP_CONSUMED, "first: action %u", s.v.action);
      gtpu_release (&s);
      CHECK (fp_fragments_ready (&n->worker[0], cookies, expired, 8) == 2 && !expired[0] && !expired[1], "not ready");
      for (u32 i = 0; i < 2; i++)
	{
	  u32 at = cookies[i] == 70 ? 1200 : 600, left = d.length - d.l4 - at;
	  s = send_piece (n, &d, at, left < 600 ? left : 600, 200, cookies[i]);
	  if (i)
	    check_inner (&s, &d);
	  gtpu_release (&s);
	}
      /* without a first: given up */
      s = send_piece (n, &d, 600, 600, 201, 73);
      CHECK (s.v.action == FP_HOLD, "held");
      gtpu_release (&s);
      advance (n, 0.3);
      CHECK (fp_fragments_ready (&n->worker[0], cookies, expired, 8) == 1 && expired[0] && cookies[0] == 73, "not expired");
    }
}

static void
test_overlap (node_t *n)
{
  static datagram_t d;
  u32 left;
  gshot_t s;
  make (&d, 0, 1500, 2152);
  left = d.length - d.l4 - 1200;
  /* the same again: ignored */
  for (u32 i = 0; i < 2; i++)
    {
      s = send_piece (n, &d, 0, 600, 300, 0);
      CHECK (s.v.action == FP_CONSUMED, "repeated first: %u %s", s.v.action, fp_drop_name (s.v.reason));
      gtpu_release (&s);
      s = send_piece (n, &d, 600, 600, 300, 0);
      CHECK (s.v.action == FP_CONSUMED, "repeated second: %u", s.v.action);
      gtpu_release (&s);
    }
  s = send_piece (n, &d, 1200, left, 300, 0);
  check_inner (&s, &d);
  gtpu_release (&s);
  /* overlapping by eight bytes, and with other bytes: the datagram is given up */
  for (u32 how = 0; how < 3; how++)
    {
      u16 id = (u16) (301 + how);
      s = send_piece (n, &d, 0, 600, id, 0);
      gtpu_release (&s);
      if (how == 1)
	d.bytes[20 + 300] ^= 1;
      s = how == 2 ? send_piece (n, &d, 0, 608, id, 0) : send_piece (n, &d, how ? 0 : 592, 600, id, 0);
      CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_GTPU_FRAGMENT, "overlap %u: action %u", how, s.v.action);
      gtpu_release (&s);
      if (how == 1)
	d.bytes[20 + 300] ^= 1;
      s = send_piece (n, &d, 600, 600, id, 0);
      CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_GTPU_FRAGMENT, "after an overlap: action %u", s.v.action);
      gtpu_release (&s);
    }
  /* a last one that ends before or behind what UDP says */
  make (&d, 0, 1500, 2152);
  s = send_piece (n, &d, 0, 600, 310, 0);
  gtpu_release (&s);
  d.length -= 8;
  s = send_piece (n, &d, 600, d.length - d.l4 - 600, 310, 0);
  CHECK (s.v.reason == FP_DROP_GTPU_FRAGMENT, "too short: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
  d.length += 8;
  s = send_piece (n, &d, 0, 600, 311, 0);
  gtpu_release (&s);
  d.length += 16;
  s = send_piece (n, &d, 600, d.length - d.l4 - 600, 311, 0);
  CHECK (s.v.reason == FP_DROP_GTPU_FRAGMENT, "too long: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
}

static void
test_limits (node_t *n)
{
  static datagram_t d;
  gshot_t s;
  u32 full = 0;
  advance (n, 10);
  fp_gtpu_expire (&n->worker[0]);
  CHECK (n->worker[0].gtpu->open <= 1, "%u datagrams left", n->worker[0].gtpu->open);
  make (&d, 0, 1500, 2152);
  for (u32 i = 0; i < FP_GTPU_DATAGRAMS + 8; i++)
    {
      s = send_piece (n, &d, 0, 600, (u16) (1000 + i), 0);
      full += s.v.reason == FP_DROP_GTPU_REASSEMBLY_FULL;
      gtpu_release (&s);
    }
  CHECK (full >= 8 && full <= 9, "%u refused", full);
  u64 expired = counter (n, FP_C_GTPU_REASSEMBLY_EXPIRED);
  advance (n, 2.1);
  s = send_piece (n, &d, 0, 600, 5000, 0); /* makes room itself */
  CHECK (s.v.action == FP_CONSUMED, "no room after the time-out: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
  CHECK (counter (n, FP_C_GTPU_REASSEMBLY_EXPIRED) - expired >= 63, "expired ones are not counted");
  /* late for its datagram */
  advance (n, 2.1);
  s = send_piece (n, &d, 600, 600, 5000, 9);
  CHECK (s.v.action == FP_HOLD, "late piece: action %u", s.v.action);
  gtpu_release (&s);

  /* the largest that is taken, and one byte more */
  for (u32 more = 0; more < 2; more++)
    {
      make (&d, 0, FP_GTPU_DATAGRAM_BYTES - 16 + more, 2152);
      for (u32 at = 0; at < d.length - d.l4; at += 1480)
	{
	  u32 left = d.length - d.l4 - at;
	  s = send_piece (n, &d, at, left < 1480 ? left : 1480, (u16) (6000 + more), 0);
	  if (more)
	    CHECK (s.v.reason == FP_DROP_GTPU_FRAGMENT, "too large: %s", fp_drop_name (s.v.reason));
	  else if (left <= 1480)
	    check_inner (&s, &d);
	  gtpu_release (&s);
	}
    }
}

/* Not GTP-U: the first fragment and those behind it go on to the Service kernel, which makes them known by its own table. */
static void
test_foreign (node_t *n)
{
  static datagram_t d;
  make (&d, 0, 1500, 53);
  u64 cookies[8];
  u8 expired[8], bytes[2048];
  gshot_t s = send_piece (n, &d, 600, 600, 400, 5);
  CHECK (s.v.action == FP_HOLD, "overtaking piece of someone else's: %u", s.v.action);
  gtpu_release (&s);
  s = send_piece (n, &d, 0, 600, 400, 0);
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_PASS, "first of someone else's: %u", s.v.action);
  gtpu_release (&s);
  u32 total = cut (&d, 0, 600, 400, bytes);
  fp_packet_t p = { .l3 = bytes, .contiguous = total, .length = total, .room = sizeof (bytes) };
  fp_verdict_t v;
  fp_service_vector (&n->worker[0], &p, &v, 1);
  CHECK (v.action == FP_FORWARD && v.way == FP_WAY_PASS, "Service kernel: %u", v.action);
  while (fp_fragments_ready (&n->worker[0], cookies, expired, 8))
    ;
  s = send_piece (n, &d, 600, 600, 400, 5);
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_PASS, "piece behind it: %u", s.v.action);
  gtpu_release (&s);
}

/* The UDP checksum covers what was put together. */
static void
test_checksum (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    {
      static datagram_t d;
      make (&d, outer, 1500, 2152);
      d.bytes[d.l4 + 700] ^= 0x10;
      gshot_t s = send_piece (n, &d, 0, 600, 500, 0);
      gtpu_release (&s);
      s = send_piece (n, &d, 600, d.length - d.l4 - 600, 500, 0);
      CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_GTPU_CHECKSUM, "changed on the way: %u", s.v.action);
      gtpu_release (&s);
    }
}

/* Without state nothing is reassembled, and nothing breaks. */
static void
test_without (void)
{
  node_t *n = gtpu_node ();
  static datagram_t d;
  free (n->worker[0].gtpu);
  n->worker[0].gtpu = NULL;
  make (&d, 0, 1500, 2152);
  gshot_t s = send_piece (n, &d, 0, 600, 500, 0);
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_PASS, "without state: %u", s.v.action);
  gtpu_release (&s);
  receive_expect (n, 0, "unknown TEID without state", "30 ff 0028 00003333 45000028 00010000 40114677 0a2d0002 c6336407 0001000200000000"
		  "0000000000000000 00000000", FP_DROP, FP_DROP_GTPU_TEID);
  gtpu_node_free (n);
}

int
main (void)
{
  node_t *n = gtpu_node ();
  test_order (n);
  test_overtaking (n);
  test_overlap (n);
  test_limits (n);
  test_foreign (n);
  test_checksum (n);
  gtpu_node_free (n);
  test_without ();
  puts ("ok: GTP-U fragments");
  return 0;
}

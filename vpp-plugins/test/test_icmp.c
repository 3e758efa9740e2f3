/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors: those that the dataplane sends, byte by byte, and those about translated flows, both ways. */
#include "fixture.h"

#define ICMP(six)   ((u8) ((six) ? 58 : 1))
#define HEADER(six) ((six) ? 40u : 20u)

static spec_t
udp_to (const char *src, const char *dst, u16 dport, u16 payload)
{
  return (spec_t){ .src = src, .dst = dst, .sport = 4000, .dport = dport, .proto = 17, .payload = payload };
}

/* The whole answer, written down independently: RFC 792, RFC 4443. */
static void
test_reject_bytes (int six)
{
  node_t *n = node_new ();
  for (u16 payload = 0; payload <= 1400; payload += 100)
    {
      spec_t spec = udp_to (POD[six], EMPTY[six], 80, payload);
      u8 bytes[2048], want[2048];
      shot_t s = { 0 };
      u32 length = build (bytes, &spec), added = HEADER (six) + 8, most = six ? 1280 : 576;
      u32 total = added + length > most ? most : added + length;
      spec_t answer = { .src = NODE[six], .dst = POD[six], .proto = ICMP (six), .icmp_type = six ? 1 : 3,
			.icmp_code = six ? 4 : 3, .payload = (u16) (total - added), .body = bytes, .df = 1 };
      build (want, &answer);
      if (six)
	want[0] = 0x6c; /* traffic class 0xc0 */
      else
	{
	  want[1] = 0xc0;
	  put16 (want + 10, 0);
	  put16 (want + 10, ~ref_sum (want, 20, 0) & 0xffff);
	}
      submit (n, 0, bytes, length, 2048, &s);
      CHECK (s.v.action == FP_REPLY && s.v.reason == FP_DROP_NO_ENDPOINT, "action %u", s.v.action);
      CHECK (s.p.length == total && s.p.contiguous == total, "answer has %u bytes, want %u", s.p.length, total);
      for (u32 i = 0; i < total; i++)
	CHECK (s.block[i] == want[i], "payload %u: byte %u is %02x, want %02x", payload, i, s.block[i], want[i]);
      release (&s);
      advance (n, 0.002);
    }
  node_free (n);
}

static void
test_never_about (int six)
{
  node_t *n = node_new ();
  u8 body[64];
  spec_t inner = udp_to (EMPTY[six], POD[six], 1, 4);
  build (body, &inner);
  const spec_t cases[] = {
    { .src = ROUTER[six], .dst = EMPTY[six], .proto = ICMP (six), .icmp_type = six ? 1 : 3, .payload = 56, .body = body },
    { .src = ROUTER[six], .dst = EMPTY[six], .proto = ICMP (six), .icmp_type = six ? 3 : 11, .payload = 56, .body = body },
    { .src = ROUTER[six], .dst = EMPTY[six], .proto = ICMP (six), .icmp_type = six ? 137 : 5, .payload = 56, .body = body },
    { .src = six ? "ff02::1" : "224.0.0.1", .dst = EMPTY[six], .dport = 80, .proto = 17, .payload = 4 },
    { .src = six ? "::" : "0.0.0.0", .dst = EMPTY[six], .dport = 80, .proto = 17, .payload = 4 },
    { .src = six ? "::1" : "127.0.0.1", .dst = EMPTY[six], .dport = 80, .proto = 17, .payload = 4 },
    { .src = six ? "ff02::1" : "255.255.255.255", .dst = EMPTY[six], .dport = 80, .proto = 17, .payload = 4 },
  };
  for (u32 i = 0; i < sizeof (cases) / sizeof (cases[0]); i++)
    {
      shot_t s = shoot (n, &cases[i]);
      CHECK (s.v.action == FP_DROP, "case %u: action %u", i, s.v.action);
      release (&s);
    }
  CHECK (counter (n, FP_C_ICMP_SENT) == 0, "sent %lu", counter (n, FP_C_ICMP_SENT));
  node_free (n);
}

/* 50 at once, then one for each millisecond; each worker has its own. */
static void
test_rate (int six)
{
  node_t *n = node_new ();
  spec_t spec = udp_to (POD[six], EMPTY[six], 80, 10);
  u32 sent[3] = { 0, 0, 0 };
  for (int phase = 0; phase < 3; phase++)
    {
      for (int i = 0; i < 200; i++)
	{
	  shot_t s = shoot_on (n, phase == 2, &spec);
	  sent[phase] += s.v.action == FP_REPLY;
	  CHECK (s.v.reason == FP_DROP_NO_ENDPOINT, "reason %u", s.v.reason);
	  release (&s);
	}
      if (phase == 0)
	advance (n, 0.010);
    }
  CHECK (sent[0] == 50 && sent[1] == 10 && sent[2] == 50, "sent %u, 10 ms later %u, other worker %u", sent[0], sent[1], sent[2]);
  CHECK (counter (n, FP_C_ICMP_LIMITED) == 600 - 110, "limited %lu", counter (n, FP_C_ICMP_LIMITED));
  node_free (n);
}

static void
test_no_source_no_room (int six)
{
  node_t *n = node_new ();
  spec_t spec = udp_to (POD[six], EMPTY[six], 80, 10);
  u8 bytes[256];
  u32 length = build (bytes, &spec), least = HEADER (six) + 8 + HEADER (six) + 8;
  for (u32 room = least - 1; room <= least; room++)
    {
      shot_t s = { 0 };
      submit (n, 0, bytes, length, room, &s);
      CHECK (s.v.action == (room < least ? FP_DROP : FP_REPLY), "room %u: action %u", room, s.v.action);
      release (&s);
    }
  fp_wire_config_t source = { .key = FP_CONFIG_ICMP_SOURCE, .index = six ? 6 : 4 };
  erase (n, FP_TABLE_CONFIG, &source);
  commit (n);
  advance (n, 0.1);
  expect (n, &spec, FP_DROP, FP_DROP_NO_ENDPOINT, "");
  CHECK (counter (n, FP_C_ICMP_UNSOURCED) == 1, "unsourced %lu", counter (n, FP_C_ICMP_UNSOURCED));
  node_free (n);
}

/* An error whose embedded packet is `inner`, cut at `keep` bytes, sent by `from` to `to`. Returns the shot. */
static shot_t
error_about (node_t *n, int six, const char *from, const char *to, const u8 *inner, u32 keep)
{
  spec_t spec = { .src = from, .dst = to, .proto = ICMP (six), .icmp_type = six ? 2 : 3, .icmp_code = six ? 0 : 4,
		  .payload = (u16) keep, .body = inner };
  return shoot (n, &spec);
}

/* The embedded packet of a translated error must be what its receiver sent, byte by byte, with the TTL of the packet that failed. (Half
 * of a TCP checksum cannot be kept right.) */
static void
check_embedded (const char *what, const shot_t *s, int six, const u8 *want, u32 keep, u8 proto)
{
  const u8 *embedded = s->block + HEADER (six) + 8;
  if (proto == 6 && keep == HEADER (six) + 17)
    keep--;
  for (u32 i = 0; i < keep; i++)
    CHECK (embedded[i] == want[i], "%s: embedded byte %u of %u is %02x, want %02x", what, i, keep, embedded[i], want[i]);
}

static void
test_translation (int six, u8 proto, int masqueraded)
{
  node_t *n = node_new ();
  const char *client = masqueraded ? OUTSIDE[six] : POD[six];
  const char *vip = masqueraded ? NODE[six] : WEB[six];
  u16 vport = masqueraded ? NODE_PORT : 80;
  spec_t request = { .src = client, .dst = vip, .sport = 4000, .dport = vport, .proto = proto, .tcp_flags = 2, .payload = 40 };
  u8 sent[256], answered[256];
  char ep[64], nat[64], want[160];
  u32 at = HEADER (six), address = six ? 16 : 4, source = six ? 8 : 12;

  shot_t fwd = shoot (n, &request);
  CHECK (fwd.v.action == FP_FORWARD, "request: %u", fwd.v.action);
  inet_ntop (six ? AF_INET6 : AF_INET, fwd.block + source, nat, sizeof (nat));
  inet_ntop (six ? AF_INET6 : AF_INET, fwd.block + source + address, ep, sizeof (ep));
  spec_t reply = { .src = ep, .dst = nat, .sport = (u16) get16 (fwd.block + at + 2), .dport = (u16) get16 (fwd.block + at),
		   .proto = proto, .tcp_flags = 18, .payload = 40 };
  shot_t rev = shoot (n, &reply);
  CHECK (rev.v.action == FP_FORWARD && rev.v.way == FP_WAY_REVERSE, "reply: %u", rev.v.action);
  request.ttl = reply.ttl = 63;
  build (sent, &request);
  build (answered, &reply);

  u32 whole = fwd.before_length;
  for (u32 keep = at + 8; keep <= whole; keep++)
    {
      /* about the request: from the endpoint or a router behind us, to the source of what we sent on */
      for (int router = 0; router < 2; router++)
	{
	  shot_t s = error_about (n, six, router ? ROUTER[six] : ep, nat, fwd.block, keep);
	  snprintf (want, sizeof (want), "%s > %s", vip, client);
	  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_REVERSE, "error about a request: action %u reason %s", s.v.action,
		 fp_drop_name (s.v.reason));
	  check_addresses ("error about a request", s.block, want);
	  check_embedded ("error about a request", &s, six, sent, keep, proto);
	  release (&s);
	}
      /* about the answer: from the client or a router before us, to the address it came from */
      for (int router = 0; router < 2; router++)
	{
	  shot_t s = error_about (n, six, router ? ROUTER[six] : client, vip, rev.block, keep);
	  snprintf (want, sizeof (want), "%s > %s", nat, ep);
	  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_FORWARD, "error about an answer: action %u reason %s", s.v.action,
		 fp_drop_name (s.v.reason));
	  check_addresses ("error about an answer", s.block, want);
	  check_embedded ("error about an answer", &s, six, answered, keep, proto);
	  release (&s);
	}
    }
  CHECK (counter (n, FP_C_ICMP_TRANSLATED) == 4 * (whole - at - 7), "translated %lu", counter (n, FP_C_ICMP_TRANSLATED));

  /* cut within the 8 bytes that RFC 792 promises */
  shot_t s = error_about (n, six, ep, nat, fwd.block, at + 7);
  CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_ICMP_EMBEDDED, "short: action %u", s.v.action);
  release (&s);
  /* its receiver never sent the embedded packet */
  s = error_about (n, six, ROUTER[six], POD2[six], fwd.block, whole);
  CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_ICMP_EMBEDDED, "wrong receiver: action %u", s.v.action);
  release (&s);
  /* about a flow that is none of ours: untouched */
  u8 other[256];
  spec_t foreign = { .src = POD2[six], .dst = OUTSIDE[six], .sport = 7, .dport = 9, .proto = proto, .payload = 30 };
  build (other, &foreign);
  s = error_about (n, six, ROUTER[six], POD2[six], other, at + 28);
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_PASS && memcmp (s.before, s.block, s.before_length) == 0, "foreign: action %u",
	 s.v.action);
  release (&s);
  /* a broken checksum is not spread into somebody's flow */
  spec_t error = { .src = ep, .dst = nat, .proto = ICMP (six), .icmp_type = six ? 1 : 3, .payload = (u16) whole, .body = fwd.block };
  u8 bytes[512];
  u32 length = build (bytes, &error);
  bytes[length - 1] ^= 1;
  memset (&s.p, 0, sizeof (s.p));
  submit (n, 0, bytes, length, length, &s);
  CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_CHECKSUM, "bad checksum: action %u", s.v.action);
  release (&s);
  /* left to a device: only IPv6 has addresses in the sum */
  error.partial = 1;
  s = shoot (n, &error);
  CHECK (s.v.action == FP_FORWARD, "partial: action %u reason %s", s.v.action, fp_drop_name (s.v.reason));
  release (&s);
  release (&fwd);
  release (&rev);
  node_free (n);
}

/* An embedded later fragment has no ports: it cannot be told whose it is, and is passed on. */
static void
test_embedded_fragment (int six)
{
  node_t *n = node_new ();
  u8 inner[256];
  spec_t fragment = { .src = NODE[six], .dst = EP1[six], .proto = 17, .payload = 64, .offset = 64, .id = 3 };
  u32 length = build (inner, &fragment);
  shot_t s = error_about (n, six, EP1[six], NODE[six], inner, length);
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_PASS, "action %u reason %s", s.v.action, fp_drop_name (s.v.reason));
  release (&s);
  node_free (n);
}

int
main (void)
{
  for (int six = 0; six < 2; six++)
    {
      test_reject_bytes (six);
      test_never_about (six);
      test_rate (six);
      test_no_source_no_room (six);
      for (u8 proto = 6; proto <= 17; proto += 11)
	for (int masqueraded = 0; masqueraded < 2; masqueraded++)
	  test_translation (six, proto, masqueraded);
      test_embedded_fragment (six);
    }
  puts ("ok: ICMP");
  return 0;
}

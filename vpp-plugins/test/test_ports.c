/* SPDX-License-Identifier: Apache-2.0 */
/* Source ports of masqueraded flows: from the configured ranges, reused per destination, never taken from a live session. */
#include "fixture.h"

static spec_t
client (int six, u16 sport, const char *vip, u16 vport, u8 proto, u8 flags)
{
  return (spec_t){ .src = OUTSIDE[six], .dst = vip, .sport = sport, .dport = vport, .proto = proto, .tcp_flags = flags, .payload = 4 };
}

static node_t *
node_with_ranges (const u16 (*ranges)[2], u32 count)
{
  node_t *n = node_new ();
  for (u32 i = 0; i < count; i++)
    put_config (n, FP_CONFIG_SNAT_PORT_RANGE, i, ranges[i][0] | (u64) ranges[i][1] << 16, NULL);
  commit (n);
  advance (n, 0.001);
  return n;
}

static u16
port_of (node_t *n, const spec_t *spec)
{
  shot_t s = shoot (n, spec);
  u16 port = s.v.action == FP_FORWARD ? (u16) get16 (s.block + (s.block[0] >> 4 == 6 ? 40 : 20)) : 0;
  CHECK (port || s.v.reason == FP_DROP_NO_PORT, "action %u reason %s", s.v.action, fp_drop_name (s.v.reason));
  release (&s);
  return port;
}

/* Every port of every range is used once for one destination, then none is left; another destination has them all again. */
static void
test_exhaustion (int six, u8 proto)
{
  static const u16 ranges[3][2] = { { 20000, 20009 }, { 30000, 30000 }, { 40000, 40008 } };
  node_t *n = node_with_ranges (ranges, 3);
  u8 used[65536] = { 0 };
  for (u16 i = 0; i < 20; i++)
    {
      spec_t spec = client (six, (u16) (100 + i), DNS[six], 53, proto, FP_TCP_SYN);
      u16 port = port_of (n, &spec);
      CHECK (port && !used[port]++, "flow %u got port %u", i, port);
    }
  for (u32 p = 0; p < 65536; p++)
    CHECK (used[p] == ((p >= 20000 && p <= 20009) || p == 30000 || (p >= 40000 && p <= 40008)), "port %u used %u times", p, used[p]);
  spec_t more = client (six, 500, DNS[six], 53, proto, FP_TCP_SYN);
  CHECK (port_of (n, &more) == 0, "a 21st flow got a port");
  CHECK (n->worker[0].counters->drop[FP_DROP_NO_PORT] == 1, "exhaustion is not counted");
  CHECK (counter (n, FP_C_SESSION_NEW) == 20, "%lu sessions", counter (n, FP_C_SESSION_NEW));
  more = client (six, 500, WEB[six], 80, proto, FP_TCP_SYN);
  CHECK (port_of (n, &more) != 0, "another destination found no port");

  /* known flows go on, and each has its own answer */
  for (u16 i = 0; i < 20; i++)
    {
      spec_t spec = client (six, (u16) (100 + i), DNS[six], 53, proto, FP_TCP_ACK);
      u16 port = port_of (n, &spec);
      spec_t reply = { .src = EP1[six], .dst = NODE[six], .sport = 5353, .dport = port, .proto = proto, .payload = 9 };
      expect (n, &reply, FP_FORWARD, 0, flow (DNS[six], 53, OUTSIDE[six], 100u + i));
    }
  node_free (n);
}

/* A SYN takes the port of a connection that is over; UDP gets one when a session has expired. */
static void
test_takeover (int six)
{
  static const u16 ranges[1][2] = { { 20000, 20000 } };
  node_t *n = node_with_ranges (ranges, 1);
  spec_t one = client (six, 100, DNS[six], 53, 6, FP_TCP_SYN), two = client (six, 101, DNS[six], 53, 6, FP_TCP_SYN);
  spec_t back = { .src = EP1[six], .dst = NODE[six], .sport = 5353, .dport = 20000, .proto = 6, .tcp_flags = FP_TCP_RST };
  CHECK (port_of (n, &one) == 20000 && port_of (n, &two) == 0, "one port, two flows");
  expect (n, &back, FP_FORWARD, 0, flow (DNS[six], 53, OUTSIDE[six], 100));
  spec_t data = client (six, 102, DNS[six], 53, 6, FP_TCP_ACK);
  CHECK (port_of (n, &data) == 0, "a flow in its middle took a port");
  CHECK (port_of (n, &two) == 20000, "a SYN did not take the port of a closed connection");
  CHECK (counter (n, FP_C_PORT_TAKEN_OVER) == 1, "taken over: %lu", counter (n, FP_C_PORT_TAKEN_OVER));
  back.tcp_flags = FP_TCP_SYN | FP_TCP_ACK;
  expect (n, &back, FP_FORWARD, 0, flow (DNS[six], 53, OUTSIDE[six], 101));

  spec_t u1 = client (six, 100, DNS[six], 53, 17, 0), u2 = client (six, 101, DNS[six], 53, 17, 0);
  CHECK (port_of (n, &u1) == 20000 && port_of (n, &u2) == 0, "UDP: one port, two flows");
  advance (n, 31);
  CHECK (port_of (n, &u2) == 20000, "UDP: the port of an expired session was not taken");
  node_free (n);
}

/* A large range, nearly used up: the search is bounded, and what it gives is free. */
static void
test_large_range (int six)
{
  fp_capacity_t c = { .sessions4 = 8192, .sessions6 = 8192, .fragments = 64, .services = 64, .frontends = 64, .endpoints = 64,
		      .prefixes = 64, .settings = 64 };
  node_t *n = node_new_sized (&c);
  static u8 used[65536];
  u32 got = 0;
  memset (used, 0, sizeof (used));
  for (u32 i = 0; i < 1000; i++)
    {
      spec_t spec = client (six, (u16) (1000 + i), DNS[six], 53, 17, 0);
      u16 port = port_of (n, &spec);
      CHECK (!port || (port >= SNAT_LOW && port <= SNAT_HIGH && !used[port]++), "port %u again", port);
      got += port != 0;
    }
  CHECK (got >= 950, "only %u of 1000 ports were found", got);
  node_free (n);
}

/* A client that talks from low ports (which are never chosen) to two Services of one pod: the second flow keeps its address and gets a port of its own. */
static void
test_kept_address (int six)
{
  node_t *n = node_new ();
  put_endpoint (n, six, ID_EMPTY_UDP, EP1[six], 5353, EP_FLAGS);
  commit (n);
  advance (n, 0.001);
  for (u32 i = 0; i < 300; i++)
    {
      spec_t spec = { .src = POD[six], .dst = DNS[six], .sport = (u16) (100 + i), .dport = 53, .proto = 17 };
      CHECK (port_of (n, &spec) == 100 + i, "port of a kept address was changed");
      spec.dst = EMPTY[six];
      spec.dport = 80;
      u16 port = port_of (n, &spec);
      CHECK (port >= 1024 && port != 100 + i, "second flow got port %u", port);
      spec_t reply = { .src = EP1[six], .dst = POD[six], .sport = 5353, .dport = port, .proto = 17 };
      expect (n, &reply, FP_FORWARD, 0, flow (EMPTY[six], 80, POD[six], 100 + i));
    }
  node_free (n);
}

int
main (void)
{
  for (int six = 0; six < 2; six++)
    {
      test_exhaustion (six, 6);
      test_exhaustion (six, 17);
      test_takeover (six);
      test_large_range (six);
      test_kept_address (six);
    }
  puts ("ok: source ports");
  return 0;
}

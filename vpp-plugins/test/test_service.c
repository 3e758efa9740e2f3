/* SPDX-License-Identifier: Apache-2.0 */
/* Services by kube-proxy's rules: which endpoint, which addresses, which verdict; both families, TCP and UDP. */
#include "fixture.h"

static const u8 PROTOS[2] = { 6, 17 };

static spec_t
packet (const char *src, u16 sport, const char *dst, u16 dport, u8 proto, u8 tcp_flags)
{
  return (spec_t){ .src = src, .dst = dst, .sport = sport, .dport = dport, .proto = proto,
		   .tcp_flags = proto == 6 ? tcp_flags : 0, .payload = 33 };
}

/* Begin a flow; its endpoint and source as they left. */
typedef struct
{
  const char *ep;
  char nat[64];
  u16 nport, eport;
} begun_t;

static begun_t
begin (node_t *n, const char *src, u16 sport, const char *dst, u16 dport, u8 proto)
{
  int six = is6 (src);
  spec_t spec = packet (src, sport, dst, dport, proto, FP_TCP_SYN);
  shot_t s = shoot (n, &spec);
  begun_t b = { NULL, "", 0, 0 };
  char ep[64];
  u32 l4 = six ? 40 : 20;
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_FORWARD, "flow to %s,%u: action %u, %s", dst, dport, s.v.action,
	 fp_drop_name (s.v.reason));
  inet_ntop (six ? AF_INET6 : AF_INET, s.block + (six ? 8 : 12), b.nat, sizeof (b.nat));
  inet_ntop (six ? AF_INET6 : AF_INET, s.block + (six ? 24 : 16), ep, sizeof (ep));
  b.ep = strcmp (ep, EP1[six]) == 0 ? EP1[six] : strcmp (ep, EP2[six]) == 0 ? EP2[six] : NULL;
  CHECK (b.ep, "unknown endpoint %s", ep);
  b.nport = (u16) get16 (s.block + l4);
  b.eport = (u16) get16 (s.block + l4 + 2);
  CHECK (s.block[six ? 7 : 8] == 63, "TTL is %u, want 63", s.block[six ? 7 : 8]);
  release (&s);
  return b;
}

/* The answer to a flow comes back from the address and port that the client has spoken to. */
static void
check_reply (node_t *n, const begun_t *b, const char *client, u16 cport, const char *vip, u16 vport, u8 proto)
{
  spec_t reply = packet (b->ep, b->eport, b->nat, b->nport, proto, FP_TCP_SYN | FP_TCP_ACK);
  expect (n, &reply, FP_FORWARD, 0, flow (vip, vport, client, cport));
}

static void
test_cluster_ip (int six, u8 proto)
{
  node_t *n = node_new ();
  for (u16 sport = 1000; sport < 1040; sport++)
    {
      begun_t b = begin (n, POD[six], sport, WEB[six], 80, proto);
      CHECK (strcmp (b.nat, POD[six]) == 0 && b.nport == sport, "source of a local pod was translated to %s", b.nat);
      CHECK (b.eport == 8080, "endpoint port %u", b.eport);
      spec_t again = packet (POD[six], sport, WEB[six], 80, proto, FP_TCP_ACK);
      expect (n, &again, FP_FORWARD, 0, flow (POD[six], sport, b.ep, 8080));
      check_reply (n, &b, POD[six], sport, WEB[six], 80, proto);
    }
  CHECK (counter (n, FP_C_SESSION_NEW) == 40, "40 flows made %lu sessions", counter (n, FP_C_SESSION_NEW));
  node_free (n);
}

static void
test_uniform (int six, u8 proto)
{
  node_t *n = node_new ();
  u32 first = 0, flows = 2000;
  for (u32 i = 0; i < flows; i++)
    first += begin (n, POD[six], (u16) (1000 + i), WEB[six], 80, proto).ep == EP1[six];
  CHECK (first > flows / 2 - 120 && first < flows / 2 + 120, "first endpoint got %u of %u flows", first, flows);
  node_free (n);
}

/* Rules a, b and d of the research (kube-proxy 1.6). */
static void
test_masquerade (int six, u8 proto)
{
  node_t *n = node_new ();
  const struct
  {
    const char *src, *dst;
    u16 dport;
    int masquerade;
    const char *rule;
  } cases[] = {
    { POD[six], WEB[six], 80, 0, "a: local pod to a ClusterIP" },
    { FAR_POD[six], WEB[six], 80, 1, "a: another node's pod to a ClusterIP" },
    { OUTSIDE[six], WEB[six], 80, 1, "a: from outside to a ClusterIP" },
    { NODE[six], WEB[six], 80, 1, "a: the node itself to a ClusterIP" },
    { POD[six], NODE[six], NODE_PORT, 1, "b: local pod to a node port" },
    { OUTSIDE[six], NODE[six], NODE_PORT, 1, "b: from outside to a node port" },
    { POD[six], EXTERNAL[six], 80, 1, "b: local pod to an external address" },
    { OUTSIDE[six], EXTERNAL[six], 80, 1, "b: from outside to an external address" },
    { EP1[six], DNS[six], 53, 1, "d: hairpin" },
  };
  for (u32 i = 0; i < sizeof (cases) / sizeof (cases[0]); i++)
    {
      begun_t b = begin (n, cases[i].src, 4321, cases[i].dst, cases[i].dport, proto);
      if (cases[i].masquerade)
	CHECK (strcmp (b.nat, NODE[six]) == 0 && b.nport >= SNAT_LOW && b.nport <= SNAT_HIGH, "%s: source is %s,%u",
	       cases[i].rule, b.nat, b.nport);
      else
	CHECK (strcmp (b.nat, cases[i].src) == 0 && b.nport == 4321, "%s: source is %s,%u", cases[i].rule, b.nat, b.nport);
      check_reply (n, &b, cases[i].src, 4321, cases[i].dst, cases[i].dport, proto);
    }
  put_config (n, FP_CONFIG_MASQUERADE_ALL, 0, 1, NULL);
  commit (n);
  begun_t b = begin (n, POD[six], 5555, WEB[six], 80, proto);
  CHECK (strcmp (b.nat, NODE[six]) == 0, "a: masqueradeAll: source is %s", b.nat);
  CHECK (counter (n, FP_C_MASQUERADED) == 9, "masqueraded sessions: %lu", counter (n, FP_C_MASQUERADED));
  node_free (n);
}

static void
test_known_ingress (int six)
{
  node_t *n = node_new ();
  spec_t spec = packet (OUTSIDE[six], 77, WEB[six], 80, 17, 0);
  u8 bytes[256];
  shot_t s = { 0 };
  u32 length = build (bytes, &spec);
  s.p.ingress = FP_CLASS_POD; /* by its interface the host knows better than the address table */
  submit (n, 0, bytes, length, length, &s);
  CHECK (s.v.action == FP_FORWARD && get16 (s.block + (six ? 40 : 20)) == 77, "source translated although it is a pod's");
  release (&s);
  node_free (n);
}

static void
test_verdicts (int six)
{
  node_t *n = node_new ();
  const struct
  {
    const char *dst;
    u16 dport;
    u8 proto, action, reason;
  } cases[] = {
    { EMPTY[six], 80, 6, FP_REPLY, FP_DROP_NO_ENDPOINT },
    { EMPTY[six], 80, 17, FP_REPLY, FP_DROP_NO_ENDPOINT },
    { EMPTY_DROP[six], 80, 6, FP_DROP, FP_DROP_NO_ENDPOINT_DROP },
    { WEB[six], 81, 6, FP_REPLY, FP_DROP_UNDEFINED_PORT },
    { WEB[six], 81, 17, FP_REPLY, FP_DROP_UNDEFINED_PORT },
    { DNS[six], 53, 132, FP_REPLY, FP_DROP_UNDEFINED_PORT }, /* any protocol */
    { DNS[six], 0, six ? 58 : 1, FP_REPLY, FP_DROP_UNDEFINED_PORT },
    { UNALLOCATED[six], 80, 6, FP_DROP, FP_DROP_UNALLOCATED },
    { UNALLOCATED[six], 0, six ? 58 : 1, FP_DROP, FP_DROP_UNALLOCATED },
    { EXTERNAL[six], 81, 6, FP_FORWARD, 0 }, /* not our address: only its port is ours */
    { EP1[six], 8080, 6, FP_FORWARD, 0 },
    { NODE[six], 22, 6, FP_FORWARD, 0 },
    { FAR_POD[six], NODE_PORT, 6, FP_FORWARD, 0 }, /* a node port needs an address of this node */
    { OUTSIDE[six], 0, 47, FP_FORWARD, 0 },
  };
  for (u32 i = 0; i < sizeof (cases) / sizeof (cases[0]); i++)
    {
      spec_t spec = packet (POD[six], 1234, cases[i].dst, cases[i].dport, cases[i].proto, FP_TCP_SYN);
      spec.icmp_type = six ? 128 : 8;
      shot_t s = shoot (n, &spec);
      CHECK (s.v.action == cases[i].action && s.v.reason == cases[i].reason, "to %s,%u protocol %u: action %u reason %s",
	     cases[i].dst, cases[i].dport, cases[i].proto, s.v.action, fp_drop_name (s.v.reason));
      if (s.v.action == FP_FORWARD)
	CHECK (s.v.way == FP_WAY_PASS && memcmp (s.before, s.block, s.before_length) == 0, "passed packet was changed");
      release (&s);
    }
  CHECK (counter (n, FP_C_SESSION_NEW) == 0, "a packet without endpoint left a session");
  node_free (n);
}

/* An endpoint appears, and the same flow that was rejected is served. */
static void
test_rejected_then_served (int six, u8 proto)
{
  node_t *n = node_new ();
  spec_t spec = packet (POD[six], 1234, EMPTY[six], 80, proto, FP_TCP_SYN);
  expect (n, &spec, FP_REPLY, FP_DROP_NO_ENDPOINT, "");
  put_endpoint (n, six, proto == 6 ? ID_EMPTY_TCP : ID_EMPTY_UDP, EP1[six], 99, EP_FLAGS);
  commit (n);
  advance (n, 0.001);
  expect (n, &spec, FP_FORWARD, 0, flow (POD[six], 1234, EP1[six], 99));
  node_free (n);
}

/* One client port talks to two Services that have the same pod and port behind them: two sessions, told apart on the way back. */
static void
test_two_services_one_pod (int six, u8 proto)
{
  node_t *n = node_new ();
  u64 id = proto == 6 ? ID_EMPTY_TCP : ID_EMPTY_UDP;
  put_endpoint (n, six, id, EP1[six], 5353, EP_FLAGS);
  commit (n);
  advance (n, 0.001);
  begun_t one = begin (n, POD[six], 1234, DNS[six], 53, proto);
  begun_t two = begin (n, POD[six], 1234, EMPTY[six], 80, proto);
  CHECK (one.nport == 1234, "first flow's port was changed");
  CHECK (strcmp (two.nat, POD[six]) == 0 && two.nport != 1234 && two.nport >= 1024, "second flow comes from %s,%u", two.nat,
	 two.nport);
  check_reply (n, &one, POD[six], 1234, DNS[six], 53, proto);
  check_reply (n, &two, POD[six], 1234, EMPTY[six], 80, proto);
  node_free (n);
}

static void
test_node_without_snat (int six)
{
  node_t *n = node_new ();
  fp_wire_config_t address = { .key = FP_CONFIG_SNAT_ADDRESS, .index = six ? 6 : 4 };
  erase (n, FP_TABLE_CONFIG, &address);
  commit (n);
  advance (n, 0.001);
  spec_t spec = packet (OUTSIDE[six], 1, WEB[six], 80, 6, FP_TCP_SYN);
  expect (n, &spec, FP_DROP, FP_DROP_NO_SNAT_ADDRESS, "");
  spec.src = POD[six]; /* needs none */
  expect (n, &spec, FP_FORWARD, 0, "");
  node_free (n);
}

static void
test_table_full (int six)
{
  fp_capacity_t c = { .sessions4 = 64, .sessions6 = 64, .fragments = 64, .services = 64, .frontends = 64, .endpoints = 64,
		      .prefixes = 64, .settings = 64 };
  node_t *n = node_new_sized (&c);
  u32 made = 0, full = 0;
  for (u16 sport = 1; sport <= 400; sport++)
    {
      spec_t spec = packet (POD[six], sport, WEB[six], 80, 17, 0);
      shot_t s = shoot (n, &spec);
      made += s.v.action == FP_FORWARD;
      full += s.v.action == FP_DROP && s.v.reason == FP_DROP_SESSION_TABLE_FULL;
      release (&s);
    }
  CHECK (made >= 64 && made + full == 400 && full > 0, "made %u, refused %u", made, full);
  spec_t old = packet (POD[six], 1, WEB[six], 80, 17, 0);
  expect (n, &old, FP_FORWARD, 0, ""); /* known flows go on */
  advance (n, 31);
  for (int i = 0; i < 64; i++)
    {
      fp_sessions_age (&n->worker[0], 4096);
      fp_sessions_age (&n->worker[1], 4096);
      advance (n, 0.01);
    }
  spec_t later = packet (POD[six], 9999, WEB[six], 80, 17, 0);
  expect (n, &later, FP_FORWARD, 0, ""); /* there is room again */
  node_free (n);
}

/* Several VRFs keep the same addresses apart. */
static void
test_vrf (int six)
{
  node_t *n = node_new ();
  spec_t spec = packet (POD[six], 1234, WEB[six], 80, 17, 0);
  u8 bytes[256];
  shot_t s = { 0 };
  u32 length = build (bytes, &spec);
  s.p.vrf = 7;
  submit (n, 0, bytes, length, length, &s);
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_PASS, "a frontend of VRF 0 served VRF 7");
  release (&s);
  node_free (n);
}

int
main (void)
{
  for (int six = 0; six < 2; six++)
    {
      for (int i = 0; i < 2; i++)
	{
	  test_cluster_ip (six, PROTOS[i]);
	  test_uniform (six, PROTOS[i]);
	  test_masquerade (six, PROTOS[i]);
	  test_rejected_then_served (six, PROTOS[i]);
	  test_two_services_one_pod (six, PROTOS[i]);
	}
      test_known_ingress (six);
      test_verdicts (six);
      test_node_without_snat (six);
      test_table_full (six);
      test_vrf (six);
    }
  puts ("ok: services");
  return 0;
}

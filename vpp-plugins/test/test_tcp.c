/* SPDX-License-Identifier: Apache-2.0 */
/* The life of sessions: TCP states and time-outs, both directions on one worker or on two; what a change of endpoints does to them. */
#include "fixture.h"

enum
{
  F = FP_TCP_FIN,
  S = FP_TCP_SYN,
  R = FP_TCP_RST,
  A = FP_TCP_ACK,
};

static spec_t
segment (const char *src, u16 sport, const char *dst, u16 dport, u8 proto, u8 flags)
{
  return (spec_t){ .src = src, .dst = dst, .sport = sport, .dport = dport, .proto = proto, .tcp_flags = flags, .payload = 10 };
}

/* `life` of the session of a flow from POD, or 0. */
static u64
life_of (node_t *n, int six, u16 sport, const char *dst, u16 dport, u8 proto)
{
  fp_session_key_t k;
  u8 a[16], b[16];
  fp_sref_t ref;
  put_address (a, POD[six]);
  put_address (b, dst);
  memset (&k, 0, sizeof (k));
  if (six)
    {
      k.v6 = (fp_key6_t){ .sport = htons (sport), .dport = htons (dport), .proto = proto };
      memcpy (k.v6.src, a, 16);
      memcpy (k.v6.dst, b, 16);
      ref = fp_session6_find (&n->region, &k.v6, fp_key6_hash (&n->region, &k.v6));
    }
  else
    {
      k.v4 = (fp_key4_t){ .src = fp_load32 (a), .dst = fp_load32 (b), .sport = htons (sport), .dport = htons (dport),
			  .proto = proto };
      ref = fp_session4_find (&n->region, &k.v4, fp_key4_hash (&n->region, &k.v4));
    }
  return ref.found ? *fp_session_life (fp_session_at (fp_session_table (&n->region, six), six, ref.slot), six) : 0;
}

typedef struct
{
  u8 reverse, flags;
  enum fp_tcp_state state;
  u32 seconds; /* time-out from then on */
} step_t;

/* DNS has one endpoint, so both directions are known beforehand. */
static void
run_life (const char *what, int six, const step_t *steps, u32 count, int reverse_worker)
{
  node_t *n = node_new ();
  for (u32 i = 0; i < count; i++)
    {
      spec_t spec = steps[i].reverse ? segment (EP1[six], 5353, POD[six], 4000, 6, steps[i].flags)
				     : segment (POD[six], 4000, DNS[six], 53, 6, steps[i].flags);
      advance (n, 0.5);
      expect_on (n, steps[i].reverse ? reverse_worker : 0, &spec, FP_FORWARD, 0,
		 steps[i].reverse ? flow (DNS[six], 53, POD[six], 4000) : flow (POD[six], 4000, EP1[six], 5353));
      u64 life = life_of (n, six, 4000, DNS[six], 53, 6);
      u32 left = fp_life_expiry (life) - n->worker[0].tick, full = FP_TICKS (steps[i].seconds);
      CHECK (fp_tcp_state (fp_life_state (life)) == steps[i].state, "%s, step %u: state %u, want %u", what, i,
	     fp_tcp_state (fp_life_state (life)), steps[i].state);
      CHECK (left <= full && left >= full - full / 8 - 1, "%s, step %u: %u ticks left of %u", what, i, left, full);
    }
  CHECK (counter (n, FP_C_SESSION_NEW) == 1, "%s: %lu sessions", what, counter (n, FP_C_SESSION_NEW));
  node_free (n);
}

#define DAY 86400
#define RUN(what, ...)                                                                                         \
  do                                                                                                           \
    {                                                                                                          \
      const step_t steps[] = { __VA_ARGS__ };                                                                  \
      for (int w = 0; w < 2; w++)                                                                              \
	run_life (what, six, steps, sizeof (steps) / sizeof (steps[0]), w);                                    \
    }                                                                                                          \
  while (0)
#define OPEN                                                                                                   \
  { 0, S, FP_TCP_SYN_SENT, 120 }, { 1, S | A, FP_TCP_SYN_RECV, 60 }, { 0, A, FP_TCP_ESTABLISHED, DAY }

static void
test_lives (int six)
{
  RUN ("client closes first", OPEN, { 0, F | A, FP_TCP_FIN_WAIT, 120 }, { 1, A, FP_TCP_CLOSE_WAIT, 3600 },
       { 1, A, FP_TCP_CLOSE_WAIT, 3600 }, { 1, F | A, FP_TCP_LAST_ACK, 30 }, { 0, A, FP_TCP_TIME_WAIT, 120 });
  RUN ("endpoint closes first", OPEN, { 1, F | A, FP_TCP_FIN_WAIT, 120 }, { 0, A, FP_TCP_CLOSE_WAIT, 3600 },
       { 0, F | A, FP_TCP_LAST_ACK, 30 }, { 1, A, FP_TCP_TIME_WAIT, 120 });
  RUN ("both at once", OPEN, { 0, F | A, FP_TCP_FIN_WAIT, 120 }, { 1, F | A, FP_TCP_LAST_ACK, 30 },
       { 0, A, FP_TCP_TIME_WAIT, 120 });
  RUN ("FIN sent again", OPEN, { 0, F | A, FP_TCP_FIN_WAIT, 120 }, { 0, F | A, FP_TCP_FIN_WAIT, 120 },
       { 1, A, FP_TCP_CLOSE_WAIT, 3600 });
  RUN ("reset by the endpoint", { 0, S, FP_TCP_SYN_SENT, 120 }, { 1, R | A, FP_TCP_CLOSE, 10 });
  RUN ("reset by the client", OPEN, { 0, R, FP_TCP_CLOSE, 10 });
  RUN ("SYN sent again", { 0, S, FP_TCP_SYN_SENT, 120 }, { 0, S, FP_TCP_SYN_SENT, 120 }, { 1, S | A, FP_TCP_SYN_RECV, 60 },
       { 0, S, FP_TCP_SYN_RECV, 60 }, { 1, S | A, FP_TCP_SYN_RECV, 60 }, { 0, A, FP_TCP_ESTABLISHED, DAY });
  RUN ("challenge instead of SYN+ACK", { 0, S, FP_TCP_SYN_SENT, 120 }, { 1, A, FP_TCP_SYN_SENT, 120 });
  RUN ("taken up in the middle", { 0, A, FP_TCP_SYN_SENT, 120 }, { 1, A, FP_TCP_ESTABLISHED, DAY });
}

static void
test_udp_times (int six)
{
  node_t *n = node_new ();
  spec_t query = segment (POD[six], 4000, DNS[six], 53, 17, 0), answer = segment (EP1[six], 5353, POD[six], 4000, 17, 0);
  expect (n, &query, FP_FORWARD, 0, "");
  CHECK (fp_life_expiry (life_of (n, six, 4000, DNS[six], 53, 17)) - n->worker[0].tick == FP_TICKS (30), "unanswered: not 30 s");
  expect_on (n, 1, &answer, FP_FORWARD, 0, flow (DNS[six], 53, POD[six], 4000));
  CHECK (fp_life_expiry (life_of (n, six, 4000, DNS[six], 53, 17)) - n->worker[0].tick == FP_TICKS (120), "answered: not 120 s");
  node_free (n);
}

/* A hit stores nothing until an eighth of the time-out has passed. */
static void
test_quiet_hits (int six)
{
  node_t *n = node_new ();
  spec_t query = segment (POD[six], 4000, DNS[six], 53, 17, 0);
  expect (n, &query, FP_FORWARD, 0, "");
  u64 life = life_of (n, six, 4000, DNS[six], 53, 17);
  advance (n, 3.5);
  expect (n, &query, FP_FORWARD, 0, "");
  CHECK (life_of (n, six, 4000, DNS[six], 53, 17) == life, "a hit after 3.5 of 30 s stored something");
  advance (n, 0.5);
  expect (n, &query, FP_FORWARD, 0, "");
  CHECK (life_of (n, six, 4000, DNS[six], 53, 17) != life, "a hit after 4 of 30 s refreshed nothing");
  node_free (n);
}

/* Idle for longer than its time-out: a new flow with a new choice, whether or not the ageing worker has come by. */
static void
test_expiry (int six, int aged)
{
  node_t *n = node_new ();
  spec_t query = segment (POD[six], 4000, DNS[six], 53, 17, 0);
  expect (n, &query, FP_FORWARD, 0, "");
  advance (n, 31);
  for (int i = 0; aged && i < 8; i++)
    {
      fp_sessions_age (&n->worker[0], 1024);
      fp_sessions_age (&n->worker[1], 1024);
    }
  CHECK (!aged || life_of (n, six, 4000, DNS[six], 53, 17) == 0, "an expired session was not removed");
  expect (n, &query, FP_FORWARD, 0, "");
  CHECK (counter (n, FP_C_SESSION_NEW) == 2, "%lu sessions", counter (n, FP_C_SESSION_NEW));
  node_free (n);
}

/* A SYN on a connection that is over begins another one; on a living one it is passed on. */
static void
test_port_reuse (int six)
{
  static const step_t closed[] = { OPEN, { 0, F | A, 0, 0 }, { 1, F | A, 0, 0 }, { 0, A, 0, 0 } };
  static const step_t reset[] = { OPEN, { 1, R, 0, 0 } };
  static const step_t open[] = { OPEN };
  const struct
  {
    const step_t *steps;
    u32 count, sessions;
  } cases[] = { { closed, 6, 2 }, { reset, 4, 2 }, { open, 3, 1 } };
  for (u32 c = 0; c < 3; c++)
    {
      node_t *n = node_new ();
      for (u32 i = 0; i < cases[c].count; i++)
	{
	  const step_t *t = &cases[c].steps[i];
	  spec_t spec = t->reverse ? segment (EP1[six], 5353, POD[six], 4000, 6, t->flags)
				   : segment (POD[six], 4000, DNS[six], 53, 6, t->flags);
	  expect (n, &spec, FP_FORWARD, 0, "");
	}
      spec_t syn = segment (POD[six], 4000, DNS[six], 53, 6, S);
      expect (n, &syn, FP_FORWARD, 0, flow (POD[six], 4000, EP1[six], 5353));
      CHECK (counter (n, FP_C_SESSION_NEW) == cases[c].sessions, "case %u: %lu sessions", c, counter (n, FP_C_SESSION_NEW));
      node_free (n);
    }
}

/* What cannot begin a flow is dropped, nothing is stored. */
static void
test_bad_beginnings (int six)
{
  node_t *n = node_new ();
  const u8 flags[] = { F, F | A, R, R | A, S | A, S | F, S | R, 8 /* PSH alone */, S | F | A | R };
  for (u32 i = 0; i < sizeof (flags); i++)
    {
      spec_t spec = segment (POD[six], (u16) (100 + i), DNS[six], 53, 6, flags[i]);
      expect (n, &spec, FP_DROP, FP_DROP_BAD_STATE, "");
    }
  CHECK (counter (n, FP_C_SESSION_NEW) == 0, "%lu sessions", counter (n, FP_C_SESSION_NEW));
  node_free (n);
}

static void
open_flow (node_t *n, int six, u16 sport, u8 proto, char *ep)
{
  spec_t spec = segment (POD[six], sport, WEB[six], 80, proto, S);
  shot_t s = shoot (n, &spec);
  CHECK (s.v.action == FP_FORWARD, "flow %u: action %u", sport, s.v.action);
  inet_ntop (six ? AF_INET6 : AF_INET, s.block + (six ? 24 : 16), ep, 64);
  release (&s);
  spec = segment (ep, 8080, POD[six], sport, proto, S | A);
  expect (n, &spec, FP_FORWARD, 0, flow (WEB[six], 80, POD[six], sport));
}

/* An endpoint goes: established TCP flows keep it; UDP flows and unanswered SYNs move; without any other endpoint all stay. */
static void
test_endpoint_change (int six, int how)
{
  for (int last = 0; last < 2; last++)
    {
      node_t *n = node_new ();
      char tcp[16][64], udp[16][64];
      if (last)
	{
	  delete_endpoint (n, six, ID_WEB_TCP, EP2[six], 8080);
	  delete_endpoint (n, six, ID_WEB_UDP, EP2[six], 8080);
	  commit (n);
	  advance (n, 0.001);
	}
      for (u16 i = 0; i < 16; i++)
	{
	  open_flow (n, six, (u16) (100 + i), 6, tcp[i]);
	  open_flow (n, six, (u16) (100 + i), 17, udp[i]);
	  spec_t ack = segment (POD[six], (u16) (100 + i), WEB[six], 80, 6, A);
	  expect (n, &ack, FP_FORWARD, 0, "");
	}
      spec_t syn = segment (POD[six], 999, WEB[six], 80, 6, S);
      char syn_ep[160];
      shot_t s = shoot (n, &syn);
      show (s.block, syn_ep, sizeof (syn_ep));
      release (&s);

      if (how == 0)
	{
	  delete_endpoint (n, six, ID_WEB_TCP, EP1[six], 8080);
	  delete_endpoint (n, six, ID_WEB_UDP, EP1[six], 8080);
	}
      else /* still there, no longer serving */
	{
	  put_endpoint (n, six, ID_WEB_TCP, EP1[six], 8080, 0);
	  put_endpoint (n, six, ID_WEB_UDP, EP1[six], 8080, 0);
	}
      commit (n);
      advance (n, 0.001);
      for (u16 i = 0; i < 16; i++)
	{
	  spec_t more = segment (POD[six], (u16) (100 + i), WEB[six], 80, 6, A);
	  expect (n, &more, FP_FORWARD, 0, flow (POD[six], 100u + i, tcp[i], 8080));
	  more = segment (POD[six], (u16) (100 + i), WEB[six], 80, 17, 0);
	  expect (n, &more, FP_FORWARD, 0, flow (POD[six], 100u + i, last ? EP1[six] : EP2[six], 8080));
	}
      expect (n, &syn, FP_FORWARD, 0, last ? syn_ep : flow (POD[six], 999, EP2[six], 8080));
      u64 restarted = counter (n, FP_C_UDP_RESTARTED), moved = 0;
      for (u32 i = 0; i < 16; i++)
	moved += !last && strcmp (udp[i], EP1[six]) == 0;
      CHECK (restarted == moved, "restarted %lu UDP flows, want %lu", restarted, moved);
      if (last) /* new flows find nobody */
	{
	  spec_t fresh = segment (POD[six], 5000, WEB[six], 80, 17, 0);
	  expect (n, &fresh, FP_REPLY, FP_DROP_NO_ENDPOINT, "");
	}
      node_free (n);
    }
}

/* A Service goes: established TCP flows go on, and their answers are still translated. */
static void
test_service_deleted (int six)
{
  node_t *n = node_new ();
  char ep[64];
  open_flow (n, six, 100, 6, ep);
  spec_t ack = segment (POD[six], 100, WEB[six], 80, 6, A), back = segment (ep, 8080, POD[six], 100, 6, A);
  expect (n, &ack, FP_FORWARD, 0, "");
  fp_wire_frontend_t f[] = { frontend_record (six, WEB[six], 80, 6, ID_WEB_TCP, 0),
			     frontend_record (six, EXTERNAL[six], 80, 6, ID_WEB_TCP, 2),
			     frontend_record (six, NULL, NODE_PORT, 6, ID_WEB_TCP, 1) };
  for (u32 i = 0; i < 3; i++)
    erase (n, FP_TABLE_FRONTEND, &f[i]);
  delete_endpoint (n, six, ID_WEB_TCP, EP1[six], 8080);
  delete_endpoint (n, six, ID_WEB_TCP, EP2[six], 8080);
  commit (n);
  u64 id = ID_WEB_TCP + (u64) six;
  erase (n, FP_TABLE_SERVICE, &id);
  n->service_gone = 1;
  commit (n);
  advance (n, 0.01);
  expect (n, &ack, FP_FORWARD, 0, flow (POD[six], 100, ep, 8080));
  expect (n, &back, FP_FORWARD, 0, flow (WEB[six], 80, POD[six], 100));
  node_free (n);
}

int
main (void)
{
  for (int six = 0; six < 2; six++)
    {
      test_lives (six);
      test_udp_times (six);
      test_quiet_hits (six);
      test_expiry (six, 0);
      test_expiry (six, 1);
      test_port_reuse (six);
      test_bad_beginnings (six);
      test_endpoint_change (six, 0);
      test_endpoint_change (six, 1);
      test_service_deleted (six);
    }
  puts ("ok: session life");
  return 0;
}

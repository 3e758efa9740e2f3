/* SPDX-License-Identifier: Apache-2.0 */
/* Two workers in threads of their own: the same SYNs on both at once, then forward on one and reverse on the other through the whole
 * TCP life. Also run under ThreadSanitizer. */
#include <pthread.h>

#include "fixture.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FLOWS 25000 /* ten times slower there */
#endif
#endif
#ifndef FLOWS
#define FLOWS 100000
#endif
#define VECTOR 64

typedef struct
{
  node_t *n;
  int worker, six;
  const u8 *flags; /* TCP flags of each step */
  u32 steps;
  int reverse; /* this thread sends the endpoints' segments */
  char (*outcome)[48]; /* per flow: the addresses and ports that the first step left with, as they lie in the packet */
  pthread_barrier_t *barrier;
} task_t;

static u32
build_flow (u8 *h, const task_t *t, u32 flow_number, u8 flags)
{
  char src[64];
  u32 host = flow_number % 200 + 10;
  snprintf (src, sizeof (src), t->six ? "fd00:10:1::%x" : "10.1.0.%u", host);
  spec_t spec = { .src = src, .dst = WEB[t->six], .sport = (u16) (1024 + flow_number / 200), .dport = 80, .proto = 6,
		  .tcp_flags = flags, .payload = 6 };
  return build (h, &spec);
}

/* The endpoint's segment of a flow, from what the flow left with. */
static u32
build_answer (u8 *h, const task_t *t, u32 flow_number, u8 flags)
{
  const u8 *o = (const u8 *) t->outcome[flow_number];
  u32 size = t->six ? 16 : 4;
  char src[64], dst[64];
  inet_ntop (t->six ? AF_INET6 : AF_INET, o + size, src, sizeof (src));
  inet_ntop (t->six ? AF_INET6 : AF_INET, o, dst, sizeof (dst));
  spec_t spec = { .src = src, .dst = dst, .sport = (u16) get16 (o + 2 * size + 2), .dport = (u16) get16 (o + 2 * size), .proto = 6,
		  .tcp_flags = flags, .payload = 6 };
  return build (h, &spec);
}

static void *
run_task (void *arg)
{
  task_t *t = arg;
  fp_worker_t *w = &t->n->worker[t->worker];
  static _Thread_local u8 blocks[VECTOR][128];
  fp_packet_t p[VECTOR];
  fp_verdict_t v[VECTOR];
  u32 l4 = t->six ? 40 : 20, at = t->six ? 8 : 12;

  fp_worker_wake (w);
  for (u32 step = 0; step < t->steps; step++)
    {
      pthread_barrier_wait (t->barrier);
      for (u32 from = 0; from < FLOWS; from += VECTOR)
	{
	  u32 count = FLOWS - from < VECTOR ? FLOWS - from : VECTOR;
	  memset (p, 0, sizeof (p));
	  for (u32 i = 0; i < count; i++)
	    {
	      p[i].l3 = blocks[i];
	      p[i].contiguous = p[i].length = t->reverse ? build_answer (blocks[i], t, from + i, t->flags[step])
							 : build_flow (blocks[i], t, from + i, t->flags[step]);
	      p[i].room = sizeof (blocks[i]);
	    }
	  fp_worker_quiescent (w, t->n->now);
	  fp_service_vector (w, p, v, count);
	  for (u32 i = 0; i < count; i++)
	    {
	      CHECK (v[i].action == FP_FORWARD && v[i].way == (t->reverse ? FP_WAY_REVERSE : FP_WAY_FORWARD),
		     "flow %u step %u: action %u reason %s", from + i, step, v[i].action, fp_drop_name (v[i].reason));
	      check_checksums ("flow", blocks[i], p[i].length, 0);
	      if (t->flags[step] == FP_TCP_SYN)
		{
		  u32 size = t->six ? 32 : 8;
		  memcpy (t->outcome[from + i], blocks[i] + at, size);
		  memcpy (t->outcome[from + i] + size, blocks[i] + l4, 4);
		}
	    }
	}
    }
  fp_worker_sleep (w);
  return NULL;
}

static void
run_pair (task_t *a, task_t *b)
{
  pthread_t threads[2];
  pthread_barrier_t barrier;
  pthread_barrier_init (&barrier, NULL, 2);
  a->barrier = b->barrier = &barrier;
  pthread_create (&threads[0], NULL, run_task, a);
  pthread_create (&threads[1], NULL, run_task, b);
  pthread_join (threads[0], NULL);
  pthread_join (threads[1], NULL);
  pthread_barrier_destroy (&barrier);
}

static void
test_family (int six)
{
  fp_capacity_t c = { .sessions4 = six ? 64 : 2 * FLOWS, .sessions6 = six ? 2 * FLOWS : 64, .fragments = 64, .services = 64,
		      .frontends = 64, .endpoints = 64, .prefixes = 64, .settings = 64 };
  node_t *n = node_new_sized (&c);
  char(*outcome)[48] = calloc (2 * FLOWS, sizeof (*outcome)), (*other)[48] = outcome + FLOWS;
  static const u8 syn[] = { FP_TCP_SYN };
  /* handshake, data, the client closes, the endpoint closes; a side that has nothing to say acknowledges */
  static const u8 client[] = { FP_TCP_ACK, FP_TCP_ACK, FP_TCP_FIN | FP_TCP_ACK, FP_TCP_ACK, FP_TCP_ACK };
  static const u8 server[] = { FP_TCP_SYN | FP_TCP_ACK, FP_TCP_ACK, FP_TCP_ACK, FP_TCP_FIN | FP_TCP_ACK, FP_TCP_ACK };

  task_t a = { n, 0, six, syn, 1, 0, outcome, NULL }, b = { n, 1, six, syn, 1, 0, other, NULL };
  for (int i = 0; i < 2; i++)
    fp_worker_sleep (&n->worker[i]);
  run_pair (&a, &b);
  CHECK (counter (n, FP_C_SESSION_NEW) == FLOWS, "%u SYNs on two workers made %lu sessions", FLOWS, counter (n, FP_C_SESSION_NEW));
  for (u32 i = 0; i < FLOWS; i++)
    CHECK (memcmp (outcome[i], other[i], sizeof (*outcome)) == 0, "flow %u went two ways", i);

  a = (task_t){ n, 0, six, client, 5, 0, outcome, NULL };
  b = (task_t){ n, 1, six, server, 5, 1, outcome, NULL };
  run_pair (&a, &b);
  CHECK (counter (n, FP_C_SESSION_NEW) == FLOWS, "more sessions: %lu", counter (n, FP_C_SESSION_NEW));

  u32 over = 0;
  const fp_shared_table_t *t = fp_session_table (&n->region, six);
  for (u32 slot = 0; slot < t->capacity; slot++)
    {
      u64 life = *fp_session_life (fp_session_at (t, six, slot), six);
      if (fp_life_phase (life) == FP_PHASE_LIVE)
	over += fp_tcp_state (fp_life_state (life)) == FP_TCP_TIME_WAIT &&
		fp_life_expiry (life) - n->worker[0].tick == FP_TICKS (120);
    }
  CHECK (over == FLOWS, "%u of %u sessions are in TIME_WAIT", over, FLOWS);
  free (outcome);
  node_free (n);
}

int
main (void)
{
  for (int six = 0; six < 2; six++)
    test_family (six);
  printf ("ok: the same %u SYNs on two workers, and their whole life on both, in both families\n", FLOWS);
  return 0;
}

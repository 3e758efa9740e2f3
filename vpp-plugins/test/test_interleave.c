/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions under every interleaving with few preemptions: two or three threads, as coroutines, each of whose atomic
 * accesses is a place where another may go on. All schedules with up to `bound` preemptions are run, then random ones with many. (Memory is
 * sequentially consistent here; weaker orders are for the stress tests under ThreadSanitizer.)
 * After each: one session a flow, no word and no slot lost or given back twice, no reference that means a later session. */
#include <stdatomic.h>
#include <ucontext.h>

static void yield_here (void);

/* Every atomic access of the headers below is a place to be preempted at. */
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#define atomic_load_explicit(p, o)		(yield_here (), __atomic_load_n ((p), (o)))
#define atomic_store_explicit(p, v, o)		(yield_here (), __atomic_store_n ((p), (v), (o)))
#define atomic_exchange_explicit(p, v, o)	(yield_here (), __atomic_exchange_n ((p), (v), (o)))
#define atomic_fetch_add_explicit(p, v, o)	(yield_here (), __atomic_fetch_add ((p), (v), (o)))
#define atomic_compare_exchange_strong_explicit(p, e, d, s, f)                                                                  \
  (yield_here (), __atomic_compare_exchange_n ((p), (e), (d), 0, (s), (f)))
#define atomic_compare_exchange_weak_explicit(p, e, d, s, f) atomic_compare_exchange_strong_explicit (p, e, d, s, f)

/* Buckets are scanned by atomic loads, one a word; test_interleave_vector.c takes them as the machine does. */
#ifndef INTERLEAVE_VECTOR
#define FP_THREAD_SANITIZER 1
#endif
#define FP_STEP() yield_here ()

#include "tables.h"

#define THREADS 3
#define STACK	65536
#define SLOTS	12 /* four a worker, unless the scenario says less */
#define NOW	1000000000000ull
#define TICK	((u32) (NOW >> FP_TICK_SHIFT))
#define MOST	64 /* preemptions of one schedule */
#if defined(__SANITIZE_ADDRESS__)
#define BOUND  1 /* five times slower, and it looks for wrong accesses only */
#define RANDOM 4000
#else
#define BOUND  9
#define RANDOM 20000
#endif

/* ---- schedules ---- */

typedef struct
{
  u32 step, to;
} preemption_t;

typedef struct
{
  preemption_t at[MOST];
  u32 count;
} schedule_t;

static struct
{
  ucontext_t context;
  u8 done;
} thread[THREADS];
static ucontext_t home;
static u8 stack[THREADS][STACK] __attribute__ ((aligned (64)));
static schedule_t schedule;
static u32 threads, current, step, next_preemption, running, taken; /* taken: preemptions that another thread went on at */
static u64 runs;

/* ---- what the threads work on ---- */

typedef struct
{
  const char *name;
  u32 threads;
  void (*body[THREADS]) (u32 me);
  u32 flows; /* how many sessions must be there at the end; FP_NONE: not fixed */
  u32 few;	  /* worker + 1 that begins with a single slot, so that it reuses what it retires */
  u32 generation; /* that all slots begin with */
  u8 crowded; /* the buckets of the first flow are full: its words go into the overflow chain */
  u32 bound;
} scenario_t;

static const scenario_t *scenario;
static fp_region_t r;
static fp_worker_t worker[THREADS];
static struct
{
  fp_sref_t ref;
  u32 flow;
} made[THREADS * 4]; /* references that were handed out, and what flow they meant */
static u32 made_count;

static void
remember (fp_sref_t ref, u32 flow)
{
  CHECK (made_count < THREADS * 4, "room");
  made[made_count].ref = ref;
  made[made_count++].flow = flow;
}

static void
describe (void)
{
  running = 0;
  fprintf (stderr, "scenario \"%s\", schedule:", scenario->name);
  for (u32 i = 0; i < schedule.count; i++)
    fprintf (stderr, " %u->%u", schedule.at[i].step, schedule.at[i].to);
  fputc ('\n', stderr);
}

#define MUST(condition, ...)                                                                                                    \
  do                                                                                                                            \
    {                                                                                                                           \
      int must_hold = !!(condition);                                                                                            \
      if (!must_hold)                                                                                                           \
	describe ();                                                                                                            \
      CHECK (must_hold, #condition ": " __VA_ARGS__);                                                                           \
    }                                                                                                                           \
  while (0)

/* At most one LIVE session of each flow, at any moment. */
static void
check_unique (void)
{
  u32 was = running;
  running = 0;
  for (u32 a = 0; a < SLOTS; a++)
    for (u32 b = a + 1; b < SLOTS; b++)
      {
	fp_session4_t *x = fp_session4_at (&r, a), *y = fp_session4_at (&r, b);
	if (fp_life_phase (x->life) != FP_PHASE_LIVE || fp_life_phase (y->life) != FP_PHASE_LIVE)
	  continue;
	fp_key4_t kx, ky;
	fp_session4_key (x, 0, &kx);
	fp_session4_key (y, 0, &ky);
	MUST (memcmp (&kx, &ky, sizeof (kx)), "two sessions of one flow: slots %u and %u", a, b);
      }
  running = was;
}

static void
go_to (u32 to)
{
  u32 from = current;
  if (to == from || thread[to].done)
    return;
  check_unique ();
  taken++;
  current = to;
  swapcontext (&thread[from].context, &thread[to].context);
}

static void
yield_here (void)
{
  if (!running)
    return;
  step++;
  if (next_preemption < schedule.count && schedule.at[next_preemption].step == step)
    go_to (schedule.at[next_preemption++].to);
}

static void
thread_main (int me)
{
  scenario->body[me] ((u32) me);
  thread[me].done = 1;
  for (u32 i = 0; i < threads; i++)
    if (!thread[i].done)
      {
	current = i;
	setcontext (&thread[i].context);
      }
  setcontext (&home);
}

/* ---- state before each run ---- */

static struct
{
  void *at, *copy;
  size_t size;
} saved[16];
static u32 saved_count;

static void
save (void *at, size_t size)
{
  void *copy = malloc (size);
  memcpy (copy, at, size);
  saved[saved_count].at = at;
  saved[saved_count].copy = copy;
  saved[saved_count++].size = size;
}

static void
restore (void)
{
  for (u32 i = 0; i < saved_count; i++)
    memcpy (saved[i].at, saved[i].copy, saved[i].size);
  made_count = 0;
}

static void
save_table (enum fp_shared table, size_t record)
{
  fp_shared_table_t *t = &r.shared[table];
  save (t->index.buckets, ((size_t) t->index.mask + 1) * sizeof (fp_bucket_t));
  save (t->index.overflow, t->index.overflow_size * sizeof (fp_bucket_t));
  save (t->index.overflow_pool, sizeof (fp_pool_t) + t->index.overflow_size * sizeof (u64));
  save (t->records, t->capacity * record);
  save (t->pool, sizeof (fp_pool_t) + t->capacity * sizeof (u64));
}

/* ---- after each run ---- */

/* Words of the session table: two a session, none else (but those that fill the buckets). */
static void
check_words (u32 live)
{
  const fp_index_t *x = &r.shared[FP_SHARED_SESSION4].index;
  u32 words = 0, filler = 0;
  for (u64 p = 0; p < fp_index_positions (x); p++)
    {
      u64 w = *fp_index_at (x, p);
      filler += w && fp_word_slot (w) >= SLOTS;
      words += w && fp_word_slot (w) < SLOTS;
    }
  MUST (words == 2 * live, "%u words of %u sessions", words, live);
  MUST (filler == (scenario->crowded ? 2 * FP_BUCKET_WORDS : 0), "%u others", filler);
}

/* Every slot that is not LIVE can be had again, once. */
static void
check_slots (u32 live)
{
  u32 seen = 0, free = 0;
  for (u32 round = 0; round < 3; round++)
    for (u32 i = 0; i < threads; i++)
      fp_worker_quiescent (&worker[i], NOW);
  for (u32 i = 0; i < threads; i++)
    for (u32 slot; (slot = fp_session4_alloc (&worker[i])) != FP_NONE; free++)
      {
	MUST (slot < SLOTS && !(seen & 1u << slot), "slot %u twice", slot);
	MUST (fp_life_phase (fp_session4_at (&r, slot)->life) != FP_PHASE_LIVE, "slot %u is in use", slot);
	seen |= 1u << slot;
      }
  MUST (free + live == SLOTS, "%u free and %u live of %u", free, live, SLOTS);
  /* all of them again, by other flows: no reference of before may mean one of those */
  for (u32 slot = 0; slot < SLOTS; slot++)
    if (seen & 1u << slot)
      fp_session4_free (&worker[0], slot);
  u32 added = 0;
  fp_sref_t ref;
  while (added < free && insert4 (&worker[0], 60000 + added, added, TICK + 100, &ref) == FP_INSERTED)
    added++;
  MUST (added == free || scenario->crowded, "%u of %u", added, free);
  for (u32 i = 0; i < made_count; i++)
    {
      fp_session4_t *s = fp_session4_deref (&r, made[i].ref);
      fp_key4_t k;
      if (!s)
	continue;
      fp_session4_key (s, made[i].ref.dir, &k);
      MUST (s->client < 0x0a000000u + 60000, "a reference to flow %u means a later session (slot %u generation %u)", made[i].flow,
	    made[i].ref.slot, made[i].ref.gen);
    }
}

static void
check_end (void)
{
  u32 live = 0;
  for (u32 slot = 0; slot < SLOTS; slot++)
    {
      fp_session4_t *s = fp_session4_at (&r, slot);
      if (fp_life_phase (s->life) != FP_PHASE_LIVE)
	continue;
      live++;
      for (u8 dir = 0; dir < 2; dir++)
	{
	  fp_key4_t k;
	  fp_session4_key (s, dir, &k);
	  fp_sref_t ref = find4 (&r, &k);
	  MUST (ref.found && ref.slot == slot && ref.dir == dir, "slot %u direction %u is not found", slot, dir);
	}
    }
  MUST (scenario->flows == FP_NONE || live == scenario->flows, "%u sessions", live);
  u32 counted = 0;
  for (u32 i = 0; i < threads; i++)
    counted += (u32) r.counters[i].live[FP_SHARED_SESSION4];
  MUST (counted == live, "%u counted, %u live", counted, live);
  check_words (live);
  check_slots (live);
}

static void
start (u32 i)
{
  getcontext (&thread[i].context);
  thread[i].context.uc_stack.ss_sp = stack[i];
  thread[i].context.uc_stack.ss_size = STACK;
  thread[i].context.uc_link = &home;
  thread[i].done = 0;
  makecontext (&thread[i].context, (void (*) (void)) thread_main, 1, (int) i);
}

/* Returns the number of places at which a thread could have been preempted. */
static u32
run (void)
{
  restore ();
  for (u32 i = 0; i < threads; i++)
    start (i);
  step = next_preemption = current = taken = 0;
  running = 1;
  swapcontext (&home, &thread[0].context);
  running = 0;
  runs++;
  u32 steps = step;
  check_unique ();
  check_end ();
  return steps;
}

static void
explore (u32 depth, u32 from)
{
  u32 steps = run ();
  if (!depth || taken < schedule.count)
    return;
  for (u32 s = from; s <= steps; s++)
    for (u32 to = 0; to < threads; to++)
      {
	schedule.at[schedule.count++] = (preemption_t){ s, to };
	explore (depth - 1, s + 1);
	schedule.count--;
      }
}

static u64 seed = 88172645463325252ull;

static u32
random_below (u32 n)
{
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return (u32) ((seed >> 32) * n >> 32);
}

static void
explore_at_random (u32 times)
{
  while (times--)
    {
      u32 gap = 1 + random_below (40), at = 0;
      schedule.count = 0;
      while (schedule.count < MOST)
	schedule.at[schedule.count++] = (preemption_t){ at += 1 + random_below (gap), random_below (threads) };
      run ();
    }
  schedule.count = 0;
}

/* ---- bodies ---- */

/* Flow 1 with an endpoint; as the kernel does it: look, then insert. Returns whether it is there afterwards. */
static int
connect4 (u32 me, u32 flow, u32 pick, u32 expiry)
{
  fp_worker_t *w = &worker[me];
  fp_key4_t k = forward4 (flow);
  fp_worker_quiescent (w, NOW);
  fp_sref_t ref = find4 (&r, &k);
  if (!ref.found)
    {
      int rc = insert4 (w, flow, pick, expiry, &ref);
      MUST (rc == FP_INSERTED || rc == FP_EXISTS || rc == FP_FULL, "insert: %d", rc);
      if (rc == FP_FULL)
	return 0;
    }
  MUST (fp_session_has_key (fp_session4_at (&r, ref.slot), 0, 0, &k), "the record is the flow's");
  remember (ref, flow);
  return 1;
}

static int
remove4 (u32 me, u32 flow)
{
  fp_key4_t k = forward4 (flow);
  fp_worker_quiescent (&worker[me], NOW);
  fp_sref_t ref = find4 (&r, &k);
  if (!ref.found)
    return 0;
  remember (ref, flow);
  return fp_session4_remove (&worker[me], ref.slot, ref.gen);
}

static void
same_endpoint (u32 me)
{
  MUST (connect4 (me, 1, 1, TICK + 100), "room");
}

static void
own_endpoint (u32 me)
{
  MUST (connect4 (me, 1, me + 1, TICK + 100), "room");
}

/* Another flow whose reverse key is the first one's until it takes another port. */
static void
same_reverse (u32 me)
{
  fp_worker_t *w = &worker[me];
  fp_sref_t ref;
  fp_worker_quiescent (w, NOW);
  u32 slot = fp_session4_alloc (w);
  MUST (slot != FP_NONE, "room");
  fp_session4_t *s = fp_session4_at (&r, slot);
  fill4 (s, 1, 1);
  s->vip += me; /* another Service with the same endpoint */
  for (u32 try = 0; try < 8; try++)
    {
      int rc = fp_session4_insert (w, &slot, 1, TICK + 100, &ref);
      if (rc == FP_INSERTED)
	return;
      MUST (rc == FP_COLLISION, "insert: %d", rc);
      fp_session4_at (&r, slot)->nport++;
    }
  MUST (0, "no port");
}

/* Forward key of one = reverse key of the other. */
static void
mirrored (u32 me)
{
  fp_worker_t *w = &worker[me];
  fp_sref_t ref;
  fp_worker_quiescent (w, NOW);
  u32 slot = fp_session4_alloc (w);
  MUST (slot != FP_NONE, "room");
  fp_session4_t *s = fp_session4_at (&r, slot);
  fill4 (s, 1, 1);
  if (me)
    {
      fp_session4_t a;
      memcpy (&a, s, offsetof (fp_session4_t, life));
      s->client = a.ep, s->vip = a.nat, s->cport = a.eport, s->vport = a.nport;
      s->ep = a.client, s->nat = a.vip, s->eport = a.cport, s->nport = a.vport;
    }
  int rc = fp_session4_insert (w, &slot, 1, TICK + 100, &ref);
  MUST (rc == FP_INSERTED || rc == FP_EXISTS || rc == FP_COLLISION, "insert: %d", rc);
  if (rc == FP_COLLISION)
    fp_session4_free (w, slot);
}

static void
remover (u32 me)
{
  remove4 (me, 1);
}

/* Removes the flow, then lets slots be reused by others at once. */
static void
remover_and_reuser (u32 me)
{
  remove4 (me, 1);
  connect4 (me, 2, 1, TICK + 100);
  connect4 (me, 3, 1, TICK + 100);
}

static void
expired (u32 me)
{
  connect4 (me, 1, me + 1, TICK - 1);
}

static void
ager (u32 me)
{
  fp_worker_quiescent (&worker[me], NOW);
  worker[me].age_cursor[FP_SHARED_SESSION4] = 0;
  fp_session_age (&worker[me], 0, SLOTS + 1);
}

static void
refresher (u32 me)
{
  fp_key4_t k = forward4 (1);
  fp_worker_quiescent (&worker[me], NOW);
  fp_sref_t ref = find4 (&r, &k);
  if (!ref.found)
    return;
  _Atomic u64 *life = &fp_session4_at (&r, ref.slot)->life;
  fp_life_touch (life, atomic_load_explicit (life, memory_order_relaxed), 7, TICK + 100);
}

/* A flow that is there all the time is found all the time, whatever goes on in its buckets. */
static void
reader_of_stable (u32 me)
{
  fp_key4_t k = forward4 (9);
  for (u32 i = 0; i < 2; i++)
    {
      fp_worker_quiescent (&worker[me], NOW);
      MUST (find4 (&r, &k).found, "the stable flow is missed");
    }
}

static void
own_then_remove (u32 me)
{
  connect4 (me, 1, me + 1, TICK + 100);
  remove4 (me, 1);
}

static void
one_then_other (u32 me)
{
  connect4 (me, 1 + me, 1, TICK + 100);
  remove4 (me, 1 + me);
  connect4 (me, 2 - me, 1, TICK + 100);
}

static const scenario_t scenarios[] = {
  { .name = "one flow, one endpoint", .threads = 2, .body = { same_endpoint, same_endpoint }, .flows = 1, .bound = 2 },
  { .name = "one flow, two endpoints", .threads = 2, .body = { own_endpoint, own_endpoint }, .flows = 1, .bound = 2 },
  { .name = "one flow in full buckets", .threads = 2, .body = { own_endpoint, own_endpoint }, .flows = 1, .crowded = 1, .bound = 2 },
  { .name = "one flow on three workers", .threads = 3, .body = { own_endpoint, same_endpoint, own_endpoint }, .flows = 1, .bound = 2 },
  { .name = "one reverse key", .threads = 2, .body = { same_reverse, same_reverse }, .flows = 2, .bound = 2 },
  { .name = "mirrored keys", .threads = 2, .body = { mirrored, mirrored }, .flows = FP_NONE, .bound = 2 },
  { .name = "inserter and remover", .threads = 2, .body = { own_endpoint, remover_and_reuser }, .flows = FP_NONE, .few = 2, .bound = 2 },
  { .name = "two inserters and a remover", .threads = 3, .body = { same_endpoint, same_endpoint, remover }, .flows = FP_NONE, .bound = 2 },
  { .name = "two inserters and one who reuses",
    .threads = 3,
    .body = { own_endpoint, own_endpoint, remover_and_reuser },
    .flows = FP_NONE,
    .few = 3,
    .generation = 0xffff,
    .bound = 2 },
  { .name = "two who insert and remove", .threads = 2, .body = { own_then_remove, own_then_remove }, .flows = FP_NONE, .bound = 2 },
  { .name = "two flows in turn", .threads = 2, .body = { one_then_other, one_then_other }, .flows = FP_NONE, .generation = ~0u, .bound = 2 },
  { .name = "ager and inserters", .threads = 3, .body = { expired, own_endpoint, ager }, .flows = FP_NONE, .bound = 2 },
  { .name = "ager and refresher", .threads = 3, .body = { expired, refresher, ager }, .flows = FP_NONE, .bound = 2 },
  { .name = "reader beside them", .threads = 3, .body = { reader_of_stable, own_then_remove, own_endpoint }, .flows = FP_NONE, .bound = 2 },
};

static void
prepare (const scenario_t *s)
{
  fp_capacity_t c = small_capacity ();
  c.sessions4 = SLOTS;
  scenario = s;
  threads = s->threads;
  saved_count = 0;
  open_region (&r, NULL, &c, threads);
  for (u32 slot = 0; slot < SLOTS; slot++)
    fp_session4_at (&r, slot)->gen = s->generation;
  for (u32 i = 0; i < threads; i++)
    {
      fp_worker_init (&worker[i], &r, i, i + 1);
      fp_worker_quiescent (&worker[i], NOW);
    }
  /* not by the pool: the first worker would get them all in one chain */
  fp_pool_t *pool = r.shared[FP_SHARED_SESSION4].pool;
  pool->fresh = SLOTS;
  for (u32 slot = 0; slot < SLOTS; slot++)
    {
      u32 to = slot / (SLOTS / THREADS) % threads;
      if (to + 1 == s->few && worker[to].free[FP_SHARED_SESSION4].count)
	to = 0;
      fp_chain_push (pool, &worker[to].free[FP_SHARED_SESSION4], slot);
    }
  for (u32 i = 0; i < threads; i++)
    if (s->body[i] == reader_of_stable)
      {
	fp_sref_t ref;
	CHECK (insert4 (&worker[i], 9, 9, TICK + 1000, &ref) == FP_INSERTED, "stable flow");
      }
  if (s->crowded)
    {
      const fp_index_t *x = &r.shared[FP_SHARED_SESSION4].index;
      fp_key4_t k = forward4 (1);
      u64 hash = fp_key4_hash (&r, &k);
      for (u32 i = 0; i < FP_BUCKET_WORDS; i++)
	{
	  x->buckets[fp_index_first (x, hash)].word[i] = fp_word (~hash, 2 * SLOTS, 0) | FP_WORD_LIVE;
	  x->buckets[fp_index_second (x, hash)].word[i] = fp_word (~hash, 2 * SLOTS, 0) | FP_WORD_LIVE;
	}
    }
  save_table (FP_SHARED_SESSION4, sizeof (fp_session4_t));
  save (r.quiescence, sizeof (*r.quiescence));
  save (r.counters, threads * sizeof (*r.counters));
  save (worker, sizeof (worker));
}

int
main (int argc, char **argv)
{
  u32 count = sizeof (scenarios) / sizeof (*scenarios);
  u64 all = 0;
  u32 random_runs = argc > 1 ? (u32) atoi (argv[1]) : RANDOM;
  for (u32 i = 0; i < count; i++)
    {
      prepare (&scenarios[i]);
      runs = 0;
      schedule.count = 0;
      u32 bound = scenarios[i].bound < BOUND ? scenarios[i].bound : BOUND;
      explore (bound, 1);
      all += runs;
      explore_at_random (random_runs);
      fp_region_close (&r, 1);
      while (saved_count)
	free (saved[--saved_count].copy);
    }
  printf ("interleavings: %u scenarios, %lu schedules with few preemptions, %lu at random\n", count, (unsigned long) all,
	  (unsigned long) count * random_runs);
  return 0;
}

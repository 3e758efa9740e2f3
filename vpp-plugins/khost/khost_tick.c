/* SPDX-License-Identifier: Apache-2.0 */
/* Once in each round of every thread's loop: the thread holds no slot of the tables now. A thread that has nothing to do sleeps 10 ms at most, so what
 * others wait for comes in time. */
#include <khost/khost_internal.h>

#include <sys/resource.h>

#include <fastpath/fp_fragment.h>
#include <fastpath/fp_gtpu.h>
#include <fastpath/fp_region.h>
#include <fastpath/fp_tables.h>

#define TIME_S	       100e-6 /* reading the time costs more than a round without packets */
#define AGE_PERIOD_NS  30000000000ull
#define AGE_STEP_NS    20000000ull
#define AGE_MAX_SLOTS  65536
#define EXPIRE_STEP_NS 10000000ull
#define READY_AT_ONCE  64

/* Each thread ages its share; all sessions are seen once in a period, however long the last step is ago. */
static void
age (khost_worker_t *w, u64 now)
{
  const khost_main_t *km = &khost_exported_main;
  const u64 elapsed = w->age_ns ? now - w->age_ns + AGE_STEP_NS : AGE_STEP_NS;
  const u64 slots = 2ull * km->region->shared[FP_SHARED_SESSION4].capacity / km->n_workers;
  const u64 budget = slots * clib_min (elapsed, AGE_PERIOD_NS) / AGE_PERIOD_NS + 1;

  fp_sessions_age (&w->fp, (u32) clib_min (budget, AGE_MAX_SLOTS));
  w->age_ns = now + AGE_STEP_NS;
}

/* Back to the nodes that held them, in order; one frame for as many as follow each other to one node. */
static uword
give_back (vlib_main_t *vm, khost_worker_t *w)
{
  u64 cookies[READY_AT_ONCE];
  u8 expired[READY_AT_ONCE];
  const u32 n = fp_fragments_ready (&w->fp, cookies, expired, READY_AT_ONCE);
  vlib_frame_t *f = NULL;
  u32 node = ~0;

  for (u32 i = 0; i < n; i++)
    {
      const u32 bi = (u32) cookies[i];

      w->held -= w->held != 0;
      if (expired[i])
	{
	  vlib_buffer_free_one (vm, bi);
	  continue;
	}
      if (f && node != cookies[i] >> 32)
	{
	  vlib_put_frame_to_node (vm, node, f);
	  f = NULL;
	}
      if (!f)
	{
	  node = (u32) (cookies[i] >> 32);
	  f = vlib_get_frame_to_node (vm, node);
	}
      if (vlib_get_buffer (vm, bi)->flags & VLIB_BUFFER_IS_TRACED)
	f->frame_flags |= VLIB_NODE_FLAG_TRACE;
      ((u32 *) vlib_frame_vector_args (f))[f->n_vectors++] = bi;
    }
  if (f)
    vlib_put_frame_to_node (vm, node, f);
  return n;
}

/* A round that is the longest until now: the thread's own if it has neither slept nor lost its CPU since this was asked last. (Each time that it does
 * makes a round so long that it is asked.) */
static __clib_noinline void
long_round (khost_worker_t *w, u64 round)
{
  struct rusage usage = {};
  u64 switches;

  if (round > w->longest_round)
    __atomic_store_n (&w->longest_round, round, __ATOMIC_RELAXED);
  getrusage (RUSAGE_THREAD, &usage);
  switches = (u64) usage.ru_nivcsw + (u64) usage.ru_nvcsw;
  if (switches == w->switches)
    __atomic_store_n (&w->longest_own_round, round, __ATOMIC_RELAXED);
  w->switches = switches;
}

/* How long packets of this thread may have waited for a dispatch, as `show khost gaps` tells. */
static_always_inline void
measure_round (khost_worker_t *w, u64 clock)
{
  const u32 era = __atomic_load_n (&khost_exported_main.gap_era, __ATOMIC_RELAXED);
  const u64 round = clock - w->round_clock;

  w->round_clock = clock;
  if (PREDICT_FALSE (w->gap_era != era))
    {
      w->gap_era = era;
      __atomic_store_n (&w->longest_round, 0, __ATOMIC_RELAXED);
      __atomic_store_n (&w->longest_own_round, 0, __ATOMIC_RELAXED);
    }
  else if (PREDICT_FALSE (round > w->longest_own_round))
    long_round (w, round);
}

static_always_inline uword
tick (vlib_main_t *vm, khost_worker_t *w)
{
  const u64 clock = clib_cpu_time_now ();
  u64 now = w->fp.now_ns;

  measure_round (w, clock);
  if (clock - w->clock_read >= (u64) (TIME_S * vm->clib_time.clocks_per_second))
    {
      now = fp_now_ns ();
      w->clock_read = clock;
      if (now >= w->age_ns)
	age (w, now);
      if (now >= w->expire_ns)
	{
	  fp_worker_set_time (&w->fp, now);
	  fp_gtpu_expire (&w->fp);
	  w->expire_ns = now + EXPIRE_STEP_NS;
	}
    }
  fp_worker_quiescent (&w->fp, now);
  return w->fp.holds->count ? give_back (vm, w) : 0;
}

static uword
khost_tick_fn (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  return khost_exported_main.region ? tick (vm, khost_worker (vm->thread_index)) : 0;
}

VLIB_REGISTER_NODE (khost_tick_node) = {
  .function = khost_tick_fn,
  .name = "khost-tick",
  .type = VLIB_NODE_TYPE_PRE_INPUT,
  .state = VLIB_NODE_STATE_POLLING,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* The Service kernel: a vector of packets through sessions, frontends and what else an address may be. Known flows go through the stages of
 * fp_hit.h, a batch at a time and several batches at once, each a stage further than the next, so that cache misses overlap with
 * work on other packets. What they do not take goes the general way, in the order of the vector.
 *
 * Every packet counts as PACKETS and as one of PASSED, FORWARD, REVERSE, FRAGMENT_HELD or a drop reason; an ICMP error sent in its
 * place counts the reason and ICMP_SENT. (A held fragment that is submitted again is a new packet; one that expires counts a
 * FRAGMENT_EXPIRED and no packet.) */
#ifndef FP_SERVICE_H
#define FP_SERVICE_H

#include "fp_fragment.h"
#include "fp_icmp.h"
#include "fp_hit.h"
#include "fp_icmp_translate.h"

#define FP_VECTOR_MAX 256
#define FP_BATCH      32 /* packets that go through a stage together */
#define FP_AHEAD      4	 /* headers fetched ahead while parsing */

typedef struct
{
  fp_session_key_t key;
  u64 hash;
  fp_parsed_t o;
} fp_scratch_t;

/* Counted once for a vector. */
typedef struct
{
  u32 passed, forward, reverse;
  u64 hit_bytes;
} fp_tally_t;

/* ---- verdicts ---- */

FP_ALWAYS_INLINE void
fp_translated (fp_verdict_t *v, fp_tally_t *t, int reverse)
{
  *v = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, reverse ? FP_WAY_REVERSE : FP_WAY_FORWARD };
  t->forward += !reverse;
  t->reverse += reverse;
}

FP_INLINE void
fp_passed (fp_verdict_t *v, fp_tally_t *t)
{
  *v = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, FP_WAY_PASS };
  t->passed++;
}

FP_INLINE void
fp_dropped (fp_worker_t *w, fp_verdict_t *v, enum fp_drop reason)
{
  *v = (fp_verdict_t){ FP_DROP, (u8) reason, FP_WAY_NONE };
  fp_count_drop (w, reason);
}

/* Drop, with the ICMP error that belongs to the reason if one may be sent. kube-proxy answers TCP that way, too. */
FP_INLINE void
fp_answered (fp_worker_t *w, fp_packet_t *p, const fp_parsed_t *o, fp_verdict_t *v, enum fp_drop reason)
{
  enum fp_icmp_error e = reason == FP_DROP_TTL	     ? FP_ICMP_TIME_EXCEEDED
			 : reason == FP_DROP_TOO_BIG ? FP_ICMP_TOO_BIG
						     : FP_ICMP_PORT_UNREACHABLE;
  fp_dropped (w, v, reason);
  if (fp_icmp_reply (w, p, o, e, p->mtu))
    v->action = FP_REPLY;
}

/* ---- known flows ---- */

/* Whether the session may not carry this packet of the client's: a SYN on a connection that is over begins another one; a flow
 * whose endpoint serves no more starts anew, but an established TCP flow keeps it whatever happens. */
FP_ALWAYS_INLINE int
fp_session_is_stale (fp_worker_t *w, int v6, const fp_packet_t *p, const fp_parsed_t *o, u64 life, u32 ep_slot, u32 ep_gen)
{
  if (o->proto == FP_PROTO_TCP)
    {
      if (FP_LIKELY ((o->tcp_flags & (FP_TCP_SYN | FP_TCP_ACK)) != FP_TCP_SYN))
	return 0;
      if (fp_tcp_is_over (fp_life_state (life)))
	return 1;
      if (fp_tcp_state (fp_life_state (life)) != FP_TCP_SYN_SENT)
	return 0;
    }
  if (FP_LIKELY (fp_endpoint_serves (w->region, ep_slot, ep_gen)) || !fp_flow_restarts (w->region, v6, p, o))
    return 0;
  if (o->proto == FP_PROTO_UDP)
    fp_count (w, FP_C_UDP_RESTARTED, 1);
  return 1;
}

/* A packet with ports. 1: its flow is known, *v is the verdict. 0: it is not, and nothing has been changed. */
FP_ALWAYS_INLINE int
fp_hit (fp_worker_t *w, int v6, fp_packet_t *p, const fp_scratch_t *x, fp_verdict_t *v, fp_tally_t *t, fp_sref_t *ref)
{
  const fp_parsed_t *o = &x->o;
  const fp_shared_table_t *table = fp_session_table (w->region, v6);
  fp_target_t target;
  _Atomic u64 *life;
  enum fp_drop reason;
  void *s;

  *ref = fp_session_find (w->region, v6, &x->key, x->hash);
  if (!ref->found)
    return 0;
  s = fp_session_at (table, v6, ref->slot);
  life = fp_session_life (s, v6);
  if (!ref->dir)
    {
      u32 ep_slot = v6 ? ((fp_session6_t *) s)->ep_slot : ((fp_session4_t *) s)->ep_slot;
      u32 ep_gen = v6 ? ((fp_session6_t *) s)->ep_gen : ((fp_session4_t *) s)->ep_gen;
      u64 now = atomic_load_explicit (life, memory_order_relaxed);
      if (FP_UNLIKELY (fp_session_is_stale (w, v6, p, o, now, ep_slot, ep_gen)))
	{
	  fp_session_remove (w, v6, ref->slot, ref->gen);
	  return 0;
	}
    }
  reason = fp_hop_check (p, o, v6);
  if (FP_UNLIKELY (reason != FP_DROP_NONE))
    {
      fp_answered (w, p, o, v, reason);
      return 1;
    }
  if (FP_UNLIKELY (!fp_session_touch (life, w->tick, o->proto, ref->dir, o->tcp_flags)))
    {
      fp_session_remove (w, v6, ref->slot, ref->gen);
      return 0;
    }
  target = v6 ? fp_target6 (s, ref->dir) : fp_target4 (s, ref->dir);
  fp_rewrite (p, o, v6, &target);
  fp_service_count (fp_service_counts (w), fp_session_service (v6, s), ref->dir, p->length);
  fp_translated (v, t, ref->dir);
  return 1;
}

/* ---- everything else ---- */

FP_INLINE void
fp_later_fragment (fp_worker_t *w, int v6, fp_packet_t *p, const fp_parsed_t *o, fp_verdict_t *v, fp_tally_t *t)
{
  fp_frag_key_t k;
  fp_frag_result_t known;
  const void *s;
  fp_target_t target;
  enum fp_drop reason;

  fp_frag_key (&k, p->l3, o, p->vrf);
  known = fp_frag_find (w, &k);
  if (known.kind == FP_FRAG_PASS)
    {
      fp_passed (v, t);
      return;
    }
  if (!known.kind)
    {
      if (fp_fragment_hold (w, &k, fp_hash_frag (&w->region->hash, &k), p->cookie))
	{
	  *v = (fp_verdict_t){ FP_HOLD, FP_DROP_NONE, FP_WAY_NONE };
	  fp_count (w, FP_C_FRAGMENT_HELD, 1);
	}
      else
	fp_dropped (w, v, FP_DROP_FRAGMENT_HOLD_FULL);
      return;
    }
  s = known.kind == FP_FRAG_SESSION ? fp_session_deref (w->region, v6, known.session) : NULL;
  reason = s ? fp_hop_check (p, o, v6) : FP_DROP_FRAGMENT_DROPPED;
  if (reason)
    {
      fp_dropped (w, v, reason);
      return;
    }
  target = v6 ? fp_target6 (s, known.session.dir) : fp_target4 (s, known.session.dir);
  fp_rewrite_ip (p->l3, v6, &target, p->flags & FP_PACKET_KEEP_TTL);
  fp_service_count (fp_service_counts (w), fp_session_service (v6, s), known.session.dir, p->length);
  fp_translated (v, t, known.session.dir);
}

/* Functions of their own, one a family, here and below: the stages shall keep their registers. */
__attribute__ ((noinline, unused)) static void
fp_plan4 (fp_worker_t *w, const fp_packet_t *p, const fp_parsed_t *o, u64 hash, fp_plan_t *plan)
{
  fp_flow_plan (w, 0, p, o, hash, plan);
}

__attribute__ ((noinline, unused)) static void
fp_plan6 (fp_worker_t *w, const fp_packet_t *p, const fp_parsed_t *o, u64 hash, fp_plan_t *plan)
{
  fp_flow_plan (w, 1, p, o, hash, plan);
}

FP_ALWAYS_INLINE void
fp_plan (fp_worker_t *w, int v6, const fp_packet_t *p, const fp_parsed_t *o, u64 hash, fp_plan_t *plan)
{
  if (v6)
    fp_plan6 (w, p, o, hash, plan);
  else
    fp_plan4 (w, p, o, hash, plan);
}

/* What is to become of a packet that is neither a later fragment nor a hit. A flow, or an ICMP error about one, has been rewritten. */
FP_ALWAYS_INLINE fp_decision_t
fp_decide (fp_worker_t *w, int v6, fp_packet_t *p, const fp_scratch_t *x, fp_plan_t *plan, u8 *way)
{
  const fp_parsed_t *o = &x->o;
  fp_decision_t d = fp_fate (FP_FATE_PASS, FP_DROP_NONE);

  *way = FP_WAY_PASS;
  if (o->kind == FP_KIND_FLOW)
    {
      fp_plan_t own;
      if (!plan)
	fp_plan (w, v6, p, o, x->hash, plan = &own);
      d = plan->fate == FP_FATE_FLOW ? fp_session_create (w, v6, p, o, plan) : fp_fate (plan->fate, plan->reason);
      if (d.fate == FP_FATE_FLOW)
	{
	  const void *s = fp_session_at (fp_session_table (w->region, v6), v6, d.ref.slot);
	  fp_target_t target = v6 ? fp_target6 (s, d.ref.dir) : fp_target4 (s, d.ref.dir);
	  fp_rewrite (p, o, v6, &target);
	  fp_service_count (fp_service_counts (w), fp_session_service (v6, s), d.ref.dir, p->length);
	  *way = d.ref.dir ? FP_WAY_REVERSE : FP_WAY_FORWARD;
	  return d;
	}
    }
  else if (o->kind == FP_KIND_ICMP_ERROR)
    {
      enum fp_drop reason = fp_icmp_translate (w, p, o, way);
      if (reason)
	return fp_fate (FP_FATE_DROP, reason);
      if (*way != FP_WAY_PASS)
	{
	  fp_count (w, FP_C_ICMP_TRANSLATED, 1);
	  return fp_fate (FP_FATE_FLOW, FP_DROP_NONE);
	}
    }
  return d.fate == FP_FATE_PASS ? fp_address_fate (w->region, v6, p) : d;
}

/* The first fragment says what becomes of the datagram. (An ICMP error in fragments: its rest goes nowhere. It embeds too little to need
 * them, and has no session of its own.) */
FP_INLINE void
fp_first_fragment (fp_worker_t *w, const fp_frag_key_t *k, const fp_verdict_t *v, fp_sref_t ref)
{
  fp_frag_result_t result;
  u8 kind = FP_FRAG_DROP;
  if (v->action == FP_FORWARD)
    kind = v->way == FP_WAY_PASS ? FP_FRAG_PASS : ref.found ? FP_FRAG_SESSION : FP_FRAG_DROP;
  if (fp_frag_insert (w, k, kind, ref, &result) == 0)
    fp_fragment_release (w, k, fp_hash_frag (&w->region->hash, k));
}

FP_ALWAYS_INLINE void
fp_slow (fp_worker_t *w, int v6, fp_packet_t *p, const fp_scratch_t *x, fp_plan_t *plan, fp_verdict_t *v, fp_tally_t *t)
{
  const fp_parsed_t *o = &x->o;
  fp_decision_t d = fp_fate (FP_FATE_PASS, FP_DROP_NONE);
  fp_frag_key_t k = { .family = 0 };
  u8 way;

  if (o->kind == FP_KIND_LATER)
    {
      fp_later_fragment (w, v6, p, o, v, t);
      return;
    }
  if (o->first) /* before a rewrite or an answer changes the addresses */
    fp_frag_key (&k, p->l3, o, p->vrf);
  if (!(o->first && o->kind == FP_KIND_FLOW && fp_hit (w, v6, p, x, v, t, &d.ref)))
    {
      d = fp_decide (w, v6, p, x, plan, &way);
      switch ((enum fp_fate) d.fate)
	{
	case FP_FATE_PASS:
	  fp_passed (v, t);
	  break;
	case FP_FATE_FLOW:
	  fp_translated (v, t, way == FP_WAY_REVERSE);
	  break;
	case FP_FATE_DROP:
	  fp_dropped (w, v, d.reason);
	  break;
	case FP_FATE_ANSWER:
	  fp_answered (w, p, o, v, d.reason);
	  break;
	}
    }
  if (o->first)
    fp_first_fragment (w, &k, v, d.ref);
}

/* ---- the general way ---- */

FP_ALWAYS_INLINE void
fp_scratch_key (int v6, const fp_packet_t *p, fp_scratch_t *x)
{
  const u8 *h = p->l3, *l4 = h + x->o.l4;
  if (v6)
    {
      fp_key6_t *k = &x->key.v6;
      memcpy (k->src, h + 8, 16);
      memcpy (k->dst, h + 24, 16);
      k->sport = fp_load16 (l4);
      k->dport = fp_load16 (l4 + 2);
      k->proto = x->o.proto;
      k->pad[0] = k->pad[1] = k->pad[2] = 0;
      k->vrf = p->vrf;
    }
  else
    {
      fp_key4_t *k = &x->key.v4;
      k->src = fp_load32 (h + 12);
      k->dst = fp_load32 (h + 16);
      k->sport = fp_load16 (l4);
      k->dport = fp_load16 (l4 + 2);
      k->proto = x->o.proto;
      k->pad[0] = k->pad[1] = k->pad[2] = 0;
      k->vrf = p->vrf;
    }
}

/* A packet that has been parsed, its key and hash if it has ports. plan: of the second stage, or NULL. */
FP_ALWAYS_INLINE void
fp_parsed (fp_worker_t *w, int v6, fp_packet_t *p, const fp_scratch_t *x, fp_plan_t *plan, fp_verdict_t *v, fp_tally_t *t)
{
  fp_sref_t ref;
  if (x->o.kind != FP_KIND_FLOW || x->o.first || !fp_hit (w, v6, p, x, v, t, &ref))
    fp_slow (w, v6, p, x, plan, v, t);
  if (plan)
    fp_plan_release (w, plan);
}

__attribute__ ((noinline, unused)) static void
fp_parsed4 (fp_worker_t *w, fp_packet_t *p, const fp_scratch_t *x, fp_plan_t *plan, fp_verdict_t *v, fp_tally_t *t)
{
  fp_parsed (w, 0, p, x, plan, v, t);
}

__attribute__ ((noinline, unused)) static void
fp_parsed6 (fp_worker_t *w, fp_packet_t *p, const fp_scratch_t *x, fp_plan_t *plan, fp_verdict_t *v, fp_tally_t *t)
{
  fp_parsed (w, 1, p, x, plan, v, t);
}

/* A packet that fp_hit_finish has left alone. shape and hash: of the first stage. */
__attribute__ ((noinline, unused)) static void
fp_general (fp_worker_t *w, fp_packet_t *p, u8 shape, u64 hash, fp_plan_t *plan, fp_verdict_t *v, fp_tally_t *t)
{
  fp_scratch_t x;
  int v6;
  x.hash = hash;
  if (FP_LIKELY (shape != FP_SHAPE_OTHER))
    {
      fp_plain_parsed (p, shape, &x.o);
      v6 = fp_shape_is6 (shape);
      fp_scratch_key (v6, p, &x);
    }
  else
    {
      enum fp_drop drop = fp_parse (p, &x.o);
      if (drop)
	{
	  fp_dropped (w, v, drop);
	  return;
	}
      v6 = x.o.family == 6;
      if (x.o.kind == FP_KIND_FLOW)
	{
	  fp_scratch_key (v6, p, &x);
	  x.hash = v6 ? fp_key6_hash (w->region, &x.key.v6) : fp_key4_hash (w->region, &x.key.v4);
	}
    }
  if (v6)
    fp_parsed6 (w, p, &x, plan, v, t);
  else
    fp_parsed4 (w, p, &x, plan, v, t);
}

/* ---- stages ---- */

/* What the stages ask a host, who has a vector of packets in whatever form; all but `context` are constants at the place of the call, so that
 * they are inlined. */
typedef struct
{
  void *context;
  /* The descriptor of packet i: the host's own, or put together in *room. One with contiguous == 0: none, `take` it. */
  const fp_packet_t *(*see) (void *context, u32 i, fp_packet_t *room);
  /* The same of a packet that has been seen. */
  const fp_packet_t *(*recall) (void *context, u32 i, fp_packet_t *room);
  /* Packet i will be seen soon. */
  void (*prefetch) (void *context, u32 i);
  /* Known flow: packet i is rewritten, and goes on. */
  void (*hit) (void *context, u32 i, u32 reverse);
  /* Packet i is for the general way: its descriptor, which lives until `settle`. */
  fp_packet_t *(*take) (void *context, u32 i);
  void (*settle) (void *context, u32 i, fp_packet_t *p, const fp_verdict_t *v);
  u8 family; /* 4 or 6: of all packets that `see` shows; 0: mixed */
} fp_vector_t;

typedef struct
{
  fp_seen_t seen[FP_VECTOR_MAX];
  u8 shape[FP_VECTOR_MAX];
  u8 again[FP_BATCH]; /* of the batch that was looked up last: those whose first bucket had nothing */
  u32 agains;
  u8 planned[FP_VECTOR_MAX];
  fp_plan_t plan[FP_BATCH]; /* of the batch that comes last but one */
} fp_stages_t;

FP_ALWAYS_INLINE int
fp_vector_is6 (const fp_vector_t *x, u8 shape)
{
  return x->family ? x->family == 6 : fp_shape_is6 (shape);
}

FP_ALWAYS_INLINE void
fp_stage_begin (const fp_hit_context_t *c, const fp_vector_t *x, fp_stages_t *s, u32 from, u32 to, u32 n)
{
  memset (&s->planned[from], 0, FP_BATCH);
  for (u32 i = from; i < to; i++)
    {
      fp_packet_t room;
      if (i + FP_AHEAD < n)
	x->prefetch (x->context, i + FP_AHEAD);
      s->shape[i] = fp_hit_begin (c, x->see (x->context, i, &room), x->family, &s->seen[i]);
    }
}

FP_ALWAYS_INLINE void
fp_stage_look (const fp_hit_context_t *c, const fp_vector_t *x, fp_stages_t *s, u32 from, u32 to)
{
  s->agains = 0;
  for (u32 i = from; i < to; i++)
    if (FP_LIKELY (s->shape[i] != FP_SHAPE_OTHER) &&
	!(fp_vector_is6 (x, s->shape[i]) ? fp_hit_look (c, 1, &s->seen[i]) : fp_hit_look (c, 0, &s->seen[i])))
      s->again[s->agains++] = (u8) i;
}

/* Those whose second bucket has nothing either are probably new flows. */
FP_ALWAYS_INLINE void
fp_stage_look_again (fp_worker_t *w, const fp_hit_context_t *c, const fp_vector_t *x, fp_stages_t *s)
{
  for (u32 k = 0; k < s->agains; k++)
    {
      u32 i = s->again[k];
      int v6 = fp_vector_is6 (x, s->shape[i]);
      fp_seen_t *seen = &s->seen[i];
      fp_packet_t room;
      if (v6 ? fp_hit_look_again (c, 1, seen) : fp_hit_look_again (c, 0, seen))
	continue;
      const fp_packet_t *p = x->see (x->context, i, &room);
      fp_parsed_t o;
      fp_plain_parsed (p, s->shape[i], &o);
      s->planned[i] = 1;
      fp_plan (w, v6, p, &o, seen->hash, &s->plan[i % FP_BATCH]);
    }
}

FP_ALWAYS_INLINE void
fp_stage_follow (const fp_hit_context_t *c, const fp_vector_t *x, const fp_stages_t *s, u32 from, u32 to)
{
  for (u32 i = from; i < to; i++)
    if (FP_LIKELY (s->shape[i] != FP_SHAPE_OTHER))
      fp_vector_is6 (x, s->shape[i]) ? fp_hit_follow (c, 1, s->shape[i], s->seen[i].word) :
				       fp_hit_follow (c, 0, s->shape[i], s->seen[i].word);
}

FP_ALWAYS_INLINE void
fp_stage_finish (fp_worker_t *w, const fp_hit_context_t *c, const fp_vector_t *x, fp_stages_t *s, u32 from, u32 to, fp_tally_t *t)
{
  u32 misses = 0, reverses = 0;
  u64 bytes = 0;
  for (u32 i = from; i < to; i++)
    {
      fp_packet_t room, *p;
      const fp_packet_t *seen = x->recall (x->context, i, &room);
      fp_verdict_t v;
      u32 reverse;
      if (FP_LIKELY (fp_hit_finish (c, seen, x->family, s->shape[i], s->seen[i].word, &reverse)))
	{
	  x->hit (x->context, i, reverse);
	  reverses += reverse;
	  bytes += seen->length;
	  continue;
	}
      misses++;
      p = x->take (x->context, i);
      fp_general (w, p, s->shape[i], s->shape[i] ? s->seen[i].hash : 0, s->planned[i] ? &s->plan[i % FP_BATCH] : NULL, &v, t);
      x->settle (x->context, i, p, &v);
    }
  t->forward += to - from - misses - reverses;
  t->reverse += reverses;
  t->hit_bytes += bytes;
}

/* Process n packets, at most FP_VECTOR_MAX: rewrite them in place and tell what becomes of each, in their order. Between two calls with the
 * same worker the host passes a quiescent point (fp_worker_quiescent), which also sets the time. Held fragments: see
 * fp_fragments_ready. Returns the bytes of the packets that `hit` was told of. */
FP_ALWAYS_INLINE u64
fp_service_stages (fp_worker_t *w, const fp_vector_t *x, u32 n)
{
  fp_stages_t stages;
  fp_hit_context_t context;
  fp_tally_t tally = { 0, 0, 0, 0 };
  const u32 b = FP_BATCH;

  fp_hit_context (&context, w);
  for (u32 at = 0; at < n + 3 * b; at += b)
    {
      if (at >= 3 * b)
	fp_stage_finish (w, &context, x, &stages, at - 3 * b, at - 2 * b < n ? at - 2 * b : n, &tally);
      if (at >= 2 * b && at - 2 * b < n)
	{
	  fp_stage_look_again (w, &context, x, &stages);
	  if (context.many)
	    fp_stage_follow (&context, x, &stages, at - 2 * b, at - b < n ? at - b : n);
	}
      if (at >= b && at - b < n)
	fp_stage_look (&context, x, &stages, at - b, at < n ? at : n);
      if (at < n)
	fp_stage_begin (&context, x, &stages, at, at + b < n ? at + b : n, n);
    }
  fp_count (w, FP_C_PACKETS, n);
  fp_count (w, FP_C_PASSED, tally.passed);
  fp_count (w, FP_C_FORWARD, tally.forward);
  fp_count (w, FP_C_REVERSE, tally.reverse);
  return tally.hit_bytes;
}

/* ---- packets that have descriptors ---- */

typedef struct
{
  fp_packet_t *p;
  fp_verdict_t *v;
} fp_described_t;

FP_ALWAYS_INLINE const fp_packet_t *
fp_described_see (void *context, u32 i, fp_packet_t *room)
{
  (void) room;
  return &((fp_described_t *) context)->p[i];
}

FP_ALWAYS_INLINE void
fp_described_prefetch (void *context, u32 i)
{
  FP_PREFETCH (((fp_described_t *) context)->p[i].l3);
}

FP_ALWAYS_INLINE void
fp_described_hit (void *context, u32 i, u32 reverse)
{
  ((fp_described_t *) context)->v[i] = (fp_verdict_t){ FP_FORWARD, FP_DROP_NONE, (u8) (FP_WAY_FORWARD + reverse) };
}

FP_ALWAYS_INLINE fp_packet_t *
fp_described_take (void *context, u32 i)
{
  return &((fp_described_t *) context)->p[i];
}

FP_ALWAYS_INLINE void
fp_described_settle (void *context, u32 i, fp_packet_t *p, const fp_verdict_t *v)
{
  (void) p;
  ((fp_described_t *) context)->v[i] = *v;
}

/* fp_service_stages for n packets that have descriptors, and what becomes of each. */
FP_INLINE void
fp_service_vector (fp_worker_t *w, fp_packet_t *p, fp_verdict_t *v, u32 n)
{
  fp_described_t context = { p, v };
  const fp_vector_t x = { &context,	    fp_described_see,	 fp_described_see,    fp_described_prefetch,
			  fp_described_hit, fp_described_take, fp_described_settle, 0 };

  fp_service_stages (w, &x, n);
}

#endif /* FP_SERVICE_H */

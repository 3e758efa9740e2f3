/* SPDX-License-Identifier: Apache-2.0 */
/* What the control thread keeps beside the region: free slots of its tables, endpoints of each service, users of each address, space for
 * sets, and what waits for the workers to let go of it. All of it is rebuilt when the region is attached. */
#ifndef FP_CONTROL_STATE_H
#define FP_CONTROL_STATE_H

#include "fp_arena.h"
#include "fp_records.h"
#include "fp_tunnel_state.h"

enum fp_retired
{
  FP_RETIRED_SLOT,   /* a: table, b: slot */
  FP_RETIRED_BUCKET, /* a: table, b: overflow bucket of its index */
  FP_RETIRED_ARRAY,  /* a: order, b: offset */
  FP_RETIRED_MEMORY, /* p */
};

typedef struct
{
  u64 tag; /* 0: not tagged yet */
  void *p;
  u32 kind, a, b;
} fp_retired_t;

typedef struct
{
  u32 *free; /* stack */
  u32 nfree;
  u32 fresh;
} fp_control_slots_t;

typedef struct
{
  u32 head; /* of its endpoints, FP_NONE at the end */
  u32 endpoints;
  u32 frontends;
  u32 next_dirty;
  u8 dirty;
  u64 set[FP_SETS]; /* as published */
} fp_service_side_t;

typedef struct
{
  u32 next, previous;
  u32 service;
  u8 deleted; /* gone for the control plane; in the sets until they are published without it */
} fp_endpoint_side_t;

struct fp_control
{
  fp_control_slots_t slots[FP_CONTROLLED_TABLES];
  fp_service_side_t *service;
  fp_endpoint_side_t *endpoint;
  u32 (*vip)[4]; /* frontends by kind */
  u32 first_dirty; /* services whose sets are to be published: by the next commit */
  u32 first_begun; /* by the commit that is going on */
  fp_tunnel_state_t gtpu;
  u8 prefixes_dirty, settings_dirty;
  fp_arena_t arena;
  fp_retired_t *retired; /* ring */
  u32 retired_size, retired_first, retired_count, retired_untagged;
  u64 repaired; /* damaged entries that dumps took out */
  u64 leaked;	/* things that could not be queued for want of memory */
  fp_worker_t worker;
};
typedef struct fp_control fp_control_t;

FP_INLINE void
fp_control_release (fp_region_t *r)
{
  fp_control_t *c = r->control;
  if (!c)
    return;
  for (u32 i = 0; i < c->retired_count; i++)
    {
      fp_retired_t *x = &c->retired[(c->retired_first + i) % c->retired_size];
      if (x->kind == FP_RETIRED_MEMORY)
	free (x->p);
    }
  for (u32 t = 0; t < FP_CONTROLLED_TABLES; t++)
    free (c->slots[t].free);
  free (c->service);
  free (c->endpoint);
  free (c->vip);
  free (c->retired);
  fp_arena_release (&c->arena);
  fp_tunnel_state_release (r, &c->gtpu);
  free (c);
  r->control = NULL;
  free (atomic_load_explicit (&r->prefixes, memory_order_relaxed));
  free (atomic_load_explicit (&r->config, memory_order_relaxed));
}

/* 0 or -ENOMEM. Everything is empty afterwards. */
FP_INLINE int
fp_control_init (fp_region_t *r)
{
  fp_control_t *c = calloc (1, sizeof (*c));
  if (!c)
    return -ENOMEM;
  r->control = c;
  for (u32 t = 0; t < FP_CONTROLLED_TABLES; t++)
    if (!(c->slots[t].free = calloc ((size_t) r->controlled[t].capacity + 1, sizeof (u32))))
      return -ENOMEM;
  c->service = calloc (r->controlled[FP_CONTROLLED_SERVICE].capacity, sizeof (*c->service));
  c->endpoint = calloc (r->controlled[FP_CONTROLLED_ENDPOINT].capacity, sizeof (*c->endpoint));
  c->vip = calloc (r->controlled[FP_CONTROLLED_VIP].capacity, sizeof (*c->vip));
  if (fp_tunnel_state_init (r, &c->gtpu))
    return -ENOMEM;
  c->retired_size = 1024;
  c->retired = calloc (c->retired_size, sizeof (*c->retired));
  if (!c->service || !c->endpoint || !c->vip || !c->retired || fp_arena_init (&c->arena, r->array_words))
    return -ENOMEM;
  for (u32 i = 0; i < r->controlled[FP_CONTROLLED_SERVICE].capacity; i++)
    c->service[i].head = FP_NONE;
  c->first_dirty = c->first_begun = FP_NONE;
  fp_worker_init (&c->worker, r, FP_MAX_WORKERS, r->creation_id);
  fp_worker_sleep (&c->worker);
  return 0;
}

/* ---- retiring ---- */

FP_INLINE void
fp_control_retire (fp_control_t *c, u32 kind, u32 a, u32 b, void *p)
{
  if (c->retired_count == c->retired_size)
    {
      fp_retired_t *bigger = calloc (2 * (size_t) c->retired_size, sizeof (*bigger));
      if (!bigger)
	{
	  c->leaked++;
	  return;
	}
      for (u32 i = 0; i < c->retired_count; i++)
	bigger[i] = c->retired[(c->retired_first + i) % c->retired_size];
      free (c->retired);
      c->retired = bigger;
      c->retired_first = 0;
      c->retired_size *= 2;
    }
  c->retired[(c->retired_first + c->retired_count++) % c->retired_size] = (fp_retired_t){ 0, p, kind, a, b };
  c->retired_untagged++;
}

/* After all unpublishing stores of a batch. */
FP_INLINE void
fp_control_tag (fp_region_t *r)
{
  fp_control_t *c = r->control;
  if (!c->retired_untagged)
    return;
  u64 tag = fp_quiescence_tag (r->quiescence);
  for (u32 i = c->retired_count - c->retired_untagged; i < c->retired_count; i++)
    c->retired[(c->retired_first + i) % c->retired_size].tag = tag;
  c->retired_untagged = 0;
}

FP_INLINE void
fp_control_reclaim (fp_region_t *r)
{
  fp_control_t *c = r->control;
  fp_control_tag (r);
  u64 safe = c->retired_count ? fp_quiescence_safe (r->quiescence) : 0;
  while (c->retired_count && c->retired[c->retired_first].tag <= safe)
    {
      fp_retired_t *x = &c->retired[c->retired_first];
      if (x->kind == FP_RETIRED_SLOT)
	c->slots[x->a].free[c->slots[x->a].nfree++] = x->b;
      else if (x->kind == FP_RETIRED_BUCKET)
	fp_index_give_back (&r->controlled[x->a].index, x->b);
      else if (x->kind == FP_RETIRED_ARRAY)
	fp_arena_free (&c->arena, x->b, x->a);
      else
	free (x->p);
      c->retired_first = (c->retired_first + 1) % c->retired_size;
      c->retired_count--;
    }
}

/* ---- slots of the control tables ---- */

FP_INLINE u32
fp_control_alloc (fp_region_t *r, enum fp_controlled table)
{
  fp_control_slots_t *s = &r->control->slots[table];
  if (!s->nfree && s->fresh >= r->controlled[table].capacity)
    fp_control_reclaim (r);
  if (s->nfree)
    return s->free[--s->nfree];
  return s->fresh < r->controlled[table].capacity ? s->fresh++ : FP_NONE;
}

/* A slot that was never published. */
FP_INLINE void
fp_control_free (fp_region_t *r, enum fp_controlled table, u32 slot)
{
  fp_control_slots_t *s = &r->control->slots[table];
  s->free[s->nfree++] = slot;
}

/* A slot whose word has been erased: references die now, the slot is used again when the workers have let go. */
FP_INLINE void
fp_control_retire_slot (fp_region_t *r, enum fp_controlled table, u32 slot)
{
  _Atomic u32 *gen = fp_controlled_gen (r, table, slot);
  atomic_store_explicit (gen, atomic_load_explicit (gen, memory_order_relaxed) + 1, memory_order_release);
  FP_STEP ();
  fp_control_retire (r->control, FP_RETIRED_SLOT, table, slot, NULL);
}

/* Publish a filled slot under its key; 0 or -ENOSPC (the slot is free again). */
FP_INLINE int
fp_control_publish (fp_region_t *r, enum fp_controlled table, u32 slot, fp_match_fn_t *match, const void *key)
{
  fp_control_table_t *t = &r->controlled[table];
  u32 gen = atomic_load_explicit (fp_controlled_gen (r, table, slot), memory_order_relaxed);
  u64 winner;
  int visible;
  int rc = FP_INDEX_FULL;
  for (u32 turn = 0; turn < 2 && rc == FP_INDEX_FULL; turn++)
    {
      /* A chain's bucket may wait among what is retired. */
      if (turn)
	fp_control_reclaim (r);
      rc = fp_index_insert (&t->index, fp_controlled_hash (r, table, slot), slot << 1, gen, match, t, key, &winner, &visible);
    }
  if (rc != FP_INDEX_OK)
    {
      fp_control_free (r, table, slot);
      return -ENOSPC;
    }
  t->used++;
  return 0;
}

/* Erase an entry; buckets of its chain that are empty then are used again when the workers have let go. */
FP_INLINE void
fp_control_erase (fp_region_t *r, enum fp_controlled table, u64 hash, u32 ref, u32 gen)
{
  const fp_index_t *x = &r->controlled[table].index;
  fp_index_erase (x, hash, ref, gen);
  for (u32 bucket; (bucket = fp_index_unchain (x, hash)) != FP_NONE;)
    fp_control_retire (r->control, FP_RETIRED_BUCKET, table, bucket, NULL);
}

/* ---- endpoints of a service ---- */

FP_INLINE void
fp_control_link (fp_control_t *c, u32 service, u32 endpoint)
{
  fp_service_side_t *s = &c->service[service];
  c->endpoint[endpoint] = (fp_endpoint_side_t){ s->head, FP_NONE, service, 0 };
  if (s->head != FP_NONE)
    c->endpoint[s->head].previous = endpoint;
  s->head = endpoint;
  s->endpoints++;
}

FP_INLINE void
fp_control_unlink (fp_control_t *c, u32 endpoint)
{
  fp_endpoint_side_t *e = &c->endpoint[endpoint];
  fp_service_side_t *s = &c->service[e->service];
  if (e->previous == FP_NONE)
    s->head = e->next;
  else
    c->endpoint[e->previous].next = e->next;
  if (e->next != FP_NONE)
    c->endpoint[e->next].previous = e->previous;
  s->endpoints--;
}

FP_INLINE void
fp_control_dirty (fp_control_t *c, u32 service)
{
  fp_service_side_t *s = &c->service[service];
  if (s->dirty)
    return;
  s->dirty = 1;
  s->next_dirty = c->first_dirty;
  c->first_dirty = service;
}

#endif /* FP_CONTROL_STATE_H */

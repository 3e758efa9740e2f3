/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane's side of the tables: upsert, delete, commit, dump, fetch. One thread, the control thread, calls these; packet threads go
 * on meanwhile, and nothing here waits for them.
 *
 * Result code of each record: 0; -EINVAL bad content; -EOPNOTSUPP a policy or protocol that the kernels do not serve; -ENOENT names a
 * service that is not there; -EBUSY a service that still has frontends or endpoints; -ENOSPC table full. An upsert of what is there already and a
 * deletion of what is not are 0. More codes of the GTP-U tables: fp_tunnel_control.h. A failed record disturbs no other. Deleted endpoints, and changed sets, take effect with fp_control_commit,
 * one store for each set, so that replacing all endpoints never shows an empty set. */
#ifndef FP_CONTROL_H
#define FP_CONTROL_H

#include "fp_digest.h"
#include "fp_publish.h"
#include "fp_service_figures.h"
#include "fp_tables.h"
#include "fp_tunnel_control.h"

/* One entry of a dump: key of the table's key size, then the digest of the live contents. */
#define FP_DUMP_ENTRY(table) (fp_wire_key_size (table) + 8)

/* Positions that one call of fp_control_dump looks at, at most: well below a millisecond when all are empty. */
#define FP_DUMP_POSITIONS 65536u

/* ---- upsert ---- */

FP_INLINE int
fp_upsert_setting (fp_region_t *r, const fp_wire_t *wire)
{
  u64 hash, word = fp_wire_find (r, FP_TABLE_CONFIG, wire, &hash);
  if (word && !memcmp (&fp_setting_at (r, fp_word_slot (word))->wire, &wire->config, sizeof (wire->config)))
    return 0;
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_SETTING);
  if (slot == FP_NONE)
    return -ENOSPC;
  fp_config_record_t *s = fp_setting_at (r, slot);
  s->wire = wire->config;
  FP_STEP ();
  r->control->settings_dirty = 1;
  if (!word)
    return fp_control_publish (r, FP_CONTROLLED_SETTING, slot, fp_setting_match, wire);
  fp_index_swap (&r->controlled[FP_CONTROLLED_SETTING].index, hash, word, slot << 1,
		 atomic_load_explicit (&s->gen, memory_order_relaxed));
  fp_control_retire_slot (r, FP_CONTROLLED_SETTING, fp_word_slot (word));
  return 0;
}

/* The key is the whole record (its value is reserved), so there is nothing to change. */
FP_INLINE int
fp_upsert_prefix (fp_region_t *r, const fp_wire_t *wire)
{
  u64 hash, word = fp_wire_find (r, FP_TABLE_PREFIX, wire, &hash);
  if (word && !fp_prefix_at (r, fp_word_slot (word))->wire.reserved)
    return 0;
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_PREFIX);
  if (slot == FP_NONE)
    return -ENOSPC;
  fp_prefix_record_t *p = fp_prefix_at (r, slot);
  p->wire = wire->prefix;
  FP_STEP ();
  r->control->prefixes_dirty = 1;
  if (!word)
    return fp_control_publish (r, FP_CONTROLLED_PREFIX, slot, fp_prefix_match, wire);
  fp_index_swap (&r->controlled[FP_CONTROLLED_PREFIX].index, hash, word, slot << 1,
		 atomic_load_explicit (&p->gen, memory_order_relaxed));
  fp_control_retire_slot (r, FP_CONTROLLED_PREFIX, fp_word_slot (word));
  return 0;
}

FP_INLINE u64
fp_policy (const fp_wire_service_t *s)
{
  return (u64) s->affinity_seconds << 32 | (u64) s->empty_verdict << 8 | s->flags;
}

/* Whether frontends or endpoints need the service. */
FP_INLINE int
fp_service_users (fp_region_t *r, u32 slot)
{
  fp_service_side_t *s = &r->control->service[slot];
  u32 deleted = 0;
  for (u32 e = s->head; e != FP_NONE && r->control->endpoint[e].deleted; e = r->control->endpoint[e].next)
    deleted++;
  if (s->frontends || deleted < s->endpoints)
    return 1;
  return deleted && fp_service_publish (r, slot); /* deleted, not committed yet: do it now */
}

FP_INLINE int
fp_upsert_service (fp_region_t *r, const fp_wire_t *wire)
{
  fp_control_t *c = r->control;
  u64 hash, word = fp_wire_find (r, FP_TABLE_SERVICE, wire, &hash), policy = fp_policy (&wire->service);
  u32 old = fp_word_slot (word);
  if (word && fp_service_at (r, old)->family == wire->service.family &&
      fp_service_at (r, old)->protocol == wire->service.protocol)
    {
      fp_service_t *s = fp_service_at (r, old);
      if (fp_service_policy (s) != policy)
	{
	  atomic_store_explicit (&s->policy, policy, memory_order_release);
	  FP_STEP ();
	}
      return 0;
    }
  /* The same identity in another family or protocol is another service, whose users must go first. */
  if (word && fp_service_users (r, old))
    return -EBUSY;
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_SERVICE);
  if (slot == FP_NONE)
    return -ENOSPC;
  fp_service_t *s = fp_service_at (r, slot);
  s->id = wire->service.id;
  s->family = wire->service.family;
  s->protocol = wire->service.protocol;
  atomic_store_explicit (&s->policy, policy, memory_order_relaxed);
  for (u32 which = 0; which < FP_SETS; which++)
    atomic_store_explicit (&s->sets[which], 0, memory_order_relaxed);
  atomic_store_explicit (&s->serving, 0, memory_order_relaxed);
  FP_STEP ();
  fp_service_counters_open (r, slot);
  u8 dirty = c->service[slot].dirty; /* it may still be in the list */
  u32 next_dirty = c->service[slot].next_dirty;
  c->service[slot] = (fp_service_side_t){ FP_NONE, 0, 0, next_dirty, dirty, { 0, 0 } };
  if (!word)
    return fp_control_publish (r, FP_CONTROLLED_SERVICE, slot, fp_service_match, &s->id);
  fp_index_swap (&r->controlled[FP_CONTROLLED_SERVICE].index, hash, word, slot << 1,
		 atomic_load_explicit (&s->gen, memory_order_relaxed));
  fp_service_retire (r, old);
  return 0;
}

FP_INLINE u64
fp_service_word (const fp_region_t *r, u64 id)
{
  const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_SERVICE];
  return fp_index_find (&t->index, fp_hash_service (&r->hash, id), fp_service_match, t, &id);
}

/* A frontend leaves (its word is gone already). */
FP_INLINE void
fp_frontend_release (fp_region_t *r, u32 slot)
{
  fp_frontend_t *f = fp_frontend_at (r, slot);
  if (!(f->key.scope & FP_SCOPE_NODE_PORT) && f->kind <= FP_FRONTEND_LOAD_BALANCER)
    fp_vip_remove (r, &f->key, f->kind);
  if (fp_frontend_service (r, f) && r->control->service[f->service_slot].frontends)
    r->control->service[f->service_slot].frontends--;
  fp_control_retire_slot (r, FP_CONTROLLED_FRONTEND, slot);
}

FP_INLINE int
fp_upsert_frontend (fp_region_t *r, const fp_wire_t *wire)
{
  u64 hash, service = fp_service_word (r, wire->frontend.service), word = fp_wire_find (r, FP_TABLE_FRONTEND, wire, &hash);
  if (!service)
    return -ENOENT;
  u32 owner = fp_word_slot (service), gen = atomic_load_explicit (&fp_service_at (r, owner)->gen, memory_order_relaxed);
  if (fp_service_at (r, owner)->family != wire->frontend.family || fp_service_at (r, owner)->protocol != wire->frontend.protocol)
    return -EINVAL;
  const fp_frontend_t *old = word ? fp_frontend_at (r, fp_word_slot (word)) : NULL;
  if (old && old->service_slot == owner && old->service_gen == gen && old->kind == wire->frontend.kind)
    return 0;
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_FRONTEND);
  if (slot == FP_NONE)
    return -ENOSPC;
  fp_frontend_t *f = fp_frontend_at (r, slot);
  f->key = fp_frontend_key (&wire->frontend);
  f->service_slot = owner;
  f->service_gen = gen;
  f->kind = wire->frontend.kind;
  memset (f->pad, 0, sizeof (f->pad));
  FP_STEP ();
  int vip = !wire->frontend.node_port, rc = vip ? fp_vip_add (r, &f->key, f->kind) : 0;
  if (rc)
    {
      fp_control_free (r, FP_CONTROLLED_FRONTEND, slot);
      return rc;
    }
  if (word)
    {
      fp_index_swap (&r->controlled[FP_CONTROLLED_FRONTEND].index, hash, word, slot << 1,
		     atomic_load_explicit (&f->gen, memory_order_relaxed));
      fp_frontend_release (r, fp_word_slot (word));
    }
  else
    {
      fp_frontend_key_t key = f->key;
      rc = fp_control_publish (r, FP_CONTROLLED_FRONTEND, slot, fp_frontend_match, &key);
      if (rc)
	{
	  if (vip)
	    fp_vip_remove (r, &key, wire->frontend.kind);
	  return rc;
	}
    }
  r->control->service[owner].frontends++;
  return 0;
}

FP_INLINE int
fp_upsert_endpoint (fp_region_t *r, const fp_wire_t *wire)
{
  fp_control_t *c = r->control;
  u64 hash, service = fp_service_word (r, wire->endpoint.service), word = fp_wire_find (r, FP_TABLE_ENDPOINT, wire, &hash);
  if (!service)
    return -ENOENT;
  u32 owner = fp_word_slot (service);
  if (fp_service_at (r, owner)->family != wire->endpoint.family)
    return -EINVAL;
  if (word)
    {
      u32 slot = fp_word_slot (word);
      fp_endpoint_t *e = fp_endpoint_at (r, slot);
      if (!c->endpoint[slot].deleted && fp_endpoint_flags (e) == wire->endpoint.flags)
	return 0;
      c->endpoint[slot].deleted = 0;
      atomic_store_explicit (&e->flags, wire->endpoint.flags, memory_order_release);
      FP_STEP ();
      fp_control_dirty (c, owner);
      return 0;
    }
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_ENDPOINT);
  if (slot == FP_NONE)
    return -ENOSPC;
  fp_endpoint_t *e = fp_endpoint_at (r, slot);
  /* Raised here too: a flow made at the moment when the slot was given back may have noted the generation of that moment. */
  atomic_store_explicit (&e->gen, atomic_load_explicit (&e->gen, memory_order_relaxed) + 1, memory_order_relaxed);
  memcpy (e->address, wire->endpoint.address, 16);
  e->service_slot = owner;
  e->port = fp_swap16 (wire->endpoint.port);
  e->family = wire->endpoint.family;
  e->pad = 0;
  atomic_store_explicit (&e->flags, wire->endpoint.flags, memory_order_relaxed);
  FP_STEP ();
  fp_endpoint_key_t key = fp_endpoint_key (e);
  int rc = fp_control_publish (r, FP_CONTROLLED_ENDPOINT, slot, fp_endpoint_match, &key);
  if (rc)
    return rc;
  fp_control_link (c, owner, slot);
  fp_control_dirty (c, owner);
  return 0;
}

FP_INLINE int
fp_upsert (fp_region_t *r, u32 table, const fp_wire_t *wire)
{
  int rc = fp_wire_valid (table, wire);
  if (rc)
    return rc;
  switch (table)
    {
    case FP_TABLE_CONFIG:
      return fp_upsert_setting (r, wire);
    case FP_TABLE_PREFIX:
      return fp_upsert_prefix (r, wire);
    case FP_TABLE_SERVICE:
      return fp_upsert_service (r, wire);
    case FP_TABLE_FRONTEND:
      return fp_upsert_frontend (r, wire);
    case FP_TABLE_GTPU_ENDPOINT:
    case FP_TABLE_GTPU_PEER:
    case FP_TABLE_GTPU_TUNNEL:
    case FP_TABLE_GTPU_UE:
      return fp_gtpu_upsert (r, table, wire);
    default:
      return fp_upsert_endpoint (r, wire);
    }
}

/* ---- delete ---- */

FP_INLINE int
fp_delete (fp_region_t *r, u32 table, const fp_wire_t *key)
{
  fp_control_t *c = r->control;
  if (fp_table_gtpu (table))
    return fp_gtpu_delete (r, table, key);
  enum fp_controlled t = fp_table_controlled (table);
  u64 hash, word = fp_wire_find (r, table, key, &hash);
  u32 slot = fp_word_slot (word);
  if (!word)
    return 0;
  if (table == FP_TABLE_ENDPOINT)
    {
      if (!c->endpoint[slot].deleted)
	fp_control_dirty (c, c->endpoint[slot].service);
      c->endpoint[slot].deleted = 1;
      return 0;
    }
  if (table == FP_TABLE_SERVICE && fp_service_users (r, slot))
    return -EBUSY;
  fp_control_erase (r, t, hash, fp_word_ref (word), fp_word_gen (word));
  r->controlled[t].used--;
  if (table == FP_TABLE_FRONTEND)
    fp_frontend_release (r, slot);
  else if (table == FP_TABLE_SERVICE)
    fp_service_retire (r, slot);
  else
    fp_control_retire_slot (r, t, slot);
  c->prefixes_dirty |= table == FP_TABLE_PREFIX;
  c->settings_dirty |= table == FP_TABLE_CONFIG;
  return 0;
}

/* ---- messages ---- */

/* records: count records of `table`, packed; codes: count results. Returns the number of failed ones, or -EINVAL for an unknown table. */
FP_INLINE int
fp_control_upsert (fp_region_t *r, u32 table, const void *records, u32 count, int *codes)
{
  u32 size = fp_wire_size (table);
  int failed = 0;
  if (!size)
    return -EINVAL;
  for (u32 i = 0; i < count; i++)
    {
      fp_wire_t wire;
      memset (&wire, 0, sizeof (wire));
      memcpy (wire.bytes, (const u8 *) records + (size_t) i * size, size);
      codes[i] = fp_upsert (r, table, &wire);
      failed += codes[i] != 0;
    }
  fp_publish_snapshots (r);
  fp_control_reclaim (r);
  return failed;
}

/* keys: count keys of `table`, packed. */
FP_INLINE int
fp_control_delete (fp_region_t *r, u32 table, const void *keys, u32 count, int *codes)
{
  u32 size = fp_wire_key_size (table);
  int failed = 0;
  if (!size)
    return -EINVAL;
  for (u32 i = 0; i < count; i++)
    {
      fp_wire_t key;
      memset (&key, 0, sizeof (key));
      memcpy (key.bytes, (const u8 *) keys + (size_t) i * size, size);
      codes[i] = fp_delete (r, table, &key);
      failed += codes[i] != 0;
    }
  fp_publish_snapshots (r);
  fp_control_reclaim (r);
  return failed;
}

/* Publish the endpoint sets of all services touched. Returns the number that must wait for room (tried again by the next commit
 * or poll; their old sets stay in force). */
FP_INLINE int
fp_control_commit (fp_region_t *r)
{
  int failed = fp_publish_sets (r);
  fp_control_reclaim (r);
  return failed;
}

#define FP_COMMIT_STEP 8192 /* endpoints: a quarter of a millisecond */

/* The same in steps, between which the control thread may do other things, other commits included. *begun is 0 at first. True: what had been changed
 * then is published, but for sets that found no room. */
FP_INLINE int
fp_control_commit_step (fp_region_t *r, u32 *begun)
{
  fp_control_t *c = r->control;
  if (!*begun && c->first_begun == FP_NONE)
    {
      fp_publish_begin (c);
      *begun = 1;
    }
  fp_publish_some (r, FP_COMMIT_STEP);
  fp_control_reclaim (r);
  return *begun && c->first_begun == FP_NONE;
}

/* Now and then from the control thread's loop. Returns nonzero while something waits for workers or for room. */
FP_INLINE int
fp_control_poll (fp_region_t *r)
{
  fp_control_t *c = r->control;
  fp_publish_snapshots (r);
  fp_control_reclaim (r);
  for (u32 t = 0; t < FP_SHARED_TABLES; t++)
    {
      while (fp_slot_reclaim (&c->worker, (enum fp_shared) t, FP_POOL_CHAIN))
	;
      fp_pool_put (r->shared[t].pool, &c->worker.free[t]);
    }
  int waiting = c->retired_count || c->prefixes_dirty || c->settings_dirty || c->gtpu.snapshot_dirty || c->gtpu.markers;
  for (u32 t = 0; t < FP_SHARED_TABLES; t++)
    waiting |= c->worker.limbo[t].head != FP_NONE;
  return waiting;
}

/* ---- reading back ---- */

/* The record of a key; 0 or -ENOENT (-EINVAL: no such table). */
FP_INLINE int
fp_control_fetch (const fp_region_t *r, u32 table, const void *key, fp_wire_t *out)
{
  fp_wire_t wire;
  u64 hash;
  if (!fp_wire_size (table))
    return -EINVAL;
  memset (&wire, 0, sizeof (wire));
  memcpy (wire.bytes, key, fp_wire_key_size (table));
  u64 word = fp_wire_find (r, table, &wire, &hash);
  if (!word || (table == FP_TABLE_ENDPOINT && r->control->endpoint[fp_word_slot (word)].deleted))
    return -ENOENT;
  fp_wire_rebuild (r, table, fp_word_slot (word), out);
  return 0;
}

/* An entry whose record no longer has the key under which it was entered (or is otherwise unusable) can be neither found nor deleted by key: take it out,
 * so that the next plan puts the right one in. */
FP_INLINE void
fp_control_mend (fp_region_t *r, enum fp_controlled t, _Atomic u64 *at, u64 word)
{
  fp_control_t *c = r->control;
  u32 slot = fp_word_slot (word);
  c->repaired++;
  if (t >= FP_CONTROLLED_GTPU_ENDPOINT && t <= FP_CONTROLLED_UE)
    {
      fp_gtpu_mend (r, t, at, word);
      return;
    }
  fp_index_cas (at, word, 0);
  if (t == FP_CONTROLLED_ENDPOINT)
    {
      /* as if deleted: it must leave the sets before its slot may be used again */
      c->endpoint[slot].deleted = 1;
      fp_control_dirty (c, c->endpoint[slot].service);
      return;
    }
  if (t == FP_CONTROLLED_SERVICE)
    {
      for (u32 e = c->service[slot].head; e != FP_NONE; e = c->endpoint[e].next)
	c->endpoint[e].deleted = 1;
      fp_service_publish (r, slot); /* empty sets need no room */
    }
  if (t == FP_CONTROLLED_FRONTEND)
    {
      u32 service = fp_frontend_at (r, slot)->service_slot;
      if (service < r->controlled[FP_CONTROLLED_SERVICE].capacity && c->service[service].frontends)
	c->service[service].frontends--;
      fp_vip_recount (r);
    }
  c->prefixes_dirty |= t == FP_CONTROLLED_PREFIX;
  c->settings_dirty |= t == FP_CONTROLLED_SETTING;
  r->controlled[t].used--;
  if (t == FP_CONTROLLED_SERVICE)
    fp_service_retire (r, slot);
  else
    fp_control_retire_slot (r, t, slot);
}

FP_INLINE int
fp_control_entry_valid (const fp_region_t *r, u32 table, const _Atomic u64 *at, u64 word, fp_wire_t *wire)
{
  enum fp_controlled t = fp_table_controlled (table);
  u32 slot = fp_word_slot (word);
  u64 hash = fp_controlled_hash (r, t, slot);
  u64 should = fp_word (hash, slot << 1, atomic_load_explicit (fp_controlled_gen (r, t, slot), memory_order_relaxed));
  fp_wire_rebuild (r, table, slot, wire);
  return word == (should | FP_WORD_LIVE) && fp_index_locate (&r->controlled[t].index, hash, word) == at;
}

/* Of the entry that a dump will come to: in two stages, some entries ahead. */
FP_INLINE void
fp_control_dump_ahead (const fp_region_t *r, u32 table, u64 position, u64 end)
{
  const fp_control_table_t *t = &r->controlled[fp_table_controlled (table)];
  for (u32 stage = 0; stage < 2 && fp_table_gtpu (table); stage++)
    {
      u64 at = position + (stage ? 4 : 8) * FP_BUCKET_WORDS;
      u64 word = at < end ? atomic_load_explicit (fp_index_at (&t->index, at), memory_order_relaxed) : 0;
      if (word && fp_word_slot (word) < t->capacity)
	fp_gtpu_prefetch (r, table, fp_word_slot (word), stage);
    }
}

/* Up to max entries {key, u64 digest} from *cursor (0: the start) on; returns how many (0 too where a stretch is empty), *cursor = 0 at the end. An entry that is there during the whole
 * dump comes exactly once, since entries keep their positions. Digests are of what the tables hold now. -EINVAL: no such table. */
FP_INLINE int
fp_control_dump (fp_region_t *r, u32 table, u64 *cursor, void *out, u32 max)
{
  u32 key_size = fp_wire_key_size (table);
  if (!key_size)
    return -EINVAL;
  enum fp_controlled t = fp_table_controlled (table);
  const fp_index_t *x = &r->controlled[t].index;
  u64 position = *cursor, end = fp_index_positions (x);
  u64 stop = end > position && end - position > FP_DUMP_POSITIONS ? position + FP_DUMP_POSITIONS : end;
  u8 *p = out;
  u32 n = 0;
  for (; position < stop && n < max; position++)
    {
      _Atomic u64 *at = fp_index_at (x, position);
      u64 word = atomic_load_explicit (at, memory_order_relaxed);
      fp_wire_t wire;
      fp_control_dump_ahead (r, table, position, end);
      if (!(word & FP_WORD_LIVE) || fp_word_slot (word) >= r->controlled[t].capacity)
	continue;
      if (!fp_control_entry_valid (r, table, at, word, &wire))
	{
	  fp_control_mend (r, t, at, word);
	  continue;
	}
      if (table == FP_TABLE_ENDPOINT && r->control->endpoint[fp_word_slot (word)].deleted)
	continue;
      u64 digest = fp_xxh64 (wire.bytes, fp_wire_size (table), 0);
      memcpy (p, wire.bytes, key_size);
      memcpy (p + key_size, &digest, 8);
      p += key_size + 8;
      n++;
    }
  *cursor = position < end ? position : 0;
  return (int) n;
}

/* ---- sessions, usage ---- */

/* Drop every session of both families. Returns how many. */
FP_INLINE u32
fp_control_flush_sessions (fp_region_t *r)
{
  fp_worker_t *w = &r->control->worker;
  u32 gone = 0;
  fp_worker_wake (w);
  for (int v6 = 0; v6 < 2; v6++)
    {
      const fp_shared_table_t *t = fp_session_table (r, v6);
      u32 used = atomic_load_explicit (&t->pool->fresh, memory_order_relaxed);
      for (u32 slot = 0; slot < used; slot++)
	{
	  void *s = fp_session_at (t, v6, slot);
	  gone += (u32) fp_session_remove (w, v6, slot, atomic_load_explicit (fp_session_gen (s, v6), memory_order_acquire));
	  if (slot % 256 == 255)
	    fp_worker_quiescent (w, w->now_ns);
	}
    }
  fp_worker_sleep (w);
  return gone;
}

typedef struct
{
  const char *name;
  u32 size; /* capacity in entries */
  u32 used;
  u64 bytes; /* records and index */
  u8 is_session;
} fp_table_usage_t;

#define FP_USAGE_TABLES (FP_SHARED_TABLES + FP_CONTROLLED_TABLES + 1)

/* Entries that are live, from the workers' counts. */
FP_INLINE u32
fp_shared_used (const fp_region_t *r, enum fp_shared table)
{
  u64 used = 0;
  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    used += atomic_load_explicit (&r->counters[i].live[table], memory_order_relaxed);
  return (i64) used < 0 ? 0 : (u32) used; /* read while they change */
}

/* Size, load and memory of every table. */
FP_INLINE u32
fp_control_usage (const fp_region_t *r, fp_table_usage_t usage[FP_USAGE_TABLES])
{
  static const char *const shared[] = { "sessions4", "sessions6", "fragments" };
  static const u8 shared_size[] = { sizeof (fp_session4_t), sizeof (fp_session6_t), sizeof (fp_frag_t) };
  static const char *const controlled[] = { "services", "frontends", "endpoints", "prefixes", "settings",
					    "gtpuEndpoints", "gtpuPeers", "gtpuTunnels", "gtpuUes", "gtpuHeaders", "addresses" };
  static const u8 controlled_size[] = { sizeof (fp_service_t),	     sizeof (fp_frontend_t),	  sizeof (fp_endpoint_t),
					sizeof (fp_prefix_record_t), sizeof (fp_config_record_t),
					sizeof (fp_gtpu_endpoint_record_t), sizeof (fp_gtpu_peer_t), sizeof (fp_tunnel_t),
					sizeof (fp_ue_t), sizeof (fp_gtpu_encap_t), sizeof (fp_vip_t) };
  u32 n = 0;
  for (u32 t = 0; t < FP_SHARED_TABLES; t++)
    {
      const fp_index_t *x = &r->shared[t].index;
      u64 buckets = (u64) x->mask + 1 + x->overflow_size;
      usage[n++] = (fp_table_usage_t){ shared[t], r->shared[t].capacity, fp_shared_used (r, (enum fp_shared) t),
				       (u64) r->shared[t].capacity * shared_size[t] + buckets * sizeof (fp_bucket_t),
				       t != FP_SHARED_FRAGMENT };
    }
  for (u32 t = 0; t < FP_CONTROLLED_TABLES; t++)
    {
      const fp_index_t *x = &r->controlled[t].index;
      u64 buckets = (u64) x->mask + 1 + x->overflow_size;
      usage[n++] = (fp_table_usage_t){ controlled[t], r->controlled[t].capacity, r->controlled[t].used,
				       (u64) r->controlled[t].capacity * controlled_size[t] + buckets * sizeof (fp_bucket_t), 0 };
    }
  usage[n++] = (fp_table_usage_t){ "sets", r->array_words, r->control->arena.used * FP_ARENA_UNIT,
				   (u64) r->array_words * sizeof (u32), 0 };
  return n;
}

#endif /* FP_CONTROL_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Packet-path lookups in the tables that the control thread writes: frontends, services, endpoints, known addresses. What they return may
 * be read until the caller's next quiescent point. Indices taken from the region are checked before use, so that a
 * record altered by hand leads to a miss, not out of the table. */
#ifndef FP_SERVICES_H
#define FP_SERVICES_H

#include "fp_handle.h"

FP_ALWAYS_INLINE void *
fp_controlled_at (const fp_region_t *r, enum fp_controlled table, u32 slot, size_t size)
{
  return r->controlled[table].records + (size_t) slot * size;
}

FP_ALWAYS_INLINE fp_service_t *
fp_service_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_SERVICE, slot, sizeof (fp_service_t));
}

FP_ALWAYS_INLINE fp_frontend_t *
fp_frontend_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_FRONTEND, slot, sizeof (fp_frontend_t));
}

FP_ALWAYS_INLINE fp_endpoint_t *
fp_endpoint_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_ENDPOINT, slot, sizeof (fp_endpoint_t));
}

FP_ALWAYS_INLINE fp_vip_t *
fp_vip_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_VIP, slot, sizeof (fp_vip_t));
}

FP_ALWAYS_INLINE int
fp_frontend_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  if (FP_UNLIKELY (ref >> 1 >= t->capacity))
    return FP_MATCH_NO;
  const fp_frontend_t *f = (const fp_frontend_t *) t->records + (ref >> 1);
  const u8 *a = (const u8 *) &f->key, *b = key;
  u64 d = (fp_load64 (a) ^ fp_load64 (b)) | (fp_load64 (a + 8) ^ fp_load64 (b + 8)) | (fp_load64 (a + 16) ^ fp_load64 (b + 16));
  return d == 0;
}

FP_ALWAYS_INLINE const fp_frontend_t *
fp_frontend_lookup (const fp_region_t *r, const fp_frontend_key_t *key)
{
  const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_FRONTEND];
  u64 word = fp_index_find (&t->index, fp_hash_frontend (&r->hash, key), fp_frontend_match, t, key);
  return word ? fp_frontend_at (r, fp_word_slot (word)) : NULL;
}

/* The frontend at exactly this address and port (never a node port), or NULL. v6 is a constant; dst: 4 or 16 bytes, as dport in
 * network order. */
FP_ALWAYS_INLINE const fp_frontend_t *
fp_frontend_find (const fp_region_t *r, int v6, u32 vrf, const u8 *dst, u16 dport, u8 proto)
{
  fp_frontend_key_t key = { { 0 }, vrf, dport, proto, v6 ? 6 : 4 };
  memcpy (key.address, dst, v6 ? 16 : 4);
  return fp_frontend_lookup (r, &key);
}

FP_INLINE const fp_frontend_t *
fp_frontend_find4 (const fp_region_t *r, u32 vrf, u32 dst, u16 dport, u8 proto)
{
  return fp_frontend_find (r, 0, vrf, (const u8 *) &dst, dport, proto);
}

FP_INLINE const fp_frontend_t *
fp_frontend_find6 (const fp_region_t *r, u32 vrf, const u8 dst[16], u16 dport, u8 proto)
{
  return fp_frontend_find (r, 1, vrf, dst, dport, proto);
}

/* The node port, or NULL; the caller has found that the destination is an address of this node. family: 4 or 6. */
FP_INLINE const fp_frontend_t *
fp_nodeport_find (const fp_region_t *r, u32 vrf, u8 family, u16 dport, u8 proto)
{
  fp_frontend_key_t key = { { 0 }, vrf, dport, proto, (u8) (family | FP_SCOPE_NODE_PORT) };
  return fp_frontend_lookup (r, &key);
}

/* The service of a frontend; NULL only if the record was damaged. */
FP_INLINE const fp_service_t *
fp_frontend_service (const fp_region_t *r, const fp_frontend_t *f)
{
  if (FP_UNLIKELY (f->service_slot >= r->controlled[FP_CONTROLLED_SERVICE].capacity))
    return NULL;
  const fp_service_t *s = fp_service_at (r, f->service_slot);
  return atomic_load_explicit (&s->gen, memory_order_relaxed) == f->service_gen ? s : NULL;
}

/* The service that a session was made for, or NULL when it has been deleted since. */
FP_INLINE const fp_service_t *
fp_service_deref (const fp_region_t *r, u32 slot, u32 gen)
{
  if (slot >= r->controlled[FP_CONTROLLED_SERVICE].capacity)
    return NULL;
  const fp_service_t *s = fp_service_at (r, slot);
  return atomic_load_explicit (&s->gen, memory_order_acquire) == gen ? s : NULL;
}

/* which: FP_SET_CLUSTER or FP_SET_LOCAL. */
FP_INLINE fp_set_t
fp_service_set (const fp_region_t *r, const fp_service_t *s, u32 which)
{
  u64 v = atomic_load_explicit (&s->sets[which], memory_order_acquire);
  u32 offset = (u32) (v >> 32), count = (u32) v;
  fp_set_t set = { r->arrays + offset, count };
  if (FP_UNLIKELY ((u64) offset + count > r->array_words))
    set.slots = r->arrays, set.count = 0;
  return set;
}

FP_ALWAYS_INLINE u64
fp_service_policy (const fp_service_t *s)
{
  return atomic_load_explicit (&s->policy, memory_order_relaxed);
}

/* Endpoints of the service that serve, whatever set they are in. */
FP_ALWAYS_INLINE u32
fp_service_serving (const fp_service_t *s)
{
  return atomic_load_explicit (&s->serving, memory_order_relaxed);
}

/* An endpoint from a set; NULL only if the set was damaged. */
FP_ALWAYS_INLINE const fp_endpoint_t *
fp_endpoint (const fp_region_t *r, u32 slot)
{
  return FP_LIKELY (slot < r->controlled[FP_CONTROLLED_ENDPOINT].capacity) ? fp_endpoint_at (r, slot) : NULL;
}

FP_ALWAYS_INLINE u8
fp_endpoint_flags (const fp_endpoint_t *e)
{
  return atomic_load_explicit (&e->flags, memory_order_relaxed);
}

/* Whether the endpoint that a session was made for is still there and serves. */
FP_ALWAYS_INLINE int
fp_endpoint_serves (const fp_region_t *r, u32 slot, u32 gen)
{
  if (FP_UNLIKELY (slot >= r->controlled[FP_CONTROLLED_ENDPOINT].capacity))
    return 0;
  const fp_endpoint_t *e = fp_endpoint_at (r, slot);
  u8 flags = atomic_load_explicit (&e->flags, memory_order_acquire);
  return atomic_load_explicit (&e->gen, memory_order_relaxed) == gen && (flags & FP_ENDPOINT_SERVES);
}

typedef struct
{
  const u8 *address;
  u32 vrf;
  u8 family;
} fp_vip_key_t;

FP_INLINE int
fp_vip_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  const fp_vip_key_t *k = key;
  (void) live;
  if (FP_UNLIKELY (ref >> 1 >= t->capacity))
    return FP_MATCH_NO;
  const fp_vip_t *v = (const fp_vip_t *) t->records + (ref >> 1);
  return v->vrf == k->vrf && v->family == k->family && !memcmp (v->address, k->address, 16);
}

FP_INLINE u64
fp_vip_word (const fp_region_t *r, const u8 address[16], u32 vrf, u8 family)
{
  const fp_control_table_t *t = &r->controlled[FP_CONTROLLED_VIP];
  fp_vip_key_t key = { address, vrf, family };
  return fp_index_find (&t->index, fp_hash_vip (&r->hash, address, vrf, family), fp_vip_match, t, &key);
}

/* Which kinds of frontends an address (4 or 16 bytes) has, on any port: bits 1 << enum fp_frontend_kind; 0: it is no address of a Service. */
FP_INLINE u8
fp_vip_kinds (const fp_region_t *r, int v6, u32 vrf, const u8 *dst)
{
  u8 address[16] = { 0 };
  memcpy (address, dst, v6 ? 16 : 4);
  u64 word = fp_vip_word (r, address, vrf, v6 ? 6 : 4);
  return word ? atomic_load_explicit (&fp_vip_at (r, fp_word_slot (word))->kinds, memory_order_relaxed) : 0;
}

/* Settings in force. */
FP_ALWAYS_INLINE const fp_config_t *
fp_config (const fp_region_t *r)
{
  return atomic_load_explicit (&r->config, memory_order_acquire);
}

#endif /* FP_SERVICES_H */

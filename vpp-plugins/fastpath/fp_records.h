/* SPDX-License-Identifier: Apache-2.0 */
/* Wire records <-> what the tables hold: validation, keys, and the record rebuilt from live contents. */
#ifndef FP_RECORDS_H
#define FP_RECORDS_H

#include <errno.h>

#include "fp_prefixes.h"
#include "fp_services.h"
#include "fp_tunnel_records.h"

#define FP_L4_TCP  6
#define FP_L4_UDP  17
#define FP_L4_SCTP 132

#define FP_GTPU_SWITCHES_ALL	 0x1f
#define FP_GTPU_SWITCHES_KNOWN	 (FP_GTPU_SWITCHES_ALL | FP_GTPU_BYPASS_FIB)
#define FP_GTPU_SWITCHES_DEFAULT (FP_GTPU_SWITCHES_ALL | 4 << FP_GTPU_LOOP_SHIFT)

/* Policies that the kernels serve; a service that asks for others is refused (-EOPNOTSUPP). */
#ifndef FP_SERVICE_FLAGS_SERVED
#define FP_SERVICE_FLAGS_SERVED 0
#endif

typedef union
{
  fp_wire_config_t config;
  fp_wire_prefix_t prefix;
  fp_wire_service_t service;
  fp_wire_frontend_t frontend;
  fp_wire_endpoint_t endpoint;
  fp_wire_gtpu_endpoint_t gtpu_endpoint;
  fp_wire_gtpu_peer_t gtpu_peer;
  fp_wire_gtpu_tunnel_t tunnel;
  fp_wire_gtpu_ue_t ue;
  u8 bytes[sizeof (fp_wire_gtpu_endpoint_t)];
} fp_wire_t;

/* Sizes by enum fp_table; 0: no such table. */
FP_INLINE u32
fp_wire_size (u32 table)
{
  static const u8 size[] = { 0, sizeof (fp_wire_config_t), sizeof (fp_wire_prefix_t), sizeof (fp_wire_service_t),
			     sizeof (fp_wire_frontend_t), sizeof (fp_wire_endpoint_t), sizeof (fp_wire_gtpu_endpoint_t),
			     sizeof (fp_wire_gtpu_peer_t), sizeof (fp_wire_gtpu_tunnel_t), sizeof (fp_wire_gtpu_ue_t) };
  return table < sizeof (size) ? size[table] : 0;
}

FP_INLINE u32
fp_wire_key_size (u32 table)
{
  static const u8 size[] = { 0, FP_WIRE_CONFIG_KEY, FP_WIRE_PREFIX_KEY, FP_WIRE_SERVICE_KEY, FP_WIRE_FRONTEND_KEY,
			     FP_WIRE_ENDPOINT_KEY, FP_WIRE_GTPU_ENDPOINT_KEY, FP_WIRE_GTPU_PEER_KEY, FP_WIRE_GTPU_TUNNEL_KEY,
			     FP_WIRE_GTPU_UE_KEY };
  return table < sizeof (size) ? size[table] : 0;
}

/* Tables of GTP-U. */
FP_INLINE int
fp_table_gtpu (u32 table)
{
  return table >= FP_TABLE_GTPU_ENDPOINT && table <= FP_TABLE_GTPU_UE;
}

FP_INLINE int
fp_protocol_valid (u8 protocol)
{
  return protocol == FP_L4_TCP || protocol == FP_L4_UDP;
}

/* ---- validation: 0 or a negative errno; references to services are checked by the caller ---- */

FP_INLINE int
fp_config_valid (const fp_wire_config_t *c)
{
  switch (c->key)
    {
    case FP_CONFIG_MASQUERADE_ALL:
      return c->index == 0 && c->value <= 1 && fp_all_zero (c->address, 16) ? 0 : -EINVAL;
    case FP_CONFIG_SNAT_PORT_RANGE:
      {
	u32 low = (u16) c->value, high = (u16) (c->value >> 16);
	return c->index < 16 && c->value >> 32 == 0 && low && low <= high && fp_all_zero (c->address, 16) ? 0 : -EINVAL;
      }
    case FP_CONFIG_GTPU_SWITCHES:
      {
	u64 loop = c->value >> FP_GTPU_LOOP_SHIFT;
	return c->index == 0 && !(c->value & 0xff & ~(u64) FP_GTPU_SWITCHES_KNOWN) && (loop == 1 || loop == 2 || loop == 4) &&
		   fp_all_zero (c->address, 16) ?
		 0 :
		 -EINVAL;
      }
    case FP_CONFIG_SNAT_ADDRESS:
    case FP_CONFIG_ICMP_SOURCE:
      return c->value == 0 && c->index <= 6 && fp_address_valid ((u8) c->index, c->address) ? 0 : -EINVAL;
    default:
      return -EINVAL;
    }
}

FP_INLINE int
fp_prefix_valid (const fp_wire_prefix_t *p)
{
  u64 high, low, h, l;
  if ((p->family != 4 && p->family != 6) || p->length > (p->family == 4 ? 32 : 128) || p->pad || p->reserved ||
      p->prefix_class < FP_PREFIX_HOST || p->prefix_class > FP_PREFIX_UE_POOL)
    return -EINVAL;
  fp_prefix_halves (p->address, &high, &low);
  h = high, l = low;
  fp_prefix_mask (&h, &l, p->length);
  return h == high && l == low ? 0 : -EINVAL;
}

FP_INLINE int
fp_service_valid (const fp_wire_service_t *s)
{
  if (!s->id || (s->family != 4 && s->family != 6) || s->empty_verdict > FP_EMPTY_DROP || s->reserved[0] || s->reserved[1] ||
      s->affinity_seconds > 86400 || (s->affinity_seconds != 0) != ((s->flags & FP_SERVICE_AFFINITY_CLIENT_IP) != 0) ||
      s->flags > (FP_SERVICE_INTERNAL_LOCAL | FP_SERVICE_EXTERNAL_LOCAL | FP_SERVICE_AFFINITY_CLIENT_IP))
    return -EINVAL;
  if (s->protocol == FP_L4_SCTP || (s->flags & ~FP_SERVICE_FLAGS_SERVED))
    return -EOPNOTSUPP;
  return fp_protocol_valid (s->protocol) ? 0 : -EINVAL;
}

FP_INLINE int
fp_frontend_valid (const fp_wire_frontend_t *f)
{
  if ((f->family != 4 && f->family != 6) || !f->port || f->node_port > 1 || f->kind > FP_FRONTEND_LOAD_BALANCER ||
      !fp_all_zero (f->pad, sizeof (f->pad)) || !fp_all_zero (f->pad2, sizeof (f->pad2)) || !fp_protocol_valid (f->protocol))
    return -EINVAL;
  if (f->node_port != (f->kind == FP_FRONTEND_NODE_PORT))
    return -EINVAL;
  return (f->node_port ? fp_all_zero (f->address, 16) : fp_address_valid (f->family, f->address)) ? 0 : -EINVAL;
}

FP_INLINE int
fp_endpoint_valid (const fp_wire_endpoint_t *e)
{
  return fp_address_valid (e->family, e->address) && e->port && !e->pad && !e->pad2 && e->flags < 16 &&
	     fp_all_zero (e->pad3, sizeof (e->pad3)) ?
	   0 :
	   -EINVAL;
}

FP_INLINE int
fp_wire_valid (u32 table, const fp_wire_t *wire)
{
  switch (table)
    {
    case FP_TABLE_CONFIG:
      return fp_config_valid (&wire->config);
    case FP_TABLE_PREFIX:
      return fp_prefix_valid (&wire->prefix);
    case FP_TABLE_SERVICE:
      return fp_service_valid (&wire->service);
    case FP_TABLE_FRONTEND:
      return fp_frontend_valid (&wire->frontend);
    case FP_TABLE_ENDPOINT:
      return fp_endpoint_valid (&wire->endpoint);
    default:
      return fp_table_gtpu (table) ? fp_gtpu_wire_valid (table, wire) : -EINVAL;
    }
}

/* ---- keys and hashes of the tables' records ---- */

typedef struct
{
  u32 service_slot;
  u16 port; /* network order */
  u8 family;
  u8 pad;
  u8 address[16];
} fp_endpoint_key_t;

FP_INLINE u16
fp_swap16 (u16 v)
{
  return (u16) (v << 8 | v >> 8);
}

FP_INLINE fp_frontend_key_t
fp_frontend_key (const fp_wire_frontend_t *f)
{
  fp_frontend_key_t key = { { 0 }, f->vrf, fp_swap16 (f->port), f->protocol,
			    (u8) (f->family | (f->node_port ? FP_SCOPE_NODE_PORT : 0)) };
  memcpy (key.address, f->address, 16);
  return key;
}

FP_INLINE u64
fp_hash_service (const fp_hash_t *h, u64 id)
{
  return fp_hash_words (h, &id, 1);
}

FP_INLINE u64
fp_hash_endpoint (const fp_hash_t *h, const fp_endpoint_key_t *k)
{
  u64 words[3] = { fp_load64 (k), fp_load64 (k->address), fp_load64 (k->address + 8) };
  return fp_hash_words (h, words, 3);
}

FP_INLINE u64
fp_hash_prefix (const fp_hash_t *h, const fp_wire_prefix_t *p)
{
  const u8 *b = (const u8 *) p;
  u64 words[3] = { fp_load64 (b), fp_load64 (b + 8), fp_load64 (b + 16) };
  return fp_hash_words (h, words, 3);
}

FP_INLINE u64
fp_hash_setting (const fp_hash_t *h, const fp_wire_config_t *c)
{
  u64 word = fp_load64 (c);
  return fp_hash_words (h, &word, 1);
}

FP_INLINE fp_prefix_record_t *
fp_prefix_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_PREFIX, slot, sizeof (fp_prefix_record_t));
}

FP_INLINE fp_config_record_t *
fp_setting_at (const fp_region_t *r, u32 slot)
{
  return fp_controlled_at (r, FP_CONTROLLED_SETTING, slot, sizeof (fp_config_record_t));
}

FP_INLINE fp_endpoint_key_t
fp_endpoint_key (const fp_endpoint_t *e)
{
  fp_endpoint_key_t key = { e->service_slot, e->port, e->family, 0, { 0 } };
  memcpy (key.address, e->address, 16);
  return key;
}

FP_INLINE int
fp_service_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  return ref >> 1 < t->capacity && ((const fp_service_t *) t->records)[ref >> 1].id == *(const u64 *) key;
}

FP_INLINE int
fp_endpoint_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  if (ref >> 1 >= t->capacity)
    return FP_MATCH_NO;
  fp_endpoint_key_t k = fp_endpoint_key ((const fp_endpoint_t *) t->records + (ref >> 1));
  return !memcmp (&k, key, sizeof (k));
}

FP_INLINE int
fp_prefix_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  return ref >> 1 < t->capacity && !memcmp ((const fp_prefix_record_t *) t->records + (ref >> 1), key, FP_WIRE_PREFIX_KEY);
}

FP_INLINE int
fp_setting_match (const void *ctx, int live, u32 ref, const void *key)
{
  const fp_control_table_t *t = ctx;
  (void) live;
  return ref >> 1 < t->capacity && !memcmp ((const fp_config_record_t *) t->records + (ref >> 1), key, FP_WIRE_CONFIG_KEY);
}

/* ---- by enum fp_table ---- */

FP_INLINE enum fp_controlled
fp_table_controlled (u32 table)
{
  static const u8 of[] = { 0, FP_CONTROLLED_SETTING, FP_CONTROLLED_PREFIX, FP_CONTROLLED_SERVICE, FP_CONTROLLED_FRONTEND,
			   FP_CONTROLLED_ENDPOINT, FP_CONTROLLED_GTPU_ENDPOINT, FP_CONTROLLED_GTPU_PEER, FP_CONTROLLED_TUNNEL,
			   FP_CONTROLLED_UE };
  return (enum fp_controlled) of[table];
}

/* Generation of a record in its slot. */
FP_INLINE _Atomic u32 *
fp_controlled_gen (const fp_region_t *r, enum fp_controlled t, u32 slot)
{
  switch (t)
    {
    case FP_CONTROLLED_SERVICE:
      return &fp_service_at (r, slot)->gen;
    case FP_CONTROLLED_FRONTEND:
      return &fp_frontend_at (r, slot)->gen;
    case FP_CONTROLLED_ENDPOINT:
      return &fp_endpoint_at (r, slot)->gen;
    case FP_CONTROLLED_PREFIX:
      return &fp_prefix_at (r, slot)->gen;
    case FP_CONTROLLED_SETTING:
      return &fp_setting_at (r, slot)->gen;
    case FP_CONTROLLED_GTPU_ENDPOINT:
    case FP_CONTROLLED_GTPU_PEER:
    case FP_CONTROLLED_TUNNEL:
    case FP_CONTROLLED_UE:
      return fp_gtpu_gen (r, t, slot);
    default:
      return &fp_vip_at (r, slot)->gen;
    }
}

/* Hash of the key that a slot's record holds now. */
FP_INLINE u64
fp_controlled_hash (const fp_region_t *r, enum fp_controlled t, u32 slot)
{
  switch (t)
    {
    case FP_CONTROLLED_SERVICE:
      return fp_hash_service (&r->hash, fp_service_at (r, slot)->id);
    case FP_CONTROLLED_FRONTEND:
      return fp_hash_frontend (&r->hash, &fp_frontend_at (r, slot)->key);
    case FP_CONTROLLED_ENDPOINT:
      {
	fp_endpoint_key_t key = fp_endpoint_key (fp_endpoint_at (r, slot));
	return fp_hash_endpoint (&r->hash, &key);
      }
    case FP_CONTROLLED_PREFIX:
      return fp_hash_prefix (&r->hash, &fp_prefix_at (r, slot)->wire);
    case FP_CONTROLLED_SETTING:
      return fp_hash_setting (&r->hash, &fp_setting_at (r, slot)->wire);
    case FP_CONTROLLED_GTPU_ENDPOINT:
    case FP_CONTROLLED_GTPU_PEER:
    case FP_CONTROLLED_TUNNEL:
    case FP_CONTROLLED_UE:
      return fp_gtpu_hash (r, t, slot);
    default:
      {
	const fp_vip_t *v = fp_vip_at (r, slot);
	return fp_hash_vip (&r->hash, v->address, v->vrf, v->family);
      }
    }
}

/* Word of a wire key (the start of a record), or 0. For an endpoint its service must be there. */
FP_INLINE u64
fp_wire_find (const fp_region_t *r, u32 table, const fp_wire_t *key, u64 *hash)
{
  const fp_control_table_t *t = &r->controlled[fp_table_controlled (table)];
  switch (table)
    {
    case FP_TABLE_CONFIG:
      *hash = fp_hash_setting (&r->hash, &key->config);
      return fp_index_find (&t->index, *hash, fp_setting_match, t, key);
    case FP_TABLE_PREFIX:
      *hash = fp_hash_prefix (&r->hash, &key->prefix);
      return fp_index_find (&t->index, *hash, fp_prefix_match, t, key);
    case FP_TABLE_SERVICE:
      *hash = fp_hash_service (&r->hash, key->service.id);
      return fp_index_find (&t->index, *hash, fp_service_match, t, &key->service.id);
    case FP_TABLE_FRONTEND:
      {
	fp_frontend_key_t k = fp_frontend_key (&key->frontend);
	*hash = fp_hash_frontend (&r->hash, &k);
	return fp_index_find (&t->index, *hash, fp_frontend_match, t, &k);
      }
    case FP_TABLE_GTPU_ENDPOINT:
    case FP_TABLE_GTPU_PEER:
    case FP_TABLE_GTPU_TUNNEL:
    case FP_TABLE_GTPU_UE:
      return fp_gtpu_wire_find (r, table, key, hash);
    default:
      {
	const fp_control_table_t *services = &r->controlled[FP_CONTROLLED_SERVICE];
	u64 word = fp_index_find (&services->index, fp_hash_service (&r->hash, key->endpoint.service), fp_service_match, services,
				  &key->endpoint.service);
	if (!word)
	  return 0;
	fp_endpoint_key_t k = { fp_word_slot (word), fp_swap16 (key->endpoint.port), key->endpoint.family, 0, { 0 } };
	memcpy (k.address, key->endpoint.address, 16);
	*hash = fp_hash_endpoint (&r->hash, &k);
	return fp_index_find (&t->index, *hash, fp_endpoint_match, t, &k);
      }
    }
}

FP_INLINE u64
fp_service_id_of (const fp_region_t *r, u32 slot)
{
  return slot < r->controlled[FP_CONTROLLED_SERVICE].capacity ? fp_service_at (r, slot)->id : 0;
}

/* The wire record as the slot holds it now. */
FP_INLINE void
fp_wire_rebuild (const fp_region_t *r, u32 table, u32 slot, fp_wire_t *wire)
{
  memset (wire, 0, sizeof (*wire));
  switch (table)
    {
    case FP_TABLE_CONFIG:
      wire->config = fp_setting_at (r, slot)->wire;
      break;
    case FP_TABLE_PREFIX:
      wire->prefix = fp_prefix_at (r, slot)->wire;
      break;
    case FP_TABLE_SERVICE:
      {
	const fp_service_t *s = fp_service_at (r, slot);
	u64 policy = fp_service_policy (s);
	wire->service = (fp_wire_service_t){ .id = s->id,
					     .family = s->family,
					     .protocol = s->protocol,
					     .flags = fp_policy_flags (policy),
					     .empty_verdict = fp_policy_verdict (policy),
					     .affinity_seconds = fp_policy_affinity (policy) };
	wire->service.reserved[0] = (policy >> 16 & 0xffff) << 16; /* zero unless someone altered it */
	break;
      }
    case FP_TABLE_FRONTEND:
      {
	const fp_frontend_t *f = fp_frontend_at (r, slot);
	wire->frontend.vrf = f->key.vrf;
	wire->frontend.family = f->key.scope & 0x0f;
	wire->frontend.protocol = f->key.proto;
	wire->frontend.port = fp_swap16 (f->key.port);
	wire->frontend.node_port = f->key.scope >> 7;
	memcpy (wire->frontend.address, f->key.address, 16);
	wire->frontend.service = fp_frontend_service (r, f) ? fp_service_id_of (r, f->service_slot) : 0;
	wire->frontend.kind = f->kind;
	break;
      }
    case FP_TABLE_GTPU_ENDPOINT:
    case FP_TABLE_GTPU_PEER:
    case FP_TABLE_GTPU_TUNNEL:
    case FP_TABLE_GTPU_UE:
      fp_gtpu_wire_rebuild (r, table, slot, wire);
      break;
    default:
      {
	const fp_endpoint_t *e = fp_endpoint_at (r, slot);
	wire->endpoint.service = fp_service_id_of (r, e->service_slot);
	wire->endpoint.family = e->family;
	wire->endpoint.port = fp_swap16 (e->port);
	memcpy (wire->endpoint.address, e->address, 16);
	wire->endpoint.flags = fp_endpoint_flags (e);
	break;
      }
    }
}

#endif /* FP_RECORDS_H */

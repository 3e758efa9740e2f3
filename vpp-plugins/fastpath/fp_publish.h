/* SPDX-License-Identifier: Apache-2.0 */
/* What the packet path reads in one piece, built by the control thread and published by one store each: endpoint sets, prefix snapshot,
 * settings, and the table of known addresses. */
#ifndef FP_PUBLISH_H
#define FP_PUBLISH_H

#include "fp_tunnel_publish.h"

/* ---- known addresses ---- */

FP_INLINE void
fp_vip_kinds_store (fp_region_t *r, u32 slot)
{
  u8 kinds = 0;
  for (u32 k = 0; k < 4; k++)
    if (r->control->vip[slot][k])
      kinds |= (u8) (1u << k);
  atomic_store_explicit (&fp_vip_at (r, slot)->kinds, kinds, memory_order_relaxed);
  FP_STEP ();
}

/* One more frontend of this kind at the address; 0 or -ENOSPC. */
FP_INLINE int
fp_vip_add (fp_region_t *r, const fp_frontend_key_t *f, u8 kind)
{
  fp_control_t *c = r->control;
  u8 family = f->scope & 0x0f;
  u64 word = fp_vip_word (r, f->address, f->vrf, family);
  if (word)
    {
      c->vip[fp_word_slot (word)][kind]++;
      fp_vip_kinds_store (r, fp_word_slot (word));
      return 0;
    }
  u32 slot = fp_control_alloc (r, FP_CONTROLLED_VIP);
  if (slot == FP_NONE)
    return -ENOSPC;
  fp_vip_t *v = fp_vip_at (r, slot);
  memcpy (v->address, f->address, 16);
  v->vrf = f->vrf;
  v->family = family;
  memset (c->vip[slot], 0, sizeof (c->vip[slot]));
  c->vip[slot][kind] = 1;
  fp_vip_kinds_store (r, slot);
  fp_vip_key_t key = { v->address, v->vrf, v->family };
  return fp_control_publish (r, FP_CONTROLLED_VIP, slot, fp_vip_match, &key);
}

FP_INLINE void
fp_vip_remove (fp_region_t *r, const fp_frontend_key_t *f, u8 kind)
{
  fp_control_table_t *t = &r->controlled[FP_CONTROLLED_VIP];
  u64 word = fp_vip_word (r, f->address, f->vrf, f->scope & 0x0f);
  u32 slot = fp_word_slot (word);
  if (!word || !r->control->vip[slot][kind])
    return;
  r->control->vip[slot][kind]--;
  fp_vip_kinds_store (r, slot);
  if (atomic_load_explicit (&fp_vip_at (r, slot)->kinds, memory_order_relaxed))
    return;
  fp_control_erase (r, FP_CONTROLLED_VIP, fp_controlled_hash (r, FP_CONTROLLED_VIP, slot), slot << 1, fp_word_gen (word));
  t->used--;
  fp_control_retire_slot (r, FP_CONTROLLED_VIP, slot);
}

/* ---- endpoint sets ---- */

FP_INLINE int
fp_set_member (const fp_region_t *r, u32 endpoint, u32 which)
{
  u8 flag = which == FP_SET_CLUSTER ? FP_ENDPOINT_CLUSTER : FP_ENDPOINT_LOCAL;
  return !r->control->endpoint[endpoint].deleted && (fp_endpoint_flags (fp_endpoint_at (r, endpoint)) & flag);
}

FP_INLINE int
fp_set_publish (fp_region_t *r, u32 service, u32 which)
{
  fp_control_t *c = r->control;
  fp_service_t *s = fp_service_at (r, service);
  u64 old = c->service[service].set[which], new = 0;
  u32 count = 0, old_count = (u32) old;
  int same = 1;
  for (u32 e = c->service[service].head; e != FP_NONE; e = c->endpoint[e].next)
    if (fp_set_member (r, e, which))
      {
	same = same && count < old_count && r->arrays[(u32) (old >> 32) + count] == e;
	count++;
      }
  if (same && count == old_count && atomic_load_explicit (&s->sets[which], memory_order_relaxed) == old)
    return 0;
  if (count)
    {
      u32 order = fp_arena_order (count), offset = fp_arena_alloc (&c->arena, order);
      if (offset == FP_NONE)
	{
	  fp_control_reclaim (r);
	  offset = fp_arena_alloc (&c->arena, order);
	}
      if (offset == FP_NONE)
	return -ENOSPC;
      u32 i = 0;
      for (u32 e = c->service[service].head; e != FP_NONE; e = c->endpoint[e].next)
	if (fp_set_member (r, e, which))
	  r->arrays[offset + i++] = e;
      FP_STEP ();
      new = (u64) offset << 32 | count;
    }
  atomic_store_explicit (&s->sets[which], new, memory_order_release);
  FP_STEP ();
  c->service[service].set[which] = new;
  if (old_count)
    fp_control_retire (c, FP_RETIRED_ARRAY, fp_arena_order (old_count), (u32) (old >> 32), NULL);
  return 0;
}

/* Both sets and the number that serve; then deleted endpoints go. 0 or -ENOSPC: nothing is lost, the old set stays in force. */
FP_INLINE int
fp_service_publish (fp_region_t *r, u32 service)
{
  fp_control_t *c = r->control;
  fp_control_table_t *t = &r->controlled[FP_CONTROLLED_ENDPOINT];
  u32 serving = 0;
  for (u32 which = 0; which < FP_SETS; which++)
    {
      int rc = fp_set_publish (r, service, which);
      if (rc)
	return rc;
    }
  for (u32 e = c->service[service].head, next; e != FP_NONE; e = next)
    {
      fp_endpoint_t *endpoint = fp_endpoint_at (r, e);
      next = c->endpoint[e].next;
      if (!c->endpoint[e].deleted)
	{
	  serving += (fp_endpoint_flags (endpoint) & FP_ENDPOINT_SERVES) != 0;
	  continue;
	}
      fp_control_erase (r, FP_CONTROLLED_ENDPOINT, fp_controlled_hash (r, FP_CONTROLLED_ENDPOINT, e), e << 1,
			atomic_load_explicit (&endpoint->gen, memory_order_relaxed));
      atomic_store_explicit (&endpoint->flags, 0, memory_order_release);
      FP_STEP ();
      fp_control_unlink (c, e);
      t->used--;
      fp_control_retire_slot (r, FP_CONTROLLED_ENDPOINT, e);
    }
  atomic_store_explicit (&fp_service_at (r, service)->serving, serving, memory_order_relaxed);
  FP_STEP ();
  return 0;
}

/* Publish the sets of services whose commit has begun, until about `budget` endpoints have been looked at; one service's are not divided. Returns the
 * number that could not be (no room in the array area): those are tried again by the next commit. */
FP_INLINE int
fp_publish_some (fp_region_t *r, u64 budget)
{
  fp_control_t *c = r->control;
  u64 spent = 0;
  int failures = 0;
  while (c->first_begun != FP_NONE && spent < budget)
    {
      u32 service = c->first_begun;
      fp_service_side_t *s = &c->service[service];
      spent += s->endpoints + 16;
      c->first_begun = s->next_dirty;
      s->dirty = 0;
      if (fp_service_publish (r, service))
	{
	  fp_control_dirty (c, service);
	  failures++;
	}
    }
  fp_control_tag (r);
  return failures;
}

/* The services touched since are those whose commit has begun: none is left of the one before. */
FP_INLINE void
fp_publish_begin (fp_control_t *c)
{
  c->first_begun = c->first_dirty;
  c->first_dirty = FP_NONE;
}

/* Publish the sets of all services touched since. Returns the number that could not be. */
FP_INLINE int
fp_publish_sets (fp_region_t *r)
{
  fp_publish_some (r, ~0ull);
  fp_publish_begin (r->control);
  return fp_publish_some (r, ~0ull);
}

/* ---- snapshots ---- */

/* Walks the live words of a control table: 0 at the end, *position is where to go on. */
FP_INLINE u64
fp_control_next (const fp_region_t *r, enum fp_controlled table, u64 *position)
{
  const fp_index_t *x = &r->controlled[table].index;
  u64 end = fp_index_positions (x);
  while (*position < end)
    {
      u64 w = atomic_load_explicit (fp_index_at (x, (*position)++), memory_order_relaxed);
      if ((w & FP_WORD_LIVE) && fp_word_slot (w) < r->controlled[table].capacity)
	return w;
    }
  return 0;
}

/* Count the users of all addresses anew, from the frontends that are there. */
FP_INLINE void
fp_vip_recount (fp_region_t *r)
{
  fp_control_table_t *t = &r->controlled[FP_CONTROLLED_VIP];
  u64 position = 0, w;
  memset (r->control->vip, 0, (size_t) t->capacity * sizeof (*r->control->vip));
  while ((w = fp_control_next (r, FP_CONTROLLED_FRONTEND, &position)))
    {
      const fp_frontend_t *f = fp_frontend_at (r, fp_word_slot (w));
      if (!(f->key.scope & FP_SCOPE_NODE_PORT) && f->kind <= FP_FRONTEND_LOAD_BALANCER)
	fp_vip_add (r, &f->key, f->kind);
    }
  position = 0;
  while ((w = fp_control_next (r, FP_CONTROLLED_VIP, &position)))
    {
      u32 slot = fp_word_slot (w);
      if (!fp_all_zero (r->control->vip[slot], sizeof (r->control->vip[slot])))
	continue;
      fp_index_cas (fp_index_at (&t->index, position - 1), w, 0);
      t->used--;
      fp_control_retire_slot (r, FP_CONTROLLED_VIP, slot);
    }
}

FP_INLINE int
fp_publish_prefixes (fp_region_t *r)
{
  u32 n = 0;
  fp_prefix_t *list = calloc ((size_t) r->controlled[FP_CONTROLLED_PREFIX].used + 1, sizeof (*list));
  if (!list)
    return -ENOMEM;
  u64 position = 0, w;
  while ((w = fp_control_next (r, FP_CONTROLLED_PREFIX, &position)) && n < r->controlled[FP_CONTROLLED_PREFIX].used)
    {
      const fp_wire_prefix_t *p = &fp_prefix_at (r, fp_word_slot (w))->wire;
      if (fp_prefix_valid (p))
	continue;
      fp_prefix_halves (p->address, &list[n].high, &list[n].low);
      list[n].vrf = p->vrf;
      list[n].prefix_class = p->prefix_class;
      list[n].family = p->family;
      list[n++].length = p->length;
    }
  fp_prefix_snapshot_t *snapshot = fp_prefix_build (list, n), *old = atomic_load_explicit (&r->prefixes, memory_order_relaxed);
  free (list);
  if (!snapshot)
    return -ENOMEM;
  atomic_store_explicit (&r->prefixes, snapshot, memory_order_release);
  if (old)
    fp_control_retire (r->control, FP_RETIRED_MEMORY, 0, 0, old);
  return 0;
}

FP_INLINE void
fp_config_apply (fp_config_t *config, const fp_wire_config_t *s)
{
  switch (s->key)
    {
    case FP_CONFIG_MASQUERADE_ALL:
      config->masquerade_all = (u8) s->value;
      break;
    case FP_CONFIG_SNAT_PORT_RANGE:
      config->ports[config->port_ranges].low = (u16) s->value;
      config->ports[config->port_ranges].high = (u16) (s->value >> 16);
      config->port_count += (u32) config->ports[config->port_ranges].high - config->ports[config->port_ranges].low + 1;
      config->port_ranges++;
      break;
    case FP_CONFIG_GTPU_SWITCHES:
      config->gtpu_switches = (u32) s->value;
      break;
    case FP_CONFIG_SNAT_ADDRESS:
      if (s->index == 4)
	config->has_snat4 = 1, config->snat4 = fp_load32 (s->address);
      else
	config->has_snat6 = 1, memcpy (config->snat6, s->address, 16);
      break;
    default:
      if (s->index == 4)
	config->has_icmp4 = 1, config->icmp4 = fp_load32 (s->address);
      else
	config->has_icmp6 = 1, memcpy (config->icmp6, s->address, 16);
      break;
    }
}

FP_INLINE int
fp_publish_settings (fp_region_t *r)
{
  fp_config_t *config = calloc (1, sizeof (*config)), *old = atomic_load_explicit (&r->config, memory_order_relaxed);
  if (!config)
    return -ENOMEM;
  config->gtpu_switches = FP_GTPU_SWITCHES_DEFAULT;
  u64 position = 0, w;
  while ((w = fp_control_next (r, FP_CONTROLLED_SETTING, &position)))
    {
      const fp_wire_config_t *s = &fp_setting_at (r, fp_word_slot (w))->wire;
      if (!fp_config_valid (s) && !(s->key == FP_CONFIG_SNAT_PORT_RANGE && config->port_ranges == 16))
	fp_config_apply (config, s);
    }
  atomic_store_explicit (&r->config, config, memory_order_release);
  if (old)
    fp_control_retire (r->control, FP_RETIRED_MEMORY, 0, 0, old);
  return 0;
}

/* Whatever changed since the last call; what fails for want of memory is tried again. */
FP_INLINE void
fp_publish_snapshots (fp_region_t *r)
{
  fp_control_t *c = r->control;
  if (c->prefixes_dirty)
    c->prefixes_dirty = fp_publish_prefixes (r) != 0;
  if (c->settings_dirty)
    c->settings_dirty = fp_publish_settings (r) != 0;
  if (c->gtpu.snapshot_dirty)
    fp_gtpu_publish (r);
  if (c->gtpu.shapes_dirty)
    fp_gtpu_publish_shapes (r);
}

#endif /* FP_PUBLISH_H */

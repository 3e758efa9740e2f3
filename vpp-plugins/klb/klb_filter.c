/* SPDX-License-Identifier: Apache-2.0 */
#include <klb/klb.h>

#include <fastpath/fp_index.h>
#include <fastpath/fp_records.h>
#include <fastpath/fp_tables.h>

#define BUILD_STEP	 16384 /* records looked at before others get their turn */
#define STALE_MIN	 1024
#define LOOK_AGAIN	 1.0 /* seconds */

/* What a new filter is filled from, in this order. */
typedef enum
{
  FROM_ENDPOINTS,
  FROM_FRONTENDS,
  FROM_PREFIXES,
  FROM_SESSIONS4,
  FROM_SESSIONS6,
  FROM_DONE,
} stage_t;

typedef struct
{
  klb_filter_t *next; /* being built; NULL: none */
  stage_t stage;
  u64 position;
  u32 stale;
  u32 built; /* times */
  u8 wanted;
  klb_filter_t *old; /* some thread may still read it */
  u64 old_tag;
} state_t;

static state_t state;

/* ---- sets ---- */

static void
bits_init (klb_bits_t *b, u64 addresses)
{
  u32 log2 = KLB_FILTER_LOG2_MIN;

  while (log2 < KLB_FILTER_LOG2_MAX && (32ull << log2) < addresses * KLB_FILTER_SPREAD)
    log2++;
  b->shift = 32 - log2;
  b->set = 0;
  b->words = clib_mem_alloc_aligned (4ull << log2, CLIB_CACHE_LINE_BYTES);
  clib_memset (b->words, 0, 4ull << log2);
}

static void
bits_set (klb_bits_t *b, klb_hash_t hash)
{
  u32 *word = &b->words[hash.place >> b->shift], mask = klb_bits_mask (hash) & ~*word;

  if (!mask)
    return;
  __atomic_store_n (word, *word | mask, __ATOMIC_RELEASE);
  b->set += count_set_bits (mask);
}

static u64
bits_size (const klb_bits_t *b)
{
  return 32ull << (32 - b->shift);
}

/* One bit in eight is set: it was made for half as many. */
static int
bits_crowded (const klb_bits_t *b)
{
  return b->set > bits_size (b) / 8 && b->shift > 32 - KLB_FILTER_LOG2_MAX;
}

/* Room for the addresses that the tables hold; or for as many as crowd the present filter, which sessions may have brought. */
static void
bits_size_up (klb_bits_t *b, const klb_bits_t *present, u64 addresses)
{
  bits_init (b, present && bits_crowded (present) ? clib_max (addresses, (u64) present->set) : addresses);
}

static klb_filter_t *
filter_new (const fp_region_t *r)
{
  klb_filter_t *f = clib_mem_alloc_aligned (sizeof (*f), CLIB_CACHE_LINE_BYTES);
  const klb_filter_t *present = klb_main.filter;
  const u64 endpoints = r ? r->controlled[FP_CONTROLLED_ENDPOINT].used : 0;
  const u64 prefixes = r ? r->controlled[FP_CONTROLLED_PREFIX].used : 0;

  clib_memset (f, 0, sizeof (*f));
  f->port_first = 65535;
  for (int v6 = 0; v6 < 2; v6++)
    {
      bits_size_up (&f->source[v6], present ? &present->source[v6] : NULL, endpoints);
      bits_size_up (&f->destination[v6], present ? &present->destination[v6] : NULL, prefixes);
    }
  return f;
}

static void
filter_free (klb_filter_t *f)
{
  for (int v6 = 0; v6 < 2; v6++)
    {
      clib_mem_free (f->source[v6].words);
      clib_mem_free (f->destination[v6].words);
    }
  clib_mem_free (f);
}

static klb_hash_t
address_hash (int v6, const void *address)
{
  return v6 ? klb_filter_hash6 (address) : klb_filter_hash4 (fp_load32 (address));
}

static void
add_port (klb_filter_t *f, u16 port)
{
  const u16 number = clib_net_to_host_u16 (port);

  __atomic_store_n (&f->ports[port >> 3], f->ports[port >> 3] | 1 << (port & 7), __ATOMIC_RELEASE);
  if (number < f->port_first)
    __atomic_store_n (&f->port_first, number, __ATOMIC_RELEASE);
  if (number > f->port_last)
    __atomic_store_n (&f->port_last, number, __ATOMIC_RELEASE);
}

static void
add_destination (klb_filter_t *f, int v6, const void *address)
{
  bits_set (&f->destination[v6], address_hash (v6, address));
}

/* A range of addresses of the node has no hash: all are let through. */
static void
add_prefix (klb_filter_t *f, const fp_wire_prefix_t *p)
{
  const int v6 = p->family == 6;

  if (p->prefix_class != FP_PREFIX_HOST)
    return;
  if (p->length == (v6 ? 128 : 32))
    add_destination (f, v6, p->address);
  else
    clib_memset (f->destination[v6].words, 0xff, bits_size (&f->destination[v6]) / 8);
}

static int
is_crowded (const klb_filter_t *f)
{
  return bits_crowded (&f->source[0]) || bits_crowded (&f->source[1]) || bits_crowded (&f->destination[0]) ||
	 bits_crowded (&f->destination[1]);
}

void
klb_filter_add_source (int v6, const void *address)
{
  bits_set (&klb_main.filter->source[v6], address_hash (v6, address));
  if (state.next)
    bits_set (&state.next->source[v6], address_hash (v6, address));
}

void
klb_filter_add_destination (int v6, const void *address)
{
  add_destination (klb_main.filter, v6, address);
  if (state.next)
    add_destination (state.next, v6, address);
}

void
klb_filter_add_prefix (const fp_wire_prefix_t *prefix)
{
  add_prefix (klb_main.filter, prefix);
  if (state.next)
    add_prefix (state.next, prefix);
}

void
klb_filter_add_port (u16 port)
{
  add_port (klb_main.filter, port);
  if (state.next)
    add_port (state.next, port);
}

void
klb_filter_stale (u32 n)
{
  state.stale += n;
}

void
klb_filter_rebuild (void)
{
  state.wanted = 1;
}

/* ---- building anew ---- */

/* Records of a table of the control thread, at most BUILD_STEP places of its index. 1: there may be more. */
static int
fill_from_table (const fp_region_t *r, enum fp_controlled table)
{
  const fp_index_t *x = &r->controlled[table].index;
  const u64 end = fp_index_positions (x), stop = clib_min (end, state.position + BUILD_STEP);
  klb_filter_t *f = state.next;

  while (state.position < stop)
    {
      const u64 word = atomic_load_explicit (fp_index_at (x, state.position++), memory_order_relaxed);
      if (!(word & FP_WORD_LIVE) || fp_word_slot (word) >= r->controlled[table].capacity)
	continue;
      if (table == FP_CONTROLLED_ENDPOINT)
	{
	  const fp_endpoint_t *e = fp_endpoint_at (r, fp_word_slot (word));
	  bits_set (&f->source[e->family == 6], address_hash (e->family == 6, e->address));
	}
      else if (table == FP_CONTROLLED_FRONTEND)
	{
	  const fp_frontend_key_t *key = &fp_frontend_at (r, fp_word_slot (word))->key;
	  if (key->scope & FP_SCOPE_NODE_PORT)
	    add_port (f, key->port);
	}
      else
	add_prefix (f, &fp_prefix_at (r, fp_word_slot (word))->wire);
    }
  return state.position < end;
}

/* Live sessions may outlast their endpoint, their node port and their Service's address. */
static int
fill_from_sessions (const fp_region_t *r, int v6)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  const u32 used = atomic_load_explicit (&t->pool->fresh, memory_order_relaxed);
  const u64 stop = clib_min ((u64) used, state.position + BUILD_STEP);
  klb_filter_t *f = state.next;

  for (; state.position < stop; state.position++)
    {
      void *s = fp_session_at (t, v6, (u32) state.position);
      const u8 phase = fp_life_phase (atomic_load_explicit (fp_session_life (s, v6), memory_order_acquire));
      const u8 *ep = v6 ? ((fp_session6_t *) s)->ep : (u8 *) &((fp_session4_t *) s)->ep;
      const u8 *vip = v6 ? ((fp_session6_t *) s)->vip : (u8 *) &((fp_session4_t *) s)->vip;
      const u16 vport = v6 ? ((fp_session6_t *) s)->vport : ((fp_session4_t *) s)->vport;
      const u32 vrf = v6 ? ((fp_session6_t *) s)->vrf : ((fp_session4_t *) s)->vrf;

      if (phase != FP_PHASE_LIVE && phase != FP_PHASE_PENDING)
	continue;
      bits_set (&f->source[v6], address_hash (v6, ep));
      if (!klb_vip_routed (vrf, v6 ? 6 : 4, vip))
	{
	  add_destination (f, v6, vip);
	  add_port (f, vport);
	}
    }
  return state.position < used;
}

static int
fill (const fp_region_t *r)
{
  switch (state.stage)
    {
    case FROM_ENDPOINTS:
      return fill_from_table (r, FP_CONTROLLED_ENDPOINT);
    case FROM_FRONTENDS:
      return fill_from_table (r, FP_CONTROLLED_FRONTEND);
    case FROM_PREFIXES:
      return fill_from_table (r, FP_CONTROLLED_PREFIX);
    case FROM_SESSIONS4:
      return fill_from_sessions (r, 0);
    case FROM_SESSIONS6:
      return fill_from_sessions (r, 1);
    case FROM_DONE:
      break;
    }
  return 0;
}

/* One step. 1: more are to come. What is added meanwhile goes into both filters, so order does not matter. */
static int
build_step (const fp_region_t *r)
{
  if (!state.next)
    {
      state.next = filter_new (r);
      state.stage = FROM_ENDPOINTS;
      state.position = 0;
      state.stale = 0;
      state.wanted = 0;
    }
  if (fill (r))
    return 1;
  state.position = 0;
  if (++state.stage != FROM_DONE)
    return 1;
  state.old = klb_main.filter;
  __atomic_store_n (&klb_main.filter, state.next, __ATOMIC_RELEASE);
  state.old_tag = fp_quiescence_tag (r->quiescence);
  state.next = NULL;
  state.built++;
  return 0;
}

static int
is_due (void)
{
  const klb_filter_t *f = klb_main.filter;
  const u32 set = f->source[0].set + f->source[1].set;

  return state.wanted || state.stale > clib_max ((u32) STALE_MIN, set / 4) || is_crowded (f);
}

void
klb_filter_build (void)
{
  while (build_step (khost->region))
    ;
}

static uword
klb_process (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  while (1)
    {
      const fp_region_t *r = khost ? khost->region : NULL;

      vlib_process_wait_for_event_or_clock (vm, LOOK_AGAIN);
      vlib_process_get_events (vm, NULL);
      if (!r)
	continue;
      klb_vip_follow_covers ();
      if (state.old && fp_quiescence_safe (r->quiescence) >= state.old_tag)
	{
	  filter_free (state.old);
	  state.old = NULL;
	}
      if (state.old || !is_due ())
	continue;
      while (build_step (r))
	vlib_process_suspend (vm, 100e-6);
    }
  return 0;
}

VLIB_REGISTER_NODE (klb_process_node) = {
  .function = klb_process,
  .type = VLIB_NODE_TYPE_PROCESS,
  .name = "klb-process",
};

void
klb_filter_init (void)
{
  klb_main.filter = filter_new (NULL);
}

/* ---- for people ---- */

static u8 *
format_bits (u8 *s, va_list *args)
{
  const klb_bits_t *b = va_arg (*args, const klb_bits_t *);

  return format (s, "%u of %llu bits set (%llu KiB)", b->set, bits_size (b), bits_size (b) / 8192);
}

u8 *
format_klb_filter (u8 *s, va_list *args)
{
  const klb_filter_t *f = klb_main.filter;
  u32 ports = 0;

  for (u32 i = 0; i < sizeof (f->ports); i++)
    ports += count_set_bits (f->ports[i]);
  s = format (s, "endpoints:          IPv4 %U, IPv6 %U\n", format_bits, &f->source[0], format_bits, &f->source[1]);
  s = format (s, "node's addresses:   IPv4 %U, IPv6 %U\n", format_bits, &f->destination[0], format_bits, &f->destination[1]);
  s = format (s, "node ports:         %u\n", ports);
  return format (s, "built anew:         %u times, %u changes since%s\n", state.built, state.stale,
		 state.next ? ", being built" : "");
}

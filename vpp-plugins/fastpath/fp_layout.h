/* SPDX-License-Identifier: Apache-2.0 */
/* Where everything lies in the region, from the capacities alone; the header that says for what it was made. */
#ifndef FP_LAYOUT_H
#define FP_LAYOUT_H

#include "fp_digest.h"
#include "fp_tunnel_types.h"

#define FP_MAGIC	  0x6e6f696765727066ull /* "fpregion" */
#define FP_LAYOUT_VERSION 1u			/* raise when the meaning of a record changes and its size does not */
#define FP_BYTE_ORDER	  0x01020304u
#define FP_PAGE		  4096u

typedef struct
{
  u64 magic; /* stored last: a region whose creation was cut short has none */
  u32 byte_order;
  u32 hash_id;
  u64 layout; /* fp_layout_hash () */
  u64 size;
  fp_capacity_t capacity;
  u64 creation_id;
  char boot_id[40]; /* text, zero-filled */
  u32 hash_crc;
  u32 pad;
  u64 hash_mix[2];
  u64 digest;	     /* XXH64 of all that is above */
  _Atomic u32 clean; /* closed in order */
} fp_header_t;

_Static_assert (sizeof (fp_header_t) <= FP_PAGE, "header");

/* Table of the region: index, overflow buckets, records. */
typedef struct
{
  u64 buckets_at, overflow_at, records_at;
  u32 buckets, overflow, capacity;
} fp_table_layout_t;

typedef struct
{
  fp_table_layout_t shared[FP_SHARED_TABLES];
  fp_table_layout_t controlled[FP_CONTROLLED_TABLES];
  u64 arrays_at;
  u32 array_words;
  u64 size;
} fp_layout_t;

/* What a program must agree on before it may use a region. */
FP_INLINE u64
fp_layout_hash (void)
{
  const u64 facts[] = { FP_LAYOUT_VERSION,
			FP_BUCKET_WORDS,
			FP_WORD_KEY_SHIFT,
			sizeof (fp_bucket_t),
			sizeof (fp_session4_t),
			offsetof (fp_session4_t, ep),
			offsetof (fp_session4_t, proto),
			offsetof (fp_session4_t, life),
			offsetof (fp_session4_t, gen),
			offsetof (fp_session4_t, ep_slot),
			sizeof (fp_session6_t),
			offsetof (fp_session6_t, life),
			offsetof (fp_session6_t, gen),
			offsetof (fp_session6_t, ep),
			offsetof (fp_session6_t, ep_slot),
			sizeof (fp_service_t),
			offsetof (fp_service_t, sets),
			offsetof (fp_service_t, gen),
			sizeof (fp_frontend_t),
			offsetof (fp_frontend_t, service_slot),
			offsetof (fp_frontend_t, kind),
			sizeof (fp_endpoint_t),
			offsetof (fp_endpoint_t, port),
			offsetof (fp_endpoint_t, flags),
			sizeof (fp_vip_t),
			sizeof (fp_frag_t),
			sizeof (fp_prefix_record_t),
			sizeof (fp_config_record_t),
			sizeof (fp_gtpu_endpoint_record_t),
			offsetof (fp_gtpu_endpoint_record_t, teids),
			sizeof (fp_gtpu_peer_t),
			offsetof (fp_gtpu_peer_t, t3_ms),
			sizeof (fp_tunnel_t),
			offsetof (fp_tunnel_t, ue4),
			offsetof (fp_tunnel_t, seen),
			sizeof (fp_gtpu_encap_t),
			offsetof (fp_gtpu_encap_t, shape),
			offsetof (fp_gtpu_encap_t, psc),
			sizeof (fp_ue_t),
			sizeof (fp_header_t) };
  return fp_xxh64 (facts, sizeof (facts), 0);
}

FP_INLINE u32
fp_power_of_two (u64 at_least)
{
  u32 p = 1;
  while (p < at_least)
    p *= 2;
  return p;
}

FP_INLINE u64
fp_layout_place (u64 *end, u64 bytes)
{
  u64 at = *end;
  *end = (at + bytes + FP_PAGE - 1) / FP_PAGE * FP_PAGE;
  return at;
}

/* keys: entries of the index at capacity. Buckets of 7 are on average at most 4 full. */
FP_INLINE void
fp_layout_table (fp_table_layout_t *t, u64 *end, u32 capacity, u64 keys, u64 record_size)
{
  t->capacity = capacity;
  t->buckets = fp_power_of_two ((keys + 3) / 4 < 2 ? 2 : (keys + 3) / 4);
  t->overflow = t->buckets / 64 + 8;
  t->buckets_at = fp_layout_place (end, (u64) t->buckets * sizeof (fp_bucket_t));
  t->overflow_at = fp_layout_place (end, (u64) t->overflow * sizeof (fp_bucket_t));
  t->records_at = fp_layout_place (end, capacity * record_size);
}

FP_INLINE void
fp_layout (fp_layout_t *l, const fp_capacity_t *c, u64 page)
{
  u64 end = FP_PAGE;
  memset (l, 0, sizeof (*l));
  fp_layout_table (&l->shared[FP_SHARED_SESSION4], &end, c->sessions4, 2ull * c->sessions4, sizeof (fp_session4_t));
  fp_layout_table (&l->shared[FP_SHARED_SESSION6], &end, c->sessions6, 2ull * c->sessions6, sizeof (fp_session6_t));
  fp_layout_table (&l->shared[FP_SHARED_FRAGMENT], &end, c->fragments, c->fragments, sizeof (fp_frag_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_SERVICE], &end, c->services, c->services, sizeof (fp_service_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_FRONTEND], &end, c->frontends, c->frontends, sizeof (fp_frontend_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_ENDPOINT], &end, c->endpoints, c->endpoints, sizeof (fp_endpoint_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_PREFIX], &end, c->prefixes, c->prefixes, sizeof (fp_prefix_record_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_SETTING], &end, c->settings, c->settings, sizeof (fp_config_record_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_VIP], &end, c->frontends, c->frontends, sizeof (fp_vip_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_GTPU_ENDPOINT], &end, c->gtpu_endpoints, c->gtpu_endpoints,
		   sizeof (fp_gtpu_endpoint_record_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_GTPU_PEER], &end, c->gtpu_peers, c->gtpu_peers, sizeof (fp_gtpu_peer_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_TUNNEL], &end, c->tunnels, c->tunnels, sizeof (fp_tunnel_t));
  fp_layout_table (&l->controlled[FP_CONTROLLED_UE], &end, c->ues, c->ues, sizeof (fp_ue_t));
  /* One record a tunnel, and some for changes that the workers have not let go of yet. No index. */
  fp_layout_table (&l->controlled[FP_CONTROLLED_ENCAP], &end, c->tunnels + c->tunnels / 8 + 64, 0, sizeof (fp_gtpu_encap_t));
  /* Two sets an endpoint, rounded up to a power of two, old and new ones at the same time. */
  l->array_words = fp_power_of_two (8ull * c->endpoints < 64 ? 64 : 8ull * c->endpoints);
  l->arrays_at = fp_layout_place (&end, (u64) l->array_words * sizeof (u32));
  l->size = (end + page - 1) / page * page;
}

/* Bytes that a region of these capacities takes. */
FP_INLINE u64
fp_region_bytes (const fp_capacity_t *c)
{
  fp_layout_t l;
  fp_layout (&l, c, FP_PAGE);
  return l.size;
}

/* NULL, or the name of the capacity that is out of range. */
FP_INLINE const char *
fp_capacity_bad (const fp_capacity_t *c)
{
  const u32 max_sessions = 1u << 27;
  return !c->sessions4 || c->sessions4 > max_sessions ? "sessions4" :
	 !c->sessions6 || c->sessions6 > max_sessions ? "sessions6" :
	 !c->fragments || c->fragments > 1u << 20     ? "fragments" :
	 !c->services || c->services > 1u << 24	      ? "services" :
	 !c->frontends || c->frontends > 1u << 24     ? "frontends" :
	 !c->endpoints || c->endpoints > 1u << 24     ? "endpoints" :
	 !c->prefixes || c->prefixes > 1u << 20	      ? "prefixes" :
	 c->settings < 32 || c->settings > 1u << 16   ? "settings" :
	 c->gtpu_endpoints > 1u << 12		      ? "gtpu_endpoints" :
	 c->gtpu_peers > 1u << 20		      ? "gtpu_peers" :
	 c->tunnels > 1u << 24			      ? "tunnels" :
	 c->ues > 1u << 25			      ? "ues" :
							NULL;
}

/* Defaults of a node. */
FP_INLINE fp_capacity_t
fp_capacity_default (void)
{
  return (fp_capacity_t){ .sessions4 = 262144,
			  .sessions6 = 262144,
			  .fragments = 16384,
			  .services = 16384,
			  .frontends = 32768,
			  .endpoints = 65536,
			  .prefixes = 1024,
			  .settings = 64,
			  .gtpu_endpoints = 64,
			  .gtpu_peers = 4096,
			  .tunnels = 16384,
			  .ues = 32768 };
}

FP_INLINE u64
fp_header_digest (const fp_header_t *h)
{
  fp_header_t copy;
  memset (&copy, 0, sizeof (copy));
  memcpy (&copy, h, offsetof (fp_header_t, digest));
  copy.magic = 0; /* stored apart */
  return fp_xxh64 (&copy, offsetof (fp_header_t, digest), 0);
}

/* NULL if a region with this header may be used, or why not. size: of the file. */
FP_INLINE const char *
fp_header_refused (const fp_header_t *h, const fp_capacity_t *c, const char *boot_id, u64 size, u64 file_size)
{
  if (h->magic != FP_MAGIC)
    return "the file is no region, or its creation was cut short";
  if (h->byte_order != FP_BYTE_ORDER)
    return "the region was written on a machine of another byte order";
  if (h->layout != fp_layout_hash ())
    return "the region has another layout (another version wrote it)";
  if (h->digest != fp_header_digest (h))
    return "the region's header is damaged";
  if (h->hash_id != FP_HASH_ID)
    return "the region uses another hash";
  if (memcmp (h->boot_id, boot_id, sizeof (h->boot_id)))
    return "the machine has booted since";
  if (memcmp (&h->capacity, c, sizeof (*c)))
    return "the capacities have been changed";
  if (h->size != size || file_size != size)
    return "the region's file has another size than its header says";
  return NULL;
}

#endif /* FP_LAYOUT_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* Types that every part of the fast path shares: keys, records of the region with their byte maps, references.
 *
 * Conventions: addresses and ports of packets, sessions, frontends and endpoints are in network byte order (an IPv4
 * address as it lies in the packet, loaded with memcpy into a uint32_t); everything else is host order. Records lie
 * in the mapped region: they hold indices and generations, never pointers. Fields marked atomic change while other
 * threads read; all others are written before the record is published in an index and stay as they are until the
 * record's slot has been retired (fp_retire.h). */
#ifndef FP_TYPES_H
#define FP_TYPES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wire.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

#define FP_CACHE_LINE	 64
#define FP_ALIGNED	 __attribute__ ((aligned (FP_CACHE_LINE)))
#define FP_ALWAYS_INLINE static inline __attribute__ ((__always_inline__, __unused__))
#define FP_INLINE	 static inline __attribute__ ((unused))
#define FP_LIKELY(x)	 __builtin_expect (!!(x), 1)
#define FP_UNLIKELY(x)	 __builtin_expect (!!(x), 0)
#define FP_PREFETCH(p)	 __builtin_prefetch ((p), 0, 3)
#define FP_OPAQUE(x)	 __asm__ ("" : "+r"(x)) /* keeps the compiler from knowing the value */

#define FP_NONE	       0xffffffffu /* no slot */
#define FP_MAX_WORKERS 32	   /* packet threads of one host; the control thread has a context of its own */
#define FP_MAX_SLOTS   (1u << 29)  /* of one table: what an index word can name */

/* Tests define FP_STEP: it is called after every store of a writer into the region (GTP-U: and after those that publish something in process
 * memory). */
#ifndef FP_STEP
#define FP_STEP() ((void) 0)
#endif

/* Time: CLOCK_BOOTTIME in ns; expiry in ticks of 2^26 ns (67 ms), compared modulo 2^32 (9 years). */
#define FP_TICK_SHIFT 26
#define FP_TICKS(seconds) ((u32) (((u64) (seconds) *1000000000u) >> FP_TICK_SHIFT))

FP_ALWAYS_INLINE int
fp_tick_passed (u32 now, u32 expiry)
{
  return (i32) (now - expiry) >= 0;
}

/* Class of an address, from the prefix table. */
enum fp_class
{
  FP_CLASS_NONE = 0,
  FP_CLASS_HOST = FP_PREFIX_HOST,
  FP_CLASS_POD = FP_PREFIX_POD,
  FP_CLASS_SERVICE = FP_PREFIX_SERVICE,
  FP_CLASS_UE_POOL = FP_PREFIX_UE_POOL,
  FP_CLASS_UNKNOWN = 255, /* not looked up yet */
};

/* ---- keys ---- */

typedef struct
{
  u32 src, dst;
  u16 sport, dport;
  u8 proto;
  u8 pad[3]; /* zero */
  u32 vrf;
} fp_key4_t;

typedef struct
{
  u8 src[16], dst[16];
  u16 sport, dport;
  u8 proto;
  u8 pad[3]; /* zero */
  u32 vrf;
} fp_key6_t;

_Static_assert (sizeof (fp_key4_t) == 20, "key4");
_Static_assert (sizeof (fp_key6_t) == 44, "key6");

/* ---- sessions ---- */

/* `life`, one atomic word: expiry tick (bits 0..31), protocol state of the kernel (32..39), phase (40..47), low half of the
 * generation (48..63). A session exists while its phase is LIVE; see fp_session.h for who may change what. */
enum fp_phase
{
  FP_PHASE_FREE = 0,
  FP_PHASE_PENDING = 1, /* reverse key entered, forward key not yet */
  FP_PHASE_LIVE = 2,
  FP_PHASE_DYING = 3,	  /* was LIVE: whoever removed it gives the slot back */
  FP_PHASE_ABANDONED = 4, /* never was: its owner gives the slot back */
};

FP_ALWAYS_INLINE u64
fp_life (u32 gen, u8 phase, u8 state, u32 expiry)
{
  return (u64) (gen & 0xffff) << 48 | (u64) phase << 40 | (u64) state << 32 | expiry;
}

FP_ALWAYS_INLINE u32
fp_life_expiry (u64 life)
{
  return (u32) life;
}

FP_ALWAYS_INLINE u8
fp_life_state (u64 life)
{
  return (u8) (life >> 32);
}

FP_ALWAYS_INLINE u8
fp_life_phase (u64 life)
{
  return (u8) (life >> 40);
}

FP_ALWAYS_INLINE u64
fp_life_with_phase (u64 life, u8 phase)
{
  return (life & ~(0xffull << 40)) | (u64) phase << 40;
}

/* forward key = client:cport -> vip:vport; reverse key = ep:eport -> nat:nport (nat = client where the source is not
 * translated). Both carry proto and vrf. */
typedef struct
{
  u32 client; /* 0 */
  u32 vip;
  u16 cport; /* 8 */
  u16 vport;
  u32 vrf;
  u32 ep; /* 16 */
  u32 nat;
  u16 eport; /* 24 */
  u16 nport;
  u8 proto;
  u8 flags; /* the kernel's, fixed at insertion */
  u16 pad;
  _Atomic u64 life; /* 32 */
  _Atomic u32 gen;  /* 40: + 1 each time the slot is given back */
  u32 service_slot;
  u32 service_gen; /* 48 */
  u32 ep_slot;
  u32 ep_gen; /* 56 */
  u32 spare;
} FP_ALIGNED fp_session4_t;

_Static_assert (sizeof (fp_session4_t) == 64, "IPv4 session");
_Static_assert (offsetof (fp_session4_t, cport) == 8, "IPv4 session");
_Static_assert (offsetof (fp_session4_t, ep) == 16, "IPv4 session");
_Static_assert (offsetof (fp_session4_t, eport) == 24, "IPv4 session");
_Static_assert (offsetof (fp_session4_t, life) == 32, "IPv4 session");
_Static_assert (offsetof (fp_session4_t, gen) == 40, "IPv4 session");
_Static_assert (offsetof (fp_session4_t, ep_gen) == 56, "IPv4 session");

/* First line: forward key, life. Second line: what the rewrite and the reverse key need. */
typedef struct
{
  u8 client[16]; /* 0 */
  u8 vip[16];	 /* 16 */
  u16 cport;	 /* 32 */
  u16 vport;
  u32 vrf;
  u8 proto; /* 40 */
  u8 flags;
  u16 pad;
  _Atomic u32 gen;
  _Atomic u64 life; /* 48 */
  u32 service_slot; /* 56 */
  u32 service_gen;
  u8 ep[16];  /* 64 */
  u8 nat[16]; /* 80 */
  u16 eport;  /* 96 */
  u16 nport;
  u32 ep_slot;
  u32 ep_gen; /* 104 */
  u32 spare[5];
} FP_ALIGNED fp_session6_t;

_Static_assert (sizeof (fp_session6_t) == 128, "IPv6 session");
_Static_assert (offsetof (fp_session6_t, cport) == 32, "IPv6 session");
_Static_assert (offsetof (fp_session6_t, life) == 48, "IPv6 session");
_Static_assert (offsetof (fp_session6_t, ep) == 64, "IPv6 session");
_Static_assert (offsetof (fp_session6_t, eport) == 96, "IPv6 session");
_Static_assert (offsetof (fp_session6_t, ep_gen) == 104, "IPv6 session");

/* Reference to a session. It may be kept over a quiescent point: fp_session4_deref checks the generation. */
typedef struct
{
  u32 slot;
  u32 gen;
  u8 dir; /* 0 forward, 1 reverse */
  u8 found;
  u8 pad[2];
} fp_sref_t;

/* Results of fp_session4_insert, fp_session6_insert. */
enum fp_insert
{
  FP_INSERTED = 0,
  FP_EXISTS = 1,    /* the flow is there already: use the winner; the slot has been given back */
  FP_COLLISION = 2, /* the reverse key belongs to another flow: change nport, call again; *slot may have changed */
  FP_FULL = 3,	    /* no room in the index; the slot has been given back */
};

/* ---- fragments ---- */

typedef struct
{
  u8 src[16], dst[16]; /* IPv4 in the first four bytes, rest zero */
  u32 id;
  u32 vrf;
  u8 proto;
  u8 family; /* 4 or 6 */
  u8 pad[2]; /* zero */
} fp_frag_key_t;

enum fp_frag_kind
{
  FP_FRAG_PASS = 1,    /* the datagram is no business of ours */
  FP_FRAG_SESSION = 2, /* treat as `dir` of the session */
  FP_FRAG_DROP = 3,    /* the first fragment was dropped */
};

typedef struct
{
  fp_frag_key_t key; /* 0 */
  u8 kind;	     /* 44 */
  u8 dir;
  u8 pad[2];
  u32 session_slot; /* 48 */
  u32 session_gen;
  _Atomic u64 life; /* 56: as a session's, the generation in its top 16 bits only */
} FP_ALIGNED fp_frag_t;

_Static_assert (sizeof (fp_frag_key_t) == 44, "fragment key");
_Static_assert (sizeof (fp_frag_t) == 64, "fragment");

/* ---- services ---- */

#define FP_SET_CLUSTER 0
#define FP_SET_LOCAL   1
#define FP_SETS	       2

/* `policy`, one atomic word: flags (bits 0..7, enum fp_service_flag), verdict when empty (8..15), affinity seconds (32..63). */
typedef struct
{
  u64 id; /* 0 */
  _Atomic u64 policy;
  _Atomic u64 sets[FP_SETS]; /* 16: offset << 32 | count, in the array area */
  _Atomic u32 serving;	     /* 32: endpoints with FP_ENDPOINT_SERVES */
  _Atomic u32 gen;
  u8 family; /* 40 */
  u8 protocol;
  u8 pad[6];
  u64 spare[2]; /* 48 */
} FP_ALIGNED fp_service_t;

_Static_assert (sizeof (fp_service_t) == 64, "service");
_Static_assert (offsetof (fp_service_t, serving) == 32, "service");
_Static_assert (offsetof (fp_service_t, family) == 40, "service");

FP_ALWAYS_INLINE u8
fp_policy_flags (u64 policy)
{
  return (u8) policy;
}

FP_ALWAYS_INLINE u8
fp_policy_verdict (u64 policy)
{
  return (u8) (policy >> 8);
}

FP_ALWAYS_INLINE u32
fp_policy_affinity (u64 policy)
{
  return (u32) (policy >> 32);
}

/* Key of a frontend as the packet path builds it. */
typedef struct
{
  u8 address[16];
  u32 vrf;
  u16 port; /* network order */
  u8 proto;
  u8 scope; /* family, | FP_SCOPE_NODE_PORT */
} fp_frontend_key_t;

#define FP_SCOPE_NODE_PORT 0x80

typedef struct
{
  fp_frontend_key_t key; /* 0 */
  u32 service_slot;	 /* 24 */
  u32 service_gen;
  _Atomic u32 gen; /* 32 */
  u8 kind;	   /* enum fp_frontend_kind */
  u8 pad[27];
} FP_ALIGNED fp_frontend_t;

_Static_assert (sizeof (fp_frontend_key_t) == 24, "frontend key");
_Static_assert (sizeof (fp_frontend_t) == 64, "frontend");

typedef struct
{
  u8 address[16];   /* 0 */
  u32 service_slot; /* 16 */
  _Atomic u32 gen;
  u16 port; /* 24: network order */
  u8 family;
  _Atomic u8 flags; /* enum fp_endpoint_flag */
  u32 pad;
} fp_endpoint_t;

_Static_assert (sizeof (fp_endpoint_t) == 32, "endpoint");

/* An address that has frontends (derived from them). */
typedef struct
{
  u8 address[16]; /* 0 */
  u32 vrf;
  u8 family;
  _Atomic u8 kinds; /* bit (1 << kind) for each enum fp_frontend_kind present */
  u8 pad[2];
  _Atomic u32 gen; /* 24 */
  u32 pad2;
} fp_vip_t;

_Static_assert (sizeof (fp_vip_t) == 32, "VIP");

/* Prefixes and settings as the control plane gave them; the packet path reads snapshots made from these. */
typedef struct
{
  fp_wire_prefix_t wire;
  _Atomic u32 gen;
  u32 pad[7];
} FP_ALIGNED fp_prefix_record_t;

typedef struct
{
  fp_wire_config_t wire;
  _Atomic u32 gen;
  u32 pad[7];
} FP_ALIGNED fp_config_record_t;

_Static_assert (sizeof (fp_prefix_record_t) == 64, "prefix");
_Static_assert (sizeof (fp_config_record_t) == 64, "setting");

/* Set of endpoints: slots for fp_endpoint (). Valid until the caller's next quiescent point. */
typedef struct
{
  const u32 *slots;
  u32 count;
} fp_set_t;

/* ---- settings ---- */

/* Immutable snapshot, published by one store; valid until the caller's next quiescent point. */
typedef struct
{
  u8 masquerade_all;
  u8 has_snat4, has_snat6, has_icmp4, has_icmp6;
  u8 port_ranges; /* used entries below */
  struct
  {
    u16 low, high; /* host order, both included, low <= high */
  } ports[16];
  u32 port_count; /* ports in all ranges together (ranges may overlap; then they count twice) */
  u32 snat4, icmp4;
  u8 snat6[16], icmp6[16];
  u32 gtpu_switches; /* enum fp_gtpu_switch */
} fp_config_t;

/* ---- region ---- */

/* Sizes of the tables, in entries. */
typedef struct
{
  u32 sessions4;
  u32 sessions6;
  u32 fragments;
  u32 services;
  u32 frontends;
  u32 endpoints;
  u32 prefixes;
  u32 settings;
  u32 gtpu_endpoints; /* the four of GTP-U may be 0 */
  u32 gtpu_peers;
  u32 tunnels;
  u32 ues;
} fp_capacity_t;

typedef struct fp_region fp_region_t; /* fp_handle.h */
typedef struct fp_worker fp_worker_t; /* fp_handle.h */

#endif /* FP_TYPES_H */

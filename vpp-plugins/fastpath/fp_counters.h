/* SPDX-License-Identifier: Apache-2.0 */
/* Counters: one array per worker, written by that worker only, read by anyone. Drop reasons are counters too, in a list of their
 * own with a text for people. Add a line to a list to add a counter. */
#ifndef FP_COUNTERS_H
#define FP_COUNTERS_H

#include "fp_types.h"

/* name, text */
#define FP_FOREACH_COUNTER(_)                                                                                                   \
  _ (PACKETS, packets, "packets seen")                                                                                          \
  _ (PASSED, passed, "packets that are no business of the dataplane, passed untouched")                                         \
  _ (FORWARD, forward, "packets translated towards an endpoint")                                                                \
  _ (REVERSE, reverse, "packets translated back towards a client")                                                              \
  _ (SESSION_NEW, sessionsCreated, "sessions created")                                                                          \
  _ (SESSION_EXPIRED, sessionsExpired, "sessions removed after their time-out")                                                 \
  _ (SESSION_REMOVED, sessionsRemoved, "sessions removed before their time-out")                                                \
  _ (SESSION_RACE_LOST, sessionsAdopted, "sessions that another worker had created at the same moment")                         \
  _ (SESSION_REVERSE_TAKEN, sessionCollisions, "reverse keys found taken (another source port was tried)")                      \
  _ (SESSION_INDEX_FULL, sessionIndexFull, "sessions refused because the index had no room")                                    \
  _ (FRAGMENT_HELD, fragmentsHeld, "fragments held until their first arrives")                                                  \
  _ (FRAGMENT_TABLE_FULL, fragmentTableFull, "fragment entries refused because the table is full")                              \
  _ (ICMP_TRANSLATED, icmpErrorsTranslated, "ICMP errors translated")                                                           \
  _ (ICMP_SENT, icmpErrorsSent, "ICMP errors sent")                                                                             \
  _ (ICMP_LIMITED, icmpErrorsLimited, "ICMP errors not sent because of the rate limit")                                         \
  _ (ICMP_UNSOURCED, icmpErrorsUnsourced, "ICMP errors not sent because no source address is set in that family")               \
  _ (MASQUERADED, sessionsMasqueraded, "sessions created with a translated source")                                             \
  _ (PORT_TAKEN_OVER, portsTakenOver, "source ports taken over from a closed or expired session")                               \
  _ (UDP_RESTARTED, udpSessionsRestarted, "UDP sessions begun anew because their endpoint serves no more")

#define FP_FOREACH_DROP(_)                                                                                                      \
  _ (TRUNCATED, truncated, "packet shorter than its headers say")                                                               \
  _ (MALFORMED, malformed, "header fields contradict each other")                                                               \
  _ (CHECKSUM, badChecksum, "IPv4 header or ICMP checksum wrong")                                                                  \
  _ (TTL, ttlExpired, "TTL or hop limit exceeded")                                                                              \
  _ (TOO_BIG, tooBig, "packet larger than the link takes and not to be fragmented")                                             \
  _ (NO_ENDPOINT, noEndpoint, "no usable endpoint, rejected")                                                                   \
  _ (NO_ENDPOINT_DROP, noEndpointDropped, "no usable endpoint, dropped by policy")                                              \
  _ (UNDEFINED_PORT, undefinedPort, "known cluster address, but no such port: rejected")                                        \
  _ (UNALLOCATED, unallocatedAddress, "address of a service range that no Service has")                                         \
  _ (SESSION_TABLE_FULL, sessionTableFull, "session table full")                                                                \
  _ (NO_PORT, portsExhausted, "no free source port for a masqueraded flow")                                                     \
  _ (NO_SNAT_ADDRESS, noSnatAddress, "no address to masquerade with in this family")                                            \
  _ (BAD_STATE, invalidState, "segment does not fit the state of its flow")                                                     \
  _ (FRAGMENT_EXPIRED, fragmentExpired, "fragment held, its first did not come in time")                                        \
  _ (FRAGMENT_HOLD_FULL, fragmentHoldFull, "too many fragments held")                                                           \
  _ (FRAGMENT_DROPPED, fragmentFollows, "fragment of a datagram whose first was dropped")                                       \
  _ (NO_ROOM, noRoom, "buffer too small for the answer")                                                                        \
  _ (UNSUPPORTED, unsupported, "protocol that Services do not carry")                                                           \
  _ (UNRESOLVED, unresolved, "record not resolved yet after a restart")                                                         \
  _ (OPTIONS, unsupportedOptions, "source route, or more extension headers than are followed")                                  \
  _ (FRAGMENT_BAD, badFragment, "fragment of a wrong length, or one that hides or overwrites its transport header")             \
  _ (ICMP_EMBEDDED, badIcmpError, "ICMP error whose embedded packet is cut short or was not sent by its receiver")

enum fp_counter
{
#define _(n, s, t) FP_C_##n,
  FP_FOREACH_COUNTER (_)
#undef _
    FP_COUNTERS
};

enum fp_drop
{
  FP_DROP_NONE = 0,
#define _(n, s, t) FP_DROP_##n,
  FP_FOREACH_DROP (_)
#undef _
    FP_DROPS
};

/* Per path (what the Dataplane's status shows as rates). */
enum fp_path
{
  FP_PATH_SERVICE = 0,
  FP_PATHS
};

typedef struct
{
  _Atomic u64 rx_packets, tx_packets, rx_bytes, tx_bytes;
  _Atomic u64 clocks, clock_packets; /* sampled: clocks spent on that many packets */
} fp_path_counters_t;

typedef struct
{
  _Atomic u64 counter[FP_COUNTERS];
  _Atomic u64 drop[FP_DROPS];
  fp_path_counters_t path[FP_PATHS];
  _Atomic u64 live[4]; /* entries added less entries removed, by enum fp_shared; the workers' sum counts */
} FP_ALIGNED fp_counters_t;

/* One writer: a load and a store, no locked instruction. */
FP_ALWAYS_INLINE void
fp_counter_add (_Atomic u64 *c, u64 n)
{
  atomic_store_explicit (c, atomic_load_explicit (c, memory_order_relaxed) + n, memory_order_relaxed);
}

FP_INLINE const char *
fp_counter_name (u32 c)
{
  static const char *const names[] = {
#define _(n, s, t) #s,
    FP_FOREACH_COUNTER (_)
#undef _
  };
  return c < FP_COUNTERS ? names[c] : "";
}

FP_INLINE const char *
fp_drop_name (u32 d)
{
  static const char *const names[] = { "none",
#define _(n, s, t) #s,
				       FP_FOREACH_DROP (_)
#undef _
  };
  return d < FP_DROPS ? names[d] : "";
}

FP_INLINE const char *
fp_drop_text (u32 d)
{
  static const char *const texts[] = { "",
#define _(n, s, t) t,
				       FP_FOREACH_DROP (_)
#undef _
  };
  return d < FP_DROPS ? texts[d] : "";
}

#endif /* FP_COUNTERS_H */

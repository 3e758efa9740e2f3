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
  _ (UDP_RESTARTED, udpSessionsRestarted, "UDP sessions begun anew because their endpoint serves no more")                     \
  _ (GTPU_RX, gtpuPackets, "outer packets given to GTP-U decapsulation")                                                       \
  _ (GTPU_DECAPSULATED, gtpuDecapsulated, "packets taken out of a tunnel")                                                     \
  _ (GTPU_NOT_OURS, gtpuNotOurs, "packets that turned out not to be GTP-U for this node")                                      \
  _ (GTPU_SIGNALLED, gtpuSignalling, "path and tunnel messages taken in without an answer")                                    \
  _ (GTPU_FRAGMENTS, gtpuFragments, "outer fragments taken in for reassembly")                                                 \
  _ (GTPU_FRAGMENTS_HELD, gtpuFragmentsHeld, "outer fragments held until their first arrives")                                 \
  _ (GTPU_REASSEMBLED, gtpuReassembled, "outer datagrams reassembled")                                                         \
  _ (GTPU_REASSEMBLY_EXPIRED, gtpuReassemblyExpired, "outer datagrams given up because fragments did not come in time")        \
  _ (GTPU_ECHO_ANSWERED, gtpuEchoAnswered, "Echo Requests answered")                                                           \
  _ (GTPU_ECHO_SENT, gtpuEchoSent, "Echo Requests sent")                                                                       \
  _ (GTPU_END_MARKERS_SENT, gtpuEndMarkersSent, "End Markers sent after a tunnel's peer changed")                              \
  _ (GTPU_ECHO_RESPONSES, gtpuEchoResponses, "Echo Responses received that a request of ours waited for")                      \
  _ (GTPU_END_MARKERS, gtpuEndMarkers, "End Markers received for a tunnel")                                                    \
  _ (GTPU_ERRORS_RECEIVED, gtpuErrorIndicationsReceived, "Error Indications received")                                         \
  _ (GTPU_ERRORS_SENT, gtpuErrorIndicationsSent, "Error Indications sent")                                                     \
  _ (GTPU_NOTIFICATIONS_SENT, gtpuNotificationsSent, "Supported Extension Headers Notifications sent")                         \
  _ (GTPU_ANSWERS_LIMITED, gtpuAnswersLimited, "Error Indications and Notifications not sent: rate limit, or larger than what they answer") \
  _ (GTPU_PSC_DL, gtpuPscDownlink, "packets taken out with a PDU Session Container of a downlink")                             \
  _ (GTPU_PSC_UL, gtpuPscUplink, "packets taken out with a PDU Session Container of an uplink")                                \
  _ (GTPU_UNEXPECTED_PEER, gtpuUnexpectedPeer, "packets taken out that came from another address than the tunnel's peer")      \
  _ (GTPU_ECN_MARKED, gtpuCongestionMarked, "packets taken out whose inner header got the outer one's congestion mark (RFC 6040)")   \
  _ (GTPU_CACHE_HITS, gtpuCacheHits, "packets whose tunnel was the last one's, not looked up (lookupCache)")                   \
  _ (GTPU_LOOP_SINGLE, gtpuLoopSingle, "packets handled one at a time (loop)")                                                 \
  _ (GTPU_LOOP_DUAL, gtpuLoopDual, "packets handled two at a time (loop)")                                                     \
  _ (GTPU_LOOP_QUAD, gtpuLoopQuad, "packets handled four at a time (loop)")                                                    \
  _ (GTPU_PREFETCHED, gtpuPrefetched, "packets whose headers and tunnel were fetched ahead (prefetch)")                        \
  _ (GTPU_TX, gtpuTxPackets, "inner packets given to GTP-U encapsulation")                                                     \
  _ (GTPU_ENCAPSULATED, gtpuEncapsulated, "packets put into a tunnel")                                                         \
  _ (GTPU_TX_PASSED, gtpuTxPassed, "packets for no user equipment of ours, passed untouched")                                  \
  _ (GTPU_SEGMENTED, gtpuSegmented, "large packets that go on as several")                                                     \
  _ (GTPU_CSUM_DERIVED, gtpuChecksumsDerived, "outer UDP checksums over IPv6 derived from the inner one")                      \
  _ (GTPU_CSUM_SUMMED, gtpuChecksumsSummed, "outer UDP checksums over IPv6 summed over the packet")                            \
  _ (GTPU_EVENTS_LOST, gtpuEventsLost, "Error Indications received too fast to look up their tunnels")                         \
  _ (GTPU_BYPASSED, gtpuBypassed, "outer packets taken before local delivery and UDP (gtpuBypass)")                            \
  _ (GTPU_INNER_INPUT_SKIPPED, gtpuInnerInputSkipped, "inner packets sent on without the input node (skipInnerIpInput)")       \
  _ (GTPU_OUTER_LOOKUP_SKIPPED, gtpuOuterLookupSkipped, "outer packets sent by their peer's adjacency (skipOuterLookup)")

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
  _ (UNRESOLVED, unresolved, "no route to the peer, or a record not resolved yet")                                                         \
  _ (OPTIONS, unsupportedOptions, "source route, or more extension headers than are followed")                                  \
  _ (FRAGMENT_BAD, badFragment, "fragment of a wrong length, or one that hides or overwrites its transport header")             \
  _ (ICMP_EMBEDDED, badIcmpError, "ICMP error whose embedded packet is cut short or was not sent by its receiver")             \
  _ (GTPU_CHECKSUM, gtpuBadChecksum, "outer UDP checksum wrong, or none over IPv6")                                            \
  _ (GTPU_VERSION, gtpuBadVersion, "not GTP version 1, or GTP prime")                                                          \
  _ (GTPU_LENGTH, gtpuBadLength, "GTP-U message longer than its datagram, or shorter than its headers")                        \
  _ (GTPU_EXTENSION, gtpuBadExtension, "extension header of length zero, beyond the message, or too many of them")             \
  _ (GTPU_UNKNOWN_EXTENSION, gtpuUnknownExtension, "extension header that has to be understood and is not")                    \
  _ (GTPU_MESSAGE, gtpuUnknownMessage, "message type that GTP-U has not, or that no node sends")                               \
  _ (GTPU_SIGNALLING, gtpuBadSignalling, "signalling message without its sequence number or mandatory information")            \
  _ (GTPU_TEID, gtpuUnknownTeid, "no tunnel of that TEID")                                                                     \
  _ (GTPU_PAYLOAD, gtpuBadPayload, "inner packet empty, cut short or malformed")                                               \
  _ (GTPU_SOURCE, gtpuInnerSource, "inner source is no address of the tunnel's user equipment")                                \
  _ (GTPU_CONGESTION, gtpuCongestion, "congestion mark outside, inner packet that cannot carry it (RFC 6040)")                    \
  _ (GTPU_NESTED, gtpuNested, "GTP-U inside a tunnel, addressed to this node's own GTP-U address")                             \
  _ (GTPU_FRAGMENT, gtpuBadFragment, "outer fragment that overlaps, or of a datagram too large or already given up")           \
  _ (GTPU_REASSEMBLY_FULL, gtpuReassemblyFull, "too many outer datagrams being reassembled")                                   \
  _ (GTPU_NO_TUNNEL, gtpuNoTunnel, "user's address or VLAN that no tunnel has")

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
  FP_PATH_GTPU_DECAP = 1,
  FP_PATH_GTPU_ENCAP = 2,
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

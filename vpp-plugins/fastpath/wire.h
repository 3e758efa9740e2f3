/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the control plane's tables as they travel: key first, then value, little-endian integers, addresses 16
 * bytes in network order (an IPv4 address fills the first four, the rest is zero). The Python side is
 * operator/vpp_operator/dataplane/records.py. A digest of a record is XXH64 (seed 0) over its bytes. */
#ifndef FP_WIRE_H
#define FP_WIRE_H

#include <stddef.h>
#include <stdint.h>

enum fp_table
{
  FP_TABLE_CONFIG = 1,
  FP_TABLE_PREFIX = 2,
  FP_TABLE_SERVICE = 3,
  FP_TABLE_FRONTEND = 4,
  FP_TABLE_ENDPOINT = 5,
  FP_TABLE_GTPU_ENDPOINT = 6,
  FP_TABLE_GTPU_PEER = 7,
  FP_TABLE_GTPU_TUNNEL = 8,
  FP_TABLE_GTPU_UE = 9,
};

enum fp_config_key
{
  FP_CONFIG_MASQUERADE_ALL = 1,	 /* value 1: every flow to a ClusterIP is masqueraded */
  FP_CONFIG_SNAT_PORT_RANGE = 2, /* index 0..15; value = low | high << 16, both included */
  FP_CONFIG_SNAT_ADDRESS = 3,	 /* index 4 or 6 */
  FP_CONFIG_ICMP_SOURCE = 4,	 /* index 4 or 6 */
  FP_CONFIG_GTPU_SWITCHES = 5,	 /* value: bits of enum fp_gtpu_switch; without it: all bits, loop 4 */
};

/* The optimisations of the GTP-U path. A host ignores those that it has no use for and reports them so. */
enum fp_gtpu_switch
{
  FP_GTPU_LOOKUP_CACHE = 1,
  FP_GTPU_PREFETCH = 2,
  FP_GTPU_SKIP_INNER_IP_INPUT = 4,
  FP_GTPU_BYPASS = 8,
  FP_GTPU_SKIP_OUTER_LOOKUP = 16,
  FP_GTPU_BYPASS_FIB = 32, /* with FP_GTPU_BYPASS: by the local address's FIB entry, not by a feature of the interfaces */
  FP_GTPU_LOOP_SHIFT = 8, /* bits 8..15: packets handled side by side: 1, 2 or 4 */
};

enum fp_prefix_class
{
  FP_PREFIX_HOST = 1,	 /* an address of this node */
  FP_PREFIX_POD = 2,	 /* pods of this node */
  FP_PREFIX_SERVICE = 3, /* a service range */
  FP_PREFIX_UE_POOL = 4, /* addresses of user equipment behind tunnels; one that no tunnel has is unreachable */
};

enum fp_frontend_kind
{
  FP_FRONTEND_CLUSTER_IP = 0,
  FP_FRONTEND_NODE_PORT = 1,
  FP_FRONTEND_EXTERNAL_IP = 2,
  FP_FRONTEND_LOAD_BALANCER = 3,
};

enum fp_empty_verdict
{
  FP_EMPTY_REJECT = 0,
  FP_EMPTY_DROP = 1,
};

enum fp_service_flag
{
  FP_SERVICE_INTERNAL_LOCAL = 1,
  FP_SERVICE_EXTERNAL_LOCAL = 2,
  FP_SERVICE_AFFINITY_CLIENT_IP = 4,
};

enum fp_endpoint_flag
{
  FP_ENDPOINT_SERVES = 1,  /* an established UDP flow may stay */
  FP_ENDPOINT_CLUSTER = 2, /* in the set for cluster-wide traffic */
  FP_ENDPOINT_LOCAL = 4,   /* in the set for Local policies */
  FP_ENDPOINT_ON_NODE = 8, /* runs on this node */
};

enum fp_gtpu_endpoint_flag
{
  FP_GTPU_ENTROPY = 1, /* outer UDP source port from the inner flow; else always 2152 */
};

#define FP_GTPU_DSCP_INNER 255 /* copy the inner packet's */

enum fp_gtpu_payload
{
  FP_GTPU_PAYLOAD_IP = 1, /* IPv4 and IPv6 */
  FP_GTPU_PAYLOAD_ETHERNET = 2,
};

enum fp_gtpu_psc /* PDU Session Container written on encapsulation (TS 38.415) */
{
  FP_GTPU_PSC_NONE = 0,
  FP_GTPU_PSC_DL = 1, /* PDU type 0 */
  FP_GTPU_PSC_UL = 2, /* PDU type 1 */
};

enum fp_gtpu_tunnel_flag
{
  FP_GTPU_INNER_SOURCE_CHECK = 1,	/* a decapsulated packet's source must be one of the tunnel's UE prefixes */
  FP_GTPU_END_MARKER_ON_REPLACE = 2, /* End Marker to the old peer when peer address or remote TEID change */
};

typedef struct
{
  uint32_t key;
  uint32_t index;
  uint64_t value;
  uint8_t address[16];
} fp_wire_config_t;

typedef struct
{
  uint32_t vrf;
  uint8_t family; /* 4 or 6 */
  uint8_t length; /* bits */
  uint8_t prefix_class;
  uint8_t pad;
  uint8_t address[16]; /* bits beyond the length are zero */
  uint64_t reserved;
} fp_wire_prefix_t;

typedef struct
{
  uint64_t id;
  uint8_t family;
  uint8_t protocol;
  uint8_t flags;
  uint8_t empty_verdict;
  uint32_t affinity_seconds;
  uint64_t reserved[2];
} fp_wire_service_t;

typedef struct
{
  uint32_t vrf;
  uint8_t family;
  uint8_t protocol;
  uint16_t port;
  uint8_t node_port; /* 1: any local address, address is zero */
  uint8_t pad[7];
  uint8_t address[16];
  uint64_t service;
  uint8_t kind;
  uint8_t pad2[7];
} fp_wire_frontend_t;

typedef struct
{
  uint64_t service;
  uint8_t family;
  uint8_t pad;
  uint16_t port;
  uint32_t pad2;
  uint8_t address[16];
  uint8_t flags;
  uint8_t pad3[7];
} fp_wire_endpoint_t;

/* A local GTP-U address (GtpuEndpoint). */
typedef struct
{
  uint32_t vrf; /* outer */
  uint8_t family;
  uint8_t pad[3];
  uint8_t address[16];
  uint64_t id;	       /* what peers, tunnels and UE prefixes name it by; not 0 */
  uint32_t teid_base;  /* TEIDs of [base, base + count) are looked up by index, all others by hash */
  uint32_t teid_count; /* 0: no range */
  uint16_t mtu;	       /* largest outer packet, bytes; 0: the link's */
  uint8_t dscp;	       /* 0..63, or FP_GTPU_DSCP_INNER */
  uint8_t flags;       /* enum fp_gtpu_endpoint_flag */
  uint16_t port_low;   /* UDP source ports of FP_GTPU_ENTROPY, both included */
  uint16_t port_high;
  uint64_t reserved[2];
} fp_wire_gtpu_endpoint_t;

/* A peer of an endpoint: what all tunnels to one address share. */
typedef struct
{
  uint64_t endpoint; /* its id */
  uint8_t family;
  uint8_t pad[7];
  uint8_t address[16];
  uint32_t echo_interval_ms; /* 0: no Echo Requests are sent */
  uint32_t t3_ms;	     /* wait for an Echo Response */
  uint16_t mtu;		     /* of the path, outer bytes; 0: the endpoint's */
  uint8_t n3;		     /* Echo Requests before the path counts as down */
  uint8_t pad2[5];
} fp_wire_gtpu_peer_t;

typedef struct
{
  uint64_t endpoint; /* its id */
  uint32_t local_teid;
  uint32_t pad;
  uint32_t remote_teid;
  uint32_t inner_vrf;
  uint8_t remote[16]; /* a peer's address, family of the endpoint */
  uint8_t payload;    /* enum fp_gtpu_payload */
  uint8_t psc;	      /* enum fp_gtpu_psc */
  uint8_t qfi;	      /* 0..63 */
  uint8_t flags;      /* enum fp_gtpu_tunnel_flag */
  uint8_t family;     /* of remote */
  uint8_t pad2[3];
} fp_wire_gtpu_tunnel_t;

/* Addresses behind a tunnel: what is encapsulated into it, and what may come out of it. Ethernet payload: family 0, length 12,
 * the first two bytes of the address are the VLAN id in network order. */
typedef struct
{
  uint32_t inner_vrf;
  uint8_t family; /* 4, 6; 0: VLAN */
  uint8_t length; /* bits */
  uint8_t pad[2];
  uint8_t address[16]; /* bits beyond the length are zero */
  uint64_t endpoint;   /* its id */
  uint32_t local_teid;
  uint32_t pad2;
} fp_wire_gtpu_ue_t;

/* Key sizes in bytes: the key is the start of the record. */
#define FP_WIRE_CONFIG_KEY   8
#define FP_WIRE_PREFIX_KEY   24
#define FP_WIRE_SERVICE_KEY  8
#define FP_WIRE_FRONTEND_KEY 32
#define FP_WIRE_ENDPOINT_KEY 32
#define FP_WIRE_GTPU_ENDPOINT_KEY 24
#define FP_WIRE_GTPU_PEER_KEY	  32
#define FP_WIRE_GTPU_TUNNEL_KEY	  16
#define FP_WIRE_GTPU_UE_KEY	  24

_Static_assert (sizeof (fp_wire_config_t) == 32, "config record");
_Static_assert (sizeof (fp_wire_prefix_t) == 32, "prefix record");
_Static_assert (sizeof (fp_wire_service_t) == 32, "service record");
_Static_assert (sizeof (fp_wire_frontend_t) == 48, "frontend record");
_Static_assert (sizeof (fp_wire_endpoint_t) == 40, "endpoint record");
_Static_assert (sizeof (fp_wire_gtpu_endpoint_t) == 64, "GTP-U endpoint record");
_Static_assert (sizeof (fp_wire_gtpu_peer_t) == 48, "GTP-U peer record");
_Static_assert (sizeof (fp_wire_gtpu_tunnel_t) == 48, "GTP-U tunnel record");
_Static_assert (sizeof (fp_wire_gtpu_ue_t) == 40, "UE prefix record");
_Static_assert (offsetof (fp_wire_gtpu_endpoint_t, id) == FP_WIRE_GTPU_ENDPOINT_KEY, "GTP-U endpoint key");
_Static_assert (offsetof (fp_wire_gtpu_peer_t, echo_interval_ms) == FP_WIRE_GTPU_PEER_KEY, "GTP-U peer key");
_Static_assert (offsetof (fp_wire_gtpu_tunnel_t, remote_teid) == FP_WIRE_GTPU_TUNNEL_KEY, "GTP-U tunnel key");
_Static_assert (offsetof (fp_wire_gtpu_ue_t, endpoint) == FP_WIRE_GTPU_UE_KEY, "UE prefix key");
_Static_assert (offsetof (fp_wire_frontend_t, service) == FP_WIRE_FRONTEND_KEY, "frontend key");
_Static_assert (offsetof (fp_wire_endpoint_t, flags) == FP_WIRE_ENDPOINT_KEY, "endpoint key");
_Static_assert (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little-endian");

/* Control messages of the embedded host: header, then payload. */
#define FP_MSG_VERSION	   1
#define FP_MSG_MAX_RECORDS 4096
#define FP_MSG_MAX_BYTES   (256 * 1024)
#define FP_MSG_REPLY	   0x8000

enum fp_msg_type
{
  FP_MSG_INFO = 1,
  FP_MSG_UPSERT = 2,
  FP_MSG_DELETE = 3,
  FP_MSG_COMMIT = 4,
  FP_MSG_DUMP = 5,
  FP_MSG_FETCH = 6,
  FP_MSG_STATS = 7,
  FP_MSG_FLUSH_SESSIONS = 8,
  FP_MSG_GTPU_COUNTERS = 9, /* of the tunnels whose keys are given; without keys: of all, by cursor */
  FP_MSG_GTPU_PATHS = 10,   /* state of all peers, by cursor */
  FP_MSG_SERVICE_COUNTERS = 11, /* of the Services whose keys are given; without keys: of all, by cursor */
};

/* Totals of a Service since it was created, or the engine started (but for `sessions`: how many there are). forward: towards endpoints, reverse: back to
 * clients; bytes are of the IP packets, as they came. */
typedef struct
{
  uint64_t service;
  uint64_t forward_packets, forward_bytes, reverse_packets, reverse_bytes;
  uint64_t sessions, sessions_created;
} fp_msg_service_counters_t;

enum fp_gtpu_seen
{
  FP_GTPU_SEEN_END_MARKER = 1,
  FP_GTPU_SEEN_ERROR_INDICATION = 2, /* the peer does not know our remote TEID; cleared when the tunnel changes */
};

/* Totals of a tunnel since it was created, or the engine started. rx: out of the tunnel, tx: into it; bytes are of the inner packets. */
typedef struct
{
  uint64_t endpoint;
  uint32_t local_teid;
  uint32_t seen; /* enum fp_gtpu_seen */
  uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
  uint64_t drops;
} fp_msg_gtpu_counters_t;

enum fp_gtpu_path_state
{
  FP_GTPU_PATH_UNKNOWN = 0, /* no Echo Request has been answered or lost yet */
  FP_GTPU_PATH_UP = 1,
  FP_GTPU_PATH_DOWN = 2, /* n3 Echo Requests were not answered */
};

typedef struct
{
  uint64_t endpoint;
  uint8_t family;
  uint8_t pad[7];
  uint8_t address[16];
  uint8_t state; /* enum fp_gtpu_path_state */
  uint8_t restart_counter;
  uint8_t has_restart_counter;
  uint8_t pad2;
  uint32_t rtt_us; /* of the last answer */
  uint64_t answered_ns; /* CLOCK_BOOTTIME of the last answer; 0: none */
} fp_msg_gtpu_path_t;

_Static_assert (sizeof (fp_msg_gtpu_counters_t) == 56, "counters of a tunnel");
_Static_assert (sizeof (fp_msg_service_counters_t) == 56, "counters of a Service");
_Static_assert (sizeof (fp_msg_gtpu_path_t) == 48, "state of a path");

typedef struct
{
  uint32_t length; /* whole message */
  uint16_t type;
  uint16_t version;
  uint32_t context; /* echoed */
  uint32_t count;
  uint16_t record_size;
  uint16_t table;
  int32_t retval;
  uint64_t cursor;
} fp_msg_t;

_Static_assert (sizeof (fp_msg_t) == 32, "message header");

typedef struct
{
  uint32_t index;
  int32_t code; /* negative errno */
} fp_msg_failure_t;

#endif /* FP_WIRE_H */

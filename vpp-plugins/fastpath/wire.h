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
};

enum fp_config_key
{
  FP_CONFIG_MASQUERADE_ALL = 1,	 /* value 1: every flow to a ClusterIP is masqueraded */
  FP_CONFIG_SNAT_PORT_RANGE = 2, /* index 0..15; value = low | high << 16, both included */
  FP_CONFIG_SNAT_ADDRESS = 3,	 /* index 4 or 6 */
  FP_CONFIG_ICMP_SOURCE = 4,	 /* index 4 or 6 */
};

enum fp_prefix_class
{
  FP_PREFIX_HOST = 1,	 /* an address of this node */
  FP_PREFIX_POD = 2,	 /* pods of this node */
  FP_PREFIX_SERVICE = 3, /* a service range */
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

/* Key sizes in bytes: the key is the start of the record. */
#define FP_WIRE_CONFIG_KEY   8
#define FP_WIRE_PREFIX_KEY   24
#define FP_WIRE_SERVICE_KEY  8
#define FP_WIRE_FRONTEND_KEY 32
#define FP_WIRE_ENDPOINT_KEY 32

_Static_assert (sizeof (fp_wire_config_t) == 32, "config record");
_Static_assert (sizeof (fp_wire_prefix_t) == 32, "prefix record");
_Static_assert (sizeof (fp_wire_service_t) == 32, "service record");
_Static_assert (sizeof (fp_wire_frontend_t) == 48, "frontend record");
_Static_assert (sizeof (fp_wire_endpoint_t) == 40, "endpoint record");
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
};

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

/* SPDX-License-Identifier: Apache-2.0 */
/* What a packet kernel is given and what it returns. A host (VPP, the embedded program, a test) fills a descriptor for
 * each packet of a vector; the kernel may change the bytes [l3, l3 + room) and says what is to become of the packet. */
#ifndef FP_PACKET_H
#define FP_PACKET_H

#include <stdint.h>
#include <string.h>

enum fp_csum_state
{
  FP_CSUM_NONE = 0,    /* the packet carries a complete checksum that nobody has verified */
  FP_CSUM_VALID = 1,   /* complete, and verified by the host or its device */
  FP_CSUM_PARTIAL = 2, /* the field at csum_start + csum_offset holds the folded sum of the pseudo header only */
};

enum fp_gso_type /* numbers of virtio-net's gso_type, ECN bit removed */
{
  FP_GSO_NONE = 0,
  FP_GSO_TCP4 = 1,
  FP_GSO_UDP = 3,
  FP_GSO_TCP6 = 4,
  FP_GSO_UDP_L4 = 5,
};

enum fp_packet_flag
{
  FP_PACKET_KEEP_TTL = 1, /* the host's own forwarding decrements TTL or hop limit, and answers when it runs out */
};

enum fp_action
{
  FP_FORWARD = 0, /* send on by the host's forwarding: rewritten, or untouched if it is not ours */
  FP_HOLD = 1,	  /* a fragment before its first one: keep it until fp_fragments_ready names its cookie */
  FP_DROP = 2,	  /* free it; `reason` says why, and is counted */
  FP_REPLY = 3,	  /* an ICMP error stands in its place: contiguous == length, send it by the host's forwarding */
};

enum fp_path
{
  FP_PATH_PASS = 0,    /* not ours, untouched */
  FP_PATH_FORWARD = 1, /* client to endpoint, known flow */
  FP_PATH_REVERSE = 2, /* endpoint to client, known flow */
  FP_PATH_NEW = 3,     /* first packet of a flow */
  FP_PATH_ICMP = 4,    /* ICMP error about a known flow */
  FP_PATH_FRAGMENT = 5,	/* later fragment of a known datagram */
  FP_PATH_NONE = 6,    /* dropped, held or answered */
};

/* Lengths in bytes. Offsets of a partial checksum count from l3. */
typedef struct
{
  uint8_t *l3;		/* first byte of the IP header */
  uint32_t contiguous;	/* readable bytes at l3 */
  uint32_t length;	/* whole packet from l3 on, more than `contiguous` if it is chained (GSO) */
  uint32_t headroom;	/* writable bytes before l3 */
  uint32_t room;	/* writable bytes from l3 on, >= contiguous: an ICMP error is built there */
  uint32_t vrf;		/* VRF table id */
  uint32_t mtu;		/* of the way out; 0: not checked */
  uint8_t ingress;	/* FP_CLASS_* of the source, or FP_CLASS_UNKNOWN: taken from the source address */
  uint8_t csum;		/* enum fp_csum_state */
  uint8_t gso_type;	/* enum fp_gso_type */
  uint8_t flags;	/* enum fp_packet_flag */
  uint16_t csum_start;	/* if partial: where summing starts */
  uint16_t csum_offset; /* if partial: the field, from csum_start on */
  uint16_t gso_size;	/* payload bytes of one segment */
  uint64_t cookie;	/* the host's own */
} fp_packet_t;

typedef struct
{
  uint8_t action; /* enum fp_action */
  uint8_t reason; /* enum fp_drop of fp_counters.h if action is FP_DROP, else 0 */
  uint8_t path;	  /* enum fp_path */
} fp_verdict_t;

/* Packet bytes have no alignment: they are read and written through memcpy. Values keep network order in memory, so
 * a 16-bit value read from a packet can be compared with one in a key, but is no number before fp_net16. */
static inline uint16_t
fp_read16 (const void *p)
{
  uint16_t v;
  memcpy (&v, p, sizeof (v));
  return v;
}

static inline uint32_t
fp_read32 (const void *p)
{
  uint32_t v;
  memcpy (&v, p, sizeof (v));
  return v;
}

static inline uint64_t
fp_read64 (const void *p)
{
  uint64_t v;
  memcpy (&v, p, sizeof (v));
  return v;
}

static inline void
fp_write16 (void *p, uint16_t v)
{
  memcpy (p, &v, sizeof (v));
}

static inline void
fp_write32 (void *p, uint32_t v)
{
  memcpy (p, &v, sizeof (v));
}

/* Between network order and a number, either way. */
static inline uint16_t
fp_net16 (uint16_t v)
{
  return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap16 (v) : v;
}

static inline uint32_t
fp_net32 (uint32_t v)
{
  return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? __builtin_bswap32 (v) : v;
}

#endif /* FP_PACKET_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U headers (TS 29.281 clause 5): the mandatory part, the optional octets, the chain of extension headers, the PDU Session Container
 * (TS 38.415). Nothing is read beyond the bytes given; nothing here needs a table. */
#ifndef FP_GTPU_HEADER_H
#define FP_GTPU_HEADER_H

#include "fp_parse.h"

#define FP_GTPU_PORT	       2152
#define FP_GTPU_HEADER	       8
#define FP_GTPU_OPTIONAL       4  /* sequence number, N-PDU number, type of the next extension header */
#define FP_GTPU_PSC_BYTES      4  /* as we write it */
#define FP_GTPU_UDP_PORT_BYTES 4
#define FP_GTPU_MAX_EXTENSIONS 8  /* extension headers walked; more are refused */
#define FP_GTPU_MAX_ADDED      64 /* IPv6, UDP, GTP-U, optional octets, PDU Session Container */

enum fp_gtpu_bits /* first octet */
{
  FP_GTPU_PN = 1, /* N-PDU number is meaningful */
  FP_GTPU_S = 2,  /* sequence number is meaningful */
  FP_GTPU_E = 4,  /* extension headers follow */
  FP_GTPU_PLAIN = 0x30, /* version 1, protocol type GTP; the bit 8 is spare and not looked at */
};

enum fp_gtpu_type
{
  FP_GTPU_ECHO_REQUEST = 1,
  FP_GTPU_ECHO_RESPONSE = 2,
  FP_GTPU_ERROR_INDICATION = 26,
  FP_GTPU_NOTIFICATION = 31, /* Supported Extension Headers Notification */
  FP_GTPU_END_MARKER = 254,
  FP_GTPU_PDU = 255,
};

#define FP_GTPU_EXT_PSC	     0x85 /* PDU Session Container */
#define FP_GTPU_EXT_UDP_PORT 0x40 /* UDP Port (TS 29.281 5.2.2.1) */
#define FP_GTPU_EXT_REQUIRED 0x80 /* the receiving endpoint must understand it (TS 29.281 5.2.1) */

enum fp_gtpu_ie
{
  FP_GTPU_IE_RECOVERY = 14,	/* type, value */
  FP_GTPU_IE_TEID = 16,		/* type, 4 octets */
  FP_GTPU_IE_PEER_ADDRESS = 133, /* type, length, address */
  FP_GTPU_IE_EXTENSIONS = 141,	/* type, length (1 octet), extension header types */
};

typedef struct
{
  u32 teid;	/* host order */
  u32 payload;	/* offset from the GTP-U header: behind optional octets and extension headers */
  u32 length;	/* bytes of payload */
  u16 sequence; /* host order, if `flags` has FP_GTPU_S */
  u8 type;
  u8 flags;
  u8 psc; /* enum fp_gtpu_psc of the packet's PDU Session Container */
  u8 qfi; /* with it */
} fp_gtpu_message_t;

/* The chain behind the optional octets. `end`: of the message; `bound`: of the readable bytes; both from the GTP-U header on. */
FP_INLINE enum fp_drop
fp_gtpu_extensions (const u8 *g, u32 bound, u32 end, fp_gtpu_message_t *m)
{
  u32 at = FP_GTPU_HEADER + FP_GTPU_OPTIONAL;
  u8 type = g[at - 1];

  for (u32 i = 0; type; i++)
    {
      u32 size;
      if (i == FP_GTPU_MAX_EXTENSIONS || at + 4 > end)
	return FP_DROP_GTPU_EXTENSION;
      if (at + 4 > bound)
	return FP_DROP_TRUNCATED;
      size = g[at] * 4u;
      if (size == 0 || size > end - at)
	return FP_DROP_GTPU_EXTENSION;
      if (size > bound - at)
	return FP_DROP_TRUNCATED;
      if (type == FP_GTPU_EXT_PSC)
	{
	  u8 pdu = g[at + 1] >> 4;
	  m->psc = pdu == 0 ? FP_GTPU_PSC_DL : pdu == 1 ? FP_GTPU_PSC_UL : FP_GTPU_PSC_NONE;
	  m->qfi = g[at + 2] & 63;
	}
      else if (type & FP_GTPU_EXT_REQUIRED)
	return FP_DROP_GTPU_UNKNOWN_EXTENSION;
      type = g[at + size - 1];
      at += size;
    }
  m->payload = at;
  return FP_DROP_NONE;
}

/* A GTP-U message in `size` bytes of UDP payload, of which `bound` can be read. Bytes behind what its Length says are ignored. */
FP_ALWAYS_INLINE enum fp_drop
fp_gtpu_parse (const u8 *g, u32 bound, u32 size, fp_gtpu_message_t *m)
{
  u32 end;

  if (size < FP_GTPU_HEADER)
    return FP_DROP_GTPU_LENGTH;
  if (bound < FP_GTPU_HEADER)
    return FP_DROP_TRUNCATED;
  if ((g[0] & 0xf0) != FP_GTPU_PLAIN)
    return FP_DROP_GTPU_VERSION;
  end = FP_GTPU_HEADER + fp_net16 (fp_load16 (g + 2));
  if (end > size)
    return FP_DROP_GTPU_LENGTH;
  m->type = g[1];
  m->flags = g[0];
  m->teid = fp_net32 (fp_load32 (g + 4));
  m->payload = FP_GTPU_HEADER;
  m->sequence = 0;
  m->psc = FP_GTPU_PSC_NONE;
  m->qfi = 0;
  if (g[0] & (FP_GTPU_E | FP_GTPU_S | FP_GTPU_PN)) /* any of them: all four octets are there, the unused ones without meaning */
    {
      if (end < FP_GTPU_HEADER + FP_GTPU_OPTIONAL)
	return FP_DROP_GTPU_LENGTH;
      if (bound < FP_GTPU_HEADER + FP_GTPU_OPTIONAL)
	return FP_DROP_TRUNCATED;
      m->payload = FP_GTPU_HEADER + FP_GTPU_OPTIONAL;
      m->sequence = fp_net16 (fp_load16 (g + 8));
      if (g[0] & FP_GTPU_E)
	{
	  enum fp_drop r = fp_gtpu_extensions (g, bound, end, m);
	  if (r)
	    return r;
	}
    }
  m->length = end - m->payload;
  return FP_DROP_NONE;
}

#endif /* FP_GTPU_HEADER_H */

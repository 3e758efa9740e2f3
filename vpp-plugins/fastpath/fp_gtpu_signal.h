/* SPDX-License-Identifier: Apache-2.0 */
/* Signalling of GTP-U (TS 29.281 clause 7): what is answered in place, what is taken in, what the control thread sends of its own accord.
 * Answers go out with the endpoint's address; nothing is sent that is larger than what it answers, but for the Echo Response, which
 * every node owes (by two octets). */
#ifndef FP_GTPU_SIGNAL_H
#define FP_GTPU_SIGNAL_H

#include "fp_gtpu_build.h"
#include "fp_gtpu_path.h"
#include "fp_gtpu_worker.h"
#include "fp_tunnel.h"

#define FP_GTPU_MESSAGE_MAX 40
#define FP_GTPU_SIGNAL_MAX  (FP_IP6_HEADER + FP_UDP_HEADER + FP_GTPU_MESSAGE_MAX)

/* Of a received message: what its handling needs. */
typedef struct
{
  const fp_gtpu_endpoint_t *endpoint;
  fp_gtpu_message_t m;
  u32 gtp; /* offset of the GTP-U header from l3 */
  u32 size; /* whole packet */
  u8 six;
} fp_gtpu_received_t;

/* ---- answers ---- */

/* A source that can be answered: one host, and not ourselves. */
FP_INLINE int
fp_gtpu_may_answer (const u8 *h, int six)
{
  if (six)
    return h[8] != 0xff && memcmp (h + 8, h + 24, 16) != 0 &&
	   (fp_load64 (h + 8) | fp_load32 (h + 16) | (fp_load32 (h + 20) & ~fp_net32 (1))) != 0;
  return h[12] != 0 && h[12] != 127 && h[12] < 224 && fp_load32 (h + 12) != fp_load32 (h + 16);
}

/* Put a message in the packet's place, back to where it came from; from our GTP-U port, to `port` (network order). 0: no room. */
FP_INLINE int
fp_gtpu_answer (fp_packet_t *p, int six, u16 port, const u8 *message, u32 n)
{
  u8 *h = p->l3, addresses[32];
  u32 size = six ? 16 : 4, total = (six ? FP_IP6_HEADER : FP_IP4_HEADER) + FP_UDP_HEADER + n;
  if (p->room < total)
    return 0;
  memcpy (addresses, h + (six ? 8 : 12), 2 * size);
  fp_gtpu_signal (h, six, addresses + size, addresses, fp_net16 (FP_GTPU_PORT), port, message, n);
  p->contiguous = p->length = total;
  p->csum = FP_CSUM_VALID;
  p->gso_type = FP_GSO_NONE;
  p->gso_size = 0;
  return 1;
}

/* Echo Response: to the sender's port, with the request's sequence number, Recovery with the value zero (TS 29.281 7.2.2, 8.2). */
FP_INLINE int
fp_gtpu_echo_answer (fp_packet_t *p, const fp_gtpu_received_t *x)
{
  u8 g[FP_GTPU_MESSAGE_MAX];
  u32 n = fp_gtpu_message_header (g, FP_GTPU_ECHO_RESPONSE, x->m.sequence, 2);
  g[n++] = FP_GTPU_IE_RECOVERY;
  g[n++] = 0;
  return fp_gtpu_answer (p, x->six, fp_load16 (p->l3 + x->gtp - FP_UDP_HEADER), g, n);
}

/* Error Indication; port (network order): that the G-PDU came from, in a UDP Port extension header (TS 29.281 5.2.2.1, 7.3.1), or 0: without
 * one. */
FP_INLINE u32
fp_gtpu_error_message (u8 *g, int six, u32 teid, const u8 *local, u16 port)
{
  u32 size = six ? 16 : 4, more = port ? FP_GTPU_UDP_PORT_BYTES : 0;
  u32 n = fp_gtpu_message_header (g, FP_GTPU_ERROR_INDICATION, 0, more + 5 + 3 + size);
  if (more)
    {
      g[0] |= FP_GTPU_E;
      g[n - 1] = FP_GTPU_EXT_UDP_PORT;
      g[n] = FP_GTPU_UDP_PORT_BYTES / 4;
      fp_store16 (g + n + 1, port);
      g[n + 3] = 0; /* no more */
      n += FP_GTPU_UDP_PORT_BYTES;
    }
  g[n] = FP_GTPU_IE_TEID;
  fp_store32 (g + n + 1, fp_net32 (teid));
  g[n + 5] = FP_GTPU_IE_PEER_ADDRESS;
  fp_store16 (g + n + 6, fp_net16 ((u16) size));
  memcpy (g + n + 8, local, size);
  return n + 8 + size;
}

FP_INLINE u32
fp_gtpu_notification_message (u8 *g)
{
  u32 n = fp_gtpu_message_header (g, FP_GTPU_NOTIFICATION, 0, 3);
  g[n++] = FP_GTPU_IE_EXTENSIONS;
  g[n++] = 1;
  g[n++] = FP_GTPU_EXT_PSC;
  return n;
}

/* Error Indication about a G-PDU for an unknown TEID, or Notification about an extension header, to the sender's GTP-U port: whether one
 * was put in the packet's place. An Error Indication that would be larger than what it answers goes without the UDP port, or not at all. */
FP_INLINE int
fp_gtpu_complain (fp_worker_t *w, fp_packet_t *p, const fp_gtpu_received_t *x, u8 type)
{
  const u8 *local = p->l3 + (x->six ? 24 : 16);
  u32 header = (x->six ? FP_IP6_HEADER : FP_IP4_HEADER) + FP_UDP_HEADER, n;
  u16 port = fp_load16 (p->l3 + x->gtp - FP_UDP_HEADER);
  u8 g[FP_GTPU_MESSAGE_MAX];

  if (!fp_gtpu_may_answer (p->l3, x->six))
    return 0;
  if (type == FP_GTPU_NOTIFICATION)
    n = fp_gtpu_notification_message (g);
  else
    {
      n = fp_gtpu_error_message (g, x->six, x->m.teid, local, port);
      if (header + n > x->size || header + n > p->room)
	n = fp_gtpu_error_message (g, x->six, x->m.teid, local, 0);
    }
  if (header + n > x->size || header + n > p->room || !fp_gtpu_take_token (w))
    {
      fp_count (w, FP_C_GTPU_ANSWERS_LIMITED, 1);
      return 0;
    }
  fp_gtpu_answer (p, x->six, fp_net16 (FP_GTPU_PORT), g, n);
  fp_count (w, type == FP_GTPU_NOTIFICATION ? FP_C_GTPU_NOTIFICATIONS_SENT : FP_C_GTPU_ERRORS_SENT, 1);
  return 1;
}

/* ---- messages taken in ---- */

/* Information elements that we look for. Returns 0 if the list is broken before both are found. */
FP_INLINE int
fp_gtpu_error_elements (const u8 *ie, u32 n, fp_gtpu_event_t *e)
{
  int teid = 0, peer = 0;
  for (u32 at = 0; at < n && !(teid && peer);)
    {
      u32 size;
      if (ie[at] == FP_GTPU_IE_RECOVERY)
	size = 2;
      else if (ie[at] == FP_GTPU_IE_TEID)
	size = 5;
      else if (ie[at] < 128)
	return 0; /* fixed length that only who knows the type knows */
      else if (n - at < 3)
	return 0;
      else
	size = 3 + fp_net16 (fp_load16 (ie + at + 1));
      if (size > n - at)
	return 0;
      if (ie[at] == FP_GTPU_IE_TEID)
	{
	  e->teid = fp_net32 (fp_load32 (ie + at + 1));
	  teid = 1;
	}
      else if (ie[at] == FP_GTPU_IE_PEER_ADDRESS)
	{
	  if (size != 3 + 4 && size != 3 + 16)
	    return 0;
	  memset (e->peer, 0, sizeof (e->peer));
	  memcpy (e->peer, ie + at + 3, size - 3);
	  e->family = size == 3 + 4 ? 4 : 6;
	  peer = 1;
	}
      at += size;
    }
  return teid && peer;
}

FP_INLINE enum fp_drop
fp_gtpu_error_received (fp_worker_t *w, const fp_packet_t *p, const fp_gtpu_received_t *x)
{
  fp_gtpu_event_t e = { .endpoint = x->endpoint->id };
  if (p->contiguous < x->gtp + x->m.payload + x->m.length)
    return FP_DROP_TRUNCATED;
  if (!fp_gtpu_error_elements (p->l3 + x->gtp + x->m.payload, x->m.length, &e))
    return FP_DROP_GTPU_SIGNALLING;
  fp_count (w, FP_C_GTPU_ERRORS_RECEIVED, 1);
  if (!fp_gtpu_push_event (w->gtpu, &e))
    fp_count (w, FP_C_GTPU_EVENTS_LOST, 1);
  return FP_DROP_NONE;
}

FP_INLINE enum fp_drop
fp_gtpu_echo_received (fp_worker_t *w, const fp_packet_t *p, const fp_gtpu_received_t *x)
{
  const u8 *ie = p->l3 + x->gtp + x->m.payload;
  int restart = -1;
  u32 peer;
  if (p->contiguous < x->gtp + x->m.payload + x->m.length)
    return FP_DROP_TRUNCATED;
  if (x->m.length >= 2 && ie[0] == FP_GTPU_IE_RECOVERY) /* GTPv1-U senders leave it zero, and the receiver shall ignore it; shown, not used */
    restart = ie[1];
  peer = fp_gtpu_peer_find (w->region, x->endpoint, x->six, p->l3 + (x->six ? 8 : 12));
  if (w->region->gtpu_paths && peer != FP_NONE &&
      fp_gtpu_path_answered (&w->region->gtpu_paths[peer], x->m.sequence, restart, w->now_ns))
    fp_count (w, FP_C_GTPU_ECHO_RESPONSES, 1);
  return FP_DROP_NONE;
}

FP_INLINE void
fp_gtpu_end_received (fp_worker_t *w, const fp_gtpu_received_t *x)
{
  u64 hash = fp_tunnel_hash (w->region, x->endpoint, x->m.teid);
  u32 slot = fp_tunnel_lookup (w->region, x->endpoint, x->m.teid, hash);
  if (slot == FP_NONE)
    return; /* TS 29.281 7.3.2: ignored, without an Error Indication */
  fp_tunnel_mark (w->region, slot, FP_GTPU_SEEN_END_MARKER);
  fp_count (w, FP_C_GTPU_END_MARKERS, 1);
}

/* ---- messages of our own: whole IP packets, written to h (FP_GTPU_SIGNAL_MAX bytes); returned is their length ---- */

FP_INLINE u32
fp_gtpu_echo_request (u8 *h, const fp_gtpu_endpoint_t *e, const fp_gtpu_peer_t *peer, u16 sequence)
{
  u8 g[FP_GTPU_MESSAGE_MAX];
  u32 n = fp_gtpu_message_header (g, FP_GTPU_ECHO_REQUEST, sequence, 0);
  u16 port = fp_net16 (FP_GTPU_PORT);
  return fp_gtpu_signal (h, e->family == 6, e->address, peer->address, port, port, g, n);
}

/* End Marker, with a PDU Session Container if the tunnel's packets had one (TS 29.281 7.3.2). */
FP_INLINE u32
fp_gtpu_end_marker (u8 *h, const fp_gtpu_marker_t *m)
{
  u8 g[FP_GTPU_MESSAGE_MAX];
  u16 port = fp_net16 (FP_GTPU_PORT);
  fp_gtpu_pdu (g, fp_net32 (m->remote_teid), 0, m->psc, m->qfi);
  g[1] = FP_GTPU_END_MARKER;
  return fp_gtpu_signal (h, m->family == 6, m->local, m->remote, port, port, g,
			 FP_GTPU_HEADER + (m->psc ? FP_GTPU_OPTIONAL + FP_GTPU_PSC_BYTES : 0));
}

#endif /* FP_GTPU_SIGNAL_H */

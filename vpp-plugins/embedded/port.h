/* SPDX-License-Identifier: Apache-2.0 */
/* A port: one worker's packet socket on one interface, with its receive ring.
 *
 * The receive ring (TPACKET_V2) holds whole large frames: its memory is not charged to the socket's receive buffer, which
 * a process without CAP_NET_ADMIN cannot raise and which six 64 KiB frames fill. Packets are changed in the ring and sent
 * from there; sending copies once, into the kernel's own buffer. */
#ifndef EMB_PORT_H
#define EMB_PORT_H

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/fp_packet.h"

#define EMB_BATCH 256

/* Free bytes in front of the IP header of every frame: what the kernels may put there (the outer headers of a tunnel are
 * 64 bytes at most), then Ethernet and virtio-net header. */
#define EMB_HEADROOM	   160
#define EMB_MAX_FRAME	   65536 /* Ethernet header and packet */
#define EMB_LINK_HEADER	   14
#define EMB_VNET_HEADER	   10
#define EMB_KERNEL_ROOM	   (EMB_HEADROOM - EMB_LINK_HEADER - EMB_VNET_HEADER)

typedef struct
{
  int fd; /* -1: closed */
  int ifindex;
  uint32_t mtu;
  bool frames; /* whole Ethernet frames pass, by VLAN; else IP packets */
  uint8_t *ring;
  uint32_t ring_frames;
  uint32_t next;   /* frame that the kernel fills next */
  uint32_t taken;  /* frames from `next` on that are with the worker */
  uint64_t ring_drops; /* packets lost because the ring was full, since the start */
} emb_port_t;

typedef struct
{
  uint64_t rx_packets, rx_bytes, rx_bad, rx_truncated;
  uint64_t tx_packets, tx_bytes;
  uint64_t tx_no_buffers, tx_link_down, tx_refused;
} emb_port_counters_t;

/* Counters have one writer; others read them at any time. */
static inline void
emb_count (uint64_t *counter, uint64_t n)
{
  __atomic_store_n (counter, *counter + n, __ATOMIC_RELAXED);
}

static inline uint64_t
emb_counted (const uint64_t *counter)
{
  return __atomic_load_n (counter, __ATOMIC_RELAXED);
}

/* Opens the worker's socket on an interface that is up, for IP packets or for frames. With more than one worker all of them join the fanout group
 * `group`, which spreads packets by a hash of both addresses and ports (fragments: addresses only), the same for both
 * directions. Returns 0 or a negative errno; `step` says what failed. */
int emb_port_open (emb_port_t *p, int ifindex, uint32_t mtu, bool frames, uint32_t ring_frames, uint32_t workers,
		   uint16_t group, const char **step);
void emb_port_close (emb_port_t *p);

/* Takes up to `max` frames from the ring and describes the packets in them, in place: from the IP header on, or on a port for frames
 * from the Ethernet header on, the outer VLAN tag taken off. Returns their number, which is less
 * than `taken` if frames were no usable packets. The frames stay with the worker until emb_port_release. */
uint32_t emb_port_receive (emb_port_t *p, fp_packet_t *packets, uint32_t max, emb_port_counters_t *c);
bool emb_port_ready (const emb_port_t *p);
void emb_port_release (emb_port_t *p);

/* Sends packets, or frames with the tag of their VLAN; the 24 bytes in front of each l3 are overwritten. Never blocks: what the link does not take is
 * dropped and counted. */
void emb_port_send (emb_port_t *p, fp_packet_t *const *packets, uint32_t n, emb_port_counters_t *c);

/* Reads the kernel's count of packets lost on the full ring. */
void emb_port_poll_drops (emb_port_t *p);

#endif /* EMB_PORT_H */

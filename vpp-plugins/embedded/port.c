/* SPDX-License-Identifier: Apache-2.0 */
#include "port.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert (sizeof (struct virtio_net_hdr) == EMB_VNET_HEADER, "virtio-net header");

/* Distance of frames in the ring: an odd number of cache lines more than the largest frame, so that the first bytes of
 * neighbouring frames do not share a cache set. */
#define FRAME_SIZE (EMB_MAX_FRAME + 17 * 64)
#define FRAMES_PER_BLOCK 32
#define SEND_BUFFER	 (4 << 20) /* bytes; the kernel's own limit may be lower */
#define SEND_WAIT_MS	 2
#define BLOCK_SIZE	 ((FRAME_SIZE * FRAMES_PER_BLOCK + 4095) / 4096 * 4096)

_Static_assert (FRAME_SIZE % TPACKET_ALIGNMENT == 0, "frames in the ring are aligned");

/* The link's two addresses; node/links.py sets the first on the host's end and names the second in its neighbour
 * entries. The engine's own end has another address, so that the host's stack never takes these packets itself. */
static const uint8_t host_mac[6] = { 0x02, 0x76, 0x70, 0x70, 0x00, 0x01 };
static const uint8_t engine_mac[6] = { 0x02, 0x76, 0x70, 0x70, 0x00, 0x02 };

/* IPv4 and IPv6 addressed to engine_mac. */
static struct sock_filter accept_code[] = {
  BPF_STMT (BPF_LD | BPF_W | BPF_ABS, 0),
  BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, 0x02767070, 0, 6),
  BPF_STMT (BPF_LD | BPF_H | BPF_ABS, 4),
  BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, 0x0002, 0, 4),
  BPF_STMT (BPF_LD | BPF_H | BPF_ABS, 12),
  BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IP, 1, 0),
  BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, ETH_P_IPV6, 0, 1),
  BPF_STMT (BPF_RET | BPF_K, 0x40000),
  BPF_STMT (BPF_RET | BPF_K, 0),
};

static struct sock_filter frames_code[] = {
  BPF_STMT (BPF_RET | BPF_K, 0x40000),
};

static struct sock_filter refuse_code[] = {
  BPF_STMT (BPF_RET | BPF_K, 0),
};

static int
set_filter (int fd, struct sock_filter *code, unsigned short n)
{
  struct sock_fprog program = { .len = n, .filter = code };
  return setsockopt (fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof (program));
}

static int
set_option (int fd, int option, int value)
{
  return setsockopt (fd, SOL_PACKET, option, &value, sizeof (value));
}

static uint8_t *
frame_at (const emb_port_t *p, uint32_t i)
{
  return p->ring + (size_t) (i / FRAMES_PER_BLOCK) * BLOCK_SIZE + (size_t) (i % FRAMES_PER_BLOCK) * FRAME_SIZE;
}

static int
open_steps (emb_port_t *p, uint32_t workers, uint16_t group, const char **step)
{
  struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = __builtin_bswap16 (ETH_P_ALL) };
  struct tpacket_req ring = { .tp_block_size = BLOCK_SIZE, .tp_frame_size = FRAME_SIZE };
  const int send_buffer = SEND_BUFFER;
  const uint32_t block_count = (p->ring_frames + FRAMES_PER_BLOCK - 1) / FRAMES_PER_BLOCK;

  /* Protocol 0 and a filter that takes nothing, until the socket is bound and in its group: no packet of another
   * interface and none twice. */
  *step = "socket(AF_PACKET)";
  p->fd = socket (AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (p->fd < 0)
    return -errno;
  *step = "SO_ATTACH_FILTER";
  if (set_filter (p->fd, refuse_code, 1))
    return -errno;
  *step = "PACKET_VERSION";
  if (set_option (p->fd, PACKET_VERSION, TPACKET_V2))
    return -errno;
  *step = "PACKET_VNET_HDR";
  if (set_option (p->fd, PACKET_VNET_HDR, 1))
    return -errno;
  *step = "PACKET_IGNORE_OUTGOING";
  if (set_option (p->fd, PACKET_IGNORE_OUTGOING, 1))
    return -errno;
  /* As much as may be: it is what a burst has before its last packets are lost. */
  *step = "SO_SNDBUF";
  if (setsockopt (p->fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof (send_buffer)))
    return -errno;
  *step = "PACKET_RESERVE";
  if (set_option (p->fd, PACKET_RESERVE, EMB_HEADROOM + 6)) /* with the virtio-net header l3 is 16-aligned */
    return -errno;

  p->ring_frames = block_count * FRAMES_PER_BLOCK;
  ring.tp_block_nr = block_count;
  ring.tp_frame_nr = p->ring_frames;
  *step = "PACKET_RX_RING";
  if (setsockopt (p->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof (ring)))
    return -errno;
  *step = "mmap of the receive ring";
  p->ring = mmap (NULL, (size_t) block_count * BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
  if (p->ring == MAP_FAILED)
    {
      p->ring = NULL;
      return -errno;
    }

  *step = "bind";
  address.sll_ifindex = p->ifindex;
  if (bind (p->fd, (struct sockaddr *) &address, sizeof (address)))
    return -errno;
  *step = "PACKET_FANOUT";
  if (workers > 1 && set_option (p->fd, PACKET_FANOUT, group | PACKET_FANOUT_HASH << 16))
    return -errno;
  *step = "SO_ATTACH_FILTER";
  if (p->frames ? set_filter (p->fd, frames_code, 1)
		: set_filter (p->fd, accept_code, sizeof (accept_code) / sizeof (accept_code[0])))
    return -errno;
  return 0;
}

int
emb_port_open (emb_port_t *p, int ifindex, uint32_t mtu, bool frames, uint32_t ring_frames, uint32_t workers,
	       uint16_t group, const char **step)
{
  int rv;

  *p = (emb_port_t){ .fd = -1, .ifindex = ifindex, .mtu = mtu, .frames = frames, .ring_frames = ring_frames, .ring_drops = p->ring_drops };
  rv = open_steps (p, workers, group, step);
  if (rv)
    emb_port_close (p);
  return rv;
}

void
emb_port_close (emb_port_t *p)
{
  if (p->fd >= 0)
    emb_port_poll_drops (p);
  if (p->ring)
    munmap (p->ring, (size_t) (p->ring_frames / FRAMES_PER_BLOCK) * BLOCK_SIZE);
  if (p->fd >= 0)
    close (p->fd);
  p->ring = NULL;
  p->fd = -1;
  p->ifindex = 0;
}

void
emb_port_poll_drops (emb_port_t *p)
{
  struct tpacket_stats stats;
  socklen_t length = sizeof (stats);

  if (p->fd >= 0 && getsockopt (p->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0)
    emb_count (&p->ring_drops, stats.tp_drops);
}

static bool
with_user (const emb_port_t *p, uint32_t frame)
{
  const struct tpacket2_hdr *h = (const struct tpacket2_hdr *) frame_at (p, frame);
  return __atomic_load_n (&h->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER;
}

bool
emb_port_ready (const emb_port_t *p)
{
  return p->ring && with_user (p, p->next);
}

/* Fills the descriptor from a received frame; false: not usable. */
static bool
describe (const emb_port_t *p, uint8_t *frame, fp_packet_t *packet, emb_port_counters_t *c)
{
  const struct tpacket2_hdr *h = (const struct tpacket2_hdr *) frame;
  const uint32_t link_header = p->frames ? 0 : EMB_LINK_HEADER;
  struct virtio_net_hdr vnet;
  uint8_t *mac = frame + h->tp_mac;

  memset (packet, 0, sizeof (*packet));
  emb_count (&c->rx_packets, 1);
  emb_count (&c->rx_bytes, h->tp_len);
  if (h->tp_snaplen < h->tp_len)
    {
      emb_count (&c->rx_truncated, 1);
      return false;
    }
  if (h->tp_snaplen < EMB_LINK_HEADER)
    {
      emb_count (&c->rx_bad, 1);
      return false;
    }
  memcpy (&vnet, mac - EMB_VNET_HEADER, EMB_VNET_HEADER);
  packet->l3 = mac + link_header;
  packet->length = h->tp_snaplen - link_header;
  packet->contiguous = packet->length;
  packet->headroom = EMB_KERNEL_ROOM - (EMB_LINK_HEADER - link_header);
  if (p->frames && h->tp_status & TP_STATUS_VLAN_VALID)
    packet->vlan = h->tp_vlan_tci & 0xfff;
  packet->room = (uint32_t) (frame + FRAME_SIZE - packet->l3);
  packet->mtu = p->mtu;
  if (vnet.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
    {
      if (vnet.csum_start < link_header)
	{
	  emb_count (&c->rx_bad, 1);
	  return false;
	}
      packet->csum = FP_CSUM_PARTIAL;
      packet->csum_start = (uint16_t) (vnet.csum_start - link_header);
      packet->csum_offset = vnet.csum_offset;
    }
  else
    packet->csum = vnet.flags & VIRTIO_NET_HDR_F_DATA_VALID ? FP_CSUM_VALID : FP_CSUM_NONE;
  if (vnet.gso_type != VIRTIO_NET_HDR_GSO_NONE)
    {
      packet->gso_type = vnet.gso_type & ~VIRTIO_NET_HDR_GSO_ECN;
      packet->gso_size = vnet.gso_size;
    }
  return true;
}

uint32_t
emb_port_receive (emb_port_t *p, fp_packet_t *packets, uint32_t max, emb_port_counters_t *c)
{
  uint32_t n = 0;

  p->taken = 0;
  if (!p->ring)
    return 0;
  while (p->taken < max)
    {
      uint32_t at = p->next + p->taken;

      if (at >= p->ring_frames)
	at -= p->ring_frames;
      if (!with_user (p, at))
	break;
      n += describe (p, frame_at (p, at), &packets[n], c);
      p->taken++;
    }
  return n;
}

void
emb_port_release (emb_port_t *p)
{
  for (; p->taken; p->taken--)
    {
      struct tpacket2_hdr *h = (struct tpacket2_hdr *) frame_at (p, p->next);
      __atomic_store_n (&h->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
      p->next = p->next + 1 == p->ring_frames ? 0 : p->next + 1;
    }
}

/* Writes the virtio-net and Ethernet headers in front of a packet and returns their start. The kernels leave a large frame
 * where it is, so that the header it came with, which has the GSO type's ECN bit, still stands there. */
static uint8_t *
write_headers (const fp_packet_t *packet)
{
  uint8_t *start = packet->l3 - EMB_LINK_HEADER - EMB_VNET_HEADER, *mac = packet->l3 - EMB_LINK_HEADER;
  const bool v6 = packet->l3[0] >> 4 == 6;
  const uint16_t ethertype = __builtin_bswap16 (v6 ? ETH_P_IPV6 : ETH_P_IP);
  struct virtio_net_hdr vnet = { 0 };

  if (packet->csum == FP_CSUM_PARTIAL)
    {
      vnet.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
      vnet.csum_start = (uint16_t) (packet->csum_start + EMB_LINK_HEADER);
      vnet.csum_offset = packet->csum_offset;
    }
  if (packet->gso_type != FP_GSO_NONE)
    {
      struct virtio_net_hdr old;
      memcpy (&old, start, sizeof (old));
      vnet.gso_type = (uint8_t) (packet->gso_type | (old.gso_type & VIRTIO_NET_HDR_GSO_ECN));
      vnet.gso_size = packet->gso_size;
      /* How much the kernel copies into the linear part: all headers, at most 60 + 60 bytes of them. */
      vnet.hdr_len = (uint16_t) (EMB_LINK_HEADER + (packet->length < 120 ? packet->length : 120));
    }
  memcpy (start, &vnet, EMB_VNET_HEADER);
  memcpy (mac, host_mac, 6);
  memcpy (mac + 6, engine_mac, 6);
  memcpy (mac + 12, &ethertype, 2);
  return start;
}

/* A frame out of a tunnel: its addresses move forward to make room for the tag. */
static uint8_t *
write_tag (const fp_packet_t *frame)
{
  uint8_t *mac = frame->l3 - 4, *start = mac - EMB_VNET_HEADER;
  const uint16_t tag[2] = { __builtin_bswap16 (ETH_P_8021Q), __builtin_bswap16 (frame->vlan) };

  memmove (mac, frame->l3, 12);
  memcpy (mac + 12, tag, 4);
  memset (start, 0, EMB_VNET_HEADER);
  return start;
}

static void
count_error (emb_port_counters_t *c, int error)
{
  switch (error)
    {
    case ENOBUFS:
    case EAGAIN:
    case ENOMEM:
      emb_count (&c->tx_no_buffers, 1);
      break;
    case ENETDOWN:
    case ENXIO:
    case ENODEV:
      emb_count (&c->tx_link_down, 1);
      break;
    default:
      emb_count (&c->tx_refused, 1);
    }
}

void
emb_port_send (emb_port_t *p, fp_packet_t *const *packets, uint32_t n, emb_port_counters_t *c)
{
  struct mmsghdr messages[EMB_BATCH];
  struct iovec vectors[EMB_BATCH];
  uint32_t sent = 0;
  bool waited = false;

  if (p->fd < 0)
    {
      emb_count (&c->tx_link_down, n);
      return;
    }
  for (uint32_t i = 0; i < n; i++)
    {
      uint8_t *start = p->frames ? write_tag (packets[i]) : write_headers (packets[i]);
      vectors[i] = (struct iovec){ start, (size_t) (packets[i]->l3 + packets[i]->length - start) };
      messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &vectors[i], .msg_iovlen = 1 } };
    }
  while (sent < n)
    {
      int rv = sendmmsg (p->fd, messages + sent, n - sent, MSG_DONTWAIT);
      if (rv < 0 && errno == EINTR)
	continue;
      /* What was sent is still on its way through the kernel, which may wait for this very core: one short wait for all. */
      if (rv < 0 && errno == EAGAIN && !waited)
	{
	  struct pollfd out = { .fd = p->fd, .events = POLLOUT };
	  waited = true;
	  poll (&out, 1, SEND_WAIT_MS);
	  continue;
	}
      if (rv <= 0)
	{
	  /* The first of these messages failed; the others may still go. */
	  count_error (c, errno);
	  sent++;
	  continue;
	}
      for (int i = 0; i < rv; i++, sent++)
	{
	  emb_count (&c->tx_packets, 1);
	  emb_count (&c->tx_bytes, packets[sent]->length + EMB_LINK_HEADER);
	}
    }
}

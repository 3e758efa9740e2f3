/* SPDX-License-Identifier: Apache-2.0 */
#include "hold.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define USED 0xffff

int
emb_hold_init (emb_hold_t *h)
{
  h->memory = mmap (NULL, (size_t) EMB_HOLD_SLOTS * EMB_HOLD_BYTES, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (h->memory == MAP_FAILED)
    {
      h->memory = NULL;
      return -errno;
    }
  for (uint32_t i = 0; i < EMB_HOLD_SLOTS; i++)
    {
      h->packets[i].l3 = NULL;
      h->free[i] = (uint16_t) (EMB_HOLD_SLOTS - 1 - i);
    }
  h->n_free = EMB_HOLD_SLOTS;
  return 0;
}

void
emb_hold_destroy (emb_hold_t *h)
{
  if (h->memory)
    munmap (h->memory, (size_t) EMB_HOLD_SLOTS * EMB_HOLD_BYTES);
  h->memory = NULL;
}

int
emb_hold_keep (emb_hold_t *h, const fp_packet_t *packet, uint8_t link)
{
  const uint32_t header = EMB_LINK_HEADER + EMB_VNET_HEADER;
  uint32_t slot, at;
  fp_packet_t *copy;

  if (packet->cookie == 0 || packet->cookie > EMB_HOLD_SLOTS)
    return 0;
  slot = (uint32_t) packet->cookie - 1;
  /* The slot is used even if the packet does not fit: the kernels will name its cookie again. */
  for (at = h->n_free; at-- > 0;)
    if (h->free[at] == slot)
      {
	h->free[at] = USED;
	break;
      }
  copy = &h->packets[slot];
  h->links[slot] = link;
  *copy = *packet;
  copy->l3 = NULL;
  if (packet->length > EMB_HOLD_BYTES - EMB_HEADROOM)
    return 0;
  copy->l3 = h->memory + (size_t) slot * EMB_HOLD_BYTES + EMB_HEADROOM;
  copy->headroom = EMB_KERNEL_ROOM;
  copy->room = EMB_HOLD_BYTES - EMB_HEADROOM;
  /* It may have been held before and stand in this slot already, behind outer headers that are gone. */
  memmove (copy->l3 - header, packet->l3 - header, packet->length + header);
  return 1;
}

void
emb_hold_settle (emb_hold_t *h, uint32_t n)
{
  uint32_t from = h->n_free > n ? h->n_free - n : 0, to = from;

  for (; from < h->n_free; from++)
    if (h->free[from] != USED)
      h->free[to++] = h->free[from];
  h->n_free = to;
}

fp_packet_t *
emb_hold_packet (emb_hold_t *h, uint64_t cookie, uint8_t *link)
{
  fp_packet_t *packet;

  if (cookie == 0 || cookie > EMB_HOLD_SLOTS)
    return NULL;
  packet = &h->packets[cookie - 1];
  *link = h->links[cookie - 1];
  return packet->l3 ? packet : NULL;
}

void
emb_hold_free (emb_hold_t *h, uint64_t cookie)
{
  if (cookie == 0 || cookie > EMB_HOLD_SLOTS || h->n_free == EMB_HOLD_SLOTS)
    return;
  h->packets[cookie - 1].l3 = NULL;
  h->free[h->n_free++] = (uint16_t) (cookie - 1);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Packets in several buffers, for kernels that need their bytes side by side: gathered in memory of the thread, and put back into buffers. */
#ifndef included_khost_large_h
#define included_khost_large_h

#include <khost/khost.h>
#include <khost/khost_buffer.h>

#include <fastpath/fp_packet.h>

#define KHOST_LARGE	     8 /* packets of one vector */
#define KHOST_LARGE_HEADROOM 128
#define KHOST_LARGE_BYTES    (65535 + 40)
#define KHOST_LARGE_STRIDE   (64 * 1040) /* an odd number of cache sets, and more than headroom and packet */

STATIC_ASSERT (KHOST_LARGE_STRIDE >= KHOST_LARGE_HEADROOM + KHOST_LARGE_BYTES, "a packet fits");

/* Copies the packet of b's chain to place number `at`, below KHOST_LARGE, of the thread's memory; the descriptor points there, until the place is used again.
 * 0: it is larger than an IP packet can be, and is left as it is. */
static __clib_noinline __clib_unused int
khost_packet_gather (vlib_main_t *vm, khost_worker_t *w, u32 at, vlib_buffer_t *b, fp_packet_t *p)
{
  u8 *to = w->large + at * KHOST_LARGE_STRIDE + KHOST_LARGE_HEADROOM;

  if (p->length > KHOST_LARGE_BYTES)
    return 0;
  vlib_buffer_contents (vm, vlib_get_buffer_index (vm, b), to);
  p->l3 = to;
  p->contiguous = p->length;
  p->headroom = KHOST_LARGE_HEADROOM;
  p->room = KHOST_LARGE_STRIDE - KHOST_LARGE_HEADROOM;
  return 1;
}

/* Whether a packet lies in memory that is not its buffer's. */
always_inline int
khost_is_elsewhere (const vlib_buffer_t *b, const fp_packet_t *p, u32 data_size)
{
  return (uword) (p->l3 - b->pre_data) >= VLIB_BUFFER_PRE_DATA_SIZE + data_size;
}

/* Puts such a packet into its buffer and as many more as it needs, in place of what was there; khost_buffer_from_packet follows. 0: there are not enough
 * buffers; the packet is to be dropped. */
static __clib_noinline __clib_unused int
khost_buffer_take (vlib_main_t *vm, vlib_buffer_t *b, fp_packet_t *p)
{
  u32 bi = vlib_get_buffer_index (vm, b);
  u8 *from = p->l3;

  if (b->flags & VLIB_BUFFER_NEXT_PRESENT)
    vlib_buffer_free_one (vm, b->next_buffer);
  b->flags &= ~(VLIB_BUFFER_NEXT_PRESENT | KHOST_STALE);
  b->current_data = 0;
  b->current_length = 0;
  b->total_length_not_including_first_buffer = 0;
  if (vlib_buffer_add_data (vm, &bi, from, p->length))
    return 0;
  p->l3 = vlib_buffer_get_current (b);
  p->contiguous = b->current_length;
  return 1;
}

#endif /* included_khost_large_h */

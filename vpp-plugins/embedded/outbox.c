/* SPDX-License-Identifier: Apache-2.0 */
#include "outbox.h"

#include <stdatomic.h>
#include <stddef.h>

uint8_t *
emb_outbox_room (emb_outbox_t *o)
{
  const uint32_t tail = atomic_load_explicit (&o->tail, memory_order_relaxed);

  if (tail - atomic_load_explicit (&o->head, memory_order_acquire) == EMB_OUTBOX_SLOTS)
    return NULL;
  return o->slots[tail % EMB_OUTBOX_SLOTS].bytes + EMB_HEADROOM;
}

void
emb_outbox_put (emb_outbox_t *o, uint32_t length)
{
  const uint32_t tail = atomic_load_explicit (&o->tail, memory_order_relaxed);

  o->slots[tail % EMB_OUTBOX_SLOTS].length = length;
  atomic_store_explicit (&o->tail, tail + 1, memory_order_release);
}

uint32_t
emb_outbox_take (emb_outbox_t *o, fp_packet_t *packets, uint32_t max)
{
  const uint32_t head = atomic_load_explicit (&o->head, memory_order_relaxed);
  const uint32_t waiting = atomic_load_explicit (&o->tail, memory_order_acquire) - head;
  const uint32_t n = waiting < max ? waiting : max;

  for (uint32_t i = 0; i < n; i++)
    {
      emb_outbox_slot_t *slot = &o->slots[(head + i) % EMB_OUTBOX_SLOTS];
      packets[i] = (fp_packet_t){
	.l3 = slot->bytes + EMB_HEADROOM,
	.contiguous = slot->length,
	.length = slot->length,
	.headroom = EMB_KERNEL_ROOM,
	.room = EMB_OUTBOX_BYTES,
      };
    }
  return n;
}

void
emb_outbox_release (emb_outbox_t *o, uint32_t n)
{
  const uint32_t head = atomic_load_explicit (&o->head, memory_order_relaxed);

  atomic_store_explicit (&o->head, head + n, memory_order_release);
}

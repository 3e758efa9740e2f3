/* SPDX-License-Identifier: Apache-2.0 */
/* What the shared code asks of this host (host/host.h). */
#include <stdatomic.h>

#include "engine.h"

_Static_assert (EMB_OUTBOX_BYTES >= HOST_PACKET_BYTES, "signalling packets fit the outbox");

/* Signalling leaves by the first worker. */
static uint8_t *
packet_room (host_t *host)
{
  return emb_outbox_room (&((emb_engine_t *) host)->workers[0].outbox);
}

static void
packet_send (host_t *host, uint32_t length, uint32_t vrf)
{
  emb_engine_t *e = (emb_engine_t *) host;

  (void) vrf; /* the link has one */
  emb_outbox_put (&e->workers[0].outbox, length);
  emb_worker_signal (&e->workers[0]);
}

static void
describe (const host_t *host, host_json_t *j)
{
  const emb_engine_t *e = (const emb_engine_t *) host;

  host_json_str (j, "engine", "embedded");
  host_json_str (j, "version", EMB_VERSION);
  host_json_u64 (j, "workers", e->options.workers);
  host_json_str (j, "instructionSet", e->vector->name);
  host_json_array (j, "interfaces");
  for (uint32_t i = 0; i < e->links.n_links; i++)
    {
      /* Listed while every worker receives on it. */
      bool open = true;
      for (uint32_t k = 0; k < e->options.workers; k++)
	open &= atomic_load (&e->workers[k].open_ports) >> i & 1;
      if (open)
	host_json_str (j, NULL, e->links.links[i].name);
    }
  host_json_end_array (j);
}

static void
link_counters (const host_t *host, host_json_t *j)
{
  const emb_engine_t *e = (const emb_engine_t *) host;
  emb_port_counters_t sum = { 0 };
  uint64_t ring_drops = 0;

  for (uint32_t k = 0; k < host->workers; k++)
    for (uint32_t i = 0; i < e->links.n_links; i++)
      {
	const uint64_t *from = (const uint64_t *) &e->workers[k].counters[i];
	uint64_t *to = (uint64_t *) &sum;
	for (size_t n = 0; n < sizeof (sum) / sizeof (uint64_t); n++)
	  to[n] += emb_counted (&from[n]);
	ring_drops += emb_counted (&e->workers[k].ports[i].ring_drops);
      }
  host_json_u64 (j, "linkRxPackets", sum.rx_packets);
  host_json_u64 (j, "linkRxBytes", sum.rx_bytes);
  host_json_u64 (j, "linkTxPackets", sum.tx_packets);
  host_json_u64 (j, "linkTxBytes", sum.tx_bytes);
  host_json_u64 (j, "linkRxBad", sum.rx_bad);
  host_json_u64 (j, "linkRxTruncated", sum.rx_truncated);
  host_json_u64 (j, "linkRxRingFull", ring_drops);
  host_json_u64 (j, "linkTxNoBuffers", sum.tx_no_buffers);
  host_json_u64 (j, "linkTxDown", sum.tx_link_down);
  host_json_u64 (j, "linkTxRefused", sum.tx_refused);
}

/* No forwarding graph, hence nothing to skip or to bypass; and no FIB that would have to know of records. */
const host_functions_t emb_host_functions = {
  .packet_room = packet_room,
  .packet_send = packet_send,
  .describe = describe,
  .count = link_counters,
};

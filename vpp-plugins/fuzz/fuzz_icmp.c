/* SPDX-License-Identifier: Apache-2.0 */
/* ICMP errors that embed any bytes, most of them close to a packet of a known flow, in both families and directions. */
#include "fuzz.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  input_t in = { data, size };
  node_t *n = fuzz_node ();
  u8 how = take (&in), six = how & 1, proto = how & 2 ? 6 : 17, answer = how >> 2 & 1, bytes[512], inner[512];
  static u8 opened;

  if (!opened)
    for (opened = 1; opened < 5; opened++)
      {
	int f = opened & 1;
	spec_t spec = { .src = POD[f], .dst = DNS[f], .sport = 4000, .dport = 53, .proto = opened & 2 ? 6 : 17, .tcp_flags = 2 };
	u32 length = build (bytes, &spec);
	fp_packet_t p = { .contiguous = length, .length = length, .room = length };
	run_packet (&p, bytes, length, 0);
      }
  /* what the kernel has sent on: to the endpoint, or back to the client */
  spec_t about = answer ? (spec_t){ .src = DNS[six], .dst = POD[six], .sport = 53, .dport = 4000, .proto = proto, .payload = 20 }
			: (spec_t){ .src = POD[six], .dst = EP1[six], .sport = 4000, .dport = 5353, .proto = proto, .payload = 20 };
  about.options = how & 8 ? 8 : 0;
  u32 length = build (inner, &about), keep = take (&in) % (length + 1);
  for (u32 changes = how >> 4 & 3; changes; changes--)
    inner[take (&in) % length] ^= take (&in);
  spec_t error = { .src = ROUTER[six], .dst = about.src, .proto = six ? 58 : 1, .icmp_type = six ? 1 + (how >> 6) : 3,
		   .icmp_code = take (&in), .payload = (u16) keep, .body = inner };
  length = build (bytes, &error);
  fp_packet_t p = { .contiguous = length, .length = length, .room = length, .csum = take (&in) & 1 };
  run_packet (&p, bytes, length, answer);
  if (n->worker[0].counters->counter[FP_C_PACKETS] % 1000 == 0)
    advance (n, 0.01); /* the sessions stay: their time-out is longer than what a run adds up to between errors about them */
  return 0;
}

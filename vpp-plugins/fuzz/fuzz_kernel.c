/* SPDX-License-Identifier: Apache-2.0 */
/* The Service kernel on any bytes. An input is a list of operations: a raw packet, a well-formed packet with some bytes changed, a
 * change of an endpoint, time passing. Checked: no access beyond the buffer (AddressSanitizer; each packet lies in a block of its own
 * size), every packet accounted for once, a packet whose checksums were right keeps them right. */
#include "fuzz.h"

static const spec_t SHAPES4[] = {
  { .src = "10.1.0.9", .dst = "10.96.0.10", .sport = 4000, .dport = 80, .proto = 6, .tcp_flags = 2, .payload = 12 },
  { .src = "10.1.0.9", .dst = "10.96.0.10", .sport = 4000, .dport = 80, .proto = 6, .payload = 12 },
  { .src = "10.1.0.9", .dst = "10.96.0.11", .sport = 4001, .dport = 53, .proto = 17, .payload = 12 },
  { .src = "198.51.100.7", .dst = "192.168.1.1", .sport = 4002, .dport = NODE_PORT, .proto = 6, .tcp_flags = 2 },
  { .src = "10.1.0.5", .dst = "10.96.0.11", .sport = 4003, .dport = 53, .proto = 17, .payload = 5 },
  { .src = "10.1.0.5", .dst = "10.1.0.9", .sport = 5353, .dport = 4001, .proto = 17, .payload = 30 },
  { .src = "10.1.0.5", .dst = "10.1.0.9", .sport = 8080, .dport = 4000, .proto = 6, .tcp_flags = 18 },
  { .src = "10.1.0.9", .dst = "10.96.0.12", .sport = 4000, .dport = 80, .proto = 17, .payload = 5 },
  { .src = "10.1.0.9", .dst = "10.96.0.11", .sport = 4001, .dport = 53, .proto = 17, .payload = 16, .more = 1, .id = 1 },
  { .src = "10.1.0.9", .dst = "10.96.0.11", .proto = 17, .payload = 16, .offset = 24, .id = 1 },
  { .src = "10.1.0.9", .dst = "10.96.0.11", .sport = 4001, .dport = 53, .proto = 17, .payload = 16, .options = 12 },
  { .src = "10.1.0.9", .dst = "10.96.0.11", .proto = 1, .icmp_type = 8, .payload = 16 },
};

static const spec_t SHAPES6[] = {
  { .src = "fd00:10:1::9", .dst = "fd00:96::10", .sport = 4000, .dport = 80, .proto = 6, .tcp_flags = 2, .payload = 12 },
  { .src = "fd00:10:1::9", .dst = "fd00:96::10", .sport = 4000, .dport = 80, .proto = 6, .payload = 12 },
  { .src = "fd00:10:1::9", .dst = "fd00:96::11", .sport = 4001, .dport = 53, .proto = 17, .payload = 12 },
  { .src = "2001:db8::7", .dst = "fd00:1::1", .sport = 4002, .dport = NODE_PORT, .proto = 6, .tcp_flags = 2 },
  { .src = "fd00:10:1::5", .dst = "fd00:96::11", .sport = 4003, .dport = 53, .proto = 17, .payload = 5 },
  { .src = "fd00:10:1::5", .dst = "fd00:10:1::9", .sport = 5353, .dport = 4001, .proto = 17, .payload = 30 },
  { .src = "fd00:10:1::5", .dst = "fd00:10:1::9", .sport = 8080, .dport = 4000, .proto = 6, .tcp_flags = 18 },
  { .src = "fd00:10:1::9", .dst = "fd00:96::12", .sport = 4000, .dport = 80, .proto = 17, .payload = 5 },
  { .src = "fd00:10:1::9", .dst = "fd00:96::11", .sport = 4001, .dport = 53, .proto = 17, .payload = 16, .more = 1, .id = 1 },
  { .src = "fd00:10:1::9", .dst = "fd00:96::11", .proto = 17, .payload = 16, .offset = 24, .id = 1 },
  { .src = "fd00:10:1::9", .dst = "fd00:96::11", .sport = 4001, .dport = 53, .proto = 17, .payload = 16, .options = 16 },
  { .src = "fd00:10:1::9", .dst = "fd00:96::11", .proto = 58, .icmp_type = 128, .payload = 16 },
};

#define SHAPES (sizeof (SHAPES4) / sizeof (SHAPES4[0]))

/* How the host describes the packet: everything that a descriptor can say. */
static void
describe (input_t *in, fp_packet_t *p, u32 length)
{
  u8 how = take (in);
  p->csum = how & 3;
  p->flags = how >> 2 & 3;
  p->contiguous = length;
  p->length = length;
  p->room = length;
  if (how & 0x10)
    p->room += take (in) * 8u;
  if (how & 0x20)
    {
      p->csum_start = (u16) (take (in) * 2);
      p->csum_offset = take (in);
    }
  if (how & 0x40)
    {
      p->gso_type = take (in) % 6;
      p->gso_size = (u16) (take (in) * 16);
      p->length += take (in) * 256u;
    }
  if (how & 0x80)
    {
      p->mtu = take (in) * 8u;
      p->ingress = take (in);
      p->vrf = take (in) & 1;
    }
}

static void
one_packet (input_t *in, int shaped)
{
  u8 bytes[1024];
  u32 length, which = take (in);
  fp_packet_t p = { 0 };
  if (shaped)
    {
      spec_t spec = which & 1 ? SHAPES6[which / 2 % SHAPES] : SHAPES4[which / 2 % SHAPES];
      length = build (bytes, &spec);
      for (u32 changes = take (in) & 7; changes; changes--)
	{
	  u32 at = take (in) % length;
	  bytes[at] ^= take (in);
	}
    }
  else
    {
      length = which * 2;
      for (u32 i = 0; i < length; i++)
	bytes[i] = take (in);
    }
  describe (in, &p, length);
  run_packet (&p, bytes, length, which & 1);
}

/* An endpoint comes, goes, or stops serving. */
static void
change_endpoint (input_t *in)
{
  u8 how = take (in), six = how & 1, udp = how >> 1 & 1, second = how >> 2 & 1;
  u64 id = udp ? ID_WEB_UDP : ID_WEB_TCP;
  const char *address = second ? EP2[six] : EP1[six];
  if (how & 8)
    delete_endpoint (fuzz_node (), six, id, address, 8080);
  else
    put_endpoint (fuzz_node (), six, id, address, 8080, how & 16 ? EP_FLAGS : how & 32 ? FP_ENDPOINT_SERVES : 0);
  commit (fuzz_node ());
  fp_control_poll (&fuzz_node ()->region);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  input_t in = { data, size };
  /* both workers let go of what the inputs before have deleted: one of endpoints only brings no packet that would */
  advance (fuzz_node (), 0.01);
  for (u32 operations = 0; in.left && operations < 16; operations++)
    switch (take (&in) & 7)
      {
      case 0:
	one_packet (&in, 0);
	break;
      case 1:
	change_endpoint (&in);
	break;
      case 2:
	pass_time (take (&in));
	break;
      default:
	one_packet (&in, 1);
      }
  return 0;
}

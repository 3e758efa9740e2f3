/* SPDX-License-Identifier: Apache-2.0 */
/* The GTP-U kernels on any bytes. An input is a list of operations: raw bytes, a well-formed packet with some bytes changed, fragments,
 * encapsulation, segmentation, tunnels that come and go, switches, time. Checked: packets of a run are delivered by the general way, too (gtpu_submit); no access outside [l3 - headroom, l3 + room)
 * (AddressSanitizer; each packet lies in a block of its own size), every packet accounted for once, answers and encapsulated packets
 * have right checksums, no answer but an Echo Response is larger than what it answers. */
#include "../test/gtpu.h"
#include "fuzz.h"

static node_t *
gtpu_fuzz_node (void)
{
  static node_t *n;
  if (!n)
    n = gtpu_node ();
  return n;
}

static void
describe (input_t *in, fp_packet_t *p, u32 length, u32 *headroom, u32 *room)
{
  u8 how = take (in);
  *p = (fp_packet_t){ .length = length, .csum = how & 3, .flags = how >> 2 & 3 };
  *room = length;
  *headroom = HEADROOM;
  if (how & 0x10)
    {
      *room += take (in);
      *headroom = take (in);
    }
  if (how & 0x20)
    {
      p->csum_start = (u16) (take (in) * 2);
      p->csum_offset = take (in);
    }
  if (how & 0x40)
    {
      p->gso_type = take (in) % 6;
      p->gso_size = (u16) (take (in) * 4);
      if (how & 0x80)
	p->length += take (in) * 16u;
    }
  if (how & 0x80)
    {
      p->mtu = take (in) * 8u;
      p->vrf = take (in) == 1;
      p->vlan = take (in);
    }
  p->cookie = how;
}

/* Whether a forwarded or answered packet's own checksums are right; its lengths are the kernel's responsibility. */
static void
check_sent (const char *what, const fp_packet_t *p)
{
  const u8 *h = p->l3;
  u32 total = h[0] >> 4 == 6 ? 40 + get16 (h + 4) : get16 (h + 2);
  CHECK (total == p->length, "%s: %u bytes, header says %u", what, p->length, total);
  if (p->contiguous == p->length)
    check_checksums (what, h, p->length, 0);
}

static void
cut_up (const gshot_t *s, int frame)
{
  u32 at = 0, n, pieces = 0, room = 4096;
  fp_packet_t segment;
  u8 *block = malloc (64 + room);
  while ((n = frame ? fp_gtpu_segment_frame (&s->p, &at, block + 64, 64, room, &segment)
		    : fp_gtpu_segment (&s->p, &at, block + 64, 64, room, &segment)))
    {
      CHECK (n == segment.length && n <= room && segment.gso_type == FP_GSO_NONE, "segment of %u bytes", n);
      CHECK (++pieces < 20000, "segmentation without an end");
      CHECK (frame || !s->p.fragment_size || n <= s->p.fragment_size, "segment of %u bytes, at most %u", n, s->p.fragment_size);
      if (!frame)
	check_sent ("segment", &segment);
    }
  free (block);
}

/* Right checksums going in: a derived outer checksum is right only for a right inner one. */
static void
through (input_t *in, enum direction direction, const u8 *bytes, u32 length)
{
  gshot_t s;
  u32 headroom, room;
  node_t *n = gtpu_fuzz_node ();
  describe (in, &s.p, length, &headroom, &room);
  fp_packet_t before = s.p, probe = { .l3 = (u8 *) bytes, .contiguous = length, .length = length };
  fp_parsed_t o;
  int right = direction == ENCAP && s.p.csum != FP_CSUM_PARTIAL && fp_parse (&probe, &o) == FP_DROP_NONE;
  gtpu_submit (n, take (in) & 1, direction, bytes, length, headroom, room, &s);
  CHECK (s.v.action == FP_HOLD || s.v.action == FP_CONSUMED || s.p.contiguous <= s.p.length, "contiguous %u of %u", s.p.contiguous, s.p.length);
  if (s.v.action == FP_FORWARD && s.v.way == FP_WAY_PASS && s.p.l3 == s.sent)
    CHECK (!memcmp (s.sent, bytes, length), "passed packet was changed");
  if (s.v.action == FP_SEGMENT)
    {
      CHECK (!memcmp (s.sent, bytes, length), "packet to be cut was changed");
      cut_up (&s, direction == ENCAP_FRAME);
    }
  if (s.v.action == FP_REPLY)
    {
      check_sent ("answer", &s.p);
      CHECK (direction == ENCAP || s.v.reason == 0 || s.p.length <= before.length, "amplified %u to %u", before.length, s.p.length);
    }
  if (s.v.action == FP_FORWARD && s.v.way == FP_WAY_GTPU)
    {
      memset (s.p.l3 - s.p.headroom, 0x3c, s.p.headroom); /* the host may write there */
      if (direction == DECAP)
	CHECK (s.p.contiguous >= 20 && s.p.l3[0] >> 4 != 0, "inner packet of %u", s.p.contiguous);
      else
	{
	  u32 total = s.p.l3[0] >> 4 == 6 ? 40 + get16 (s.p.l3 + 4) : get16 (s.p.l3 + 2);
	  CHECK (total == s.p.length && (!before.mtu || s.p.length <= before.mtu), "encapsulated: %u bytes, header says %u, MTU %u", s.p.length,
		 total, before.mtu);
	  if (direction == ENCAP_FRAME || (right && checksums_right (bytes, length)))
	    check_sent ("encapsulated", &s.p);
	}
    }
  gtpu_release (&s);
}

/* A G-PDU or another message for one of the tunnels, then some bytes changed. */
static u32
received (input_t *in, u8 *bytes)
{
  u8 message[512], which = take (in), shape = take (in);
  const tunnel_t *t = &TUNNEL[which % TUNNELS];
  u32 length, total, kind = sizeof (GOLDENS) / sizeof (GOLDENS[0]);
  if (shape % 4)
    {
      length = octets (GOLDENS[shape / 4 % kind].hex, message);
      if (message[1] == 255)
	put16 (message + 6, t->teid & 0xffff), put16 (message + 4, t->teid >> 16);
    }
  else
    {
      u8 inner[256];
      int six = which >> 7;
      char ue[64];
      snprintf (ue, sizeof (ue), "%s%s", t->ue[six] ? t->ue[six] : six ? "2001:db8::" : "10.0.0.1", six ? "1" : "");
      spec_t s = { .src = ue, .dst = OUTSIDE[six], .sport = 1, .dport = 2, .proto = 17, .payload = take (in) % 180 };
      length = pdu (message, t->teid, inner, build (inner, &s));
    }
  total = wrap (bytes, which & 0x40 ? OUTSIDE[t->outer] : GNB[t->outer], LOCAL[t->outer], 2152, 2152, message, length);
  for (u32 changes = take (in) & 7; changes; changes--)
    {
      u32 at = take (in) % total;
      bytes[at] ^= take (in);
    }
  if (shape & 0x40 && !t->outer) /* let more of the changes through to GTP-U */
    put16 (bytes + 26, 0);
  if (shape & 0x80 && !t->outer && (bytes[0] & 15) >= 5 && (bytes[0] & 15) * 4u <= total)
    {
      put16 (bytes + 10, 0);
      put16 (bytes + 10, ~ref_sum (bytes, (bytes[0] & 15) * 4u, 0) & 0xffff);
    }
  return total;
}

/* A piece of a G-PDU, at any place. */
static u32
fragment (input_t *in, u8 *bytes)
{
  static u8 payload[1400];
  u8 how = take (in), message[1500];
  int outer = how & 1;
  u32 at = take (in) % 170 * 8u, n, length = pdu (message, TUNNEL[outer ? T_SIX : T_PLAIN].teid, payload, 1024 + (how >> 2 & 3) * 16), all;
  u8 udp[1600], whole[1600];
  all = wrap (whole, GNB[outer], LOCAL[outer], 2152, how & 2 ? 53 : 2152, message, length) - (outer ? 40 : 20);
  memcpy (udp, whole + (outer ? 40 : 20), all);
  if (at >= all)
    at = 0;
  n = (take (in) + 1u) * 8;
  if (at + n > all || how & 0x10)
    n = all - at;
  spec_t s = { .src = GNB[outer], .dst = LOCAL[outer], .proto = 17, .payload = (u16) n, .body = udp + at, .id = how >> 5, .offset = (u16) at,
	       .more = at + n < all };
  if (at)
    return build (bytes, &s);
  s.sport = 2152;
  s.dport = how & 2 ? 53 : 2152;
  s.body = udp + 8;
  if (n < 16)
    n = 16;
  s.payload = (u16) (n - 8);
  s.more = n < all;
  n = build (bytes, &s);
  memcpy (bytes + n - s.payload - 8, udp, 8);
  return n;
}

static u32
to_user (input_t *in, u8 *bytes)
{
  static const u8 protos[] = { 6, 17, 1, 132 };
  u8 which = take (in), how = take (in);
  const tunnel_t *t = &TUNNEL[which % TUNNELS];
  int six = which >> 7;
  char ue[64];
  snprintf (ue, sizeof (ue), "%s%s", t->ue[six] ? t->ue[six] : six ? "2001:db8:45:ff::" : "10.45.99.1", six ? "1" : "");
  spec_t s = { .src = OUTSIDE[six], .dst = ue, .sport = 1, .dport = 2, .proto = protos[how & 3], .payload = take (in) * 5, .ttl = how & 4 ? 1 : 64,
	       .df = how >> 3 & 1, .options = how & 16 ? 8 : 0, .more = how >> 5 & 1, .offset = how & 64 ? 64 : 0 };
  if (six && s.proto == 1)
    s.proto = 58;
  if (s.more)
    s.payload &= 0xfff8;
  u32 n = build (bytes, &s);
  if (how & 128)
    for (u32 changes = take (in) & 7; changes; changes--)
      {
	u32 at = take (in) % n;
	bytes[at] ^= take (in);
      }
  return n;
}

static void
change_tables (input_t *in)
{
  node_t *n = gtpu_fuzz_node ();
  u8 how = take (in);
  const tunnel_t *t = &TUNNEL[how % TUNNELS];
  if (how & 0x80)
    set_switches (n, 1u << (how & 7) % 3, how >> 3 & 1, how >> 4 & 1);
  else if (how & 0x40)
    put_gtpu_endpoint (n, how & 1, how & 2 ? 1300 : 0, how & 4 ? FP_GTPU_DSCP_INNER : how & 63, how & 8 ? 50000 : 0, 50100);
  else
    {
      fp_wire_gtpu_tunnel_t r = tunnel_record (t, how & 0x20 ? GNB2[t->outer] : GNB[t->outer]);
      r.qfi = how & 63;
      r.flags = how & 0x10 ? FP_GTPU_INNER_SOURCE_CHECK : 0;
      upsert (n, FP_TABLE_GTPU_TUNNEL, &r);
    }
  commit (n);
  fp_control_poll (&n->region);
}

static void
time_passes (u8 how)
{
  node_t *n = gtpu_fuzz_node ();
  u64 cookies[16];
  u8 expired[16];
  fp_gtpu_event_t event;
  advance (n, how < 128 ? how / 1000.0 : (how - 127) / 10.0);
  for (int i = 0; i < 2; i++)
    {
      fp_gtpu_expire (&n->worker[i]);
      fp_sessions_age (&n->worker[i], 512);
      fp_fragments_ready (&n->worker[i], cookies, expired, 16);
      while (fp_gtpu_take_event (n->worker[i].gtpu, &event))
	CHECK (event.family == 4 || event.family == 6, "event of family %u", event.family);
    }
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static u8 bytes[4096];
  input_t in = { data, size };
  for (u32 operations = 0; in.left && operations < 16; operations++)
    {
      u8 what = take (&in);
      u32 n = 0;
      switch (what & 7)
	{
	case 0: /* raw, any direction */
	  n = take (&in) * 2u;
	  for (u32 i = 0; i < n; i++)
	    bytes[i] = take (&in);
	  through (&in, (enum direction) (what >> 3) % 3, bytes, n);
	  break;
	case 1:
	  change_tables (&in);
	  break;
	case 2:
	  time_passes (take (&in));
	  break;
	case 3:
	  n = fragment (&in, bytes);
	  through (&in, DECAP, bytes, n);
	  break;
	case 4:
	case 5:
	  n = to_user (&in, bytes);
	  if (what & 0x10)
	    {
	      memmove (bytes + 14, bytes, n);
	      memset (bytes, 2, 12);
	      put16 (bytes + 12, bytes[14] >> 4 == 6 ? 0x86dd : 0x0800);
	      through (&in, ENCAP_FRAME, bytes, n + 14);
	    }
	  else
	    through (&in, ENCAP, bytes, n);
	  break;
	default:
	  n = received (&in, bytes);
	  through (&in, DECAP, bytes, n);
	  for (u32 again = what >> 6; again; again--) /* the same once more, nearly */
	    {
	      for (u32 changes = take (&in) & 3; changes; changes--)
		{
		  u32 at = take (&in) % n;
		  bytes[at] ^= take (&in);
		}
	      through (&in, DECAP, bytes, n);
	    }
	}
    }
  return 0;
}

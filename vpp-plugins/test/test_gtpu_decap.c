/* SPDX-License-Identifier: Apache-2.0 */
/* Decapsulation: every kind of tunnel in every setting of the switches, and everything that must not get through. */
#include "gtpu.h"

static u32
inner_packet (u8 *out, const char *src, const char *dst, u8 proto, u16 payload)
{
  spec_t s = { .src = src, .dst = dst, .sport = 4000, .dport = 53, .proto = proto, .payload = payload, .icmp_type = is6 (src) ? 128 : 8 };
  return build (out, &s);
}

/* A host in the prefix of tunnel t. */
static const char *
ue_address (const tunnel_t *t, int six)
{
  static char text[4][64];
  static u32 next;
  char *s = text[next++ % 4];
  snprintf (s, 64, "%s%s", t->ue[six], six ? "77" : "");
  return s;
}

/* ---- what gets through ---- */

static void
test_tunnels (node_t *n)
{
  for (int t = 0; t < TUNNELS; t++)
    for (int six = 0; six < 2; six++)
      {
	const tunnel_t *tunnel = &TUNNEL[t];
	u8 inner[256], message[512];
	u32 length, total;
	u64 before, bytes, drops;
	fp_tunnel_counters_t *c;
	gshot_t s;
	if (!tunnel->ue[six])
	  continue;
	length = inner_packet (inner, ue_address (tunnel, six), OUTSIDE[six], 17, 30);
	total = pdu (message, tunnel->teid, inner, length);
	u8 local[16];
	put_address (local, LOCAL[tunnel->outer]);
	const fp_gtpu_endpoint_t *e = fp_gtpu_endpoint_find (&n->region, 0, tunnel->outer, local);
	CHECK (e, "no endpoint %s", LOCAL[tunnel->outer]);
	u32 slot = fp_tunnel_lookup (&n->region, e, tunnel->teid, fp_tunnel_hash (&n->region, e, tunnel->teid));
	CHECK (slot != FP_NONE, "no tunnel %x", tunnel->teid);
	c = fp_tunnel_counters (&n->worker[0], slot);
	before = c->rx_packets;
	bytes = c->rx_bytes;
	drops = c->drops;
	s = receive (n, tunnel->outer, message, total);
	CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_GTPU && s.v.reason == 0, "tunnel %d: action %u reason %s", t, s.v.action,
	       fp_drop_name (s.v.reason));
	CHECK (s.p.length == length && s.p.contiguous == length && memcmp (s.p.l3, inner, length) == 0, "inner packet of tunnel %d", t);
	CHECK (s.p.l3 - s.p.headroom == s.block && s.p.l3 + s.p.room == s.block + s.block_size, "bounds after decapsulation");
	CHECK (s.p.csum == FP_CSUM_NONE && s.p.gso_type == FP_GSO_NONE && !(s.p.flags & FP_PACKET_IP_VALID), "outer offloads are still there");
	CHECK (c->rx_packets == before + 1 && c->rx_bytes == bytes + length && c->drops == drops,
	       "counters of tunnel %d", t);
	check_checksums ("inner", s.p.l3, s.p.length, 0);
	gtpu_release (&s);
      }
}

/* Each golden G-PDU, whatever optional parts it has, gives the same inner packet. */
static void
test_goldens (node_t *n)
{
  static const char *const names[] = { "pdu_plain", "pdu_sequence", "pdu_psc_uplink", "pdu_psc_downlink", "pdu_chain" };
  u8 plain[256];
  u64 dl = counter (n, FP_C_GTPU_PSC_DL), ul = counter (n, FP_C_GTPU_PSC_UL);
  golden ("pdu_plain", plain);
  for (u32 i = 0; i < 5; i++)
    {
      u8 message[256];
      u32 length = golden (names[i], message);
      gshot_t s = receive (n, 0, message, length);
      CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_GTPU, "%s: %s", names[i], fp_drop_name (s.v.reason));
      CHECK (s.p.length == 28 && memcmp (s.p.l3, plain + 8, 28) == 0, "%s: inner packet", names[i]);
      gtpu_release (&s);
    }
  CHECK (counter (n, FP_C_GTPU_PSC_DL) == dl + 1 && counter (n, FP_C_GTPU_PSC_UL) == ul + 2, "PDU types are not counted");
}

static void
test_ethernet (node_t *n)
{
  gshot_t s = receive_hex (n, 0, "30 ff 0011 00001011 ffffffffffff 020000000001 0806 0001 08");
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_ETHERNET && s.p.length == 17 && s.p.vlan == 100, "frame: action %u way %u vlan %u",
	 s.v.action, s.v.way, s.p.vlan);
  CHECK (s.p.l3[0] == 0xff && s.p.l3[12] == 8, "frame's bytes");
  gtpu_release (&s);
  receive_expect (n, 0, "frame without its header", "30 ff 000d 00001011 ffffffffffff 020000000001 08", FP_DROP, FP_DROP_GTPU_PAYLOAD);
}

/* Trailing bytes (padding of the link inside the tunnel) are cut. */
static void
test_padding (node_t *n)
{
  u8 message[256];
  u32 length = golden ("pdu_plain", message);
  memset (message + length, 0xcc, 18);
  put16 (message + 2, 28 + 18);
  gshot_t s = receive (n, 0, message, length + 18);
  CHECK (s.v.action == FP_FORWARD && s.p.length == 28 && s.p.contiguous == 28, "padded: length %u", s.p.length);
  gtpu_release (&s);
}

/* ---- what does not ---- */

static void
test_payload (node_t *n)
{
  static const struct
  {
    const char *what, *hex;
    enum fp_drop reason;
  } bad[] = {
    { "no payload", "30 ff 0000 00001001", FP_DROP_GTPU_PAYLOAD },
    { "no payload behind a PSC", "34 ff 0008 00001001 00000085 01100900", FP_DROP_GTPU_PAYLOAD },
    { "19 bytes", "30 ff 0013 00001001 45000013 00010000 40014677 0a2d0002 c63364", FP_DROP_GTPU_PAYLOAD },
    { "version 5", "30 ff 0014 00001001 55000014 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_PAYLOAD },
    { "version 0", "30 ff 0014 00001001 05000014 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_PAYLOAD },
    { "header of 16 bytes", "30 ff 0014 00001001 44000014 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_PAYLOAD },
    { "total length below the header", "30 ff 0014 00001001 45000013 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_PAYLOAD },
    { "total length beyond the payload", "30 ff 0014 00001001 45000015 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_PAYLOAD },
    { "options beyond the packet", "30 ff 0014 00001001 46000014 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_PAYLOAD },
    { "TTL 0", "30 ff 0014 00001001 45000014 00010000 00014677 0a2d0002 c6336407", FP_DROP_TTL },
    { "IPv6 of 39 bytes",
      "30 ff 0027 00001001 60000000 00003b40 20010db8004500020000000000000077 20010db80000000000000000000000", FP_DROP_GTPU_PAYLOAD },
    { "IPv6 longer than the payload",
      "30 ff 0028 00001001 60000000 00013b40 20010db8004500020000000000000077 20010db8000000000000000000000007", FP_DROP_GTPU_PAYLOAD },
    { "hop limit 0",
      "30 ff 0028 00001001 60000000 00003b00 20010db8004500020000000000000077 20010db8000000000000000000000007", FP_DROP_TTL },
    /* spoofed sources */
    { "source of another UE", "30 ff 0014 00001001 45000014 00010000 40014677 0a2d0003 c6336407", FP_DROP_GTPU_SOURCE },
    { "source 0.0.0.0", "30 ff 0014 00001001 45000014 00010000 40014677 00000000 c6336407", FP_DROP_GTPU_SOURCE },
    { "source of nobody", "30 ff 0014 00001001 45000014 00010000 40014677 c0000201 c6336407", FP_DROP_GTPU_SOURCE },
    { "IPv6 source of another UE",
      "30 ff 0028 00001001 60000000 00003b40 20010db8004500030000000000000077 20010db8000000000000000000000007", FP_DROP_GTPU_SOURCE },
    { "IPv6 source ::",
      "30 ff 0028 00001001 60000000 00003b40 00000000000000000000000000000000 20010db8000000000000000000000007", FP_DROP_GTPU_SOURCE },
    { "link-local IPv6 source",
      "30 ff 0028 00001001 60000000 00003b40 fe800000000000000000000000000077 20010db8000000000000000000000007", FP_DROP_GTPU_SOURCE },
    /* the header itself */
    { "GTP version 2", "48 ff 0014 00001001 45000014 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_VERSION },
    { "GTP longer than UDP", "30 ff 0015 00001001 45000014 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_LENGTH },
    { "UDP without room for GTP", "30 ff 0000", FP_DROP_GTPU_LENGTH },
    { "extension of length 0", "34 ff 0008 00001001 00000085 00100900", FP_DROP_GTPU_EXTENSION },
    { "T-PDU of GTPv0's number", "30 fd 0014 00001001 45000014 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_MESSAGE },
    { "message type 0", "32 00 0004 00000000 00010000", FP_DROP_GTPU_MESSAGE },
    { "TEID 0", "30 ff 0014 00000000 45000014 00010000 40014677 0a2d0002 c6336407", FP_DROP_GTPU_TEID },
  };
  for (u32 i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
    receive_expect (n, 0, bad[i].what, bad[i].hex, FP_DROP, bad[i].reason);
  /* the tunnel without a source check takes them */
  receive_expect (n, 0, "any source", "30 ff 0014 00001010 45000014 00010000 40014677 0a2d0003 c6336407", FP_FORWARD, FP_DROP_NONE);
}

/* The drops of a tunnel are counted on it. */
static void
test_tunnel_drops (node_t *n)
{
  u8 local[16];
  put_address (local, LOCAL[0]);
  const fp_gtpu_endpoint_t *e = fp_gtpu_endpoint_find (&n->region, 0, 0, local);
  fp_tunnel_counters_t *c = fp_tunnel_counters (&n->worker[0], fp_tunnel_lookup (&n->region, e, 0x1001, 0));
  u64 before = c->drops, rx = c->rx_packets;
  receive_expect (n, 0, "spoofed", "30 ff 0014 00001001 45000014 00010000 40014677 0a2d0003 c6336407", FP_DROP, FP_DROP_GTPU_SOURCE);
  CHECK (c->drops == before + 1 && c->rx_packets == rx, "drops of the tunnel");
}

/* Outer headers: lengths that contradict each other, checksums, options. `change` one byte of a good packet. */
static gshot_t
send_changed (node_t *n, int outer, u32 at, u8 value, int fix_ip, int fix_udp)
{
  u8 message[256], bytes[512];
  u32 length = golden ("pdu_plain", message), total, header = outer ? 40 : 20;
  gshot_t s;
  if (outer)
    put16 (message + 6, 0x1000); /* T_SIX, which owns another address */
  if (outer)
    memcpy (message + 8 + 12, (u8[]){ 10, 45, 0, 5 }, 4);
  total = wrap (bytes, GNB[outer], LOCAL[outer], 2152, 2152, message, length);
  bytes[at] = value;
  if (fix_ip && !outer)
    {
      put16 (bytes + 10, 0);
      put16 (bytes + 10, ~ref_sum (bytes, 20, 0) & 0xffff);
    }
  if (fix_udp)
    set_l4_checksum (bytes, header, 17, total, 0);
  memset (&s.p, 0, sizeof (s.p));
  gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total, &s);
  return s;
}

static void
test_outer (node_t *n)
{
  static const struct
  {
    const char *what;
    int outer;
    u32 at;
    u8 value, fix_ip, fix_udp;
    u8 action;
    enum fp_drop reason;
  } cases[] = {
    { "nothing changed", 0, 8, 64, 1, 1, FP_FORWARD, FP_DROP_NONE },
    { "nothing changed", 1, 7, 64, 1, 1, FP_FORWARD, FP_DROP_NONE },
    { "IPv4 header checksum", 0, 8, 63, 0, 0, FP_DROP, FP_DROP_CHECKSUM },
    { "IPv4 longer than the packet", 0, 3, 0xff, 1, 0, FP_DROP, FP_DROP_TRUNCATED },
    { "IPv4 shorter than UDP", 0, 3, 60, 1, 0, FP_DROP, FP_DROP_MALFORMED },
    { "UDP length beyond IP", 0, 25, 0xff, 1, 0, FP_DROP, FP_DROP_MALFORMED },
    { "UDP length below its header", 0, 25, 7, 1, 0, FP_DROP, FP_DROP_MALFORMED },
    { "UDP checksum", 0, 26, 0x5a, 1, 0, FP_DROP, FP_DROP_GTPU_CHECKSUM },
    { "UDP checksum over IPv6", 1, 46, 0x5a, 1, 0, FP_DROP, FP_DROP_GTPU_CHECKSUM },
    { "payload changed under the checksum", 1, 70, 0x5a, 1, 0, FP_DROP, FP_DROP_GTPU_CHECKSUM },
    { "another destination port", 0, 23, 0x67, 1, 1, FP_FORWARD, FP_DROP_NONE },
    { "another protocol", 0, 9, 132, 1, 0, FP_FORWARD, FP_DROP_NONE },
    { "another destination address", 0, 19, 9, 1, 1, FP_FORWARD, FP_DROP_NONE },
    { "another source: TEID alone names the tunnel", 0, 15, 99, 1, 1, FP_FORWARD, FP_DROP_NONE },
    { "IPv6 payload length 0", 1, 5, 0, 1, 0, FP_DROP, FP_DROP_MALFORMED },
    { "IPv6 longer than the packet", 1, 4, 1, 1, 0, FP_DROP, FP_DROP_TRUNCATED },
  };
  u64 unexpected = counter (n, FP_C_GTPU_UNEXPECTED_PEER);
  for (u32 i = 0; i < sizeof (cases) / sizeof (cases[0]); i++)
    {
      gshot_t s = send_changed (n, cases[i].outer, cases[i].at, cases[i].value, cases[i].fix_ip, cases[i].fix_udp);
      CHECK (s.v.action == cases[i].action && s.v.reason == cases[i].reason, "%s: action %u reason %s, want %u %s", cases[i].what,
	     s.v.action, fp_drop_name (s.v.reason), cases[i].action, fp_drop_name (cases[i].reason));
      if (strstr (cases[i].what, "another "))
	CHECK ((s.v.way == FP_WAY_PASS) == !strstr (cases[i].what, "source"), "%s: way %u", cases[i].what, s.v.way);
      gtpu_release (&s);
    }
  CHECK (counter (n, FP_C_GTPU_UNEXPECTED_PEER) == unexpected + 1, "unexpected peer is not counted");
}

/* No checksum: taken over IPv4, refused over IPv6. A checksum that is there counts even if a device says it knows better. */
static void
test_no_checksum (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    {
      gshot_t s = send_changed (n, outer, 0, outer ? 0x60 : 0x45, 0, 0);
      CHECK (s.v.action == FP_FORWARD, "checked packet: %s", fp_drop_name (s.v.reason));
      gtpu_release (&s);
      u8 message[256], bytes[512];
      u32 length = golden ("pdu_plain", message), total, field = (outer ? 40 : 20) + 6;
      if (outer)
	{
	  put16 (message + 6, 0x1000);
	  memcpy (message + 8 + 12, (u8[]){ 10, 45, 0, 5 }, 4);
	}
      total = wrap (bytes, GNB[outer], LOCAL[outer], 33000, 2152, message, length);
      put16 (bytes + field, 0);
      memset (&s.p, 0, sizeof (s.p));
      gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total, &s);
      CHECK (s.v.action == (outer ? FP_DROP : FP_FORWARD) && s.v.reason == (outer ? FP_DROP_GTPU_CHECKSUM : 0), "no checksum: %s",
	     fp_drop_name (s.v.reason));
      gtpu_release (&s);
      /* the sender's device would have filled it in: nobody needs it any more */
      put16 (bytes + field, 0x1234);
      memset (&s.p, 0, sizeof (s.p));
      s.p.csum = FP_CSUM_PARTIAL;
      s.p.csum_start = (u16) (field - 6);
      s.p.csum_offset = 6;
      gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total, &s);
      CHECK (s.v.action == FP_FORWARD && s.p.csum == FP_CSUM_NONE, "partial outer checksum: %s", fp_drop_name (s.v.reason));
      gtpu_release (&s);
    }
}

/* A partial checksum of the inner packet (a sender on this machine without a checksum outside) stays one, counted from the inner header. */
static void
test_partial_inner (node_t *n)
{
  u8 inner[256], message[512], bytes[1024];
  spec_t spec = { .src = "10.45.0.2", .dst = OUTSIDE[0], .sport = 5, .dport = 6, .proto = 6, .payload = 40, .partial = 1 };
  u32 length = build (inner, &spec), total;
  gshot_t s;
  total = wrap (bytes, GNB[0], LOCAL[0], 2152, 2152, message, pdu (message, 0x1001, inner, length));
  put16 (bytes + 26, 0);
  memset (&s.p, 0, sizeof (s.p));
  s.p.csum = FP_CSUM_PARTIAL;
  s.p.csum_start = 20 + 8 + 8 + 20;
  s.p.csum_offset = 16;
  gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total, &s);
  CHECK (s.v.action == FP_FORWARD && s.p.csum == FP_CSUM_PARTIAL && s.p.csum_start == 20 && s.p.csum_offset == 16, "csum %u start %u",
	 s.p.csum, s.p.csum_start);
  check_checksums ("inner", s.p.l3, s.p.length, 1);
  gtpu_release (&s);
}

/* IPv4 options and IPv6 destination options in front of UDP: found by the header length (others look at fixed offsets). */
static void
test_options (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    {
      u8 message[256], bytes[512];
      u32 length = golden ("pdu_plain", message);
      if (outer)
	{
	  put16 (message + 6, 0x1000);
	  memcpy (message + 8 + 12, (u8[]){ 10, 45, 0, 5 }, 4);
	}
      spec_t spec = { .src = GNB[outer], .dst = LOCAL[outer], .sport = 2152, .dport = 2152, .proto = 17, .payload = (u16) length,
		      .body = message, .options = outer ? 16 : 12 };
      u32 total = build (bytes, &spec);
      gshot_t s;
      memset (&s.p, 0, sizeof (s.p));
      gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total, &s);
      CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_GTPU && s.p.length == 28, "options outside: %s", fp_drop_name (s.v.reason));
      CHECK (fp_gtpu_is_ours (&n->worker[0], &(fp_packet_t){ .l3 = s.sent, .contiguous = total, .length = total }), "options: not ours?");
      gtpu_release (&s);
    }
}

/* Cut at each length: nothing is read past the end, nothing gets through that is not whole. */
static void
test_cut (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    {
      u8 message[256], bytes[512];
      u32 length = golden ("pdu_chain", message), total;
      put16 (message + 4, 0);
      if (outer)
	{
	  put16 (message + 6, 0x1000);
	  memcpy (message + 20 + 12, (u8[]){ 10, 45, 0, 5 }, 4);
	}
      total = wrap (bytes, GNB[outer], LOCAL[outer], 2152, 2152, message, length);
      if (!outer)
	put16 (bytes + 26, 0); /* without a checksum every part alone decides */
      for (u32 cut = 0; cut < total; cut++)
	{
	  gshot_t s;
	  memset (&s.p, 0, sizeof (s.p));
	  gtpu_submit (n, 0, DECAP, bytes, cut, 0, cut, &s);
	  CHECK (s.v.action == FP_DROP, "cut to %u: action %u", cut, s.v.action);
	  CHECK (fp_gtpu_is_ours (&n->worker[0], &s.p) >= 0 && fp_gtpu_to_ue (&n->worker[0], &s.p) >= 0, "tests of a cut packet");
	  gtpu_release (&s);
	  /* the same bytes, chained: the total length is right */
	  memset (&s.p, 0, sizeof (s.p));
	  s.p.length = total;
	  gtpu_submit (n, 0, DECAP, bytes, cut, 0, cut, &s);
	  CHECK (s.v.action == FP_DROP || (!outer && s.v.action == FP_FORWARD && s.p.contiguous >= 20), "chained, %u contiguous: action %u",
		 cut, s.v.action);
	  gtpu_release (&s);
	}
    }
}

/* ---- congestion marks ---- */

/* The ECN field of the inner packet by that of both (RFC 6040, figure 4); -1: dropped. Fields by number: Not-ECT, ECT(1), ECT(0), CE. */
static void
test_ecn (node_t *n)
{
  static const int want[4][4] = {
    /* outer     Not-ECT ECT(1) ECT(0) CE */
    [0] = { 0, 0, 0, -1 },
    [1] = { 1, 1, 1, 3 },
    [2] = { 2, 1, 2, 3 },
    [3] = { 3, 3, 3, 3 },
  };
  u64 marked = counter (n, FP_C_GTPU_ECN_MARKED), drops = dropped (n, FP_DROP_GTPU_CONGESTION);
  for (int t = T_PLAIN; t <= T_SIX; t += T_SIX - T_PLAIN)
    for (int six = 0; six < 2; six++)
      for (u32 inside = 0; inside < 4; inside++)
	for (u32 outside = 0; outside < 4; outside++)
	  {
	    u8 inner[256], message[512], bytes[512], sent[256];
	    u32 length = inner_packet (inner, ue_address (&TUNNEL[t], six), OUTSIDE[six], 17, 30), total;
	    int expected = want[inside][outside];
	    gshot_t s;
	    inner[1] |= (u8) (six ? inside << 4 : 0xa4 | inside); /* DSCP stays */
	    if (!six)
	      {
		put16 (inner + 10, 0);
		put16 (inner + 10, ~ref_sum (inner, 20, 0) & 0xffff);
	      }
	    memcpy (sent, inner, length);
	    total = pdu (message, TUNNEL[t].teid, inner, length);
	    total = wrap (bytes, GNB[TUNNEL[t].outer], LOCAL[TUNNEL[t].outer], 2152, 2152, message, total);
	    bytes[1] |= (u8) (TUNNEL[t].outer ? outside << 4 : outside);
	    if (!TUNNEL[t].outer)
	      {
		put16 (bytes + 10, 0);
		put16 (bytes + 10, ~ref_sum (bytes, 20, 0) & 0xffff);
	      }
	    memset (&s.p, 0, sizeof (s.p));
	    gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total + 64, &s);
	    if (expected < 0)
	      CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_GTPU_CONGESTION, "ECN %u in %u: action %u", inside, outside, s.v.action);
	    else
	      {
		CHECK (s.v.action == FP_FORWARD && s.p.length == length, "ECN %u in %u: %s", inside, outside, fp_drop_name (s.v.reason));
		CHECK ((s.p.l3[1] >> (six ? 4 : 0) & 3) == expected, "ECN %u in %u gives %u", inside, outside, s.p.l3[1] >> (six ? 4 : 0) & 3);
		check_checksums ("ECN", s.p.l3, s.p.length, 0);
		sent[1] = s.p.l3[1]; /* nothing else, but for the IPv4 checksum */
		if (!six)
		  memcpy (sent + 10, s.p.l3 + 10, 2);
		CHECK (!memcmp (sent, s.p.l3, length) && (six || (s.p.l3[1] & 0xfc) == 0xa4), "ECN changes more than ECN");
	      }
	    gtpu_release (&s);
	  }
  CHECK (counter (n, FP_C_GTPU_ECN_MARKED) == marked + 8 && dropped (n, FP_DROP_GTPU_CONGESTION) == drops + 4, "ECN counters");
}

/* ---- the last tunnel's cache, and the other switches ---- */

/* One vector of packets of a mixture of tunnels, good and bad: returns what became of them as a text. */
static void
mixed_vector (node_t *n, char *out)
{
  static u8 blocks[64][256];
  fp_packet_t p[64];
  fp_verdict_t v[64];
  u32 k = 0;
  const char *messages[] = { "pdu_plain", "pdu_plain", "pdu_psc_uplink", "end_marker", "pdu_plain", "echo_request", "pdu_plain",
			     "pdu_sequence", "error_indication", "pdu_plain" };
  for (u32 round = 0; round < 6; round++)
    for (u32 i = 0; i < sizeof (messages) / sizeof (messages[0]); i++)
      {
	u8 message[128];
	u32 length = golden (messages[i], message), total;
	if (i == 4)
	  put16 (message + 6, 0x0999); /* no such tunnel, twice in a row */
	if (i == 6)
	  put16 (message + 6, round & 1 ? 0x0999 : 0x1010);
	if (i == 9)
	  message[8 + 15] = (u8) (2 + round); /* inner source */
	total = wrap (blocks[k], GNB[0], LOCAL[0], 2152, 2152, message, length);
	p[k] = (fp_packet_t){ .l3 = blocks[k], .contiguous = total, .length = total, .room = sizeof (blocks[k]) };
	k++;
      }
  fp_worker_quiescent (&n->worker[0], n->now);
  fp_gtpu_decap_vector (&n->worker[0], p, v, k);
  CHECK (n->worker[0].counters->counter[FP_C_GTPU_RX] + n->worker[0].counters->counter[FP_C_GTPU_TX] ==
	   gtpu_accounted (n->worker[0].counters),
	 "not counted once");
  for (u32 i = 0; i < k; i++)
    out += sprintf (out, "%u:%s:%u:%u ", v[i].action, fp_drop_name (v[i].reason), v[i].way, p[i].length);
}

static void
test_switches (void)
{
  char want[8192] = "", have[8192];
  u32 seen = 0;
  for (u32 loop = 1; loop <= 4; loop *= 2)
    for (int prefetch = 0; prefetch < 2; prefetch++)
      for (int cache = 0; cache < 2; cache++)
	{
	  node_t *n = gtpu_node ();
	  set_switches (n, loop, prefetch, cache);
	  mixed_vector (n, have);
	  if (!seen++)
	    strcpy (want, have);
	  CHECK (!strcmp (want, have), "loop %u prefetch %d cache %d:\n%s\nwant\n%s", loop, prefetch, cache, have, want);
	  u64 width = counter (n, loop == 1 ? FP_C_GTPU_LOOP_SINGLE : loop == 2 ? FP_C_GTPU_LOOP_DUAL : FP_C_GTPU_LOOP_QUAD);
	  CHECK (width == 60, "loop %u: %lu packets counted", loop, (unsigned long) width);
	  CHECK (counter (n, FP_C_GTPU_PREFETCHED) == (prefetch ? 60 : 0), "prefetch %d", prefetch);
	  CHECK (cache ? counter (n, FP_C_GTPU_CACHE_HITS) > 15 : counter (n, FP_C_GTPU_CACHE_HITS) == 0, "cache %d: %lu hits", cache,
		 (unsigned long) counter (n, FP_C_GTPU_CACHE_HITS));
	  test_tunnels (n);
	  test_goldens (n);
	  gtpu_node_free (n);
	}
}

/* B1: a packet whose source and TEID are all ones must not hit a cache that holds nothing, nor one left by anything else. */
static void
test_all_ones (void)
{
  node_t *n = gtpu_node ();
  set_switches (n, 4, 1, 1);
  for (int twice = 0; twice < 2; twice++)
    {
      u8 message[256], bytes[512];
      u32 length = golden ("pdu_plain", message), total;
      gshot_t s;
      memset (message + 4, 0xff, 4);
      if (twice) /* no such tunnel any more */
	{
	  fp_wire_gtpu_ue_t u = { .family = 4, .length = 32 };
	  fp_wire_gtpu_tunnel_t t = tunnel_record (&TUNNEL[T_ALL_ONES], GNB[0]);
	  put_address (u.address, TUNNEL[T_ALL_ONES].ue[0]);
	  erase (n, FP_TABLE_GTPU_UE, &u);
	  erase (n, FP_TABLE_GTPU_TUNNEL, &t);
	  commit (n);
	  advance (n, 0);
	}
      total = wrap (bytes, "255.255.255.255", LOCAL[0], 65535, 2152, message, length);
      memset (&s.p, 0, sizeof (s.p));
      gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total + 64, &s);
      CHECK (s.v.action == (twice ? FP_DROP : FP_FORWARD) && s.v.reason == (twice ? FP_DROP_GTPU_TEID : FP_DROP_NONE),
	     "all ones: action %u reason %s", s.v.action, fp_drop_name (s.v.reason));
      gtpu_release (&s);
    }
  gtpu_node_free (n);

  /* as the first packet of all, where nothing was ever cached */
  n = gtpu_node ();
  set_switches (n, 1, 0, 1);
  u8 bytes[512], message[256];
  u32 length = golden ("pdu_plain", message), total;
  gshot_t s;
  memset (message + 4, 0xff, 4);
  total = wrap (bytes, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", LOCAL[1], 65535, 2152, message, length);
  memset (&s.p, 0, sizeof (s.p));
  gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total + 64, &s);
  CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_GTPU_TEID, "all ones over IPv6: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
  gtpu_node_free (n);
}

/* A tunnel that is deleted, or moves to another endpoint's TEID, is gone from the cache with the next vector; two endpoints with one TEID
 * are two tunnels (VPP-1462). */
static void
test_cache_follows_table (void)
{
  node_t *n = gtpu_node ();
  tunnel_t same = { 0x1001, 0x3001, 1, 1, 0, 0, 0, { "10.45.1.1", NULL }, 0 };
  u8 message[128];
  u32 length = golden ("pdu_plain", message);
  set_switches (n, 4, 1, 1);
  put_tunnel (n, &same);
  commit (n);
  for (int i = 0; i < 6; i++)
    {
      gshot_t s = receive (n, i & 1, message, length);
      CHECK (s.v.action == FP_FORWARD, "packet %d: %s", i, fp_drop_name (s.v.reason));
      gtpu_release (&s);
    }
  CHECK (counter (n, FP_C_GTPU_CACHE_HITS) == 0, "another endpoint's tunnel was taken for the last one");
  for (int i = 0; i < 5; i++)
    {
      gshot_t s = receive (n, 0, message, length);
      gtpu_release (&s);
    }
  CHECK (counter (n, FP_C_GTPU_CACHE_HITS) == 4, "cache hits over vectors: %lu", (unsigned long) counter (n, FP_C_GTPU_CACHE_HITS));
  for (int six = 0; six < 2; six++)
    {
      fp_wire_gtpu_ue_t u = { .family = six ? 6 : 4, .length = six ? 64 : 32 };
      put_address (u.address, TUNNEL[T_PLAIN].ue[six]);
      erase (n, FP_TABLE_GTPU_UE, &u);
    }
  commit (n);
  gshot_t s = receive (n, 0, message, length);
  CHECK (s.v.reason == FP_DROP_GTPU_SOURCE, "its UE is gone: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
  fp_wire_gtpu_tunnel_t t = tunnel_record (&TUNNEL[T_PLAIN], GNB[0]);
  erase (n, FP_TABLE_GTPU_TUNNEL, &t);
  commit (n);
  s = receive (n, 0, message, length);
  CHECK (s.v.reason == FP_DROP_GTPU_TEID, "the tunnel is gone: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
  gtpu_node_free (n);
}

/* The tunnel moves to another peer: both the old and the new peer's packets are taken, the old one's are counted. */
static void
test_moved (node_t *n)
{
  u8 message[128], bytes[256];
  u32 length = golden ("pdu_plain", message), total;
  fp_wire_gtpu_tunnel_t t = tunnel_record (&TUNNEL[T_PLAIN], GNB2[0]);
  upsert (n, FP_TABLE_GTPU_TUNNEL, &t);
  commit (n);
  advance (n, 0);
  u64 unexpected = counter (n, FP_C_GTPU_UNEXPECTED_PEER);
  gshot_t s = receive (n, 0, message, length);
  CHECK (s.v.action == FP_FORWARD, "old peer: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
  CHECK (counter (n, FP_C_GTPU_UNEXPECTED_PEER) == unexpected + 1, "old peer is not counted");
  total = wrap (bytes, GNB2[0], LOCAL[0], 2152, 2152, message, length);
  memset (&s.p, 0, sizeof (s.p));
  gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total, &s);
  CHECK (s.v.action == FP_FORWARD && counter (n, FP_C_GTPU_UNEXPECTED_PEER) == unexpected + 1, "new peer: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
  t = tunnel_record (&TUNNEL[T_PLAIN], GNB[0]);
  upsert (n, FP_TABLE_GTPU_TUNNEL, &t);
  commit (n);
  advance (n, 0);
}

int
main (void)
{
  node_t *n = gtpu_node ();
  test_tunnels (n);
  test_goldens (n);
  test_ethernet (n);
  test_padding (n);
  test_payload (n);
  test_tunnel_drops (n);
  test_outer (n);
  test_no_checksum (n);
  test_partial_inner (n);
  test_options (n);
  test_cut (n);
  test_moved (n);
  test_ecn (n);
  gtpu_node_free (n);
  test_switches ();
  test_all_ones ();
  test_cache_follows_table ();
  puts ("ok: GTP-U decapsulation");
  return 0;
}

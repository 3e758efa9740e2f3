/* SPDX-License-Identifier: Apache-2.0 */
/* Encapsulation: outer headers octet by octet, checksums by full recomputation, source ports, TTL, MTU, DSCP, misses, frames. */
#include "gtpu.h"

static gshot_t
send_bytes (node_t *n, const u8 *bytes, u32 length, u32 mtu)
{
  gshot_t s;
  memset (&s.p, 0, sizeof (s.p));
  s.p.mtu = mtu;
  gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length + 64, &s);
  return s;
}

static gshot_t
send_spec (node_t *n, const spec_t *spec, u32 mtu)
{
  u8 bytes[4096];
  return send_bytes (n, bytes, build (bytes, spec), mtu);
}

/* Check all of an encapsulated packet of tunnel t; returns its source port. `inner`: as it was before. */
static u16
check_outer (const gshot_t *s, const tunnel_t *t, const u8 *inner, u32 length, u8 tos)
{
  const u8 *h = s->p.l3, *u, *g;
  u8 address[16];
  u32 header = t->outer ? 40 : 20, optional = t->psc ? 8 : 0, total = header + 16 + optional + length;
  int six = inner[0] >> 4 == 6;
  CHECK (s->v.action == FP_FORWARD && s->v.way == FP_WAY_GTPU, "action %u reason %s", s->v.action, fp_drop_name (s->v.reason));
  CHECK (s->p.length == total && s->p.contiguous == total, "length %u, want %u", s->p.length, total);
  CHECK (h - s->p.headroom == s->block && h + s->p.room == s->block + s->block_size, "bounds after encapsulation");
  check_checksums ("outer", h, total, 0);
  if (t->outer)
    {
      CHECK (h[0] >> 4 == 6 && get16 (h + 4) == total - 40 && h[6] == 17 && h[7] == 64, "outer IPv6 header");
      CHECK ((u8) (h[0] << 4 | h[1] >> 4) == tos, "traffic class %02x", (u8) (h[0] << 4 | h[1] >> 4));
    }
  else
    CHECK (h[0] == 0x45 && h[1] == tos && get16 (h + 2) == total && get16 (h + 4) == 0 && get16 (h + 6) == 0x4000 && h[8] == 64 && h[9] == 17,
	   "outer IPv4 header");
  put_address (address, LOCAL[t->outer]);
  CHECK (!memcmp (h + (t->outer ? 8 : 12), address, t->outer ? 16 : 4), "outer source");
  put_address (address, GNB[t->outer]);
  CHECK (!memcmp (h + (t->outer ? 24 : 16), address, t->outer ? 16 : 4), "outer destination");
  u = h + header;
  g = u + 8;
  CHECK (get16 (u + 2) == 2152 && get16 (u + 4) == total - header, "UDP header");
  CHECK ((get16 (u + 6) != 0) == t->outer, "UDP checksum %04x", get16 (u + 6));
  CHECK (g[0] == (t->psc ? 0x34 : 0x30) && g[1] == 255 && get16 (g + 2) == length + optional, "GTP-U header");
  CHECK (get16 (g + 4) == t->remote_teid >> 16 && get16 (g + 6) == (t->remote_teid & 0xffff), "TEID");
  if (t->psc)
    {
      const u8 want[8] = { 0, 0, 0, 0x85, 1, t->psc == FP_GTPU_PSC_UL ? 0x10 : 0, t->qfi, 0 };
      CHECK (!memcmp (g + 8, want, 8), "PDU Session Container");
    }
  g += 8 + optional;
  /* the inner packet, but for TTL and header checksum, is the one that was sent */
  CHECK (g[six ? 7 : 8] == inner[six ? 7 : 8] - 1, "TTL %u", g[six ? 7 : 8]);
  u8 *again = malloc (length);
  memcpy (again, g, length);
  again[six ? 7 : 8]++;
  if (!six)
    memcpy (again + 10, inner + 10, 2);
  CHECK (!memcmp (again, inner, length), "inner packet was changed");
  free (again);
  if (!six)
    CHECK (ref_sum (g, (g[0] & 15) * 4u, 0) == 0xffff, "inner header checksum");
  return (u16) get16 (u);
}

static const char *
ue_of (const tunnel_t *t, int six)
{
  static char text[4][64];
  static u32 next;
  char *s = text[next++ % 4];
  snprintf (s, 64, "%s%s", t->ue[six], six ? "99" : "");
  return s;
}

/* All tunnels, both inner families, protocols whose checksum can be derived and others; even and odd lengths. */
static void
test_tunnels (node_t *n)
{
  static const u8 protos[] = { 17, 6, 1, 132 };
  for (int t = 0; t < TUNNELS; t++)
    for (int six = 0; six < 2; six++)
      for (u32 k = 0; k < 4 * 2; k++)
	{
	  u8 bytes[512];
	  spec_t s = { .src = OUTSIDE[six], .sport = 53, .dport = 4000, .proto = protos[k / 2], .payload = (u16) (40 + k % 2),
		       .icmp_type = six ? 129 : 0 };
	  if (!TUNNEL[t].ue[six])
	    continue;
	  if (six && s.proto == 1)
	    s.proto = 58;
	  s.dst = ue_of (&TUNNEL[t], six);
	  u32 length = build (bytes, &s);
	  u64 derived = counter (n, FP_C_GTPU_CSUM_DERIVED), summed = counter (n, FP_C_GTPU_CSUM_SUMMED);
	  gshot_t g = send_bytes (n, bytes, length, 1500);
	  CHECK (check_outer (&g, &TUNNEL[t], bytes, length, 0) == 2152, "source port without entropy");
	  if (TUNNEL[t].outer)
	    CHECK (counter (n, FP_C_GTPU_CSUM_DERIVED) - derived == (s.proto != 132) && counter (n, FP_C_GTPU_CSUM_SUMMED) - summed == (s.proto == 132),
		   "protocol %u: checksum derived?", s.proto);
	  gtpu_release (&g);
	}
}

/* Checksums that are wrong, absent or cannot be derived; extension headers, fragments, padding of the link. */
static void
test_checksums (node_t *n)
{
  static const spec_t shapes[] = {
    { .src = "198.51.100.7", .dst = "10.45.0.5", .sport = 1, .dport = 2, .proto = 17, .payload = 77, .no_udp_checksum = 1 },
    { .src = "198.51.100.7", .dst = "10.45.0.5", .proto = 17, .payload = 72, .offset = 64, .more = 1, .id = 9 },
    { .src = "198.51.100.7", .dst = "10.45.0.5", .sport = 1, .dport = 2, .proto = 6, .payload = 71, .options = 8 },
    { .src = "2001:db8::7", .dst = "2001:db8:45:5::9", .sport = 1, .dport = 2, .proto = 17, .payload = 70, .options = 16 },
    { .src = "2001:db8::7", .dst = "2001:db8:45:5::9", .proto = 17, .payload = 72, .offset = 64, .more = 1, .id = 9 },
  };
  for (u32 i = 0; i < sizeof (shapes) / sizeof (shapes[0]); i++)
    {
      u8 bytes[512];
      u32 length = build (bytes, &shapes[i]);
      gshot_t g = send_bytes (n, bytes, length, 1500);
      check_outer (&g, &TUNNEL[T_SIX], bytes, length, 0);
      gtpu_release (&g);
      /* the link's padding does not go into the tunnel */
      memset (bytes + length, 0xee, 9);
      g = send_bytes (n, bytes, length + 9, 1500);
      check_outer (&g, &TUNNEL[T_SIX], bytes, length, 0);
      gtpu_release (&g);
    }
  /* a wrong IPv4 header checksum is no reason to encapsulate */
  u8 bytes[512];
  u32 length = build (bytes, &shapes[0]);
  bytes[10] ^= 1;
  gshot_t g = send_bytes (n, bytes, length, 1500);
  CHECK (g.v.action == FP_DROP && g.v.reason == FP_DROP_CHECKSUM, "wrong header checksum: %s", fp_drop_name (g.v.reason));
  gtpu_release (&g);
}

/* Packets that end within the ports, with the memory that they lie in: nothing behind them is read. */
static void
test_short (node_t *n)
{
  for (int t = 0; t < TUNNELS; t++)
    for (u32 length = 20; length < 32 && TUNNEL[t].ue[0]; length++)
      {
	u8 bytes[512];
	spec_t s = { .src = OUTSIDE[0], .dst = ue_of (&TUNNEL[t], 0), .sport = 53, .dport = 4000, .proto = 17, .payload = 40 };
	gshot_t g;
	build (bytes, &s);
	fp_store16 (bytes + 2, fp_net16 ((u16) length));
	bytes[9] = 132;
	fp_store16 (bytes + 10, 0);
	fp_store16 (bytes + 10, (u16) ~fp_csum_fold (fp_csum_bytes (bytes, 20, 0)));
	memset (&g.p, 0, sizeof (g.p));
	g.p.mtu = 1500;
	gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length, &g);
	check_outer (&g, &TUNNEL[t], bytes, length, 0);
	gtpu_release (&g);
      }
}

static void
test_partial (node_t *n)
{
  for (int six = 0; six < 2; six++)
    for (u8 proto = 6; proto <= 17; proto += 11)
      for (int t = T_PLAIN; t <= T_SIX; t += T_SIX - T_PLAIN)
	{
	  u8 bytes[512], whole[512];
	  spec_t s = { .src = OUTSIDE[six], .dst = ue_of (&TUNNEL[t], six), .sport = 53, .dport = 4000, .proto = proto, .payload = 91 };
	  u32 length = build (whole, &s);
	  s.partial = 1;
	  build (bytes, &s);
	  gshot_t g;
	  memset (&g.p, 0, sizeof (g.p));
	  g.p.csum = FP_CSUM_PARTIAL;
	  g.p.csum_start = six ? 40 : 20;
	  g.p.csum_offset = proto == 6 ? 16 : 6;
	  gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length, &g);
	  check_outer (&g, &TUNNEL[t], whole, length, 0); /* with the complete checksum */
	  CHECK (g.p.csum != FP_CSUM_PARTIAL, "still partial");
	  gtpu_release (&g);
	  for (int beyond = 0; beyond < 2; beyond++) /* behind the packet; in its IP header */
	    {
	      memset (&g.p, 0, sizeof (g.p));
	      g.p.csum = FP_CSUM_PARTIAL;
	      g.p.csum_start = beyond ? (u16) length : 0;
	      gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length, &g);
	      CHECK (g.v.action == FP_DROP && g.v.reason == FP_DROP_MALFORMED, "checksum outside the payload: %u", g.v.action);
	      gtpu_release (&g);
	    }
	}
}

static void
test_ttl (node_t *n)
{
  for (int six = 0; six < 2; six++)
    for (u8 ttl = 1; ttl <= 2; ttl++)
      {
	spec_t s = { .src = OUTSIDE[six], .dst = ue_of (&TUNNEL[T_PLAIN], six), .sport = 1, .dport = 2, .proto = 17, .payload = 30, .ttl = ttl };
	gshot_t g = send_spec (n, &s, 1500);
	if (ttl == 2)
	  CHECK (g.v.action == FP_FORWARD, "TTL 2: %s", fp_drop_name (g.v.reason));
	else
	  {
	    u32 icmp = six ? 40 : 20;
	    CHECK (g.v.action == FP_REPLY && g.v.reason == FP_DROP_TTL && g.p.l3[icmp] == (six ? 3 : 11), "TTL 1: action %u", g.v.action);
	    check_checksums ("time exceeded", g.p.l3, g.p.length, 0);
	  }
	gtpu_release (&g);
      }
  /* the Service kernel has decremented it already */
  u8 bytes[256];
  spec_t s = { .src = OUTSIDE[0], .dst = TUNNEL[T_PLAIN].ue[0], .sport = 1, .dport = 2, .proto = 17, .payload = 30, .ttl = 1 };
  u32 length = build (bytes, &s);
  gshot_t g;
  memset (&g.p, 0, sizeof (g.p));
  g.p.flags = FP_PACKET_KEEP_TTL | FP_PACKET_IP_VALID;
  gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length, &g);
  CHECK (g.v.action == FP_FORWARD && !memcmp (g.p.l3 + 36, bytes, length), "kept TTL: action %u", g.v.action);
  gtpu_release (&g);
}

/* Too big: told to the source with the MTU that is left inside the tunnel; exactly as big as it may be: sent. The smallest of link, endpoint
 * and path decides. */
static void
test_mtu (node_t *n)
{
  for (int t = 0; t < T_ETHERNET; t++)
    for (int six = 0; six < 2; six++)
      for (u32 by = 0; by < 3; by++)
	{
	  u32 outer = TUNNEL[t].outer, most = 1450 - (outer ? 40u : 20u) - 16 - (TUNNEL[t].psc ? 8 : 0), header = six ? 48 : 28;
	  advance (n, 1); /* ICMP's rate limit */
	  put_gtpu_endpoint (n, (int) outer, by == 1 ? 1450 : 0, 0, 0, 0);
	  put_gtpu_peer (n, (int) outer, GNB[outer], by == 2 ? 1450 : 0);
	  commit (n);
	  for (u32 more = 0; more < 2; more++)
	    {
	      spec_t s = { .src = OUTSIDE[six], .dst = ue_of (&TUNNEL[t], six), .sport = 1, .dport = 2, .proto = 17, .df = 1,
			   .payload = (u16) (most - header + more) };
	      gshot_t g = send_spec (n, &s, by ? 1500 : 1450);
	      if (!more)
		CHECK (g.v.action == FP_FORWARD && g.p.length == 1450, "tunnel %d: %u bytes: %s", t, g.p.length, fp_drop_name (g.v.reason));
	      else
		{
		  const u8 *icmp = g.p.l3 + (six ? 40 : 20);
		  CHECK (g.v.action == FP_REPLY && g.v.reason == FP_DROP_TOO_BIG, "tunnel %d by %u: action %u", t, by, g.v.action);
		  CHECK (icmp[0] == (six ? 2 : 3) && icmp[1] == (six ? 0 : 4) && get16 (icmp + 6) == most, "MTU told: %u, want %u",
			 get16 (icmp + 6), most);
		  check_checksums ("too big", g.p.l3, g.p.length, 0);
		}
	      gtpu_release (&g);
	    }
	}
  for (int outer = 0; outer < 2; outer++)
    {
      put_gtpu_endpoint (n, outer, 0, 0, 0, 0);
      put_gtpu_peer (n, outer, GNB[outer], 0);
    }
  commit (n);
}

static void
test_miss (node_t *n)
{
  for (int six = 0; six < 2; six++)
    {
      spec_t s = { .src = OUTSIDE[six], .dst = six ? "2001:db8:45:4444::1" : "10.45.200.1", .sport = 1, .dport = 2, .proto = 17, .payload = 30 };
      gshot_t g = send_spec (n, &s, 1500);
      const u8 *icmp = g.p.l3 + (six ? 40 : 20);
      CHECK (g.v.action == FP_REPLY && g.v.reason == FP_DROP_GTPU_NO_TUNNEL && icmp[0] == (six ? 1 : 3) && icmp[1] == (six ? 3 : 1),
	     "no such UE: action %u", g.v.action);
      check_checksums ("unreachable", g.p.l3, g.p.length, 0);
      gtpu_release (&g);
      s.dst = POD[six];
      g = send_spec (n, &s, 1500);
      CHECK (g.v.action == FP_FORWARD && g.v.way == FP_WAY_PASS && g.p.l3 == g.sent, "no UE: action %u", g.v.action);
      gtpu_release (&g);
      s.dst = ue_of (&TUNNEL[T_PLAIN], six);
      u8 bytes[256];
      u32 length = build (bytes, &s);
      memset (&g.p, 0, sizeof (g.p));
      gtpu_submit (n, 0, ENCAP, bytes, length, 35, length, &g);
      CHECK (g.v.action == FP_DROP && g.v.reason == FP_DROP_NO_ROOM, "headroom of 35: %u", g.v.action);
      gtpu_release (&g);
    }
}

/* B4: one flow, one source port, whatever else changes; many flows, many ports, all in the range. */
static void
test_entropy (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    for (int six = 0; six < 2; six++)
      {
	const tunnel_t *t = &TUNNEL[outer ? T_SIX : T_PLAIN];
	u8 seen[1000] = { 0 }, bytes[512];
	u32 ports = 0;
	put_gtpu_endpoint (n, outer, 0, 0, 50000, 50999);
	commit (n);
	for (u32 flow_number = 0; flow_number < 2000; flow_number++)
	  {
	    spec_t s = { .src = OUTSIDE[six], .dst = ue_of (t, six), .sport = (u16) (1024 + flow_number), .dport = 443, .proto = 6, .payload = 20 };
	    u16 first = 0;
	    for (u32 i = 0; i < (flow_number % 100 ? 1 : 4); i++)
	      {
		s.id = (u16) (i * 7);
		s.ttl = (u8) (60 + i);
		s.payload = (u16) (20 + i * 11);
		u32 length = build (bytes, &s);
		gshot_t g = send_bytes (n, bytes, length, 1500);
		u16 port = check_outer (&g, t, bytes, length, 0);
		CHECK (port >= 50000 && port <= 50999, "port %u", port);
		CHECK (!i || port == first, "one flow, two ports: %u and %u", first, port);
		first = port;
		gtpu_release (&g);
	      }
	    ports += !seen[first - 50000];
	    seen[first - 50000] = 1;
	  }
	/* 2,000 balls in 1,000 urns: 865 are hit on average */
	CHECK (ports > 800, "%u source ports of 1,000", ports);
	/* first and later fragments of a datagram go together */
	spec_t s = { .src = OUTSIDE[six], .dst = ue_of (t, six), .sport = 1, .dport = 2, .proto = 17, .payload = 64, .more = 1, .id = 3 };
	u32 length = build (bytes, &s);
	gshot_t g = send_bytes (n, bytes, length, 1500);
	u16 first = check_outer (&g, t, bytes, length, 0);
	gtpu_release (&g);
	s.offset = 72;
	length = build (bytes, &s);
	g = send_bytes (n, bytes, length, 1500);
	CHECK (check_outer (&g, t, bytes, length, 0) == first, "fragments of one datagram by two ports");
	gtpu_release (&g);
	put_gtpu_endpoint (n, outer, 0, 0, 0, 0);
	commit (n);
      }
}

static void
test_dscp (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    for (int six = 0; six < 2; six++)
      for (int copy = 0; copy < 2; copy++)
	{
	  const tunnel_t *t = &TUNNEL[outer ? T_SIX_PSC : T_PSC];
	  u8 bytes[256];
	  spec_t s = { .src = OUTSIDE[six], .dst = ue_of (t, six), .sport = 1, .dport = 2, .proto = 17, .payload = 20 };
	  u32 length = build (bytes, &s);
	  put_gtpu_endpoint (n, outer, 0, copy ? FP_GTPU_DSCP_INNER : 34, 0, 0);
	  commit (n);
	  if (six)
	    put16 (bytes, 0x6000 | 0xb9 << 4); /* EF, ECT(1) */
	  else
	    {
	      bytes[1] = 0xb9;
	      put16 (bytes + 10, 0);
	      put16 (bytes + 10, ~ref_sum (bytes, 20, 0) & 0xffff);
	    }
	  gshot_t g = send_bytes (n, bytes, length, 1500);
	  check_outer (&g, t, bytes, length, copy ? 0xb8 : 34 << 2);
	  gtpu_release (&g);
	  put_gtpu_endpoint (n, outer, 0, 0, 0, 0);
	  commit (n);
	}
}

/* A moved tunnel: the next packet has the new peer, TEID and QFI. The cache does not keep the old one. */
static void
test_moved (node_t *n)
{
  fp_wire_gtpu_tunnel_t r = tunnel_record (&TUNNEL[T_PSC], GNB2[0]);
  spec_t s = { .src = OUTSIDE[0], .dst = TUNNEL[T_PSC].ue[0], .sport = 1, .dport = 2, .proto = 17, .payload = 20 };
  u8 address[16];
  gshot_t g;
  set_switches (n, 4, 1, 1);
  for (int i = 0; i < 3; i++)
    {
      g = send_spec (n, &s, 1500);
      gtpu_release (&g);
    }
  CHECK (counter (n, FP_C_GTPU_CACHE_HITS) >= 2, "no cache hits");
  r.remote_teid = 0x9999;
  r.qfi = 33;
  upsert (n, FP_TABLE_GTPU_TUNNEL, &r);
  commit (n);
  g = send_spec (n, &s, 1500);
  put_address (address, GNB2[0]);
  CHECK (!memcmp (g.p.l3 + 16, address, 4) && get16 (g.p.l3 + 34) == 0x9999 && g.p.l3[42] == 33, "after the move");
  gtpu_release (&g);
}

static void
test_frames (node_t *n)
{
  u8 frame[1600] = { 0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 8, 6, 1, 2, 3 };
  const tunnel_t *t = &TUNNEL[T_ETHERNET];
  for (u32 length = 14; length <= 1514; length += 1500)
    for (u16 vlan = 100; vlan <= 101; vlan++)
      {
	gshot_t g;
	memset (&g.p, 0, sizeof (g.p));
	g.p.vlan = vlan;
	g.p.mtu = 1500;
	gtpu_submit (n, 0, ENCAP_FRAME, frame, length, HEADROOM, length, &g);
	if (vlan == 101 || length > 14)
	  CHECK (g.v.action == FP_DROP && g.v.reason == (vlan == 101 ? FP_DROP_GTPU_NO_TUNNEL : FP_DROP_TOO_BIG), "frame of %u in VLAN %u: %s",
		 length, vlan, fp_drop_name (g.v.reason));
	else
	  {
	    CHECK (g.v.action == FP_FORWARD && g.v.way == FP_WAY_GTPU && g.p.length == 36 + length, "frame: action %u", g.v.action);
	    check_checksums ("frame", g.p.l3, g.p.length, 0);
	    CHECK (get16 (g.p.l3 + 34) == t->remote_teid && !memcmp (g.p.l3 + 36, frame, length), "frame's bytes");
	  }
	gtpu_release (&g);
      }
}

/* The same verdicts and bytes whatever the switches are. */
static void
test_switches (void)
{
  static u8 want[40][512];
  u32 lengths[40], first = 1;
  for (u32 loop = 1; loop <= 4; loop *= 2)
    for (int prefetch = 0; prefetch < 2; prefetch++)
      for (int cache = 0; cache < 2; cache++)
	{
	  static u8 blocks[40][512];
	  fp_packet_t p[40];
	  fp_verdict_t v[40];
	  node_t *n = gtpu_node ();
	  set_switches (n, loop, prefetch, cache);
	  for (u32 i = 0; i < 39; i++)
	    {
	      int six = i % 5 == 1;
	      spec_t s = { .src = OUTSIDE[six], .dst = i % 7 == 6 ? POD[six] : ue_of (&TUNNEL[i / 4 % T_ETHERNET], six), .sport = 1, .dport = 2,
			   .proto = i % 3 ? 6 : 17, .payload = (u16) (i * 3), .ttl = i % 11 == 5 ? 1 : 64 };
	      memset (blocks[i], 0, 512);
	      u32 length = build (blocks[i] + 128, &s);
	      p[i] = (fp_packet_t){ .l3 = blocks[i] + 128, .contiguous = length, .length = length, .headroom = 128, .room = 384, .mtu = 1500 };
	    }
	  fp_worker_quiescent (&n->worker[0], n->now);
	  fp_gtpu_encap_vector (&n->worker[0], p, v, 39);
	  CHECK (n->worker[0].counters->counter[FP_C_GTPU_TX] == 39 && gtpu_accounted (n->worker[0].counters) == 39, "not counted once");
	  for (u32 i = 0; i < 39; i++)
	    {
	      u8 now[512] = { v[i].action, v[i].reason, v[i].way };
	      memcpy (now + 3, p[i].l3, p[i].length);
	      CHECK (first || (lengths[i] == p[i].length && !memcmp (want[i], now, 512)), "loop %u prefetch %d cache %d: packet %u", loop,
		     prefetch, cache, i);
	      lengths[i] = p[i].length;
	      memcpy (want[i], now, 512);
	    }
	  first = 0;
	  CHECK (cache ? counter (n, FP_C_GTPU_CACHE_HITS) > 5 : counter (n, FP_C_GTPU_CACHE_HITS) == 0, "cache %d: %lu hits", cache,
		 (unsigned long) counter (n, FP_C_GTPU_CACHE_HITS));
	  gtpu_node_free (n);
	}
}

int
main (void)
{
  node_t *n = gtpu_node ();
  test_tunnels (n);
  test_checksums (n);
  test_short (n);
  test_partial (n);
  test_ttl (n);
  test_mtu (n);
  test_miss (n);
  test_entropy (n);
  test_dscp (n);
  test_frames (n);
  test_moved (n);
  gtpu_node_free (n);
  test_switches ();
  puts ("ok: GTP-U encapsulation");
  return 0;
}

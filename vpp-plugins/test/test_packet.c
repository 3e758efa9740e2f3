/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing, checksums and rewriting of single packets: all lengths, offloads, TTL, MTU. */
#include "fixture.h"

static spec_t
udp (int six, u16 payload)
{
  return (spec_t){ .src = POD[six], .dst = WEB[six], .sport = 4000, .dport = 80, .proto = 17, .payload = payload };
}

static void
test_checksum_arithmetic (void)
{
  /* RFC 1624, section 4: the example that equation 2 gets wrong. */
  CHECK (fp_csum_update (fp_net16 (0xdd2f), fp_csum_replace16 (fp_net16 (0x5555), fp_net16 (0x3285))) == 0,
	 "RFC 1624's example gives %04x", fp_csum_update (fp_net16 (0xdd2f), fp_csum_replace16 (fp_net16 (0x5555), fp_net16 (0x3285))));
  CHECK (fp_csum_update_udp (0, 12345) == 0, "a UDP packet without checksum got one");
  u32 seed = 1;
  for (u32 round = 0; round < 20000; round++)
    {
      u8 data[64];
      for (u32 i = 0; i < sizeof (data); i++)
	data[i] = (u8) ((seed = seed * 1103515245 + 12345) >> 16);
      u32 n = 2 + seed % 62, at = (seed >> 8) % (n / 2) * 2;
      u16 old = (u16) ~fp_csum_fold (fp_csum_bytes (data, n, 0));
      CHECK (old == fp_net16 ((u16) ~ref_sum (data, n, 0)), "sum over %u bytes", n);
      u16 was = fp_load16 (data + at), is = (u16) (seed >> 3);
      fp_store16 (data + at, is);
      u16 now = fp_csum_update (old, fp_csum_replace16 (was, is));
      CHECK (now == fp_net16 ((u16) ~ref_sum (data, n, 0)), "update at %u of %u bytes: %04x", at, n, now);
    }
}

/* Every shape of packet, cut at every length and offered with every claim about its total length. */
static void
test_truncated (int six)
{
  node_t *n = node_new ();
  u8 body[128];
  spec_t inner = { .src = NODE[six], .dst = EP1[six], .sport = SNAT_LOW, .dport = 8080, .proto = 6, .options = 8 };
  build (body, &inner);
  const spec_t shapes[] = {
    { .src = POD[six], .dst = WEB[six], .sport = 1, .dport = 80, .proto = 6, .tcp_flags = 2, .payload = 5 },
    { .src = POD[six], .dst = WEB[six], .sport = 1, .dport = 80, .proto = 17, .payload = 5 },
    { .src = POD[six], .dst = WEB[six], .sport = 1, .dport = 80, .proto = 17, .payload = 8, .options = 16 },
    { .src = POD[six], .dst = WEB[six], .sport = 1, .dport = 80, .proto = 17, .payload = 16, .more = 1, .id = 9 },
    { .src = POD[six], .dst = WEB[six], .proto = 17, .payload = 16, .offset = 24, .id = 9 },
    { .src = POD[six], .dst = WEB[six], .proto = six ? 58 : 1, .icmp_type = six ? 128 : 8, .payload = 9 },
    { .src = ROUTER[six], .dst = NODE[six], .proto = six ? 58 : 1, .icmp_type = six ? 1 : 3, .icmp_code = 1, .body = body,
      .payload = 80 },
  };
  for (u32 k = 0; k < sizeof (shapes) / sizeof (shapes[0]); k++)
    {
      u8 bytes[512];
      u32 length = build (bytes, &shapes[k]);
      for (u32 cut = 0; cut <= length; cut++)
	for (u32 claim = 0; claim < 3; claim++)
	  {
	    shot_t s = { 0 };
	    /* the rest is missing; lies in another buffer; or the room ends with the bytes */
	    s.p.length = claim == 1 ? length : cut;
	    submit (n, 0, bytes, cut, claim == 2 ? cut + 200 : cut, &s);
	    if (claim != 1 && cut < length)
	      CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_TRUNCATED, "shape %u cut at %u of %u: action %u reason %s", k,
		     cut, length, s.v.action, fp_drop_name (s.v.reason));
	    release (&s);
	  }
    }
  node_free (n);
}

/* Fields that contradict each other. */
static void
test_malformed (int six)
{
  node_t *n = node_new ();
  u8 bytes[256];
  spec_t spec = udp (six, 20);
  u32 length = build (bytes, &spec);
  u32 l4 = six ? 40 : 20;
  const struct
  {
    u32 at;
    u8 value, reason;
    const char *what;
  } v4[] = {
    { 0, 0x44, FP_DROP_MALFORMED, "header length 4 words" }, { 0, 0x55, FP_DROP_MALFORMED, "version 5" },
    { 3, 19, FP_DROP_MALFORMED, "total length below header" }, { 3, 49, FP_DROP_TRUNCATED, "total length beyond the packet" },
    { l4 + 5, 7, FP_DROP_MALFORMED, "UDP length 7" },	       { l4 + 5, 29, FP_DROP_MALFORMED, "UDP length beyond the packet" },
    { 10, 0xee, FP_DROP_CHECKSUM, "header checksum" },
  }, v6[] = {
    { 5, 29, FP_DROP_TRUNCATED, "payload length beyond the packet" },
    { l4 + 5, 7, FP_DROP_MALFORMED, "UDP length 7" },
    { l4 + 5, 29, FP_DROP_MALFORMED, "UDP length beyond the packet" },
  };
  for (u32 i = 0; i < (six ? sizeof (v6) / sizeof (v6[0]) : sizeof (v4) / sizeof (v4[0])); i++)
    {
      u8 copy[256];
      shot_t s = { 0 };
      u32 at = six ? v6[i].at : v4[i].at;
      memcpy (copy, bytes, length);
      copy[at] = six ? v6[i].value : v4[i].value;
      submit (n, 0, copy, length, length, &s);
      CHECK (s.v.action == FP_DROP && s.v.reason == (six ? v6[i].reason : v4[i].reason), "%s: action %u reason %s",
	     six ? v6[i].what : v4[i].what, s.v.action, fp_drop_name (s.v.reason));
      release (&s);
    }
  /* TCP header length field beyond the segment, and below its least */
  for (u32 words = 0; words < 16; words++)
    {
      spec = (spec_t){ .src = POD[six], .dst = WEB[six], .sport = 1, .dport = 80, .proto = 6, .tcp_flags = 2, .payload = 4 };
      shot_t s = { 0 };
      length = build (bytes, &spec);
      bytes[l4 + 12] = (u8) (words << 4);
      submit (n, 0, bytes, length, length, &s);
      CHECK ((s.v.action == FP_FORWARD) == (words == 5 || words == 6), "TCP header of %u words: action %u", words, s.v.action);
      release (&s);
    }
  node_free (n);
}

static void
test_options (void)
{
  node_t *n = node_new ();
  u8 bytes[256];
  spec_t spec = udp (0, 20);
  spec.options = 12;
  expect (n, &spec, FP_FORWARD, 0, ""); /* NOPs: carried */
  const struct
  {
    u8 options[12];
    u8 action;
  } cases[] = {
    { { 0 }, FP_FORWARD },			 /* end of list */
    { { 7, 7, 4, 0, 0, 0, 0 }, FP_FORWARD },	 /* record route */
    { { 131, 7, 4, 10, 1, 0, 5 }, FP_DROP },	 /* loose source route */
    { { 1, 137, 7, 4, 10, 1, 0, 5 }, FP_DROP },	 /* strict source route */
    { { 68, 0 }, FP_DROP },			 /* length 0 would never end */
    { { 68, 13 }, FP_DROP },			 /* beyond the header */
    { { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 68 }, FP_DROP }, /* no room for its length */
  };
  for (u32 i = 0; i < sizeof (cases) / sizeof (cases[0]); i++)
    {
      shot_t s = { 0 };
      u32 length = build (bytes, &spec);
      memcpy (bytes + 20, cases[i].options, 12);
      put16 (bytes + 10, 0);
      put16 (bytes + 10, ~ref_sum (bytes, 32, 0) & 0xffff);
      submit (n, 0, bytes, length, length, &s);
      CHECK (s.v.action == cases[i].action && (s.v.action == FP_FORWARD || s.v.reason == FP_DROP_OPTIONS),
	     "options %u: action %u reason %s", i, s.v.action, fp_drop_name (s.v.reason));
      release (&s);
    }
  node_free (n);
}

/* Chains of IPv6 extension headers; a routing header with segments left names another destination. */
static void
test_extensions (void)
{
  node_t *n = node_new ();
  for (u32 count = 0; count < 12; count++)
    for (int routing = 0; routing < 3; routing++)
      {
	u8 bytes[512];
	spec_t spec = udp (1, 24);
	u32 length = build (bytes, &spec);
	shot_t s = { 0 };
	memmove (bytes + 40 + 8 * count, bytes + 40, length - 40);
	memset (bytes + 40, 0, 8 * count);
	for (u32 i = 0; i < count; i++)
	  bytes[40 + 8 * i] = i + 1 < count ? 60 : 17;
	if (count)
	  bytes[6] = routing ? 43 : 0;
	if (count && routing == 2)
	  bytes[43] = 1;
	length += 8 * count;
	put16 (bytes + 4, length - 40);
	submit (n, 0, bytes, length, length, &s);
	int good = count <= 8 && !(count && routing == 2);
	CHECK (good ? s.v.action == FP_FORWARD && s.v.way == FP_WAY_FORWARD : s.v.reason == FP_DROP_OPTIONS,
	       "%u extension headers, routing %d: action %u reason %s", count, routing, s.v.action, fp_drop_name (s.v.reason));
	if (good)
	  check_checksums ("behind extension headers", s.block, s.p.length, 0);
	release (&s);
      }
  node_free (n);
}

/* Segmentation offload: longer than what is contiguous, checksum left to the device. */
static void
test_offloads (int six)
{
  node_t *n = node_new ();
  const struct
  {
    u8 proto, gso_type;
  } kinds[] = { { 6, six ? FP_GSO_TCP6 : FP_GSO_TCP4 }, { 17, FP_GSO_UDP_L4 } };
  for (u32 k = 0; k < 2; k++)
    {
      spec_t spec = { .src = POD[six], .dst = WEB[six], .sport = 4000, .dport = 80, .proto = kinds[k].proto, .payload = 60,
		      .partial = 1, .df = 1 };
      shot_t s = shoot (n, &spec); /* shoot checks the partial sum */
      CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_FORWARD, "partial checksum: action %u", s.v.action);
      release (&s);

      u8 bytes[256];
      u32 header = build (bytes, &spec), l4 = six ? 40 : 20, total = 40000;
      if (six)
	put16 (bytes + 4, total - 40);
      else
	{
	  put16 (bytes + 2, total);
	  put16 (bytes + 10, 0);
	  put16 (bytes + 10, ~ref_sum (bytes, 20, 0) & 0xffff);
	}
      if (kinds[k].proto == 17)
	put16 (bytes + l4 + 4, total - l4);
      u32 field = l4 + (u32) csum_field (kinds[k].proto);
      put16 (bytes + field, ref_pseudo (bytes, kinds[k].proto, total - l4));
      memset (&s.p, 0, sizeof (s.p));
      s.p.length = total;
      s.p.csum = FP_CSUM_PARTIAL;
      s.p.csum_start = (u16) l4;
      s.p.csum_offset = (u16) (field - l4);
      s.p.gso_type = kinds[k].gso_type;
      s.p.gso_size = 1400;
      s.p.mtu = 1500;
      submit (n, 0, bytes, header, header, &s);
      CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_FORWARD, "GSO: action %u reason %s", s.v.action,
	     fp_drop_name (s.v.reason));
      u32 want = ref_pseudo (s.block, kinds[k].proto, total - l4), have = get16 (s.block + field);
      CHECK (want % 0xffff == have % 0xffff, "GSO: partial checksum %04x, want %04x", have, want);
      CHECK (s.p.length == total && s.p.gso_size == 1400, "GSO description changed");
      release (&s);

      memset (&s.p, 0, sizeof (s.p)); /* a segment is too large for the way out */
      s.p.length = total;
      s.p.csum = FP_CSUM_PARTIAL;
      s.p.csum_start = (u16) l4;
      s.p.csum_offset = (u16) (field - l4);
      s.p.gso_type = kinds[k].gso_type;
      s.p.gso_size = 1480;
      s.p.mtu = 1500;
      submit (n, 0, bytes, header, 2048, &s);
      CHECK (s.v.action == FP_REPLY && s.v.reason == FP_DROP_TOO_BIG, "GSO segment over MTU: action %u", s.v.action);
      release (&s);
    }
  /* a partial checksum of something inside the packet (a tunnel in UDP) leaves the outer checksum complete */
  spec_t spec = udp (six, 60);
  u8 bytes[256];
  shot_t s = { 0 };
  u32 length = build (bytes, &spec);
  s.p.csum = FP_CSUM_PARTIAL;
  s.p.csum_start = 70;
  s.p.csum_offset = 6;
  submit (n, 0, bytes, length, length, &s);
  CHECK (s.v.action == FP_FORWARD, "inner partial checksum: action %u", s.v.action);
  check_checksums ("inner partial checksum", s.block, s.p.length, 0);
  release (&s);

  spec.no_udp_checksum = 1;
  s = shoot (n, &spec);
  CHECK (s.v.action == FP_FORWARD && get16 (s.block + (six ? 46 : 26)) == 0, "UDP checksum 0 did not stay 0");
  release (&s);
  node_free (n);
}

static void
test_ttl (int six)
{
  node_t *n = node_new ();
  u32 at = six ? 7 : 8;
  for (u8 ttl = 0; ttl < 4; ttl++)
    for (int keep = 0; keep < 2; keep++)
      for (int known = 0; known < 2; known++)
	{
	  spec_t spec = udp (six, 20);
	  u8 bytes[256];
	  shot_t s = { 0 };
	  spec.sport = (u16) (100 + ttl);
	  u32 length = build (bytes, &spec);
	  bytes[at] = ttl;
	  if (!six)
	    {
	      put16 (bytes + 10, 0);
	      put16 (bytes + 10, ~ref_sum (bytes, 20, 0) & 0xffff);
	    }
	  s.p.flags = keep ? FP_PACKET_KEEP_TTL : 0;
	  submit (n, 0, bytes, length, 600, &s);
	  if (keep || ttl > 1)
	    {
	      CHECK (s.v.action == FP_FORWARD && s.block[at] == ttl - !keep, "TTL %u: action %u, then %u", ttl, s.v.action,
		     s.block[at]);
	      check_checksums ("TTL", s.block, s.p.length, 0);
	    }
	  else
	    CHECK (s.v.action == FP_REPLY && s.v.reason == FP_DROP_TTL && s.block[six ? 40 : 20] == (six ? 3 : 11),
		   "TTL %u: action %u, type %u", ttl, s.v.action, s.block[six ? 40 : 20]);
	  release (&s);
	}
  node_free (n);
}

static void
test_mtu (int six)
{
  node_t *n = node_new ();
  for (int df = 0; df < 2; df++)
    for (u32 mtu = 1279; mtu <= 1281; mtu++)
      {
	spec_t spec = udp (six, (u16) (1280 - (six ? 48 : 28)));
	u8 bytes[2048];
	shot_t s = { 0 };
	spec.df = (u8) df;
	u32 length = build (bytes, &spec);
	s.p.mtu = mtu;
	submit (n, 0, bytes, length, length, &s);
	if (mtu >= 1280 || (!six && !df))
	  CHECK (s.v.action == FP_FORWARD, "MTU %u: action %u", mtu, s.v.action);
	else
	  {
	    CHECK (s.v.action == FP_REPLY && s.v.reason == FP_DROP_TOO_BIG, "MTU %u: action %u", mtu, s.v.action);
	    u32 said = six ? get16 (s.block + 46) : get16 (s.block + 26);
	    CHECK (s.block[six ? 40 : 20] == (six ? 2 : 3) && s.block[six ? 41 : 21] == (six ? 0 : 4) && said == mtu,
		   "too big: type %u code %u MTU %u", s.block[six ? 40 : 20], s.block[six ? 41 : 21], said);
	  }
	release (&s);
      }
  node_free (n);
}

/* A vector of every size, mixed families: the same verdicts as one by one. */
static void
test_vectors (void)
{
  node_t *n = node_new ();
  fp_packet_t p[FP_VECTOR_MAX];
  fp_verdict_t v[FP_VECTOR_MAX];
  for (u32 count = 1; count <= FP_VECTOR_MAX; count += 51)
    {
      u64 before = counter (n, FP_C_PACKETS);
      memset (p, 0, sizeof (p));
      for (u32 i = 0; i < count; i++)
	{
	  spec_t spec = udp (i & 1, (u16) (i % 50));
	  u8 bytes[256];
	  spec.sport = (u16) (1 + i / 3);
	  if (i % 7 == 0)
	    spec.dst = i & 1 ? EP1[1] : EP1[0];
	  p[i].contiguous = p[i].length = p[i].room = build (bytes, &spec);
	  p[i].l3 = malloc (p[i].room);
	  memcpy (p[i].l3, bytes, p[i].room);
	}
      fp_service_vector (&n->worker[0], p, v, count);
      for (u32 i = 0; i < count; i++)
	{
	  CHECK (v[i].action == FP_FORWARD && v[i].way == (i % 7 == 0 ? FP_WAY_PASS : FP_WAY_FORWARD), "packet %u of %u: action %u",
		 i, count, v[i].action);
	  check_checksums ("vector", p[i].l3, p[i].length, 0);
	  free (p[i].l3);
	}
      CHECK (counter (n, FP_C_PACKETS) - before == count, "counted %lu of %u", counter (n, FP_C_PACKETS) - before, count);
    }
  node_free (n);
}

int
main (void)
{
  test_checksum_arithmetic ();
  test_options ();
  test_extensions ();
  test_vectors ();
  for (int six = 0; six < 2; six++)
    {
      test_truncated (six);
      test_malformed (six);
      test_offloads (six);
      test_ttl (six);
      test_mtu (six);
    }
  puts ("ok: packets");
  return 0;
}

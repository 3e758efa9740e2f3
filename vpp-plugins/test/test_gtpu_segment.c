/* SPDX-License-Identifier: Apache-2.0 */
/* Large packets before a tunnel: segmentation of TCP and UDP, fragments of IPv4 packets without DF; the pieces put together are what was sent. */
#include "gtpu.h"

static u8 joined[70000];

/* Cut *p, send each piece into its tunnel, and join the payloads. Returns the number of pieces. */
static u32
cut_and_send (node_t *n, const fp_packet_t *p, u32 transport, u32 *total, u32 limit)
{
  u32 at = 0, length, pieces = 0, room = 1700;
  u8 *block = malloc (HEADROOM + room);
  fp_packet_t s;
  fp_verdict_t v;
  *total = 0;
  while ((length = fp_gtpu_segment (p, &at, block + HEADROOM, HEADROOM, room, &s)))
    {
      u8 *h = block + HEADROOM, proto;
      int fragment, later;
      u32 l4 = find_l4 (h, &proto, &fragment, &later), header = later ? 0 : transport;
      check_checksums ("piece", h, length, 0);
      CHECK (length <= limit && s.length == length && s.contiguous == length && s.gso_type == FP_GSO_NONE, "piece of %u, limit %u", length, limit);
      if (proto == 6)
	CHECK (((u32) get16 (h + l4 + 4) << 16 | get16 (h + l4 + 6)) == 0xfffffff0u + *total, "sequence number of piece %u", pieces);
      memcpy (joined + *total, h + l4 + header, length - l4 - header);
      *total += length - l4 - header;
      pieces++;
      fp_worker_quiescent (&n->worker[0], n->now);
      fp_gtpu_encap_vector (&n->worker[0], &s, &v, 1);
      CHECK (v.action == FP_FORWARD && v.way == FP_WAY_GTPU && s.length <= 1500, "piece %u: action %u %s", pieces, v.action, fp_drop_name (v.reason));
      check_checksums ("outer", s.l3, s.length, 0);
    }
  free (block);
  return pieces;
}

static void
test_gso (node_t *n)
{
  for (int six = 0; six < 2; six++)
    for (int udp = 0; udp < 2; udp++)
      for (int t = T_PSC; t <= T_SIX; t++)
	{
	  static u8 bytes[20000];
	  char ue[64];
	  snprintf (ue, sizeof (ue), "%s%s", TUNNEL[t].ue[six], six ? "1" : "");
	  u32 transport = udp ? 8 : 20, header = (six ? 40u : 20u) + transport, total;
	  spec_t spec = { .src = OUTSIDE[six], .dst = ue, .sport = 1, .dport = 2, .proto = udp ? 17 : 6, .payload = 9001, .df = 1, .id = 0xfffe,
			  .partial = 1, .tcp_flags = 0x99 }; /* CWR, ACK, PSH, FIN */
	  u32 length = build (bytes, &spec);
	  if (!udp)
	    memcpy (bytes + header - 16, (u8[]){ 0xff, 0xff, 0xff, 0xf0 }, 4);
	  gshot_t s;
	  for (u32 fits = 0; fits < 2; fits++)
	    {
	      advance (n, 1);
	      memset (&s.p, 0, sizeof (s.p));
	      s.p.mtu = 1500;
	      s.p.csum = FP_CSUM_PARTIAL;
	      s.p.csum_start = (u16) (header - transport);
	      s.p.csum_offset = udp ? 6 : 16;
	      s.p.gso_type = udp ? FP_GSO_UDP_L4 : six ? FP_GSO_TCP6 : FP_GSO_TCP4;
	      s.p.gso_size = (u16) (fits ? 1300 : 1460);
	      gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length, &s);
	      if (fits)
		{
		  CHECK (s.v.action == FP_SEGMENT, "GSO: action %u %s", s.v.action, fp_drop_name (s.v.reason));
		  CHECK (cut_and_send (n, &s.p, transport, &total, header + 1300) == 7 && total == 9001, "pieces of %u bytes", total);
		  CHECK (!memcmp (joined, bytes + header, 9001), "payload");
		}
	      else
		CHECK (s.v.action == FP_REPLY && s.v.reason == FP_DROP_TOO_BIG, "segments too big: action %u", s.v.action);
	      gtpu_release (&s);
	    }
	  /* not all of it here: neither whole nor in pieces */
	  memset (&s.p, 0, sizeof (s.p));
	  s.p.length = length + 4000;
	  s.p.gso_type = udp ? FP_GSO_UDP_L4 : six ? FP_GSO_TCP6 : FP_GSO_TCP4;
	  s.p.gso_size = 1300;
	  gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length, &s);
	  CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_UNSUPPORTED, "chained GSO: %u", s.v.action);
	  gtpu_release (&s);
	}
}

/* TCP flags of the pieces, and IPv4 identification. */
static void
test_flags (void)
{
  u8 bytes[4000], out[2000];
  spec_t spec = { .src = OUTSIDE[0], .dst = "10.45.0.2", .sport = 1, .dport = 2, .proto = 6, .payload = 2500, .id = 0xfffe, .tcp_flags = 0x99 };
  u32 length = build (bytes, &spec), at = 0;
  fp_packet_t s, p = { .l3 = bytes, .contiguous = length, .length = length, .gso_type = FP_GSO_TCP4, .gso_size = 1000 };
  static const u8 flags[3] = { 0x90, 0x10, 0x19 };
  static const u16 ids[3] = { 0xfffe, 0xffff, 0 };
  for (u32 i = 0; i < 3; i++)
    {
      CHECK (fp_gtpu_segment (&p, &at, out, 0, sizeof (out), &s) == (i < 2 ? 1040u : 540u), "segment %u", i);
      CHECK (out[33] == flags[i] && get16 (out + 4) == ids[i], "segment %u: flags %02x id %04x", i, out[33], get16 (out + 4));
    }
  CHECK (!fp_gtpu_segment (&p, &at, out, 0, sizeof (out), &s), "a fourth segment");
}

/* IPv4 without DF that is too big: fragments, also of a packet that is a fragment itself, with options; then with DF: none. */
static void
test_fragments (node_t *n)
{
  for (u32 how = 0; how < 4; how++)
    {
      static u8 bytes[4000];
      u32 total, pieces, at = 0, length;
      spec_t spec = { .src = OUTSIDE[0], .dst = TUNNEL[T_PSC].ue[0], .sport = 1, .dport = 2, .proto = 17, .payload = 2960, .id = 77,
		      .options = how & 1 ? 8 : 0 };
      if (how & 2)
	{
	  spec.offset = 80;
	  spec.more = 1;
	}
      length = build (bytes, &spec);
      gshot_t s;
      memset (&s.p, 0, sizeof (s.p));
      s.p.mtu = 1500;
      gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length, &s);
      CHECK (s.v.action == FP_SEGMENT && s.p.fragment_size == 1456, "no DF: action %u %s, pieces of %u", s.v.action, fp_drop_name (s.v.reason),
	     s.p.fragment_size);
      u8 out[2000];
      fp_packet_t piece;
      u32 header = how & 1 ? 28 : 20, expect = how & 2 ? 80 : 0;
      while ((total = fp_gtpu_segment (&s.p, &at, out, 0, sizeof (out), &piece)))
	{
	  u32 field = get16 (out + 6);
	  CHECK ((field & 0x1fff) * 8 == expect, "offset %u, want %u", (field & 0x1fff) * 8, expect);
	  expect += total - header;
	  CHECK (((field & 0x2000) != 0) == ((how & 2) || expect < length - header), "more fragments at %u", expect);
	  CHECK (get16 (out + 4) == 77, "identification");
	}
      pieces = cut_and_send (n, &s.p, 0, &total, 1456);
      CHECK (pieces == 3 && total == length - header && !memcmp (joined, bytes + header, total), "%u pieces, %u bytes", pieces, total);
      gtpu_release (&s);
    }
  /* a UDP send of several datagrams, each of which has to be fragmented */
  static u8 bytes[9000];
  u32 total;
  spec_t spec = { .src = OUTSIDE[0], .dst = TUNNEL[T_PLAIN].ue[0], .sport = 1, .dport = 2, .proto = 17, .payload = 6000, .id = 9 };
  u32 length = build (bytes, &spec), at = 0, pieces = 0;
  gshot_t s;
  memset (&s.p, 0, sizeof (s.p));
  s.p.mtu = 1500;
  s.p.gso_type = FP_GSO_UDP_L4;
  s.p.gso_size = 2000;
  gtpu_submit (n, 0, ENCAP, bytes, length, HEADROOM, length, &s);
  CHECK (s.v.action == FP_SEGMENT, "UDP of 2000 each: %u", s.v.action);
  u8 out[2000], datagram[2100];
  fp_packet_t piece;
  while ((total = fp_gtpu_segment (&s.p, &at, out, 0, sizeof (out), &piece)))
    {
      u32 offset = (get16 (out + 6) & 0x1fff) * 8;
      CHECK (offset + total - 20 <= 2008, "piece beyond its datagram");
      memcpy (datagram + 20 + offset, out + 20, total - 20);
      if (!(get16 (out + 6) & 0x2000))
	{
	  memcpy (datagram, out, 20);
	  put16 (datagram + 2, 2028);
	  put16 (datagram + 6, 0);
	  put16 (datagram + 10, 0);
	  put16 (datagram + 10, ~ref_sum (datagram, 20, 0) & 0xffff);
	  check_checksums ("datagram", datagram, 2028, 0);
	  CHECK (get16 (datagram + 24) == 2008 && !memcmp (datagram + 28, bytes + 28 + pieces / 2 * 2000, 2000), "datagram %u", pieces / 2);
	}
      pieces++;
    }
  CHECK (pieces == 6, "%u pieces", pieces);
  gtpu_release (&s);
}

/* Several G-PDUs in one large datagram of the outer side: each is decapsulated. */
static void
test_outer (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    {
      u8 one[64], many[512], bytes[1024];
      u32 size = golden ("pdu_plain", one), at = 0, count = 0, length;
      if (outer)
	{
	  put16 (one + 6, 0x1000);
	  memcpy (one + 20, (u8[]){ 10, 45, 0, 5 }, 4);
	}
      for (u32 i = 0; i < 5; i++)
	memcpy (many + i * size, one, size);
      length = wrap (bytes, GNB[outer], LOCAL[outer], 2152, 2152, many, 5 * size);
      gshot_t s;
      memset (&s.p, 0, sizeof (s.p));
      s.p.gso_type = FP_GSO_UDP_L4;
      s.p.gso_size = (u16) size;
      gtpu_submit (n, 0, DECAP, bytes, length, HEADROOM, length, &s);
      CHECK (s.v.action == FP_SEGMENT, "large outer datagram: %u %s", s.v.action, fp_drop_name (s.v.reason));
      u8 *out = malloc (256);
      fp_packet_t piece;
      fp_verdict_t v;
      while (fp_gtpu_segment (&s.p, &at, out, 0, 256, &piece))
	{
	  piece.csum = FP_CSUM_NONE; /* let it be verified */
	  fp_gtpu_decap_vector (&n->worker[0], &piece, &v, 1);
	  CHECK (v.action == FP_FORWARD && v.way == FP_WAY_GTPU && piece.length == 28, "datagram %u: %s", count, fp_drop_name (v.reason));
	  count++;
	}
      CHECK (count == 5, "%u datagrams", count);
      free (out);
      gtpu_release (&s);
    }
}

/* A frame with a large TCP packet: each piece is a frame. */
static void
test_frame (node_t *n)
{
  u8 frame[4000] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0 }, *out = malloc (2000);
  spec_t spec = { .src = OUTSIDE[0], .dst = POD[0], .sport = 1, .dport = 2, .proto = 6, .payload = 2500 };
  u32 length = 14 + build (frame + 14, &spec), at = 0, pieces = 0, size;
  gshot_t s;
  memset (&s.p, 0, sizeof (s.p));
  s.p.vlan = 100;
  s.p.gso_type = FP_GSO_TCP4;
  s.p.gso_size = 1000;
  gtpu_submit (n, 0, ENCAP_FRAME, frame, length, HEADROOM, length, &s);
  CHECK (s.v.action == FP_SEGMENT, "large frame: %u %s", s.v.action, fp_drop_name (s.v.reason));
  fp_packet_t piece;
  while ((size = fp_gtpu_segment_frame (&s.p, &at, out + 100, 100, 1900, &piece)))
    {
      CHECK (piece.l3 == out + 100 && piece.vlan == 100 && !memcmp (piece.l3, frame, 14) && size == (pieces < 2 ? 1054u : 554u), "piece %u", pieces);
      check_checksums ("piece", piece.l3 + 14, size - 14, 0);
      pieces++;
    }
  CHECK (pieces == 3, "%u pieces", pieces);
  free (out);
  gtpu_release (&s);
}

int
main (void)
{
  node_t *n = gtpu_node ();
  test_gso (n);
  test_flags ();
  test_fragments (n);
  test_outer (n);
  test_frame (n);
  gtpu_node_free (n);
  puts ("ok: GTP-U segmentation");
  return 0;
}

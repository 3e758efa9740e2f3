/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U headers: golden messages, the optional octets, chains of extension headers, every length cut short. */
#include "gtpu.h"

static enum fp_drop
parse_exact (const u8 *bytes, u32 n, fp_gtpu_message_t *m)
{
  u8 *block = malloc (n ? n : 1); /* exactly as long: no read past the end */
  enum fp_drop r;
  memcpy (block, bytes, n);
  memset (m, 0xee, sizeof (*m));
  r = fp_gtpu_parse (block, n, n, m);
  free (block);
  return r;
}

static void
test_golden (void)
{
  static const struct
  {
    const char *name;
    u8 type;
    u32 teid, payload, length;
    u8 psc, qfi;
    int sequence;
  } want[] = {
    { "echo_request", 1, 0, 12, 0, 0, 0, 0x0102 },
    { "echo_response", 2, 0, 12, 2, 0, 0, 0x0102 },
    { "pdu_plain", 255, 0x1001, 8, 28, 0, 0, -1 },
    { "pdu_sequence", 255, 0x1001, 12, 28, 0, 0, 0xabcd },
    { "pdu_psc_uplink", 255, 0x1001, 16, 28, FP_GTPU_PSC_UL, 9, -1 },
    { "pdu_psc_downlink", 255, 0x1001, 16, 28, FP_GTPU_PSC_DL, 63, -1 },
    { "pdu_chain", 255, 0x1001, 20, 28, FP_GTPU_PSC_UL, 5, 1 },
    { "error_indication", 26, 0, 12, 12, 0, 0, 0 },
    { "end_marker", 254, 0x1001, 8, 0, 0, 0, -1 },
    { "end_marker_psc", 254, 0x2001, 16, 0, FP_GTPU_PSC_DL, 9, -1 },
    { "notification", 31, 0, 12, 3, 0, 0, 0 },
  };
  for (u32 i = 0; i < sizeof (want) / sizeof (want[0]); i++)
    {
      u8 bytes[256];
      fp_gtpu_message_t m;
      u32 n = golden (want[i].name, bytes);
      enum fp_drop r = parse_exact (bytes, n, &m);
      CHECK (r == FP_DROP_NONE, "%s: %s", want[i].name, fp_drop_name (r));
      CHECK (m.type == want[i].type && m.teid == want[i].teid && m.payload == want[i].payload && m.length == want[i].length &&
	       m.psc == want[i].psc && m.qfi == want[i].qfi,
	     "%s: type %u teid %x payload %u length %u psc %u qfi %u", want[i].name, m.type, m.teid, m.payload, m.length, m.psc, m.qfi);
      CHECK (want[i].sequence < 0 ? !(m.flags & FP_GTPU_S) : m.flags & FP_GTPU_S && m.sequence == want[i].sequence, "%s: sequence %x",
	     want[i].name, m.sequence);
      /* each prefix is refused, for what it is */
      for (u32 cut = 0; cut < n; cut++)
	CHECK (parse_exact (bytes, cut, &m) == FP_DROP_GTPU_LENGTH, "%s cut to %u", want[i].name, cut);
    }
}

static void
test_refused (void)
{
  static const struct
  {
    const char *what, *hex;
    enum fp_drop reason;
  } bad[] = {
    { "version 0", "10 ff 0004 00001001 00000000", FP_DROP_GTPU_VERSION },
    { "version 2 (GTPv2-C)", "48 ff 0004 00001001 00000000", FP_DROP_GTPU_VERSION },
    { "GTP prime", "20 ff 0004 00001001 00000000", FP_DROP_GTPU_VERSION },
    { "length beyond the datagram", "30 ff 0005 00001001 00000000", FP_DROP_GTPU_LENGTH },
    { "length of all ones", "30 ff ffff 00001001 00000000", FP_DROP_GTPU_LENGTH },
    { "S set, no optional octets", "32 ff 0003 00001001 000000", FP_DROP_GTPU_LENGTH },
    { "E set, no optional octets", "34 ff 0000 00001001", FP_DROP_GTPU_LENGTH },
    { "extension of length 0", "34 ff 0008 00001001 00000085 00100900", FP_DROP_GTPU_EXTENSION },
    { "extension beyond the message", "34 ff 0008 00001001 00000085 02100900", FP_DROP_GTPU_EXTENSION },
    { "extension of 255", "34 ff 0008 00001001 00000085 ff100900", FP_DROP_GTPU_EXTENSION },
    { "chain that never ends", "34 ff 0008 00001001 00000085 01100985", FP_DROP_GTPU_EXTENSION },
    { "extension announced, nothing there", "34 ff 0004 00001001 00000085", FP_DROP_GTPU_EXTENSION },
    { "PDCP PDU number, to be understood by the recipient", "34 ff 0008 00001001 000000c0 01000000", FP_DROP_GTPU_UNKNOWN_EXTENSION },
    { "NR RAN container behind the PSC", "34 ff 000c 00001001 00000085 01100984 01000000", FP_DROP_GTPU_UNKNOWN_EXTENSION },
    { "nine extension headers",
      "34 ff 0028 00001001 00000040 01000040 01000040 01000040 01000040 01000040 01000040 01000040 01000040 01000000",
      FP_DROP_GTPU_EXTENSION },
  };
  static const struct
  {
    const char *what, *hex;
    u32 payload, length;
  } good[] = {
    { "spare bit set", "38 ff 0000 00001001", 8, 0 },
    { "bytes behind the length", "30 ff 0002 00001001 aabbccdd", 8, 2 },
    { "extension type without E is not looked at", "32 ff 0004 00001001 000100c0", 12, 0 },
    { "PN alone", "31 ff 0004 00001001 00000500", 12, 0 },
    { "extension that only intermediate nodes need", "34 ff 0008 00001001 00000040 01086800", 16, 0 },
    { "long extension", "34 ff 0010 00001001 00000020 03000000 00000000 00000000", 24, 0 },
    { "eight extension headers",
      "34 ff 0024 00001001 00000040 01000040 01000040 01000040 01000040 01000040 01000040 01000040 01000000", 44, 0 },
    { "PSC with delay fields (length 3)", "34 ff 0010 00001001 00000085 03150900 00000000 00000000", 24, 0 },
  };
  for (u32 i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
    {
      u8 bytes[256];
      fp_gtpu_message_t m;
      enum fp_drop r = parse_exact (bytes, octets (bad[i].hex, bytes), &m);
      CHECK (r == bad[i].reason, "%s: %s, want %s", bad[i].what, fp_drop_name (r), fp_drop_name (bad[i].reason));
    }
  for (u32 i = 0; i < sizeof (good) / sizeof (good[0]); i++)
    {
      u8 bytes[256];
      fp_gtpu_message_t m;
      enum fp_drop r = parse_exact (bytes, octets (good[i].hex, bytes), &m);
      CHECK (r == FP_DROP_NONE && m.payload == good[i].payload && m.length == good[i].length, "%s: %s, payload %u length %u",
	     good[i].what, fp_drop_name (r), m.payload, m.length);
    }
}

/* The message is longer than what is contiguous (a chained buffer): nothing is read beyond that. */
static void
test_chained (void)
{
  u8 bytes[256], *block;
  fp_gtpu_message_t m;
  u32 n = golden ("pdu_chain", bytes);
  for (u32 bound = 0; bound <= n; bound++)
    {
      enum fp_drop r;
      block = malloc (bound ? bound : 1);
      memcpy (block, bytes, bound);
      r = fp_gtpu_parse (block, bound, n, &m);
      CHECK (r == (bound < 20 ? FP_DROP_TRUNCATED : FP_DROP_NONE), "%u bytes contiguous: %s", bound, fp_drop_name (r));
      free (block);
    }
}

/* Sums and derived sums against the slow reference. */
static void
test_sums (void)
{
  static const spec_t shapes[] = {
    { .src = "10.45.0.2", .dst = "198.51.100.7", .sport = 1, .dport = 2, .proto = 6, .payload = 33 },
    { .src = "10.45.0.2", .dst = "198.51.100.7", .sport = 1, .dport = 2, .proto = 17, .payload = 64 },
    { .src = "10.45.0.2", .dst = "198.51.100.7", .proto = 1, .icmp_type = 8, .payload = 17 },
    { .src = "10.45.0.2", .dst = "198.51.100.7", .sport = 1, .dport = 2, .proto = 17, .payload = 5, .options = 8 },
    { .src = "2001:db8::1", .dst = "2001:db8::2", .sport = 1, .dport = 2, .proto = 6, .payload = 101 },
    { .src = "2001:db8::1", .dst = "2001:db8::2", .sport = 1, .dport = 2, .proto = 17, .payload = 100 },
    { .src = "2001:db8::1", .dst = "2001:db8::2", .proto = 58, .icmp_type = 128, .payload = 9 },
    /* not derived */
    { .src = "10.45.0.2", .dst = "198.51.100.7", .sport = 1, .dport = 2, .proto = 17, .payload = 20, .no_udp_checksum = 1 },
    { .src = "10.45.0.2", .dst = "198.51.100.7", .proto = 17, .payload = 24, .offset = 16 },
    { .src = "10.45.0.2", .dst = "198.51.100.7", .proto = 132, .payload = 24 },
    { .src = "2001:db8::1", .dst = "2001:db8::2", .proto = 17, .payload = 24, .sport = 1, .dport = 2, .options = 8 },
  };
  u32 derived = 0;
  for (u32 i = 0; i < sizeof (shapes) / sizeof (shapes[0]); i++)
    {
      u8 bytes[512];
      u32 n = build (bytes, &shapes[i]);
      fp_sum_t sum;
      u16 whole = fp_csum_fold (fp_csum_bytes (bytes, n, 0));
      CHECK (fp_csum_fold (fp_gtpu_sum (bytes, n)) % 0xffff == whole % 0xffff, "sum of shape %u", i);
      if (fp_gtpu_inner_sum (bytes, n, &sum))
	{
	  derived++;
	  CHECK (fp_csum_fold (sum) % 0xffff == whole % 0xffff, "derived sum of shape %u", i);
	}
    }
  CHECK (derived == 7, "%u sums derived", derived);
  for (u32 n = 0; n < 200; n++)
    {
      u8 bytes[200];
      for (u32 i = 0; i < n; i++)
	bytes[i] = (u8) ((n * 31 + i * 17) | (i % 3 ? 0xf0 : 0));
      CHECK (fp_csum_fold (fp_gtpu_sum (bytes, n)) % 0xffff == fp_net16 ((u16) ref_sum (bytes, n, 0)) % 0xffff, "sum of %u bytes", n);
    }
}

int
main (void)
{
  test_golden ();
  test_refused ();
  test_chained ();
  test_sums ();
  puts ("ok: GTP-U headers");
  return 0;
}

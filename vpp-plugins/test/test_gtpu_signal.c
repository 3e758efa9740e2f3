/* SPDX-License-Identifier: Apache-2.0 */
/* Signalling: Echo, Error Indication, Supported Extension Headers Notification, End Marker; and what must not be answered. */
#include "gtpu.h"

/* An answer as it stands in the packet's place: its message, after all checks of its outer headers. */
static const u8 *
answer (const gshot_t *s, int outer, const char *to, u16 port, u32 length)
{
  u32 header = outer ? 40 : 20;
  u8 address[16];
  const u8 *h = s->p.l3;
  CHECK (s->v.action == FP_REPLY && s->p.contiguous == s->p.length && s->p.length <= s->p.room, "no answer: action %u reason %s", s->v.action,
	 fp_drop_name (s->v.reason));
  CHECK (s->p.length == header + 8 + length, "answer of %u bytes", s->p.length);
  CHECK (h[0] >> 4 == (outer ? 6 : 4) && h[outer ? 6 : 9] == 17, "answer's IP header");
  put_address (address, to);
  CHECK (!memcmp (h + (outer ? 24 : 16), address, outer ? 16 : 4), "answer goes elsewhere");
  put_address (address, LOCAL[outer]);
  CHECK (!memcmp (h + (outer ? 8 : 12), address, outer ? 16 : 4), "answer comes from elsewhere");
  CHECK (get16 (h + header) == 2152 && get16 (h + header + 2) == port && get16 (h + header + 4) == 8 + length, "answer's ports %u %u",
	 get16 (h + header), get16 (h + header + 2));
  CHECK (get16 (h + header + 6) != 0, "answer without a checksum");
  check_checksums ("answer", h, s->p.length, 0);
  CHECK (get16 (h + header + 8 + 2) == length - 8, "answer's GTP length");
  return h + header + 8;
}

/* Echo Request: to the sender's port, TEID 0, the same sequence number, Recovery 0; also from who is no peer. */
static void
test_echo (node_t *n)
{
  u8 want[64], request[64], bytes[256];
  u32 length = golden ("echo_response", want), asked = golden ("echo_request", request);
  for (int outer = 0; outer < 2; outer++)
    for (int stranger = 0; stranger < 2; stranger++)
      {
	const char *from = stranger ? OUTSIDE[outer] : GNB[outer];
	u32 total = wrap (bytes, from, LOCAL[outer], 33333, 2152, request, asked);
	gshot_t s;
	memset (&s.p, 0, sizeof (s.p));
	gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total + 2, &s);
	CHECK (s.v.reason == 0, "an Echo Response is no error");
	CHECK (!memcmp (answer (&s, outer, from, 33333, length), want, length), "Echo Response's octets");
	gtpu_release (&s);
	memset (&s.p, 0, sizeof (s.p));
	gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total + 1, &s);
	CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_NO_ROOM, "no room for two more bytes: %u", s.v.action);
	gtpu_release (&s);
      }
  /* not limited: TS 29.281 wants an answer at any time */
  for (int i = 0; i < 200; i++)
    receive_expect (n, 0, "Echo Request", "32 01 0004 00000000 0102 00 00", FP_REPLY, FP_DROP_NONE);
  receive_expect (n, 0, "Echo Request without a sequence number", "30 01 0000 00000000", FP_DROP, FP_DROP_GTPU_SIGNALLING);
  receive_expect (n, 0, "Echo Request with a private extension IE", "32 01 0009 00000000 0102 00 00 ff 0002 0001", FP_REPLY, FP_DROP_NONE);
  receive_expect (n, 0, "Echo Request with a TEID", "32 01 0004 00001001 0102 00 00", FP_REPLY, FP_DROP_NONE);
}

/* Error Indication: the port it came from, TEID Data I, our address (the destination of what came) as GTP-U Peer Address, header TEID 0. */
static void
test_error_indication (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    for (int small = 0; small < 2; small++) /* one that leaves no room for the port */
      {
	u8 local[16], message[128], bytes[256], want[64];
	u32 size = outer ? 16 : 4, asked = (outer ? 40 : 28) - 4 * (u32) small, more = small ? 0 : 4;
	memset (message, 0, sizeof (message));
	octets ("30 ff 0000 00003333", message);
	put16 (message + 2, asked - 8);
	u32 total = wrap (bytes, GNB[outer], LOCAL[outer], 0x1234, 2152, message, asked);
	gshot_t s;
	memset (&s.p, 0, sizeof (s.p));
	gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total, &s);
	const u8 *g = answer (&s, outer, GNB[outer], 2152, 20 + size + more);
	put_address (local, LOCAL[outer]);
	CHECK (s.v.reason == FP_DROP_GTPU_TEID, "reason %s", fp_drop_name (s.v.reason));
	CHECK (g[0] == (small ? 0x32 : 0x36) && g[1] == 26 && !get16 (g + 4) && !get16 (g + 6) && g[10] == 0 && g[11] == (small ? 0 : 0x40),
	       "header of the Error Indication");
	CHECK (small || (g[12] == 1 && get16 (g + 13) == 0x1234 && g[15] == 0), "UDP Port");
	if (!outer && !small)
	  CHECK (golden ("error_indication_port", want) == 28 && !memcmp (g, want, 28), "Error Indication's octets");
	g += more;
	CHECK (g[12] == 16 && get16 (g + 13) == 0 && get16 (g + 15) == 0x3333, "TEID Data I");
	CHECK (g[17] == 133 && get16 (g + 18) == size && !memcmp (g + 20, local, size), "GTP-U Peer Address");
	CHECK (s.p.length <= total, "larger than what it answers");
	gtpu_release (&s);
      }
}

/* None for TEID 0, for what is smaller than the answer, from a source that is not one host, from ourselves; not more than the rate. */
static void
test_error_indication_withheld (node_t *n)
{
  static const char *const sources4[] = { "224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.0", "192.0.2.1" };
  static const char *const sources6[] = { "ff02::1", "::", "::1", "2001:db8:1::1" };
  u8 message[128], bytes[256];
  u32 length = octets ("30 ff 0028 00003333 45000028 00010000 40114677 0a2d0002 c6336407 0001000200000000 0000000000000000 00000000",
		       message),
      total;
  gshot_t s;
  for (u32 i = 0; i < 9; i++)
    {
      total = wrap (bytes, i < 5 ? sources4[i] : sources6[i - 5], LOCAL[i >= 5], 2152, 2152, message, length);
      memset (&s.p, 0, sizeof (s.p));
      gtpu_submit (n, 0, DECAP, bytes, total, HEADROOM, total + 64, &s);
      CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_GTPU_TEID, "source %u answered", i);
      gtpu_release (&s);
    }
  receive_expect (n, 0, "small G-PDU of an unknown TEID", "30 ff 0004 00003333 01020304", FP_DROP, FP_DROP_GTPU_TEID);
  receive_expect (n, 0, "End Marker of an unknown TEID", "30 fe 0000 00003333", FP_CONSUMED, FP_DROP_NONE);
  put16 (message + 6, 0);
  s = receive (n, 0, message, length);
  CHECK (s.v.action == FP_DROP, "TEID 0 answered");
  gtpu_release (&s);

  put16 (message + 6, 0x3333);
  advance (n, 10);
  u32 sent = 0;
  for (int i = 0; i < 300; i++)
    {
      s = receive (n, 0, message, length);
      sent += s.v.action == FP_REPLY;
      gtpu_release (&s);
    }
  CHECK (sent == FP_GTPU_BURST, "%u Error Indications at once", sent);
  CHECK (counter (n, FP_C_GTPU_ANSWERS_LIMITED) >= 250, "the limit is not counted");
  advance (n, 0.0105);
  for (sent = 0; sent < 100;)
    {
      s = receive (n, 0, message, length);
      gtpu_release (&s);
      if (s.v.action != FP_REPLY)
	break;
      sent++;
    }
  CHECK (sent == 10, "%u Error Indications after ten milliseconds", sent);
  advance (n, 10);
}

static void
test_notification (node_t *n)
{
  u8 want[64];
  u32 length = golden ("notification", want);
  for (int outer = 0; outer < 2; outer++)
    {
      gshot_t s = receive_hex (n, outer,
			       "34 ff 0028 00001001 000000c0 01000000 45000020 00010000 40114677 0a2d0002 c6336407"
			       "000100020000000000000000");
      CHECK (s.v.reason == FP_DROP_GTPU_UNKNOWN_EXTENSION, "reason %s", fp_drop_name (s.v.reason));
      CHECK (!memcmp (answer (&s, outer, GNB[outer], 2152, length), want, length), "Notification's octets");
      gtpu_release (&s);
    }
  receive_expect (n, 0, "the same in a packet smaller than the answer", "34 fe 0008 00001001 000000c0 01000000", FP_REPLY,
		  FP_DROP_GTPU_UNKNOWN_EXTENSION);
  receive_expect (n, 0, "Notification received", "32 1f 0007 00000000 0000 00 00 8d 01 85", FP_CONSUMED, FP_DROP_NONE);
}

static void
test_end_marker (node_t *n)
{
  u8 local[16], g[128];
  put_address (local, LOCAL[0]);
  const fp_gtpu_endpoint_t *e = fp_gtpu_endpoint_find (&n->region, 0, 0, local);
  const fp_tunnel_t *t = fp_tunnel_at (&n->region, fp_tunnel_lookup (&n->region, e, 0x1001, 0));
  CHECK (!(t->seen & FP_GTPU_SEEN_END_MARKER), "seen before");
  gshot_t s = receive (n, 0, g, golden ("end_marker", g));
  CHECK (s.v.action == FP_CONSUMED && t->seen & FP_GTPU_SEEN_END_MARKER && counter (n, FP_C_GTPU_END_MARKERS) == 1, "End Marker");
  gtpu_release (&s);

  /* of our own */
  for (int outer = 0; outer < 2; outer++)
    for (int psc = 0; psc < 2; psc++)
      {
	fp_gtpu_marker_t m = { .remote_teid = 0x2001, .family = outer ? 6 : 4, .psc = psc ? FP_GTPU_PSC_DL : 0, .qfi = 9 };
	u8 *h = malloc (FP_GTPU_SIGNAL_MAX), want[64];
	u32 header = outer ? 40 : 20, length = golden (psc ? "end_marker_psc" : "end_marker", want);
	if (!psc)
	  put16 (want + 6, 0x2001);
	put_address (m.local, LOCAL[outer]);
	put_address (m.remote, GNB2[outer]);
	u32 total = fp_gtpu_end_marker (h, &m);
	CHECK (total == header + 8 + length && !memcmp (h + header + 8, want, length), "End Marker sent: %u bytes", total);
	CHECK (get16 (h + header) == 2152 && get16 (h + header + 2) == 2152, "ports");
	CHECK (!memcmp (h + (outer ? 24 : 16), m.remote, outer ? 16 : 4), "address");
	check_checksums ("End Marker", h, total, 0);
	free (h);
      }
}

/* Echo Request of ours, and its answer: the first right one counts. */
static void
test_path (node_t *n)
{
  for (int outer = 0; outer < 2; outer++)
    {
      u8 local[16], gnb[16], *h = malloc (FP_GTPU_SIGNAL_MAX), want[64], response[64];
      put_address (local, LOCAL[outer]);
      put_address (gnb, GNB[outer]);
      const fp_gtpu_endpoint_t *e = fp_gtpu_endpoint_find (&n->region, 0, outer, local);
      u32 slot = fp_gtpu_peer_find (&n->region, e, outer, gnb);
      CHECK (slot != FP_NONE, "no peer");
      fp_gtpu_path_t *path = &n->region.gtpu_paths[slot];
      u32 header = outer ? 40 : 20, length = golden ("echo_request", want), total;
      total = fp_gtpu_echo_request (h, e, fp_gtpu_peer_at (&n->region, slot), 0x0102);
      CHECK (total == header + 8 + length && !memcmp (h + header + 8, want, length), "Echo Request's octets");
      check_checksums ("Echo Request", h, total, 0);
      free (h);

      u64 answered = counter (n, FP_C_GTPU_ECHO_RESPONSES);
      length = golden ("echo_response", response);
      gshot_t s = receive (n, outer, response, length);
      CHECK (s.v.action == FP_CONSUMED && counter (n, FP_C_GTPU_ECHO_RESPONSES) == answered && !path->answered_ns, "nobody has asked");
      gtpu_release (&s);
      path->sent_ns = n->now;
      path->sent_sequence = 0x0103 | FP_GTPU_PATH_WAITING;
      advance (n, 0.0025);
      s = receive (n, outer, response, length);
      CHECK (!path->answered_ns, "another request's answer was taken");
      gtpu_release (&s);
      path->sent_sequence = 0x0102 | FP_GTPU_PATH_WAITING;
      response[13] = 5;
      for (int twice = 0; twice < 2; twice++)
	{
	  s = receive (n, outer, response, length);
	  CHECK (counter (n, FP_C_GTPU_ECHO_RESPONSES) == answered + 1, "answers counted: once");
	  CHECK (path->answered_ns == n->now && path->rtt_us == 2500 && path->restart == (5 | FP_GTPU_PATH_RESTART), "rtt %u restart %x",
		 path->rtt_us, path->restart);
	  gtpu_release (&s);
	}
    }
  receive_expect (n, 0, "Echo Response without a sequence number", "30 02 0002 00000000 0e00", FP_DROP, FP_DROP_GTPU_SIGNALLING);
  receive_expect (n, 0, "Echo Response without Recovery", "32 02 0004 00000000 0102 0000", FP_CONSUMED, FP_DROP_NONE);
}

static void
test_error_received (node_t *n)
{
  static const struct
  {
    const char *what, *hex;
    u8 action;
  } cases[] = {
    { "peer address first", "32 1a 0010 00000000 0000 00 00 85 0004 c0000232 10 00002001", FP_CONSUMED },
    { "Recovery between", "32 1a 0012 00000000 0000 00 00 10 00002001 0e 00 85 0004 c0000232", FP_CONSUMED },
    { "private extension between", "32 1a 0016 00000000 0000 00 00 10 00002001 ff 0003 000001 85 0004 c0000232", FP_CONSUMED },
    { "UDP port extension header", "36 1a 0014 00000000 0000 00 40 01 0868 00 10 00002001 85 0004 c0000232", FP_CONSUMED },
    { "no elements", "32 1a 0004 00000000 0000 00 00", FP_DROP },
    { "no peer address", "32 1a 0009 00000000 0000 00 00 10 00002001", FP_DROP },
    { "TEID cut", "32 1a 0008 00000000 0000 00 00 10 000020", FP_DROP },
    { "peer address of 5", "32 1a 0011 00000000 0000 00 00 10 00002001 85 0005 c000023200", FP_DROP },
    { "peer address beyond", "32 1a 0010 00000000 0000 00 00 10 00002001 85 0010 c0000232", FP_DROP },
    { "unknown element of fixed length", "32 1a 0012 00000000 0000 00 00 7f 00 10 00002001 85 0004 c0000232", FP_DROP },
    { "no sequence number", "30 1a 000c 00000000 10 00002001 85 0004 c0000232", FP_DROP },
  };
  fp_gtpu_worker_t *g = n->worker[0].gtpu;
  fp_gtpu_event_t event;
  u8 bytes[128], gnb[16];
  put_address (gnb, GNB[0]);
  gshot_t s = receive (n, 0, bytes, golden ("error_indication", bytes));
  CHECK (s.v.action == FP_CONSUMED && counter (n, FP_C_GTPU_ERRORS_RECEIVED) == 1, "Error Indication: %s", fp_drop_name (s.v.reason));
  gtpu_release (&s);
  CHECK (fp_gtpu_take_event (g, &event) && !fp_gtpu_take_event (g, &event), "events");
  CHECK (event.endpoint == 1 && event.teid == 0x2001 && event.family == 4 && !memcmp (event.peer, gnb, 16), "event");
  for (u32 i = 0; i < sizeof (cases) / sizeof (cases[0]); i++)
    receive_expect (n, 0, cases[i].what, cases[i].hex, cases[i].action,
		    cases[i].action == FP_DROP ? FP_DROP_GTPU_SIGNALLING : FP_DROP_NONE);
  while (fp_gtpu_take_event (g, &event))
    CHECK (event.teid == 0x2001, "event of TEID %x", event.teid);
  /* never more than the queue takes, and none is lost unseen */
  u32 taken = 0;
  for (u32 i = 0; i < FP_GTPU_EVENTS + 9; i++)
    {
      s = receive (n, 0, bytes, golden ("error_indication", bytes));
      gtpu_release (&s);
    }
  while (fp_gtpu_take_event (g, &event))
    taken++;
  CHECK (taken == FP_GTPU_EVENTS && counter (n, FP_C_GTPU_EVENTS_LOST) == 9, "%u events taken", taken);
}

/* Nothing answers an answer: two nodes cannot keep each other busy. */
static void
test_no_loop (node_t *n)
{
  static const char *const names[] = { "echo_response", "error_indication", "notification", "end_marker" };
  for (u32 i = 0; i < 4; i++)
    {
      u8 bytes[128];
      gshot_t s = receive (n, 0, bytes, golden (names[i], bytes));
      CHECK (s.v.action == FP_CONSUMED, "%s: action %u", names[i], s.v.action);
      gtpu_release (&s);
    }
  for (u32 type = 0; type < 255; type++)
    if (type != 1 && type != 2 && type != 26 && type != 31 && type != 254)
      {
	u8 bytes[16] = { 0x32, (u8) type, 0, 4, 0, 0, 0x10, 1, 0, 1, 0, 0 };
	gshot_t s = receive (n, 0, bytes, 12);
	CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_GTPU_MESSAGE, "message type %u: %s", type,
	       fp_drop_name (s.v.reason));
	gtpu_release (&s);
      }
}

int
main (void)
{
  node_t *n = gtpu_node ();
  test_echo (n);
  test_error_indication (n);
  test_error_indication_withheld (n);
  test_notification (n);
  test_end_marker (n);
  test_path (n);
  test_error_received (n);
  test_no_loop (n);
  gtpu_node_free (n);
  puts ("ok: GTP-U signalling");
  return 0;
}

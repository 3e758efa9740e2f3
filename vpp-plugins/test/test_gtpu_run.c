/* SPDX-License-Identifier: Apache-2.0 */
/* Packets in a row of one tunnel: which are taken as a run, that the general way delivers all of these alike (gtpu_submit compares), that they count alike, and
 * that a run ends with what it was made of. */
#include "gtpu.h"

typedef struct
{
  const tunnel_t *tunnel;
  int psc; /* enum fp_gtpu_psc, of the packet */
  int six; /* inside */
  int summed; /* outer UDP checksum, verified by the host */
} form_t;

static u32
make (const form_t *f, u8 *out)
{
  u8 inner[256], message[300];
  char ue[64];
  u32 n, length;

  snprintf (ue, sizeof (ue), "%s%s", f->tunnel->ue[f->six], f->six ? "1" : "");
  spec_t s = { .src = ue, .dst = OUTSIDE[f->six], .sport = 1, .dport = 2, .proto = 17, .payload = 30 };
  n = build (inner, &s);
  length = pdu (message, f->tunnel->teid, inner, n);
  if (f->psc)
    {
      memmove (message + 16, message + 8, n);
      memcpy (message + 8, (u8[]){ 0, 0, 0, 0x85, 1, (u8) ((f->psc - 1) << 4), 9, 0 }, 8);
      message[0] = 0x34;
      put16 (message + 2, n + 8);
      length += 8;
    }
  length = wrap (out, GNB[0], LOCAL[0], 2152, 2152, message, length);
  if (!f->summed)
    put16 (out + 26, 0);
  return length;
}

/* 2: of a run; 1: delivered otherwise; 0: not delivered. */
static int
received (node_t *n, const form_t *f, const u8 *bytes, u32 length)
{
  gshot_t s;
  int what;

  memset (&s.p, 0, sizeof (s.p));
  s.p.flags = FP_PACKET_IP_VALID;
  s.p.csum = f->summed ? FP_CSUM_VALID : FP_CSUM_NONE;
  gtpu_submit (n, 0, DECAP, bytes, length, HEADROOM, length, &s);
  what = s.run ? 2 : s.v.action == FP_FORWARD && s.v.way == FP_WAY_GTPU;
  gtpu_release (&s);
  return what;
}

/* Bits that differ between packets of a flow: outer service, id, don't-fragment, TTL, checksum, source port; sequence and N-PDU numbers, QFI and
 * flags of a container; inside all that nobody checks. */
static int
may_differ (const form_t *f, u32 at, u32 bit)
{
  const u32 payload = f->psc ? 44 : 36, k = at - payload;

  if (at == 1)
    return bit != 0;
  if (at == 6)
    return bit == 6 || bit == 7;
  if (at == 4 || at == 5 || at == 8 || at == 10 || at == 11 || at == 20 || at == 21)
    return 1;
  if (f->psc && at >= 36 && at < 44)
    return at < 39 || at == 42 || (at == 41 && bit < 4);
  if (at < payload)
    return 0;
  if (f->six)
    return k == 1 || k == 2 || k == 3 || k == 6 || (k == 7 && bit < 6) || k >= 16;
  return k == 1 || (k >= 4 && k < 8) || (k == 8 && bit < 6) || (k >= 9 && k < 12) || k >= 16;
}

static void
test_form (const form_t *f)
{
  node_t *n = gtpu_node ();
  u8 bytes[400];
  const u32 length = make (f, bytes), optional = f->psc ? 8 : 0;
  u32 taken = 0;

  set_switches (n, 4, 1, 1);
  CHECK (received (n, f, bytes, length) == 1 && received (n, f, bytes, length) == 2, "the second is of the run");
  for (u32 at = 0; at < 36 + optional + (f->six ? 44 : 24); at++)
    for (u32 bit = 0; bit < 8; bit++)
      {
	int what;

	bytes[at] ^= (u8) (1u << bit);
	what = received (n, f, bytes, length);
	taken += what == 2;
	CHECK (!may_differ (f, at, bit) || what == 2, "byte %u bit %u", at, bit);
	bytes[at] ^= (u8) (1u << bit);
	received (n, f, bytes, length);
	CHECK (received (n, f, bytes, length) == 2, "after byte %u", at);
      }
  CHECK (taken > 100, "%u", taken);
  for (u32 less = 1; less < length; less++)
    CHECK (received (n, f, bytes, length - less) != 2, "%u bytes are missing", less);
  received (n, f, bytes, length);
  memset (bytes + length, 0, 20);
  CHECK (received (n, f, bytes, length + 20) == 2, "padding of the link");
  gtpu_node_free (n);
}

/* One of another kind among four. */
static void
test_groups (void)
{
  const form_t f = { &TUNNEL[T_PLAIN], 0, 0, 0 };
  node_t *n = gtpu_node ();
  static u8 block[4][400];
  const u8 *h[4] = { block[0], block[1], block[2], block[3] };
  u32 length[4], total[4];
  fp_gtpu_run_t run;

  set_switches (n, 4, 1, 1);
  for (u32 i = 0; i < 4; i++)
    length[i] = make (&f, block[i]);
  received (n, &f, block[0], length[0]);
  CHECK (fp_gtpu_run_open (&n->worker[0], &run), "a run");
  for (u32 odd = 0; odd < 5; odd++)
    {
      static const u32 places[] = { 0, 9, 12, 16, 23, 26, 29, 35, 36, 48, 51, 2, 24, 30, 38 };

      for (u32 k = 0; odd < 4 && k < sizeof (places) / sizeof (places[0]); k++)
	{
	  block[odd][places[k]] ^= 0x80;
	  CHECK (!fp_gtpu_run_takes (&run, h, length, 4, 0, 0, total), "place %u of packet %u", places[k], odd);
	  block[odd][places[k]] ^= 0x80;
	}
    }
  length[2] -= 1;
  CHECK (!fp_gtpu_run_takes (&run, h, length, 4, 0, 0, total), "short");
  length[2] += 1;
  CHECK (fp_gtpu_run_takes (&run, h, length, 4, 0, 0, total) && total[3] == length[3] - 36, "all");
  gtpu_node_free (n);
}

/* Every counter that the general way raises, and those of the tunnel. */
static void
test_counts (const form_t *f, u32 loop, int prefetch)
{
  node_t *a = gtpu_node (), *b = gtpu_node ();
  static u8 blocks[8][400];
  fp_packet_t p[8];
  fp_verdict_t v[8];
  fp_gtpu_run_t run;
  u64 bytes = 0;

  set_switches (a, loop, prefetch, 1);
  set_switches (b, loop, prefetch, 1);
  for (int who = 0; who < 2; who++)
    {
      u32 length = make (f, blocks[0]);
      received (who ? b : a, f, blocks[0], length);
    }
  for (u32 i = 0; i < 8; i++)
    {
      u32 length = make (f, blocks[i]);
      p[i] = (fp_packet_t){ .l3 = blocks[i], .contiguous = length, .length = length, .room = 400, .flags = FP_PACKET_IP_VALID,
			    .csum = f->summed ? FP_CSUM_VALID : FP_CSUM_NONE };
      bytes += length - (f->psc ? 44 : 36);
    }
  fp_gtpu_decap_vector (&a->worker[0], p, v, 8);
  CHECK (fp_gtpu_run_open (&b->worker[0], &run), "a run");
  fp_gtpu_run_count (&b->worker[0], &run, 8, bytes);
  for (u32 c = 0; c < FP_COUNTERS; c++)
    CHECK (counter (a, c) == counter (b, c), "%s: %lu, %lu of a run", fp_counter_name (c), (unsigned long) counter (a, c),
	   (unsigned long) counter (b, c));
  CHECK (!memcmp (fp_tunnel_counters (&a->worker[0], run.slot), fp_tunnel_counters (&b->worker[0], run.slot), sizeof (fp_tunnel_counters_t)) &&
	   fp_tunnel_counters (&b->worker[0], run.slot)->rx_packets == 9,
	 "the tunnel's counters");
  gtpu_node_free (a);
  gtpu_node_free (b);
}

static void
test_ends (void)
{
  const form_t f = { &TUNNEL[T_PLAIN], 0, 0, 0 }, other = { &TUNNEL[T_OPEN], 0, 0, 0 };
  node_t *n = gtpu_node ();
  fp_wire_gtpu_tunnel_t r = tunnel_record (f.tunnel, GNB2[0]);
  fp_wire_gtpu_ue_t u = { .family = 4, .length = 32, .endpoint = 1, .local_teid = f.tunnel->teid };
  fp_gtpu_run_t run;
  u8 bytes[400];
  const u32 length = make (&f, bytes);

  set_switches (n, 4, 1, 1);
  CHECK (!fp_gtpu_run_open (&n->worker[0], &run) && !fp_gtpu_run_begins (&n->worker[0], 0), "nothing has come");
  received (n, &f, bytes, length);
  CHECK (received (n, &f, bytes, length) == 2, "a run");
  upsert (n, FP_TABLE_GTPU_TUNNEL, &r);
  commit (n);
  CHECK (!fp_gtpu_run_open (&n->worker[0], &run), "another peer");
  for (int i = 0; i < 3; i++)
    CHECK (received (n, &f, bytes, length) == 1, "the old peer's packets are delivered, and counted as unexpected");
  CHECK (counter (n, FP_C_GTPU_UNEXPECTED_PEER) == 3, "unexpected");
  r = tunnel_record (f.tunnel, GNB[0]);
  upsert (n, FP_TABLE_GTPU_TUNNEL, &r);
  commit (n);
  CHECK (received (n, &f, bytes, length) == 1 && received (n, &f, bytes, length) == 2, "back");
  put_address (u.address, f.tunnel->ue[0]);
  erase (n, FP_TABLE_GTPU_UE, &u);
  commit (n);
  CHECK (received (n, &f, bytes, length) == 0 && received (n, &f, bytes, length) == 0, "the user has gone");
  upsert (n, FP_TABLE_GTPU_UE, &u);
  commit (n);
  CHECK (received (n, &f, bytes, length) == 1 && received (n, &f, bytes, length) == 2, "and come again");
  {
    u8 second[400];
    const u32 size = make (&other, second);
    CHECK (received (n, &other, second, size) == 1 && received (n, &f, bytes, length) == 1 && received (n, &f, bytes, length) == 2, "turns");
  }
  set_switches (n, 4, 1, 0);
  CHECK (received (n, &f, bytes, length) == 1 && received (n, &f, bytes, length) == 1, "lookupCache is off");
  gtpu_node_free (n);
}

int
main (void)
{
  static const u8 tunnels[] = { T_PLAIN, T_HASH, T_PSC, T_OPEN };

  for (u32 t = 0; t < sizeof (tunnels); t++)
    for (int psc = 0; psc < 3; psc++)
      for (int six = 0; six < 2; six++)
	{
	  const form_t f = { &TUNNEL[tunnels[t]], psc, six, (int) (t + (u32) psc) & 1 };
	  test_form (&f);
	  for (u32 loop = 1; loop <= 4; loop *= 2)
	    test_counts (&f, loop, psc & 1);
	}
  test_groups ();
  test_ends ();
  puts ("ok: packets in a row of one tunnel");
  return 0;
}

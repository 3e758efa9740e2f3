/* SPDX-License-Identifier: Apache-2.0 */
/* Fragments: in every order, both ways, across workers; what is refused; what is held and for how long. */
#include "fixture.h"

#define MAX_PARTS 3
#define PAYLOAD	  200

typedef struct
{
  u8 bytes[MAX_PARTS][512];
  u32 length[MAX_PARTS];
  u16 offset[MAX_PARTS], size[MAX_PARTS];
  u8 whole[512]; /* transport header and payload, before */
  u32 total;
} datagram_t;

/* A UDP datagram cut into three: the first two carry 64 bytes, the last one the rest. */
static void
cut (datagram_t *d, const char *src, u16 sport, const char *dst, u16 dport, u16 id)
{
  int six = is6 (src);
  u8 packet[512];
  spec_t spec = { .src = src, .dst = dst, .sport = sport, .dport = dport, .proto = 17, .payload = PAYLOAD };
  u32 length = build (packet, &spec), header = six ? 40 : 20;
  d->total = length - header;
  memcpy (d->whole, packet + header, d->total);
  for (u32 i = 0; i < MAX_PARTS; i++)
    {
      d->offset[i] = (u16) (64 * i);
      d->size[i] = (u16) (i < 2 ? 64 : d->total - 128);
      /* built as a fragment without header of its own, then filled with the datagram's bytes */
      spec_t part = { .src = src, .dst = dst, .proto = 17, .id = id, .offset = (u16) (i ? 64 * i : 8), .more = i < 2,
		      .payload = d->size[i], .body = d->whole + 64 * i };
      d->length[i] = build (d->bytes[i], &part);
      if (i == 0) /* the builder writes a transport header at offset 0: make it a first fragment here */
	{
	  if (six)
	    put16 (d->bytes[0] + 42, 1);
	  else
	    {
	      put16 (d->bytes[0] + 6, 0x2000);
	      put16 (d->bytes[0] + 10, 0);
	      put16 (d->bytes[0] + 10, ~ref_sum (d->bytes[0], 20, 0) & 0xffff);
	    }
	}
    }
}

/* Send the parts in an order, part k on worker (workers >> k) & 1; held ones again when they are named. Checks the datagram that comes
 * out: addresses of every part, and the transport checksum over all of it. */
static void
pass_through (node_t *n, const datagram_t *d, const u8 order[MAX_PARTS], u32 workers, const char *src, const char *dst)
{
  u8 out[512], header[40];
  u32 done = 0, six = d->bytes[0][0] >> 4 == 6, l4 = six ? 48 : 20;
  struct
  {
    u8 part, worker;
  } queue[16];
  u32 head = 0, tail = 0;
  for (u32 i = 0; i < MAX_PARTS; i++)
    queue[tail].part = order[i], queue[tail++].worker = (workers >> order[i]) & 1;
  while (head < tail)
    {
      u8 k = queue[head].part, on = queue[head].worker;
      shot_t s = { 0 };
      head++;
      s.p.cookie = 100 + k;
      submit (n, on, d->bytes[k], d->length[k], d->length[k], &s);
      CHECK (s.v.action == FP_FORWARD || (s.v.action == FP_HOLD && k), "part %u: action %u reason %s", k, s.v.action,
	     fp_drop_name (s.v.reason));
      if (s.v.action == FP_FORWARD)
	{
	  char a[64], b[64];
	  inet_ntop (six ? AF_INET6 : AF_INET, s.block + (six ? 8 : 12), a, sizeof (a));
	  inet_ntop (six ? AF_INET6 : AF_INET, s.block + (six ? 24 : 16), b, sizeof (b));
	  CHECK (strcmp (a, src) == 0 && strcmp (b, dst) == 0, "part %u goes %s > %s, want %s > %s", k, a, b, src, dst);
	  if (!six)
	    CHECK (ref_sum (s.block, 20, 0) == 0xffff, "part %u: header checksum", k);
	  CHECK (s.block[six ? 7 : 8] == 63, "part %u: TTL %u", k, s.block[six ? 7 : 8]);
	  memcpy (out + d->offset[k], s.block + l4, d->size[k]);
	  memcpy (header, s.block, 40);
	  done++;
	}
      release (&s);
      for (u8 w = 0; w < 2; w++)
	{
	  u64 cookies[8];
	  u8 expired[8];
	  u32 ready = fp_fragments_ready (&n->worker[w], cookies, expired, 8);
	  for (u32 i = 0; i < ready; i++)
	    {
	      CHECK (!expired[i], "part %lu expired", cookies[i] - 100);
	      queue[tail].part = (u8) (cookies[i] - 100), queue[tail++].worker = w;
	    }
	}
    }
  CHECK (done == MAX_PARTS, "%u of %u parts came out", done, MAX_PARTS);
  header[six ? 6 : 9] = 17;
  CHECK (ref_sum (out, d->total, ref_pseudo (header, 17, d->total)) == 0xffff, "UDP checksum of the datagram");
  CHECK (memcmp (out + 8, d->whole + 8, PAYLOAD) == 0, "payload changed");
}

static const u8 ORDERS[6][MAX_PARTS] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

static void
test_orders (int six)
{
  node_t *n = node_new ();
  u16 id = 1;
  for (u32 o = 0; o < 6; o++)
    for (u32 workers = 0; workers < 8; workers++)
      {
	datagram_t d;
	cut (&d, POD[six], 4000, DNS[six], 53, id++);
	pass_through (n, &d, ORDERS[o], workers, POD[six], EP1[six]);
	cut (&d, EP1[six], 5353, POD[six], 4000, id++);
	pass_through (n, &d, ORDERS[o], workers, DNS[six], POD[six]);
	cut (&d, POD[six], 4000, OUTSIDE[six], 53, id++); /* none of ours: untouched, TTL too */
	for (u32 k = 0; k < MAX_PARTS; k++)
	  {
	    shot_t s = { 0 };
	    submit (n, 0, d.bytes[k], d.length[k], d.length[k], &s);
	    CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_PASS && memcmp (s.before, s.block, s.before_length) == 0,
		   "foreign part %u: action %u", k, s.v.action);
	    release (&s);
	  }
	advance (n, 0.01);
      }
  CHECK (counter (n, FP_C_SESSION_NEW) == 1, "sessions %lu", counter (n, FP_C_SESSION_NEW));
  node_free (n);
}

/* A masqueraded flow: the ports that later fragments do not carry were changed in the first. */
static void
test_masqueraded (int six)
{
  node_t *n = node_new ();
  datagram_t d;
  cut (&d, OUTSIDE[six], 4000, DNS[six], 53, 77);
  pass_through (n, &d, ORDERS[5], 0, NODE[six], EP1[six]);
  node_free (n);
}

static void
test_first_refused (int six)
{
  node_t *n = node_new ();
  const char *const dst[] = { EMPTY[six], UNALLOCATED[six] };
  for (u32 i = 0; i < 2; i++)
    {
      datagram_t d;
      cut (&d, POD[six], 4000, dst[i], 80, (u16) (10 + i));
      for (u32 k = 0; k < MAX_PARTS; k++)
	{
	  shot_t s = { 0 };
	  submit (n, 0, d.bytes[k], d.length[k], 600, &s);
	  CHECK (k ? s.v.action == FP_DROP && s.v.reason == FP_DROP_FRAGMENT_DROPPED
		   : s.v.action == (i ? FP_DROP : FP_REPLY) && s.v.reason == (i ? FP_DROP_UNALLOCATED : FP_DROP_NO_ENDPOINT),
		 "part %u: action %u reason %s", k, s.v.action, fp_drop_name (s.v.reason));
	  release (&s);
	}
    }
  node_free (n);
}

static void
test_held (int six)
{
  node_t *n = node_new ();
  fp_worker_t *w = &n->worker[0];
  u64 cookies[FP_HOLD_MAX];
  u8 expired[FP_HOLD_MAX];
  u32 named = 0;
  for (u32 i = 0; i < FP_HOLD_MAX + 10; i++)
    {
      spec_t spec = { .src = POD[six], .dst = DNS[six], .proto = 17, .id = (u16) i, .offset = 64, .payload = 24 };
      u8 bytes[256];
      shot_t s = { 0 };
      u32 length = build (bytes, &spec);
      s.p.cookie = i;
      submit (n, 0, bytes, length, length, &s);
      CHECK (i < FP_HOLD_MAX ? s.v.action == FP_HOLD : s.v.action == FP_DROP && s.v.reason == FP_DROP_FRAGMENT_HOLD_FULL,
	     "fragment %u: action %u", i, s.v.action);
      release (&s);
    }
  advance (n, 0.199);
  CHECK (fp_fragments_ready (w, cookies, expired, FP_HOLD_MAX) == 0, "let go too early");
  advance (n, 0.002);
  u8 seen[FP_HOLD_MAX] = { 0 };
  for (u32 calls = 0; named < FP_HOLD_MAX; calls++)
    {
      u32 k = fp_fragments_ready (w, cookies, expired, 50);
      CHECK (k > 0 && calls < 200, "only %u of %u expired", named, FP_HOLD_MAX);
      for (u32 i = 0; i < k; i++)
	{
	  CHECK (expired[i] && cookies[i] < FP_HOLD_MAX && !seen[cookies[i]]++, "cookie %lu", cookies[i]);
	  named++;
	}
    }
  CHECK (w->counters->drop[FP_DROP_FRAGMENT_EXPIRED] == FP_HOLD_MAX, "counted %lu", w->counters->drop[FP_DROP_FRAGMENT_EXPIRED]);
  CHECK (fp_fragments_ready (w, cookies, expired, 8) == 0, "named twice");
  node_free (n);
}

/* What the first said holds for two seconds; without a place to hold, a fragment ahead of its first is dropped. */
static void
test_forgotten (int six)
{
  node_t *n = node_new ();
  datagram_t d;
  shot_t s = { 0 };
  cut (&d, POD[six], 4000, DNS[six], 53, 5);
  submit (n, 0, d.bytes[0], d.length[0], d.length[0], &s);
  release (&s);
  advance (n, 2.2);
  s = (shot_t){ 0 };
  submit (n, 0, d.bytes[1], d.length[1], d.length[1], &s);
  CHECK (s.v.action == FP_HOLD, "after 2.2 s: action %u", s.v.action);
  release (&s);
  free (n->worker[0].holds);
  n->worker[0].holds = NULL;
  s = (shot_t){ 0 };
  submit (n, 0, d.bytes[1], d.length[1], d.length[1], &s);
  CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_FRAGMENT_HOLD_FULL, "without holds: action %u", s.v.action);
  release (&s);
  u64 cookie;
  u8 expired;
  CHECK (fp_fragments_ready (&n->worker[0], &cookie, &expired, 1) == 0, "without holds something is ready");
  node_free (n);
}

/* RFC 1858, 3128, 5722, 7112: what hides or overwrites the transport header, and lengths that cannot be. */
static void
test_refused (int six)
{
  node_t *n = node_new ();
  const spec_t bad[] = {
    { .src = POD[six], .dst = WEB[six], .proto = 6, .offset = 8, .payload = 24, .id = 1 },
    { .src = POD[six], .dst = WEB[six], .proto = 6, .offset = 16, .payload = 24, .id = 2 },
    { .src = POD[six], .dst = WEB[six], .proto = 17, .offset = 64, .more = 1, .payload = 23, .id = 3 },
    { .src = POD[six], .dst = WEB[six], .proto = 17, .offset = 65528, .payload = 16, .id = 4 },
    { .src = POD[six], .dst = WEB[six], .proto = 17, .offset = 64, .payload = 0, .id = 5 },
  };
  for (u32 i = 0; i < sizeof (bad) / sizeof (bad[0]); i++)
    expect (n, &bad[i], FP_DROP, FP_DROP_FRAGMENT_BAD, "");
  for (u32 keep = 8; keep < 20; keep += 8) /* a first fragment with half a TCP header */
    {
      spec_t spec = { .src = POD[six], .dst = WEB[six], .sport = 1, .dport = 80, .proto = 6, .tcp_flags = 2, .more = 1, .id = 9,
		      .payload = 4 };
      u8 bytes[256];
      shot_t s = { 0 };
      u32 l4 = six ? 48 : 20;
      build (bytes, &spec);
      if (six)
	put16 (bytes + 4, 8 + keep);
      else
	{
	  put16 (bytes + 2, l4 + keep);
	  put16 (bytes + 10, 0);
	  put16 (bytes + 10, ~ref_sum (bytes, 20, 0) & 0xffff);
	}
      submit (n, 0, bytes, l4 + keep, l4 + keep, &s);
      CHECK (s.v.action == FP_DROP && s.v.reason == FP_DROP_FRAGMENT_BAD, "tiny first fragment: action %u reason %s", s.v.action,
	     fp_drop_name (s.v.reason));
      release (&s);
    }
  spec_t good = { .src = POD[six], .dst = WEB[six], .proto = 6, .offset = 24, .payload = 24, .id = 8 };
  expect (n, &good, FP_HOLD, 0, "");
  node_free (n);
}

/* RFC 6946: an atomic fragment is a whole packet. */
static void
test_atomic (void)
{
  node_t *n = node_new ();
  spec_t spec = { .src = POD[1], .dst = DNS[1], .sport = 9, .dport = 53, .proto = 17, .payload = 24, .more = 1, .id = 9 };
  u8 bytes[256];
  shot_t s = { 0 };
  u32 length = build (bytes, &spec);
  put16 (bytes + 42, 0);
  submit (n, 0, bytes, length, length, &s);
  CHECK (s.v.action == FP_FORWARD && s.v.way == FP_WAY_FORWARD, "action %u", s.v.action);
  check_checksums ("atomic fragment", s.block, s.p.length, 0);
  release (&s);
  node_free (n);
}

int
main (void)
{
  test_atomic ();
  for (int six = 0; six < 2; six++)
    {
      test_orders (six);
      test_masqueraded (six);
      test_first_refused (six);
      test_held (six);
      test_forgotten (six);
      test_refused (six);
    }
  puts ("ok: fragments");
  return 0;
}

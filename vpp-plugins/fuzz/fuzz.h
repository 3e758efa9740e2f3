/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernels' fuzz targets share: a node that lives as long as the process, input bytes, the checks on each packet. */
#ifndef FUZZ_H
#define FUZZ_H

#include "../test/fixture.h"

typedef struct
{
  const uint8_t *at;
  size_t left;
} input_t;

static inline u8
take (input_t *in)
{
  if (!in->left)
    return 0;
  in->left--;
  return *in->at++;
}

static inline node_t *
fuzz_node (void)
{
  static node_t *n;
  if (!n)
    n = node_new ();
  return n;
}

static inline void
pass_time (u8 how)
{
  node_t *n = fuzz_node ();
  u64 cookies[16];
  u8 expired[16];
  advance (n, how < 128 ? how / 100.0 : (how - 127) * 2.0);
  for (int i = 0; i < 2; i++)
    {
      fp_sessions_age (&n->worker[i], 512);
      fp_fragments_ready (&n->worker[i], cookies, expired, 16);
    }
}

/* Whether every checksum that can be recomputed is right; only for a packet that the kernel has accepted. */
static inline int
checksums_right (const u8 *h, u32 contiguous)
{
  u8 proto;
  int fragment, later, field;
  u32 total = h[0] >> 4 == 6 ? 40 + get16 (h + 4) : get16 (h + 2), l4, n;
  if (h[0] >> 4 == 4 && ref_sum (h, (h[0] & 15) * 4u, 0) != 0xffff)
    return 0;
  if (total > contiguous)
    return 1;
  l4 = find_l4 (h, &proto, &fragment, &later);
  n = total - l4;
  field = csum_field (proto);
  if (fragment || field < 0 || proto == (h[0] >> 4 == 6 ? 1 : 58)) /* ICMP of the other family has no rule */
    return 1;
  if (proto == 17 && get16 (h + l4 + 6) == 0)
    return 1;
  if (proto == 17 && get16 (h + l4 + 4) != n)
    return 1;
  return ref_sum (h + l4, n, proto == 1 ? 0 : ref_pseudo (h, proto, n)) == 0xffff;
}

/* Through a worker, in a block of exactly p->room bytes. */
static inline void
run_packet (fp_packet_t *p, const u8 *bytes, u32 length, int worker)
{
  node_t *n = fuzz_node ();
  fp_worker_t *w = &n->worker[worker];
  fp_verdict_t v = { 0xff, 0xff, 0xff };
  u64 seen = w->counters->counter[FP_C_PACKETS], counted = accounted (w->counters);
  u8 *block = malloc (p->room ? p->room : 1);
  memcpy (block, bytes, length);
  p->l3 = block;
  fp_worker_quiescent (w, n->now);
  fp_service_vector (w, p, &v, 1);
  CHECK (w->counters->counter[FP_C_PACKETS] == seen + 1 && accounted (w->counters) == counted + 1, "packet not counted once");
  CHECK (v.action <= FP_REPLY, "verdict %u", v.action);
  CHECK ((v.action == FP_DROP || v.action == FP_REPLY) == (v.reason != 0) && v.reason < FP_DROPS, "action %u, reason %u", v.action,
	 v.reason);
  if (v.action == FP_REPLY)
    {
      CHECK (p->length == p->contiguous && p->length <= p->room, "answer of %u bytes in %u", p->length, p->room);
      CHECK (checksums_right (block, p->length), "checksum of an answer");
    }
  else if (v.action == FP_FORWARD && v.way == FP_WAY_PASS)
    CHECK (memcmp (block, bytes, length) == 0, "passed packet was changed");
  else if (v.action == FP_FORWARD && p->csum != FP_CSUM_PARTIAL && checksums_right (bytes, length))
    CHECK (checksums_right (block, length), "a right checksum became wrong");
  free (block);
}

#endif /* FUZZ_H */

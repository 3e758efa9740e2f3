/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U tables with one thread: every result code, lookups by range, by hash and by prefix, changes in place, End Markers, counters, digests,
 * mending of altered records, full tables. */
#include "tunnels.h"

static fp_region_t r;

static u32
dump (u32 table, u8 *out)
{
  u64 cursor = 0;
  u32 n = 0;
  do
    {
      int got = fp_control_dump (&r, table, &cursor, out + (size_t) n * FP_DUMP_ENTRY (table), 3);
      CHECK (got >= 0, "dump");
      n += (u32) got;
    }
  while (cursor);
  return n;
}

/* The table holds exactly this one record. */
static void
check_only (u32 table, const void *record)
{
  u8 out[64 * 64];
  fp_wire_t back;
  CHECK (dump (table, out) == 1, "table %u: one entry", table);
  CHECK (!memcmp (out, record, fp_wire_key_size (table)) &&
	   fp_load64 (out + fp_wire_key_size (table)) == fp_xxh64 (record, fp_wire_size (table), 0),
	 "table %u: digest of the record", table);
  CHECK (fp_control_fetch (&r, table, record, &back) == 0 && !memcmp (back.bytes, record, fp_wire_size (table)), "table %u: as sent", table);
}

static void
test_refusals (void)
{
  fp_capacity_t c = tunnel_capacity (64);
  open_region (&r, NULL, &c, 1);
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4), e6 = wire_gtpu_endpoint (2, 6), bad = e;
  fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, 1), p6 = wire_gtpu_peer (1, 6, 1);
  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 100, 1, 200), wrong;
  fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 100, 0x0a3c0001, 32), v;

  CHECK (!fp_gtpu_any (&r), "none");
  CHECK (upsert (&r, FP_TABLE_GTPU_PEER, &p) == -ENOENT && upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) == -ENOENT &&
	   upsert (&r, FP_TABLE_GTPU_UE, &u) == -ENOENT,
	 "nothing to refer to");
  bad.id = 0;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -EINVAL, "id");
  bad = e, bad.address[0] = 239;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -EINVAL, "multicast");
  bad = e, bad.dscp = 64;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -EINVAL, "dscp");
  bad = e, bad.port_low = 2, bad.port_high = 1;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -EINVAL, "ports");
  bad = e, bad.teid_count = 1;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -EINVAL, "a range from 0");
  bad = e, bad.teid_base = 0xffffffff, bad.teid_count = 2;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -EINVAL, "a range beyond the end");
  bad = e, bad.teid_base = 1, bad.teid_count = FP_GTPU_TEIDS_MAX + 1;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -E2BIG, "a range too large");
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e) && fp_gtpu_any (&r) == 1, "endpoint");
  bad = e, bad.address[3] = 77;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -EEXIST, "id of another");
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e6) && fp_gtpu_any (&r) == 2, "second");
  CHECK (fp_gtpu_endpoint_find (&r, 0, 0, e.address)->id == 1 && fp_gtpu_endpoint_find (&r, 0, 1, e6.address)->id == 2 &&
	   !fp_gtpu_endpoint_find (&r, 1, 0, e.address) && !fp_gtpu_endpoint_find (&r, 0, 0, bad.address),
	 "found by VRF, family, address");
  CHECK (!delete (&r, FP_TABLE_GTPU_ENDPOINT, &e6) && fp_gtpu_any (&r) == 1 && !fp_gtpu_endpoint_find (&r, 0, 1, e6.address), "deleted");

  CHECK (upsert (&r, FP_TABLE_GTPU_PEER, &p6) == -EINVAL, "peer of another family");
  p.echo_interval_ms = 60000, p.n3 = 0;
  CHECK (upsert (&r, FP_TABLE_GTPU_PEER, &p) == -EINVAL, "Echo without tries");
  p.n3 = 3;
  CHECK (upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) == -ENOENT, "peer missing");
  CHECK (!upsert (&r, FP_TABLE_GTPU_PEER, &p) && fp_control_gtpu_peer (&r, 0)->echo_interval_ms == 60000 && !fp_control_gtpu_peer (&r, 1), "peer");
  for (u32 i = 0; i < 9; i++)
    {
      wrong = t;
      *(i == 0 ? &wrong.local_teid : i == 1 ? &wrong.remote_teid : &wrong.pad) = i == 2 ? 1 : i < 2 ? 0 : wrong.pad;
      if (i >= 3)
	*(i == 3 ? &wrong.qfi : i == 4 ? &wrong.payload : i == 5 ? &wrong.psc : i == 6 ? &wrong.flags : i == 7 ? &wrong.pad2[2] : &wrong.family) =
	  i == 8 ? 6 : 64;
      CHECK (upsert (&r, FP_TABLE_GTPU_TUNNEL, &wrong) == -EINVAL, "wrong field %u", i);
    }
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t), "tunnel");

  v = u, v.inner_vrf = 1;
  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &v) == -EINVAL, "another VRF than the tunnel's");
  v = u, v.family = 0, v.length = 12;
  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &v) == -EINVAL, "VLAN 2620 (the bytes) is there, but the rest is not zero");
  memset (v.address, 0, 16), v.address[1] = 5;
  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &v) == -EINVAL, "VLAN of an IP tunnel");
  v = u, v.length = 24;
  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &v) == -EINVAL, "bits beyond the length");
  v = u, v.length = 33;
  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &v) == -EINVAL, "length");
  v = u, v.local_teid = 101;
  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &v) == -ENOENT, "tunnel missing");
  CHECK (!upsert (&r, FP_TABLE_GTPU_UE, &u) && !upsert (&r, FP_TABLE_GTPU_UE, &u), "prefix");
  wrong = wire_gtpu_tunnel (1, 4, 101, 1, 201);
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &wrong) && upsert (&r, FP_TABLE_GTPU_UE, &v) == -EEXIST, "prefix of another tunnel");
  CHECK (!delete (&r, FP_TABLE_GTPU_TUNNEL, &wrong), "tunnel without prefixes");
  for (u8 length = 31; length > 28; length--)
    {
      v = wire_gtpu_ue (1, 100, 0x0a3d0000, length);
      CHECK (!upsert (&r, FP_TABLE_GTPU_UE, &v), "length %u", length);
    }
  v = wire_gtpu_ue (1, 100, 0x0a3d0000, 28);
  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &v) == -E2BIG, "a fifth length");
  v.length = 29;
  CHECK (!delete (&r, FP_TABLE_GTPU_UE, &v), "one less");
  v.length = 28;
  CHECK (!upsert (&r, FP_TABLE_GTPU_UE, &v), "again four");

  wrong = t, wrong.inner_vrf = 1;
  CHECK (upsert (&r, FP_TABLE_GTPU_TUNNEL, &wrong) == -EBUSY, "VRF while prefixes are there");
  bad = e, bad.id = 7;
  CHECK (upsert (&r, FP_TABLE_GTPU_ENDPOINT, &bad) == -EBUSY, "id while it is named");
  CHECK (delete (&r, FP_TABLE_GTPU_ENDPOINT, &e) == -EBUSY && delete (&r, FP_TABLE_GTPU_PEER, &p) == -EBUSY &&
	   delete (&r, FP_TABLE_GTPU_TUNNEL, &t) == -EBUSY,
	 "all are named");
  for (u8 length = 28; length <= 32; length++)
    {
      v = wire_gtpu_ue (1, 100, length == 32 ? 0x0a3c0001 : 0x0a3d0000, length);
      CHECK (!delete (&r, FP_TABLE_GTPU_UE, &v) && !delete (&r, FP_TABLE_GTPU_UE, &v), "delete %u twice", length);
    }
  CHECK (delete (&r, FP_TABLE_GTPU_PEER, &p) == -EBUSY && !delete (&r, FP_TABLE_GTPU_TUNNEL, &t) && !delete (&r, FP_TABLE_GTPU_PEER, &p) &&
	   !delete (&r, FP_TABLE_GTPU_ENDPOINT, &e),
	 "in reverse order");
  CHECK (fp_control_poll (&r) == 0 && r.controlled[FP_CONTROLLED_ENCAP].used == 0 && !fp_gtpu_any (&r) && !fp_gtpu_snapshot (&r)->groups, "nothing left");
  fp_region_close (&r, 1);
}

static void
test_lookups (void)
{
  fp_capacity_t c = tunnel_capacity (512);
  fp_worker_t w;
  open_region (&r, NULL, &c, 1);
  fp_worker_init (&w, &r, 0, 1);
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4);
  fp_wire_gtpu_peer_t p[2] = { wire_gtpu_peer (1, 4, 1), wire_gtpu_peer (1, 4, 2) };
  e.teid_base = 1000, e.teid_count = 100;
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e) && !upsert (&r, FP_TABLE_GTPU_PEER, &p[0]) && !upsert (&r, FP_TABLE_GTPU_PEER, &p[1]), "peers");
  for (u32 i = 0; i < 300; i++)
    {
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 900 + i, 1 + i % 2, 5000 + i);
      fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 900 + i, 0x0a3c0000 + i, 32), v = wire_gtpu_ue (1, 900 + i, 0x0a400000 + i * 256, 24);
      CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && !upsert (&r, FP_TABLE_GTPU_UE, &u) && !upsert (&r, FP_TABLE_GTPU_UE, &v), "tunnel %u", i);
    }
  for (u32 round = 0; round < 4; round++)
    {
      for (u32 i = 0; i < 300; i++)
	{
	  u32 slot = find_teid (&r, 1, 900 + i);
	  CHECK (slot != FP_NONE && fp_tunnel_at (&r, slot)->teid == 900 + i, "TEID %u in round %u", 900 + i, round);
	  const fp_gtpu_encap_t *x = find_ue4 (&r, 0, 0x0a3c0000 + i), *y = find_ue4 (&r, 0, 0x0a400000 + i * 256 + 255);
	  CHECK (x && x == y && x->tunnel == slot && x->remote_teid == __builtin_bswap32 (5000 + i) && x->remote[3] == 1 + i % 2 &&
		   x == fp_tunnel_encap (&r, fp_tunnel_at (&r, slot)),
		 "prefixes of tunnel %u", i);
	  u8 source[16];
	  ip4 (source, 0x0a3c0000 + i);
	  CHECK (fp_tunnel_owns (&r, slot, fp_tunnel_at (&r, slot), 0, source), "inline source");
	  ip4 (source, 0x0a400000 + i * 256 + 7);
	  CHECK (fp_tunnel_owns (&r, slot, fp_tunnel_at (&r, slot), 0, source), "source in a prefix");
	  ip4 (source, 0x0a400000 + (i + 1) * 256 + 7);
	  CHECK (!fp_tunnel_owns (&r, slot, fp_tunnel_at (&r, slot), 0, source), "another's source");
	  CHECK (fp_tunnel_remote_is (&r, fp_tunnel_at (&r, slot), 0, p[i % 2].address) &&
		   !fp_tunnel_remote_is (&r, fp_tunnel_at (&r, slot), 0, p[1 - i % 2].address),
		 "remote");
	}
      CHECK (find_teid (&r, 1, 899) == FP_NONE && find_teid (&r, 1, 1200) == FP_NONE && find_teid (&r, 1, 0) == FP_NONE &&
	       find_teid (&r, 1, 0xffffffff) == FP_NONE && !find_ue4 (&r, 0, 0x0a3c012c) && !find_ue4 (&r, 1, 0x0a3c0000) && !find_ue4 (&r, 0, 0),
	     "misses");
      /* the same tunnels with another range, or none */
      e.teid_base = round == 0 ? 950 : round == 1 ? 1 : 0, e.teid_count = round == 0 ? 5 : round == 1 ? 100000 : 0;
      CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e), "range");
    }
  /* Longest first, of tunnels of their own. */
  fp_wire_gtpu_ue_t inside = wire_gtpu_ue (1, 901, 0x0a400003, 32);
  CHECK (!upsert (&r, FP_TABLE_GTPU_UE, &inside) && find_ue4 (&r, 0, 0x0a400003)->tunnel == find_teid (&r, 1, 901) &&
	   find_ue4 (&r, 0, 0x0a400004)->tunnel == find_teid (&r, 1, 900) && !delete (&r, FP_TABLE_GTPU_UE, &inside) &&
	   find_ue4 (&r, 0, 0x0a400003)->tunnel == find_teid (&r, 1, 900),
	 "longest first");
  /* counters: of all workers, zero for the next tunnel in the slot */
  u32 slot = find_teid (&r, 1, 900);
  fp_msg_gtpu_counters_t figures[512];
  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 900, 1, 5000);
  fp_counter_add (&fp_tunnel_counters (&w, slot)->rx_packets, 3);
  fp_counter_add (&fp_tunnel_counters (&r.control->worker, slot)->rx_packets, 4);
  fp_tunnel_mark (&r, slot, FP_GTPU_SEEN_END_MARKER);
  CHECK (!fp_control_gtpu_counters (&r, &t, figures) && figures->rx_packets == 7 && figures->seen == FP_GTPU_SEEN_END_MARKER &&
	   figures->endpoint == 1 && figures->local_teid == 900,
	 "figures");
  fp_tunnel_mark_remote (&r, 1, p[0].address, 5000, FP_GTPU_SEEN_ERROR_INDICATION);
  CHECK (fp_tunnel_at (&r, slot)->seen == 3 && fp_tunnel_at (&r, find_teid (&r, 1, 902))->seen == 0, "marked by its remote");
  u64 cursor = 0;
  u32 n = fp_control_gtpu_counters_dump (&r, &cursor, figures, 200);
  CHECK (n == 200 && cursor, "first part");
  n += fp_control_gtpu_counters_dump (&r, &cursor, figures + n, 200);
  CHECK (n == 300 && !cursor, "all");
  inside = wire_gtpu_ue (1, 900, 0x0a3c0000, 32);
  CHECK (!delete (&r, FP_TABLE_GTPU_UE, &inside), "prefix");
  inside = wire_gtpu_ue (1, 900, 0x0a400000, 24);
  u32 generation = fp_tunnel_generation (&r);
  CHECK (!delete (&r, FP_TABLE_GTPU_UE, &inside) && fp_tunnel_generation (&r) != generation && !find_ue4 (&r, 0, 0x0a400003), "cached lookups end");
  generation = fp_tunnel_generation (&r);
  CHECK (!delete (&r, FP_TABLE_GTPU_TUNNEL, &t) && fp_tunnel_generation (&r) != generation, "a tunnel's, too");
  CHECK (find_teid (&r, 1, 900) == FP_NONE && fp_control_gtpu_counters (&r, &t, figures) == -ENOENT, "gone");
  t.local_teid = 77;
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && find_teid (&r, 1, 77) != slot, "its slot waits for the worker");
  fp_worker_quiescent (&w, fp_now_ns ());
  fp_control_poll (&r);
  t.local_teid = 78;
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && find_teid (&r, 1, 78) == slot, "now it is used again");
  CHECK (!fp_control_gtpu_counters (&r, &t, figures) && !figures->rx_packets && !figures->seen, "from zero");
  fp_region_close (&r, 1);
}

static void
test_change (void)
{
  fp_capacity_t c = tunnel_capacity (64);
  fp_worker_t w;
  fp_gtpu_marker_t m;
  open_region (&r, NULL, &c, 1);
  fp_worker_init (&w, &r, 0, 1);
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (3, 6);
  fp_wire_gtpu_peer_t p = wire_gtpu_peer (3, 6, 1), q = wire_gtpu_peer (3, 6, 2);
  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (3, 6, 100, 1, 200);
  fp_wire_gtpu_ue_t u = { .family = 6, .length = 64, .endpoint = 3, .local_teid = 100, .address = { 0xfd, 1, 2, 3, 4, 5, 6, 7 } }, v = u;
  u8 inside[16] = { 0xfd, 1, 2, 3, 4, 5, 6, 7, 9 };
  e.mtu = 1500, e.flags = FP_GTPU_ENTROPY, e.dscp = 46;
  p.mtu = 1400;
  t.psc = FP_GTPU_PSC_DL, t.qfi = 9, t.flags |= FP_GTPU_END_MARKER_ON_REPLACE;
  v.length = 48, memset (v.address + 6, 0, 2), v.address[5] = 99;
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e) && !upsert (&r, FP_TABLE_GTPU_PEER, &p) && !upsert (&r, FP_TABLE_GTPU_PEER, &q) &&
	   !upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && !upsert (&r, FP_TABLE_GTPU_UE, &u) && !upsert (&r, FP_TABLE_GTPU_UE, &v),
	 "tunnel");
  check_only (FP_TABLE_GTPU_ENDPOINT, &e);
  check_only (FP_TABLE_GTPU_TUNNEL, &t);
  const fp_gtpu_encap_t *x = fp_ue_find (&r, 0, 1, inside);
  u64 shape = atomic_load (&x->shape);
  CHECK (x && !memcmp (x->remote, p.address, 16) && !memcmp (x->local, e.address, 16) && x->psc == 1 && x->qfi == 9 && x->family == 6, "record");
  CHECK (fp_encap_mtu (shape) == 1400 && fp_encap_port_low (shape) == 49152 && fp_encap_port_span (shape) == 16384 && fp_encap_dscp (shape) == 46, "shape");
  u32 slot = x->tunnel;
  CHECK (fp_tunnel_owns (&r, slot, fp_tunnel_at (&r, slot), 1, inside) && fp_tunnel_at (&r, slot)->ue6 == fp_load64 (inside), "inline");
  /* endpoint and peer change: the same record says so at once */
  p.mtu = 0, e.dscp = FP_GTPU_DSCP_INNER, e.flags = 0;
  CHECK (!upsert (&r, FP_TABLE_GTPU_PEER, &p) && !upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e) && fp_ue_find (&r, 0, 1, inside) == x, "same record");
  shape = atomic_load (&x->shape);
  CHECK (fp_encap_mtu (shape) == 1500 && fp_encap_port_span (shape) == 0 && fp_encap_dscp (shape) == 255, "new shape");
  check_only (FP_TABLE_GTPU_ENDPOINT, &e);
  check_only (FP_TABLE_GTPU_TUNNEL, &t);
  /* another peer, TEID and QFI */
  u32 generation = fp_tunnel_generation (&r);
  fp_tunnel_mark (&r, slot, FP_GTPU_SEEN_ERROR_INDICATION);
  memcpy (t.remote, q.address, 16), t.remote_teid = 0x01020304, t.qfi = 63;
  CHECK (!fp_control_take_end_marker (&r, &m) && !upsert (&r, FP_TABLE_GTPU_TUNNEL, &t), "changed");
  const fp_gtpu_encap_t *y = fp_ue_find (&r, 0, 1, inside);
  CHECK (y != x && y->tunnel == slot && !memcmp (y->remote, q.address, 16) && y->remote_teid == 0x04030201 && y->qfi == 63 &&
	   y == fp_tunnel_encap (&r, fp_tunnel_at (&r, slot)) && fp_ue_find (&r, 0, 1, v.address) == y,
	 "everything leads to the new record");
  CHECK (x->qfi == 9 && !memcmp (x->remote, p.address, 16), "the old one is whole as long as somebody may read it");
  CHECK (fp_tunnel_generation (&r) != generation && fp_tunnel_at (&r, slot)->seen == 0, "generation, seen");
  CHECK (fp_tunnel_remote_is (&r, fp_tunnel_at (&r, slot), 1, q.address) && !fp_tunnel_remote_is (&r, fp_tunnel_at (&r, slot), 1, p.address), "remote");
  check_only (FP_TABLE_GTPU_TUNNEL, &t);
  CHECK (!fp_control_take_end_marker (&r, &m), "a worker may still send to the old peer");
  fp_worker_quiescent (&w, fp_now_ns ());
  CHECK (fp_control_take_end_marker (&r, &m) && m.remote_teid == 200 && !memcmp (m.remote, p.address, 16) && !memcmp (m.local, e.address, 16) &&
	   m.family == 6 && m.psc == 1 && m.qfi == 9 && m.endpoint == 3 && !fp_control_take_end_marker (&r, &m),
	 "one End Marker to the old peer");
  t.qfi = 1;
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && fp_ue_find (&r, 0, 1, inside)->qfi == 1, "QFI");
  t.flags = 0, t.remote_teid = 9;
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && !fp_tunnel_flags (fp_tunnel_at (&r, slot)->shape), "flags");
  fp_worker_quiescent (&w, fp_now_ns ());
  CHECK (!fp_control_take_end_marker (&r, &m), "no End Marker for a QFI, nor unasked");
  CHECK (!delete (&r, FP_TABLE_GTPU_PEER, &p), "the old peer is free");
  CHECK (delete (&r, FP_TABLE_GTPU_PEER, &q) == -EBUSY, "the new one not");
  fp_worker_quiescent (&w, fp_now_ns ());
  CHECK (r.controlled[FP_CONTROLLED_ENCAP].used == 1 && fp_control_poll (&r) == 0, "old records given back");
  /* Altered by hand: found by the digest, mended by the next upsert. */
  u8 out[64 * 8];
  fp_gtpu_encap_t *raw = fp_encap_at (&r, (u32) fp_tunnel_at (&r, slot)->current);
  raw->header_sum ^= 1;
  CHECK (dump (FP_TABLE_GTPU_TUNNEL, out) == 1 && fp_load64 (out + FP_WIRE_GTPU_TUNNEL_KEY) != fp_xxh64 (&t, sizeof (t), 0), "altered");
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t), "mend");
  check_only (FP_TABLE_GTPU_TUNNEL, &t);
  fp_worker_quiescent (&w, fp_now_ns ());
  /* An altered key: the entry goes with what names it, and can be entered again. */
  fp_tunnel_at (&r, slot)->teid ^= 1;
  CHECK (dump (FP_TABLE_GTPU_TUNNEL, out) == 0 && dump (FP_TABLE_GTPU_UE, out) == 0 && !fp_ue_find (&r, 0, 1, inside), "gone");
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) && !upsert (&r, FP_TABLE_GTPU_UE, &u) && fp_ue_find (&r, 0, 1, inside), "again");
  fp_gtpu_endpoint_at (&r, 0)->address[15] ^= 1;
  CHECK (dump (FP_TABLE_GTPU_ENDPOINT, out) == 0 && dump (FP_TABLE_GTPU_PEER, out) == 0 && dump (FP_TABLE_GTPU_TUNNEL, out) == 0 &&
	   dump (FP_TABLE_GTPU_UE, out) == 0,
	 "an endpoint takes all with it");
  fp_publish_snapshots (&r);
  CHECK (!fp_gtpu_any (&r) && !fp_gtpu_snapshot (&r)->groups, "no endpoint, no length");
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e) && !upsert (&r, FP_TABLE_GTPU_PEER, &q) && !upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) &&
	   !upsert (&r, FP_TABLE_GTPU_UE, &u) && fp_ue_find (&r, 0, 1, inside),
	 "mended");
  check_only (FP_TABLE_GTPU_UE, &u);
  check_only (FP_TABLE_GTPU_PEER, &q);
  fp_region_close (&r, 1);
}

static void
test_ethernet (void)
{
  fp_capacity_t c = tunnel_capacity (64);
  open_region (&r, NULL, &c, 1);
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4);
  fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, 1);
  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 5, 1, 6);
  fp_wire_gtpu_ue_t u = { .family = 0, .length = 12, .endpoint = 1, .local_teid = 5, .address = { 0x01, 0x02 } }, v = u;
  fp_ue_key_t k;
  t.payload = FP_GTPU_PAYLOAD_ETHERNET;
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e) && !upsert (&r, FP_TABLE_GTPU_PEER, &p) && !upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) &&
	   !upsert (&r, FP_TABLE_GTPU_UE, &u),
	 "Ethernet tunnel");
  fp_ue_hash_vlan (&r, 0, 0x102, &k);
  const fp_gtpu_encap_t *x = fp_ue_lookup (&r, &k);
  CHECK (x && x->payload == FP_GTPU_PAYLOAD_ETHERNET && fp_tunnel_at (&r, x->tunnel)->vlan == 0x102, "by VLAN");
  fp_ue_hash_vlan (&r, 0, 0x103, &k);
  CHECK (!fp_ue_lookup (&r, &k), "another VLAN");
  v.address[0] = 0x0f, v.address[1] = 0xff;
  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &v) == -EINVAL, "VLAN 4095");
  check_only (FP_TABLE_GTPU_UE, &u);
  CHECK (!delete (&r, FP_TABLE_GTPU_UE, &u) && fp_tunnel_at (&r, x->tunnel)->vlan == 0, "gone");
  t.payload = FP_GTPU_PAYLOAD_IP;
  CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t), "payload changes while it has no prefix");
  check_only (FP_TABLE_GTPU_TUNNEL, &t);
  fp_region_close (&r, 1);
}

static void
test_full (void)
{
  fp_capacity_t c = tunnel_capacity (64);
  fp_worker_t w;
  open_region (&r, NULL, &c, 1);
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (1, 4);
  fp_wire_gtpu_peer_t p = wire_gtpu_peer (1, 4, 1);
  CHECK (!upsert (&r, FP_TABLE_GTPU_ENDPOINT, &e) && !upsert (&r, FP_TABLE_GTPU_PEER, &p), "peer");
  for (u32 round = 0; round < 3; round++)
    {
      for (u32 i = 0; i < 70; i++)
	{
	  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 1 + i, 1, 1 + round);
	  CHECK (upsert (&r, FP_TABLE_GTPU_TUNNEL, &t) == (i < 64 ? 0 : -ENOSPC), "tunnel %u", i);
	}
      for (u32 i = 0; i < 140; i++)
	{
	  fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 1 + i % 64, 0x0a000000 + i, 32);
	  CHECK (upsert (&r, FP_TABLE_GTPU_UE, &u) == (i < 128 ? 0 : -ENOSPC), "prefix %u", i);
	}
      /* a worker that never lets go: changes go on as long as there are spare records, then are refused, and nothing is lost */
      fp_worker_init (&w, &r, 0, 1);
      u32 changed = 0, refused = 0;
      for (u32 i = 0; i < 256; i++)
	{
	  fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 1 + i % 64, 1, 1000 + i);
	  int rc = upsert (&r, FP_TABLE_GTPU_TUNNEL, &t);
	  CHECK (rc == 0 || rc == -ENOSPC, "change %d", rc);
	  changed += rc == 0, refused += rc == -ENOSPC;
	  CHECK (find_teid (&r, 1, 1 + i % 64) != FP_NONE && find_ue4 (&r, 0, 0x0a000000 + i % 64), "still there");
	}
      CHECK (changed == 72 && refused == 184, "%u changed, %u refused", changed, refused);
      fp_worker_quiescent (&w, fp_now_ns ());
      fp_worker_sleep (&w);
      fp_wire_gtpu_tunnel_t t = wire_gtpu_tunnel (1, 4, 1, 1, 9999);
      CHECK (!upsert (&r, FP_TABLE_GTPU_TUNNEL, &t), "now it goes on");
      for (u32 i = 0; i < 128; i++)
	{
	  fp_wire_gtpu_ue_t u = wire_gtpu_ue (1, 1, 0x0a000000 + i, 32);
	  CHECK (!delete (&r, FP_TABLE_GTPU_UE, &u), "delete");
	}
      for (u32 i = 0; i < 64; i++)
	{
	  t = wire_gtpu_tunnel (1, 4, 1 + i, 1, 1);
	  CHECK (!delete (&r, FP_TABLE_GTPU_TUNNEL, &t), "delete");
	}
      CHECK (r.controlled[FP_CONTROLLED_ENCAP].used == 0 && r.controlled[FP_CONTROLLED_TUNNEL].used == 0 && r.controlled[FP_CONTROLLED_UE].used == 0,
	     "nothing left");
    }
  fp_region_close (&r, 1);
}

int
main (void)
{
  test_refusals ();
  test_lookups ();
  test_change ();
  test_ethernet ();
  test_full ();
  puts ("tunnels: refusals, lookups by range, hash and prefix, changes, End Markers, counters, mending, full tables");
  return 0;
}

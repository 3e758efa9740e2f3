/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane's records on any bytes: every table, any keys and values; whatever was accepted can be dumped, fetched and
 * deleted, and packets go on through tables in any state. GTP-U records also from a few values, so that they often fit together; what
 * they add up to is checked after each input. */
#include "fuzz.h"

/* A record of a GTP-U table that often names another that is there. */
static void
few_values (input_t *in, u32 table, fp_wire_t *w)
{
  u8 a = take (in), b = take (in), c = take (in), six = (a >> 1 & 1) != 0;
  memset (w, 0, sizeof (*w));
  switch (table)
    {
    case FP_TABLE_GTPU_ENDPOINT:
      w->gtpu_endpoint = (fp_wire_gtpu_endpoint_t){ .family = six ? 6 : 4, .id = 1 + (a & 3), .address = { 192, 0, 2, b & 3 },
						    .teid_base = c & 4 ? 1 : 0, .teid_count = c & 8 ? 4 : c & 4, .dscp = c >> 4,
						    .port_low = 1000, .port_high = (u16) (999 + (c & 3)), .flags = c & 1 };
      break;
    case FP_TABLE_GTPU_PEER:
      w->gtpu_peer = (fp_wire_gtpu_peer_t){ .endpoint = 1 + (a & 3), .family = six ? 6 : 4, .address = { 10, 0, 0, b & 3 },
					    .mtu = c & 1 ? 1400 : 0, .n3 = 3, .t3_ms = 1000, .echo_interval_ms = c };
      break;
    case FP_TABLE_GTPU_TUNNEL:
      w->tunnel = (fp_wire_gtpu_tunnel_t){ .endpoint = 1 + (a & 3), .local_teid = 1 + (a >> 2 & 7), .remote_teid = c,
					   .remote = { 10, 0, 0, b & 3 }, .family = six ? 6 : 4, .payload = b & 64 ? 2 : 1,
					   .psc = b >> 4 & 3, .qfi = c & 63, .flags = b >> 2 & 3, .inner_vrf = b >> 7 };
      break;
    default:
      w->ue = (fp_wire_gtpu_ue_t){ .endpoint = 1 + (a & 3), .local_teid = 1 + (a >> 2 & 7), .inner_vrf = b >> 7,
				   .family = c & 64 ? 0 : c & 32 ? 6 : 4, .length = c & 64 ? 12 : c & 32 ? 64 : 32 };
      w->ue.address[c & 64 ? 1 : 3] = c & 15;
      if (c & 16 && !(c & 96))
	w->ue.length = (u8) (16 + b % 17), memset (w->ue.address, 10, 2), memset (w->ue.address + 2, 0, 2);
    }
}

/* Everything in the GTP-U tables leads to its tunnel's one record, and is counted once. */
static void
check_tunnels (const fp_region_t *r)
{
  const fp_tunnel_state_t *s = &r->control->gtpu;
  u32 live = 0, ues = 0, at_endpoints = 0, at_peers = 0;
  for (u32 i = 0; i < r->capacity.tunnels; i++)
    {
      const fp_tunnel_t *t = fp_tunnel_at (r, i);
      if (!s->tunnel[i].live)
	continue;
      const fp_gtpu_encap_t *e = fp_tunnel_encap (r, t);
      CHECK (e && e->tunnel == i && s->endpoint[t->endpoint].live && s->peer[e->peer].live, "tunnel %u", i);
      const fp_gtpu_endpoint_record_t *x = fp_gtpu_endpoint_at (r, t->endpoint);
      const fp_gtpu_endpoint_t *found = fp_gtpu_endpoint_find (r, x->vrf, x->family == 6, x->address);
      CHECK (found && fp_tunnel_lookup (r, found, t->teid, fp_tunnel_hash (r, found, t->teid)) == i, "found by its TEID");
      for (u32 u = s->tunnel[i].head; u != FP_NONE; u = s->ue[u].next)
	{
	  const fp_ue_t *p = fp_ue_at (r, u);
	  fp_ue_key_t k;
	  fp_ue_hash_words (r, p->vrf, p->family, fp_load64 (p->address), fp_load64 (p->address + 8), &k);
	  const fp_gtpu_encap_t *way = fp_ue_lookup (r, &k);
	  CHECK (atomic_load (&p->encap) == (u32) atomic_load (&t->current) && way, "prefix");
	  CHECK (way == e || way->tunnel != i, "a longer prefix may belong to another");
	  ues++;
	}
      live++;
    }
  for (u32 i = 0; i < r->capacity.gtpu_endpoints; i++)
    at_endpoints += s->endpoint[i].tunnels;
  for (u32 i = 0; i < r->capacity.gtpu_peers; i++)
    at_peers += s->peer[i].tunnels;
  CHECK (live == r->controlled[FP_CONTROLLED_TUNNEL].used && live == r->controlled[FP_CONTROLLED_ENCAP].used && live == at_endpoints &&
	   live == at_peers && ues == r->controlled[FP_CONTROLLED_UE].used,
	 "counts");
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const u32 record_size[] = { 0, sizeof (fp_wire_config_t), sizeof (fp_wire_prefix_t), sizeof (fp_wire_service_t),
				     sizeof (fp_wire_frontend_t), sizeof (fp_wire_endpoint_t), sizeof (fp_wire_gtpu_endpoint_t),
				     sizeof (fp_wire_gtpu_peer_t), sizeof (fp_wire_gtpu_tunnel_t), sizeof (fp_wire_gtpu_ue_t) };
  input_t in = { data, size };
  fp_region_t *r = &fuzz_node ()->region;
  u8 record[64];
  int code;

  for (u32 operations = 0; in.left && operations < 32; operations++)
    {
      u8 what = take (&in), table = what >> 4;
      fp_wire_t back;
      if (table < FP_TABLE_CONFIG || table > FP_TABLE_GTPU_UE)
	table = FP_TABLE_ENDPOINT;
      if (fp_table_gtpu (table) && what & 12)
	{
	  few_values (&in, table, &back);
	  memcpy (record, back.bytes, sizeof (record));
	}
      else
	for (u32 i = 0; i < sizeof (record); i++)
	  record[i] = take (&in);
      u8 *exact = malloc (record_size[table]); /* a read beyond the record is seen */
      memcpy (exact, record, record_size[table]);
      code = 1;
      switch (what & 3)
	{
	case 0:
	case 1:
	  fp_control_upsert (r, table, exact, 1, &code);
	  CHECK (code <= 0, "result %d", code);
	  CHECK (code || (!fp_control_fetch (r, table, exact, &back) && (!fp_table_gtpu (table) || !memcmp (back.bytes, exact, record_size[table]))),
		 "accepted and not there");
	  break;
	case 2:
	  fp_control_delete (r, table, exact, 1, &code);
	  CHECK (code <= 0, "result %d", code);
	  break;
	case 3:
	  fp_control_commit (r);
	  break;
	}
      free (exact);
    }
  fp_control_commit (r);
  check_tunnels (r);
  spec_t spec = { .src = POD[0], .dst = WEB[0], .sport = 4000, .dport = 80, .proto = 17, .payload = 9 };
  u8 bytes[128];
  fp_packet_t p = { 0 };
  p.contiguous = p.length = build (bytes, &spec);
  p.room = 600;
  run_packet (&p, bytes, p.length, 0);
  advance (fuzz_node (), 0.01);
  fp_control_poll (r);
  return 0;
}

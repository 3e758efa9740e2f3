/* SPDX-License-Identifier: Apache-2.0 */
#include <kgtpu/kgtpu.h>
#include <vlib/threads.h>
#include <vnet/fib/fib_table.h>
#include <vnet/interface_funcs.h>
#include <vnet/ip/format.h>

#include <fastpath/fp_control.h>
#include <fastpath/fp_gtpu.h>

#define DEFAULT_LINES 20
#define MOST_LINES    10000

static u8 *
format_address (u8 *s, va_list *args)
{
  const u32 family = va_arg (*args, u32);
  const u8 *address = va_arg (*args, const u8 *);

  return family == 4 ? format (s, "%U", format_ip4_address, address) : format (s, "%U", format_ip6_address, address);
}

/* Number of lines to show at most. */
static clib_error_t *
lines (unformat_input_t *input, u32 *most)
{
  unformat_input_t _line, *line = &_line;
  clib_error_t *error = 0;

  *most = DEFAULT_LINES;
  if (!unformat_user (input, unformat_line_input, line))
    return 0;
  if (!unformat (line, "max %u", most) || unformat_check_input (line) != UNFORMAT_END_OF_INPUT)
    error = clib_error_return (0, "unknown input `%U', expected: max <lines>", format_unformat_error, line);
  unformat_free (line);
  *most = clib_min (*most, MOST_LINES);
  return error;
}

static fp_region_t *
region (vlib_main_t *vm)
{
  if (khost && khost->region)
    return khost->region;
  vlib_cli_output (vm, "no region: start-up section `khost { region PATH }' is missing");
  return 0;
}

static clib_error_t *
show_endpoints (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *cmd)
{
  kgtpu_main_t *km = &kgtpu_main;
  kgtpu_endpoint_t *e;
  u32 most, n = 0;
  clib_error_t *error = lines (input, &most);

  if (error || !region (vm))
    return error;
  vlib_cli_output (vm, "%u GTP-U endpoints", pool_elts (km->endpoints));
  pool_foreach (e, km->endpoints)
    if (n++ < most)
      vlib_cli_output (vm, "  %U VRF %u%s", format_fib_prefix, &e->prefix, e->table,
		       e->interposed ? ", taken at its FIB entry" : "");
  for (int six = 0; six < 2; six++)
    if (km->n_endpoints[six])
      vlib_cli_output (vm, "  UDP port 2152 over IPv%u: other addresses %s", six ? 6 : 4,
		       km->chain_next[six] == ~0 ? "have no receiver" : "go to the node that had the port, or VPP's own gtpu");
  return 0;
}

static clib_error_t *
show_peers (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *cmd)
{
  kgtpu_main_t *km = &kgtpu_main;
  fp_region_t *r = region (vm);
  u32 most, n = 0;
  clib_error_t *error = lines (input, &most);

  if (error || !r)
    return error;
  for (u32 slot = 0; slot < vec_len (km->peers); slot++)
    {
      const kgtpu_peer_t *p = &km->peers[slot];

      if (!p->live || n++ >= most)
	continue;
      vlib_cli_output (vm, "  [%u] %U, link MTU %u, way changed %u times\n      %U", slot, format_fib_prefix, &p->prefix,
		       atomic_load (&r->gtpu_link_mtu[slot]), p->changes, format_dpo_id, &km->paths[slot].dpo, 6);
    }
  vlib_cli_output (vm, "%u peers%s, smallest link MTU %u, workers stopped %lu times by anyone", n,
		   n > most ? " (not all shown)" : "", km->link_mtu, vlib_worker_threads[0].barrier_sync_count);
  return 0;
}

static clib_error_t *
show_tunnels (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *cmd)
{
  fp_region_t *r = region (vm);
  u64 cursor = 0;
  u32 most, shown = 0;
  clib_error_t *error = lines (input, &most);

  if (error || !r)
    return error;
  vlib_cli_output (vm, "%u tunnels of %u", r->controlled[FP_CONTROLLED_TUNNEL].used,
		   r->controlled[FP_CONTROLLED_TUNNEL].capacity);
  do
    {
      fp_msg_gtpu_counters_t c[DEFAULT_LINES];
      const u32 n = fp_control_gtpu_counters_dump (r, &cursor, c, clib_min (ARRAY_LEN (c), most - shown));

      for (u32 i = 0; i < n; i++)
	{
	  u64 hash, word = fp_tunnel_word (r, fp_gtpu_endpoint_of (r, c[i].endpoint), c[i].local_teid, &hash);
	  const fp_tunnel_t *t = word ? fp_tunnel_at (r, fp_word_slot (word)) : 0;
	  const fp_gtpu_encap_t *e = t ? fp_tunnel_encap (r, t) : 0;
	  const u64 shape = t ? atomic_load (&t->shape) : 0;

	  if (!e)
	    continue;
	  vlib_cli_output (vm,
			   "  %U TEID 0x%08x <-> %U TEID 0x%08x, VRF %u, %s%s%s\n"
			   "      out of it %lu packets %lu bytes, into it %lu packets %lu bytes, dropped %lu",
			   format_address, e->family, e->local, c[i].local_teid, format_address, e->family, e->remote,
			   fp_net32 (e->remote_teid), fp_tunnel_vrf (shape),
			   fp_tunnel_payload (shape) == FP_GTPU_PAYLOAD_IP ? "IP" : "Ethernet",
			   c[i].seen & FP_GTPU_SEEN_END_MARKER ? ", End Marker received" : "",
			   c[i].seen & FP_GTPU_SEEN_ERROR_INDICATION ? ", unknown to its peer" : "", c[i].rx_packets,
			   c[i].rx_bytes, c[i].tx_packets, c[i].tx_bytes, c[i].drops);
	}
      shown += n;
    }
  while (cursor && shown < most);
  return 0;
}

static u64
counted (const fp_region_t *r, enum fp_counter c)
{
  u64 sum = 0;

  for (u32 w = 0; w <= FP_MAX_WORKERS; w++)
    sum += atomic_load_explicit (&r->counters[w].counter[c], memory_order_relaxed);
  return sum;
}

static clib_error_t *
show_switches (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *cmd)
{
  fp_region_t *r = region (vm);
  khost_switches_t in_effect;
  u64 s;
  u32 loop;

  if (!r)
    return 0;
  s = fp_config (r)->gtpu_switches;
  in_effect = kgtpu_in_effect ();
  loop = fp_gtpu_loop (s);
  vlib_cli_output (vm, "%-18s %-9s %s", "switch", "state", "packets that took it");
#define SHOW(name, on, state, c) vlib_cli_output (vm, "%-18s %-9s %lu", name, (on) ? state : "off", counted (r, c))
  SHOW ("lookupCache", s & FP_GTPU_LOOKUP_CACHE, "on", FP_C_GTPU_CACHE_HITS);
  SHOW ("prefetch", s & FP_GTPU_PREFETCH, "on", FP_C_GTPU_PREFETCHED);
  SHOW ("loop", 1, loop == 4 ? "quad" : loop == 2 ? "dual" : "single",
	loop == 4 ? FP_C_GTPU_LOOP_QUAD : loop == 2 ? FP_C_GTPU_LOOP_DUAL : FP_C_GTPU_LOOP_SINGLE);
  SHOW ("skipInnerIpInput", s & FP_GTPU_SKIP_INNER_IP_INPUT, "on", FP_C_GTPU_INNER_INPUT_SKIPPED);
  SHOW ("gtpuBypass", in_effect.on & FP_GTPU_BYPASS, in_effect.form, FP_C_GTPU_BYPASSED);
  SHOW ("skipOuterLookup", s & FP_GTPU_SKIP_OUTER_LOOKUP, "on", FP_C_GTPU_OUTER_LOOKUP_SKIPPED);
#undef SHOW
  return 0;
}

VLIB_CLI_COMMAND (show_kgtpu_endpoints_command, static) = {
  .path = "show kgtpu endpoints",
  .short_help = "show kgtpu endpoints [max <lines>]",
  .function = show_endpoints,
};

VLIB_CLI_COMMAND (show_kgtpu_peers_command, static) = {
  .path = "show kgtpu peers",
  .short_help = "show kgtpu peers [max <lines>]",
  .function = show_peers,
};

VLIB_CLI_COMMAND (show_kgtpu_tunnels_command, static) = {
  .path = "show kgtpu tunnels",
  .short_help = "show kgtpu tunnels [max <lines>]",
  .function = show_tunnels,
};

VLIB_CLI_COMMAND (show_kgtpu_switches_command, static) = {
  .path = "show kgtpu switches",
  .short_help = "show kgtpu switches",
  .function = show_switches,
};

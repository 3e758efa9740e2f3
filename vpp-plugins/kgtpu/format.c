/* SPDX-License-Identifier: Apache-2.0 */
#include <kgtpu/kgtpu.h>
#include <kgtpu/trace.h>
#include <vnet/ip/format.h>

#include <fastpath/fp_gtpu_header.h>

static const char *const actions[] = { [FP_FORWARD] = "forward", [FP_HOLD] = "held",	     [FP_DROP] = "drop",
				       [FP_REPLY] = "answered",	 [FP_CONSUMED] = "taken in", [FP_SEGMENT] = "in segments" };

/* Addresses, and the TEID if it is a GTP-U packet without anything unusual before it. */
static u8 *
format_header (u8 *s, const kgtpu_trace_t *t)
{
  const u8 *h = t->header;
  const int six = t->bytes && h[0] >> 4 == 6;
  const u32 udp = six ? FP_IP6_HEADER : FP_IP4_HEADER;

  if (t->bytes < udp + FP_UDP_HEADER || (!six && h[0] != 0x45))
    return format (s, "%u bytes %U", t->bytes, format_hex_bytes, h, clib_min (t->bytes, 20));
  if (six)
    s = format (s, "%U -> %U", format_ip6_address, h + 8, format_ip6_address, h + 24);
  else
    s = format (s, "%U -> %U", format_ip4_address, h + 12, format_ip4_address, h + 16);
  if (h[six ? 6 : 9] == IP_PROTOCOL_UDP && fp_load16 (h + udp + 2) == fp_net16 (FP_GTPU_PORT) &&
      t->bytes >= udp + FP_UDP_HEADER + FP_GTPU_HEADER)
    s = format (s, " GTP-U type %u TEID 0x%08x", h[udp + 9], fp_net32 (fp_load32 (h + udp + 12)));
  return s;
}

static u8 *
format_verdict (u8 *s, const kgtpu_trace_t *t)
{
  s = format (s, "%s", t->verdict.action < ARRAY_LEN (actions) ? actions[t->verdict.action] : "unknown");
  if (t->verdict.action == FP_FORWARD && t->verdict.way == FP_WAY_PASS)
    s = format (s, ": not ours");
  if (t->verdict.reason)
    s = format (s, ": %s (%s)", fp_drop_name (t->verdict.reason), fp_drop_text (t->verdict.reason));
  return s;
}

u8 *
format_kgtpu_decap_trace (u8 *s, va_list *args)
{
  CLIB_UNUSED (vlib_main_t * vm) = va_arg (*args, vlib_main_t *);
  CLIB_UNUSED (vlib_node_t * node) = va_arg (*args, vlib_node_t *);
  const kgtpu_trace_t *t = va_arg (*args, kgtpu_trace_t *);
  const u32 indent = format_get_indent (s);

  s = format_header (s, t);
  s = format (s, "\n%U", format_white_space, indent);
  s = format_verdict (s, t);
  if (t->verdict.action == FP_FORWARD && t->verdict.way == FP_WAY_ETHERNET)
    s = format (s, " as a frame of VLAN %u", t->vlan);
  else if (t->verdict.action == FP_FORWARD && t->verdict.way != FP_WAY_PASS)
    s = format (s, " to inner VRF %u%s", t->vrf, t->skipped ? ", input node skipped" : "");
  return format (s, ", next %u", t->next);
}

u8 *
format_kgtpu_encap_trace (u8 *s, va_list *args)
{
  CLIB_UNUSED (vlib_main_t * vm) = va_arg (*args, vlib_main_t *);
  CLIB_UNUSED (vlib_node_t * node) = va_arg (*args, vlib_node_t *);
  const kgtpu_trace_t *t = va_arg (*args, kgtpu_trace_t *);
  const u32 indent = format_get_indent (s);

  s = format_header (s, t);
  s = format (s, "\n%Ufrom inner VRF %u: ", format_white_space, indent, t->vrf);
  s = format_verdict (s, t);
  if (t->verdict.action == FP_FORWARD)
    s = format (s, " to peer %u%s", t->peer, t->skipped ? " by its adjacency" : " by lookup");
  return format (s, ", next %u", t->next);
}

u8 *
format_kgtpu_pool_dpo (u8 *s, va_list *args)
{
  const index_t index = va_arg (*args, index_t);
  CLIB_UNUSED (u32 indent) = va_arg (*args, u32);

  return format (s, "kgtpu: UE pool of VRF %u", kgtpu_main.vrfs[index].table);
}

u8 *
format_kgtpu_local_dpo (u8 *s, va_list *args)
{
  const index_t index = va_arg (*args, index_t);
  const u32 indent = va_arg (*args, u32);
  const kgtpu_local_t *l = pool_elt_at_index (kgtpu_main.locals, index);

  s = format (s, "kgtpu: local GTP-U address");
  if (dpo_id_is_valid (&l->parent))
    s = format (s, "%s\n%U%U", l->own ? " of VPP's own" : "", format_white_space, indent + 2, format_dpo_id, &l->parent,
		indent + 4);
  return s;
}

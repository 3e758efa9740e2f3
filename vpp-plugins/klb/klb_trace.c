/* SPDX-License-Identifier: Apache-2.0 */
#include <klb/klb_trace.h>

#include <vnet/ip/ip.h>

#include <fastpath/fp_counters.h>

typedef struct
{
  const u8 *bytes;
  u32 n;
} headers_t;

/* What can be told of the packet: "10.0.0.1:40000 > 10.96.0.10:80 TCP", or less. */
static u8 *
format_flow (u8 *s, va_list *args)
{
  const headers_t *h = va_arg (*args, const headers_t *);
  const u8 *b = h->bytes;
  const int v6 = h->n && b[0] >> 4 == 6;
  u32 at = v6 ? 40 : h->n ? (b[0] & 15) * 4u : 0, fragment = 0;
  u8 proto;
  int ports;

  if (h->n < (v6 ? 40 : 20))
    return format (s, "%u bytes, too short for an IP header", h->n);
  proto = v6 ? b[6] : b[9];
  if (v6 && proto == IP_PROTOCOL_IPV6_FRAGMENTATION && h->n >= 48)
    {
      fragment = fp_net16 (fp_load16 (b + 42)) >> 3;
      proto = b[40];
      at = 48;
    }
  else if (!v6)
    fragment = fp_net16 (fp_load16 (b + 6)) & 0x1fff;
  ports = !fragment && (proto == IP_PROTOCOL_TCP || proto == IP_PROTOCOL_UDP) && h->n >= at + 4;
  s = v6 ? format (s, "%U", format_ip6_address, b + 8) : format (s, "%U", format_ip4_address, b + 12);
  if (ports)
    s = format (s, "%s%u", v6 ? "." : ":", fp_net16 (fp_load16 (b + at)));
  s = format (s, " > ");
  s = v6 ? format (s, "%U", format_ip6_address, b + 24) : format (s, "%U", format_ip4_address, b + 16);
  if (ports)
    s = format (s, "%s%u", v6 ? "." : ":", fp_net16 (fp_load16 (b + at + 2)));
  s = format (s, " %U", format_ip_protocol, proto);
  if (fragment)
    s = format (s, ", fragment at %u", fragment * 8);
  if ((proto == IP_PROTOCOL_ICMP || proto == IP_PROTOCOL_ICMP6) && !fragment && h->n >= at + 2)
    s = format (s, " type %u code %u", b[at], b[at + 1]);
  return s;
}

static u8 *
format_verdict (u8 *s, va_list *args)
{
  const fp_verdict_t *v = va_arg (*args, const fp_verdict_t *);
  static const char *const ways[] = { [FP_WAY_PASS] = "passed: of no Service",
				      [FP_WAY_FORWARD] = "translated towards an endpoint",
				      [FP_WAY_REVERSE] = "translated back towards the client" };

  switch (v->action)
    {
    case FP_FORWARD:
      return format (s, "%s", v->way <= FP_WAY_REVERSE ? ways[v->way] : "sent on");
    case FP_HOLD:
      return format (s, "held until the first fragment of its datagram comes");
    case FP_REPLY:
      return format (s, "answered with an ICMP error, because: %s (%s)", fp_drop_name (v->reason), fp_drop_text (v->reason));
    default:
      return format (s, "dropped: %s (%s)", fp_drop_name (v->reason), fp_drop_text (v->reason));
    }
}

u8 *
format_klb_trace (u8 *s, va_list *args)
{
  CLIB_UNUSED (vlib_main_t * vm) = va_arg (*args, vlib_main_t *);
  CLIB_UNUSED (vlib_node_t * node) = va_arg (*args, vlib_node_t *);
  const klb_trace_t *t = va_arg (*args, const klb_trace_t *);
  const u32 indent = format_get_indent (s);
  const headers_t before = { t->before, t->n_before }, after = { t->after, t->n_after };

  s = format (s, "%U, VRF %d\n%U", format_flow, &before, (i32) t->vrf, format_white_space, indent);
  if (t->filtered)
    return format (s, "passed by the filter: from no endpoint, to no node port, no ICMP error");
  s = format (s, "%U", format_verdict, &t->verdict);
  if (t->verdict.action == FP_REPLY || (t->verdict.action == FP_FORWARD && t->verdict.way != FP_WAY_PASS))
    s = format (s, "\n%U%U", format_white_space, indent, format_flow, &after);
  return s;
}

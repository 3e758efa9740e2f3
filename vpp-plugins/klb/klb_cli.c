/* SPDX-License-Identifier: Apache-2.0 */
/* What a person sees of the Services. Every list is bounded, and no command stops the workers. */
#include <klb/klb.h>

#include <fastpath/fp_control.h>
#include <fastpath/fp_tcp.h>

#define DEFAULT_LINES 20
#define MOST_LINES    10000

typedef struct
{
  u32 max;
  u64 id; /* of a Service; 0: all */
} show_t;

static clib_error_t *
parse (unformat_input_t *input, show_t *show)
{
  unformat_input_t line;
  clib_error_t *error = 0;

  *show = (show_t){ .max = DEFAULT_LINES };
  if (!unformat_user (input, unformat_line_input, &line))
    return 0;
  while (!error && unformat_check_input (&line) != UNFORMAT_END_OF_INPUT)
    if (!unformat (&line, "max %u", &show->max) && !unformat (&line, "id %llu", &show->id))
      error = clib_error_return (0, "unknown input '%U': give max <lines> or id <Service>", format_unformat_error, &line);
  unformat_free (&line);
  show->max = clib_min (show->max, (u32) MOST_LINES);
  return error;
}

static clib_error_t *
no_region (void)
{
  return clib_error_return (0, "there is no region: give VPP `khost { region PATH }` in its start-up configuration");
}

static int
has_region (void)
{
  return khost && khost->region;
}

static u8 *
format_address_port (u8 *s, va_list *args)
{
  const int v6 = va_arg (*args, int);
  const void *address = va_arg (*args, const void *);
  const u32 port = va_arg (*args, u32); /* network order */

  if (v6)
    return format (s, "[%U]:%u", format_ip6_address, address, fp_net16 ((u16) port));
  return format (s, "%U:%u", format_ip4_address, address, fp_net16 ((u16) port));
}

/* ---- services ---- */

static const char *
kind_name (u8 kind)
{
  static const char *const names[] = { [FP_FRONTEND_CLUSTER_IP] = "cluster IP",
				       [FP_FRONTEND_NODE_PORT] = "node port",
				       [FP_FRONTEND_EXTERNAL_IP] = "external IP",
				       [FP_FRONTEND_LOAD_BALANCER] = "load balancer" };

  return kind < ARRAY_LEN (names) ? names[kind] : "unknown";
}

/* Its frontends, found in one walk over all. */
static void
show_frontends (vlib_main_t *vm, const fp_region_t *r, u32 slot, u32 max)
{
  u64 position = 0, word;
  u32 n = 0;

  while ((word = fp_control_next (r, FP_CONTROLLED_FRONTEND, &position)))
    {
      const fp_frontend_t *f = fp_frontend_at (r, fp_word_slot (word));

      if (f->service_slot != slot)
	continue;
      if (n++ == max)
	{
	  vlib_cli_output (vm, "    ... (more)");
	  return;
	}
      if (f->key.scope & FP_SCOPE_NODE_PORT)
	vlib_cli_output (vm, "    %s %u", kind_name (f->kind), fp_net16 (f->key.port));
      else
	vlib_cli_output (vm, "    %s %U", kind_name (f->kind), format_address_port, f->key.scope == 6, f->key.address,
			 (u32) f->key.port);
    }
}

static void
show_endpoints (vlib_main_t *vm, const fp_region_t *r, u32 slot, u32 max)
{
  const fp_control_t *c = r->control;
  u32 n = 0;

  for (u32 e = c->service[slot].head; e != FP_NONE; e = c->endpoint[e].next)
    {
      const fp_endpoint_t *ep = fp_endpoint_at (r, e);
      const u8 flags = fp_endpoint_flags (ep);

      if (n++ == max)
	{
	  vlib_cli_output (vm, "    ... (%u more)", c->service[slot].endpoints - max);
	  return;
	}
      vlib_cli_output (vm, "    -> %U%s%s%s%s", format_address_port, ep->family == 6, ep->address, (u32) ep->port,
		       flags & FP_ENDPOINT_SERVES ? "" : " serves no more", flags & FP_ENDPOINT_CLUSTER ? " cluster" : "",
		       flags & FP_ENDPOINT_LOCAL ? " local" : "", flags & FP_ENDPOINT_ON_NODE ? " on-this-node" : "");
    }
}

static clib_error_t *
show_services (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  const fp_region_t *r;
  u64 position = 0, word;
  clib_error_t *error;
  u32 n = 0;
  show_t show;

  error = parse (input, &show);
  if (error || !has_region ())
    return error ? error : no_region ();
  r = khost->region;
  vlib_cli_output (vm, "%u Services, %u frontends, %u endpoints", r->controlled[FP_CONTROLLED_SERVICE].used,
		   r->controlled[FP_CONTROLLED_FRONTEND].used, r->controlled[FP_CONTROLLED_ENDPOINT].used);
  while ((word = fp_control_next (r, FP_CONTROLLED_SERVICE, &position)))
    {
      const u32 slot = fp_word_slot (word);
      const fp_service_t *s = fp_service_at (r, slot);
      const u64 policy = fp_service_policy (s);
      fp_msg_service_counters_t c;

      if (show.id && s->id != show.id)
	continue;
      if (n++ == show.max)
	{
	  vlib_cli_output (vm, "... (%u Services in all; name one by its id, or say max)", r->controlled[FP_CONTROLLED_SERVICE].used);
	  break;
	}
      vlib_cli_output (vm, "  Service %llu IPv%u %U: %u endpoints for all traffic, %u local, %u serve; without any: %s%s%s%s", s->id,
		       s->family, format_ip_protocol, s->protocol, fp_service_set (r, s, FP_SET_CLUSTER).count,
		       fp_service_set (r, s, FP_SET_LOCAL).count, fp_service_serving (s),
		       fp_policy_verdict (policy) == FP_EMPTY_DROP ? "drop" : "reject",
		       fp_policy_flags (policy) & FP_SERVICE_AFFINITY_CLIENT_IP ? ", client affinity" : "",
		       fp_policy_flags (policy) & FP_SERVICE_INTERNAL_LOCAL ? ", internal traffic local" : "",
		       fp_policy_flags (policy) & FP_SERVICE_EXTERNAL_LOCAL ? ", external traffic local" : "");
      fp_service_counters_read (r, slot, &c);
      vlib_cli_output (vm, "    towards endpoints %llu packets %llu bytes, back %llu packets %llu bytes, %llu sessions, %llu begun",
		       c.forward_packets, c.forward_bytes, c.reverse_packets, c.reverse_bytes, c.sessions, c.sessions_created);
      show_frontends (vm, r, slot, show.max);
      show_endpoints (vm, r, slot, show.max);
    }
  if (show.id && !n)
    return clib_error_return (0, "there is no Service %llu", show.id);
  return 0;
}

VLIB_CLI_COMMAND (show_klb_services_command, static) = {
  .path = "show klb services",
  .short_help = "show klb services [id <Service>] [max <lines>]",
  .function = show_services,
  .is_mp_safe = 1,
};

/* ---- sessions ---- */

static const char *
session_state (u8 proto, u8 state)
{
  static const char *const tcp[] = { [FP_TCP_SYN_SENT] = "SYN_SENT",	   [FP_TCP_SYN_RECV] = "SYN_RECV",
				     [FP_TCP_ESTABLISHED] = "ESTABLISHED", [FP_TCP_FIN_WAIT] = "FIN_WAIT",
				     [FP_TCP_CLOSE_WAIT] = "CLOSE_WAIT",   [FP_TCP_LAST_ACK] = "LAST_ACK",
				     [FP_TCP_TIME_WAIT] = "TIME_WAIT",	   [FP_TCP_CLOSE] = "CLOSE" };

  return proto == FP_PROTO_TCP ? tcp[fp_tcp_state (state)] : state & FP_ST_REPLY ? "answered" : "unanswered";
}

static u8 *
format_session (u8 *s, va_list *args)
{
  const int v6 = va_arg (*args, int);
  const void *record = va_arg (*args, const void *);
  const u64 life = va_arg (*args, u64);
  const fp_session4_t *s4 = record;
  const fp_session6_t *s6 = record;
  const u8 proto = v6 ? s6->proto : s4->proto;
  const i32 left = (i32) (fp_life_expiry (life) - khost_worker (0)->fp.tick);

  s = format (s, "%U %-11s VRF %u ", format_ip_protocol, proto, session_state (proto, fp_life_state (life)), v6 ? s6->vrf : s4->vrf);
  if (v6)
    s = format (s, "%U > %U => %U > %U", format_address_port, 1, s6->client, (u32) s6->cport, format_address_port, 1, s6->vip,
		(u32) s6->vport, format_address_port, 1, s6->nat, (u32) s6->nport, format_address_port, 1, s6->ep, (u32) s6->eport);
  else
    s = format (s, "%U > %U => %U > %U", format_address_port, 0, &s4->client, (u32) s4->cport, format_address_port, 0, &s4->vip,
		(u32) s4->vport, format_address_port, 0, &s4->nat, (u32) s4->nport, format_address_port, 0, &s4->ep,
		(u32) s4->eport);
  return format (s, ", %d s left", (i32) (((i64) left << FP_TICK_SHIFT) / 1000000000));
}

static void
show_sessions_of (vlib_main_t *vm, const fp_region_t *r, int v6, u32 max)
{
  const fp_shared_table_t *t = fp_session_table (r, v6);
  const u32 used = atomic_load_explicit (&t->pool->fresh, memory_order_relaxed);
  u32 n = 0;

  vlib_cli_output (vm, "IPv%u: %u of %u sessions", v6 ? 6 : 4, fp_shared_used (r, v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4),
		   t->capacity);
  for (u32 slot = 0; slot < used; slot++)
    {
      void *record = fp_session_at (t, v6, slot);
      const u64 life = atomic_load_explicit (fp_session_life (record, v6), memory_order_acquire);

      if (fp_life_phase (life) != FP_PHASE_LIVE)
	continue;
      if (n++ == max)
	{
	  vlib_cli_output (vm, "  ... (more; say max)");
	  return;
	}
      vlib_cli_output (vm, "  %U", format_session, v6, record, life);
    }
}

static clib_error_t *
show_sessions (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  clib_error_t *error;
  show_t show;

  error = parse (input, &show);
  if (error || !has_region ())
    return error ? error : no_region ();
  show_sessions_of (vm, khost->region, 0, show.max);
  show_sessions_of (vm, khost->region, 1, show.max);
  return 0;
}

VLIB_CLI_COMMAND (show_klb_sessions_command, static) = {
  .path = "show klb sessions",
  .short_help = "show klb sessions [max <lines>]",
  .function = show_sessions,
  .is_mp_safe = 1,
};

/* ---- the whole ---- */

static u64
counter_sum (const fp_region_t *r, u32 which, int is_drop)
{
  u64 sum = 0;

  for (u32 i = 0; i <= FP_MAX_WORKERS; i++)
    sum += atomic_load_explicit (is_drop ? &r->counters[i].drop[which] : &r->counters[i].counter[which], memory_order_relaxed);
  return sum;
}

static const char *const counter_texts[FP_COUNTERS] = {
#define _(n, s, t) [FP_C_##n] = t,
  FP_FOREACH_COUNTER (_)
#undef _
};

static clib_error_t *
show_klb (vlib_main_t *vm, unformat_input_t *input, vlib_cli_command_t *command)
{
  fp_table_usage_t usage[FP_USAGE_TABLES];
  clib_error_t *error;
  show_t show;
  u32 n;

  error = parse (input, &show);
  if (error || !has_region ())
    return error ? error : no_region ();
  n = fp_control_usage (khost->region, usage);
  vlib_cli_output (vm, "Tables:");
  for (u32 i = 0; i < n; i++)
    if (usage[i].size)
      vlib_cli_output (vm, "  %-16s %10u of %10u, %llu KiB", usage[i].name, usage[i].used, usage[i].size, usage[i].bytes / 1024);
  vlib_cli_output (vm, "Counters:");
  for (u32 i = 0; i < FP_C_GTPU_RX; i++)
    if (counter_sum (khost->region, i, 0))
      vlib_cli_output (vm, "  %16llu %s", counter_sum (khost->region, i, 0), counter_texts[i]);
  vlib_cli_output (vm, "Drops:");
  for (u32 i = 1; i < FP_DROPS; i++)
    if (counter_sum (khost->region, i, 1))
      vlib_cli_output (vm, "  %16llu %s (%s)", counter_sum (khost->region, i, 1), fp_drop_name (i), fp_drop_text (i));
  vlib_cli_output (vm, "Worker barriers since the start, whoever asked for them: %u", vlib_worker_threads[0].barrier_sync_count);
  vlib_cli_output (vm, "Filter:\n%U%U", format_klb_filter, format_klb_vips, show.max);
  return 0;
}

VLIB_CLI_COMMAND (show_klb_command, static) = {
  .path = "show klb summary",
  .short_help = "show klb summary [max <lines>]",
  .function = show_klb,
  .is_mp_safe = 1,
};

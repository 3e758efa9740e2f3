/* SPDX-License-Identifier: Apache-2.0 */
/* The first packet of a flow: which service, which endpoint, whether its source is translated (kube-proxy's masquerade rules),
 * to which port, and the session that the rest of the flow follows. */
#ifndef FP_NAT_H
#define FP_NAT_H

#include "fp_rewrite.h"
#include "fp_tables.h"
#include "fp_tcp.h"

#define FP_PORT_PROBES 64   /* ports tried for a flow, in each of two rounds */
#define FP_KEPT_LOW    1024 /* other ports for a client whose address is kept */
#define FP_KEPT_HIGH   65535

/* What to do with a packet that has no session. */
enum fp_fate
{
  FP_FATE_PASS,	  /* not for a Service */
  FP_FATE_FLOW,	  /* a session was made or found: rewrite */
  FP_FATE_DROP,	  /* `reason` says why */
  FP_FATE_ANSWER, /* answer with an ICMP error, if one may be sent; `reason` says which and is counted */
};

typedef struct
{
  u8 fate; /* enum fp_fate */
  u8 reason;
  fp_sref_t ref;
} fp_decision_t;

FP_ALWAYS_INLINE const u8 *
fp_packet_src (const u8 *h, int v6)
{
  return h + (v6 ? 8 : 12);
}

FP_ALWAYS_INLINE const u8 *
fp_packet_dst (const u8 *h, int v6)
{
  return h + (v6 ? 24 : 16);
}

/* ---- source ports ---- */

/* Candidates in the order they are tried: all of a small range from a random start on, random ones of a large range. */
typedef struct
{
  const fp_config_t *config; /* ranges to choose from; NULL: FP_KEPT_LOW to FP_KEPT_HIGH */
  u32 total;
  u32 next;
  u32 left; /* tries of this round */
} fp_port_probe_t;

FP_INLINE void
fp_port_round (fp_worker_t *w, fp_port_probe_t *q, const fp_config_t *config)
{
  q->config = config;
  q->total = config ? config->port_count : FP_KEPT_HIGH - FP_KEPT_LOW + 1;
  q->next = q->total ? fp_random_below (w, q->total) : 0;
  q->left = q->total < FP_PORT_PROBES ? q->total : FP_PORT_PROBES;
}

/* Network order; -1 at the end of the round. */
FP_INLINE i32
fp_port_next (fp_worker_t *w, fp_port_probe_t *q)
{
  u32 i = q->next;
  if (!q->left)
    return -1;
  q->left--;
  q->next = q->total <= FP_PORT_PROBES ? (i + 1) % q->total : fp_random_below (w, q->total);
  if (!q->config)
    return fp_net16 ((u16) (FP_KEPT_LOW + i));
  for (u32 k = 0; k < q->config->port_ranges; k++)
    {
      u32 size = q->config->ports[k].high - q->config->ports[k].low + 1u;
      if (i < size)
	return fp_net16 ((u16) (q->config->ports[k].low + i));
      i -= size;
    }
  return -1;
}

/* ---- masquerade ---- */

/* kube-proxy (nftables mode): a. to a ClusterIP, if masqueradeAll or the source is no pod of this node; b. to a node port, an
 * external address or a load balancer's; d. a client that was given itself as endpoint. Rule c comes with Local policies. */
FP_ALWAYS_INLINE int
fp_masquerades (const fp_config_t *config, const fp_frontend_t *frontend, int v6, const u8 *client, u8 class,
		const fp_endpoint_t *ep)
{
  const u8 *e = ep->address;
  if (v6 ? !((fp_load64 (client) ^ fp_load64 (e)) | (fp_load64 (client + 8) ^ fp_load64 (e + 8)))
	 : fp_load32 (client) == fp_load32 (e))
    return 1;
  if (frontend->kind != FP_FRONTEND_CLUSTER_IP)
    return 1;
  return config->masquerade_all || class != FP_CLASS_POD;
}

/* ---- session ---- */

/* What is to become of a packet that belongs to no session, and for a new flow all that has been chosen for it. Valid until the
 * caller's next quiescent point; fp_plan_release gives the slot back. */
typedef struct
{
  u8 fate; /* enum fp_fate; FP_FATE_FLOW: a session is to be made */
  u8 reason;
  u8 masquerade;
  u8 v6;
  u32 slot; /* for the session, or FP_NONE */
  u32 ep_slot;
  i32 port; /* source port, in network order, to try first; -1: none */
  const fp_frontend_t *frontend;
  const fp_endpoint_t *ep;
  const u8 *snat; /* or NULL */
  fp_port_probe_t probe;
  u64 forward_hash;
  u64 reverse_hash; /* with `port` */
} fp_plan_t;

FP_ALWAYS_INLINE void
fp_plan_release (fp_worker_t *w, fp_plan_t *plan)
{
  if (plan->slot == FP_NONE)
    return;
  fp_slot_free (w, plan->v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4, plan->slot);
  plan->slot = FP_NONE;
}

FP_ALWAYS_INLINE void
fp_session_fill (void *record, int v6, const fp_packet_t *p, const fp_parsed_t *o, const fp_plan_t *plan)
{
  const u8 *h = p->l3, *src = fp_packet_src (h, v6), *dst = fp_packet_dst (h, v6), *nat = plan->snat ? plan->snat : src;
  const fp_frontend_t *frontend = plan->frontend;
  const fp_endpoint_t *ep = plan->ep;
  u16 sport = fp_load16 (h + o->l4), dport = fp_load16 (h + o->l4 + 2);
  if (v6)
    {
      fp_session6_t *s = record;
      memcpy (s->client, src, 16);
      memcpy (s->vip, dst, 16);
      memcpy (s->ep, ep->address, 16);
      memcpy (s->nat, nat, 16);
      s->cport = s->nport = sport;
      s->vport = dport;
      s->eport = ep->port;
      s->vrf = p->vrf;
      s->proto = o->proto;
      s->flags = 0;
      s->pad = 0;
      s->service_slot = frontend->service_slot;
      s->service_gen = frontend->service_gen;
      s->ep_slot = plan->ep_slot;
      s->ep_gen = atomic_load_explicit (&ep->gen, memory_order_relaxed);
      memset (s->spare, 0, sizeof (s->spare));
    }
  else
    {
      fp_session4_t *s = record;
      s->client = fp_load32 (src);
      s->vip = fp_load32 (dst);
      s->ep = fp_load32 (ep->address);
      s->nat = fp_load32 (nat);
      s->cport = s->nport = sport;
      s->vport = dport;
      s->eport = ep->port;
      s->vrf = p->vrf;
      s->proto = o->proto;
      s->flags = 0;
      s->pad = 0;
      s->service_slot = frontend->service_slot;
      s->service_gen = frontend->service_gen;
      s->ep_slot = plan->ep_slot;
      s->ep_gen = atomic_load_explicit (&ep->gen, memory_order_relaxed);
    }
}

FP_ALWAYS_INLINE void
fp_session_set_port (void *record, int v6, u16 nport)
{
  if (v6)
    {
      fp_session6_t *s = record;
      s->nport = nport;
      s->spare[0] = fp_deltas6 (s);
    }
  else
    {
      fp_session4_t *s = record;
      s->nport = nport;
      s->spare = fp_deltas4 (s);
    }
}

/* `other` has the reverse key that a new flow wants. Remove it if it has expired or, in the second round, if it is over and a SYN wants
 * its port. Returns 1 if the port is worth another try. */
FP_INLINE int
fp_session_evict (fp_worker_t *w, int v6, fp_sref_t other, int second_round, const fp_parsed_t *o)
{
  void *s = fp_session_deref (w->region, v6, other);
  u64 life;

  if (!s)
    return 1; /* gone meanwhile */
  life = atomic_load_explicit (fp_session_life (s, v6), memory_order_relaxed);
  if (!fp_tick_passed (w->tick, fp_life_expiry (life)) &&
      !(second_round && o->proto == FP_PROTO_TCP && (o->tcp_flags & FP_TCP_SYN) && fp_tcp_is_over (fp_life_state (life))))
    return 0;
  if (fp_session_remove (w, v6, other.slot, other.gen))
    fp_count (w, FP_C_PORT_TAKEN_OVER, 1);
  return 1;
}

/* Make the session of a planned flow, or find the one that another worker has made meanwhile. */
FP_ALWAYS_INLINE fp_decision_t
fp_session_create (fp_worker_t *w, int v6, const fp_packet_t *p, const fp_parsed_t *o, fp_plan_t *plan)
{
  const fp_shared_table_t *t = fp_session_table (w->region, v6);
  const fp_config_t *config = plan->masquerade ? fp_config (w->region) : NULL;
  fp_decision_t d = { .fate = FP_FATE_DROP, .reason = FP_DROP_SESSION_TABLE_FULL };
  u8 state = fp_session_first (o->proto, o->tcp_flags);
  u32 expiry = w->tick + fp_session_timeout (o->proto, state), slot = plan->slot;
  u64 reverse_hash = plan->reverse_hash;
  int second_round = 0, again = 0;
  i32 port = plan->port, hashed = port;

  plan->slot = FP_NONE;
  if (FP_UNLIKELY (slot == FP_NONE))
    slot = fp_slot_alloc (w, v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4);
  if (FP_UNLIKELY (slot == FP_NONE))
    return d;
  fp_session_fill (fp_session_at (t, v6, slot), v6, p, o, plan);
  for (;;)
    {
      void *s = fp_session_at (t, v6, slot);
      if (FP_UNLIKELY (port < 0 && !second_round))
	{
	  second_round = 1;
	  fp_port_round (w, &plan->probe, config);
	  port = fp_port_next (w, &plan->probe);
	}
      if (FP_UNLIKELY (port < 0))
	{
	  fp_slot_free (w, v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4, slot);
	  d.reason = FP_DROP_NO_PORT;
	  return d;
	}
      fp_session_set_port (s, v6, (u16) port);
      if (FP_UNLIKELY (port != hashed))
	{
	  reverse_hash = fp_session_hash (w->region, s, v6, 1);
	  hashed = port;
	}
      switch (fp_session_insert (w, v6, &slot, plan->forward_hash, reverse_hash, state, expiry, &d.ref))
	{
	case FP_INSERTED:
	  d.fate = FP_FATE_FLOW;
	  d.reason = FP_DROP_NONE;
	  fp_count (w, FP_C_MASQUERADED, plan->masquerade);
	  return d;
	case FP_EXISTS:
	  d.fate = FP_FATE_FLOW;
	  d.reason = FP_DROP_NONE;
	  return d;
	case FP_FULL:
	  return d;
	case FP_COLLISION:
	  break;
	}
      /* One more try for a port whose session had to go; if somebody else took it first, the next port. */
      again = !again && fp_session_evict (w, v6, d.ref, second_round, o);
      if (!again)
	{
	  if (!plan->probe.total)
	    fp_port_round (w, &plan->probe, config);
	  port = fp_port_next (w, &plan->probe);
	}
    }
}

/* ---- decision ---- */

/* The frontend that a packet with ports is sent to, or NULL. Service addresses come before node ports, as in kube-proxy. */
FP_ALWAYS_INLINE const fp_frontend_t *
fp_packet_frontend (const fp_region_t *r, int v6, const fp_packet_t *p, const fp_parsed_t *o)
{
  const u8 *dst = fp_packet_dst (p->l3, v6);
  u16 dport = fp_load16 (p->l3 + o->l4 + 2);
  const fp_frontend_t *f = fp_frontend_find (r, v6, p->vrf, dst, dport, o->proto);
  if (f)
    return f;
  f = fp_nodeport_find (r, p->vrf, v6 ? 6 : 4, dport, o->proto);
  return f && fp_prefix_class (r, v6, p->vrf, dst) == FP_CLASS_HOST ? f : NULL;
}

/* A flow to an endpoint that serves no more starts anew, if its service has one that does (kube-proxy's conntrack cleanup). */
FP_INLINE int
fp_flow_restarts (const fp_region_t *r, int v6, const fp_packet_t *p, const fp_parsed_t *o)
{
  const fp_frontend_t *f = fp_packet_frontend (r, v6, p, o);
  const fp_service_t *s = f ? fp_frontend_service (r, f) : NULL;
  return s && fp_service_serving (s) > 0;
}

FP_INLINE fp_decision_t
fp_fate (enum fp_fate fate, enum fp_drop reason)
{
  return (fp_decision_t){ .fate = fate, .reason = reason };
}

/* The hash of the key that the endpoint's answers will have. */
FP_ALWAYS_INLINE u64
fp_plan_reverse_hash (const fp_region_t *r, int v6, const fp_packet_t *p, const fp_parsed_t *o, const fp_plan_t *plan)
{
  const u8 *nat = plan->snat ? plan->snat : fp_packet_src (p->l3, v6), *ep = plan->ep->address;
  if (v6)
    {
      fp_key6_t k = { .sport = plan->ep->port, .dport = (u16) plan->port, .proto = o->proto, .vrf = p->vrf };
      memcpy (k.src, ep, 16);
      memcpy (k.dst, nat, 16);
      return fp_hash_key6 (&r->hash, &k);
    }
  fp_key4_t k = { .src = fp_load32 (ep), .dst = fp_load32 (nat), .sport = plan->ep->port, .dport = (u16) plan->port,
		  .proto = o->proto, .vrf = p->vrf };
  return fp_hash_key4 (&r->hash, &k);
}

/* Choose for a packet with ports that belongs to no session, so far as is known, and take a slot; nobody else can see that. What the
 * insertion will touch is on its way then. */
FP_ALWAYS_INLINE void
fp_flow_plan (fp_worker_t *w, int v6, const fp_packet_t *p, const fp_parsed_t *o, u64 forward_hash, fp_plan_t *plan)
{
  fp_region_t *r = w->region;
  const u8 *src = fp_packet_src (p->l3, v6);
  const fp_frontend_t *frontend = fp_packet_frontend (r, v6, p, o);
  const fp_config_t *config;
  const fp_service_t *service;
  fp_set_t set;

  plan->fate = FP_FATE_PASS;
  plan->reason = FP_DROP_NONE;
  plan->v6 = (u8) v6;
  plan->slot = FP_NONE;
  plan->forward_hash = forward_hash;
  if (!frontend)
    return;
  plan->frontend = frontend;
  plan->fate = FP_FATE_DROP;
  plan->reason = FP_DROP_UNRESOLVED;
  service = fp_frontend_service (r, frontend);
  if (!service)
    return;
  set = fp_service_set (r, service, FP_SET_CLUSTER);
  if (set.count == 0)
    {
      int drop = fp_policy_verdict (fp_service_policy (service)) == FP_EMPTY_DROP;
      plan->fate = drop ? FP_FATE_DROP : FP_FATE_ANSWER;
      plan->reason = drop ? FP_DROP_NO_ENDPOINT_DROP : FP_DROP_NO_ENDPOINT;
      return;
    }

  /* A segment that cannot begin a flow: its session is gone or never was, and no endpoint waits for it. One with data
   * is taken up (as nf_conntrack_tcp_loose does): if it goes to its own endpoint, the connection lives on, if not,
   * the endpoint's RST tells the client at once. */
  if (o->proto == FP_PROTO_TCP)
    {
      u8 f = o->tcp_flags & (FP_TCP_FIN | FP_TCP_SYN | FP_TCP_RST | FP_TCP_ACK);
      if (f != FP_TCP_SYN && f != FP_TCP_ACK)
	{
	  plan->reason = FP_DROP_BAD_STATE;
	  return;
	}
    }
  enum fp_drop hop = fp_hop_check (p, o, v6);
  if (hop)
    {
      plan->fate = FP_FATE_ANSWER;
      plan->reason = hop;
      return;
    }

  plan->ep_slot = set.slots[fp_random_below (w, set.count)];
  plan->ep = fp_endpoint (r, plan->ep_slot);
  if (!plan->ep)
    return;
  config = fp_config (r);
  u8 class = p->ingress == FP_CLASS_POD || p->ingress == FP_CLASS_HOST ? p->ingress : fp_prefix_class (r, v6, p->vrf, src);
  plan->masquerade = (u8) fp_masquerades (config, frontend, v6, src, class, plan->ep);
  plan->snat = NULL;
  plan->probe = (fp_port_probe_t){ NULL, 0, 0, 0 };
  plan->port = fp_load16 (p->l3 + o->l4);
  if (plan->masquerade)
    {
      if (v6 ? !config->has_snat6 : !config->has_snat4)
	{
	  plan->reason = FP_DROP_NO_SNAT_ADDRESS;
	  return;
	}
      plan->snat = v6 ? config->snat6 : (const u8 *) &config->snat4;
      fp_port_round (w, &plan->probe, config);
      plan->port = fp_port_next (w, &plan->probe);
    }
  plan->fate = FP_FATE_FLOW;
  plan->reason = FP_DROP_NONE;
  __builtin_prefetch (r->service_counters[w->worker] + frontend->service_slot, 1, 3);
  plan->reverse_hash = fp_plan_reverse_hash (r, v6, p, o, plan);
  fp_index_prefetch (&fp_session_table (r, v6)->index, plan->reverse_hash);
  plan->slot = fp_slot_alloc (w, v6 ? FP_SHARED_SESSION6 : FP_SHARED_SESSION4);
  if (FP_UNLIKELY (plan->slot == FP_NONE))
    return;
  u8 *record = fp_session_at (fp_session_table (r, v6), v6, plan->slot);
  __builtin_prefetch (record, 1, 3);
  if (v6)
    __builtin_prefetch (record + FP_CACHE_LINE, 1, 3);
}

/* A packet for no session and no frontend: what its destination address alone says (kube-proxy, nftables mode: a cluster address
 * rejects undefined ports, of any protocol; an unallocated address of a service range drops). */
FP_INLINE fp_decision_t
fp_address_fate (const fp_region_t *r, int v6, const fp_packet_t *p)
{
  const u8 *dst = fp_packet_dst (p->l3, v6);
  u8 kinds = fp_vip_kinds (r, v6, p->vrf, dst);
  if (kinds & (1 << FP_FRONTEND_CLUSTER_IP))
    return fp_fate (FP_FATE_ANSWER, FP_DROP_UNDEFINED_PORT);
  if (!kinds && fp_prefix_class (r, v6, p->vrf, dst) == FP_CLASS_SERVICE)
    return fp_fate (FP_FATE_DROP, FP_DROP_UNALLOCATED);
  return fp_fate (FP_FATE_PASS, FP_DROP_NONE);
}

#endif /* FP_NAT_H */

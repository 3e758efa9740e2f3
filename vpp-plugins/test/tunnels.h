/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U records for the tests of the tables. */
#ifndef TEST_TUNNELS_H
#define TEST_TUNNELS_H

#include "tables.h"

static inline fp_capacity_t
tunnel_capacity (u32 tunnels)
{
  fp_capacity_t c = small_capacity ();
  c.gtpu_endpoints = 8;
  c.gtpu_peers = 64;
  c.tunnels = tunnels;
  c.ues = 2 * tunnels;
  return c;
}

/* 192.0.2.<id> or 2001:db8::<id>, ranges and entropy off */
static inline fp_wire_gtpu_endpoint_t
wire_gtpu_endpoint (u64 id, u8 family)
{
  fp_wire_gtpu_endpoint_t e = { .family = family, .id = id, .port_low = 49152, .port_high = 65535 };
  if (family == 4)
    ip4 (e.address, 0xc0000200u + (u32) id);
  else
    memcpy (e.address, "\x20\x01\x0d\xb8", 4), e.address[15] = (u8) id;
  return e;
}

/* 198.51.100.<n> or 2001:db8:1::<n> */
static inline void
peer_address (u8 out[16], u8 family, u32 n)
{
  memset (out, 0, 16);
  if (family == 4)
    ip4 (out, 0xc6336400u + n);
  else
    memcpy (out, "\x20\x01\x0d\xb8\0\x01", 6), out[14] = (u8) (n >> 8), out[15] = (u8) n;
}

static inline fp_wire_gtpu_peer_t
wire_gtpu_peer (u64 endpoint, u8 family, u32 n)
{
  fp_wire_gtpu_peer_t p = { .endpoint = endpoint, .family = family, .t3_ms = 3000, .n3 = 3 };
  peer_address (p.address, family, n);
  return p;
}

static inline fp_wire_gtpu_tunnel_t
wire_gtpu_tunnel (u64 endpoint, u8 family, u32 teid, u32 peer, u32 remote_teid)
{
  fp_wire_gtpu_tunnel_t t = { .endpoint = endpoint, .local_teid = teid, .remote_teid = remote_teid, .family = family,
			      .payload = FP_GTPU_PAYLOAD_IP, .flags = FP_GTPU_INNER_SOURCE_CHECK };
  peer_address (t.remote, family, peer);
  return t;
}

/* An IPv4 prefix. */
static inline fp_wire_gtpu_ue_t
wire_gtpu_ue (u64 endpoint, u32 teid, u32 address, u8 length)
{
  fp_wire_gtpu_ue_t u = { .family = 4, .length = length, .endpoint = endpoint, .local_teid = teid };
  ip4 (u.address, address);
  return u;
}

/* Tunnel slot by TEID, as a packet finds it. */
static inline u32
find_teid (const fp_region_t *r, u64 id, u32 teid)
{
  fp_wire_gtpu_endpoint_t e = wire_gtpu_endpoint (id, 4);
  const fp_gtpu_endpoint_t *found = fp_gtpu_endpoint_find (r, 0, 0, e.address);
  return found ? fp_tunnel_lookup (r, found, teid, fp_tunnel_hash (r, found, teid)) : FP_NONE;
}

static inline const fp_gtpu_encap_t *
find_ue4 (const fp_region_t *r, u32 vrf, u32 address)
{
  u8 a[16];
  ip4 (a, address);
  return fp_ue_find (r, vrf, 0, a);
}

#endif /* TEST_TUNNELS_H */

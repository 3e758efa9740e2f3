/* SPDX-License-Identifier: Apache-2.0 */
/* Packets for the kernels' tests: built from scratch, and checked by full recomputation of every checksum with code that
 * shares nothing with fp_csum.h. */
#ifndef TEST_PACKETS_H
#define TEST_PACKETS_H

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(cond, ...)                                                                                       \
  do                                                                                                           \
    {                                                                                                          \
      if (!(cond))                                                                                             \
	{                                                                                                      \
	  fprintf (stderr, "%s:%d: %s: ", __FILE__, __LINE__, __func__);                                       \
	  fprintf (stderr, __VA_ARGS__);                                                                       \
	  fprintf (stderr, " [%s]\n", #cond);                                                                  \
	  exit (1);                                                                                            \
	}                                                                                                      \
    }                                                                                                          \
  while (0)

/* One packet's description. Addresses as text, so that tests read like the rules they check. */
typedef struct
{
  const char *src, *dst;
  uint16_t sport, dport;
  uint8_t proto;      /* 6, 17, 1, 58 or anything */
  uint8_t tcp_flags;  /* 0: ACK */
  uint8_t ttl;	      /* 0: 64 */
  uint16_t payload;   /* bytes behind the transport header */
  uint16_t id;	      /* IPv4 identification, IPv6 fragment id */
  uint16_t offset;    /* of the fragment, bytes */
  uint8_t more;	      /* more fragments follow; offset or more: payload is the fragment's own */
  uint8_t df;
  uint8_t no_udp_checksum;
  uint8_t partial;    /* checksum field holds the pseudo header's sum */
  uint8_t options;    /* IPv4: bytes of NOP options; IPv6: bytes of a destination options header (multiple of 8) */
  uint8_t icmp_type, icmp_code;
  const uint8_t *body; /* transport payload (ICMP: behind its 8 bytes); NULL: a pattern */
} spec_t;

static inline int
is6 (const char *address)
{
  return strchr (address, ':') != NULL;
}

static inline uint32_t
ref_sum (const uint8_t *p, uint32_t n, uint32_t s)
{
  for (uint32_t i = 0; i < n; i++)
    {
      s += i & 1 ? p[i] : (uint32_t) p[i] << 8;
      s = (s & 0xffff) + (s >> 16);
    }
  return s;
}

static inline void
put16 (uint8_t *p, uint32_t v)
{
  p[0] = (uint8_t) (v >> 8);
  p[1] = (uint8_t) v;
}

static inline uint32_t
get16 (const uint8_t *p)
{
  return (uint32_t) p[0] << 8 | p[1];
}

static inline uint32_t
ref_pseudo (const uint8_t *h, uint32_t proto, uint32_t length)
{
  uint32_t s = h[0] >> 4 == 4 ? ref_sum (h + 12, 8, 0) : ref_sum (h + 8, 32, 0);
  s += proto + (length >> 16) + (length & 0xffff);
  while (s >> 16)
    s = (s & 0xffff) + (s >> 16);
  return s;
}

/* Where the checksum lies in the transport header, or -1. */
static inline int
csum_field (uint8_t proto)
{
  return proto == 6 ? 16 : proto == 17 ? 6 : proto == 1 || proto == 58 ? 2 : -1;
}

static inline void
set_l4_checksum (uint8_t *h, uint32_t l4, uint8_t proto, uint32_t length, int partial)
{
  uint32_t n = length - l4, s;
  int field = csum_field (proto);
  if (field < 0)
    return;
  put16 (h + l4 + field, 0);
  s = proto == 1 ? 0 : ref_pseudo (h, proto, n);
  if (partial)
    {
      put16 (h + l4 + field, s);
      return;
    }
  s = ~ref_sum (h + l4, n, s) & 0xffff;
  if (proto == 17 && s == 0)
    s = 0xffff;
  put16 (h + l4 + field, s);
}

static inline uint32_t
l4_header (uint8_t proto)
{
  return proto == 6 ? 20 : proto == 17 || proto == 1 || proto == 58 ? 8 : 0;
}

/* Write the packet to `h` (large enough) and return its length. */
static inline uint32_t
build (uint8_t *h, const spec_t *s)
{
  int six = is6 (s->src), fragment = s->offset || s->more;
  uint32_t at, l4, length, header = s->offset ? 0 : l4_header (s->proto);

  if (six)
    {
      memset (h, 0, 40);
      h[0] = 0x60;
      h[7] = s->ttl ? s->ttl : 64;
      inet_pton (AF_INET6, s->src, h + 8);
      inet_pton (AF_INET6, s->dst, h + 24);
      uint8_t *next = h + 6;
      at = 40;
      if (s->options)
	{
	  *next = 60;
	  memset (h + at, 0, s->options);
	  h[at + 1] = (uint8_t) (s->options / 8 - 1);
	  h[at + 2] = 1; /* PadN over the rest */
	  h[at + 3] = (uint8_t) (s->options - 4);
	  next = h + at;
	  at += s->options;
	}
      if (fragment)
	{
	  *next = 44;
	  memset (h + at, 0, 8);
	  put16 (h + at + 2, s->offset | (s->more ? 1 : 0));
	  put16 (h + at + 6, s->id);
	  next = h + at;
	  at += 8;
	}
      *next = s->proto;
    }
  else
    {
      at = 20 + s->options;
      memset (h, 0, at);
      memset (h + 20, 1, s->options);
      h[0] = (uint8_t) (0x40 | at / 4);
      put16 (h + 4, s->id);
      put16 (h + 6, (s->df ? 0x4000u : 0) | (s->more ? 0x2000u : 0) | s->offset / 8u);
      h[8] = s->ttl ? s->ttl : 64;
      h[9] = s->proto;
      inet_pton (AF_INET, s->src, h + 12);
      inet_pton (AF_INET, s->dst, h + 16);
    }
  l4 = at;
  length = l4 + header + s->payload;
  for (uint32_t i = 0; i < s->payload; i++)
    h[l4 + header + i] = s->body ? s->body[i] : (uint8_t) (i * 7 + 3);
  if (!s->offset)
    {
      memset (h + l4, 0, header);
      if (s->proto == 6 || s->proto == 17)
	{
	  put16 (h + l4, s->sport);
	  put16 (h + l4 + 2, s->dport);
	}
      if (s->proto == 6)
	{
	  h[l4 + 12] = 5 << 4;
	  h[l4 + 13] = s->tcp_flags ? s->tcp_flags : 16;
	}
      else if (s->proto == 17)
	put16 (h + l4 + 4, header + s->payload);
      else if (header)
	{
	  h[l4] = s->icmp_type;
	  h[l4 + 1] = s->icmp_code;
	}
    }
  if (six)
    put16 (h + 4, length - 40);
  else
    {
      put16 (h + 2, length);
      put16 (h + 10, ~ref_sum (h, l4, 0) & 0xffff);
    }
  if (!s->offset && !(s->proto == 17 && s->no_udp_checksum))
    set_l4_checksum (h, l4, s->proto, length, s->partial);
  return length;
}

/* Offset of the transport header (or of the fragment's payload), its protocol, and whether it is a fragment. */
static inline uint32_t
find_l4 (const uint8_t *h, uint8_t *proto, int *fragment, int *later)
{
  *fragment = *later = 0;
  if (h[0] >> 4 == 4)
    {
      uint32_t f = get16 (h + 6);
      *fragment = (f & 0x3fff) != 0;
      *later = (f & 0x1fff) != 0;
      *proto = h[9];
      return (h[0] & 15) * 4u;
    }
  uint32_t at = 40;
  *proto = h[6];
  while (*proto == 60 || *proto == 0 || *proto == 43 || *proto == 44)
    {
      uint8_t next = h[at];
      if (*proto == 44)
	{
	  uint32_t f = get16 (h + at + 2);
	  *fragment = (f & 0xfff9) != 0;
	  *later = (f & 0xfff8) != 0;
	  at += 8;
	}
      else
	at += (h[at + 1] + 1u) * 8;
      *proto = next;
    }
  return at;
}

/* Every checksum of a whole, contiguous packet by full recomputation. `embedded`: the packet lies inside an ICMP error, maybe
 * cut short: its transport checksum cannot be recomputed. Fragments: the caller checks the reassembled datagram. */
static inline void
check_checksums (const char *what, const uint8_t *h, uint32_t length, int partial)
{
  uint8_t proto;
  int fragment, later, field;
  uint32_t l4 = find_l4 (h, &proto, &fragment, &later), n = length - l4;

  if (h[0] >> 4 == 4)
    CHECK (ref_sum (h, (h[0] & 15) * 4u, 0) == 0xffff, "%s: IPv4 header checksum is wrong", what);
  field = csum_field (proto);
  if (fragment || field < 0)
    return;
  if (partial)
    {
      uint32_t want = proto == 1 ? 0 : ref_pseudo (h, proto, n), have = get16 (h + l4 + field);
      CHECK (want % 0xffff == have % 0xffff, "%s: partial checksum %04x, want %04x", what, have, want);
      return;
    }
  if (proto == 17 && get16 (h + l4 + 6) == 0)
    return;
  CHECK (ref_sum (h + l4, n, proto == 1 ? 0 : ref_pseudo (h, proto, n)) == 0xffff,
	 "%s: transport checksum is wrong (protocol %u)", what, proto);
}

/* Text of source and destination with ports: "10.0.0.1:5 > 10.0.0.2:80". */
static inline const char *
show (const uint8_t *h, char *out, size_t size)
{
  char a[64], b[64];
  uint8_t proto;
  int fragment, later, six = h[0] >> 4 == 6;
  uint32_t l4 = find_l4 (h, &proto, &fragment, &later);
  inet_ntop (six ? AF_INET6 : AF_INET, h + (six ? 8 : 12), a, sizeof (a));
  inet_ntop (six ? AF_INET6 : AF_INET, h + (six ? 24 : 16), b, sizeof (b));
  if (later || (proto != 6 && proto != 17))
    snprintf (out, size, "%s > %s", a, b);
  else
    snprintf (out, size, "%s,%u > %s,%u", a, get16 (h + l4), b, get16 (h + l4 + 2));
  return out;
}

static inline void
check_addresses (const char *what, const uint8_t *h, const char *want)
{
  char text[160];
  show (h, text, sizeof (text));
  CHECK (strcmp (text, want) == 0, "%s: packet is %s, want %s", what, text, want);
}

/* "a,1 > b,2", as show () writes it; good until eight more calls. */
static inline const char *
flow (const char *src, unsigned sport, const char *dst, unsigned dport)
{
  static char text[8][160];
  static unsigned next;
  char *t = text[next++ % 8];
  snprintf (t, sizeof (text[0]), "%.63s,%u > %.63s,%u", src, sport, dst, dport);
  return t;
}

#endif /* TEST_PACKETS_H */

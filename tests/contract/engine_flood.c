/* SPDX-License-Identifier: Apache-2.0 */
/* Sends 64-byte frames (UDP, IPv4, checksum 0) into an interface as fast as it takes them, for engine_measure.py.
 * Usage: engine_flood INTERFACE SOURCE DESTINATION PORT FLOWS SECONDS; prints the number of frames sent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define FRAME 60 /* 64 with the frame check sequence */
#define BATCH 64

static uint8_t frames[BATCH][FRAME];

static uint16_t
header_checksum (const uint8_t *h)
{
  uint32_t sum = 0;
  for (int i = 0; i < 20; i += 2)
    sum += (uint32_t) (h[i] << 8 | h[i + 1]);
  while (sum >> 16)
    sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t) ~sum;
}

static void
build (uint8_t *f, const char *source, const char *destination, int port)
{
  static const uint8_t start[] = { 0x02, 0x76, 0x70, 0x70, 0, 2, 0x02, 0x76, 0x70, 0x70, 0, 1, 8, 0, 0x45, 0, 0, 46 };
  uint16_t value;

  memcpy (f, start, sizeof (start));
  f[22] = 64;
  f[23] = 17;
  inet_pton (AF_INET, source, f + 26);
  inet_pton (AF_INET, destination, f + 30);
  value = htons (header_checksum (f + 14));
  memcpy (f + 24, &value, 2);
  value = htons ((uint16_t) port);
  memcpy (f + 36, &value, 2);
  f[39] = 26;
}

int
main (int argc, char **argv)
{
  struct sockaddr_ll address = { .sll_family = AF_PACKET };
  struct mmsghdr messages[BATCH];
  struct iovec vectors[BATCH];
  struct timespec now;
  uint64_t sent = 0;
  double end;
  int fd, flows;

  if (argc != 7)
    return 2;
  flows = atoi (argv[5]);
  fd = socket (AF_PACKET, SOCK_RAW, 0);
  address.sll_ifindex = (int) if_nametoindex (argv[1]);
  if (fd < 0 || bind (fd, (struct sockaddr *) &address, sizeof (address)))
    return 1;
  for (int i = 0; i < BATCH; i++)
    {
      build (frames[i], argv[2], argv[3], atoi (argv[4]));
      vectors[i] = (struct iovec){ frames[i], FRAME };
      messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &vectors[i], .msg_iovlen = 1 } };
    }
  clock_gettime (CLOCK_MONOTONIC, &now);
  end = (double) now.tv_sec + 1e-9 * (double) now.tv_nsec + atof (argv[6]);
  do
    {
      for (int i = 0; i < BATCH; i++)
	{
	  uint16_t port = htons ((uint16_t) (1024 + (sent + (uint64_t) i) % (uint64_t) flows));
	  memcpy (frames[i] + 34, &port, 2);
	}
      int n = sendmmsg (fd, messages, BATCH, 0);
      sent += n > 0 ? (uint64_t) n : 0;
      clock_gettime (CLOCK_MONOTONIC, &now);
    }
  while ((double) now.tv_sec + 1e-9 * (double) now.tv_nsec < end);
  printf ("%llu\n", (unsigned long long) sent);
  return 0;
}

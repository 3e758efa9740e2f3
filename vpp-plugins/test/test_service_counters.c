/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of each Service: packets and bytes both ways (fixture.h checks of every packet that it counts once), a Service that goes while its
 * flows live, a slot that gets another Service, sessions, and what is left of it all when the region is attached again. */
#include <unistd.h>

#include "fixture.h"

static fp_msg_service_counters_t
read_one (const node_t *n, u64 id)
{
  fp_wire_service_t key = { .id = id };
  fp_msg_service_counters_t c;
  CHECK (fp_control_service_counters (&n->region, &key, &c) == 0 && c.service == id, "Service %lu", (unsigned long) id);
  return c;
}

static spec_t
tcp (const char *src, u16 sport, const char *dst, u16 dport, u8 flags, u16 payload)
{
  return (spec_t){ .src = src, .dst = dst, .sport = sport, .dport = dport, .proto = 6, .tcp_flags = flags, .payload = payload };
}

/* Flows of two Services on two workers, both ways; packets and bytes of each. */
static void
test_packets (int six)
{
  node_t *n = node_new ();
  u32 header = six ? 60 : 40;
  for (u16 flow = 0; flow < 20; flow++)
    for (u32 k = 0; k < 3; k++)
      {
	spec_t there = tcp (POD[six], (u16) (1000 + flow), DNS[six], 53, k ? FP_TCP_ACK : FP_TCP_SYN, (u16) (10 * k));
	spec_t back = tcp (EP1[six], 5353, POD[six], (u16) (1000 + flow), k ? FP_TCP_ACK : FP_TCP_SYN | FP_TCP_ACK, 7);
	expect_on (n, (int) (flow & 1), &there, FP_FORWARD, 0, "");
	if (k < 2)
	  expect_on (n, (int) (k & 1), &back, FP_FORWARD, 0, "");
      }
  fp_msg_service_counters_t c = read_one (n, ID_DNS_TCP + (u64) six);
  CHECK (c.forward_packets == 60 && c.forward_bytes == 20 * (3 * header + 30), "%lu packets, %lu bytes",
	 (unsigned long) c.forward_packets, (unsigned long) c.forward_bytes);
  CHECK (c.reverse_packets == 40 && c.reverse_bytes == 40 * (header + 7), "back");
  CHECK (c.sessions == 20 && c.sessions_created == 20, "sessions");
  c = read_one (n, ID_WEB_TCP + (u64) six);
  CHECK (!c.forward_packets && !c.reverse_packets && !c.sessions && !c.sessions_created, "another Service");

  /* all, in pieces */
  fp_msg_service_counters_t all[64];
  u64 cursor = 0, packets = 0;
  u32 got = 0;
  do
    {
      u32 m = fp_control_service_counters_dump (&n->region, &cursor, all + got, 3);
      CHECK (m <= 3, "a piece of %u", m);
      for (u32 i = 0; i < m; i++)
	packets += all[got + i].forward_packets;
      got += m;
    }
  while (cursor);
  CHECK (got == 14 && packets == 60, "%u Services, %lu packets", got, (unsigned long) packets);

  CHECK (fp_control_flush_sessions (&n->region) == 20, "flushed");
  c = read_one (n, ID_DNS_TCP + (u64) six);
  CHECK (c.sessions == 0 && c.sessions_created == 20 && c.forward_packets == 60, "sessions are gone, figures stay");
  node_free (n);
}

/* An established flow goes on after its Service, and counts for no other that gets the slot. */
static void
test_gone (int six)
{
  node_t *n = node_new ();
  spec_t syn = tcp (POD[six], 1000, DNS[six], 53, FP_TCP_SYN, 0), answer = tcp (EP1[six], 5353, POD[six], 1000, FP_TCP_SYN | FP_TCP_ACK, 0);
  spec_t more = tcp (POD[six], 1000, DNS[six], 53, FP_TCP_ACK, 100);
  expect (n, &syn, FP_FORWARD, 0, "");
  expect (n, &answer, FP_FORWARD, 0, "");
  expect (n, &more, FP_FORWARD, 0, "");
  u64 id = ID_DNS_TCP + (u64) six;
  fp_wire_frontend_t f = frontend_record (six, DNS[six], 53, 6, ID_DNS_TCP, FP_FRONTEND_CLUSTER_IP);
  fp_wire_service_t key = { .id = id };
  u32 slot = fp_word_slot (fp_service_word (&n->region, id));
  erase (n, FP_TABLE_FRONTEND, &f);
  delete_endpoint (n, six, ID_DNS_TCP, EP1[six], 5353);
  commit (n);
  erase (n, FP_TABLE_SERVICE, &key);
  fp_msg_service_counters_t c;
  CHECK (fp_control_service_counters (&n->region, &key, &c) == -ENOENT, "gone");
  n->service_gone = 1;
  expect (n, &more, FP_FORWARD, 0, "");

  for (u32 i = 0; i < 4; i++)
    advance (n, 0), fp_control_poll (&n->region);
  put_service (n, six, 900, 6, FP_EMPTY_REJECT);
  CHECK (fp_word_slot (fp_service_word (&n->region, 900 + (u64) six)) == slot, "the slot is used again");
  expect (n, &more, FP_FORWARD, 0, "");
  c = read_one (n, 900 + (u64) six);
  CHECK (!c.forward_packets && !c.forward_bytes && !c.reverse_packets && !c.sessions && !c.sessions_created, "begins from zero");
  CHECK (fp_control_flush_sessions (&n->region) == 1, "flushed");
  c = read_one (n, 900 + (u64) six);
  CHECK (!c.sessions, "what was not its own is not taken from it");
  node_free (n);
}

/* Sessions that a region holds are counted for their Services when it is attached; packets begin anew. */
static void
test_attached (void)
{
  char path[64];
  fp_capacity_t capacity = { .sessions4 = 1024, .sessions6 = 1024, .fragments = 64, .services = 16, .frontends = 16,
			     .endpoints = 16, .prefixes = 64, .settings = 64 };
  fp_region_report_t report;
  snprintf (path, sizeof (path), "%s/fp-service-counters-%d", access ("/dev/shm", W_OK) ? "/tmp" : "/dev/shm", (int) getpid ());
  for (u32 round = 0; round < 2; round++)
    {
      node_t n = { 0 };
      CHECK (fp_region_open (&n.region, path, &capacity, 1, &report) == 0, "%s", report.message);
      CHECK (report.attached == round, "round %u: %s", round, report.reason);
      fp_worker_init (&n.worker[0], &n.region, 0, 42);
      n.now = fp_now_ns ();
      fp_worker_quiescent (&n.worker[0], n.now);
      put_prefix (&n, "10.1.0.0", 24, FP_PREFIX_POD);
      put_service (&n, 0, 5, 6, FP_EMPTY_REJECT);
      put_endpoint (&n, 0, 5, EP1[0], 5353, EP_FLAGS);
      commit (&n);
      put_frontend (&n, 0, DNS[0], 53, 6, 5, FP_FRONTEND_CLUSTER_IP);
      if (round)
	{
	  fp_msg_service_counters_t c = read_one (&n, 5);
	  CHECK (c.sessions == 10 && !c.sessions_created && !c.forward_packets, "%lu sessions", (unsigned long) c.sessions);
	}
      for (u16 flow = 0; flow < 10; flow++)
	{
	  spec_t p = tcp (POD[0], (u16) (1000 + flow), DNS[0], 53, FP_TCP_SYN, 0);
	  expect (&n, &p, FP_FORWARD, 0, "");
	}
      fp_msg_service_counters_t c = read_one (&n, 5);
      CHECK (c.sessions == 10 && c.sessions_created == (round ? 0 : 10) && c.forward_packets == 10, "round %u", round);
      fp_region_close (&n.region, 1);
    }
  unlink (path);
}

int
main (void)
{
  for (int six = 0; six < 2; six++)
    {
      test_packets (six);
      test_gone (six);
    }
  test_attached ();
  printf ("ok: counters of Services\n");
  return 0;
}

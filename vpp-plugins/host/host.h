/* SPDX-License-Identifier: Apache-2.0 */
/* What a host of the packet kernels (vpp-embedded, VPP's plugin khost) is to the code that both share: messages of the control plane, reports,
 * GTP-U signalling. All of it runs on the host's one control thread. */
#ifndef HOST_H
#define HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "json.h"
#include "fastpath/fp_region.h"

#define HOST_PACKET_BYTES 128 /* of one IP packet of GTP-U signalling */

typedef struct host_signalling host_signalling_t; /* signalling.h */
typedef struct host host_t;

typedef struct
{
  /* Room for the next signalling packet, HOST_PACKET_BYTES; NULL: none now. */
  uint8_t *(*packet_room) (host_t *);
  /* The packet written there, of `length` bytes, may go in that VRF. */
  void (*packet_send) (host_t *, uint32_t length, uint32_t vrf);
  /* Members of INFO's object that only this host has: engine, version, workers, interfaces, ... */
  void (*describe) (const host_t *, host_json_t *);
  /* What a GTP-U switch (one of enum fp_gtpu_switch's bits) that needs a forwarding graph is now: "on", "off", ...; NULL: all
   * are "notApplicable". */
  const char *(*graph_switch) (const host_t *, uint32_t bit);
  /* Members of STATS' counters beside the kernels' own, or NULL. */
  void (*count) (const host_t *, host_json_t *);
  /* A record of a table in `record_tables` was entered (it may be what it was), or is about to be deleted. A deletion that is then refused is
   * followed by an entry. May be NULL. */
  void (*record) (host_t *, uint32_t table, const fp_wire_t *record, bool is_delete);
  /* Before n records of `size` bytes are entered: puts a negative errno into codes[i], 0 until then, for each that this host has no room for.
   * NULL: it has room for whatever the tables take. */
  void (*admit) (const host_t *, uint32_t table, const uint8_t *records, uint32_t n, uint32_t size, int *codes);
} host_functions_t;

struct host
{
  const host_functions_t *functions;
  fp_region_t *region;
  fp_region_report_t report;
  uint32_t workers;	  /* contexts 0 .. workers - 1 are in use */
  uint32_t record_tables; /* bit (1 << enum fp_table) */
  struct fp_gtpu_worker *gtpu[FP_MAX_WORKERS]; /* of each worker */
  host_signalling_t *signalling;
};

#endif /* HOST_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* The region of a host: how large its settings make it, and how it is opened. */
#ifndef HOST_REGION_H
#define HOST_REGION_H

#include "host.h"

/* Capacities, as the hosts' settings of the same names give them. */
typedef struct
{
  uint32_t sessions; /* of each address family */
  uint32_t services;
  uint32_t frontends;
  uint32_t endpoints;
  uint32_t prefixes;
  uint32_t fragments;
  uint32_t tunnels;
  uint32_t ues; /* 0: twice the tunnels */
  uint32_t gtpu_endpoints;
  uint32_t gtpu_peers;
} host_sizes_t;

extern const host_sizes_t host_sizes_usual;

/* Attaches host->region to the file, or makes it anew, and sets host->workers and host->report. The engine that still holds it has ten seconds to go;
 * waiting (path) is called once if that is needed. 0 or a negative errno: host->report.message says more. */
int host_region_open (host_t *host, const char *path, const host_sizes_t *sizes, uint32_t workers, void (*waiting) (const char *path));

#endif /* HOST_REGION_H */

/* SPDX-License-Identifier: Apache-2.0 */
#include "region.h"

#include <errno.h>
#include <time.h>

#define LOCK_TRIES 100 /* of 100 ms: an engine that is being replaced needs a moment to go */
#define SETTINGS   64

const host_sizes_t host_sizes_usual = {
  .sessions = 262144,
  .services = 16384,
  .frontends = 32768,
  .endpoints = 131072,
  .prefixes = 1024,
  .fragments = 16384,
  .tunnels = 16384,
  .gtpu_endpoints = 64,
  .gtpu_peers = 4096,
};

static fp_capacity_t
capacity (const host_sizes_t *sizes)
{
  return (fp_capacity_t){
    .sessions4 = sizes->sessions,
    .sessions6 = sizes->sessions,
    .fragments = sizes->fragments,
    .services = sizes->services,
    .frontends = sizes->frontends,
    .endpoints = sizes->endpoints,
    .prefixes = sizes->prefixes,
    .settings = SETTINGS,
    .gtpu_endpoints = sizes->gtpu_endpoints,
    .gtpu_peers = sizes->gtpu_peers,
    .tunnels = sizes->tunnels,
    .ues = sizes->ues ? sizes->ues : 2 * sizes->tunnels,
  };
}

int
host_region_open (host_t *host, const char *path, const host_sizes_t *sizes, uint32_t workers, void (*waiting) (const char *path))
{
  const struct timespec pause = { .tv_nsec = 100000000 };
  const fp_capacity_t c = capacity (sizes);
  int rv;

  host->workers = workers;
  for (int tries = 0;; tries++)
    {
      rv = fp_region_open (host->region, path, &c, workers, &host->report);
      if (rv != -EBUSY || tries == LOCK_TRIES)
	return rv;
      if (tries == 0)
	waiting (path);
      nanosleep (&pause, NULL);
    }
}

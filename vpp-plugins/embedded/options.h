/* SPDX-License-Identifier: Apache-2.0 */
/* Command line of vpp-embedded. */
#ifndef EMB_OPTIONS_H
#define EMB_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "host/region.h"

#define EMB_MAX_INTERFACES 9 /* eight for packets, one for frames */
#define EMB_MAX_WORKERS	   32

/* The Makefile takes it from pyproject.toml, which an image's build does not have beside it. */
#ifndef VPP_OPERATOR_VERSION
#define VPP_OPERATOR_VERSION ""
#endif
#define EMB_VERSION (sizeof (VPP_OPERATOR_VERSION) > 1 ? VPP_OPERATOR_VERSION : "0.1.0")

typedef struct
{
  const char *interfaces[EMB_MAX_INTERFACES];
  uint32_t n_interfaces;
  uint32_t frames_interface; /* its place among the interfaces: the one for frames of Ethernet tunnels */
  const char *ethernet_interface;
  const char *socket;
  const char *region;
  const char *settings;
  uint32_t workers;
  host_sizes_t sizes;
  uint32_t ring_frames; /* receive ring of each worker and interface */
  uint32_t busy_poll_us;
  bool check;
} emb_options_t;

/* Returns -1 to go on, else the exit status of the program. */
int emb_options_parse (emb_options_t *o, int argc, char **argv);

#endif /* EMB_OPTIONS_H */

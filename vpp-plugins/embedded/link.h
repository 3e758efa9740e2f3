/* SPDX-License-Identifier: Apache-2.0 */
/* Watches the interfaces by rtnetlink: they may be absent at the start, go away, come back with another index. */
#ifndef EMB_LINK_H
#define EMB_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"

/* State of one interface, written by the control thread and read by the workers. `state` is one word so that a reader
 * never sees half of a change. */
typedef struct
{
  const char *name;
  _Atomic uint64_t state; /* ifindex | mtu << 32; 0: absent or down */
} emb_link_t;

static inline int
emb_link_ifindex (uint64_t state)
{
  return (int) (state & UINT32_MAX);
}

static inline uint32_t
emb_link_mtu (uint64_t state)
{
  return (uint32_t) (state >> 32);
}

typedef struct
{
  int fd; /* rtnetlink socket, for poll */
  emb_link_t links[EMB_MAX_INTERFACES];
  uint32_t n_links;
} emb_links_t;

/* Returns 0 or a negative errno. */
int emb_links_open (emb_links_t *l, const emb_options_t *o);
/* Reads what is waiting on the socket; true if a link changed. */
bool emb_links_read (emb_links_t *l);
void emb_links_close (emb_links_t *l);

#endif /* EMB_LINK_H */

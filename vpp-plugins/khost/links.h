/* SPDX-License-Identifier: Apache-2.0 */
/* The links that the engine serves, by their names in the kernel. Each is taken by a host-interface (af_packet) while it is there: it may come after VPP,
 * go, and come back, as a node's agent makes it. Main thread only. */
#ifndef included_khost_links_h
#define included_khost_links_h

#include <vnet/vnet.h>

/* What runs on a link's interface. Called when the interface has come, and before it goes. */
typedef void khost_link_fn (u32 sw_if_index, int is_ethernet, int is_there);

/* Serves the link `name` (copied) from now on. The first one that is no Ethernet link gets the default routes. */
void khost_links_add (const char *name, int is_ethernet);

/* Receive queues of each link: this many, but one for each thread that forwards at least. At most KHOST_MAX_RX_QUEUES. */
#define KHOST_MAX_RX_QUEUES 64
void khost_links_queues (u32 n);

/* Sets what is called for each interface; one function. */
void khost_links_call (khost_link_fn *fn);

/* Returns a vector of the names (C strings, not to be freed) of the links that are there and up; the vector is the caller's. */
const char **khost_links_open (void);

#endif /* included_khost_links_h */

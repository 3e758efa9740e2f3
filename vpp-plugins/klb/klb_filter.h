/* SPDX-License-Identifier: Apache-2.0 */
/* Which packets of an interface are worth the kernel's look, told from a few bits that stay in the L2 cache: those from an address that
 * endpoints have (answers), those to a node port on an address of the node, and those that are no plain TCP or UDP and concern either.
 * And plain TCP and UDP to the first service ranges, which spares them a lookup in the FIB: it would lead them to the kernel, too. A
 * bit may be set for another address too: the kernel passes such packets. A clear bit is never wrong: bits are set before the first
 * session can be made that needs them, and go only when the whole filter is built anew from the tables and the sessions. */
#ifndef included_klb_filter_h
#define included_klb_filter_h

#include <vppinfra/clib.h>
#include <vppinfra/format.h>

#include <klb/klb_match.h>

#define KLB_FILTER_LOG2_MIN 13 /* words of a set: 32 KiB */
#define KLB_FILTER_LOG2_MAX 17 /* 512 KiB */
#define KLB_FILTER_SPREAD   32 /* bits for each address, when it is built: of other addresses, one in 130 looks like one of the set */

/* ---- main thread ---- */

void klb_filter_init (void);
/* Addresses in network order, 4 or 16 bytes; ports in network order. */
void klb_filter_add_source (int v6, const void *address);
void klb_filter_add_destination (int v6, const void *address);
void klb_filter_add_prefix (const fp_wire_prefix_t *prefix);
void klb_filter_add_port (u16 port);
/* An address or port may be superfluous now; when there are many, the filter is built anew. */
void klb_filter_stale (u32 n);
/* Build it anew, now: from a region that has just been attached. */
void klb_filter_build (void);
/* Build it anew soon. */
void klb_filter_rebuild (void);
u8 *format_klb_filter (u8 *s, va_list *args);

#endif /* included_klb_filter_h */

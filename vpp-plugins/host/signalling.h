/* SPDX-License-Identifier: Apache-2.0 */
/* What the control thread does about GTP-U signalling: it asks peers for Echo Responses and keeps the state of their paths (TS 29.281,
 * 7.2), sends End Markers after a tunnel has moved (7.3.2), and notes Error Indications at the tunnels they are about (7.3.1). */
#ifndef HOST_SIGNALLING_H
#define HOST_SIGNALLING_H

#include "host.h"

/* Returns NULL without memory. */
host_signalling_t *host_signalling_open (host_t *host);
void host_signalling_close (host_t *host);

/* Records of peers changed: their timers are looked at in the next round. */
void host_signalling_peers_changed (host_t *host);

/* Does what is due. Returns the milliseconds until something is. */
int host_signalling_run (host_t *host);

/* States of the peers from the slot `*cursor` on, at most `max`; sets `*cursor` to where to go on, 0 at the end. Returns
 * their number. */
uint32_t host_signalling_paths (host_t *host, uint64_t *cursor, fp_msg_gtpu_path_t *out, uint32_t max);

#endif /* HOST_SIGNALLING_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* What the control thread does about GTP-U signalling: it asks peers for Echo Responses and keeps the state of their paths (TS 29.281,
 * 7.2), sends End Markers after a tunnel has moved (7.3.2), and notes Error Indications at the tunnels they are about (7.3.1). Packets
 * leave by the first worker. */
#ifndef EMB_SIGNALLING_H
#define EMB_SIGNALLING_H

#include "engine.h"

/* Returns NULL without memory. */
emb_signalling_t *emb_signalling_open (emb_engine_t *e);
void emb_signalling_close (emb_engine_t *e);

/* Records of peers changed: their timers are looked at in the next round. */
void emb_signalling_peers_changed (emb_engine_t *e);

/* Does what is due. Returns the milliseconds until something is. */
int emb_signalling_run (emb_engine_t *e);

/* States of the peers from the slot `*cursor` on, at most `max`; sets `*cursor` to where to go on, 0 at the end. Returns
 * their number. */
uint32_t emb_signalling_paths (emb_engine_t *e, uint64_t *cursor, fp_msg_gtpu_path_t *out, uint32_t max);

#endif /* EMB_SIGNALLING_H */

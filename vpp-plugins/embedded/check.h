/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EMB_CHECK_H
#define EMB_CHECK_H

/* Asks the engine at a control socket for its state, for probes: 0 if it answered within two seconds, else 1. */
int emb_check (const char *socket_path);

#endif /* EMB_CHECK_H */

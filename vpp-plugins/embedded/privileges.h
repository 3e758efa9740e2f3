/* SPDX-License-Identifier: Apache-2.0 */
/* The program gives up, for good and before its first thread starts, what it does not need. */
#ifndef EMB_PRIVILEGES_H
#define EMB_PRIVILEGES_H

/* Every capability but CAP_NET_RAW (needed again whenever an interface comes back), and new privileges. Returns 0 or a
 * negative errno; `step` says what failed. */
int emb_privileges_drop (const char **step);

/* After files and sockets are open: every system call that is not needed from then on. Returns 0 or a negative errno. */
int emb_privileges_filter_calls (void);

#endif /* EMB_PRIVILEGES_H */

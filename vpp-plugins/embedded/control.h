/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread: the only writer of the control tables, and the watcher of the links. */
#ifndef EMB_CONTROL_H
#define EMB_CONTROL_H

#include "engine.h"

#define EMB_MAX_CLIENTS 16

/* Binds the socket, replacing one that an earlier process left. Returns its descriptor or a negative errno. */
int emb_control_listen (const char *path);

/* Serves until one of the signals on `signal_fd` comes. Returns 0 or a negative errno. */
int emb_control_run (emb_engine_t *e, int listen_fd, int signal_fd);

#endif /* EMB_CONTROL_H */

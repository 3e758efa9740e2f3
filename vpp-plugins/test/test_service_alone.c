/* SPDX-License-Identifier: Apache-2.0 */
/* The same with a single worker, which enters its sessions into the index in another way. */
#define NODE_WORKERS 1
#include "test_service.c"

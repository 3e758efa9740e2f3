/* SPDX-License-Identifier: Apache-2.0 */
/* One message of the control plane: checked, carried out in slices, answered. Nothing in it is trusted. */
#ifndef HOST_MESSAGE_H
#define HOST_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "host.h"
#include "fastpath/wire.h"

/* Records handled before other clients get their turn. */
#define HOST_SLICE 256

typedef struct
{
  fp_msg_t header;
  const uint8_t *payload;
  uint32_t done;     /* records handled so far */
  uint32_t failures; /* of them, failed */
  uint32_t slice;    /* records that the next step changes at most; the host may set it, up to HOST_SLICE */
} host_request_t;

/* The answer under construction: header, then payload; FP_MSG_MAX_BYTES of room. */
typedef struct
{
  uint8_t *bytes;
  uint32_t used;
} host_reply_t;

/* Bytes of the whole message whose header is given; 0: it cannot be one, and what follows in the stream has no meaning. */
uint32_t host_message_length (const fp_msg_t *header);

/* Starts a request over a whole message. True: it is answered already (it was refused). */
bool host_message_start (host_request_t *q, const uint8_t *bytes, host_reply_t *reply);

/* Carries out one slice; true: done, `reply` is complete. `dirty` is kept: changes await a commit. */
bool host_message_step (host_t *host, host_request_t *q, host_reply_t *reply, bool *dirty);

/* An answer without payload. */
void host_message_refuse (const fp_msg_t *header, int32_t retval, host_reply_t *reply);

#endif /* HOST_MESSAGE_H */

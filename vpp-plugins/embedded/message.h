/* SPDX-License-Identifier: Apache-2.0 */
/* One message of the control socket: checked, carried out in slices, answered. Nothing in it is trusted. */
#ifndef EMB_MESSAGE_H
#define EMB_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "fastpath/wire.h"

/* Records handled before other clients get their turn. */
#define EMB_SLICE 256

typedef struct
{
  fp_msg_t header;
  const uint8_t *payload;
  uint32_t done;     /* records handled so far */
  uint32_t failures; /* of them, failed */
} emb_request_t;

/* The answer under construction: header, then payload; FP_MSG_MAX_BYTES of room. */
typedef struct
{
  uint8_t *bytes;
  uint32_t used;
} emb_reply_t;

/* Bytes of the whole message whose header is given; 0: it cannot be one, and what follows in the stream has no meaning. */
uint32_t emb_message_length (const fp_msg_t *header);

/* Starts a request over a whole message. True: it is answered already (it was refused). */
bool emb_message_start (emb_request_t *q, const uint8_t *bytes, emb_reply_t *reply);

/* Carries out one slice; true: done, `reply` is complete. `dirty` is kept: changes await a commit. */
bool emb_message_step (emb_engine_t *e, emb_request_t *q, emb_reply_t *reply, bool *dirty);

/* An answer without payload. */
void emb_message_refuse (const fp_msg_t *header, int32_t retval, emb_reply_t *reply);

#endif /* EMB_MESSAGE_H */

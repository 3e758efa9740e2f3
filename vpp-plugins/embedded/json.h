/* SPDX-License-Identifier: Apache-2.0 */
/* Writer of JSON text into a fixed buffer: answers of the control socket and log lines. Text that does not fit sets
 * `failed` and is cut; nothing is ever written past the buffer. */
#ifndef EMB_JSON_H
#define EMB_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct
{
  char *base;
  size_t used;
  size_t size;
  bool failed;
  bool comma; /* a value stands before the next one in this object or array */
} emb_json_t;

void emb_json_init (emb_json_t *j, char *buffer, size_t size);

/* `key` is NULL inside arrays and for the outermost value. */
void emb_json_object (emb_json_t *j, const char *key);
void emb_json_end_object (emb_json_t *j);
void emb_json_array (emb_json_t *j, const char *key);
void emb_json_end_array (emb_json_t *j);
void emb_json_str (emb_json_t *j, const char *key, const char *value);
void emb_json_u64 (emb_json_t *j, const char *key, uint64_t value);
void emb_json_i64 (emb_json_t *j, const char *key, int64_t value);
void emb_json_bool (emb_json_t *j, const char *key, bool value);
/* 64-bit identities are written as 16 hexadecimal digits: JSON numbers lose bits in many readers. */
void emb_json_hex (emb_json_t *j, const char *key, uint64_t value);

#endif /* EMB_JSON_H */

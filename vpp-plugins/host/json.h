/* SPDX-License-Identifier: Apache-2.0 */
/* Writer of JSON text into a fixed buffer: answers of the control socket and log lines. Text that does not fit sets
 * `failed` and is cut; nothing is ever written past the buffer. */
#ifndef HOST_JSON_H
#define HOST_JSON_H

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
} host_json_t;

void host_json_init (host_json_t *j, char *buffer, size_t size);

/* `key` is NULL inside arrays and for the outermost value. */
void host_json_object (host_json_t *j, const char *key);
void host_json_end_object (host_json_t *j);
void host_json_array (host_json_t *j, const char *key);
void host_json_end_array (host_json_t *j);
void host_json_str (host_json_t *j, const char *key, const char *value);
void host_json_u64 (host_json_t *j, const char *key, uint64_t value);
void host_json_i64 (host_json_t *j, const char *key, int64_t value);
void host_json_bool (host_json_t *j, const char *key, bool value);
/* 64-bit identities are written as 16 hexadecimal digits: JSON numbers lose bits in many readers. */
void host_json_hex (host_json_t *j, const char *key, uint64_t value);

#endif /* HOST_JSON_H */

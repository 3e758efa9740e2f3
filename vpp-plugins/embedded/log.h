/* SPDX-License-Identifier: Apache-2.0 */
/* Log: one JSON object a line on stderr, written by one write() so that threads do not mix. */
#ifndef EMB_LOG_H
#define EMB_LOG_H

#include "host/json.h"

typedef enum
{
  EMB_INFO,
  EMB_WARNING,
  EMB_ERROR,
} emb_level_t;

void emb_log_start (host_json_t *j, char *buffer, size_t size, emb_level_t level, const char *event);
void emb_log_write (host_json_t *j);

/* EMB_LOG (EMB_INFO, "text", host_json_str (&j, "key", value), ...): `j` is the line being written. */
#define EMB_LOG(level, event, ...)                                                                                     \
  do                                                                                                                   \
    {                                                                                                                  \
      char emb_line_[2048];                                                                                            \
      host_json_t j;                                                                                                    \
      emb_log_start (&j, emb_line_, sizeof (emb_line_) - 2, level, event);                                             \
      (void) (__VA_ARGS__, 0);                                                                                         \
      emb_log_write (&j);                                                                                              \
    }                                                                                                                  \
  while (0)

#endif /* EMB_LOG_H */

/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = { "info", "warning", "error" };

void
emb_log_start (emb_json_t *j, char *buffer, size_t size, emb_level_t level, const char *event)
{
  struct timespec now;
  struct tm utc;
  char date[32], stamp[48];

  clock_gettime (CLOCK_REALTIME, &now);
  gmtime_r (&now.tv_sec, &utc);
  strftime (date, sizeof (date), "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf (stamp, sizeof (stamp), "%s.%03ldZ", date, now.tv_nsec / 1000000);
  emb_json_init (j, buffer, size);
  emb_json_object (j, NULL);
  emb_json_str (j, "timestamp", stamp);
  emb_json_str (j, "level", level_names[level]);
  emb_json_str (j, "event", event);
}

void
emb_log_write (emb_json_t *j)
{
  /* EMB_LOG keeps two bytes behind `size` for the end of the line. */
  j->base[j->used++] = '}';
  j->base[j->used++] = '\n';
  if (write (STDERR_FILENO, j->base, j->used) < 0)
    return; /* nowhere left to say it */
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "log.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = { "info", "warning", "error" };

void
emb_log_start (host_json_t *j, char *buffer, size_t size, emb_level_t level, const char *event)
{
  struct timespec now;
  struct tm utc;
  char date[32], stamp[48];

  clock_gettime (CLOCK_REALTIME, &now);
  gmtime_r (&now.tv_sec, &utc);
  strftime (date, sizeof (date), "%Y-%m-%dT%H:%M:%S", &utc);
  snprintf (stamp, sizeof (stamp), "%s.%03ldZ", date, now.tv_nsec / 1000000);
  host_json_init (j, buffer, size);
  host_json_object (j, NULL);
  host_json_str (j, "timestamp", stamp);
  host_json_str (j, "level", level_names[level]);
  host_json_str (j, "event", event);
}

void
emb_log_write (host_json_t *j)
{
  /* EMB_LOG keeps two bytes behind `size` for the end of the line. */
  j->base[j->used++] = '}';
  j->base[j->used++] = '\n';
  if (write (STDERR_FILENO, j->base, j->used) < 0)
    return; /* nowhere left to say it */
}

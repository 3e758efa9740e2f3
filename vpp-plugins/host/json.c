/* SPDX-License-Identifier: Apache-2.0 */
#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void
host_json_init (host_json_t *j, char *buffer, size_t size)
{
  *j = (host_json_t){ .base = buffer, .size = size };
}

static void
put (host_json_t *j, const char *text, size_t length)
{
  if (j->failed || length > j->size - j->used)
    {
      j->failed = true;
      return;
    }
  memcpy (j->base + j->used, text, length);
  j->used += length;
}

static void
put_string (host_json_t *j, const char *text)
{
  char escape[8];

  put (j, "\"", 1);
  for (const unsigned char *c = (const unsigned char *) text; *c; c++)
    {
      if (*c == '"' || *c == '\\')
	{
	  escape[0] = '\\';
	  escape[1] = (char) *c;
	  put (j, escape, 2);
	}
      else if (*c < 0x20 || *c >= 0x7f)
	{
	  snprintf (escape, sizeof (escape), "\\u%04x", *c);
	  put (j, escape, 6);
	}
      else
	put (j, (const char *) c, 1);
    }
  put (j, "\"", 1);
}

static void
before_value (host_json_t *j, const char *key)
{
  if (j->comma)
    put (j, ",", 1);
  if (key)
    {
      put_string (j, key);
      put (j, ":", 1);
    }
  j->comma = true;
}

void
host_json_object (host_json_t *j, const char *key)
{
  before_value (j, key);
  put (j, "{", 1);
  j->comma = false;
}

void
host_json_end_object (host_json_t *j)
{
  put (j, "}", 1);
  j->comma = true;
}

void
host_json_array (host_json_t *j, const char *key)
{
  before_value (j, key);
  put (j, "[", 1);
  j->comma = false;
}

void
host_json_end_array (host_json_t *j)
{
  put (j, "]", 1);
  j->comma = true;
}

void
host_json_str (host_json_t *j, const char *key, const char *value)
{
  before_value (j, key);
  put_string (j, value);
}

static void
put_number (host_json_t *j, const char *key, const char *text, int length)
{
  before_value (j, key);
  put (j, text, (size_t) length);
}

void
host_json_u64 (host_json_t *j, const char *key, uint64_t value)
{
  char text[24];
  put_number (j, key, text, snprintf (text, sizeof (text), "%" PRIu64, value));
}

void
host_json_i64 (host_json_t *j, const char *key, int64_t value)
{
  char text[24];
  put_number (j, key, text, snprintf (text, sizeof (text), "%" PRId64, value));
}

void
host_json_bool (host_json_t *j, const char *key, bool value)
{
  put_number (j, key, value ? "true" : "false", value ? 4 : 5);
}

void
host_json_hex (host_json_t *j, const char *key, uint64_t value)
{
  char text[24];
  snprintf (text, sizeof (text), "%016" PRIx64, value);
  host_json_str (j, key, text);
}

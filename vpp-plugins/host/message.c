/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"

#include <errno.h>
#include <string.h>

#include "report.h"
#include "signalling.h"
#include "fastpath/fp_control.h"

uint32_t
host_message_length (const fp_msg_t *header)
{
  return header->length >= sizeof (*header) && header->length <= FP_MSG_MAX_BYTES ? header->length : 0;
}

static void
start_reply (const fp_msg_t *header, host_reply_t *reply)
{
  fp_msg_t answer = *header;

  answer.type = header->type | FP_MSG_REPLY;
  answer.version = FP_MSG_VERSION;
  answer.count = 0;
  answer.record_size = 0;
  answer.retval = 0;
  answer.cursor = 0;
  memcpy (reply->bytes, &answer, sizeof (answer));
  reply->used = sizeof (answer);
}

static void
finish_reply (host_reply_t *reply, uint32_t count, uint16_t record_size, int32_t retval, uint64_t cursor)
{
  fp_msg_t answer;

  memcpy (&answer, reply->bytes, sizeof (answer));
  answer.length = reply->used;
  answer.count = count;
  answer.record_size = record_size;
  answer.retval = retval;
  answer.cursor = cursor;
  memcpy (reply->bytes, &answer, sizeof (answer));
}

void
host_message_refuse (const fp_msg_t *header, int32_t retval, host_reply_t *reply)
{
  start_reply (header, reply);
  finish_reply (reply, 0, 0, retval, 0);
}

/* Whose records have the counters that a message asks for. */
static uint32_t
counted_table (uint16_t type)
{
  return type == FP_MSG_SERVICE_COUNTERS ? FP_TABLE_SERVICE : FP_TABLE_GTPU_TUNNEL;
}

/* Checks a header against the payload that came with it: 0, or what the sender gets. */
static int32_t
check (const fp_msg_t *h)
{
  const uint32_t payload = h->length - (uint32_t) sizeof (*h);
  uint32_t record = 0;

  if (h->version != FP_MSG_VERSION)
    return -EPROTO;
  switch (h->type)
    {
    case FP_MSG_INFO:
    case FP_MSG_STATS:
    case FP_MSG_COMMIT:
    case FP_MSG_FLUSH_SESSIONS:
      return payload == 0 && h->count == 0 ? 0 : -EINVAL;
    case FP_MSG_DUMP:
      return fp_wire_size (h->table) && payload == 0 && h->count == 0 ? 0 : -EINVAL;
    case FP_MSG_UPSERT:
    case FP_MSG_DELETE:
    case FP_MSG_FETCH:
      record = h->type == FP_MSG_UPSERT ? fp_wire_size (h->table) : fp_wire_key_size (h->table);
      if (!record || h->record_size != record || h->count > FP_MSG_MAX_RECORDS || payload != h->count * record)
	return -EINVAL;
      /* a reply with every record found must fit */
      if (h->type == FP_MSG_FETCH && h->count * fp_wire_size (h->table) > FP_MSG_MAX_BYTES - sizeof (*h))
	return -EINVAL;
      return 0;
    case FP_MSG_GTPU_PATHS:
      return payload == 0 && h->count == 0 ? 0 : -EINVAL;
    case FP_MSG_GTPU_COUNTERS: /* of those whose keys are given; of all */
    case FP_MSG_SERVICE_COUNTERS:
      if (h->count == 0)
	return payload == 0 ? 0 : -EINVAL;
      record = fp_wire_key_size (counted_table (h->type));
      if (h->table != counted_table (h->type) || h->record_size != record || h->count > FP_MSG_MAX_RECORDS
	  || payload != h->count * record)
	return -EINVAL;
      return 0;
    default:
      return -EINVAL;
    }
}

bool
host_message_start (host_request_t *q, const uint8_t *bytes, host_reply_t *reply)
{
  int32_t rv;

  memset (q, 0, sizeof (*q));
  q->slice = HOST_SLICE;
  memcpy (&q->header, bytes, sizeof (q->header));
  q->payload = bytes + sizeof (q->header);
  start_reply (&q->header, reply);
  rv = check (&q->header);
  if (rv)
    finish_reply (reply, 0, 0, rv, 0);
  return rv != 0;
}

/* What the host is to know about: records that are there now, or still. */
static void
tell (host_t *host, uint32_t table, const uint8_t *records, uint32_t n, uint32_t size, bool is_delete)
{
  for (uint32_t i = 0; i < n; i++)
    {
      fp_wire_t record;
      if (fp_control_fetch (host->region, table, records + (size_t) i * size, &record) == 0)
	host->functions->record (host, table, &record, is_delete);
    }
}

/* Enters the records of a slice: what this host refuses is left out, the rest goes to the tables in pieces as long as can be. */
static void
upsert (host_t *host, uint32_t table, const uint8_t *records, uint32_t n, uint32_t size, int *codes)
{
  uint32_t from = 0;

  memset (codes, 0, n * sizeof (*codes));
  if (host->functions->admit)
    host->functions->admit (host, table, records, n, size, codes);
  for (uint32_t i = 0; i <= n; i++)
    if (i == n || codes[i])
      {
	if (i > from)
	  fp_control_upsert (host->region, table, records + (size_t) from * size, i - from, codes + from);
	from = i + 1;
      }
}

static bool
change_records (host_t *host, host_request_t *q, host_reply_t *reply, bool *dirty)
{
  int codes[HOST_SLICE];
  const fp_msg_t *h = &q->header;
  const uint32_t left = h->count - q->done, n = left < q->slice ? left : q->slice;
  const uint8_t *records = q->payload + (size_t) q->done * h->record_size;
  const bool told = host->record_tables >> h->table & 1;

  if (n)
    {
      *dirty = true;
      if (told && h->type == FP_MSG_DELETE)
	tell (host, h->table, records, n, h->record_size, true);
      if (h->type == FP_MSG_UPSERT)
	upsert (host, h->table, records, n, h->record_size, codes);
      else
	fp_control_delete (host->region, h->table, records, n, codes);
      if (told) /* also those whose deletion was refused */
	tell (host, h->table, records, n, h->record_size, false);
      for (uint32_t i = 0; i < n; i++)
	if (codes[i])
	  {
	    const fp_msg_failure_t failure = { q->done + i, codes[i] };
	    memcpy (reply->bytes + reply->used, &failure, sizeof (failure));
	    reply->used += sizeof (failure);
	    q->failures++;
	  }
      q->done += n;
      if (h->table == FP_TABLE_GTPU_PEER || h->table == FP_TABLE_GTPU_ENDPOINT)
	host_signalling_peers_changed (host);
    }
  if (q->done < h->count)
    return false;
  finish_reply (reply, h->count - q->failures, sizeof (fp_msg_failure_t), 0, 0);
  return true;
}

_Static_assert (FP_MSG_MAX_RECORDS * sizeof (fp_msg_failure_t) + sizeof (fp_msg_t) <= FP_MSG_MAX_BYTES, "failures fit");
_Static_assert (FP_MSG_MAX_RECORDS * sizeof (fp_wire_frontend_t) + sizeof (fp_msg_t) <= FP_MSG_MAX_BYTES, "records fit");

static bool
fetch_records (host_t *host, host_request_t *q, host_reply_t *reply)
{
  const fp_msg_t *h = &q->header;
  const uint16_t record = (uint16_t) fp_wire_size (h->table);
  const uint32_t left = h->count - q->done, n = left < HOST_SLICE ? left : HOST_SLICE;

  for (uint32_t i = 0; i < n; i++)
    {
      const uint8_t *key = q->payload + (size_t) (q->done + i) * h->record_size;
      fp_wire_t found;
      if (fp_control_fetch (host->region, h->table, key, &found) == 0)
	{
	  memcpy (reply->bytes + reply->used, found.bytes, record);
	  reply->used += record;
	}
    }
  q->done += n;
  if (q->done < h->count)
    return false;
  finish_reply (reply, (reply->used - (uint32_t) sizeof (*h)) / record, record, 0, 0);
  return true;
}

static bool
dump_records (host_t *host, host_request_t *q, host_reply_t *reply)
{
  const fp_msg_t *h = &q->header;
  const uint16_t entry = (uint16_t) FP_DUMP_ENTRY (h->table);
  uint64_t cursor = h->cursor;
  const int n = fp_control_dump (host->region, h->table, &cursor, reply->bytes + reply->used, FP_MSG_MAX_RECORDS);

  if (n < 0)
    finish_reply (reply, 0, 0, n, 0);
  else
    {
      reply->used += (uint32_t) n * entry;
      finish_reply (reply, (uint32_t) n, entry, 0, cursor);
    }
  return true;
}

_Static_assert (FP_MSG_MAX_RECORDS * (FP_WIRE_FRONTEND_KEY + 8) + sizeof (fp_msg_t) <= FP_MSG_MAX_BYTES, "dump fits");

_Static_assert (sizeof (fp_msg_gtpu_counters_t) == sizeof (fp_msg_service_counters_t), "entries of either");

static bool
read_counters (host_t *host, host_request_t *q, host_reply_t *reply)
{
  const fp_msg_t *h = &q->header;
  const uint16_t entry = sizeof (fp_msg_gtpu_counters_t);
  const bool services = h->type == FP_MSG_SERVICE_COUNTERS;
  const uint32_t left = h->count - q->done, n = left < HOST_SLICE ? left : HOST_SLICE;

  for (uint32_t i = 0; i < n; i++)
    {
      const uint8_t *key = q->payload + (size_t) (q->done + i) * h->record_size;
      union
      {
	fp_msg_gtpu_counters_t tunnel;
	fp_msg_service_counters_t service;
      } counters;
      if ((services ? fp_control_service_counters (host->region, key, &counters.service)
		    : fp_control_gtpu_counters (host->region, key, &counters.tunnel))
	  == 0)
	{
	  memcpy (reply->bytes + reply->used, &counters, entry);
	  reply->used += entry;
	}
    }
  q->done += n;
  if (q->done < h->count)
    return false;
  finish_reply (reply, (reply->used - (uint32_t) sizeof (*h)) / entry, entry, 0, 0);
  return true;
}

/* Entries of one answer that lists by cursor: few enough that other clients wait a fraction of a millisecond. */
#define LIST_ENTRIES 4096

static bool
list_counters (host_t *host, host_request_t *q, host_reply_t *reply)
{
  const uint16_t entry = sizeof (fp_msg_gtpu_counters_t);
  uint64_t cursor = q->header.cursor;
  void *entries = reply->bytes + reply->used;
  const uint32_t n = q->header.type == FP_MSG_SERVICE_COUNTERS
		       ? fp_control_service_counters_dump (host->region, &cursor, entries, LIST_ENTRIES)
		       : fp_control_gtpu_counters_dump (host->region, &cursor, entries, LIST_ENTRIES);

  reply->used += n * entry;
  finish_reply (reply, n, entry, 0, cursor);
  return true;
}

static bool
list_paths (host_t *host, host_request_t *q, host_reply_t *reply)
{
  const uint16_t entry = sizeof (fp_msg_gtpu_path_t);
  uint64_t cursor = q->header.cursor;
  const uint32_t n = host_signalling_paths (host, &cursor, (fp_msg_gtpu_path_t *) (reply->bytes + reply->used), LIST_ENTRIES);

  reply->used += n * entry;
  finish_reply (reply, n, entry, 0, cursor);
  return true;
}

_Static_assert (FP_MSG_MAX_RECORDS * sizeof (fp_msg_gtpu_counters_t) + sizeof (fp_msg_t) <= FP_MSG_MAX_BYTES,
		"counters fit");
_Static_assert (sizeof (fp_msg_t) % 8 == 0, "entries behind the header are aligned");

static void
describe (host_t *host, host_request_t *q, host_reply_t *reply)
{
  host_json_t json;

  host_json_init (&json, (char *) reply->bytes + reply->used, FP_MSG_MAX_BYTES - reply->used);
  if (q->header.type == FP_MSG_INFO)
    host_report_info (host, &json);
  else
    host_report_stats (host, &json);
  reply->used += (uint32_t) json.used;
  finish_reply (reply, 1, 0, json.failed ? -EMSGSIZE : 0, 0);
}

bool
host_message_step (host_t *host, host_request_t *q, host_reply_t *reply, bool *dirty)
{
  switch (q->header.type)
    {
    case FP_MSG_UPSERT:
    case FP_MSG_DELETE:
      return change_records (host, q, reply, dirty);
    case FP_MSG_FETCH:
      return fetch_records (host, q, reply);
    case FP_MSG_DUMP:
      return dump_records (host, q, reply);
    case FP_MSG_GTPU_COUNTERS:
    case FP_MSG_SERVICE_COUNTERS:
      return q->header.count ? read_counters (host, q, reply) : list_counters (host, q, reply);
    case FP_MSG_GTPU_PATHS:
      return list_paths (host, q, reply);
    case FP_MSG_COMMIT:
      if (!fp_control_commit_step (host->region, &q->done))
	return false;
      *dirty = false;
      finish_reply (reply, 0, 0, 0, 0);
      return true;
    case FP_MSG_FLUSH_SESSIONS:
      finish_reply (reply, fp_control_flush_sessions (host->region), 0, 0, 0);
      return true;
    default:
      describe (host, q, reply);
      return true;
    }
}

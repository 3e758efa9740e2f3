/* SPDX-License-Identifier: Apache-2.0 */
/* khost_call: messages of the control plane over VPP's binary API. Nothing in them is trusted. No handler takes the worker barrier: what a worker reads is
 * published by single stores. */
#include <khost/khost_internal.h>

#include <vlibapi/api.h>
#include <vlibmemory/api.h>

#include <khost/khost.api_enum.h>
#include <khost/khost.api_types.h>

#include <host/message.h>
#include <fastpath/fp_control.h>

#define REPLY_MSG_ID_BASE khost_exported_main.msg_id_base
#include <vlibapi/api_helper_macros.h>

#define AWAIT_MS 250 /* threads sleep 10 ms at most, and may wait for a CPU */
#define LEAST_SLICE 64

/* Changes await a commit; those of a client that went without one, the next client's. */
static bool dirty;

static u32
free_of (const fp_region_t *r, enum fp_controlled table)
{
  const fp_control_slots_t *s = &r->control->slots[table];

  return s->nfree + (r->controlled[table].capacity - s->fresh);
}

/* Records of a table that there is room for. */
static u32
free_slots (const fp_region_t *r, u32 table)
{
  const u32 n = free_of (r, fp_table_controlled (table));

  return table == FP_TABLE_GTPU_TUNNEL || table == FP_TABLE_GTPU_UE ? clib_min (n, free_of (r, FP_CONTROLLED_ENCAP)) : n;
}

/* Slots that were given up are free once every thread has been round its loop. Threads that sleep are woken; the others, and this one's packets, go on.
 * Returns whether anything still waits. */
static int
let_go (vlib_main_t *vm)
{
  for (u32 i = 1; i < khost_exported_main.n_workers; i++)
    vlib_thread_wakeup (i);
  vlib_process_suspend (vm, 1e-3);
  return fp_control_poll (&khost_control.region);
}

/* Records of a message that can be changed now. Those that need more slots than are free wait for slots that were given up, by the records before them
 * too; what is there is used before more is waited for. */
static u32
await_slots (vlib_main_t *vm, const host_request_t *q)
{
  const fp_region_t *r = &khost_control.region;
  const u32 table = q->header.table, needed = clib_min (q->header.count - q->done, HOST_SLICE);
  u32 n = free_slots (r, table);

  /* until there are enough, or nothing more to wait for */
  for (u32 tries = 0, waiting = 1; n < needed && waiting && tries < AWAIT_MS; tries++)
    {
      waiting = fp_control_poll (&khost_control.region) && let_go (vm);
      n = free_slots (r, table);
    }
  /* the least is what is always spare of encapsulation records: records that change in place come in no smaller steps */
  return clib_min (clib_max (n, LEAST_SLICE), HOST_SLICE);
}

/* Carries out one message. Returns the answer, a vector of bytes to be freed, or NULL with a VNET_API_ERROR in *rv: it is no message at all. */
static u8 *
call (vlib_main_t *vm, const u8 *request, u32 length, i32 *rv)
{
  khost_control_t *kc = &khost_control;
  host_request_t q;
  host_reply_t reply;
  fp_msg_t header;
  u8 *answer = NULL;

  kc->calls++;
  *rv = 0;
  if (!kc->open)
    *rv = VNET_API_ERROR_FEATURE_DISABLED;
  else if (length < sizeof (header))
    *rv = VNET_API_ERROR_INVALID_VALUE;
  else
    {
      memcpy (&header, request, sizeof (header));
      if (host_message_length (&header) != length)
	*rv = VNET_API_ERROR_INVALID_VALUE_2;
    }
  if (*rv)
    {
      kc->calls_refused++;
      return NULL;
    }
  vec_alloc (answer, FP_MSG_MAX_BYTES);
  reply = (host_reply_t){ .bytes = answer };
  if (!host_message_start (&q, request, &reply))
    {
      /* Packets of this thread, and the process, get their turn between slices. */
      while (1)
	{
	  if (header.type == FP_MSG_UPSERT && vlib_in_process_context (vm))
	    q.slice = await_slots (vm, &q);
	  if (host_message_step (&kc->host, &q, &reply, &dirty))
	    break;
	  if (vlib_in_process_context (vm))
	    vlib_process_yield (vm);
	}
      /* What is flushed can be used again when the answer comes. */
      for (u32 tries = 0; header.type == FP_MSG_FLUSH_SESSIONS && vlib_in_process_context (vm) && tries < AWAIT_MS; tries++)
	if (!let_go (vm))
	  break;
      if (header.type == FP_MSG_UPSERT || header.type == FP_MSG_DELETE || header.type == FP_MSG_COMMIT)
	khost_process_wake (vm);
    }
  else
    kc->calls_refused++;
  vec_set_len (answer, reply.used);
  return answer;
}

static void
vl_api_khost_call_t_handler (vl_api_khost_call_t *mp)
{
  vl_api_khost_call_reply_t *rmp;
  vl_api_registration_t *client;
  i32 rv;
  u8 *answer = call (vlib_get_main (), mp->request, clib_net_to_host_u32 (mp->length), &rv);
  const u32 length = vec_len (answer);

  /* Looked up now: the client may have gone while the call was suspended. */
  client = vl_api_client_index_to_registration (mp->client_index);
  if (client)
    {
      rmp = vl_msg_api_alloc_or_null (sizeof (*rmp) + length);
      if (rmp)
	{
	  clib_memset (rmp, 0, sizeof (*rmp));
	  rmp->_vl_msg_id = clib_host_to_net_u16 (VL_API_KHOST_CALL_REPLY + REPLY_MSG_ID_BASE);
	  rmp->context = mp->context;
	  rmp->retval = clib_host_to_net_i32 (rv);
	  rmp->length = clib_host_to_net_u32 (length);
	  clib_memcpy_fast (rmp->answer, answer, length);
	  vl_api_send_msg (client, (u8 *) rmp);
	}
    }
  vec_free (answer);
}

static void
vl_api_khost_version_t_handler (vl_api_khost_version_t *mp)
{
  vl_api_khost_version_reply_t *rmp;
  int rv = 0;

  REPLY_MACRO2 (VL_API_KHOST_VERSION_REPLY, ({
		  rmp->message_version = clib_host_to_net_u32 (FP_MSG_VERSION);
		  rmp->layout = clib_host_to_net_u64 (fp_layout_hash ());
		  strncpy ((char *) rmp->version, VPP_OPERATOR_VERSION, ARRAY_LEN (rmp->version) - 1);
		}));
}

/* Not thread-safe: features are changed at the barrier. */
static void
vl_api_khost_interface_t_handler (vl_api_khost_interface_t *mp)
{
  vl_api_khost_interface_reply_t *rmp;
  int rv = khost_interface_enable (clib_net_to_host_u32 (mp->sw_if_index), mp->is_ethernet, mp->enable != 0);

  REPLY_MACRO (VL_API_KHOST_INTERFACE_REPLY);
}

#include <khost/khost.api.c>

static clib_error_t *
khost_api_hookup (vlib_main_t *vm)
{
  api_main_t *am = vlibapi_get_main ();

  khost_exported_main.msg_id_base = setup_message_id_table ();
  vl_api_set_msg_thread_safe (am, VL_API_KHOST_CALL + REPLY_MSG_ID_BASE, 1);
  vl_api_set_msg_thread_safe (am, VL_API_KHOST_VERSION + REPLY_MSG_ID_BASE, 1);
  return NULL;
}

VLIB_API_INIT_FUNCTION (khost_api_hookup);

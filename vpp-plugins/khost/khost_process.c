/* SPDX-License-Identifier: Apache-2.0 */
/* The control thread's regular work: slots that workers have let go of, GTP-U signalling. */
#include <khost/khost_internal.h>

#include <host/signalling.h>
#include <fastpath/fp_control.h>

#define RETIRING_MS 20 /* freed slots wait for the workers */

static uword
khost_process_fn (vlib_main_t *vm, vlib_node_runtime_t *node, vlib_frame_t *frame)
{
  khost_control_t *kc = &khost_control;

  if (!kc->open)
    return 0;
  kc->process_node_index = node->node_index;
  for (;;)
    {
      int ms = host_signalling_run (&kc->host);

      if (fp_control_poll (&kc->region) && ms > RETIRING_MS)
	ms = RETIRING_MS;
      vlib_process_wait_for_event_or_clock (vm, 1e-3 * ms);
      vlib_process_get_events (vm, NULL);
    }
  return 0;
}

VLIB_REGISTER_NODE (khost_process_node) = {
  .function = khost_process_fn,
  .name = "khost-process",
  .type = VLIB_NODE_TYPE_PROCESS,
  .process_log2_n_stack_bytes = 17,
};

void
khost_process_wake (vlib_main_t *vm)
{
  if (khost_control.process_node_index)
    vlib_process_signal_event (vm, khost_control.process_node_index, 0, 0);
}

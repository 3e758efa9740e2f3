/* SPDX-License-Identifier: Apache-2.0 */
/* A feature on ip4-unicast that does nothing: what any feature costs, the yardstick of ours. */

#include <vnet/feature/feature.h>
#include <vnet/plugin/plugin.h>
#include <vnet/vnet.h>

VLIB_PLUGIN_REGISTER () = {
  .version = "1",
  .description = "Benchmark: a feature that does nothing",
};

VLIB_NODE_FN (bench_noop_node) (vlib_main_t * vm, vlib_node_runtime_t * node, vlib_frame_t * frame)
{
  u32 *from = vlib_frame_vector_args (frame), n = frame->n_vectors;
  vlib_buffer_t *buffers[VLIB_FRAME_SIZE], **b = buffers;
  u16 nexts[VLIB_FRAME_SIZE], *next = nexts;

  vlib_get_buffers (vm, from, buffers, n);
  for (u32 left = n; left >= 4; left -= 4, b += 4, next += 4)
    {
      vnet_feature_next_u16 (&next[0], b[0]);
      vnet_feature_next_u16 (&next[1], b[1]);
      vnet_feature_next_u16 (&next[2], b[2]);
      vnet_feature_next_u16 (&next[3], b[3]);
    }
  for (; b < buffers + n; b++, next++)
    vnet_feature_next_u16 (&next[0], b[0]);
  vlib_buffer_enqueue_to_next (vm, node, from, nexts, n);
  return n;
}

VLIB_REGISTER_NODE (bench_noop_node) = {
  .name = "bench-noop",
  .vector_size = sizeof (u32),
  .type = VLIB_NODE_TYPE_INTERNAL,
};

VNET_FEATURE_INIT (bench_noop_feature, static) = {
  .arc_name = "ip4-unicast",
  .node_name = "bench-noop",
  .runs_before = VNET_FEATURES ("ip4-lookup"),
};

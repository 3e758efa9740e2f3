/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels' reasons for a drop as errors of a node: `.n_errors = FP_DROPS, .error_counters = khost_drop_errors` in the registration, then
 * `b->error = node->errors[verdict->reason]` and next node error-drop. */
#ifndef included_khost_error_h
#define included_khost_error_h

#include <vlib/vlib.h>

#include <fastpath/fp_counters.h>

static vlib_error_desc_t khost_drop_errors[FP_DROPS] = {
  [FP_DROP_NONE] = { .name = "none", .desc = "no drop", .severity = VL_COUNTER_SEVERITY_INFO },
#define _(n, s, t) [FP_DROP_##n] = { .name = #s, .desc = t, .severity = VL_COUNTER_SEVERITY_ERROR },
  FP_FOREACH_DROP (_)
#undef _
};

#endif /* included_khost_error_h */

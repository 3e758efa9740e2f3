/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that the packet path looks up, in one include. */
#ifndef FP_TABLES_H
#define FP_TABLES_H

#include "fp_fragtable.h"
#include "fp_prefixes.h"
#include "fp_services.h"
#include "fp_session.h"

/* Ageing: each worker calls this now and then, for example each 100 ms with a hundredth of the tables; `budget` slots of each table
 * are looked at. Returns the number of sessions that expired. */
FP_INLINE u32
fp_sessions_age (fp_worker_t *w, u32 budget)
{
  u32 gone = fp_session_age (w, 0, budget);
  gone += fp_session_age (w, 1, budget);
  fp_frag_age (w, budget);
  return gone;
}

#endif /* FP_TABLES_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine says of itself, as JSON: answers to INFO and STATS. */
#ifndef HOST_REPORT_H
#define HOST_REPORT_H

#include "host.h"
#include "json.h"

void host_report_info (const host_t *host, host_json_t *j);
void host_report_stats (const host_t *host, host_json_t *j);

#endif /* HOST_REPORT_H */

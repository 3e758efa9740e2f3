/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine says of itself, as JSON: answers to INFO and STATS. */
#ifndef EMB_REPORT_H
#define EMB_REPORT_H

#include "engine.h"
#include "json.h"

void emb_report_info (const emb_engine_t *e, emb_json_t *j);
void emb_report_stats (const emb_engine_t *e, emb_json_t *j);

#endif /* EMB_REPORT_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U (TS 29.281) in one include: decapsulation, encapsulation, signalling, segmentation. */
#ifndef FP_GTPU_H
#define FP_GTPU_H

#include "fp_gtpu_decap.h"
#include "fp_gtpu_encap.h"
#include "fp_gtpu_frames.h"
#include "fp_gtpu_nested.h"
#include "fp_gtpu_run.h"
#include "fp_gtpu_segment.h"
#include "fp_gtpu_signal.h"

#endif /* FP_GTPU_H */

/* SPDX-License-Identifier: Apache-2.0 */
/* test_service.c with the stages that a region of many endpoints has. */
#define FP_HIT_MANY 0
#include "test_service.c"

/* SPDX-License-Identifier: Apache-2.0 */
/* The same with the vector instructions that scan a bucket at once. */
#define INTERLEAVE_VECTOR
#include "test_interleave.c"

/* SPDX-License-Identifier: Apache-2.0 */
/* The kernels for every machine of the architecture. */
#define EMB_VECTOR_BUILD emb_vector_base
#define EMB_VECTOR_NAME	 "generic"
#include "vector_build.h"

/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of fields that records of several tables have. */
#ifndef FP_ADDRESS_H
#define FP_ADDRESS_H

#include "fp_types.h"

FP_INLINE int
fp_all_zero (const void *data, size_t length)
{
  const u8 *p = data;
  u8 any = 0;
  while (length--)
    any |= *p++;
  return !any;
}

/* An address of the family: not zero, and IPv4 fills no more than four bytes. */
FP_INLINE int
fp_address_valid (u8 family, const u8 address[16])
{
  if (family == 4)
    return !fp_all_zero (address, 4) && fp_all_zero (address + 4, 12);
  return family == 6 && !fp_all_zero (address, 16);
}

/* One that a packet may have as source and destination. */
FP_INLINE int
fp_address_unicast (u8 family, const u8 address[16])
{
  return fp_address_valid (family, address) && (family == 4 ? address[0] < 224 && address[0] != 0 : address[0] != 0xff);
}

#endif /* FP_ADDRESS_H */

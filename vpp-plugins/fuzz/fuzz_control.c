/* SPDX-License-Identifier: Apache-2.0 */
/* The control plane's records on any bytes: every table, any keys and values; whatever was accepted can be dumped, fetched and
 * deleted, and packets go on through tables in any state. */
#include "fuzz.h"

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
  static const u32 record_size[] = { 0, sizeof (fp_wire_config_t), sizeof (fp_wire_prefix_t), sizeof (fp_wire_service_t),
				     sizeof (fp_wire_frontend_t), sizeof (fp_wire_endpoint_t) };
  input_t in = { data, size };
  fp_region_t *r = &fuzz_node ()->region;
  u8 record[64];
  int code;

  for (u32 operations = 0; in.left && operations < 32; operations++)
    {
      u8 what = take (&in), table = what >> 4 & 7;
      for (u32 i = 0; i < sizeof (record); i++)
	record[i] = take (&in);
      if (table < FP_TABLE_CONFIG || table > FP_TABLE_ENDPOINT)
	table = FP_TABLE_ENDPOINT;
      u8 *exact = malloc (record_size[table]); /* a read beyond the record is seen */
      memcpy (exact, record, record_size[table]);
      code = 1;
      switch (what & 3)
	{
	case 0:
	case 1:
	  fp_control_upsert (r, table, exact, 1, &code);
	  CHECK (code <= 0, "result %d", code);
	  break;
	case 2:
	  fp_control_delete (r, table, exact, 1, &code);
	  CHECK (code <= 0, "result %d", code);
	  break;
	case 3:
	  fp_control_commit (r);
	  break;
	}
      free (exact);
    }
  fp_control_commit (r);
  spec_t spec = { .src = POD[0], .dst = WEB[0], .sport = 4000, .dport = 80, .proto = 17, .payload = 9 };
  u8 bytes[128];
  fp_packet_t p = { 0 };
  p.contiguous = p.length = build (bytes, &spec);
  p.room = 600;
  run_packet (&p, bytes, p.length, 0);
  advance (fuzz_node (), 0.01);
  fp_control_poll (r);
  return 0;
}

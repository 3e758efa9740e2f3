/* SPDX-License-Identifier: Apache-2.0 */
/* Writes one record of each table for test_records.py, which fills its own with the same values. */
#include <stdio.h>
#include <string.h>
#include "wire.h"

#define V4 { 10, 96, 1, 2 }
#define V6 { 0xfd, 0, 0, 0x96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2 }
#define OUT(name, value)	\
  do                    	\
    {                   	\
      unsigned char bytes[sizeof (value)];                                  \
      memcpy (bytes, &value, sizeof (value));                               \
      printf (name " ");	\
      for (unsigned i = 0; i < sizeof (bytes); i++)                         \
        printf ("%02x", bytes[i]);                                          \
      printf ("\n");    	\
    }                   	\
  while (0)

int
main (void)
{
  fp_wire_config_t config = { FP_CONFIG_SNAT_ADDRESS, 6, 0x0102030405060708, V6 };
  fp_wire_prefix_t prefix = { 7, 4, 12, FP_PREFIX_SERVICE, 0, { 10, 96, 0, 0 }, 0 };
  fp_wire_service_t service = { 0x1122334455667788, 6, 17, FP_SERVICE_EXTERNAL_LOCAL | FP_SERVICE_AFFINITY_CLIENT_IP,
                                FP_EMPTY_DROP, 10800, { 0, 0 } };
  fp_wire_frontend_t frontend = { 9, 6, 6, 8443, 0, { 0 }, V6, 0x1122334455667788, FP_FRONTEND_LOAD_BALANCER, { 0 } };
  fp_wire_frontend_t node_port = { 0, 4, 17, 30053, 1, { 0 }, { 0 }, 0x1122334455667788, FP_FRONTEND_NODE_PORT, { 0 } };
  fp_wire_endpoint_t endpoint = { 0x1122334455667788, 4, 0, 5353, 0, V4,
                                  FP_ENDPOINT_SERVES | FP_ENDPOINT_LOCAL | FP_ENDPOINT_ON_NODE, { 0 } };
  fp_wire_gtpu_endpoint_t gtpu_endpoint = { 3, 6, { 0 }, V6, 0x1122334455667788, 0x10000, 0x20000, 1464, FP_GTPU_DSCP_INNER,
                                            FP_GTPU_ENTROPY, 40000, 50000, { 0, 0 } };
  fp_wire_gtpu_peer_t gtpu_peer = { 0x1122334455667788, 4, { 0 }, V4, 60000, 3000, 1400, 5, { 0 } };
  fp_wire_gtpu_tunnel_t gtpu_tunnel = { 0x1122334455667788, 0xfffffffe, 0, 0x01020304, 5, V6, FP_GTPU_PAYLOAD_ETHERNET,
                                        FP_GTPU_PSC_UL, 63, FP_GTPU_INNER_SOURCE_CHECK | FP_GTPU_END_MARKER_ON_REPLACE,
                                        6, { 0 } };
  fp_wire_gtpu_ue_t gtpu_ue = { 5, 6, 64, { 0, 0 }, { 0xfd, 0, 0, 0x96 }, 0x1122334455667788, 0xfffffffe, 0 };
  fp_wire_gtpu_ue_t gtpu_vlan = { 0, 0, 12, { 0, 0 }, { 0x0f, 0xfe }, 0x1122334455667788, 7, 0 };
  fp_msg_t message = { 0x01020304, FP_MSG_FETCH, FP_MSG_VERSION, 0x11121314, 0x21222324, 0x3132, FP_TABLE_ENDPOINT,
                       -22, 0x4142434445464748 };

  OUT ("config", config);
  OUT ("prefix", prefix);
  OUT ("service", service);
  OUT ("frontend", frontend);
  OUT ("node_port", node_port);
  OUT ("endpoint", endpoint);
  OUT ("gtpu_endpoint", gtpu_endpoint);
  OUT ("gtpu_peer", gtpu_peer);
  OUT ("gtpu_tunnel", gtpu_tunnel);
  OUT ("gtpu_ue", gtpu_ue);
  OUT ("gtpu_vlan", gtpu_vlan);
  OUT ("message", message);
  printf ("keys %d %d %d %d %d %d %d %d %d\n", FP_WIRE_CONFIG_KEY, FP_WIRE_PREFIX_KEY, FP_WIRE_SERVICE_KEY,
          FP_WIRE_FRONTEND_KEY, FP_WIRE_ENDPOINT_KEY, FP_WIRE_GTPU_ENDPOINT_KEY, FP_WIRE_GTPU_PEER_KEY,
          FP_WIRE_GTPU_TUNNEL_KEY, FP_WIRE_GTPU_UE_KEY);
  printf ("limits %d %d %d\n", FP_MSG_MAX_RECORDS, FP_MSG_MAX_BYTES, FP_MSG_REPLY);
  return 0;
}

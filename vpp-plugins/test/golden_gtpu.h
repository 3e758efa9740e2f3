/* SPDX-License-Identifier: Apache-2.0 */
/* GTP-U messages (UDP payloads) written by hand from TS 29.281 clauses 5, 7, 8 and TS 38.415 clause 5.5. tests/unit/test_gtpu_golden.py reads this
 * file and decodes them with scapy: name, octets. The inner packet is an ICMP Echo Request of 10.45.0.2 to 198.51.100.7. */
GOLDEN (echo_request,		      /* flags 0x32: version 1, PT 1, S 1; type 1; length 4; TEID 0 */
	"32 01 0004 00000000 0102 00 00") /* sequence 0x0102, N-PDU 0, no extension header */
GOLDEN (echo_response,
	"32 02 0006 00000000 0102 00 00 0e 00") /* Recovery (14), restart counter 0 */
GOLDEN (pdu_plain,				    /* flags 0x30; type 255; length 28 */
	"30 ff 001c 00001001"
	"4500 001c 0001 0000 40 01 4677 0a2d0002 c6336407" /* inner IPv4, protocol 1 */
	"08 00 f7fd 0001 0001")
GOLDEN (pdu_sequence, /* S and PN set: four octets more, not evaluated */
	"33 ff 0020 00001001 abcd 07 00"
	"4500 001c 0001 0000 40 01 4677 0a2d0002 c6336407"
	"08 00 f7fd 0001 0001")
GOLDEN (pdu_psc_uplink, /* E: next extension header 0x85, length 1 (four octets), UL PDU Session Information (type 1), QFI 9 */
	"34 ff 0024 00001001 0000 00 85 01 10 09 00"
	"4500 001c 0001 0000 40 01 4677 0a2d0002 c6336407"
	"08 00 f7fd 0001 0001")
GOLDEN (pdu_psc_downlink, /* type 0; PPP 0, RQI 1, QFI 63 */
	"34 ff 0024 00001001 0000 00 85 01 00 7f 00"
	"4500 001c 0001 0000 40 01 4677 0a2d0002 c6336407"
	"08 00 f7fd 0001 0001")
GOLDEN (pdu_chain, /* UDP port (0x40, not required), then PDU Session Container */
	"36 ff 0028 00001001 0001 00 40 01 0868 85 01 10 05 00"
	"4500 001c 0001 0000 40 01 4677 0a2d0002 c6336407"
	"08 00 f7fd 0001 0001")
GOLDEN (error_indication, /* type 26; TEID Data I (16); GTP-U Peer Address (133), length 4 */
	"32 1a 0010 00000000 0000 00 00 10 00002001 85 0004 c0000232")
GOLDEN (error_indication_port, /* as we send it: UDP Port extension header (0x40), one unit of four octets, port 4660, nothing behind it */
	"36 1a 0014 00000000 0000 00 40 01 1234 00 10 00003333 85 0004 c0000201")
GOLDEN (end_marker, "30 fe 0000 00001001")
GOLDEN (end_marker_psc, /* with a downlink PDU Session Container, QFI 9 */
	"34 fe 0008 00002001 0000 00 85 01 00 09 00")
GOLDEN (notification, /* type 31; Extension Header Type List (141), one type: PDU Session Container */
	"32 1f 0007 00000000 0000 00 00 8d 01 85")

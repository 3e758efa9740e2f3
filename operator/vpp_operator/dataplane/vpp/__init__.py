"""VPP: its startup file and, through its binary API, the same requests as the embedded engine takes."""

"""The audit trail (PS3.15 A.5): who did what with which patient's data, and when."""

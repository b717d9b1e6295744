"""Studies of UnifiedRL on logs."""

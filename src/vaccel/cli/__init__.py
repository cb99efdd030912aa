"""The programs: `vaccel`, `vaccelrt-agent`, and the examples."""

"""The vAccel 0.8 remote protocol: ttRPC frames and protobuf messages over stream sockets.

From the bottom: `messages` (schema) and `ttrpc` (frames) do no I/O, `codec` turns operations into
messages and back, `sockets` and `address` turn endpoints into sockets, `client` and `server` join
the two.
"""

"""Generated from proto/ by tools/gen_proto.py; nothing here is written by hand."""

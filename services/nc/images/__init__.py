"""Images on a node: fetched from the object store, checked, made safe, kept for the next guest.

`objects` speaks to the store, `fetch` brings one file over a line that may break, `sandbox` runs a
tool where it can do no harm, `tool` is what is asked of qemu-img, `cache` keeps what was made.
"""

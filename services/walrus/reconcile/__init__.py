"""What the object store mends by itself, pass by pass: garbage, orphans, bytes that rot, objects whose time is over."""

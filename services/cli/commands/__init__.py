"""The commands, a file for each thing they are about. They parse, ask and print; the work is done beside this folder."""

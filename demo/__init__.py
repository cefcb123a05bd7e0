"""The demo: hosts that boot on this machine, put into the mesh by ansible-playbook, and a table of what then holds."""

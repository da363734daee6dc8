"""The bundle: one file that installs Customhouse on a machine that reaches nothing. Made, read, checked, and told of.

A bundle is a tar whose small members come first: manifest.json (what it is), SHA256SUMS (the digest of every member
but itself), SHA256SUMS.sig (where it was signed), install.sh with what it sources, the bill of materials, the source,
then wheels and weights. systemd/install/bundle.sh reads the same with bash and coreutils, where there is no Python of
ours yet; what one of the two refuses, the other refuses.
"""

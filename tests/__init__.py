"""The tests and what they lean on: `lab` (peers, networks, browsers), the ledger, one folder per part."""

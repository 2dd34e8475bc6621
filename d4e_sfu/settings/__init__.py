"""The models of the settings, by area; `config.py` puts them together and is their door."""

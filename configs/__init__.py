"""Recipes of the commands, one YAML file each; installed as data of `geoclick.configs`."""

"""Files for `accelerate launch`; installed as data of `geoclick.accelerate_configs`."""

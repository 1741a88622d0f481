"""Claims of 1911.06971: few polygons, watertight, parts without labels."""

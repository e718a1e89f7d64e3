"""The zoo: published metrics, one `.pzm` file each."""

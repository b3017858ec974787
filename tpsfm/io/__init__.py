"""Files of a workspace: HDF5 stores, the manifest, atomic writes."""

"""The service mesh for one machine: OSM's part, outside of everything that is trusted. SMI policy becomes Envoy's."""

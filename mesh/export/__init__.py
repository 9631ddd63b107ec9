"""The same policy for other meshes on Kubernetes: checked documents become Istio's, Linkerd's or OSM's.

An export never allows what the policy denies. What a target cannot express is refused or left out, and said.
"""

"""Parts of somebody's own, each of which a config may name; docs/extend.md says how."""

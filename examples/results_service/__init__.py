"""A service that receives pathology results over MESH."""

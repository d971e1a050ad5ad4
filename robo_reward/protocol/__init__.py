"""What is said on the wire: headers as typed msgpack maps, pixels as binary parts beside them."""

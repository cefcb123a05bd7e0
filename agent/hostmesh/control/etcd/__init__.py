"""etcd as the store of several control planes: client, mirror, and the documents in it."""

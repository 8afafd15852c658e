"""The same problems solved with this library and with others: what `bench/peers.py` measures."""

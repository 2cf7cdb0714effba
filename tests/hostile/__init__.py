"""What somebody puts into a store who means harm: bytes that go deep, and whoever reads them (`script/fuzz`)."""

"""`spe predict` into a folder of shards: any number of texts, stopped and resumed, here or on a Ray cluster."""

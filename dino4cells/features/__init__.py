"""Features of every cell: distributed extraction and the directory of Parquet files that holds them."""

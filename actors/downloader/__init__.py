"""The downloader: model files, fetched, checked and described."""

"""The four services. They never import each other, only `confidential_bookstore`."""

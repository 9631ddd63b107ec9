"""The buyer: buys a book every now and then, each exactly once, and keeps the receipts."""

import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Book(_message.Message):
    __slots__ = ("book_id", "title", "author", "year", "isbn")
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    AUTHOR_FIELD_NUMBER: _ClassVar[int]
    YEAR_FIELD_NUMBER: _ClassVar[int]
    ISBN_FIELD_NUMBER: _ClassVar[int]
    book_id: str
    title: str
    author: str
    year: int
    isbn: str
    def __init__(self, book_id: _Optional[str] = ..., title: _Optional[str] = ..., author: _Optional[str] = ..., year: _Optional[int] = ..., isbn: _Optional[str] = ...) -> None: ...

class StockedBook(_message.Message):
    __slots__ = ("book", "stock")
    BOOK_FIELD_NUMBER: _ClassVar[int]
    STOCK_FIELD_NUMBER: _ClassVar[int]
    book: Book
    stock: int
    def __init__(self, book: _Optional[_Union[Book, _Mapping]] = ..., stock: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("purchase_id", "order_id", "book", "quantity", "seller", "buyer", "sold_at")
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    BOOK_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    SELLER_FIELD_NUMBER: _ClassVar[int]
    BUYER_FIELD_NUMBER: _ClassVar[int]
    SOLD_AT_FIELD_NUMBER: _ClassVar[int]
    purchase_id: str
    order_id: str
    book: Book
    quantity: int
    seller: str
    buyer: str
    sold_at: _timestamp_pb2.Timestamp
    def __init__(self, purchase_id: _Optional[str] = ..., order_id: _Optional[str] = ..., book: _Optional[_Union[Book, _Mapping]] = ..., quantity: _Optional[int] = ..., seller: _Optional[str] = ..., buyer: _Optional[str] = ..., sold_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

from confidential_bookstore.api.books.v1 import books_pb2 as _books_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListBooksRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBooksResponse(_message.Message):
    __slots__ = ("books", "next_page_token")
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    books: _containers.RepeatedCompositeFieldContainer[_books_pb2.StockedBook]
    next_page_token: str
    def __init__(self, books: _Optional[_Iterable[_Union[_books_pb2.StockedBook, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetBookRequest(_message.Message):
    __slots__ = ("book_id",)
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    book_id: str
    def __init__(self, book_id: _Optional[str] = ...) -> None: ...

class GetBookResponse(_message.Message):
    __slots__ = ("book",)
    BOOK_FIELD_NUMBER: _ClassVar[int]
    book: _books_pb2.StockedBook
    def __init__(self, book: _Optional[_Union[_books_pb2.StockedBook, _Mapping]] = ...) -> None: ...

class BuyBookRequest(_message.Message):
    __slots__ = ("purchase_id", "book_id", "quantity")
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    purchase_id: str
    book_id: str
    quantity: int
    def __init__(self, purchase_id: _Optional[str] = ..., book_id: _Optional[str] = ..., quantity: _Optional[int] = ...) -> None: ...

class BuyBookResponse(_message.Message):
    __slots__ = ("receipt", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: _books_pb2.Receipt
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[_books_pb2.Receipt, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class Sales(_message.Message):
    __slots__ = ("seller", "orders", "books_sold")
    SELLER_FIELD_NUMBER: _ClassVar[int]
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    BOOKS_SOLD_FIELD_NUMBER: _ClassVar[int]
    seller: str
    orders: int
    books_sold: int
    def __init__(self, seller: _Optional[str] = ..., orders: _Optional[int] = ..., books_sold: _Optional[int] = ...) -> None: ...

class GetSalesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetSalesResponse(_message.Message):
    __slots__ = ("sales",)
    SALES_FIELD_NUMBER: _ClassVar[int]
    sales: Sales
    def __init__(self, sales: _Optional[_Union[Sales, _Mapping]] = ...) -> None: ...

class WatchSalesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchSalesResponse(_message.Message):
    __slots__ = ("sales",)
    SALES_FIELD_NUMBER: _ClassVar[int]
    sales: Sales
    def __init__(self, sales: _Optional[_Union[Sales, _Mapping]] = ...) -> None: ...

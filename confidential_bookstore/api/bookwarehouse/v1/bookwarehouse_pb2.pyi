from confidential_bookstore.api.books.v1 import books_pb2 as _books_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
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

class GetStockRequest(_message.Message):
    __slots__ = ("book_id",)
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    book_id: str
    def __init__(self, book_id: _Optional[str] = ...) -> None: ...

class GetStockResponse(_message.Message):
    __slots__ = ("book",)
    BOOK_FIELD_NUMBER: _ClassVar[int]
    book: _books_pb2.StockedBook
    def __init__(self, book: _Optional[_Union[_books_pb2.StockedBook, _Mapping]] = ...) -> None: ...

class Sale(_message.Message):
    __slots__ = ("purchase_id", "book_id", "quantity", "buyer")
    PURCHASE_ID_FIELD_NUMBER: _ClassVar[int]
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    BUYER_FIELD_NUMBER: _ClassVar[int]
    purchase_id: str
    book_id: str
    quantity: int
    buyer: str
    def __init__(self, purchase_id: _Optional[str] = ..., book_id: _Optional[str] = ..., quantity: _Optional[int] = ..., buyer: _Optional[str] = ...) -> None: ...

class SellBooksRequest(_message.Message):
    __slots__ = ("seller", "sales")
    SELLER_FIELD_NUMBER: _ClassVar[int]
    SALES_FIELD_NUMBER: _ClassVar[int]
    seller: str
    sales: _containers.RepeatedCompositeFieldContainer[Sale]
    def __init__(self, seller: _Optional[str] = ..., sales: _Optional[_Iterable[_Union[Sale, _Mapping]]] = ...) -> None: ...

class SaleResult(_message.Message):
    __slots__ = ("receipt", "refusal", "replayed")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    receipt: _books_pb2.Receipt
    refusal: SaleRefusal
    replayed: bool
    def __init__(self, receipt: _Optional[_Union[_books_pb2.Receipt, _Mapping]] = ..., refusal: _Optional[_Union[SaleRefusal, _Mapping]] = ..., replayed: bool = ...) -> None: ...

class SaleRefusal(_message.Message):
    __slots__ = ("reason", "message")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[SaleRefusal.Reason]
        REASON_UNKNOWN_BOOK: _ClassVar[SaleRefusal.Reason]
        REASON_OUT_OF_STOCK: _ClassVar[SaleRefusal.Reason]
        REASON_PURCHASE_ID_REUSED: _ClassVar[SaleRefusal.Reason]
        REASON_INVALID: _ClassVar[SaleRefusal.Reason]
    REASON_UNSPECIFIED: SaleRefusal.Reason
    REASON_UNKNOWN_BOOK: SaleRefusal.Reason
    REASON_OUT_OF_STOCK: SaleRefusal.Reason
    REASON_PURCHASE_ID_REUSED: SaleRefusal.Reason
    REASON_INVALID: SaleRefusal.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: SaleRefusal.Reason
    message: str
    def __init__(self, reason: _Optional[_Union[SaleRefusal.Reason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class SellBooksResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SaleResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SaleResult, _Mapping]]] = ...) -> None: ...

class RestockBooksRequest(_message.Message):
    __slots__ = ("restock_id", "book_id", "copies")
    RESTOCK_ID_FIELD_NUMBER: _ClassVar[int]
    BOOK_ID_FIELD_NUMBER: _ClassVar[int]
    COPIES_FIELD_NUMBER: _ClassVar[int]
    restock_id: str
    book_id: str
    copies: int
    def __init__(self, restock_id: _Optional[str] = ..., book_id: _Optional[str] = ..., copies: _Optional[int] = ...) -> None: ...

class RestockBooksResponse(_message.Message):
    __slots__ = ("book",)
    BOOK_FIELD_NUMBER: _ClassVar[int]
    book: _books_pb2.StockedBook
    def __init__(self, book: _Optional[_Union[_books_pb2.StockedBook, _Mapping]] = ...) -> None: ...

class GetTotalsRequest(_message.Message):
    __slots__ = ("seller",)
    SELLER_FIELD_NUMBER: _ClassVar[int]
    seller: str
    def __init__(self, seller: _Optional[str] = ...) -> None: ...

class GetTotalsResponse(_message.Message):
    __slots__ = ("orders", "books_sold", "books_restocked")
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    BOOKS_SOLD_FIELD_NUMBER: _ClassVar[int]
    BOOKS_RESTOCKED_FIELD_NUMBER: _ClassVar[int]
    orders: int
    books_sold: int
    books_restocked: int
    def __init__(self, orders: _Optional[int] = ..., books_sold: _Optional[int] = ..., books_restocked: _Optional[int] = ...) -> None: ...

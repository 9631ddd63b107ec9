from confidential_bookstore.api.books.v1 import books_pb2 as _books_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Purchases(_message.Message):
    __slots__ = ("books_bought", "books_by_seller")
    class BooksBySellerEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    BOOKS_BOUGHT_FIELD_NUMBER: _ClassVar[int]
    BOOKS_BY_SELLER_FIELD_NUMBER: _ClassVar[int]
    books_bought: int
    books_by_seller: _containers.ScalarMap[str, int]
    def __init__(self, books_bought: _Optional[int] = ..., books_by_seller: _Optional[_Mapping[str, int]] = ...) -> None: ...

class GetPurchasesRequest(_message.Message):
    __slots__ = ("receipts",)
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    receipts: int
    def __init__(self, receipts: _Optional[int] = ...) -> None: ...

class GetPurchasesResponse(_message.Message):
    __slots__ = ("purchases", "receipts")
    PURCHASES_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    purchases: Purchases
    receipts: _containers.RepeatedCompositeFieldContainer[_books_pb2.Receipt]
    def __init__(self, purchases: _Optional[_Union[Purchases, _Mapping]] = ..., receipts: _Optional[_Iterable[_Union[_books_pb2.Receipt, _Mapping]]] = ...) -> None: ...

class WatchPurchasesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchPurchasesResponse(_message.Message):
    __slots__ = ("purchases",)
    PURCHASES_FIELD_NUMBER: _ClassVar[int]
    purchases: Purchases
    def __init__(self, purchases: _Optional[_Union[Purchases, _Mapping]] = ...) -> None: ...

class ResetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Attempts(_message.Message):
    __slots__ = ("method", "tried", "refused", "last_refusal", "last_tried_at")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TRIED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    LAST_REFUSAL_FIELD_NUMBER: _ClassVar[int]
    LAST_TRIED_AT_FIELD_NUMBER: _ClassVar[int]
    method: str
    tried: int
    refused: int
    last_refusal: str
    last_tried_at: _timestamp_pb2.Timestamp
    def __init__(self, method: _Optional[str] = ..., tried: _Optional[int] = ..., refused: _Optional[int] = ..., last_refusal: _Optional[str] = ..., last_tried_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Thefts(_message.Message):
    __slots__ = ("books_stolen", "attempts")
    BOOKS_STOLEN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    books_stolen: int
    attempts: _containers.RepeatedCompositeFieldContainer[Attempts]
    def __init__(self, books_stolen: _Optional[int] = ..., attempts: _Optional[_Iterable[_Union[Attempts, _Mapping]]] = ...) -> None: ...

class GetTheftsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTheftsResponse(_message.Message):
    __slots__ = ("thefts",)
    THEFTS_FIELD_NUMBER: _ClassVar[int]
    thefts: Thefts
    def __init__(self, thefts: _Optional[_Union[Thefts, _Mapping]] = ...) -> None: ...

class WatchTheftsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchTheftsResponse(_message.Message):
    __slots__ = ("thefts",)
    THEFTS_FIELD_NUMBER: _ClassVar[int]
    thefts: Thefts
    def __init__(self, thefts: _Optional[_Union[Thefts, _Mapping]] = ...) -> None: ...

class ResetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ResetResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

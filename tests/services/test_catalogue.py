"""The catalogue is real, well-formed, and comes from inside the package."""

from __future__ import annotations

import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

from confidential_bookstore.serving.fields import checked_book_id
from services.bookwarehouse.catalogue import load_catalogue

ROOT = Path(__file__).parents[2]


def is_isbn(text: str) -> bool:
    """ISBN-13: thirteen digits, weighted 1 and 3 in turn, sum to a multiple of ten."""
    return (
        len(text) == 13
        and text.isdecimal()
        and text.startswith(("978", "979"))
        and sum(int(digit) * (1, 3)[i % 2] for i, digit in enumerate(text)) % 10 == 0
    )


def test_it_has_hundreds_of_different_books():
    books = load_catalogue()
    assert 300 <= len(books) <= 500
    assert len({book.book_id for book in books}) == len(books)
    assert len({(book.title, book.author) for book in books}) == len(books)
    assert [book.book_id for book in books] == sorted(book.book_id for book in books)


def test_every_field_is_well_formed():
    for book in load_catalogue():
        assert checked_book_id(book.book_id) == book.book_id
        assert -3000 < book.year < 1930
        assert book.year != 0
        for text in (book.title, book.author):
            assert 0 < len(text) <= 300
            assert text == unicodedata.normalize("NFC", text.strip())
            assert text.isprintable()


def test_isbns_are_empty_or_right():
    isbns = [book.isbn for book in load_catalogue() if book.isbn]
    assert [isbn for isbn in isbns if not is_isbn(isbn)] == []
    assert len(set(isbns)) == len(isbns) > 0


def test_the_check_notices_a_wrong_digit():
    assert is_isbn("9780141439518")
    assert not is_isbn("9780141439519")


def test_it_can_be_loaded_from_a_zip(tmp_path):
    package = tmp_path / "content" / "services"
    shutil.copytree(ROOT / "services/bookwarehouse", package / "bookwarehouse")
    shutil.copy(ROOT / "services/__init__.py", package)
    archive = shutil.make_archive(str(tmp_path / "image"), "zip", tmp_path / "content")
    program = (
        f"import sys; sys.path.insert(0, {archive!r}); import services.bookwarehouse.catalogue as c; "
        "assert 'image.zip' in c.__file__; print(len(c.load_catalogue()))"
    )
    result = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert int(result.stdout) == len(load_catalogue())

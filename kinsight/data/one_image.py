"""The bytes of one image at any address, a file of its own or a piece of a larger one."""

from kinsight import storage
from kinsight.data.decode import BrokenImage
from kinsight.data.piece_address import piece_address, split_piece
from kinsight.errors import StorageError

_ABOUT_ONE_IMAGE = {"storage.not-found", "storage.is-a-directory"}
_ABOUT_ONE_FILE = _ABOUT_ONE_IMAGE | {
    "storage.denied", "storage.not-a-directory", "storage.name-too-long", "storage.link-loop"
}  # fmt: skip


def read_image(uri: str) -> bytes:
    """An image's bytes. Raises BrokenImage if this one cannot be had, StorageError if none can."""
    if (piece := split_piece(uri)) is not None:
        data = read_span(*piece)
        if len(data) < piece[2]:
            raise BrokenImage(uri, "its file ends before it does")
        return data
    return _read(uri, None, None)


def read_span(file: str, offset: int, length: int) -> bytes:
    """`length` bytes of a file from `offset` on, fewer past its end. Raises like `read_image`."""
    return _read(file, offset, length)


def _read(file: str, offset: int | None, length: int | None) -> bytes:
    about_one = _ABOUT_ONE_IMAGE
    try:
        if "://" in file:
            return storage.read_bytes(file, start=offset, length=length)
        about_one = _ABOUT_ONE_FILE
        try:
            with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 - once per image
                if offset is None or length is None:
                    return stream.readall()
                stream.seek(offset)
                return stream.read(length)
        except OSError as error:
            raise storage.local_error(error, file) from error
    except StorageError as error:
        if error.code in about_one:
            raise BrokenImage(file, error.message.removeprefix(f"{shown(file)}: ")) from error
        raise


def shown(uri: str) -> str:
    """An address as people may see it: without a signature."""
    if "://" not in uri:
        return uri
    if (piece := split_piece(uri)) is not None:
        return piece_address(str(storage.Address.parse(piece[0])), *piece[1:])
    return str(storage.Address.parse(uri))

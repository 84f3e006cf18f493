"""Content cut into parts, over stores that live in memory: which parts, what is durable when, what is refused."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nel_mesh import MessageMetadata, StorageError
from nel_mesh.destinations.part_buffer import PartContent
from nel_mesh.destinations.parts import Part, PartedUpload, PartSizes, StoredObject

KIB = 1024
LEAST = 5 * KIB
SIZES = PartSizes(first=8 * KIB, later=12 * KIB, longer_after=4, segment=KIB, segments=24, later_segments=29)
METADATA = MessageMetadata(message_id="20261125120000000000_0A1B2C", message_type="DATA")


class MemoryStore:
    """A store with the rules of S3, scaled down: a part but the last has 5 KiB at least."""

    least_part_bytes = LEAST
    place = "memory://store"

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str | None, str]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.begun = 0
        self.refused_parts: set[int] = set()
        self.most_bytes_in_a_part = 0

    def read_object(self, key: str) -> bytes | None:
        return self.objects[key][0] if key in self.objects else None

    def write_object(self, key: str, content: bytes) -> None:
        self.objects[key] = (content, None, "")

    def remove_object(self, key: str) -> None:
        self.objects.pop(key, None)

    def list_objects(self, prefix: str) -> Iterator[str]:
        return (key for key in sorted(self.objects) if key.startswith(prefix))

    def begin(self, key: str, metadata: MessageMetadata) -> str:
        self.begun += 1
        self.uploads[f"U{self.begun}"] = {}
        return f"U{self.begun}"

    def is_open(self, key: str, upload_id: str, parts: list[Part]) -> bool:
        return upload_id in self.uploads and len(self.uploads[upload_id]) >= len(parts)

    def put_part(self, key: str, upload_id: str, number: int, content: PartContent, sha256: str) -> Part:
        if number in self.refused_parts:
            raise StorageError("the store is full")
        self.most_bytes_in_a_part = max(self.most_bytes_in_a_part, len(content))
        assert base64.b64decode(sha256) == hashlib.sha256(bytes(content)).digest()
        self.uploads[upload_id][number] = bytes(content)
        return Part(len(content), f"tag{number}", sha256)

    def complete(self, key: str, upload_id: str, parts: list[Part], metadata: MessageMetadata) -> bool:
        if key in self.objects:
            return False
        stored = self.uploads.pop(upload_id)
        contents = [stored[number] for number in range(1, len(parts) + 1)]
        assert all(len(content) >= LEAST for content in contents[:-1]), list(map(len, contents))
        assert [len(content) for content in contents] == [part.length for part in parts]
        self.objects[key] = (b"".join(contents), metadata.message_id, str(self.checksum_of(parts)))
        return True

    def put(self, key: str, content: bytes, metadata: MessageMetadata) -> bool:
        if key in self.objects:
            return False
        sha256 = base64.b64encode(hashlib.sha256(content).digest()).decode()
        self.objects[key] = (content, metadata.message_id, sha256)
        return True

    def find(self, key: str) -> StoredObject | None:
        if key not in self.objects:
            return None
        content, message_id, checksum = self.objects[key]
        return StoredObject(len(content), message_id, checksum)

    def checksum_of(self, parts: list[Part]) -> str | None:
        digests = b"".join(base64.b64decode(part.sha256) for part in parts)
        return f"{hashlib.sha256(digests).hexdigest()}-{len(parts)}"

    def read_blocks(self, key: str) -> Iterator[bytes]:
        yield self.objects[key][0]

    def abandon(self, key: str, upload_id: str) -> None:
        self.uploads.pop(upload_id, None)


def upload_into(store: MemoryStore, **options: Any) -> PartedUpload:
    return PartedUpload(store, METADATA.message_id, lambda metadata: "key", sizes=SIZES, **options)


def content_of(length: int) -> bytes:
    return bytes(hashlib.shake_128(str(length).encode()).digest(length))


@given(
    chunks=st.lists(st.integers(1, 33 * KIB), min_size=1, max_size=12),
    block=st.integers(500, 9 * KIB),
    kills=st.lists(st.integers(0, 11), max_size=4),
)
def test_a_message_that_is_cut_and_killed_anywhere_arrives_whole(
    chunks: list[int], block: int, kills: list[int]
) -> None:
    """Another process continues from the last state only, and fetches what came after it again."""
    store = MemoryStore()
    contents = [content_of(length + number) for number, length in enumerate(chunks)]
    ends = [sum(map(len, contents[: number + 1])) for number in range(len(contents))]
    state: Any = None
    done = length = 0
    upload = upload_into(store)
    upload.start(METADATA)
    kills = [number for number in kills if number < len(chunks)]
    while done < len(contents):
        chunk = contents[done]
        written = upload.write(chunk[start : start + block] for start in range(0, len(chunk), block))
        assert written == len(chunk)
        if done in kills:
            # Half of the chunk more than was recorded is there, or a part that no record knows.
            kills.remove(done)
            upload.close()
            upload = upload_into(store)
            found = upload.resume(state, METADATA) if state is not None else None
            if found is None:
                upload.start(METADATA)
                done = length = 0
            else:
                assert found == length
                upload.truncate(length)
                done = ends.index(length) + 1
            continue
        done += 1
        if done < len(contents):
            checkpoint = upload.checkpoint()
            if checkpoint.state is not None:
                state, length = json.loads(json.dumps(checkpoint.state)), checkpoint.length
                assert length in ends
    finished = upload.finish()
    assert finished.length == sum(map(len, contents))
    assert upload.publish("key")
    assert store.objects["key"][0] == b"".join(contents)
    assert store.most_bytes_in_a_part < SIZES.later + LEAST


def test_a_damaged_chunk_is_dropped_and_written_again() -> None:
    store = MemoryStore()
    upload = upload_into(store)
    upload.start(METADATA)
    first, damaged, second = content_of(7 * KIB), content_of(30 * KIB), content_of(20 * KIB)
    upload.write([first[: 3 * KIB]])
    upload.checkpoint()
    upload.write([first[3 * KIB :], damaged])
    upload.truncate(3 * KIB)
    upload.write([first[3 * KIB :], second])
    upload.finish()
    assert upload.publish("key")
    assert store.objects["key"][0] == first + second


def test_the_next_chunk_does_not_wait_for_the_parts_of_the_one_before() -> None:
    store, may_arrive = MemoryStore(), threading.Event()
    put_part = store.put_part

    def put_slowly(*part: Any) -> Part:
        assert may_arrive.wait(30)
        return put_part(*part)

    store.put_part = put_slowly  # type: ignore[assignment, method-assign]
    upload = upload_into(store)
    upload.start(METADATA)
    first, second = content_of(8 * KIB), content_of(9 * KIB)
    upload.write([first])
    assert upload.checkpoint().length == 0
    # It would wait for ever, as nothing may arrive before it has returned.
    upload.truncate(len(first))
    may_arrive.set()
    upload.write([second])
    upload.checkpoint()
    assert upload.finish().length == len(first + second)
    assert upload.publish("key")
    assert store.objects["key"][0] == first + second


def test_a_part_that_failed_is_never_left_out() -> None:
    """The chunk is fetched again after damage, and a part before it had failed unseen in the background."""
    go_on = threading.Event()

    class SlowStore(MemoryStore):
        def put_part(self, key: str, upload_id: str, number: int, content: PartContent, sha256: str) -> Part:
            assert go_on.wait(20)
            return super().put_part(key, upload_id, number, content, sha256)

    store = SlowStore()
    store.refused_parts = {1}
    upload = upload_into(store)
    upload.start(METADATA)
    upload.write([content_of(6 * KIB)])
    upload.checkpoint()
    go_on.set()
    upload.write([b"damaged"])
    with pytest.raises(StorageError, match="the store is full"):
        upload.truncate(6 * KIB)
    store.refused_parts = set()
    with pytest.raises(StorageError, match="the store is full"):
        upload.write([content_of(30 * KIB)])
    upload.close()
    assert store.objects == {}


def test_what_has_arrived_is_told_before_the_part_that_failed() -> None:
    store = MemoryStore()
    store.refused_parts = {2}
    upload = upload_into(store)
    upload.start(METADATA)
    upload.write([content_of(8 * KIB)])
    upload.checkpoint()
    upload.write([content_of(8 * KIB)])
    checkpoint = upload.checkpoint()
    assert checkpoint.length == 8 * KIB
    with pytest.raises(StorageError, match="the store is full"):
        upload.finish()
    other = upload_into(store)
    assert other.resume(checkpoint.state, METADATA) == 8 * KIB


def test_the_end_of_a_chunk_is_told_only_when_every_part_before_it_has_arrived() -> None:
    store = MemoryStore()
    upload = upload_into(store)
    upload.start(METADATA)
    upload.write([content_of(2 * KIB)])
    assert upload.checkpoint().length == 0, "2 KiB are less than a least part"
    upload.write([content_of(4 * KIB)])
    upload.checkpoint()
    upload.write([b"damaged"])
    upload.truncate(6 * KIB)
    assert upload.checkpoint().length == 6 * KIB


def test_small_content_is_one_request() -> None:
    store = MemoryStore()
    upload = upload_into(store)
    upload.start(METADATA)
    upload.write([b"a", b"b"])
    assert upload.finish().state is None
    assert upload.publish("key")
    assert store.objects["key"][:2] == (b"ab", METADATA.message_id)
    assert store.begun == 0


def _filled(store: MemoryStore, length: int, **options: Any) -> PartedUpload:
    upload = upload_into(store, **options)
    upload.start(METADATA)
    upload.write([content_of(length)])
    upload.finish()
    return upload


@pytest.mark.parametrize("length", [100, 20 * KIB])
def test_an_object_that_is_there_is_kept(length: int) -> None:
    """If it is the same message, it is stored; if it is something else, it is not replaced."""
    store = MemoryStore()
    store.objects["key"] = (b"x" * length, "ANOTHER", "another checksum")
    upload = _filled(store, length)
    assert not upload.publish("key")
    assert store.objects["key"][0] == b"x" * length
    upload.remove()
    assert store.uploads == {}
    store.objects["key"] = (content_of(length), METADATA.message_id, "of other parts")
    upload = _filled(store, length)
    assert upload.publish("key")
    upload.remove()
    assert store.uploads == {}, "the upload of the one who came second"


@pytest.mark.parametrize("length", [100, 20 * KIB])
def test_an_object_without_our_metadata_is_known_by_the_stores_checksum(length: int) -> None:
    store = MemoryStore()
    assert _filled(store, length).publish("key")
    content, _, checksum = store.objects["key"]
    store.objects["key"] = (content, None, checksum)
    assert _filled(store, length).publish("key")
    store.objects["key"] = (content, None, "another")
    assert not _filled(store, length).publish("key")


class _Damaging(MemoryStore):
    """Stores something else than it was given."""

    damage: Any

    def find(self, key: str) -> StoredObject | None:
        found = super().find(key)
        return found and StoredObject(**{"length": found.length, "message_id": found.message_id, **self.damage})


@pytest.mark.parametrize("damage", [{"checksum": "another"}, {"length": 7, "checksum": None}])
@pytest.mark.parametrize("length", [100, 20 * KIB])
def test_a_store_that_shows_something_else_is_not_believed(damage: dict[str, Any], length: int) -> None:
    store = _Damaging()
    store.damage = damage
    with pytest.raises(StorageError, match=f"memory://store/key: {length:,} bytes were stored, and the store shows"):
        _filled(store, length).publish("key")
    assert store.objects == {}


def test_the_sidecar_comes_first_and_replaces_nothing() -> None:
    store = MemoryStore()
    assert _filled(store, 100, sidecar=True).publish("key")
    assert list(store.objects) == ["key.json", "key"]
    assert json.loads(store.objects["key.json"][0])["message_id"] == METADATA.message_id
    del store.objects["key"]
    assert _filled(store, 100, sidecar=True).publish("key"), "an earlier process wrote the sidecar and was killed"
    other = MemoryStore()
    other.objects["key.json"] = (b"{}", None, "")
    with pytest.raises(StorageError, match=r"memory://store/key.json: something else is there"):
        _filled(other, 100, sidecar=True).publish("key")
    assert list(other.objects) == ["key.json"]


def test_a_new_start_drops_the_parts_of_the_upload_before_it() -> None:
    store = MemoryStore()
    upload = _filled(store, 20 * KIB)
    assert list(store.uploads) == ["U1"]
    upload.start(METADATA)
    assert store.uploads == {}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"key": "k", "upload_id": "u", "parts": [[1, 2]]},
        {"key": "k", "upload_id": "u", "parts": [["x", "t", "AAAA"]]},
        {"key": "k", "upload_id": "u", "parts": [[1, "t", "no base64"]]},
        {"key": "k", "upload_id": "u", "parts": 5},
    ],
)
def test_a_record_of_others_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="the record is not one that was written here"):
        upload_into(MemoryStore()).resume(state, METADATA)


def test_parts_are_few_enough_for_the_longest_message() -> None:
    """100 GB, in chunks so short that every part is sent as soon as it may be."""
    sizes, least, length, parts = PartSizes(), 5 * 1024 * 1024, 0, 0
    while length < 100_000_000_000:
        length += sizes.least(parts, least)
        parts += 1
    assert parts <= 10_000
    assert sizes.later_segments * sizes.segment >= 2 * sizes.later + least

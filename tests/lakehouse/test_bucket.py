"""A lake in an object store: what holds on a disk holds on a real S3 server, also if the server is killed."""

import multiprocessing
import secrets
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shop import SPEC
from text_lake import publish_text, publish_until_unreachable

from lakehouse.feature_specs import store_spec, stored_spec
from lakehouse.journeys import count_users
from lakehouse.lake import FAILED_AUDIT, Lake
from lakehouse.manifest import DAYS_READ
from lakehouse.storage.data_files import COPIES, has_its_content
from lakehouse.storage.delta_table import Replaced, table_version
from lakehouse.storage.files import is_local, write_whole
from lakehouse.storage.scratch import work_folder
from lakehouse.storage.store_path import located
from schemas.errors import Unreachable, UserError

DAY, NEXT = "2022-05-01", "2022-05-02"


@pytest.fixture
def location(bucket: str) -> str:
    """The URI of an empty lake."""
    return bucket


def texts(lake: Lake, day: str = DAY) -> list[str]:
    return lake["exposures", "shop", day].read(["text"]).column("text").unique().to_pylist()


def test_a_location_is_a_path_of_this_machine_or_a_uri(tmp_path, monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install -r requirements-s3.txt")
    monkeypatch.chdir(tmp_path)
    assert located("lake") == located(f"file://{tmp_path}/lake") == tmp_path / "lake"
    assert str(located("s3://bucket/a/lake/") / "x" / "y") == "s3://bucket/a/lake/x/y"
    assert is_local(located("lake"))
    assert not is_local(located("s3://bucket/lake"))


@pytest.mark.parametrize(
    ("uri", "message"), [("ftp://host/lake", "write a path of this machine, or a URI of"), ("s3:///lake", "no bucket")]
)
def test_a_uri_of_no_store_is_one_clear_line(uri, message):
    with pytest.raises(UserError, match=message):
        located(uri)


@pytest.fixture
def simple_store(monkeypatch):
    """Starts an S3 store that keeps nothing, and answers a conditional write with this status."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install -r requirements-s3.txt")
    servers = []

    def start(status: int) -> None:
        s3fs.S3FileSystem.clear_instance_cache()  # clients of other stores

        class Store(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status if "If-None-Match" in self.headers else HTTPStatus.OK)
                self.send_header("ETag", '"e"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_DELETE(self) -> None:
                self.send_response(HTTPStatus.NO_CONTENT)
                self.end_headers()

            def do_HEAD(self) -> None:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Store))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers[-1].server_port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "x")

    yield start
    s3fs.S3FileSystem.clear_instance_cache()
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.slow(0.5)
@pytest.mark.parametrize("status", [HTTPStatus.OK, HTTPStatus.NOT_IMPLEMENTED])
def test_a_store_that_overwrites_a_commit_is_refused_before_any_work(simple_store, status):
    simple_store(status)
    with pytest.raises(UserError, match=r"^s3://bucket/lake: .*If-None-Match.*: use a store with conditional writes"):
        Lake.at("s3://bucket/lake").require_writable()


@pytest.mark.parametrize("status", [HTTPStatus.PRECONDITION_FAILED, HTTPStatus.CONFLICT])
def test_a_store_that_refuses_to_overwrite_is_accepted(simple_store, status):
    simple_store(status)
    Lake.at("s3://bucket/lake").require_writable()


@pytest.mark.bucket
class TestOnAServer:
    def test_the_check_before_any_work_leaves_nothing(self, location):
        lake = Lake.at(location)
        lake.require_writable()
        assert list(lake.root.iterdir()) == []

    def test_what_is_published_is_read_back(self, location, tmp_path):
        lake, on_disk = Lake.at(location), Lake(tmp_path)
        assert publish_text(lake, "a", "b") == publish_text(on_disk, "a", "b")
        publish_text(lake, "c", day=NEXT)
        assert (texts(lake), texts(lake, NEXT), lake.days("exposures", "shop")) == (["a", "b"], ["c"], [DAY, NEXT])
        partition = lake["exposures", "shop", DAY]
        assert all(is_local(file) and has_its_content(file) for file in partition.files())
        publish_text(on_disk, "c", day=NEXT)
        days = [DAY, NEXT]
        assert lake.history_inputs("exposures", "shop", days) == on_disk.history_inputs("exposures", "shop", days)

    def test_the_same_rows_again_commit_nothing(self, location):
        lake = Lake.at(location)
        publish_text(lake, "a")
        folder = lake.table("exposures", "shop")
        version = table_version(folder)
        publish_text(lake, "a")
        assert table_version(folder) == version
        publish_text(lake, "b")
        assert (table_version(folder), texts(lake)) == (version + 1, ["b"])

    def test_rows_that_were_made_from_replaced_rows_are_not_published(self, location):
        lake = Lake.at(location)
        publish_text(lake, "a")
        read = lake["exposures", "shop", DAY].data_files()
        publish_text(lake, "b")
        with pytest.raises(Replaced):
            publish_text(lake, "c", replaces=read)
        assert texts(lake) == ["b"]

    def test_a_damaged_copy_is_fetched_again(self, location):
        lake = Lake.at(location)
        publish_text(lake, "a")
        (copy,) = lake["exposures", "shop", DAY].files()
        copy.write_bytes(b"cut off")
        (copy,) = lake["exposures", "shop", DAY].files()
        assert pq.read_table(copy).num_rows == 100

    def test_a_missing_data_file_is_an_error(self, location):
        lake = Lake.at(location)
        publish_text(lake, "a")
        (file,) = lake["exposures", "shop", DAY].data_files()
        (lake.table("exposures", "shop") / file.path).unlink()
        with pytest.raises(UserError, match="is missing"):
            texts(lake)

    def test_users_are_counted_from_the_bytes_of_their_ids_alone(self, location, monkeypatch, empty_scratch):
        lake = Lake.at(location)
        first, second = range(3000), range(2900, 3100)
        for day, users, days_read in ((DAY, first, 1), (NEXT, second, 2)):
            with work_folder() as work:
                for part in range(2):
                    ids = [user for user in users if user % 2 == part]
                    rows = pa.table({"user_id": ids, "memory": [secrets.token_bytes(1000) for _ in ids]})
                    pq.write_table(rows, work / f"part-{part}.parquet", row_group_size=500)
                lake["journeys", "shop", day].publish(work, inputs={}, code="c", counts={DAYS_READ: days_read})
        S3File = pytest.importorskip("s3fs.core").S3File
        fetched = []
        fetch = S3File._fetch_range
        monkeypatch.setattr(
            S3File, "_fetch_range", lambda file, start, end: fetched.append(end - start) or fetch(file, start, end)
        )
        journeys = [file for day in (DAY, NEXT) for file in lake["journeys", "shop", day].data_files()]
        assert count_users(lake, "shop", NEXT) == 3100
        assert 0 < sum(fetched) < 0.15 * sum(file.size for file in journeys)
        assert not [*(empty_scratch / COPIES).rglob("ds=*")]

    def test_a_failed_audit_refuses_the_partition(self, location):
        lake = Lake.at(location)
        manifest = publish_text(lake, "a")
        assert lake["exposures", "shop", DAY].require() == manifest
        audit = f'{{"verdict": "{FAILED_AUDIT}", "fingerprint": "{manifest.fingerprint}", "headline": "no rows"}}'
        write_whole(lake.audits("shop") / "exposures" / f"{DAY}.json", audit)
        with pytest.raises(UserError, match="failed its audit: no rows"):
            lake["exposures", "shop", DAY].require()

    def test_files_that_another_process_writes_are_seen_at_once(self, location, s3_server):
        """No reader has an old list of the folder."""
        writer, reader = s3_server.file_system(), Lake.at(location).root / "reports"
        assert (list(reader.glob("*.json")), reader.is_dir(), reader.exists()) == ([], False, False)
        writer.pipe_file(f"{location}/reports/a.json", b"1")
        assert [file.name for file in reader.glob("*.json")] == ["a.json"]
        assert (reader.is_dir(), (reader / "a.json").is_file(), (reader / "a.json").read_text()) == (True, True, "1")
        tag = (reader / "a.json").content_tag()
        writer.pipe_file(f"{location}/reports/a.json", b"22")
        assert ((reader / "a.json").read_text(), (reader / "a.json").stat().st_size) == ("22", 2)
        assert (reader / "a.json").content_tag() != tag
        writer.rm_file(f"{location}/reports/a.json")
        assert [*reader.iterdir()] == []

    def test_feature_specs_are_stored_and_read(self, location):
        lake = Lake.at(location)
        store_spec(lake, SPEC)
        assert stored_spec(lake, SPEC.dataset, SPEC.version) == SPEC

    def test_a_server_that_is_killed_in_the_middle_of_commits_leaves_no_torn_state(self, location, s3_server, tmp_path):
        lake, started = Lake.at(location), tmp_path / "started"
        writer = multiprocessing.get_context("spawn").Process(
            target=publish_until_unreachable, args=(location, started)
        )
        writer.start()
        while not started.exists():
            assert writer.exitcode is None, "the writer ended before it had published an edition"
            time.sleep(0.1)
        time.sleep(1)
        s3_server.kill()
        try:
            for read in (
                lambda: lake["exposures", "shop", DAY].manifest,
                lambda: (lake.audits("shop") / "exposures" / f"{DAY}.json").is_file(),
            ):
                with pytest.raises(Unreachable, match=r"^s3://.*: the object store does not answer") as error:
                    read()
                assert len(str(error.value).splitlines()) == 1
            writer.join()
            assert writer.exitcode == 0
        finally:
            s3_server.start()
        partition = lake["exposures", "shop", DAY]
        manifest, (text,) = partition.manifest, texts(lake)
        assert (manifest.rows, manifest.inputs) == (200, {"text": f"{text} {text}"})
        assert all(has_its_content(file) for file in partition.files())
        publish_text(lake, "after")
        assert texts(lake) == ["after"]

import os

import pytest

from retrain import EmbedOptions, EvaluateOptions, RetrainError, SortOptions, embed, evaluate, sort_dir
from retrain.images import ImageError
from retrain.scale.places import Reader, find_files, find_remote_dataset, is_remote, name_below, without_secrets

fs = pytest.importorskip("pyarrow.fs")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket(folder):
    """Address of a bucket that holds the folder's pictures, in a store that speaks S3; behind it, how to reach it."""
    patch = pytest.MonkeyPatch()
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {"AWS_ACCESS_KEY_ID": "us", "AWS_SECRET_ACCESS_KEY": "them", "AWS_REGION": "us-east-1"}.items():
        patch.setenv(name, value)
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    store = fs.S3FileSystem(endpoint_override=f"{host}:{port}", scheme="http", allow_bucket_creation=True)
    store.create_dir("photos")
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name.isascii():
            with store.open_output_stream(f"photos/set/{path.relative_to(folder).as_posix()}") as stream:
                stream.write(path.read_bytes())
    with store.open_output_stream("photos/set/.hidden") as stream:
        stream.write(b"?")
    yield "s3://photos/set"
    server.stop()
    patch.undo()


def test_addresses_are_told_from_paths():
    assert [is_remote(place) for place in ("s3://b/x", "gs://b", "s3:/b", "photos", "./s3://b")] == [1, 1, 0, 0, 0]


def test_names_of_a_store_stand_in_order(bucket, folder):
    names, reader = find_files([bucket])
    local, _ = find_files([folder])
    ascii_names = [name for name in (name_below(folder, name) for name in local) if name.isascii()]
    assert [name_below(bucket, name) for name in names] == ascii_names
    assert reader.read(names[-1]) == (folder / ascii_names[-1]).read_bytes()


def test_keys_in_an_address_are_told_nobody(bucket, monkeypatch):
    host = os.environ["AWS_ENDPOINT_URL"].partition("://")[2]
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    place = f"s3://key:secret@photos/set/tree?scheme=http&endpoint_override={host}"
    names, _ = find_files([place])
    assert name_below(place, names[0]) == name_below(bucket, names[0]).removeprefix("tree/")
    assert without_secrets(place) == "s3://photos/set/tree"
    with pytest.raises(RetrainError) as error:
        find_files([place.replace("photos", "no-such")])
    assert "secret" not in str(error.value)


def test_each_address_is_read_where_it_lies(bucket, folder):
    names, reader = find_files([f"{bucket}/sun", f"{bucket}/tree"])
    reader.stores[f"{bucket}/tree"] = fs.LocalFileSystem(), str(folder / "tree")  # another store
    for name in (names[0], names[-1]):
        assert reader.read(name) == (folder / name_below(bucket, name)).read_bytes()


def test_address_with_escaped_letters_is_one_of_a_folder(bucket):
    store, _ = find_files([bucket])[1].stores[bucket]
    with store.open_output_stream("photos/my notes/a b.txt") as stream:
        stream.write(b"dear")
    place = "s3://photos/my%20notes"
    (name,), reader = find_files([place])
    assert name_below(place, name) == "a b.txt"
    assert reader.read(name) == b"dear"


def test_one_file_of_a_store_can_be_named(bucket):
    assert find_files([f"{bucket}/notes.txt"])[0] == ["s3://photos/set/notes.txt"]


def test_file_that_is_gone_is_unreadable(bucket):
    _, reader = find_files([bucket])
    with pytest.raises(ImageError, match="unreadable"):
        reader.read("s3://photos/set/gone.jpg")


def test_store_that_does_not_answer_is_an_error(bucket):
    with pytest.raises(RetrainError, match="cannot be read"):
        find_files(["s3://no-such-bucket/x"])


def test_store_is_embedded_as_a_folder_is(bucket, folder, tmp_path):
    from pyarrow import parquet

    embed(f"{bucket}/sun", tmp_path / "far")
    embed(folder / "sun", tmp_path / "near")
    assert parquet.read_table(tmp_path / "far").equals(parquet.read_table(tmp_path / "near"))


def test_embeddings_may_go_to_a_store(bucket, folder, tmp_path):
    from pyarrow import parquet

    out = "s3://photos/embeddings.parquet"
    assert embed(folder / "tree", out)["new"] == 24
    assert embed(folder / "tree", out, EmbedOptions())["new"] == 0
    store, _ = find_files(["s3://photos/set"])[1].stores["s3://photos/set"]
    assert parquet.read_table("photos/embeddings.parquet", filesystem=store).num_rows == 24


def test_store_that_cannot_be_written_is_named(bucket, folder):
    with pytest.raises(RetrainError, match=r"cannot work in s3://no-such-bucket/out: .*no-such-bucket"):
        embed(folder / "tree", "s3://no-such-bucket/out")


def test_data_set_of_a_store_has_its_classes(bucket):
    dataset, _ = find_remote_dataset(bucket)
    assert dataset.classes == ["sun", "tree"]
    assert dataset.counts().tolist() == [24, 24]
    with pytest.raises(RetrainError, match="no class moon"):
        find_remote_dataset(bucket, ["moon"])


def test_model_is_evaluated_on_a_store_as_on_a_folder(bucket, folder, trained):
    results = [evaluate(place, EvaluateOptions(model_dir=trained / "model")) for place in (bucket, folder)]
    assert results[0]["accuracy"] == results[1]["accuracy"]
    assert results[0]["learned"] == results[1]["learned"] > 0


def test_store_is_not_sorted(bucket, tmp_path):
    with pytest.raises(RetrainError, match="no folder of this machine"):
        sort_dir(bucket, tmp_path / "sorted", SortOptions())


def test_local_file_is_read_as_ever(folder):
    assert Reader().read(os.fspath(folder / "notes.txt")) == b"no picture"

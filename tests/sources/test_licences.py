import pytest

from retrain.sources.licences import ANY, COMMERCIAL, IDS, SAFE, WANTED, Licence, allows, parse_licence

CC = "https://creativecommons.org"


@pytest.mark.parametrize(("text", "id", "version"), [
    ("by", "by", None), ("by-sa", "by-sa", None), ("by 4.0", "by", "4.0"), ("cc-by", "by", None),
    ("CC BY-SA 4.0", "by-sa", "4.0"), ("cc-by-sa-3.0-de", "by-sa", "3.0"), ("cc-by-sa-4.0,3.0,2.5", "by-sa", "4.0"),
    ("cc-by-nc", "by-nc", None), ("by-nd-nc 1.0", "by-nc-nd", "1.0"), ("cc0", "cc0", "1.0"), ("CC0 1.0", "cc0", "1.0"),
    ("cc-zero", "cc0", "1.0"), ("pdm", "pdm", "1.0"), ("pd", "pdm", "1.0"), ("Public domain", "pdm", "1.0"),
    (f"{CC}/licenses/by/4.0/", "by", "4.0"),
    ("http://creativecommons.org/licenses/by-nc-sa/2.0/legalcode", "by-nc-sa", "2.0"),
    (f"{CC}/licenses/by-sa/3.0/de/deed.en", "by-sa", "3.0"), (f"{CC}/licenses/by-sa/4.0", "by-sa", "4.0"),
    (f"{CC}/publicdomain/zero/1.0/deed.en", "cc0", "1.0"), (f"{CC}/publicdomain/mark/1.0/", "pdm", "1.0"),
])  # fmt: skip
def test_licence_is_read(text, id, version):
    assert parse_licence(text) == Licence(id, version)


@pytest.mark.parametrize("text", [
    "", None, "all rights reserved", "copyright", "by-xx", "bye", "sampling+", "cc", "gfdl", "cc-sa-1.0", "0 euros",
    "https://evil.example/creativecommons.org/licenses/by/4.0/", f"{CC}.evil.example/licenses/by/4.0/",
    f"see {CC}/licenses/by/4.0/", f"{CC}/licenses/by/4.0/ but not for you", "public domain in Ruritania", "by or not",
])  # fmt: skip
def test_what_is_not_certain_is_no_licence(text):
    assert parse_licence(text) is None


def test_texts_must_agree():
    assert parse_licence("by", f"{CC}/licenses/by/4.0/") == Licence("by", "4.0")
    assert parse_licence("by", f"{CC}/licenses/by-nc/4.0/") is None
    assert parse_licence("by", "https://photos.example/terms") is None


@pytest.mark.parametrize("id", IDS)
def test_licence_reads_its_own_name_and_address(id):
    licence = Licence(id, "1.0" if id in ("cc0", "pdm") else "4.0")
    assert parse_licence(licence.url) == licence
    assert parse_licence(licence.name) == licence


def test_who_allows_what():
    allowed = {wanted: {id for id in IDS if allows(Licence(id), wanted)} for wanted in WANTED}
    assert allowed[SAFE] == {"cc0", "pdm", "by", "by-sa"}
    assert allowed[COMMERCIAL] == allowed[SAFE] | {"by-nd"}
    assert allowed[ANY] == set(IDS)
    assert [allows(None, wanted) for wanted in (SAFE, COMMERCIAL, ANY)] == [False, False, True]

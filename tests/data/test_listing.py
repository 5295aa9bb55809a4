"""The rule for which entries of a folder are images, and what is said about the others."""

from __future__ import annotations

import os

import pytest

from anoframe.data.listing import LeftOut, Reason, describe_left_out, escape_name, is_hidden, list_images


@pytest.fixture
def make(tmp_path):
    """Function that creates empty files below a folder `parts`, and returns the folder."""

    def create(*names):
        folder = tmp_path / "parts"
        folder.mkdir(exist_ok=True)
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return folder

    return create


def names(listing, folder):
    return [path.relative_to(folder).as_posix() for path in listing.files]


def left_out(listing, folder):
    return {entry.path.relative_to(folder).as_posix(): entry.reason for entry in listing.left_out}


@pytest.mark.parametrize("recursive", [False, True])
def test_images_are_sorted_whatever_the_capitals_of_their_suffix(make, recursive):
    folder = make("b.PNG", "a.jpg", "c.Tiff")
    assert names(list_images(folder, recursive), folder) == ["a.jpg", "b.PNG", "c.Tiff"]


def test_missing_folder_has_no_entries(tmp_path):
    listing = list_images(tmp_path / "nowhere", recursive=True)
    assert (listing.files, listing.left_out) == ([], [])


@pytest.mark.parametrize("recursive", [False, True])
def test_other_suffixes_are_left_out(make, recursive):
    folder = make("a.png", "b.heic", "c.jp2", "README")
    assert left_out(list_images(folder, recursive), folder) == dict.fromkeys(
        ["b.heic", "c.jp2", "README"], Reason.SUFFIX
    )


@pytest.mark.parametrize("recursive", [False, True])
@pytest.mark.parametrize("name", [".ipynb_checkpoints", "@eaDir", ".Trash-0", "__MACOSX", "__macosx"])
def test_folders_of_systems_are_left_out(make, recursive, name):
    folder = make("a.png", f"{name}/a.png")
    listing = list_images(folder, recursive)
    assert (names(listing, folder), left_out(listing, folder)) == (["a.png"], {name: Reason.HIDDEN_FOLDER})


@pytest.mark.parametrize("recursive", [False, True])
def test_hidden_images_are_left_out_and_files_of_systems_are_ignored(make, recursive):
    folder = make("a.png", "._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".gitkeep")
    listing = list_images(folder, recursive)
    assert (names(listing, folder), left_out(listing, folder)) == (["a.png"], {"._a.png": Reason.HIDDEN_FILE})


def test_subfolders_are_left_out_unless_searched(make):
    folder = make("a.png", "day1/b.png", "day1/deep/c.png")
    assert left_out(list_images(folder), folder) == {"day1": Reason.SUBFOLDER}
    assert names(list_images(folder, recursive=True), folder) == ["a.png", "day1/b.png", "day1/deep/c.png"]


@pytest.mark.parametrize("recursive", [False, True])
def test_broken_link_is_listed_so_that_opening_it_is_an_error(make, recursive):
    folder = make("a.png")
    (folder / "gone.png").symlink_to("../gone.png")
    (folder / "day1").symlink_to("../camera")
    listing = list_images(folder, recursive)
    assert names(listing, folder) == ["a.png", "gone.png"]
    assert left_out(listing, folder) == {"day1": Reason.BROKEN_LINK}


def test_folder_in_place_of_an_image_is_listed_unless_searched(make):
    folder = make("a.png/b.png")
    assert names(list_images(folder), folder) == ["a.png"]
    assert names(list_images(folder, recursive=True), folder) == ["a.png/b.png"]


def test_linked_folder_is_searched_once(make, tmp_path):
    folder = make("a.png")
    (tmp_path / "camera/deep").mkdir(parents=True)
    (tmp_path / "camera/deep/b.png").write_bytes(b"")
    for link in ("day1", "day2"):
        (folder / link).symlink_to("../camera")
    listing = list_images(folder, recursive=True)
    assert names(listing, folder) == ["a.png", "day1/deep/b.png"]
    assert left_out(listing, folder) == {"day2": Reason.LINKED_FOLDER}


def test_file_with_two_names_has_its_real_one(make):
    folder = make("real/a.png")
    (folder / "alias").symlink_to("real")
    listing = list_images(folder, recursive=True)
    assert names(listing, folder) == ["real/a.png"]
    assert left_out(listing, folder) == {"alias": Reason.LINKED_FOLDER}


@pytest.mark.parametrize("target", [".", "..", "/"])
def test_link_to_a_parent_is_not_followed(make, target):
    folder = make("sub/a.png")
    (folder / "sub/up").symlink_to(target)
    listing = list_images(folder, recursive=True)
    assert names(listing, folder) == ["sub/a.png"]
    assert left_out(listing, folder) == {"sub/up": Reason.LINKED_FOLDER}


def test_linked_folder_is_left_out_where_subfolders_are_not_searched(make, tmp_path):
    folder = make("a.png")
    (folder / "day1").symlink_to(tmp_path)
    assert left_out(list_images(folder), folder) == {"day1": Reason.SUBFOLDER}


def test_folder_of_outputs_is_left_out(make):
    folder = make("a.png", "out/b.png")
    listing = list_images(folder, recursive=True, is_output=lambda path: path.name == "out")
    assert (names(listing, folder), left_out(listing, folder)) == (["a.png"], {"out": Reason.OUTPUT})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_folder_without_permission_is_left_out(make):
    folder = make("a.png", "closed/b.png")
    (folder / "closed").chmod(0)
    listing = list_images(folder, recursive=True)
    (folder / "closed").chmod(0o700)
    assert left_out(listing, folder) == {"closed": Reason.UNREADABLE}


def test_each_reason_is_one_sentence_with_count_and_first_name(tmp_path):
    paths = [tmp_path / "a.heic", tmp_path / "b.JP2", tmp_path / "c.heic"]
    entries = [*(LeftOut(path, Reason.SUFFIX) for path in paths), LeftOut(tmp_path / "@eaDir", Reason.HIDDEN_FOLDER)]
    suffix, hidden = describe_left_out(entries)
    assert suffix.startswith("3 files are not read, of type .heic, .jp2 (types that are read: .bmp, ")
    assert suffix.endswith(f": the first is {tmp_path}/a.heic")
    assert hidden == f"1 hidden or system folder is not searched: {tmp_path}/@eaDir"


def test_many_suffixes_are_counted(tmp_path):
    (sentence,) = describe_left_out(LeftOut(tmp_path / f"a.s{number}", Reason.SUFFIX) for number in range(8))
    assert "8 files are not read, of type .s0, .s1, .s2, .s3, .s4 and 3 more (" in sentence


@pytest.mark.parametrize("recursive", [False, True])
def test_name_that_is_not_utf8_is_listed(make, recursive):
    folder = make(os.fsdecode(b"caf\xe9.png"), os.fsdecode(b"caf\xe9.heic"))
    listing = list_images(folder, recursive)
    assert [escape_name(path.name) for path in listing.files] == ["caf\\xe9.png"]
    assert [sentence.encode() for sentence in describe_left_out(listing.left_out)]


def test_plain_names_are_not_hidden():
    assert [name for name in ("good", "a.png", "macosx", "eaDir") if is_hidden(name)] == []

"""What is taken of a folder is what is meant, and what is ignored is named and counted."""

from pathlib import Path

import pytest

from tumour_segmenter.errors import UsageError
from tumour_segmenter.folders import Listing, counted, find_images, list_images

PATH = Path()


@pytest.fixture
def folder(tmp_path):
    for name in ("b.png", "a.PNG", "c.Png", "._a.PNG", ".DS_Store", "d.jpg", "e.JPEG", "n.txt"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "f.png").touch()
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "lost.png").symlink_to("nowhere")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "under.png").symlink_to("b.png/c.png")
    (tmp_path / "z.png").symlink_to(tmp_path / "b.png")
    return tmp_path


def test_folder_is_read_by_ending_in_any_case(folder):
    assert [path.name for path in list_images(folder).images] == [
        "a.PNG",
        "b.png",
        "c.Png",
        "z.png",
    ]


def test_each_thing_that_is_ignored_is_named_and_counted(folder):
    assert sorted(find_images([folder]).notes()) == [
        "ignored AppleDouble files of macOS (._*): 1 (._a.PNG)",
        "ignored files that are not named *.png: 3 (d.jpg, e.JPEG, n.txt)",
        "ignored folders inside, which are not searched (name them as well): 2 (folder.png, more)",
        "ignored hidden files: 1 (.DS_Store)",
        "ignored links to nowhere: 4 (loop, loop.png, lost.png and 1 more)",
    ]


def test_nothing_is_lost(folder):
    found = list_images(folder)
    listed = found.images + [path for paths in found.ignored.values() for path in paths]
    assert sorted(listed) == sorted(folder.iterdir())


def test_many_names_are_shortened():
    found = Listing()
    for number in range(5):
        found.ignore(PATH / f"{number}.jpg", "pictures")
    assert found.notes() == ["ignored pictures: 5 (0.jpg, 1.jpg, 2.jpg and 2 more)"]


def test_files_and_folders_are_put_together(folder):
    found = find_images([folder / "n.txt", folder / "more", folder / "._a.PNG"])
    assert [path.name for path in found.images] == ["n.txt", "f.png"]
    assert found.notes() == ["ignored AppleDouble files of macOS (._*): 1 (._a.PNG)"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("loop", "loop: no such file or folder"),
        ("folder.png", "holds no PNG file"),
        ("pictures", "holds no PNG file; ignored files that are not named"),
        ("._a.PNG", "no image is left; ignored AppleDouble"),
    ],
)
def test_nothing_to_do_is_an_error_that_says_why(folder, name, expected):
    (folder / "pictures").mkdir()
    (folder / "pictures" / "a.jpg").touch()
    with pytest.raises(UsageError, match=expected):
        find_images([folder / name])


def test_one_is_no_plural():
    assert [counted(n, "image") for n in (0, 1, 2)] == ["0 images", "1 image", "2 images"]

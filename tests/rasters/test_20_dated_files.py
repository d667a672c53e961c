"""Which file is of which sensor and day, by its name or by an index."""

from __future__ import annotations

import pytest

from esccs_edge.errors import InputError, RasterError
from esccs_edge.rasters.dated_files import dated_files

BOTH = ("optical", "sar")


def folder_of(tmp_path, *names):
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "sensor", "day"),
    [
        ("s2_20230823.tif", "optical", "2023-08-23"),
        ("S1A-2023-08-23.TIF", None, None),
        ("S1A_2023-08-23.TIFF", "sar", "2023-08-23"),
        ("optical/2023_08_23.tif", "optical", "2023-08-23"),
        ("sar/20230823.tif", "sar", "2023-08-23"),
        ("radar_VV_20230823T101010.tif", "sar", "2023-08-23"),
        ("S2B_MSIL2A_20230823T103629_N0509_R008_T32TPT_20230824T000000.tif",
         "optical", "2023-08-23"),
        ("S1A_IW_GRDH_1SDV_20230823T171500_20230823T171525_050000_0603A1.tif",
         "sar", "2023-08-23"),
        ("LC08_20230823.tif", "optical", "2023-08-23"),
    ],
)  # fmt: skip
def test_names_tell_sensor_and_day(tmp_path, name, sensor, day):
    folder = folder_of(tmp_path, name, ".hidden_20200101.tif", "notes_20230823.txt")
    if sensor is None:
        with pytest.raises(InputError, match="no sensor"):
            dated_files(folder, BOTH)
        return
    (found,) = dated_files(folder, BOTH)
    assert (found.sensor, str(found.date)) == (sensor, day)


def test_a_model_of_one_sensor_needs_no_word_and_passes_over_the_other(tmp_path):
    folder = folder_of(tmp_path, "b_20230823.tif", "a_20230901.tif", "sar_20230823.tif")
    assert [str(f.date) for f in dated_files(folder, ("optical",))] == ["2023-08-23", "2023-09-01"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["s2.tif"], "no date in its name"),
        (["s2_20231345.tif"], "no date in its name"),
        (["s2_120230823.tif"], "no date in its name"),
        (["s2_20230823_20230824.tif"], "2023-08-23 and 2023-08-24"),
        (["20230823.tif"], "no sensor"),
        (["s2_s1_20230823.tif"], "optical and sar"),
        (["s2_20230823.tif", "optical_2023-08-23.tif"], "one image a day"),
        ([], "0 dated rasters"),
    ],
)
def test_names_that_tell_too_little_or_too_much_are_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        dated_files(folder_of(tmp_path, *names), BOTH)


def test_an_index_says_it_in_place_of_names(tmp_path):
    folder = folder_of(tmp_path, "a.tif", "b.tif", "c_20200101.tif")
    index = folder / "index.csv"
    index.write_text(
        "file,date,sensor\nb.tif,2023-08-23,sar\na.tif,2023-09-01,sar\nc_20200101.tif,20230901,optical\n"
    )
    for source in (folder, index):
        found = dated_files(source, BOTH)
        assert [(f.path.name, f.sensor, str(f.date)) for f in found] == [
            ("c_20200101.tif", "optical", "2023-09-01"),
            ("b.tif", "sar", "2023-08-23"),
            ("a.tif", "sar", "2023-09-01"),
        ]
    assert len(dated_files(index, ("sar",))) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,date,sensor\na.tif,2023-08-32,sar\n", "2023-08-32"),
        ("file,date,sensor\na.tif,23.8.2023,sar\n", "YYYY-MM-DD"),
        ("file,date,sensor\na.tif,,sar\n", "line 2 lacks"),
        ("file;date;sensor\na.tif;2023-08-23;sar\n", "separated by ';', expected commas"),
        ("file,date,sensor\na.tif,2023-08-23,sar,x\n", "too many"),
        ("file,date,sensor\nnowhere.tif,2023-08-23,sar\n", "does not exist"),
        ("file,date,sensor\na.tif,2023-08-23,thermal\n", "'thermal'"),
        ("file,date\na.tif,2023-08-23\n", "the sensor ''"),
        ("", "0 dated rasters"),
    ],
)
def test_an_index_that_cannot_be_understood_is_refused(tmp_path, text, message):
    folder_of(tmp_path, "a.tif")
    (tmp_path / "index.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        dated_files(tmp_path, BOTH)


def test_spaces_in_an_index_mean_nothing(tmp_path):
    folder_of(tmp_path, "a.tif")
    (tmp_path / "index.csv").write_text("file, date, sensor\na.tif , 2023-08-23, sar\n")
    (found,) = dated_files(tmp_path, BOTH)
    assert (found.path.name, found.sensor, str(found.date)) == ("a.tif", "sar", "2023-08-23")


@pytest.mark.parametrize("name", ["s2_20230823.jp2", "s2_20230823.zip", "S2/x_20230823.vrt"])
def test_an_image_of_another_format_is_never_lost_in_silence(tmp_path, name):
    folder = folder_of(tmp_path, "s1_20230823.tif", "s2_20230901.tif", name)
    with pytest.raises(InputError, match="is no GeoTIFF by its name") as caught:
        dated_files(folder, BOTH)
    assert "esccs-edge stack" in caught.value.hint
    folder_of(tmp_path, "s2_20230823.tif")
    assert len(dated_files(folder, BOTH)) == 3
    assert len(dated_files(folder, ("sar",))) == 1


def test_what_is_not_there_is_a_raster_error(tmp_path):
    for name in ("nowhere", "nowhere.tif"):
        with pytest.raises(RasterError, match="neither a folder nor an index"):
            dated_files(tmp_path / name, BOTH)
    with pytest.raises(InputError, match="cannot be read"):
        dated_files(tmp_path / "nowhere.csv", BOTH)
